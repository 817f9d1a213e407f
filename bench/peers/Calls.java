/** The managed side of the JNI peer. */
final class Calls {
    private static final class Cell {
        final int number;
        final Cell next;

        Cell(int number, Cell next) {
            this.number = number;
            this.next = next;
        }
    }

    static int call(int n) {
        return n + 1;
    }

    static int work(int rounds) {
        Cell list = null;
        for (int i = 1; i <= 8; i++) list = new Cell(i, list);
        long x = 0;
        for (; list != null; list = list.next) x += list.number;
        for (int i = 0; i < rounds; i++) x = x * 16807 % 2147483647L;
        return (int) x;
    }

    private Calls() {
    }
}
