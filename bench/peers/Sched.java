// Java's virtual threads (Java 22 and later): the work and the options of ../sched_capstan.c, whose head says what is printed.
// Capabilities are the carrier threads of virtual threads, a bound thread is a platform thread, a call of C goes through
// java.lang.foreign (unsafe: a critical one). No figures for switch and bound: Java has nothing like an MVar, and what could
// be built would be measured instead.
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongUnaryOperator;

public final class Sched {
    static String figure;
    static int capabilities = 1;
    static double seconds = 0.3;
    static long count;

    static void giveUp(String what) {
        System.err.println("bench: " + what);
        System.exit(1);
    }

    static void printFigure(String metric, double value, String unit) {
        System.out.printf(Locale.ROOT, "%s\t%.6g\t%s%n", metric, value, unit);
    }

    // ---- Calls of C

    static final MethodHandle UNSAFE = nextNumber(Linker.Option.critical(false));
    static final MethodHandle SAFE = nextNumber();

    static MethodHandle nextNumber(Linker.Option... options) {
        MemorySegment function = SymbolLookup.libraryLookup(Path.of(System.getProperty("next")), Arena.global())
            .find("nextNumber").orElseThrow();
        return Linker.nativeLinker().downcallHandle(function,
            FunctionDescriptor.of(ValueLayout.JAVA_LONG, ValueLayout.JAVA_LONG), options);
    }

    static long callUnsafe(long n) {
        long seen = 0;
        try {
            for (long i = 0; i < n; i++) seen = (long) UNSAFE.invokeExact(seen);
        } catch (Throwable t) {
            giveUp(t.toString());
        }
        return seen;
    }

    static long callSafe(long n) {
        long seen = 0;
        try {
            for (long i = 0; i < n; i++) seen = (long) SAFE.invokeExact(seen);
        } catch (Throwable t) {
            giveUp(t.toString());
        }
        return seen;
    }

    static LongUnaryOperator unbound(LongUnaryOperator function) {
        return n -> {
            long[] result = new long[1];
            join(Thread.startVirtualThread(() -> result[0] = function.applyAsLong(n)));
            return result[0];
        };
    }

    static void join(Thread thread) {
        try {
            thread.join();
        } catch (InterruptedException e) {
            giveUp(e.toString());
        }
    }

    // ---- Start and finish

    static final int BATCH = 1000;
    static final AtomicLong running = new AtomicLong();
    static final Semaphore done = new Semaphore(0);

    static void countDown() {
        if (running.decrementAndGet() == 0) done.release();
    }

    static long startThreads(long n) {
        long seen = 0;
        while (seen < n) {
            long batch = Math.min(n - seen, BATCH);
            running.set(batch);
            for (long i = 0; i < batch; i++) Thread.startVirtualThread(Sched::countDown);
            done.acquireUninterruptibly();
            seen += batch - running.get();
        }
        return seen;
    }

    // ---- Batches

    static double timeBatch(String metric, LongUnaryOperator function, long n) {
        long start = System.nanoTime();
        long seen = function.applyAsLong(n);
        long took = System.nanoTime() - start;
        if (seen != n) giveUp(metric + ": of " + n + " operations " + seen + " happened");
        return took;
    }

    // The warm-up is longer than the others': the compiler has to find the loops first.
    static double timeBatches(String metric, LongUnaryOperator function) {
        long n = 1000, batches = 0;
        for (long end = System.nanoTime() + 300_000_000; System.nanoTime() < end; ) timeBatch(metric, function, n);
        while (timeBatch(metric, function, n) < 1e7) n *= 2;
        double fastest = 1e300, all = 0;
        long end = System.nanoTime() + (long) (seconds * 1e9);
        do {
            double took = timeBatch(metric, function, n);
            fastest = Math.min(fastest, took);
            all += took;
            batches++;
        } while (System.nanoTime() < end);
        return capabilities == 1 ? fastest / n : all / n / batches;
    }

    static void measure(String metric, LongUnaryOperator function) {
        double ns = count > 0 ? timeBatch(metric, function, count) / count : timeBatches(metric, function);
        printFigure(metric, ns, "ns");
    }

    static void measureCalls() {
        measure("unsafe_call", Sched::callUnsafe);
        measure("safe_call", Sched::callSafe);
        measure("unsafe_call_unbound", unbound(Sched::callUnsafe));
        measure("safe_call_unbound", unbound(Sched::callSafe));
    }

    // ---- Parked threads

    static final Semaphore gate = new Semaphore(0), milestone = new Semaphore(0);
    static final AtomicLong parked = new AtomicLong(), released = new AtomicLong();

    static double residentBytes() {
        try {
            return 4096.0 * Long.parseLong(Files.readString(Path.of("/proc/self/statm")).split(" ")[1]);
        } catch (IOException e) {
            throw new RuntimeException(e);
        }
    }

    static void park(long n) {
        if (parked.incrementAndGet() == n) milestone.release();
        gate.acquireUninterruptibly();
        if (released.incrementAndGet() == n) milestone.release();
    }

    static void parkAll(long n) {
        for (long i = 0; i < n; i++) Thread.startVirtualThread(() -> park(n));
        milestone.acquireUninterruptibly();
        checkParked(n);
    }

    static void checkParked(long n) {
        if (parked.get() != n || released.get() != 0) giveUp("a parked thread did not stay so");
    }

    static void releaseAll(long n) {
        checkParked(n);
        gate.release((int) n);
        milestone.acquireUninterruptibly();
        if (released.get() != n) giveUp("not every thread passed the gate");
    }

    static void measureParked(long n) {
        double before = residentBytes();
        long start = System.nanoTime();
        parkAll(n);
        long took = System.nanoTime() - start;
        printFigure("resident", (residentBytes() - before) / n, "B");
        printFigure("create", took / 1e3 / n, "us");
        releaseAll(n);
    }

    static void measureCollections(long n) {
        double before = residentBytes();
        parkAll(n);
        double[] ms = new double[5];
        for (int i = 0; i < ms.length; i++) {
            long start = System.nanoTime();
            System.gc();
            ms[i] = (System.nanoTime() - start) / 1e6;
        }
        Arrays.sort(ms);
        printFigure("full", ms[ms.length / 2], "ms");
        printFigure("resident_after", (residentBytes() - before) / n, "B");
        releaseAll(n);
    }

    // ---- Command line

    static void readOptions(String[] args) {
        for (String arg : args) {
            String value = arg.substring(arg.indexOf('=') + 1);
            if (!arg.startsWith("--")) figure = arg;
            else if (arg.startsWith("--capabilities=")) capabilities = Integer.parseInt(value);
            else if (arg.startsWith("--seconds=")) seconds = Double.parseDouble(value);
            else if (arg.startsWith("--count=")) count = Long.parseLong(value);
            else giveUp("no option " + arg);
        }
        System.setProperty("jdk.virtualThreadScheduler.parallelism", String.valueOf(capabilities));
        System.setProperty("jdk.virtualThreadScheduler.maxPoolSize", String.valueOf(capabilities));
    }

    public static void main(String[] args) {
        readOptions(args);
        long threads = count > 0 ? count : 1000000;
        switch (figure == null ? "" : figure) {
            case "calls" -> measureCalls();
            case "threads" -> join(Thread.startVirtualThread(() -> measure("start_finish", Sched::startThreads)));
            case "parked" -> measureParked(threads);
            case "collect" -> measureCollections(threads);
            default -> giveUp("unknown figure");
        }
    }
}
