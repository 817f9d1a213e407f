/* stress/sched: the steps of scripts that deal with tokens, thunks, and other actors. */
#include "sched.h"

#include <inttypes.h>

/* ---- Tokens: small integers, or objects that the collector moves ----------------------------------------------------- */

#define TOKEN_BASE 1000000

CAPSTAN_CON(SchedToken, 6, serial, twice)

static HaskellObj makeToken(Stack *stack, int serial, bool boxed)
{
    HaskellObj n = CAPSTAN_SMALL_INT(TOKEN_BASE + serial);
    HaskellObj token = boxed ? SchedToken_new(stack->cap, n, CAPSTAN_SMALL_INT(2 * serial)) : n;
    return token == CAPSTAN_POISON ? n : token;
}

/* Its serial; -1: it is none. */
int tokenOf(HaskellObj token)
{
    if (CAPSTAN_IS(SchedToken, token)) {
        HaskellObj n = CAPSTAN_GET(SchedToken, token, serial), twice = CAPSTAN_GET(SchedToken, token, twice);
        if (rts_smallIntValue(twice) != 2 * (rts_smallIntValue(n) - TOKEN_BASE)) return -1;
        token = n;
    }
    if (!rts_isSmallInt(token)) return -1;
    HsInt serial = rts_smallIntValue(token) - TOKEN_BASE;
    return serial >= 0 && serial < MAX_TOKENS ? (int)serial : -1;
}

HaskellObj newToken(Stack *stack, Scene *scene, uint64_t random, int holder, int *serial)
{
    unsigned n = atomic_load(&scene->minted);
    do {
        if (n == MAX_TOKENS) return CAPSTAN_POISON;
    } while (!atomic_compare_exchange_weak(&scene->minted, &n, n + 1));
    *serial = (int)n;
    atomic_store(&scene->holder[n], holder);
    return makeToken(stack, (int)n, random & 1);
}

void moveToken(Scene *scene, int serial, int from, int to)
{
    int was = atomic_exchange(&scene->holder[serial], to);
    EXPECT(scene, was == from, "token %d comes from %d to %d, but was with %d", serial, from, to, was);
}

void retireToken(Scene *scene, int serial, int holder) { moveToken(scene, serial, holder, NOWHERE); }

static HaskellObj someMVar(Actor *actor)
{
    return rts_getElem(actor->board, BOARD_MVARS + below(&actor->slot->random, actor->scene->mvars));
}

static void gotToken(Actor *actor, HaskellObj token)
{
    int serial = tokenOf(token);
    if (serial < 0) {
        fail(actor->scene, "actor %d took %p, which is no token", actor->number, (void *)token);
        return;
    }
    moveToken(actor->scene, serial, IN_MVAR, actor->number);
    actor->hand = token;
    actor->token = serial;
}

void stepTake(Stack *stack, Actor *actor)
{
    if (actor->token < 0) gotToken(actor, rts_takeMVar(stack, someMVar(actor)));
}

void stepTryTake(Stack *stack, Actor *actor)
{
    HaskellObj token;
    if (actor->token < 0 && rts_tryTakeMVar(stack, someMVar(actor), &token)) gotToken(actor, token);
}

/* From here until it is in the MVar, or comes back, it is nobody's. */
static void letGo(Actor *actor)
{
    moveToken(actor->scene, actor->token, actor->number, IN_MVAR);
    actor->putting = true;
}
static void hasGone(Actor *actor)
{
    actor->putting = false;
    actor->token = -1;
    actor->hand = CAPSTAN_UNIT;
}

void stepPut(Stack *stack, Actor *actor)
{
    if (actor->token < 0) return;
    letGo(actor);
    rts_putMVar(stack, someMVar(actor), actor->hand);
    hasGone(actor);
}

void stepTryPut(Stack *stack, Actor *actor)
{
    if (actor->token < 0) return;
    letGo(actor);
    if (rts_tryPutMVar(stack, someMVar(actor), actor->hand)) {
        hasGone(actor);
    } else {
        moveToken(actor->scene, actor->token, IN_MVAR, actor->number);
        actor->putting = false;
    }
}

void stepRead(Stack *stack, Actor *actor)
{
    HaskellObj token, mvar = someMVar(actor);
    if (oneIn(&actor->slot->random, 3)) {
        if (!rts_tryReadMVar(stack, mvar, &token)) return;
    } else {
        token = rts_readMVar(stack, mvar);
    }
    EXPECT(actor->scene, tokenOf(token) >= 0, "actor %d read %p, which is no token", actor->number, (void *)token);
}

void stepMint(Stack *stack, Actor *actor)
{
    if (actor->token >= 0) return;
    int serial;
    HaskellObj token = newToken(stack, actor->scene, nextRandom(&actor->slot->random), actor->number, &serial);
    if (token == CAPSTAN_POISON) return;
    actor->hand = token;
    actor->token = serial;
}

void stepBurn(Stack *stack, Actor *actor)
{
    if (actor->token < 0) return;
    retireToken(actor->scene, actor->token, actor->number);
    actor->hand = CAPSTAN_UNIT;
    actor->token = -1;
}

/* ---- Thunks that all may evaluate ------------------------------------------------------------------------------------ */

HsInt thunkValue(const Scene *scene, int place) { return (HsInt)(scene->seed % 1000) * 100 + place; }

static HsInt forceThunk(Stack *stack, HaskellObj board, int place)
{
    return rts_intValue(rts_force(stack, rts_getElem(board, BOARD_THUNKS + (size_t)place)));
}

/* What lies between the beginning of a thunk and its end. */
static void dawdle(Stack *stack, uint64_t *random)
{
    switch (below(random, 6)) {
    case 0: rts_yield(stack); break;
    case 1: rts_threadDelay(stack, 1 + (HsInt)below(random, 300)); break;
    case 2: rts_allowInterrupt(stack); break;
    case 3:
        for (unsigned i = POLLS(below(random, 2000)); i > 0; i--) rts_poll(stack);
        break;
    default: break;
    }
}

CAPSTAN_THUNK(schedThunk, 3)
{
    Scene *scene = rts_getPtr(rts_thunkVar(self, 0));
    int place = (int)rts_intValue(rts_thunkVar(self, 1));
    HaskellObj board = rts_thunkVar(self, 2);
    CAPSTAN_ROOTS(stack, board);
    int start = atomic_fetch_add(&scene->thunkStarts[place], 1);
    uint64_t random = scene->seed + (uint64_t)place * 1000 + (uint64_t)start;
    for (unsigned i = below(&random, 4); i > 0; i--) {
        dawdle(stack, &random);
        /* Higher ones only: none needs itself. */
        if (place + 1 < THUNKS && oneIn(&random, 2)) {
            int other = place + 1 + (int)below(&random, (uint64_t)(THUNKS - 1 - place));
            HsInt value = forceThunk(stack, board, other);
            EXPECT(scene, value == thunkValue(scene, other), "thunk %d has the value %ld", other, (long)value);
        }
    }
    int end = atomic_fetch_add(&scene->thunkEnds[place], 1);
    EXPECT(scene, end == 0, "thunk %d was evaluated to the end for the %dth time", place, end + 1);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, thunkValue(scene, place));
}

HaskellObj newThunk(Capability *cap, Scene *scene, int place, HaskellObj board)
{
    return rts_mkClosure(cap, &schedThunk_info, (HaskellObj[]){ rts_mkPtr(cap, scene), CAPSTAN_SMALL_INT(place), board });
}

void stepThunk(Stack *stack, Actor *actor)
{
    int place = (int)below(&actor->slot->random, THUNKS);
    HsInt value = forceThunk(stack, actor->board, place);
    EXPECT(actor->scene, value == thunkValue(actor->scene, place), "thunk %d has the value %ld", place, (long)value);
    atomic_store(&actor->scene->thunkSeen[place], true);
}

/* Two thunks that need each other. */
CAPSTAN_THUNK(schedPair, 2)
{
    size_t other = (size_t)rts_intValue(rts_thunkVar(self, 0));
    HaskellObj board = rts_thunkVar(self, 1);
    CAPSTAN_ROOTS(stack, board);
    rts_yield(stack);
    CAPSTAN_UNROOT(stack);
    return rts_force(stack, rts_getElem(board, BOARD_PAIR + other));
}

HaskellObj newPairThunk(Capability *cap, int other, HaskellObj board)
{
    return rts_mkClosure(cap, &schedPair_info, (HaskellObj[]){ CAPSTAN_SMALL_INT(other), board });
}

void stepLoop(Stack *stack, Actor *actor)
{
    rts_force(stack, rts_getElem(actor->board, BOARD_PAIR + below(&actor->slot->random, 2)));
    fail(actor->scene, "a thunk that needs itself has a value");
}

/* ---- Other actors ---------------------------------------------------------------------------------------------------- */

void throwAt(Stack *stack, Actor *actor, int target, bool last)
{
    Scene *scene = actor->scene;
    if (!atomic_load(&scene->slots[target].registered)) return;
    unsigned serial = atomic_load(&scene->thrown);
    do {
        if (serial == MAX_THROWS) return;
    } while (!atomic_compare_exchange_weak(&scene->thrown, &serial, serial + 1));
    Throw *throw = &scene->throws[serial];
    throw->target = target;
    throw->last = last;
    actor->throwing = (int)serial;
    rts_throwTo(stack, rts_getElem(actor->board, BOARD_ACTORS + (size_t)target), newThrow(stack, (int)serial));
    /* It may have been raised there only: the handler comes later. */
    bool ended = atomic_load(&scene->slots[target].ended);
    atomic_store(&throw->outcome, ended ? THROW_FOUND_ENDED : THROW_RETURNED);
    actor->throwing = -1;
}

static unsigned countActors(Scene *scene)
{
    pthread_mutex_lock(&scene->lock);
    unsigned n = scene->begun;
    pthread_mutex_unlock(&scene->lock);
    return n;
}

void stepThrow(Stack *stack, Actor *actor)
{
    throwAt(stack, actor, (int)below(&actor->slot->random, countActors(actor->scene)), false);
}

void stepFork(Stack *stack, Actor *actor)
{
    uint64_t random = nextRandom(&actor->slot->random);
    int number = claimSlot(actor->scene, ACTOR_FORKED, random, NULL);
    if (number < 0) return;
    HaskellObj io = actionOf(stack->cap, &schedActor_closure, actor->scene, number, actor->board);
    if (random % 4 == 0) rts_forkOn(stack, (unsigned)(random >> 8) % 8, io);
    else rts_fork(stack, io);
}

/* ---- One at a time ---------------------------------------------------------------------------------------------------- */

static HaskellObj insideLock(Stack *stack, void *arg)
{
    Actor *actor = arg;
    EXPECT(actor->scene, atomic_fetch_add(&actor->scene->insideLock, 1) == 0, "actor %d is not alone inside the lock",
           actor->number);
    for (unsigned i = below(&actor->slot->random, 3); i > 0; i--) dawdle(stack, &actor->slot->random);
    return CAPSTAN_UNIT;
}

static HaskellObj giveLockBack(Stack *stack, void *arg)
{
    rts_putMVar(stack, rts_getElem(((Actor *)arg)->board, BOARD_LOCK), CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}

void stepLock(Stack *stack, Actor *actor)
{
    HaskellObj result = CAPSTAN_UNIT;
    rts_takeMVar(stack, rts_getElem(actor->board, BOARD_LOCK));
    bool ok = rts_try(stack, insideLock, actor, &result);
    atomic_fetch_sub(&actor->scene->insideLock, 1);
    CAPSTAN_ROOTS(stack, result);
    rts_withMask(stack, RtsMaskedUninterruptible, giveLockBack, actor);
    CAPSTAN_UNROOT(stack);
    if (!ok) rts_raise(stack, result);
}
