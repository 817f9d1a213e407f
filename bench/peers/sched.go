// Go's goroutines: the work and the options of ../sched_capstan.c, whose head says what is printed. A capability is a P
// (GOMAXPROCS), a bound thread a goroutine that has locked its OS thread, an MVar a channel without a buffer. What Go has not:
// unsafe calls of C, threads that stay on one P (so yields are measured on one P only), minor collections.
package main

// #include "next.h"
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

type options struct {
	figure       string
	capabilities int
	seconds      float64
	count        int64
}

func giveUp(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
	os.Exit(1)
}

func printFigure(metric string, value float64, unit string) {
	fmt.Printf("%s\t%.6g\t%s\n", metric, value, unit)
}

// ---- Calls of C

func callSafe(n int64) int64 {
	seen := C.int64_t(0)
	for i := int64(0); i < n; i++ {
		seen = C.nextNumber(seen)
	}
	return int64(seen)
}

func unbound(function func(int64) int64) func(int64) int64 {
	return func(n int64) int64 {
		result := make(chan int64)
		go func() { result <- function(n) }()
		return <-result
	}
}

// ---- Start and finish

const batchOfThreads = 1000

func startThreads(n int64) int64 {
	var running, seen int64
	done := make(chan struct{})
	countDown := func() {
		if atomic.AddInt64(&running, -1) == 0 {
			done <- struct{}{}
		}
	}
	for seen < n {
		batch := n - seen
		if batch > batchOfThreads {
			batch = batchOfThreads
		}
		atomic.StoreInt64(&running, batch)
		for i := int64(0); i < batch; i++ {
			go countDown()
		}
		<-done
		seen += batch - atomic.LoadInt64(&running)
	}
	return seen
}

// ---- Switching

// On one P: turn and arrived need no atomic access.
func switchByYield(n int64) int64 {
	var turn, arrived int64
	done := make(chan int64)
	for me := int64(1); me <= 2; me++ {
		go func(me int64) {
			for arrived++; arrived < 2; {
				runtime.Gosched()
			}
			seen := int64(0)
			for i := int64(0); i < n/2; i++ {
				if turn != me {
					turn = me
					seen++
				}
				runtime.Gosched()
			}
			done <- seen
		}(me)
	}
	return <-done + <-done
}

func serveBalls(there chan<- int64, back <-chan int64, rounds int64) int64 {
	ball := int64(0)
	for i := int64(0); i < rounds; i++ {
		there <- ball
		ball = <-back
	}
	return ball
}

func returnBalls(there <-chan int64, back chan<- int64, rounds int64) {
	for i := int64(0); i < rounds; i++ {
		back <- <-there + 1
	}
}

func switchByChannel(n int64) int64 {
	there, back, done := make(chan int64), make(chan int64), make(chan int64)
	go returnBalls(there, back, n/2)
	go func() { done <- serveBalls(there, back, n/2) }()
	return 2 * <-done
}

// Called on a locked OS thread.
func switchBound(n int64) int64 {
	there, back := make(chan int64), make(chan int64)
	go returnBalls(there, back, n/2)
	return 2 * serveBalls(there, back, n/2)
}

// ---- Batches

func timeBatch(metric string, function func(int64) int64, leastPercent, n int64) float64 {
	start := time.Now()
	seen := function(n)
	took := time.Since(start)
	if seen > n || seen*100 < n*leastPercent {
		giveUp("%s: of %d operations %d happened", metric, n, seen)
	}
	return float64(took.Nanoseconds())
}

func timeBatches(o *options, batch func(int64) float64) float64 {
	n, batches := int64(1000), 0
	for batch(n) < 1e7 {
		n *= 2
	}
	fastest, all := 1e300, 0.0
	for end := time.Now().Add(time.Duration(o.seconds * 1e9)); batches == 0 || time.Now().Before(end); batches++ {
		took := batch(n)
		if took < fastest {
			fastest = took
		}
		all += took
	}
	if o.capabilities == 1 {
		return fastest / float64(n)
	}
	return all / float64(n) / float64(batches)
}

func measure(o *options, metric string, leastPercent int64, function func(int64) int64) {
	batch := func(n int64) float64 { return timeBatch(metric, function, leastPercent, n) }
	if o.count > 0 {
		printFigure(metric, batch(o.count)/float64(o.count), "ns")
		return
	}
	printFigure(metric, timeBatches(o, batch), "ns")
}

func measureCalls(o *options) {
	runtime.LockOSThread()
	measure(o, "safe_call", 100, callSafe)
	runtime.UnlockOSThread()
	measure(o, "safe_call_unbound", 100, unbound(callSafe))
}

func measureSwitch(o *options) {
	if o.capabilities == 1 {
		measure(o, "yield", 90, switchByYield)
	}
	measure(o, "mvar", 100, switchByChannel)
}

func measureBound(o *options) {
	runtime.LockOSThread()
	measure(o, "mvar_bound", 100, switchBound)
	runtime.UnlockOSThread()
}

// ---- Parked threads

var gate, milestone = make(chan struct{}), make(chan struct{})
var parked, released int64

func residentBytes() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		giveUp("%v", err)
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	if err != nil {
		giveUp("%v", err)
	}
	return pages * float64(os.Getpagesize())
}

func park(n int64) {
	if atomic.AddInt64(&parked, 1) == n {
		milestone <- struct{}{}
	}
	<-gate
	if atomic.AddInt64(&released, 1) == n {
		milestone <- struct{}{}
	}
}

func checkParked(n int64) {
	if atomic.LoadInt64(&parked) != n || atomic.LoadInt64(&released) != 0 {
		giveUp("a parked thread did not stay so")
	}
}

func parkAll(n int64) {
	for i := int64(0); i < n; i++ {
		go park(n)
	}
	<-milestone
	checkParked(n)
}

func releaseAll(n int64) {
	checkParked(n)
	for i := int64(0); i < n; i++ {
		gate <- struct{}{}
	}
	<-milestone
	if atomic.LoadInt64(&released) != n {
		giveUp("not every thread passed the gate")
	}
}

func measureParked(n int64) {
	before := residentBytes()
	start := time.Now()
	parkAll(n)
	took := time.Since(start)
	printFigure("resident", (residentBytes()-before)/float64(n), "B")
	printFigure("create", float64(took.Nanoseconds())/1e3/float64(n), "us")
	releaseAll(n)
}

func measureCollections(n int64) {
	before := residentBytes()
	parkAll(n)
	var ms []float64
	for i := 0; i < 5; i++ {
		start := time.Now()
		runtime.GC()
		ms = append(ms, float64(time.Since(start).Nanoseconds())/1e6)
	}
	sort.Float64s(ms)
	printFigure("full", ms[len(ms)/2], "ms")
	printFigure("resident_after", (residentBytes()-before)/float64(n), "B")
	releaseAll(n)
}

// ---- Command line

func readOptions() *options {
	o := &options{capabilities: 1, seconds: 0.3}
	for _, arg := range os.Args[1:] {
		var err error
		switch at := strings.IndexByte(arg, '=') + 1; arg[:at] {
		case "":
			o.figure = arg
		case "--capabilities=":
			o.capabilities, err = strconv.Atoi(arg[at:])
		case "--seconds=":
			o.seconds, err = strconv.ParseFloat(arg[at:], 64)
		case "--count=":
			o.count, err = strconv.ParseInt(arg[at:], 10, 64)
		default:
			giveUp("no option %s", arg)
		}
		if err != nil {
			giveUp("%v", err)
		}
	}
	return o
}

func main() {
	o := readOptions()
	runtime.GOMAXPROCS(o.capabilities)
	threads := o.count
	if threads == 0 {
		threads = 1000000
	}
	switch o.figure {
	case "calls":
		measureCalls(o)
	case "threads":
		measure(o, "start_finish", 100, startThreads)
	case "switch":
		measureSwitch(o)
	case "bound":
		measureBound(o)
	case "parked":
		measureParked(threads)
	case "collect":
		measureCollections(threads)
	default:
		giveUp("unknown figure")
	}
}
