/*
 * capstan.hpp: values there and back, errors, roots, budgets, callables as managed functions, submissions, and who leaves sideways.
 * tests/hpp_test.sh compiles it by each C++ compiler; it prints its cases as cmocka does.
 */
#include <capstan.hpp>

#include "hpp_managed.h"

#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <set>
#include <thread>

using namespace std::chrono_literals;

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HPP_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define HPP_ASAN 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define HPP_TSAN 1
#endif
#ifdef __SANITIZE_ADDRESS__
#define HPP_ASAN 1
#endif

static int failures;

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            failures++;                                                                  \
            std::printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);         \
        }                                                                                \
    } while (0)

template <class E, class F> static bool throws(F f)
{
    try {
        f();
    } catch (const E &) {
        return true;
    }
    return false;
}

static std::size_t stablePointers()
{
    RtsCounts counts;
    rts_getCounts(&counts);
    return counts.stable_ptrs;
}

/* ---- Values ---- */

template <class T> static bool comesBack(T v)
{
    auto back = capstan::call<T>(&hppSame_closure, v);
    return back && back.value() == v;
}

template <class T> static bool limitsComeBack()
{
    using Limits = std::numeric_limits<T>;
    return comesBack<T>(Limits::min()) && comesBack<T>(Limits::max()) && comesBack<T>(T(0)) && comesBack<T>(T(1)) &&
           comesBack<T>(Limits::lowest());
}

enum class Colour : unsigned char { red = 1, green = 200 };

static int someFunction(int n) { return n + 1; }

static void test_values()
{
    CHECK(limitsComeBack<signed char>() && limitsComeBack<unsigned char>() && limitsComeBack<char>());
    CHECK(limitsComeBack<short>() && limitsComeBack<unsigned short>() && limitsComeBack<int>() && limitsComeBack<unsigned>());
    CHECK(limitsComeBack<long>() && limitsComeBack<unsigned long>() && limitsComeBack<long long>() && limitsComeBack<unsigned long long>());
    CHECK(limitsComeBack<float>() && limitsComeBack<double>());
    CHECK(comesBack<std::uint64_t>(std::uint64_t(1) << 62) && comesBack<std::int64_t>(-(std::int64_t(1) << 62) - 1));
    CHECK(comesBack(true) && comesBack(false) && comesBack(U'\U0001F600') && comesBack(Colour::green));
    int here = 0;
    CHECK(comesBack(&here) && comesBack<void *>(nullptr) && comesBack<const char *>("text"));
    auto function = capstan::call<int (*)(int)>(&hppSame_closure, &someFunction);
    CHECK(function && function.value()(41) == 42);
    CHECK(comesBack(std::string()) && comesBack(std::string("with\0zero", 9)) && comesBack(std::string(100000, 'x')));
    CHECK(comesBack(std::vector<std::byte>{ std::byte{ 1 }, std::byte{ 255 } }) && comesBack(std::vector<unsigned char>{}));
    CHECK(capstan::call<std::string>(&hppSame_closure, "literal").value() == "literal");
    CHECK(capstan::call<std::string>(&hppSame_closure, std::string_view("a view")).value() == "a view");
    CHECK(capstan::call<std::string>(&hppSame_closure, capstan::byte_span{ "span\0s", 6 }).value() == std::string("span\0s", 6));
    CHECK(capstan::call<std::monostate>(&hppSame_closure, std::monostate()).has_value());
    CHECK(capstan::call<double>(&hppSame_closure, 1.5F).value() == 1.5);
    CHECK(capstan::call<int>(&hppAdd_closure, 40, 2).value() == 42);
    capstan::in_call in;
    CHECK(in.eval<int>(&hppSquare_closure, 12).value() == 144);
}

template <class R, class T> static bool isWrong(const T &v)
{
    auto r = capstan::call<R>(&hppSame_closure, v);
    return !r && r.error().status == Success && r.error().code == RTS_WRONG_KIND && !r.error().message.empty();
}

static void test_wrong_values()
{
    CHECK((isWrong<signed char>(128) && isWrong<signed char>(-129) && isWrong<unsigned char>(-1) && isWrong<unsigned char>(256)));
    CHECK((isWrong<int>(std::int64_t(1) << 31) && isWrong<unsigned>(-1) && isWrong<std::int64_t>(std::uint64_t(1) << 63)));
    CHECK((isWrong<std::uint64_t>(std::numeric_limits<std::int64_t>::min())));
    CHECK((isWrong<int>("text") && isWrong<std::string>(1) && isWrong<bool>(1) && isWrong<int>(true) && isWrong<float>(1.0)));
    CHECK((isWrong<double>(1) && isWrong<int>(1.0) && isWrong<void *>(0) && isWrong<char32_t>(65) && isWrong<std::monostate>(0)));
    CHECK(throws<capstan::call_error>([] { capstan::call<int>(&hppSame_closure, "text").value(); }));
    /* What is asked for as nothing may be anything. */
    CHECK(capstan::call(&hppSame_closure, "text").has_value());
}

/* ---- Errors ---- */

static void test_errors()
{
    auto failed = capstan::call<int>(&hppFail_closure, "it went wrong");
    CHECK(!failed && failed.error().status == Killed && failed.error().code == RTS_OK);
    CHECK(failed.error().exception_class == "ErrorCall" && failed.error().message == "it went wrong" && !failed.error().exception);
    std::string longText(5000, 'y');
    CHECK(capstan::call<int>(&hppFail_closure, longText).error().message == longText);
    CHECK(capstan::call(&hppFail_closure, "").error().message.empty());
    CHECK(capstan::call(&hppTrouble_closure, 7).error().exception_class == "HppTrouble");
    CHECK(capstan::call(&hppThrow_closure, 7).error().message == "7");
    CHECK(std::move(failed).value_or(5) == 5);
    try {
        capstan::call(&hppFail_closure, "thrown").value();
        CHECK(!"here");
    } catch (const capstan::call_error &e) {
        CHECK(std::string(e.what()) == "ErrorCall: thrown" && e.error().status == Killed);
    }
    /* Thrown inside an in-call it ends that as it should. */
    CHECK(throws<capstan::call_error>([] {
        capstan::in_call in;
        capstan::root list(in, in.call<HaskellObj>(&hppList_closure, 10).value());
        in.call(&hppFail_closure, "inside").value();
    }));
    CHECK(capstan::call<int>(&hppAdd_closure, 1, 1).value() == 2);
}

static void test_kept_exception()
{
    std::size_t before = stablePointers();
    {
        capstan::options keep;
        keep.keep_exception = true;
        auto failed = capstan::call(keep, &hppTrouble_closure, 99);
        CHECK(failed.error().exception && stablePointers() == before + 1);
        auto copy = failed;
        capstan::in_call in;
        in.call(&hppCollect_closure).value();
        CHECK(in.call<int>(&hppCodeOf_closure, *copy.error().exception).value() == 99);
    }
    CHECK(stablePointers() == before);
}

static void test_no_runtime()
{
    auto refused = capstan::call<int>(&hppAdd_closure, 1, 2);
    CHECK(!refused && refused.error().status == Refused && refused.error().code == RTS_NOT_STARTED && !refused.error().message.empty());
    capstan::in_call in;
    CHECK(!in && in.refusal() == RTS_NOT_STARTED);
    capstan::root nothing(in, in.make(1));
    capstan::stable none(in, nothing);
    CHECK(!none && none.object() == CAPSTAN_POISON);
    CHECK(capstan::make_function(in, [] { return 1; }) == CAPSTAN_POISON);
    in.poll();
    CHECK(capstan::submit<int>(&hppAdd_closure, 1, 2).get().error().code == RTS_NOT_STARTED);
    RtsConfig bad = capstan::config();
    bad.rts_opts = "-Z";
    try {
        capstan::runtime wrong(bad);
        CHECK(!"started");
    } catch (const capstan::call_error &e) {
        CHECK(e.error().code == RTS_BAD_OPTION && !e.error().message.empty());
    }
}

/* ---- Roots, stable pointers ---- */

static void test_roots()
{
    capstan::in_call in;
    capstan::root list(in, in.call<HaskellObj>(&hppList_closure, 1000).value());
    {
        capstan::root other(in, in.make("another"));
        in.call(&hppCollect_closure).value();
        CHECK(in.call<std::string>(&hppSame_closure, other).value() == "another");
        other = in.make("changed");
        in.call(&hppCollect_closure).value();
        CHECK(capstan::marshal<std::string>::read(other) == "changed");
    }
    CHECK(throws<std::runtime_error>([&] {
        capstan::root third(in, in.make(3));
        throw std::runtime_error("through a root");
    }));
    in.call(&hppCollect_closure).value();
    CHECK(in.call<int>(&hppCheck_closure, list).value() == 500500);
}

static void test_stable()
{
    std::size_t before = stablePointers();
    {
        capstan::stable list = capstan::call<capstan::stable>(&hppList_closure, 100).value();
        CHECK(list && stablePointers() == before + 1);
        hs_perform_gc();
        capstan::stable moved = std::move(list);
        CHECK(!list && moved && stablePointers() == before + 1); // NOLINT: moved from on purpose
        CHECK(capstan::call<int>(&hppCheck_closure, moved).value() == 5050);
        std::swap(list, moved);
        CHECK(list && !moved);
        list = capstan::call<capstan::stable>(&hppList_closure, 10).value();
        CHECK(stablePointers() == before + 1 && capstan::call<int>(&hppCheck_closure, list).value() == 55);
        std::thread elsewhere([kept = std::move(list)] { CHECK(capstan::call<int>(&hppCheck_closure, kept).value() == 55); });
        elsewhere.join();
    }
    CHECK(stablePointers() == before);
}

/* ---- Budgets ---- */

static void test_budgets()
{
    capstan::options soon;
    soon.deadline = 30ms;
    auto late = capstan::call(soon, &hppEndless_closure);
    /* On a busy machine a time so short may be up before the call begins. */
    for (; late.error().code == RTS_TIMED_OUT; late = capstan::call(soon, &hppEndless_closure)) *soon.deadline *= 2;
    CHECK(late.error().status == TimedOut && late.error().exception_class == "TimedOut" && late.error().message == "timed out");
    capstan::options little;
    little.alloc_limit_bytes = 1 << 20;
    CHECK(capstan::call(little, &hppGreedy_closure).error().status == LimitExceeded);
    soon.deadline = 0us;
    CHECK(capstan::call(soon, &hppEndless_closure).error().code == RTS_TIMED_OUT);

    capstan::canceller stop;
    CHECK(!stop.has_begun() && !stop.cancel());
    std::thread canceller([&] {
        while (!stop.has_begun()) std::this_thread::yield();
        std::this_thread::sleep_for(20ms);
        CHECK(stop.cancel());
    });
    capstan::options stoppable;
    stoppable.canceller = &stop;
    CHECK(capstan::call(stoppable, &hppEndless_closure).error().status == Cancelled);
    canceller.join();
    CHECK(!stop.cancel());
}

static void test_no_wait()
{
    std::vector<std::unique_ptr<capstan::in_call>> all;
    std::atomic<unsigned> held{ 0 };
    std::atomic<bool> done{ false };
    std::vector<std::thread> holders;
    for (unsigned i = 0; i < getNumCapabilities(); i++)
        holders.emplace_back([&] {
            capstan::in_call in;
            held++;
            while (!done) std::this_thread::sleep_for(1ms);
        });
    while (held != getNumCapabilities()) std::this_thread::yield();
    capstan::options now;
    now.no_wait = true;
    auto busy = capstan::call<int>(now, &hppAdd_closure, 1, 2);
    CHECK(!busy && busy.error().status == Refused && busy.error().code == RTS_BUSY);
    done = true;
    for (auto &h : holders) h.join();
    capstan::in_call outer;
    capstan::in_call inner; /* the thread has one already */
    CHECK(!inner && inner.refusal() == RTS_HOLDS_CAPABILITY);
}

/* ---- Callables ---- */

/* Counts how many of it there are. */
struct Counted {
    static std::atomic<int> alive;
    int n = 0;
    Counted(int i = 0) : n(i) { alive++; }
    Counted(const Counted &other) : n(other.n) { alive++; }
    Counted &operator=(const Counted &) = default;
    ~Counted() { alive--; }
};
std::atomic<int> Counted::alive{ 0 };

template <> struct capstan::marshal<Counted> {
    static HaskellObj make(Capability *cap, const Counted &v) { return rts_mkInt(cap, v.n); }
    static std::optional<Counted> read(HaskellObj v)
    {
        auto n = marshal<int>::read(v);
        return n ? std::optional<Counted>(*n) : std::nullopt;
    }
};

static void test_functions()
{
    int calls = 0;
    {
        capstan::in_call in;
        capstan::root add3(in, capstan::make_function(in, [&calls, three = Counted(3)](int n) { return calls++, n + three.n; }));
        CHECK(in.call<int>(add3, 4).value() == 7);
        CHECK(in.call<int>(&hppTwice_closure, add3, 1).value() == 7 && calls == 3);
        capstan::root greet(in, capstan::make_function(
                                    in, [](const std::string &who, double x, bool b) { return who + std::to_string(x) + (b ? "!" : "?"); },
                                    capstan::calling::unsafe));
        CHECK(in.call<std::string>(greet, "pi ", 3.0, true).value() == "pi 3.000000!");
        capstan::root nothing(in, capstan::make_function(in, [owned = std::make_unique<int>(5), &calls] { calls = *owned; }));
        CHECK(in.call(nothing).has_value() && calls == 5);
        capstan::root generic(in, capstan::make_function<long(long)>(in, [](auto n) { return n * 2; }));
        CHECK(in.call<long>(generic, 21).value() == 42);
        capstan::root plain(in, capstan::make_function(in, someFunction));
        CHECK(in.call<int>(plain, 1).value() == 2);
        auto few = in.call<capstan::stable>(greet, "partial"); /* a partial application, run: it is no action yet */
        CHECK(Counted::alive == 1);
    }
    hs_perform_gc();
    hs_perform_gc();
    CHECK(Counted::alive == 0);
}

static std::string errorOf(capstan::in_call &in, HaskellObj f, HaskellObj argument)
{
    auto r = in.call(f, argument);
    return r ? "none" : r.error().exception_class + "|" + r.error().message;
}

static void test_thrown()
{
    for (auto how : { capstan::calling::safe, capstan::calling::unsafe }) {
        capstan::in_call in;
        capstan::root f(in, capstan::make_function(
                                in,
                                [](Counted kind, const Counted &) -> Counted {
                                    Counted local(1);
                                    if (kind.n == 0) throw std::out_of_range("too far");
                                    if (kind.n == 1) throw 7;
                                    return Counted(kind.n + local.n);
                                },
                                how));
        capstan::root one(in, in.make(1));
        auto with = [&](int kind) { return errorOf(in, in.apply(f, kind), one); };
        CHECK(with(0) == "ErrorCall|std::out_of_range: too far");
        CHECK(with(1) == "ErrorCall|int");
        CHECK(with(2) == "none");
        /* Arguments of another type; and one whose evaluation raises. */
        CHECK(errorOf(in, in.apply(f, "text"), one).find("argument 1 of a C++ function") != std::string::npos);
        CHECK(errorOf(in, in.apply(f, 2), in.make(1.5)).find("argument 2 of a C++ function") != std::string::npos);
        CHECK(errorOf(in, in.apply(f, 2), in.apply(&hppBottom_closure, 5)) == "Int|5");
        CHECK(Counted::alive == 0);
        /* Managed code catches it. */
        capstan::root thrower(in, capstan::make_function(in, []() -> std::string { throw std::logic_error("caught by managed code"); }, how));
        CHECK(in.call<std::string>(&hppRescue_closure, thrower).value() == "std::logic_error: caught by managed code");
    }
}

/* C++, managed, C++, managed: the same exception comes out. */
static void test_through()
{
    for (bool keep : { true, false }) {
        std::size_t before = stablePointers();
        {
            capstan::options o;
            o.keep_exception = keep;
            capstan::in_call in(o);
            capstan::root f(in, capstan::make_function(in, [o](int code) { capstan::call(o, &hppTrouble_closure, code).value(); }));
            auto r = in.call(f, 17);
            CHECK(!r && r.error().exception_class == (keep ? "HppTrouble" : "ErrorCall"));
            CHECK(r.error().message == (keep ? "HppTrouble" : "HppTrouble: HppTrouble"));
            if (keep) CHECK(in.call<int>(&hppCodeOf_closure, *r.error().exception).value() == 17);
        }
        CHECK(stablePointers() == before);
    }
}

static void test_calling_in()
{
    capstan::in_call in;
    capstan::root safe(in, capstan::make_function(in, [](int n) { return capstan::call<int>(&hppAdd_closure, n, 1).value(); }));
    CHECK(in.call<int>(safe, 1).value() == 2);
    capstan::root unsafe(in, capstan::make_function(
                                 in, [](int n) { return int(capstan::call<int>(&hppAdd_closure, n, 1).error().code); }, capstan::calling::unsafe));
    CHECK(in.call<int>(unsafe, 1).value() == int(RTS_HOLDS_CAPABILITY));
    /* 100 levels, each an in-call in a safe call. */
    capstan::stable self;
    capstan::root down(in, capstan::make_function(in, [&self](int n) { return n == 0 ? 0 : capstan::call<int>(self, n - 1).value() + 1; }));
    self = capstan::stable(in, down);
    CHECK(in.call<int>(down, 100).value() == 100);
}

static void test_function_threads()
{
    enum { THREADS = 8 };
    const char *scale = std::getenv("CAPSTAN_TEST_SCALE");
    const long CALLS = scale != nullptr && std::string(scale) == "short" ? 100 : 2000;
    std::atomic<long> sum{ 0 };
    capstan::stable f;
    {
        capstan::in_call in;
        f = capstan::stable(in, capstan::make_function(in, [&sum, c = Counted(1)](std::string s, long n) { sum += n + long(s.size()) - 3; return s; }));
    }
    capstan::function<std::string(std::string, long)> typed(std::move(f));
    std::vector<std::thread> threads;
    for (int t = 0; t < THREADS; t++)
        threads.emplace_back([&] {
            for (long i = 1; i <= CALLS; i++)
                if (typed("abc", i).value() != "abc") sum = -1;
        });
    for (auto &t : threads) t.join();
    CHECK(sum == THREADS * CALLS * (CALLS + 1) / 2);
}

/* A deadline that passes while the callable runs: what it returned is destroyed though nobody gets it.  false: the deadline came later. */
static bool returnsTooLate(std::chrono::milliseconds takes)
{
    capstan::options soon;
    soon.deadline = 20ms;
    capstan::in_call in(soon);
    capstan::root f(in, capstan::make_function(in, [takes](Counted c) {
        std::this_thread::sleep_for(takes);
        return Counted(c.n);
    }));
    auto late = in.call<int>(f, 1);
    CHECK(Counted::alive == 0);
    if (late || late.error().code == RTS_TIMED_OUT) return false;
    CHECK(late.error().status == TimedOut);
    /* The next one finds the exception before it is called. */
    CHECK(in.call<int>(f, 1).error().status == TimedOut && Counted::alive == 0);
    return true;
}

static void test_late_callable()
{
    auto takes = 60ms;
    /* On a busy machine the runtime's clock is late itself, or the time is up before the call begins. */
    while (!returnsTooLate(takes) && takes < 10s) takes *= 2;
    CHECK(takes < 10s);
    CHECK(capstan::call<int>(&hppAdd_closure, 1, 1).value() == 2);
}

/* ---- Adjustors ---- */

static std::atomic<int> statuses{ 0 };

static void onStatus(void *, const char *, Capability *, SchedulerStatus, const char *) { statuses++; }

static void test_adjustors()
{
    std::size_t before = stablePointers();
    {
        std::optional<capstan::in_call> in(std::in_place);
        capstan::adjustor<long(long, long)> add(*in, &hppAdd_closure);
        capstan::adjustor<int(const void *, const void *)> compare(*in, [calls = 0](const void *a, const void *b) mutable {
            calls++;
            return *static_cast<const int *>(a) - *static_cast<const int *>(b);
        });
        capstan::adjustor<bool(bool, Colour, float, double, std::uint8_t, std::int16_t, char32_t, int *)> mixed(
            *in, [](bool b, Colour c, float f, double d, std::uint8_t u, std::int16_t s, char32_t, int *p) {
                return b && c == Colour::green && f == 1.5F && d == -2.5 && u == 250 && s == -300 && *p == 5;
            });
        capstan::root f(*in, capstan::make_function(*in, [](double x) { return x / 2; }));
        capstan::adjustor<double(double)> half(*in, f);
        capstan::adjustor<double(double)> moved(std::move(half));
        CHECK(add && compare && mixed && moved && !half); // NOLINT: moved from on purpose
        in->call(&hppCollect_closure).value();
        in.reset();
        CHECK(add.get()(40, 2) == 42 && moved.get()(5) == 2.5);
        int five = 5, numbers[] = { 3, 1, 2, 9, -7, 4 };
        CHECK(!mixed.get()(false, Colour::green, 1.5F, -2.5, 250, -300, U'x', &five));
        std::qsort(numbers, 6, sizeof *numbers, compare.get());
        CHECK(numbers[0] == -7 && numbers[2] == 2 && numbers[5] == 9);
        std::atomic<int> wrong{ 0 };
        std::vector<std::thread> threads;
        for (long t = 0; t < 8; t++)
            threads.emplace_back([&, t] {
                for (long i = 0; i < 500; i++) wrong += add.get()(t, i) != t + i;
            });
        for (auto &t : threads) t.join();
        CHECK(wrong == 0);
    }
    CHECK(stablePointers() == before);
}

static void test_adjustor_errors()
{
    std::optional<capstan::in_call> in(std::in_place);
    std::string heard;
    auto on_error = [&heard, held = Counted(1)](const capstan::error &e) {
        heard = e.exception_class + "|" + e.message;
        return capstan::call<int>(&hppAdd_closure, 1, -held.n - 1).value(); /* holds no capability here */
    };
    capstan::adjustor<int(int)> told(
        *in, [](int n) { return n == 0 ? throw std::domain_error("zero") : n; }, on_error);
    capstan::adjustor<int(int)> other(*in, &hppList_closure, on_error);
    capstan::adjustor<int(int)> untold(*in, &hppList_closure);
    capstan::adjustor<void(int)> thrown(*in, &hppTrouble_closure);
    in.reset();
    CHECK(told.get()(3) == 3 && heard.empty());
    CHECK(told.get()(0) == -1 && heard == "ErrorCall|std::domain_error: zero");
    CHECK(other.get()(3) == -1 && heard.find("another type") != std::string::npos);
    statuses = 0;
    CHECK(untold.get()(3) == 0 && statuses == 1);
    thrown.get()(3);
    CHECK(statuses == 2);
}

/* ---- Submissions ---- */

static void test_submit()
{
    std::size_t before = stablePointers();
    {
        auto sum = capstan::submit<int>(&hppAdd_closure, 40, 2);
        CHECK(sum.get().value() == 42);
        CHECK(capstan::submit<std::string>(&hppSame_closure, "a string").get().value() == "a string");
        CHECK(capstan::submit<std::string>(&hppSame_closure, std::string(10000, 'z')).get().value().size() == 10000);
        CHECK(capstan::submit<bool>(&hppSame_closure, true).get().value());
        CHECK(capstan::submit<double>(&hppSame_closure, 2.5).get().value() == 2.5 && capstan::submit<float>(&hppSame_closure, 2.5F).get().error().code == RTS_WRONG_KIND);
        CHECK(capstan::submit<std::uint64_t>(&hppSame_closure, ~std::uint64_t(0)).get().value() == ~std::uint64_t(0));
        CHECK(capstan::submit<std::int64_t>(&hppSame_closure, std::numeric_limits<std::int64_t>::min()).get().value() == std::numeric_limits<std::int64_t>::min());
        int here = 0;
        CHECK(capstan::submit<int *>(&hppSame_closure, &here).get().value() == &here);
        CHECK(capstan::submit<int>(&hppSame_closure, "text").get().error().code == RTS_WRONG_KIND);
        CHECK(capstan::submit(&hppFail_closure, "submitted").get().error().message == "submitted");
        auto endless = capstan::submit(&hppEndless_closure);
        CHECK(endless.future().wait_for(20ms) == std::future_status::timeout);
        CHECK(endless.cancel() && endless.get().error().status == Cancelled && !endless.cancel());
        capstan::options soon;
        soon.deadline = 20ms;
        CHECK(capstan::submit(soon, &hppEndless_closure).get().error().status == TimedOut);
        capstan::stable list = capstan::submit<capstan::stable>(&hppList_closure, 10).get().value();
        CHECK(capstan::submit<int>(&hppCheck_closure, list).get().value() == 55);
        capstan::stable made;
        {
            capstan::in_call in;
            made = capstan::stable(in, capstan::make_function(in, [](int n) { return n + 1; }));
        }
        auto pending = capstan::submit<int>(made, 1);
        made.reset(); /* the submission has one of its own */
        CHECK(pending.get().value() == 2);
        std::promise<int> told;
        RtsStatus status = capstan::submit_then<int>([&told](capstan::result<int> r) { told.set_value(r.value()); }, capstan::options(), &hppAdd_closure, 5, 6);
        CHECK(status == RTS_OK && told.get_future().get() == 11);
    }
    CHECK(stablePointers() == before);
}

/* ---- Leaving sideways ---- */

static std::atomic<int> leftOver;

struct NoteLeft {
    ~NoteLeft() { leftOver++; }
};

static void *exitHere(void *) { pthread_exit(nullptr); }

static void *leaveThread(void *how)
{
    NoteLeft outer;
    capstan::in_call in;
    capstan::root list(in, in.call<HaskellObj>(&hppList_closure, 10).value());
    if (how == nullptr) {
        capstan::root f(in, capstan::make_function(in, [](Counted) {
            NoteLeft inner;
            pthread_exit(nullptr);
        }));
        (void)in.call(f, 1);
    } else {
        (void)in.call(&hppSafely_closure, &exitHere, static_cast<void *>(nullptr));
    }
    return how;
}

static void test_pthread_exit()
{
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        void *result = &thread;
        leftOver = 0;
        CHECK(pthread_create(&thread, nullptr, leaveThread, i % 2 == 0 ? nullptr : &thread) == 0);
        CHECK(pthread_join(thread, &result) == 0 && result == nullptr);
        CHECK(leftOver == (i % 2 == 0 ? 2 : 1) && Counted::alive == 0);
        hs_perform_gc();
        CHECK(capstan::call<int>(&hppAdd_closure, 1, 1).value() == 2);
    }
}

/* What must not be: an exception goes through managed code.  Its in-calls are ended, and the host is told; what they held goes on working. */
static void *throwHere(void *) { throw std::runtime_error("through managed code"); }

static std::set<RtsStatus> errors;

static void test_crossing()
{
    capstan::stable list = capstan::call<capstan::stable>(&hppList_closure, 10).value();
    for (HaskellObj how : { &hppPlainly_closure, &hppSafely_closure }) {
        bool reached = false;
        try {
            capstan::in_call in;
            capstan::root kept(in, in.make("kept"));
            (void)in.call(how, &throwHere, static_cast<void *>(nullptr));
        } catch (const std::runtime_error &e) {
            reached = std::string(e.what()) == "through managed code";
        }
        CHECK(reached && errors == std::set<RtsStatus>{ RTS_LEFT_SIDEWAYS });
        errors.clear();
        hs_perform_gc();
        CHECK(capstan::call<int>(&hppCheck_closure, list).value() == 55);
    }
}

/* ---- Which tests ---- */

static void onError(void *errors, RtsStatus status, const char *) { static_cast<std::set<RtsStatus> *>(errors)->insert(status); }

struct Test {
    const char *name;
    void (*run)();
    bool started;
};

static void runTest(const Test &test)
{
    RtsConfig config = capstan::config();
    config.capabilities = 2;
    config.nursery_bytes = 256 << 10;
    config.idle_collection_us = 1000000000; /* hs_perform_gc, and nobody else, is to call finalizers */
    config.verify_heap = config.poison_from_space = true;
    config.statusHook = onStatus;
    config.errorHook = onError;
    config.errorCtx = &errors;
    failures = 0;
    std::printf("[ RUN      ] %s\n", test.name);
    std::fflush(stdout);
    if (test.started) {
        capstan::runtime rts(config);
        test.run();
    } else {
        test.run();
    }
    CHECK(Counted::alive == 0);
    if (!errors.empty()) std::printf("error hook: %s\n", rts_statusName(*errors.begin())), failures++;
    errors.clear();
    std::printf(failures == 0 ? "[       OK ] %s\n" : "[  FAILED  ] %s\n", test.name);
}

#define TEST(name) { #name, name, true }

int main()
{
    const Test tests[] = {
        { "test_no_runtime", test_no_runtime, false },
        TEST(test_values), TEST(test_wrong_values), TEST(test_errors), TEST(test_kept_exception), TEST(test_roots), TEST(test_stable),
        TEST(test_budgets), TEST(test_no_wait), TEST(test_functions), TEST(test_thrown), TEST(test_through), TEST(test_calling_in),
        TEST(test_function_threads), TEST(test_late_callable), TEST(test_adjustors), TEST(test_adjustor_errors), TEST(test_submit), TEST(test_pthread_exit), TEST(test_crossing),
        { "test_no_runtime_again", test_no_runtime, false },
    };
    int bad = 0;
    for (const Test &test : tests) {
        runTest(test);
        bad += failures != 0;
    }
    return bad != 0;
}
