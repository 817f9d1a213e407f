/* stress/sched: actors that were submitted, and the results of submissions. */
#include "sched.h"

#include <stdlib.h>

/* One submission, from rts_submit to its result. */
typedef struct {
    Scene *scene;
    uint64_t phase, random;
    Terms terms;
    int number;                    /* of the actor that it became, or -1 */
    _Atomic int results;
} Submitted;

/* ---- Its thread ----------------------------------------------------------------------------------------------------------- */

typedef struct { Submitted *submitted; HaskellObj board; } Stage;

static HaskellObj enterStage(Stack *stack, void *arg)
{
    Stage *stage = arg;
    Submitted *s = stage->submitted;
    s->number = claimSlot(s->scene, ACTOR_SUBMITTED, s->random, &s->terms);
    if (s->number >= 0) playActor(stack, s->scene, s->number, stage->board);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(schedSubmitted, ptr, board)
{
    Stage stage = { rts_getPtr(ptr), board };
    rts_withMask(stack, RtsMaskedInterruptible, enterStage, &stage);
    int number = stage.submitted->number;
    if (number >= 0) raiseVerdict(stack, &stage.submitted->scene->slots[number]);
    return rts_int(stack, number);
}

/* ---- Its result ----------------------------------------------------------------------------------------------------------- */

static bool mayEndSo(Submitted *s, const RtsResult *result)
{
    const Slot *slot = s->number >= 0 ? &s->scene->slots[s->number] : NULL;
    if (result->status == Interrupted) return mayBeInterrupted(s->phase);
    if (result->status == Success)
        return (slot == NULL || slot->verdict == NoStatus) && result->value.kind == RtsValueInt && result->value.u.i == s->number;
    if (termsAllow(&s->terms, result->status)) return true;
    if (result->status != Killed || slot == NULL || !atomic_load(&slot->ended)) return false;
    /* A throw that came after the actor's end; the text of its exception is its number. */
    receiveThrow(s->scene, s->number, atoi(result->text));
    return true;
}

/* No capability is held. */
static void receiveResult(const RtsResult *result)
{
    Submitted *s = result->ctx;
    Scene *scene = s->scene;
    int before = atomic_fetch_add(&s->results, 1);
    EXPECT(scene, before == 0, "a submission has its %dth result", before + 1);
    EXPECT(scene, mayEndSo(s, result), "the submission of actor %d ended with status %d: %s", s->number, (int)result->status,
           result->text);
    noteStep(scene->owner);
    free(s);
    atomic_fetch_sub(&scene->submits, 1);
}

CAPSTAN_IO(schedNothing) { return CAPSTAN_UNIT; }

/* May call in. */
static void submissionDone(void *ctx, const RtsResult *result)
{
    Submitted *s = ctx;
    if (s->random % 4 == 0) {
        Capability *cap = rts_lock();
        rts_evalIO(&cap, &schedNothing_closure, NULL);
        rts_unlock(cap);
    }
    receiveResult(result);
}

void takeResults(void)
{
    RtsResult result;
    while (rts_takeResult(-1, &result)) receiveResult(&result);
}

/* ---- The step ------------------------------------------------------------------------------------------------------------- */

static bool isRefusalRight(const Submitted *s, RtsStatus status)
{
    return status == RTS_BUSY || ((status == RTS_CLOSED || status == RTS_NOT_STARTED) && mayBeInterrupted(s->phase));
}

void stepSubmit(Stack *stack, Actor *actor)
{
    Scene *scene = actor->scene;
    RtsLockOpts opts;
    RtsSubmission submission = RTS_SUBMISSION_INIT;
    uint64_t random = nextRandom(&actor->slot->random);
    Submitted *s = calloc(1, sizeof *s);
    HsStablePtr board = getStablePtr((StgPtr)actor->board);
    if (s == NULL || board == NULL) abort();
    drawTerms(&s->terms, &opts, &actor->slot->random);
    s->scene = scene;
    s->phase = scene->phase;
    s->random = random;
    s->number = -1;
    submission.function = &schedSubmitted_closure;
    submission.n_args = 2;
    submission.args[0] = (RtsValue){ .kind = RtsValuePtr, .u.p = s };
    submission.args[1] = (RtsValue){ .kind = RtsValueStable, .u.sp = board };
    submission.deadline_us = opts.deadline_us;
    submission.alloc_limit_bytes = opts.alloc_limit_bytes;
    submission.done = random % 3 == 0 ? NULL : submissionDone;
    submission.ctx = s;
    atomic_fetch_add(&scene->submits, 1);
    RtsStatus status = rts_submit(&submission, opts.handle);
    if (status == RTS_OK) return;
    EXPECT(scene, isRefusalRight(s, status), "rts_submit answers %s", rts_statusName(status));
    freeStablePtr(board);
    free(s);
    atomic_fetch_sub(&scene->submits, 1);
}
