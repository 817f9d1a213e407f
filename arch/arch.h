/*
 * What a port owes.
 *
 * The only door to code that knows the processor. Each port lives in a directory of its own with the same file names
 * and the same symbols:
 *
 *     PORT/arch_inline.h    what must be inline: archRelax, archStackPointer, constants
 *     PORT/asm.h            macros for symbols, CFI and landing pads
 *     PORT/frames.h         C structs of the frames that the assembly builds, and the list of offsets that it needs
 *     PORT/catch.S          archCatch, archEnter, archRaise
 *     PORT/switch.S         archSwitch, archBootStack
 *     PORT/call_on_stack.S  archCallOnStack
 *     PORT/init_stack.c     archInitStack
 *     PORT/call.S           archCall
 *     PORT/adjustor.S       archAdjustorEntry, archAdjustorTemplate
 *     PORT/probe.S          for the tests only: see probe.h
 *
 * Offsets reach the assembly through arch_offsets.h, which the build makes from offsets.c; no number is written
 * twice.
 *
 * What the routines keep, a switch and a raise alike: every callee-saved register of the ABI.
 *
 *     x86-64     rbx rbp r12-r15 (no vector register)
 *     aarch64    x19-x28 fp lr, and d8-d15, the lower halves of v8-v15; not SVE's upper parts nor predicates, which
 *                calls of functions with standard arguments do not keep either
 *     riscv64    s0-s11 ra, fs0-fs11 (only the ABI LP64D is served); gp and tp are the program's and the OS thread's
 *
 * Floating-point control state (MXCSR and the x87 control word, FPCR, fcsr) is not saved by a switch nor put back by a
 * raise: who lets foreign code change it puts it back. Of return addresses that lie in a sleeping or catching frame the ports
 * take no other care than the compiler in its own: signed where it signs (aarch64).
 *
 * Sanitizers. These routines tell them nothing: whoever switches or calls on another stack announces it around the
 * call (__sanitizer_start_switch_fiber, __tsan_switch_to_fiber), archCallOnStack included. TSan needs that for
 * archCallOnStack also because it forgets the jump buffers of every frame "below" the one that sets a new one. ASan
 * is told of a raise by the compiler, which announces each call of a _Noreturn function.
 */
#ifndef CAPSTAN_ARCH_H
#define CAPSTAN_ARCH_H

#include "rts/Types.h"

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#include "x86_64/arch_inline.h"
#elif defined(__aarch64__)
#include "aarch64/arch_inline.h"
#elif defined(__riscv) && __riscv_xlen == 64
#include "riscv64/arch_inline.h"
#else
#error "no port for this processor: see arch/arch.h for what one owes"
#endif

/* Whether return addresses in frames are not the plain ones. */
#ifndef ARCH_SIGNS_RETURN_ADDRESSES
#define ARCH_SIGNS_RETURN_ADDRESSES 0
#endif

/* TSan keeps a shadow of the call stack that only grows when frames vanish by a plain change of the stack pointer; it
 * does follow longjmp. In such builds catching and raising are C (catch_longjmp.c), and the assembly keeps only the
 * frame of archEnter. */
#if defined(__SANITIZE_THREAD__)
#define ARCH_RAISE_BY_LONGJMP 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ARCH_RAISE_BY_LONGJMP 1
#endif
#endif
#ifndef ARCH_RAISE_BY_LONGJMP
#define ARCH_RAISE_BY_LONGJMP 0
#endif

/* The lowest words of every catch frame and base frame, on every port and in every build. `stack->trap` points at it.
 * Lives on the machine stack that it belongs to; written once by archCatch or archEnter, read by a raise on that
 * stack, and by archLeavingSideways. */
typedef struct {
    TrapFrame trap;      /* handler: code that a raise jumps to; prev: the next frame out */
    Stack *stack;        /* whose frame this is */
    CapstanRoots *roots; /* stack->roots at entry */
    uint32_t mask;       /* stack->mask at entry */
} CatchFrame;

/* How a guarded body ended. Returned in two registers. */
typedef struct {
    HaskellObj value; /* its result, or the exception */
    uintptr_t raised; /* 0: returned; 1: raised */
} CatchResult;

typedef HaskellObj ArchBody(Stack *stack, void *arg);

/* Call body(stack, arg) below a catch frame.
 * Context: running on `stack`. When the body returns, the frame is gone and the result is {value, 0}; the body leaves
 * roots and mask as it found them. When it raises, the result is {exception, 1}, with stack->trap, stack->roots and
 * stack->mask as they were at entry. */
CatchResult archCatch(Stack *stack, ArchBody *body, void *arg);

/* The same, as the base frame of an in-call: a frame that archLeavingSideways hears about when the thread leaves
 * through it. */
CatchResult archEnter(Stack *stack, ArchBody *body, void *arg);

/* Give up everything inside the catch or base frame that stack->trap points at, and let its archCatch or archEnter
 * return {exception, 1}.
 * Context: running on `stack`; every frame of another kind (update frames …) inside that one has been dealt with. */
_Noreturn void archRaise(Stack *stack, HaskellObj exception);

/* Put the running computation to sleep in `from` and go on with the one that sleeps in `to`; returns when somebody
 * switches back. Writes from->sp, reads to->sp, and nothing else of the two. `from` and `to` may be the same. */
void archSwitch(Stack *from, Stack *to);

/* Make `stack` sleep so that the first switch to it calls fn(arg) on the memory that ends at `top` (rounded down to
 * ARCH_STACK_ALIGNMENT). fn never returns. Touches at most ARCH_INITIAL_STACK bytes below `top`. A walk up such a
 * stack ends in archBootStack, whose return address is marked as undefined. */
void archInitStack(Stack *stack, void *top, void (*fn)(void *), void *arg);

/* Call fn(arg) with the stack pointer at `os_sp` (rounded down), come back, and return what it returned. Debuggers
 * and unwinders walk from fn through here into the calling stack. `os_sp` must leave what is live on that stack
 * alone, red zone included. */
void *archCallOnStack(void *os_sp, void *(*fn)(void *), void *arg);

/* Called for each base frame that a thread leaves sideways: by pthread_exit, by cancellation, or by a foreign
 * exception, in the unwinder's cleanup phase, innermost first; NULL: nobody is told. The argument is the CatchFrame
 * that archEnter made. It may be NULL in a program that also links libunwind, whose _Unwind_GetCFA then hides that of
 * the unwinder at work: read it as "the innermost". forced: by pthread_exit or cancellation, else an exception.
 * Context: on the leaving thread, deeper on the same stack than all that is being left. Every frame between the base
 * frame and the innermost foreign frame with a cleanup is still intact, and nothing inside this base frame will run
 * again. Must return. [const] while any thread is inside archEnter. */
extern void (*archLeavingSideways)(void *trap_frame_address, bool forced);

/* Where a raise lands (code, not to be called): the handler of the frames that archCatch and archEnter push. */
void archLand(void);

/* The first frame of a fresh stack (not to be called), and the address in it that the first switch returns to. */
void archBootStack(void);
extern const uintptr_t archBootAddress;

/* ---- C functions whose type is known at run time ----------------------------------------------------------------------
 *
 * A type is a row of letters, one for each argument, as GHC has them:
 *     f float   d double   L l 64 bits, signed and unsigned   W w 32   S s 16   B b 8   p a pointer
 * and v, nothing, as a result.  Each argument is one word (64 bits) of an ArchFrame; which one is the port's answer to archPlaceArgs.
 *
 * Words on their way out (arguments of archCall, results of adjustors) are as the platform's C compiler leaves them: integers extended by
 * archExtend, floats by archFloatWord.  Of words on their way in (results of archCall, arguments of adjustors) only the bits that the type has
 * are looked at. */

/* What a call passes and gets back.  arch_inline.h gives ARCH_INTEGER_ARGS and ARCH_FLOAT_ARGS, the registers of each kind. */
typedef struct {
    uint64_t integers[ARCH_INTEGER_ARGS];
    uint64_t floats[ARCH_FLOAT_ARGS];     /* the low 64 bits of each */
    uint64_t integerResult, floatResult;  /* the registers of both kinds, whatever the type is */
    uint64_t floatsUsed;                  /* archCall: whether, and how many, floats are to be loaded.  Adjustors: the assembly's own */
    uint64_t stackWords;                  /* archCall: how many words of stack follow.  Adjustors: the assembly's own */
    uint64_t stack[];                     /* the lowest address first; in an adjustor's frame those of its caller */
} ArchFrame;

#define ARCH_FRAME_WORDS (sizeof(ArchFrame) / sizeof(uint64_t))

/* How much of a frame the arguments of one type take. */
typedef struct {
    uint32_t stackWords;  /* the stack's words */
    uint8_t integers;     /* registers of each kind that hold arguments */
    uint8_t floats;
} ArchLayout;

/* Where the n arguments of `types` are: words[i] becomes the index, in a frame seen as an array of words, of the i-th.  The arguments from number
 * `fixed` on are variadic; among these is no f, nor any integer narrower than an int, for C has promoted them. */
void archPlaceArgs(const char *types, size_t n, size_t fixed, uint32_t *words, ArchLayout *layout);

/* Call fn with what the frame says, and put its results there.  Takes as much stack as the frame's stack words, and a few more.  A C++ exception, or the
 * unwinding of pthread_exit, passes through. */
void archCall(StgFunPtr fn, ArchFrame *frame);

/* ---- Adjustors --------------------------------------------------------------------------------------------------------
 *
 * An adjustor is a C function at an address of its own that finds data of its own.  They come by the arena:
 *
 *     +0                          ARCH_ADJUSTOR_CODE_BYTES: a copy of archAdjustorTemplate, ARCH_ADJUSTOR_COUNT entries of
 *                                 ARCH_ADJUSTOR_STEP bytes each, mapped read-only and executable
 *     +ARCH_ADJUSTOR_CODE_BYTES   an ArchAdjustorHead, then an ArchAdjustor for each entry, mapped writable
 *
 * The code finds the data relative to itself: entry i belongs to record i.  It saves the argument registers and calls the head's handler with its record
 * and the frame.  ARCH_ADJUSTOR_CODE_BYTES is at least the largest page that the platform has (64 KiB on some), for the two have other protections. */
typedef struct ArchAdjustor_ {
    const ArchLayout *layout;  /* never NULL; floats == 0: the assembly may leave frame->floats and floatResult alone */
    uintptr_t own[3];          /* the runtime's */
} ArchAdjustor;

typedef struct {
    void (*entry)(void);       /* archAdjustorEntry */
    uintptr_t unused[3];       /* as large as a record */
} ArchAdjustorHead;

/* The template: aligned to, and as long as, ARCH_ADJUSTOR_CODE_BYTES, in the library's read-only text, so that the file itself can be mapped once more.  Not
 * to be called. */
extern const char archAdjustorTemplate[];

/* Where all entries go on (not to be called): builds the frame, calls archAdjustorHandler(record, frame), returns its result to the caller, in the registers
 * of both kinds. */
void archAdjustorEntry(void);

/* Set once, before there are adjustors. */
extern void (*archAdjustorHandler)(ArchAdjustor *record, ArchFrame *frame);

#endif
