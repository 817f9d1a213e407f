/* stress/sched: one scene. */
#include "sched.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Its record ------------------------------------------------------------------------------------------------------ */

Scene *newScene(Player *player)
{
    Scene *scene = calloc(1, sizeof *scene);
    if (scene == NULL) return NULL;
    scene->owner = player;
    pthread_mutex_init(&scene->lock, NULL);
    if (pipe(scene->pipe) != 0) return NULL;
    for (int i = 0; i < 2; i++) fcntl(scene->pipe[i], F_SETFL, O_NONBLOCK);
    return scene;
}

/* Each scene leaves about half of the steps out: what is rare in the whole mix is frequent in some scene. */
static void drawWeights(Scene *scene, uint64_t *random)
{
    unsigned sum = 0;
    bool all = options.all || oneIn(random, 4);
    for (int i = 0; i < STEPS; i++) {
        scene->weights[i] = all || oneIn(random, 2) ? options.weights[i] : 0;
        sum += scene->weights[i];
    }
    if (sum == 0) memcpy(scene->weights, options.weights, sizeof scene->weights);
    scene->lost = oneIn(random, 100) && options.weights[STEP_LOSE] != 0;
    if (!scene->lost) return;
    memset(scene->weights, 0, sizeof scene->weights);
    scene->weights[STEP_LOSE] = 1;
}

/* With none left that could know it. */
static void resetScene(Scene *scene, uint64_t *random)
{
    char bytes[512];
    while (read(scene->pipe[0], bytes, sizeof bytes) > 0) {}
    scene->seed = nextRandom(random);
    scene->mvars = 1 + below(random, MAX_MVARS);
    drawWeights(scene, random);
    scene->closed = false;
    scene->begun = 0;
    scene->ended = 0;
    scene->helpers = !scene->lost;
    memset(scene->slots, 0, sizeof scene->slots);
    scene->minted = scene->thrown = 0;
    memset(scene->throws, 0, sizeof scene->throws);
    scene->insideLock = 0;
    scene->written = scene->read = 0;
    for (int i = 0; i < THUNKS; i++) {
        scene->thunkStarts[i] = scene->thunkEnds[i] = 0;
        scene->thunkSeen[i] = false;
    }
}

int claimSlot(Scene *scene, ActorKind kind, uint64_t random, const Terms *terms)
{
    int number = -1;
    pthread_mutex_lock(&scene->lock);
    /* Who can be cancelled is never lost; nor who has a deadline, though it may have passed. */
    bool ends = terms != NULL && (terms->ticket != NULL || terms->deadline != UINT64_MAX);
    if (scene->open && !(scene->lost && ends) && scene->begun < options.actors) {
        number = (int)scene->begun++;
        Slot *slot = &scene->slots[number];
        slot->kind = kind;
        slot->random = random;
        slot->terms = terms;
        slot->steps = 1 + below(&slot->random, scene->lost ? 2 : kind == ACTOR_NESTED ? options.script / 4 + 1 : options.script);
    }
    pthread_mutex_unlock(&scene->lock);
    return number;
}

/* ---- The board ------------------------------------------------------------------------------------------------------- */

static void setPlace(Stack *stack, HaskellObj board, int place, HaskellObj v)
{
    rts_setElem(stack->cap, board, (size_t)place, v);
}

/* Context: no safepoint happens. */
static HaskellObj makeBoard(Stack *stack, Scene *scene)
{
    Capability *cap = stack->cap;
    HaskellObj board = rts_mkArray(cap, BOARD_SIZE, CAPSTAN_UNIT), lock = rts_mkMVar(cap);
    rts_tryPutMVar(stack, lock, CAPSTAN_UNIT);
    setPlace(stack, board, BOARD_BELL, rts_mkMVar(cap));
    setPlace(stack, board, BOARD_LOCK, lock);
    for (int i = 0; i < 2; i++) setPlace(stack, board, BOARD_PAIR + i, newPairThunk(cap, 1 - i, board));
    for (int i = 0; i < (int)scene->mvars; i++) setPlace(stack, board, BOARD_MVARS + i, rts_mkMVar(cap));
    for (int i = 0; i < THUNKS; i++) setPlace(stack, board, BOARD_THUNKS + i, newThunk(cap, scene, i, board));
    return board;
}

/* Some tokens to begin with. */
static void layTokens(Stack *stack, Scene *scene, HaskellObj board, uint64_t *random)
{
    for (unsigned i = below(random, scene->mvars + 1); i > 0; i--) {
        int serial;
        HaskellObj token = newToken(stack, scene, nextRandom(random), IN_MVAR, &serial);
        HaskellObj mvar = rts_getElem(board, BOARD_MVARS + below(random, scene->mvars));
        if (!rts_tryPutMVar(stack, mvar, token)) retireToken(scene, serial, IN_MVAR);
    }
}

static void gatherTokens(Stack *stack, Scene *scene, HaskellObj board)
{
    for (unsigned i = 0; i < scene->mvars; i++) {
        HaskellObj token;
        if (!rts_tryTakeMVar(stack, rts_getElem(board, BOARD_MVARS + i), &token)) continue;
        if (tokenOf(token) >= 0) retireToken(scene, tokenOf(token), IN_MVAR);
        else fail(scene, "MVar %u held %p, which is no token", i, (void *)token);
    }
}

/* ---- The reaper: sees to it that all actors end ---------------------------------------------------------------------- */

HaskellObj actionOf(Capability *cap, HaskellObj f, Scene *scene, int number, HaskellObj board)
{
    f = rts_apply(cap, f, rts_mkPtr(cap, scene));
    f = rts_apply(cap, f, CAPSTAN_SMALL_INT(number));
    return rts_apply(cap, f, board);
}

static void endHelper(Stack *stack, Actor *helper)
{
    atomic_fetch_sub(&helper->scene->helpers, 1);
    ringOwner(stack, helper->board);
}

/* One for each actor: it may have to wait until what the actor called has come back. */
CAPSTAN_IO(schedKiller, ptr, number, board)
{
    int target = (int)rts_intValue(number);
    Actor killer = { .scene = rts_getPtr(ptr), .number = -1, .board = board, .hand = CAPSTAN_UNIT, .token = -1, .throwing = -1 };
    CAPSTAN_ROOTS(stack, killer.board);
    throwAt(stack, &killer, target, true);
    endHelper(stack, &killer);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void reapOnce(Stack *stack, Scene *scene, HaskellObj board)
{
    pthread_mutex_lock(&scene->lock);
    int n = (int)scene->begun;
    pthread_mutex_unlock(&scene->lock);
    for (int i = 0; i < n; i++) {
        Slot *slot = &scene->slots[i];
        if (slot->hunted || slot->ended || !slot->registered) continue;
        slot->hunted = true;
        atomic_fetch_add(&scene->helpers, 1);
        rts_fork(stack, actionOf(stack->cap, &schedKiller_closure, scene, i, board));
        noteStep(scene->owner);
    }
}

CAPSTAN_IO(schedReaper, ptr, number, board)
{
    Scene *scene = rts_getPtr(ptr);
    uint64_t random = scene->seed ^ 0x5eed;
    Actor reaper = { .scene = scene, .number = -1, .board = board, .hand = CAPSTAN_UNIT };
    CAPSTAN_ROOTS(stack, reaper.board);
    rts_threadDelay(stack, below(&random, oneIn(&random, 4) ? 20000 : 2000));
    while (!atomic_load(&scene->closed)) {
        reapOnce(stack, scene, reaper.board);
        rts_threadDelay(stack, 100 + below(&random, 1000));
    }
    endHelper(stack, &reaper);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- The owner's in-call --------------------------------------------------------------------------------------------- */

static void forkActors(Stack *stack, Scene *scene, HaskellObj board, uint64_t *random)
{
    for (unsigned i = below(random, options.actors); i > 0; i--) {
        int number = claimSlot(scene, ACTOR_FORKED, nextRandom(random), NULL);
        if (number >= 0) rts_fork(stack, actionOf(stack->cap, &schedActor_closure, scene, number, board));
    }
}

/* Two threads whose thunks need each other, and that nobody else knows. */
static HaskellObj forceHand(Stack *stack, void *arg) { return rts_force(stack, ((Actor *)arg)->hand); }

CAPSTAN_IO(schedLooper, ptr, place, pair)
{
    Actor looper = { .scene = rts_getPtr(ptr), .number = -1, .board = pair, .hand = CAPSTAN_UNIT };
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, looper.board);
    looper.hand = rts_getElem(pair, (size_t)rts_intValue(place));
    bool ok = rts_try(stack, forceHand, &looper, &result);
    EXPECT(looper.scene, !ok && result == &capstan_NonTermination_closure, "a thunk that needs itself came to an end");
    looper.board = (HaskellObj)(void *)deRefStablePtr(looper.scene->board);
    endHelper(stack, &looper);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void forkLoopers(Stack *stack, Scene *scene)
{
    HaskellObj pair = rts_mkArray(stack->cap, BOARD_PAIR + 2, CAPSTAN_UNIT);
    atomic_fetch_add(&scene->helpers, 2);
    for (int i = 0; i < 2; i++) setPlace(stack, pair, BOARD_PAIR + i, newPairThunk(stack->cap, 1 - i, pair));
    for (int i = 0; i < 2; i++) rts_fork(stack, actionOf(stack->cap, &schedLooper_closure, scene, BOARD_PAIR + i, pair));
}

/* Whether all have ended; then no other may begin. */
static bool closeScene(Scene *scene)
{
    pthread_mutex_lock(&scene->lock);
    if (atomic_load(&scene->ended) == scene->begun) scene->open = false;
    bool closed = !scene->open;
    pthread_mutex_unlock(&scene->lock);
    return closed;
}

static HaskellObj awaitEnds(Stack *stack, void *arg)
{
    Actor *owner = arg;
    while (!closeScene(owner->scene)) rts_takeMVar(stack, rts_getElem(owner->board, BOARD_BELL));
    atomic_store(&owner->scene->closed, true);
    while (atomic_load(&owner->scene->helpers) != 0) rts_takeMVar(stack, rts_getElem(owner->board, BOARD_BELL));
    return CAPSTAN_UNIT;
}

/* Throws that come late are received here. */
static void awaitActors(Stack *stack, Scene *scene, HaskellObj board)
{
    Actor owner = { .scene = scene, .slot = &scene->slots[0], .board = board, .hand = CAPSTAN_UNIT, .token = -1, .throwing = -1 };
    HaskellObj result;
    CAPSTAN_ROOTS(stack, owner.board);
    while (!rts_try(stack, awaitEnds, &owner, &result)) receiveException(&owner, stack, result);
    CAPSTAN_UNROOT(stack);
}

static HaskellObj playOwner(Stack *stack, void *arg)
{
    Scene *scene = arg;
    uint64_t random = scene->seed;
    HaskellObj board = makeBoard(stack, scene);
    CAPSTAN_ROOTS(stack, board);
    scene->board = getStablePtr((StgPtr)board);
    layTokens(stack, scene, board, &random);
    if (!scene->lost) rts_fork(stack, actionOf(stack->cap, &schedReaper_closure, scene, -1, board));
    pthread_mutex_lock(&scene->lock);
    scene->open = true;
    pthread_mutex_unlock(&scene->lock);
    int number = claimSlot(scene, ACTOR_OWNER, nextRandom(&random), NULL);
    forkActors(stack, scene, board, &random);
    for (unsigned i = scene->lost ? below(&random, 4) : 0; i > 0; i--) forkLoopers(stack, scene);
    playActor(stack, scene, number, board);
    awaitActors(stack, scene, board);
    gatherTokens(stack, scene, board);
    freeStablePtr(scene->board);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(schedOwner, ptr) { return rts_withMask(stack, RtsMaskedInterruptible, playOwner, rts_getPtr(ptr)); }

/* ---- What must be true at the end ------------------------------------------------------------------------------------ */

static void checkThrow(const Scene *scene, unsigned serial)
{
    const Throw *throw = &scene->throws[serial];
    int outcome = throw->outcome, received = throw->received;
    /* Who was interrupted may have been too late to take it back. */
    bool right = outcome == THROW_RETURNED ? received == 1 : outcome != THROW_PENDING && received <= 1;
    EXPECT(scene, right, "throw %u at actor %d: outcome %d, received %d times", serial, throw->target, outcome, received);
}

static void checkScene(Scene *scene, Outcomes *outcomes)
{
    for (unsigned i = 0; i < scene->minted; i++)
        EXPECT(scene, scene->holder[i] == NOWHERE, "token %u is with %d", i, scene->holder[i]);
    for (unsigned i = 0; i < scene->begun; i++) {
        EXPECT(scene, scene->slots[i].ended, "actor %u has not ended", i);
        outcomes->ends[scene->slots[i].end]++;
    }
    for (unsigned i = 0; i < scene->thrown; i++) {
        checkThrow(scene, i);
        outcomes->received += (unsigned)scene->throws[i].received;
    }
    for (int i = 0; i < THUNKS; i++)
        EXPECT(scene, !scene->thunkSeen[i] || scene->thunkEnds[i] == 1, "thunk %d has a value, and was finished %d times", i,
               scene->thunkEnds[i]);
    EXPECT(scene, scene->insideLock == 0, "%d are inside the lock", scene->insideLock);
    char byte;
    while (read(scene->pipe[0], &byte, 1) == 1) scene->read++;
    EXPECT(scene, scene->read == scene->written, "%" PRIu64 " bytes went into the pipe, %" PRIu64 " came out", scene->written,
           scene->read);
    outcomes->actors += scene->begun;
    outcomes->throws += scene->thrown;
    outcomes->tokens += scene->minted;
}

/* Nobody may be left who knows it. */
static void leaveScene(Scene *scene)
{
    pthread_mutex_lock(&scene->lock);
    scene->open = false;
    pthread_mutex_unlock(&scene->lock);
    while (atomic_load(&scene->inC) != 0 || atomic_load(&scene->guests) != 0 || atomic_load(&scene->submits) != 0) {
        takeResults();
        usleep(100);
    }
}

/* Refusals are no progress: the runtime may be ending, for ever. */
static void noteCall(Player *player, bool begun)
{
    if (begun) {
        noteStep(player);
    } else {
        player->outcomes.refused++;
        usleep(100);
    }
}

/* ---- Calls of C threads ---------------------------------------------------------------------------------------------- */

void playScene(Player *player)
{
    Scene *scene = player->scene;
    resetScene(scene, &player->random);
    uint64_t phase = atomic_load(&game.phase);
    scene->phase = phase;
    Capability *cap = rts_lock();
    SchedulerStatus status = Refused;
    if (!rts_isDead(cap)) {
        rts_evalIO(&cap, rts_apply(cap, &schedOwner_closure, rts_mkPtr(cap, scene)), NULL);
        status = rts_getSchedStatus(cap);
    }
    char text[200] = "";
    if (status == Killed) rts_showException(cap, rts_getException(cap), text, sizeof text);
    rts_unlock(cap);
    if (status == Success) {
        leaveScene(scene);
        checkScene(scene, &player->outcomes);
        player->outcomes.scenes++;
        noteCall(player, true);
        return;
    }
    EXPECT(scene, (status == Refused || status == Interrupted) && mayBeInterrupted(phase),
           "the owner's in-call ended with status %d: %s", (int)status, text);
    noteCall(player, status != Refused);
    player->outcomes.interrupted += status == Interrupted;
    /* Others of this scene may still run, until their runtime has ended. */
    uint64_t now = atomic_load(&game.phase);
    while (atomic_load(&game.ends) < (now + 1) / 2) usleep(100);
    leaveScene(scene);
}

/* A throw that came after the actor's end, before its in-call's, ends that. */
static void judgeActor(Scene *scene, Capability *cap, int number)
{
    char text[200] = "";
    SchedulerStatus status = rts_getSchedStatus(cap);
    const Slot *slot = &scene->slots[number];
    if (status == Interrupted && mayBeInterrupted(scene->phase)) return;
    if (status == Success && slot->verdict == NoStatus) return;
    if (termsAllow(slot->terms, status)) return;
    int serial = status == Killed ? throwOf(rts_getException(cap)) : -1;
    if (serial >= 0 && atomic_load(&scene->slots[number].ended)) {
        receiveThrow(scene, number, serial);
        return;
    }
    if (status == Killed) rts_showException(cap, rts_getException(cap), text, sizeof text);
    fail(scene, "the in-call of actor %d ended with status %d: %s", number, (int)status, text);
}

/* Its budget was over before it began. */
static void endUnplayed(Scene *scene, int number)
{
    HaskellObj board = (HaskellObj)(void *)deRefStablePtr(scene->board);
    atomic_store(&scene->slots[number].ended, true);
    atomic_fetch_add(&scene->ended, 1);
    hs_try_putmvar(-1, getStablePtr((StgPtr)rts_getElem(board, BOARD_BELL)));
}

bool joinScene(Scene *scene, Capability **cap, ActorKind kind, uint64_t random, const Terms *terms)
{
    /* The board is of this runtime, which cannot end while the capability is held. */
    if (atomic_load(&game.phase) != scene->phase) return false;
    int number = claimSlot(scene, kind, random, terms);
    if (number < 0) return false;
    HaskellObj board = (HaskellObj)(void *)deRefStablePtr(scene->board);
    rts_evalIO(cap, actionOf(*cap, terms != NULL ? &schedBudgeted_closure : &schedActor_closure, scene, number, board), NULL);
    judgeActor(scene, *cap, number);
    if (!rts_isDead(*cap) && !atomic_load(&scene->slots[number].ended)) endUnplayed(scene, number);
    return true;
}

typedef struct { Scene *scene; uint64_t random; } Visit;

static void *visitAndLeave(void *arg)
{
    Visit *visit = arg;
    Capability *cap = rts_lock();
    if (!rts_isDead(cap)) joinScene(visit->scene, &cap, ACTOR_LEAVER, visit->random, NULL);
    rts_unlock(cap);
    return NULL;
}

/* By a thread that may end inside. */
static void sendLeaver(Player *player, Scene *scene)
{
    Visit visit = { scene, nextRandom(&player->random) };
    pthread_t thread;
    if (pthread_create(&thread, NULL, visitAndLeave, &visit) != 0) return;
    pthread_join(thread, NULL);
    noteCall(player, true);
}

void visitScene(Player *player)
{
    Scene *scene = game.players[below(&player->random, options.threads)].scene;
    uint64_t phase = atomic_load(&game.phase);
    /* From here on its owner waits for us. */
    atomic_fetch_add(&scene->guests, 1);
    if (options.weights[STEP_LEAVE] != 0 && oneIn(&player->random, 6)) {
        sendLeaver(player, scene);
    } else if (options.weights[STEP_BUDGET] != 0 && oneIn(&player->random, 2)) {
        player->outcomes.visits += joinWithin(scene, ACTOR_GUEST, nextRandom(&player->random));
    } else {
        Capability *cap = rts_lock();
        bool dead = rts_isDead(cap);
        noteCall(player, !dead);
        EXPECT(NULL, !dead || mayBeInterrupted(phase), "refused a capability with %s", rts_statusName(rts_getRefusal(cap)));
        if (!dead) player->outcomes.visits += joinScene(scene, &cap, ACTOR_GUEST, nextRandom(&player->random), NULL);
        rts_unlock(cap);
    }
    atomic_fetch_sub(&scene->guests, 1);
}
