/* timekeeper_test.c: timers, ticks, start and stop of the timekeeper; fd_wait_test.c has waits for descriptors. */
#include "timekeeping.h"

#include <sys/wait.h>

/* ---------------------------------------------------------------- timers */

static int compareOrder(const void *a, const void *b)
{
    return ((const Alarm *)a)->order - ((const Alarm *)b)->order;
}

/* Those that fired did so in the order of their deadlines. Leaves them in that order. */
static void checkOrder(Alarm *alarms, int count)
{
    const Alarm *before = NULL;
    qsort(alarms, (size_t)count, sizeof *alarms, compareOrder);
    for (int i = 0; i < count; i++) {
        if (alarms[i].fired == 0) continue;
        if (before) assert_true(alarms[i].timer.deadline >= before->timer.deadline);
        before = &alarms[i];
    }
}

static void testOrderAndAccuracy(void **state)
{
    enum { COUNT = 3000 };
    Alarm *alarms = makeAlarms(COUNT);
    uint64_t begin = osMonotonicNanos() + 300 * MILLISECOND, seed = 1, worst = 0;
    for (int i = 0; i < COUNT; i++)
        assert_true(startTimer(&alarms[i].timer, begin + nextRandom(&seed) % (300 * MILLISECOND)));
    bool allInTime = osMonotonicNanos() < begin; /* else later ones came after earlier ones had fired */
    assert_true(reaches(&fires, COUNT));
    stopTimekeeper(); /* so that what the thread wrote is ours to read */
    if (allInTime) checkOrder(alarms, COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(alarms[i].fired, 1);
        assert_true(alarms[i].firedAt >= alarms[i].timer.deadline);
        if (alarms[i].firedAt - alarms[i].timer.deadline > worst) worst = alarms[i].firedAt - alarms[i].timer.deadline;
    }
    print_message("the latest of %d timers was %u us late\n", COUNT, (unsigned)(worst / 1000));
    assert_true(worst < 5 * SECOND);
    free(alarms);
}

static void testPastAndNever(void **state)
{
    Alarm *alarms = makeAlarms(4);
    assert_false(cancelTimer(&alarms[0].timer)); /* never ran */
    assert_true(startTimer(&alarms[0].timer, UINT64_MAX));
    assert_true(startTimer(&alarms[1].timer, UINT64_MAX - 1));
    assert_true(startTimer(&alarms[2].timer, 0));
    assert_true(startTimer(&alarms[3].timer, osMonotonicNanos() - 1));
    assert_true(reaches(&fires, 2));
    osSleepNanos(20 * MILLISECOND);
    assert_int_equal(fires, 2);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(cancelTimer(&alarms[i].timer), i < 2);
        assert_false(cancelTimer(&alarms[i].timer));
    }
    assert_true(startTimer(&alarms[0].timer, 0)); /* nodes can be used again */
    assert_true(reaches(&fires, 3));
    free(alarms);
}

static void testEarlierTimerShortensTheSleep(void **state)
{
    Alarm *alarms = makeAlarms(2);
    assert_true(startTimer(&alarms[0].timer, osMonotonicNanos() + 3600 * SECOND));
    osSleepNanos(20 * MILLISECOND);
    for (int i = 1; i <= 20; i++) {
        assert_true(startTimer(&alarms[1].timer, osMonotonicNanos() + MILLISECOND));
        assert_true(reaches(&fires, i));
    }
    assert_true(cancelTimer(&alarms[0].timer));
    free(alarms);
}

static _Atomic bool fireRuns;
static _Atomic int slowFires;

static void fireSlowly(Timer *timer)
{
    atomic_store(&fireRuns, true);
    atomic_fetch_add(&slowFires, 1);
    osSleepNanos(20 * MILLISECOND);
    atomic_store(&fireRuns, false);
}

static void testFireIsOverWhenCancelReturns(void **state)
{
    Timer timer = {.fire = fireSlowly};
    slowFires = 0;
    for (int i = 1; i <= 5; i++) {
        assert_true(startTimer(&timer, 0));
        assert_true(reaches(&slowFires, i));
        assert_false(cancelTimer(&timer));
        assert_false(atomic_load(&fireRuns));
    }
}

static void *raceTimers(void *context)
{
    enum { TIMERS = 8 };
    struct Race *race = context;
    Alarm *alarms = calloc(TIMERS, sizeof *alarms);
    uint64_t seed = (uint64_t)race->number;
    for (int round = 0; round < race->rounds; round++) {
        for (int i = 0; i < TIMERS; i++) {
            alarms[i].timer.fire = noteFire;
            atomic_store(&alarms[i].fired, 0);
            if (!startTimer(&alarms[i].timer, osMonotonicNanos() + nextRandom(&seed) % 100000)) race->neither++;
        }
        if (nextRandom(&seed) % 2) osSleepNanos(nextRandom(&seed) % 50000);
        for (int i = 0; i < TIMERS; i++) {
            bool cancelled = cancelTimer(&alarms[i].timer);
            int fired = atomic_load(&alarms[i].fired);
            race->cancelled += cancelled;
            race->fired += fired;
            race->both += fired + cancelled > 1;
            race->neither += fired + cancelled < 1;
        }
    }
    free(alarms);
    return NULL;
}

static void testCancelRaces(void **state)
{
    runRace(raceTimers, 1000, "timers");
}

static void testManyTimers(void **state)
{
    int count = isShort() ? 20000 : 100000, cancelled = 0;
    Alarm *alarms = makeAlarms(count);
    uint64_t begin = osMonotonicNanos() + 500 * MILLISECOND, seed = 3;
    for (int i = 0; i < count; i++)
        assert_true(startTimer(&alarms[i].timer, begin + nextRandom(&seed) % (400 * MILLISECOND)));
    bool *isCancelled = calloc((size_t)count, sizeof *isCancelled);
    for (int i = 0; i < count / 2; i++) {
        int victim = (int)(nextRandom(&seed) % (unsigned)count);
        if (!cancelTimer(&alarms[victim].timer)) continue;
        isCancelled[victim] = true;
        cancelled++;
    }
    bool allInTime = osMonotonicNanos() < begin;
    assert_true(reaches(&fires, count - cancelled));
    osSleepNanos(5 * MILLISECOND);
    assert_int_equal(fires, count - cancelled);
    stopTimekeeper();
    for (int i = 0; i < count; i++) {
        assert_int_equal(alarms[i].fired, !isCancelled[i]);
        if (!isCancelled[i]) assert_true(alarms[i].firedAt >= alarms[i].timer.deadline);
    }
    if (allInTime) checkOrder(alarms, count);
    free(isCancelled);
    free(alarms);
}

static void testTimersRefused(void **state)
{
    enum { COUNT = 70 };
    Alarm *alarms = makeAlarms(COUNT);
    int failures = 0, started = 0;
    for (int n = 1;; n++, failures++) { /* poller, thread, heap: each fails in turn */
        osFailAfter(n);
        if (startTimer(&alarms[0].timer, UINT64_MAX)) break;
        assert_false(cancelTimer(&alarms[0].timer));
    }
    assert_int_equal(failures, 3);
    osFailAllAfter(1);
    for (started = 1; started < COUNT && startTimer(&alarms[started].timer, UINT64_MAX);) started++;
    assert_in_range(started, 2, COUNT - 1); /* the heap is full, and cannot grow */
    assert_false(startTimer(&alarms[started].timer, 0));
    osFailAfter(0);
    assert_true(startTimer(&alarms[started].timer, 0));
    assert_true(reaches(&fires, 1));
    for (int i = 0; i < started; i++) assert_true(cancelTimer(&alarms[i].timer));
    free(alarms);
}

/* A heap that gives memory back, while every second allocation is refused, keeps its timers. */
static void testHeapShrinks(void **state)
{
    enum { COUNT = 5000 };
    Alarm *alarms = makeAlarms(COUNT);
    uint64_t begin = osMonotonicNanos() + 3600 * SECOND, seed = 5;
    for (int i = 0; i < COUNT; i++) assert_true(startTimer(&alarms[i].timer, begin + nextRandom(&seed) % SECOND));
    for (int i = 0; i < COUNT - 3; i++) {
        osFailAfter(i % 2);
        assert_true(cancelTimer(&alarms[i].timer));
    }
    osFailAfter(0);
    for (int i = 0; i < COUNT - 3; i++) assert_true(startTimer(&alarms[i].timer, 0));
    assert_true(reaches(&fires, COUNT - 3));
    for (int i = COUNT - 3; i < COUNT; i++) assert_true(cancelTimer(&alarms[i].timer));
    free(alarms);
}

/* ---------------------------------------------------------------- ticks */

static bool ticksEnd(void)
{
    for (uint64_t end = osMonotonicNanos() + PATIENCE; atomic_load(&ticking); osSleepNanos(MILLISECOND))
        if (osMonotonicNanos() > end) return false;
    return true;
}

/* More than will be dealt with before there are to be fewer. */
enum { MANY_REASONS = 1000000 };

static void testTicksGoOnAndEnd(void **state)
{
    for (int round = 0; round < 3; round++) {
        atomic_store(&onTickCalls, 0);
        atomic_store(&reasons, MANY_REASONS);
        uint64_t begin = osMonotonicNanos();
        wantTicks();
        assert_true(atomic_load(&ticking));
        wantTicks();
        int done = MANY_REASONS - atomic_exchange(&reasons, 20);
        assert_true(ticksEnd());
        assert_true(osMonotonicNanos() - begin >= (uint64_t)(done + 20) * MILLISECOND);
        assert_int_equal(atomic_load(&reasons), 0);
        /* Asked twice at the end; without membarrier a period later twice more. */
        int calls = done + (osMembarrierWorks() ? 22 : 24);
        assert_true(reaches(&onTickCalls, calls));
        assert_true(staysAt(&onTickCalls, calls));
    }
    assert_int_equal(countSwitchesIn(100 * MILLISECOND), 0);
}

/* A reason made right when the last tick says no must not be left alone. */
static void testNoReasonIsMissed(void **state)
{
    stopTimekeeper();
    initTimekeeper(20000, onTick);
    uint64_t seed = 7, begin = osMonotonicNanos();
    int rounds = isShort() ? 2000 : 10000, done = 0;
    for (; done < rounds && osMonotonicNanos() - begin < 5 * SECOND; done++) {
        atomic_store_explicit(&reasons, 1, memory_order_relaxed);
        wantTicks();
        for (uint64_t end = osMonotonicNanos() + PATIENCE; atomic_load(&reasons) != 0;) {
            if (osMonotonicNanos() > end) fail_msg("round %d: no tick came, ticking is %d", done, (int)atomic_load(&ticking));
            osYieldThread();
        }
        for (uint32_t n = nextRandom(&seed) % 4000; n > 0; n--) atomic_signal_fence(memory_order_seq_cst);
    }
    print_message("%d reasons\n", done);
}

static void testNoReasonIsMissedWithoutMembarrier(void **state)
{
    osMembarrierForceRefused = true;
    osMembarrierInit();
    testTicksGoOnAndEnd(state);
    testNoReasonIsMissed(state);
}

static void testTicksRefused(void **state)
{
    atomic_store(&reasons, MANY_REASONS);
    osFailAllAfter(1);
    for (int i = 0; i < 100; i++) wantTicks();
    assert_false(atomic_load(&ticking));
    assert_in_range(osFailuresInjected(), 1, 99); /* not tried each time */
    osFailAfter(0);
    osSleepNanos(2 * MILLISECOND);
    wantTicks();
    assert_true(atomic_load(&ticking));
    atomic_store(&reasons, 1);
    assert_true(ticksEnd());
    assert_int_equal(atomic_load(&reasons), 0);
}

static void testNoTicksWanted(void **state)
{
    stopTimekeeper();
    wantTicks(); /* not running */
    assert_false(atomic_load(&ticking));
    initTimekeeper(0, NULL);
    wantTicks();
    assert_true(hasNoThread());
    Alarm *alarms = makeAlarms(1);
    assert_true(startTimer(&alarms[0].timer, 0));
    assert_true(reaches(&fires, 1));
    free(alarms);
}

/* ---------------------------------------------------------------- start and stop */

static void testNothingWakesAnIdleThread(void **state)
{
    Alarm *alarms = makeAlarms(4);
    assert_true(hasNoThread()); /* made when first needed */
    assert_true(startTimer(&alarms[0].timer, 0));
    assert_true(reaches(&fires, 1));
    assert_int_equal(countSwitchesIn(500 * MILLISECOND), 0);
    assert_true(startTimer(&alarms[1].timer, osMonotonicNanos() + 3600 * SECOND));
    assert_true(startTimer(&alarms[2].timer, UINT64_MAX));
    assert_int_equal(countSwitchesIn(200 * MILLISECOND), 0);

    char blocked[100];
    assert_true(readThreadStatus("SigBlk:", blocked, sizeof blocked));
    uint64_t mask = strtoull(strchr(blocked, ':') + 1, NULL, 16);
    assert_true(mask >> (15 - 1) & 1); /* SIGTERM */
    stopTimekeeper();
    assert_true(hasNoThread());
    free(alarms);
}

static void testStopWithThingsOutstanding(void **state)
{
    int pair[2];
    for (int round = 0; round < 30; round++) {
        makePair(pair);
        Alarm *alarms = makeAlarms(100);
        Watch watches[3];
        memset(watches, 0, sizeof watches);
        atomic_store(&reasons, 1000000);
        if (round % 2) wantTicks();
        for (int i = 0; i < 100; i++)
            assert_true(startTimer(&alarms[i].timer, osMonotonicNanos() + (uint64_t)i * MILLISECOND / 50 + (i > 90 ? 3600 * SECOND : 0)));
        assert_int_equal(watch(&watches[0], pair[0], false), 0);
        assert_int_equal(watch(&watches[1], pair[1], false), 0);
        assert_int_equal(watch(&watches[2], pair[1], false), 0);
        stopTimekeeper();
        assert_false(atomic_load(&ticking));
        int firesThen = fires, ticksThen = onTickCalls;
        osSleepNanos(3 * MILLISECOND);
        assert_int_equal(fires, firesThen);
        assert_int_equal(onTickCalls, ticksThen);

        /* What was forgotten will not happen; what is new is refused. */
        assert_false(startTimer(&alarms[0].timer, 0));
        Watch late = {.ended = 0};
        assert_int_equal(watch(&late, pair[0], true), EAGAIN);
        closeFdWaits(pair[0]);
        bool again = round % 3 == 0; /* the same, with new things around */
        if (again) {
            initTimekeeper(MILLISECOND, onTick);
            assert_true(startTimer(&alarms[0].timer, UINT64_MAX));
            assert_int_equal(watch(&late, pair[1], false), 0);
        }
        for (int i = 91; i < 100; i++) assert_true(cancelTimer(&alarms[i].timer));
        for (int i = 0; i < 3; i++) assert_true(cancelFdWait(&watches[i].wait));
        for (int i = 0; i < 3; i++) assert_int_equal(watches[i].ended, 0);
        if (again) assert_true(cancelTimer(&alarms[0].timer));
        if (again) assert_int_equal(write(pair[0], "x", 1), 1);
        if (again) assert_true(reaches(&late.ended, 1));
        initTimekeeper(MILLISECOND, onTick);
        closePair(pair);
        free(alarms);
    }
    stopTimekeeper();
    stopTimekeeper(); /* twice is once */
}

/* Other threads that come at any time meet a stop and a start. */
static void *comeAtAnyTime(void *over)
{
    Alarm alarm = {.timer = {.fire = noteFire}};
    Watch w = {.ended = 0};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return NULL;
    while (!atomic_load((_Atomic bool *)over)) {
        atomic_store(&reasons, 1);
        wantTicks();
        if (startTimer(&alarm.timer, osMonotonicNanos() + 100000)) osSleepNanos(50000);
        cancelTimer(&alarm.timer);
        if (watch(&w, pair[0], true) == 0) cancelFdWait(&w.wait);
    }
    closeFdWaits(pair[0]);
    close(pair[0]);
    close(pair[1]);
    return NULL;
}

static void testStopAmongCallers(void **state)
{
    enum { THREADS = 3 };
    pthread_t thread[THREADS];
    _Atomic bool over = false;
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&thread[i], NULL, comeAtAnyTime, &over), 0);
    for (int round = 0; round < 100; round++) {
        osSleepNanos(MILLISECOND);
        stopTimekeeper();
        initTimekeeper(MILLISECOND, onTick);
    }
    atomic_store(&over, true);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
}

/* ---------------------------------------------------------------- a forked child */

/* ThreadSanitizer lets no thread start in the child of a program with several. */
static bool mayStartThreads(void)
{
#ifdef __has_feature
    return !__has_feature(thread_sanitizer);
#elif defined(__SANITIZE_THREAD__)
    return false;
#else
    return true;
#endif
}

static int liveAsChild(int fd)
{
    Alarm alarm = {.timer = {.fire = noteFire}};
    Watch w = {.ended = 0};
    forgetTimekeeper();
    if (countDescriptors("eventpoll") != 0 || countDescriptors("eventfd") != 0) return 1;
    if (startTimer(&alarm.timer, 0) || atomic_load(&ticking)) return 2;
    stopTimekeeper();
    if (!mayStartThreads()) return 0;
    fires = 0;
    osMembarrierInit();
    initTimekeeper(MILLISECOND, onTick);
    if (!startTimer(&alarm.timer, 0) || !reaches(&fires, 1)) return 3;
    if (watch(&w, fd, true) != 0 || !reaches(&w.ended, 1)) return 4;
    stopTimekeeper();
    return 0;
}

static void forkOnce(int fd)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(liveAsChild(fd));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void testForkedChild(void **state)
{
    int pair[2];
    Watch w = {.ended = 0};
    Alarm *alarms = makeAlarms(1);
    makePair(pair);
    assert_int_equal(watch(&w, pair[0], false), 0);
    assert_true(startTimer(&alarms[0].timer, osMonotonicNanos() + 3600 * SECOND));
    assert_int_equal(countDescriptors("eventpoll"), 1);
    assert_int_equal(countDescriptors("eventfd"), 1);
    forkOnce(pair[0]);

    /* While the thread, which the child does not have, holds the lock. */
    Timer slow = {.fire = fireSlowly};
    slowFires = 0;
    for (int i = 1; i <= 3; i++) {
        assert_true(startTimer(&slow, 0));
        assert_true(reaches(&slowFires, i));
        forkOnce(pair[0]);
        cancelTimer(&slow);
    }

    /* The parent is as it was. */
    assert_int_equal(write(pair[1], "x", 1), 1);
    assert_true(reaches(&w.ended, 1));
    assert_true(cancelTimer(&alarms[0].timer));
    closePair(pair);
    free(alarms);
}

static void testWithoutPwait2(void **state)
{
    osPollerForceFallback = true;
    testOrderAndAccuracy(state);
    initTimekeeper(MILLISECOND, onTick);
    testTicksGoOnAndEnd(state);
    Alarm *alarms = makeAlarms(1);
    assert_true(startTimer(&alarms[0].timer, UINT64_MAX));
    free(alarms); /* forgotten by the stop that follows */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(testOrderAndAccuracy),
        CASE(testPastAndNever),
        CASE(testEarlierTimerShortensTheSleep),
        CASE(testFireIsOverWhenCancelReturns),
        CASE(testCancelRaces),
        CASE(testManyTimers),
        CASE(testTimersRefused),
        CASE(testHeapShrinks),
        CASE(testTicksGoOnAndEnd),
        CASE(testNoReasonIsMissed),
        CASE(testNoReasonIsMissedWithoutMembarrier),
        CASE(testTicksRefused),
        CASE(testNoTicksWanted),
        CASE(testNothingWakesAnIdleThread),
        CASE(testStopWithThingsOutstanding),
        CASE(testStopAmongCallers),
        CASE(testForkedChild),
        CASE(testWithoutPwait2),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
