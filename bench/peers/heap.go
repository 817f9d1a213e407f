// Go's heap: the work and the options of ../heap_capstan.c, whose head says what is printed. Workers are goroutines; the collector is left
// as it comes (GOMAXPROCS is the number of processors), but for the figure `major`, where --workers is GOMAXPROCS. No figures for operations and stable.
package main

import (
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type options struct {
	figure                         string
	workers, depth, entries, count int64
	seconds                        float64
}

func giveUp(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
	os.Exit(1)
}

func printFigure(metric string, value float64, unit string) {
	fmt.Printf("%s\t%.6g\t%s\n", metric, value, unit)
}

func statusBytes(name string) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		giveUp("%v", err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, name) {
			kilobytes, err := strconv.ParseFloat(strings.Fields(line)[1], 64)
			if err != nil {
				giveUp("%v", err)
			}
			return kilobytes * 1024
		}
	}
	giveUp("no %s in /proc/self/status", name)
	return 0
}

// ---- Trees

const treeBytes = 16

type tree struct{ left, right *tree }

func makeTree(depth int64) *tree {
	if depth == 0 {
		return &tree{}
	}
	return &tree{makeTree(depth - 1), makeTree(depth - 1)}
}

func countNodes(t *tree) int64 {
	if t.left == nil {
		return 1
	}
	return 1 + countNodes(t.left) + countNodes(t.right)
}

func nodesOfTree(depth int64) int64 { return int64(1)<<(depth+1) - 1 }

func share(workers int64, body func(me int64)) {
	var all sync.WaitGroup
	for me := int64(1); me < workers; me++ {
		all.Add(1)
		go func(me int64) {
			body(me)
			all.Done()
		}(me)
	}
	body(0)
	all.Wait()
}

const leastTree = 4

func measureTrees(o *options) {
	var nodes [64]int64
	treesOf := func(d int64) int64 { return int64(1) << (o.depth - d + leastTree) }
	start := time.Now()
	stretch := countNodes(makeTree(o.depth + 1))
	longLived := makeTree(o.depth)
	share(o.workers, func(me int64) {
		for d := int64(leastTree); d <= o.depth; d += 2 {
			sum := int64(0)
			for i := treesOf(d) * me / o.workers; i < treesOf(d)*(me+1)/o.workers; i++ {
				sum += countNodes(makeTree(d))
			}
			atomic.AddInt64(&nodes[d], sum)
		}
	})
	last := countNodes(longLived)
	took := time.Since(start).Seconds()
	right := stretch == nodesOfTree(o.depth+1) && last == nodesOfTree(o.depth)
	for d := int64(leastTree); d <= o.depth; d += 2 {
		right = right && nodes[d] == treesOf(d)*nodesOfTree(d)
	}
	if !right {
		giveUp("the trees have lost or won nodes")
	}
	printFigure("seconds", took, "s")
	printPeak(o)
}

func printPeak(o *options) {
	alive := nodesOfTree(o.depth + 1)
	if late := (1 + o.workers) * nodesOfTree(o.depth); late > alive {
		alive = late
	}
	peak := statusBytes("VmHWM:")
	printFigure("peak", peak/1e6, "MB")
	printFigure("peak_over_live", peak/float64(alive*treeBytes), "ratio")
}

// ---- Gaps: the histogram is that of ../histogram.h

const stepsLog2 = 6
const steps = 1 << stepsLog2

type histogram struct {
	buckets [(64 - stepsLog2 + 1) * steps]int64
}

func (h *histogram) record(value uint64) {
	if value < steps {
		h.buckets[value]++
		return
	}
	scale := uint64(bits.Len64(value)) - 1 - stepsLog2
	h.buckets[scale*steps+value>>scale]++
}

func (h *histogram) quantile(part float64) float64 {
	total, seen := int64(0), int64(0)
	for _, n := range h.buckets {
		total += n
	}
	for i, n := range h.buckets {
		seen += n
		if seen > 0 && float64(seen) >= part*float64(total) {
			if i < steps {
				return float64(i)
			}
			scale := uint(i/steps - 1)
			return float64(((i-int(scale)*steps)+1)<<scale - 1)
		}
	}
	return 0
}

type message struct{ number, key int64 }

type worker struct {
	sum           int64
	took, largest time.Duration
	gaps          histogram
}

func keyOf(i int64) int64 { return int64(uint64(i) * 2654435761 & 0xffffffff) }

func insert(m map[int64]*message, number int64) {
	key := keyOf(number)
	m[key] = &message{number, key}
}

func (w *worker) churn(entries, operations int64) {
	m := make(map[int64]*message, entries)
	n := int64(0)
	for ; n < entries; n++ {
		insert(m, n)
	}
	start := time.Now()
	last := time.Duration(0)
	for ; n < entries+operations; n++ {
		insert(m, n)
		old := keyOf(n - entries)
		found := m[old]
		if found == nil || found.number != n-entries {
			giveUp("message %d is not in the map", n-entries)
		}
		delete(m, old)
		now := time.Since(start)
		gap := now - last
		w.gaps.record(uint64(gap))
		if gap > w.largest {
			w.largest = gap
		}
		last = now
	}
	w.took = last
	for _, found := range m {
		w.sum += found.number
	}
}

func measureGaps(o *options) {
	entries, operations := o.entries/o.workers, o.count/o.workers
	workers := make([]worker, o.workers)
	share(o.workers, func(me int64) { workers[me].churn(entries, operations) })
	var all histogram
	var largest, took time.Duration
	for i := range workers {
		w := &workers[i]
		if w.sum != entries*operations+entries*(entries-1)/2 {
			giveUp("the map does not hold what was put into it")
		}
		for j, n := range w.gaps.buckets {
			all.buckets[j] += n
		}
		if w.largest > largest {
			largest = w.largest
		}
		took += w.took
	}
	printFigure("gap_max", float64(largest)/1e6, "ms")
	printFigure("gap_p99.9", all.quantile(0.999)/1e3, "us")
	printFigure("operation", float64(took)/float64(operations*o.workers), "ns")
}

// ---- Major collections, bursts

func checkNodes(seen, wanted int64) {
	if seen != wanted {
		giveUp("the trees have lost or won nodes")
	}
}

func measureMajor(o *options) {
	runtime.GOMAXPROCS(int(o.workers))
	live := makeTree(o.depth)
	runtime.GC()
	var ms []float64
	for i := 0; i < 7; i++ {
		start := time.Now()
		runtime.GC()
		ms = append(ms, float64(time.Since(start).Nanoseconds())/1e6)
	}
	sort.Float64s(ms)
	checkNodes(countNodes(live), nodesOfTree(o.depth))
	printFigure("major", ms[len(ms)/2], "ms")
}

//go:noinline
func makeBurst() {
	const depth = 16
	trees := make([]*tree, int(1e9/treeBytes/float64(nodesOfTree(depth)))+1)
	for i := range trees {
		trees[i] = makeTree(depth)
	}
	nodes := int64(0)
	for _, t := range trees {
		nodes += countNodes(t)
	}
	checkNodes(nodes, int64(len(trees))*nodesOfTree(depth))
}

func measureBurst(o *options) {
	live := makeTree(o.depth)
	makeBurst()
	seconds := o.seconds
	if seconds <= 1 {
		seconds = 5
	}
	time.Sleep(time.Duration(seconds * 1e9))
	resident := statusBytes("VmRSS:")
	checkNodes(countNodes(live), nodesOfTree(o.depth))
	printFigure("resident", resident/1e6, "MB")
	printFigure("burst_peak", statusBytes("VmHWM:")/1e6, "MB")
	printFigure("over_allowed", resident/(1.3*float64(nodesOfTree(o.depth)*treeBytes)+16e6), "ratio")
}

// ---- Command line

func readOptions() *options {
	o := &options{workers: 1, entries: 1000000, count: 2000000, seconds: 0.3}
	for _, arg := range os.Args[1:] {
		var err error
		switch at := strings.IndexByte(arg, '=') + 1; arg[:at] {
		case "":
			o.figure = arg
		case "--workers=":
			o.workers, err = strconv.ParseInt(arg[at:], 10, 64)
		case "--depth=":
			o.depth, err = strconv.ParseInt(arg[at:], 10, 64)
		case "--entries=":
			o.entries, err = strconv.ParseInt(arg[at:], 10, 64)
		case "--count=":
			o.count, err = strconv.ParseInt(arg[at:], 10, 64)
		case "--seconds=":
			o.seconds, err = strconv.ParseFloat(arg[at:], 64)
		default:
			giveUp("no option %s", arg)
		}
		if err != nil {
			giveUp("%v", err)
		}
	}
	if o.depth == 0 {
		o.depth = map[string]int64{"trees": 18, "major": 22, "burst": 20}[o.figure]
	}
	return o
}

func main() {
	o := readOptions()
	switch o.figure {
	case "trees":
		measureTrees(o)
	case "gaps":
		measureGaps(o)
	case "major":
		measureMajor(o)
	case "burst":
		measureBurst(o)
	default:
		giveUp("unknown figure %s", o.figure)
	}
}
