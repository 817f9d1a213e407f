// Java's heap: the work and the options of ../heap_capstan.c, whose head says what is printed. Workers are platform threads; the collector is
// the one that the virtual machine chooses, or that of the command line. No figures for operations, stable and major.
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.function.LongConsumer;

public final class Heap {
    static String figure = "";
    static int workers = 1;
    static long depth, entries = 1000000, count = 2000000;
    static double seconds = 0.3;

    static void giveUp(String what) {
        System.err.println("bench: " + what);
        System.exit(1);
    }

    static void printFigure(String metric, double value, String unit) {
        System.out.printf(Locale.ROOT, "%s\t%.6g\t%s%n", metric, value, unit);
    }

    static double statusBytes(String name) {
        try {
            for (String line : Files.readAllLines(Path.of("/proc/self/status")))
                if (line.startsWith(name)) return 1024.0 * Long.parseLong(line.replaceAll("[^0-9]", ""));
        } catch (IOException e) {
            giveUp(e.toString());
        }
        giveUp("no " + name + " in /proc/self/status");
        return 0;
    }

    // ---- Trees

    /** A header of 12 bytes and two references of 4. */
    static final double TREE_BYTES = 24;
    static final int LEAST_TREE = 4;

    static final class Tree {
        final Tree left, right;

        Tree(Tree left, Tree right) {
            this.left = left;
            this.right = right;
        }
    }

    static Tree makeTree(long depth) {
        return depth == 0 ? new Tree(null, null) : new Tree(makeTree(depth - 1), makeTree(depth - 1));
    }

    static long countNodes(Tree tree) {
        return tree.left == null ? 1 : 1 + countNodes(tree.left) + countNodes(tree.right);
    }

    static long nodesOfTree(long depth) {
        return (1L << (depth + 1)) - 1;
    }

    static long treesOf(long d) {
        return 1L << (depth - d + LEAST_TREE);
    }

    static void share(LongConsumer body) {
        Thread[] threads = new Thread[workers];
        for (int i = 1; i < workers; i++) {
            int me = i;
            threads[i] = new Thread(() -> body.accept(me));
            threads[i].start();
        }
        body.accept(0);
        try {
            for (int i = 1; i < workers; i++) threads[i].join();
        } catch (InterruptedException e) {
            giveUp(e.toString());
        }
    }

    static void checkNodes(long seen, long wanted) {
        if (seen != wanted) giveUp("the trees have lost or won nodes");
    }

    static void measureTrees() {
        AtomicLongArray nodes = new AtomicLongArray(64);
        long start = System.nanoTime();
        long stretch = countNodes(makeTree(depth + 1));
        Tree longLived = makeTree(depth);
        share(me -> {
            for (long d = LEAST_TREE; d <= depth; d += 2) {
                long sum = 0;
                for (long i = treesOf(d) * me / workers; i < treesOf(d) * (me + 1) / workers; i++) sum += countNodes(makeTree(d));
                nodes.addAndGet((int) d, sum);
            }
        });
        long last = countNodes(longLived);
        double took = (System.nanoTime() - start) / 1e9;
        checkNodes(stretch, nodesOfTree(depth + 1));
        checkNodes(last, nodesOfTree(depth));
        for (long d = LEAST_TREE; d <= depth; d += 2) checkNodes(nodes.get((int) d), treesOf(d) * nodesOfTree(d));
        double peak = statusBytes("VmHWM:");
        printFigure("seconds", took, "s");
        printFigure("peak", peak / 1e6, "MB");
        printFigure("peak_over_live", peak / TREE_BYTES / Math.max(nodesOfTree(depth + 1), (1 + workers) * nodesOfTree(depth)), "ratio");
    }

    // ---- Gaps: the histogram is that of ../histogram.h

    static final int STEPS_LOG2 = 6, STEPS = 1 << STEPS_LOG2;

    static final class Message {
        final long number, key;

        Message(long number, long key) {
            this.number = number;
            this.key = key;
        }
    }

    static final class Worker {
        final long[] gaps = new long[(64 - STEPS_LOG2 + 1) * STEPS];
        long sum, took, largest;

        void record(long value) {
            int scale = 63 - Long.numberOfLeadingZeros(value | 1) - STEPS_LOG2;
            gaps[value < STEPS ? (int) value : scale * STEPS + (int) (value >>> scale)]++;
        }

        static long keyOf(long i) {
            return i * 2654435761L & 0xffffffffL;
        }

        static void insert(HashMap<Long, Message> map, long number) {
            long key = keyOf(number);
            map.put(key, new Message(number, key));
        }

        void churn(long entries, long operations) {
            HashMap<Long, Message> map = new HashMap<>((int) (2 * entries));
            long n = 0;
            for (; n < entries; n++) insert(map, n);
            long start = System.nanoTime(), last = start;
            for (; n < entries + operations; n++) {
                insert(map, n);
                Message found = map.remove(keyOf(n - entries));
                if (found == null || found.number != n - entries) giveUp("message " + (n - entries) + " is not in the map");
                long now = System.nanoTime(), gap = now - last;
                record(gap);
                largest = Math.max(largest, gap);
                last = now;
            }
            took = last - start;
            for (Message found : map.values()) sum += found.number;
        }
    }

    static double quantile(long[] buckets, double part) {
        long total = 0, seen = 0;
        for (long n : buckets) total += n;
        for (int i = 0; i < buckets.length; i++) {
            seen += buckets[i];
            if (seen == 0 || seen < part * total) continue;
            if (i < STEPS) return i;
            int scale = i / STEPS - 1;
            return ((long) (i - scale * STEPS + 1) << scale) - 1;
        }
        return 0;
    }

    static void measureGaps() {
        long mine = entries / workers, operations = count / workers;
        Worker[] all = new Worker[workers];
        for (int i = 0; i < workers; i++) all[i] = new Worker();
        share(me -> all[(int) me].churn(mine, operations));
        long[] gaps = new long[all[0].gaps.length];
        long largest = 0, took = 0;
        for (Worker w : all) {
            if (w.sum != mine * operations + mine * (mine - 1) / 2) giveUp("the map does not hold what was put into it");
            for (int i = 0; i < gaps.length; i++) gaps[i] += w.gaps[i];
            largest = Math.max(largest, w.largest);
            took += w.took;
        }
        printFigure("gap_max", largest / 1e6, "ms");
        printFigure("gap_p99.9", quantile(gaps, 0.999) / 1e3, "us");
        printFigure("operation", (double) took / (operations * workers), "ns");
    }

    // ---- Burst

    static final int BURST_DEPTH = 16;

    static void makeBurst() {
        Tree[] trees = new Tree[(int) (1e9 / TREE_BYTES / nodesOfTree(BURST_DEPTH)) + 1];
        for (int i = 0; i < trees.length; i++) trees[i] = makeTree(BURST_DEPTH);
        long nodes = 0;
        for (Tree tree : trees) nodes += countNodes(tree);
        checkNodes(nodes, trees.length * nodesOfTree(BURST_DEPTH));
    }

    static void measureBurst() {
        Tree live = makeTree(depth);
        makeBurst();
        try {
            Thread.sleep((long) (1000 * (seconds > 1 ? seconds : 5)));
        } catch (InterruptedException e) {
            giveUp(e.toString());
        }
        double resident = statusBytes("VmRSS:");
        checkNodes(countNodes(live), nodesOfTree(depth));
        printFigure("resident", resident / 1e6, "MB");
        printFigure("burst_peak", statusBytes("VmHWM:") / 1e6, "MB");
        printFigure("over_allowed", resident / (1.3 * TREE_BYTES * nodesOfTree(depth) + 16e6), "ratio");
    }

    // ---- Command line

    static void readOptions(String[] args) {
        for (String arg : args) {
            String value = arg.substring(arg.indexOf('=') + 1);
            if (!arg.startsWith("--")) figure = arg;
            else if (arg.startsWith("--workers=")) workers = Integer.parseInt(value);
            else if (arg.startsWith("--depth=")) depth = Long.parseLong(value);
            else if (arg.startsWith("--entries=")) entries = Long.parseLong(value);
            else if (arg.startsWith("--count=")) count = Long.parseLong(value);
            else if (arg.startsWith("--seconds=")) seconds = Double.parseDouble(value);
            else giveUp("no option " + arg);
        }
        if (depth == 0) depth = figure.equals("burst") ? 20 : 18;
    }

    public static void main(String[] args) {
        readOptions(args);
        switch (figure) {
            case "trees" -> measureTrees();
            case "gaps" -> measureGaps();
            case "burst" -> measureBurst();
            default -> giveUp("unknown figure " + figure);
        }
    }
}
