/* fd_wait_test.c: the timekeeper's waits for descriptors. */
#include "timekeeping.h"

/* ---------------------------------------------------------------- ready */

static void testReadAndWrite(void **state)
{
    int pair[2];
    Watch reader = {.ended = 0}, writer = {.ended = 0};
    char text[4096] = {0};
    makePair(pair);
    for (int round = 1; round <= 50; round++) {
        assert_int_equal(watch(&reader, pair[0], false), 0);
        assert_int_equal(watch(&writer, pair[0], true), 0);
        assert_true(reaches(&writer.ended, 1)); /* at once; the reader goes on waiting */
        assert_int_equal(atomic_load(&reader.ended), 0);
        assert_int_equal(write(pair[1], "x", 1), 1);
        assert_true(reaches(&reader.ended, 1));
        assert_int_equal(reader.error, 0);
        assert_int_equal(read(pair[0], text, sizeof text), 1);
        assert_false(cancelFdWait(&reader.wait));
    }
    while (write(pair[0], text, sizeof text) > 0) continue; /* full */
    assert_int_equal(watch(&writer, pair[0], true), 0);
    assert_true(staysAt(&writer.ended, 0));
    while (read(pair[1], text, sizeof text) > 0) continue;
    assert_true(reaches(&writer.ended, 1));

    assert_int_equal(watch(&reader, pair[0], false), 0);
    close(pair[1]); /* the peer hangs up: reading will say so */
    assert_true(reaches(&reader.ended, 1));
    assert_int_equal(reader.error, 0);
    closeFdWaits(pair[0]);
    close(pair[0]);
}

static void testSeveralWaits(void **state)
{
    enum { COUNT = 20 };
    int pair[2];
    Watch readers[COUNT], writer = {.ended = 0};
    makePair(pair);
    memset(readers, 0, sizeof readers);
    for (int i = 0; i < COUNT; i++) assert_int_equal(watch(&readers[i], pair[0], false), 0);
    assert_int_equal(watch(&writer, pair[0], true), 0);
    assert_true(reaches(&writer.ended, 1));
    assert_true(cancelFdWait(&readers[0].wait));
    assert_true(cancelFdWait(&readers[7].wait));
    assert_true(cancelFdWait(&readers[COUNT - 1].wait));
    assert_false(cancelFdWait(&readers[7].wait));
    assert_int_equal(write(pair[1], "x", 1), 1);
    for (int i = 0; i < COUNT; i++) {
        bool cancelled = i == 0 || i == 7 || i == COUNT - 1;
        if (!cancelled) assert_true(reaches(&readers[i].ended, 1));
    }
    assert_true(staysAt(&readers[7].ended, 0));
    closePair(pair);
}

static void testPipes(void **state)
{
    enum { COUNT = 300 }; /* the table grows */
    int pipes[COUNT][2];
    Watch *watches = calloc(2 * COUNT, sizeof *watches);
    ends = 0;
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        assert_int_equal(watch(&watches[2 * i], pipes[i][0], false), 0);
        assert_int_equal(watch(&watches[2 * i + 1], pipes[i][1], true), 0);
    }
    assert_true(reaches(&ends, COUNT));
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(watches[2 * i].ended, 0);
        assert_int_equal(watches[2 * i + 1].ended, 1);
        if (i % 2) assert_int_equal(write(pipes[i][1], "x", 1), 1);
        else close(pipes[i][1]); /* the end of the pipe is ready too */
    }
    assert_true(reaches(&ends, 2 * COUNT));
    for (int i = 0; i < COUNT; i++) {
        closeFdWaits(pipes[i][0]);
        close(pipes[i][0]);
        if (i % 2) close(pipes[i][1]);
    }
    free(watches);
}

static void testWaitsRefused(void **state)
{
    Watch w = {.ended = 0};
    int plain = open(".", O_RDONLY), null = open("/dev/null", O_RDWR);
    errno = 0;
    assert_int_equal(watch(&w, -1, false), EBADF);
    assert_int_equal(watch(&w, 1 << 30, true), EBADF);
    assert_int_equal(watch(&w, INT32_MAX, true), EBADF);
    assert_int_equal(watch(&w, plain, false), EALREADY);
    assert_int_equal(watch(&w, null, true), EALREADY);
    assert_false(cancelFdWait(&w.wait));
    closeFdWaits(-1);
    closeFdWaits(plain);
    assert_int_equal(errno, 0);
    assert_int_equal(w.ended, 0);
    close(plain);
    close(null);
}

static void testWaitsRefusedMemory(void **state)
{
    Watch w = {.ended = 0};
    int pair[2], error, noThread = 0, noMemory = 0;
    makePair(pair);
    for (int n = 1;; n++) {
        osFailAfter(n);
        error = watch(&w, pair[0], true);
        osFailAfter(0);
        if (error == 0) break;
        if (error == EAGAIN) noThread++;
        else if (error == ENOMEM) noMemory++;
        else fail_msg("errno %d", error);
        assert_false(cancelFdWait(&w.wait));
        stopTimekeeper();
        initTimekeeper(MILLISECOND, onTick);
    }
    assert_int_equal(noThread, 2); /* poller, thread */
    assert_int_equal(noMemory, 3); /* table, descriptor, poller */
    assert_true(reaches(&w.ended, 1));
    closePair(pair);
}

static void testCancelledWait(void **state)
{
    int pair[2];
    Watch w = {.ended = 0};
    char c;
    makePair(pair);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(watch(&w, pair[0], false), 0);
        assert_true(cancelFdWait(&w.wait));
        assert_int_equal(write(pair[1], "x", 1), 1); /* still armed */
        if (i % 10 == 0) assert_true(staysAt(&w.ended, 0));
        assert_int_equal(read(pair[0], &c, 1), 1);
        /* What was seen before is no news for the next wait. */
        assert_int_equal(watch(&w, pair[0], false), 0);
        if (i % 10 == 0) assert_true(staysAt(&w.ended, 0));
        assert_true(cancelFdWait(&w.wait));
    }
    closePair(pair);
}

static void *raceWaits(void *context)
{
    struct Race *race = context;
    uint64_t seed = (uint64_t)race->number;
    int pair[2];
    char c;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0) return NULL;
    for (int round = 0; round < race->rounds; round++) {
        Watch w = {.ended = 0};
        if (watch(&w, pair[0], false) != 0 || write(pair[1], "x", 1) != 1) race->neither++;
        if (nextRandom(&seed) % 2) osSleepNanos(nextRandom(&seed) % 50000);
        bool cancelled = cancelFdWait(&w.wait);
        int ended = atomic_load(&w.ended);
        race->cancelled += cancelled;
        race->fired += ended;
        race->both += ended + cancelled > 1;
        race->neither += ended + cancelled < 1;
        if (read(pair[0], &c, 1) != 1) race->neither++;
    }
    closeFdWaits(pair[0]);
    close(pair[0]);
    close(pair[1]);
    return NULL;
}

static void testWaitRaces(void **state)
{
    runRace(raceWaits, 3000, "waits");
}

/* ---------------------------------------------------------------- descriptors that are closed */

/* How many descriptors the system watches for us, the one for interruptions among them. */
static int countWatched(void)
{
    char path[40], line[200];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", findOwnDescriptor(0, "eventpoll"));
    FILE *info = fopen(path, "re");
    if (!info) return -1;
    int count = 0;
    while (fgets(line, sizeof line, info)) count += strncmp(line, "tfd:", 4) == 0;
    fclose(info);
    return count;
}

static void testCloseWithNotice(void **state)
{
    int pair[2];
    Watch reader = {.ended = 0}, writer = {.ended = 0};
    makePair(pair);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(watch(&reader, pair[0], false), 0);
        assert_int_equal(watch(&writer, pair[1], false), 0);
        closeFdWaits(pair[0]);
        assert_int_equal(reader.ended, 1); /* before it returned */
        assert_int_equal(reader.error, EBADF);
        assert_int_equal(writer.ended, 0);
        assert_true(cancelFdWait(&writer.wait));
        assert_int_equal(countWatched(), 2);
    }
    closePair(pair);
    assert_int_equal(countWatched(), 1);
}

static void testCloseWithoutNotice(void **state)
{
    int gone[2], kept[2], other[2], copy;
    Watch w[3], stays = {.ended = 0};
    memset(w, 0, sizeof w);
    assert_int_equal(pipe(gone), 0);
    assert_int_equal(pipe(kept), 0);
    assert_int_equal(pipe(other), 0);
    copy = dup(kept[0]);
    assert_int_equal(watch(&w[0], gone[0], false), 0);
    assert_int_equal(watch(&w[1], kept[0], false), 0);
    assert_int_equal(watch(&w[2], other[0], false), 0);
    int alive[2];
    makePair(alive);
    assert_int_equal(watch(&stays, alive[0], false), 0);

    close(gone[0]);          /* really closed */
    close(kept[0]);          /* the number only: the system goes on reporting it */
    dup2(alive[1], other[0]); /* another file under the same number */
    for (int i = 0; i < 3; i++) {
        assert_true(reaches(&w[i].ended, 1));
        assert_int_equal(w[i].error, EBADF);
    }
    assert_int_equal(write(kept[1], "x", 1), 1); /* what the system reports is nobody's */
    assert_true(staysAt(&stays.ended, 0));
    assert_true(cancelFdWait(&stays.wait));

    dup2(copy, kept[0]); /* and back: the system knows it already */
    assert_int_equal(watch(&w[1], kept[0], false), 0);
    assert_true(reaches(&w[1].ended, 1));
    assert_int_equal(w[1].error, 0);
    for (int i = 0; i < 2; i++) closeFdWaits(kept[i]), close(kept[i]), close(other[i]);
    close(gone[1]);
    close(copy);
    closePair(alive);
}

static void testNumberUsedAgain(void **state)
{
    int first[2], second[2];
    Watch old = {.ended = 0}, new = {.ended = 0};
    for (int duplicated = 0; duplicated < 2; duplicated++) {
        makePair(first);
        makePair(second);
        int number = first[0], copy = duplicated ? dup(number) : -1;
        assert_int_equal(watch(&old, number, false), 0);
        dup2(second[0], number);
        assert_int_equal(watch(&new, number, false), 0);
        assert_int_equal(old.ended, 1); /* noticed by the new wait, at once */
        assert_int_equal(old.error, EBADF);
        assert_int_equal(write(first[1], "x", 1), duplicated ? 1 : -1);
        assert_true(staysAt(&new.ended, 0));
        assert_int_equal(write(second[1], "x", 1), 1);
        assert_true(reaches(&new.ended, 1));
        assert_int_equal(new.error, 0);

        /* Between two waits: nobody is told, and the new one is right. */
        dup2(first[1], number);
        assert_int_equal(watch(&new, number, true), 0);
        assert_true(reaches(&new.ended, 1));
        close(number);
        assert_int_equal(watch(&new, number, true), EBADF);
        int plain = open(".", O_RDONLY);
        dup2(plain, number);
        assert_int_equal(watch(&new, number, true), EALREADY);
        close(plain);
        close(number);
        if (duplicated) close(copy);
        close(first[1]);
        closePair(second);
    }
}

/* A look now and then, ever more seldom. */
static void testLooksAreSeldom(void **state)
{
    enum { COUNT = 100 };
    int pairs[COUNT][2];
    Watch *watches = calloc(COUNT, sizeof *watches);
    for (int i = 0; i < COUNT; i++) {
        makePair(pairs[i]);
        assert_int_equal(watch(&watches[i], pairs[i][0], false), 0);
    }
    long switches = countSwitchesIn(3500 * MILLISECOND);
    print_message("%ld looks in 3.5 s\n", switches);
    assert_in_range(switches, 1, 2); /* after 1 and 3 s */
    for (int i = 0; i < COUNT; i++) {
        assert_true(cancelFdWait(&watches[i].wait));
        closePair(pairs[i]);
    }
    free(watches);
}

static void testWithoutPwait2(void **state)
{
    osPollerForceFallback = true;
    testReadAndWrite(state);
    testSeveralWaits(state);
    testCloseWithNotice(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(testReadAndWrite),
        CASE(testSeveralWaits),
        CASE(testPipes),
        CASE(testWaitsRefused),
        CASE(testWaitsRefusedMemory),
        CASE(testCancelledWait),
        CASE(testWaitRaces),
        CASE(testCloseWithNotice),
        CASE(testCloseWithoutNotice),
        CASE(testNumberUsedAgain),
        CASE(testLooksAreSeldom),
        CASE(testWithoutPwait2),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
