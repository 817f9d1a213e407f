/*
 * Store buffers. Included by the models, which first say what a store does to memory: inline apply(t, l, v), the value v
 * into location l, from the buffer of t.
 *
 * A plain store enters its thread's FIFO buffer (put) and drains whenever it likes (Drain). An atomic read-modify-write,
 * a fence and a lock wait until the thread's own buffer is empty, which on TSO is what draining it means. membarrier
 * empties every buffer, one thread after the other: other threads go on between.
 *
 * NT threads, buffers of DEPTH stores (a full one stalls its thread). A process that uses these has its number in `me`
 * and the locals bt, bl, bv.
 */

chan buf[NT] = [DEPTH] of { byte, byte };       /* location, value */

proctype Drain(byte t)
{
    byte l, v;
end:
    do
    :: d_step { buf[t]?l,v -> apply(t, l, v); l = 0; v = 0 }
    od
}

#define EMPTY empty(buf[me])

inline put(l, v)                /* a plain store */
{
    buf[me]!l,v
}

inline fence()
{
    EMPTY
}

inline membarrier()
{
    EMPTY;
    bt = 0;
    do
    :: bt < NT ->
        d_step {
            do
            :: buf[bt]?bl,bv -> apply(bt, bl, bv)
            :: empty(buf[bt]) -> break
            od;
            bl = 0; bv = 0; bt++
        }
    :: else -> break
    od;
    bt = 0
}

/* What a setter of attention does between its store and its look at the holders. */
inline heavyBarrier()
{
#if defined(BUG_NO_MEMBARRIER)
    skip
#elif defined(REFUSED)
    fence()
#else
    membarrier()
#endif
}
