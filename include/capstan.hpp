/* capstan.hpp: the runtime from C++17, in one header.  doc/foreign.md, "From C++", is the guide; the C headers are the reference for what lies beneath.
 *
 *     capstan::runtime rts;                                              hs_init ... hs_exit
 *     auto n = capstan::call<int>(&add_closure, 1, 2);                   a whole in-call: result<int>, a value or an error
 *     capstan::in_call here;                                             rts_lock ... rts_unlock, for several calls
 *     capstan::root tree(here, here.call<HaskellObj>(&build_closure, 10).value());
 *     capstan::stable kept(here, tree);                                  keeps an object beyond the in-call
 *     auto f = capstan::make_function(here, [](std::string s) { return s.size(); });     a C++ callable as a managed function
 *
 * Exceptions never cross managed code.  One that a callable throws inside managed code becomes a managed exception (an ErrorCall with its type and what());
 * a managed one comes back as the error of a result, whose value() throws call_error, then outside of all managed code.  A managed exception that
 * passes a callable as a call_error goes on as the same object, if it was kept (options::keep_exception). */
/* exception: longer than 800 lines, because one header is what hosts want to have. */
#ifndef CAPSTAN_HPP
#define CAPSTAN_HPP

#include "Rts.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <exception>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <variant>
#include <vector>

namespace capstan {

class in_call;

/* ---- What C++ keeps ---------------------------------------------------------------------------------------------------- */

/* An owned stable pointer: keeps its object for as long as it lives, on any thread.  Making one and looking through it need an in-call, letting go needs
 * nothing.  Void after the runtime has ended. */
class stable {
public:
    stable() noexcept = default;
    explicit stable(HsStablePtr owned) noexcept : sp_(owned) {}
    /* Empty if there is no memory. */
    inline stable(in_call &here, HaskellObj object);
    stable(stable &&other) noexcept : sp_(other.release()) {}
    stable &operator=(stable &&other) noexcept
    {
        if (this != &other) reset(other.release());
        return *this;
    }
    ~stable() { reset(); }

    explicit operator bool() const noexcept { return sp_ != nullptr; }
    HsStablePtr get() const noexcept { return sp_; }
    HsStablePtr release() noexcept { return std::exchange(sp_, nullptr); }
    void reset(HsStablePtr owned = nullptr) noexcept
    {
        if (sp_ != nullptr) hs_free_stable_ptr(sp_);
        sp_ = owned;
    }
    /* The object, valid until the next safepoint; poison if empty.  Context: the thread holds a capability. */
    HaskellObj object() const noexcept { return sp_ == nullptr ? CAPSTAN_POISON : reinterpret_cast<HaskellObj>(deRefStablePtr(sp_)); }

private:
    HsStablePtr sp_ = nullptr;
};

/* ---- Errors and results ------------------------------------------------------------------------------------------------ */

struct error {
    SchedulerStatus status = NoStatus;       /* how the call ended.  Success: its result was not what was asked for */
    RtsStatus code = RTS_OK;                 /* why it never began (status Refused, TimedOut, Cancelled); RTS_WRONG_KIND: the result is of another type */
    std::string exception_class;             /* name of the exception's constructor; empty where there was none */
    std::string message;
    std::shared_ptr<const stable> exception; /* with options::keep_exception */
};

/* What value() throws. */
class call_error : public std::runtime_error {
public:
    explicit call_error(struct error e)
        : std::runtime_error(e.exception_class.empty() ? e.message : e.exception_class + ": " + e.message),
          error_(std::make_shared<const struct error>(std::move(e))) {}
    const struct error &error() const noexcept { return *error_; }

private:
    std::shared_ptr<const struct error> error_;
};

/* A value or an error. */
template <class R> class [[nodiscard]] result {
public:
    result(R value) : content_(std::in_place_index<0>, std::move(value)) {}
    result(struct error e) : content_(std::in_place_index<1>, std::move(e)) {}
    bool has_value() const noexcept { return content_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }
    R &value() & { return check(), *std::get_if<0>(&content_); }
    const R &value() const & { return check(), *std::get_if<0>(&content_); }
    R &&value() && { return check(), std::move(*std::get_if<0>(&content_)); }
    R value_or(R other) && { return has_value() ? std::move(*std::get_if<0>(&content_)) : std::move(other); }
    /* Only if there is no value. */
    const struct error &error() const { return std::get<1>(content_); }

private:
    void check() const { if (!has_value()) throw call_error(std::get<1>(content_)); }
    std::variant<R, struct error> content_;
};
template <> class [[nodiscard]] result<void> {
public:
    result() = default;
    result(struct error e) : error_(std::move(e)) {}
    bool has_value() const noexcept { return !error_.has_value(); }
    explicit operator bool() const noexcept { return has_value(); }
    void value() const { if (error_) throw call_error(*error_); }
    const struct error &error() const { return error_.value(); }

private:
    std::optional<struct error> error_;
};

/* ---- Values ------------------------------------------------------------------------------------------------------------ */
/* marshal<T> makes a managed value of a T, and a T of an evaluated value: neither is a safepoint.  read gives nothing if the value is of another kind, or does
 * not fit.  Specialise it for types of your own.
 *   integers and enumerations: integers.  bool: booleans.  char32_t: characters.  float, double: the same (a float is read as a double as well).
 *   pointers, also char *: pointers, which nobody follows.  std::string, std::string_view, literals, byte_span, vectors of bytes: byte arrays, copied.
 *   HaskellObj: itself, valid until the next safepoint.  stable: its object; as a result, one of its own.  std::monostate: unit. */
template <class T, class = void> struct marshal;

struct byte_span {
    const void *data;
    std::size_t size;
};

namespace detail {

/* The kind of a closure; CLOSURE_KINDS for immediates. */
inline unsigned kind_of(HaskellObj v) noexcept { return v == nullptr || rts_isImmediate(v) ? unsigned(CLOSURE_KINDS) : rts_info(v)->kind; }

template <class T> constexpr bool is_integer =
    std::is_integral_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char32_t>;

template <class T> std::optional<T> fit(HsInt i) noexcept
{
    if constexpr (std::is_signed_v<T>) {
        if (i < HsInt(std::numeric_limits<T>::min()) || i > HsInt(std::numeric_limits<T>::max())) return std::nullopt;
    } else {
        if (i < 0 || HsWord(i) > HsWord(std::numeric_limits<T>::max())) return std::nullopt;
    }
    return static_cast<T>(i);
}
template <class T> std::optional<T> fit_word(HsWord w) noexcept
{
    if (w > HsWord(std::numeric_limits<T>::max())) return std::nullopt;
    return static_cast<T>(w);
}

template <class Container> std::optional<Container> read_bytes(HaskellObj v)
{
    if (kind_of(v) != CLOSURE_BYTES && kind_of(v) != CLOSURE_EXTERNAL) return std::nullopt;
    std::size_t length = 0;
    auto *bytes = static_cast<const typename Container::value_type *>(rts_bytes(v, &length));
    return Container(bytes, bytes + length);
}

} // namespace detail

template <class T> struct marshal<T, std::enable_if_t<detail::is_integer<T>>> {
    static HaskellObj make(Capability *cap, T v)
    {
        if constexpr (std::is_signed_v<T>) return rts_mkInt64(cap, v);
        else return rts_mkWord64(cap, v);
    }
    static std::optional<T> read(HaskellObj v)
    {
        if (rts_isSmallInt(v)) return detail::fit<T>(rts_smallIntValue(v));
        if (detail::kind_of(v) == CLOSURE_INT64) return detail::fit<T>(rts_getInt64(v));
        if (detail::kind_of(v) == CLOSURE_WORD64) return detail::fit_word<T>(rts_getWord64(v));
        return std::nullopt;
    }
};
template <class T> struct marshal<T, std::enable_if_t<std::is_enum_v<T>>> {
    using Number = std::underlying_type_t<T>;
    static HaskellObj make(Capability *cap, T v) { return marshal<Number>::make(cap, static_cast<Number>(v)); }
    static std::optional<T> read(HaskellObj v)
    {
        auto n = marshal<Number>::read(v);
        return n ? std::optional<T>(static_cast<T>(*n)) : std::nullopt;
    }
};
template <> struct marshal<bool> {
    static HaskellObj make(Capability *cap, bool v) { return rts_mkBool(cap, v); }
    static std::optional<bool> read(HaskellObj v)
    {
        return rts_isImmediateOf(v, IMM_BOOL) ? std::optional<bool>(rts_getBool(v) != 0) : std::nullopt;
    }
};
template <> struct marshal<char32_t> {
    static HaskellObj make(Capability *cap, char32_t v) { return rts_mkChar(cap, v); }
    static std::optional<char32_t> read(HaskellObj v)
    {
        return rts_isImmediateOf(v, IMM_CHAR) ? std::optional<char32_t>(char32_t(rts_getChar(v))) : std::nullopt;
    }
};
template <> struct marshal<float> {
    static HaskellObj make(Capability *cap, float v) { return rts_mkFloat(cap, v); }
    static std::optional<float> read(HaskellObj v)
    {
        return detail::kind_of(v) == CLOSURE_FLOAT ? std::optional<float>(rts_getFloat(v)) : std::nullopt;
    }
};
template <> struct marshal<double> {
    static HaskellObj make(Capability *cap, double v) { return rts_mkDouble(cap, v); }
    static std::optional<double> read(HaskellObj v)
    {
        if (detail::kind_of(v) == CLOSURE_FLOAT) return rts_getFloat(v);
        return detail::kind_of(v) == CLOSURE_DOUBLE ? std::optional<double>(rts_getDouble(v)) : std::nullopt;
    }
};
template <class T> struct marshal<T *, std::enable_if_t<!std::is_same_v<T, StgClosure>>> {
    static HaskellObj make(Capability *cap, T *v)
    {
        if constexpr (std::is_function_v<T>) return rts_mkFunPtr(cap, reinterpret_cast<HsFunPtr>(v));
        else return rts_mkPtr(cap, const_cast<void *>(static_cast<const volatile void *>(v)));
    }
    static std::optional<T *> read(HaskellObj v)
    {
        if (detail::kind_of(v) != CLOSURE_PTR) return std::nullopt;
        if constexpr (std::is_function_v<T>) return reinterpret_cast<T *>(rts_getFunPtr(v));
        else return static_cast<T *>(rts_getPtr(v));
    }
};
template <> struct marshal<HaskellObj> {
    static HaskellObj make(Capability *, HaskellObj v) { return v; }
    static std::optional<HaskellObj> read(HaskellObj v) { return v; }
};
template <> struct marshal<stable> {
    static HaskellObj make(Capability *, const stable &v) { return v.object(); }
    static std::optional<stable> read(HaskellObj v)
    {
        stable kept(getStablePtr(reinterpret_cast<StgPtr>(v)));
        return kept ? std::optional<stable>(std::move(kept)) : std::nullopt;
    }
};
template <> struct marshal<std::monostate> {
    static HaskellObj make(Capability *, std::monostate) { return CAPSTAN_UNIT; }
    static std::optional<std::monostate> read(HaskellObj v)
    {
        return v == CAPSTAN_UNIT ? std::optional<std::monostate>(std::in_place) : std::nullopt;
    }
};
template <> struct marshal<std::string> {
    static HaskellObj make(Capability *cap, const std::string &v) { return rts_mkBytes(cap, v.data(), v.size()); }
    static std::optional<std::string> read(HaskellObj v) { return detail::read_bytes<std::string>(v); }
};
template <> struct marshal<std::string_view> {
    static HaskellObj make(Capability *cap, std::string_view v) { return rts_mkBytes(cap, v.empty() ? "" : v.data(), v.size()); }
};
template <> struct marshal<byte_span> {
    static HaskellObj make(Capability *cap, byte_span v) { return rts_mkBytes(cap, v.size == 0 ? "" : v.data, v.size); }
};
template <std::size_t n> struct marshal<char[n]> { /* a literal, or a buffer with a string: up to its zero */
    static HaskellObj make(Capability *cap, const char (&v)[n])
    {
        auto *end = static_cast<const char *>(std::memchr(v, 0, n));
        return rts_mkBytes(cap, v, end == nullptr ? n : std::size_t(end - v));
    }
};
template <class B> struct marshal<std::vector<B>, std::enable_if_t<sizeof(B) == 1 && (std::is_same_v<B, std::byte> || detail::is_integer<B>)>> {
    static HaskellObj make(Capability *cap, const std::vector<B> &v) { return rts_mkBytes(cap, v.empty() ? nullptr : v.data(), v.size()); }
    static std::optional<std::vector<B>> read(HaskellObj v) { return detail::read_bytes<std::vector<B>>(v); }
};

/* ---- Settings of a call ------------------------------------------------------------------------------------------------ */

/* Ends the in-call or the submission that it was given to, from any thread. */
class canceller {
public:
    canceller() noexcept = default;
    canceller(const canceller &) = delete;
    canceller &operator=(const canceller &) = delete;
    /* false: it has not begun, or has ended. */
    bool cancel() noexcept { return rts_cancel(__atomic_load_n(&handle_, __ATOMIC_ACQUIRE)); }
    bool has_begun() const noexcept { return __atomic_load_n(&handle_, __ATOMIC_ACQUIRE) != 0; }
    RtsInCallHandle *handle() noexcept { return &handle_; }

private:
    RtsInCallHandle handle_ = 0;
};

struct options {
    std::optional<std::chrono::microseconds> deadline = std::nullopt; /* for waiting and running together */
    std::uint64_t alloc_limit_bytes = 0;                              /* 0: none */
    bool no_wait = false;                                             /* RTS_BUSY rather than wait for a capability */
    bool keep_exception = false;                                      /* error::exception */
    class canceller *canceller = nullptr;                             /* outlives the call */

    HsInt64 deadline_us() const noexcept { return deadline ? (*deadline).count() < 0 ? 0 : (*deadline).count() : -1; }
};

/* ---- The runtime ------------------------------------------------------------------------------------------------------- */

/* RTS_CONFIG_INIT. */
inline RtsConfig config() noexcept
{
    RtsConfig c{};
    c.size = sizeof c;
    return c;
}

/* One user of the runtime. */
class runtime {
public:
    runtime() : runtime(config()) {}
    /* Throws call_error (status Refused) if it does not start.  Started already with other settings: those stay, as status() says. */
    explicit runtime(const RtsConfig &c)
    {
        char message[256] = "";
        status_ = rts_start(&c, message, sizeof message);
        if (status_ == RTS_OK || status_ == RTS_OTHER_SETTINGS) return;
        error e;
        e.status = Refused;
        e.code = status_;
        e.message = message;
        throw call_error(std::move(e));
    }
    runtime(const runtime &) = delete;
    runtime &operator=(const runtime &) = delete;
    ~runtime() { hs_exit(); }
    RtsStatus status() const noexcept { return status_; }

private:
    RtsStatus status_;
};

/* ---- In-calls ---------------------------------------------------------------------------------------------------------- */

namespace detail {

struct with_hooks {}; /* an in-call by rts_lock */

/* Does the value of one evaluation become an R?  Context: the capability is held. */
template <class R> result<R> read_result(HaskellObj v)
{
    if constexpr (std::is_void_v<R>) {
        (void)v;
        return {};
    } else {
        static_assert(!std::is_reference_v<R>, "a result is a value");
        std::optional<R> value = marshal<R>::read(v);
        if (value) return std::move(*value);
        error e;
        e.status = std::is_same_v<R, stable> ? HeapExhausted : Success;
        e.code = std::is_same_v<R, stable> ? RTS_NO_MEMORY : RTS_WRONG_KIND;
        e.message = std::is_same_v<R, stable> ? "no memory for a stable pointer" : "the result is of another type, or does not fit";
        return e;
    }
}

inline std::string class_of(HaskellObj exception)
{
    if (exception == CAPSTAN_SHUTDOWN) return "Shutdown";
    if (kind_of(exception) == CLOSURE_KINDS) return rts_isSmallInt(exception) ? "Int" : "";
    std::string_view name = rts_info(exception)->name == nullptr ? "" : rts_info(exception)->name, ours = "capstan_";
    return std::string(name.substr(0, ours.size()) == ours ? name.substr(ours.size()) : name);
}

inline std::string text_of(Capability *cap, HaskellObj exception)
{
    std::string text(256, '\0');
    std::size_t length = rts_showException(cap, exception, &text[0], text.size());
    if (length >= text.size()) {
        text.resize(length + 1);
        std::size_t now = rts_showException(cap, exception, &text[0], text.size());
        length = now < length ? now : length;
    }
    text.resize(length);
    return text;
}

/* The evaluation that just ended failed. */
inline error describe(Capability *cap, bool keep)
{
    error e;
    e.status = rts_getSchedStatus(cap);
    if (rts_isDead(cap)) {
        e.code = rts_getRefusal(cap);
        e.message = rts_statusText(e.code);
        return e;
    }
    HaskellObj exception = rts_getException(cap);
    if (exception == CAPSTAN_POISON) {
        e.message = e.status == NoStatus ? "nothing was evaluated" : "no memory";
        return e;
    }
    e.exception_class = class_of(exception);
    e.message = text_of(cap, exception);
    if (keep) e.exception = std::make_shared<const stable>(getStablePtr(reinterpret_cast<StgPtr>(exception)));
    return e;
}

} // namespace detail

/* What keeps one variable right over the safepoints of an in-call, as CAPSTAN_ROOTS does in C.  Local variables: the last one made is the first to go. */
class root {
public:
    inline explicit root(in_call &here, HaskellObj value = CAPSTAN_UNIT);
    root(const root &) = delete;
    root &operator=(const root &) = delete;
    inline ~root();
    root &operator=(HaskellObj value) noexcept { return value_ = value, *this; }
    HaskellObj get() const noexcept { return value_; }
    operator HaskellObj() const noexcept { return value_; }

private:
    in_call &here_;
    HaskellObj value_;
    HaskellObj *slot_;
    CapstanRoots link_{};
};

template <> struct marshal<root> {
    static HaskellObj make(Capability *, const root &v) { return v.get(); }
};

/* rts_lock ... rts_unlock.  Belongs to its thread; only the innermost one of a thread is used.  If no capability could be had, every call gives that as its
 * error.  Calls no hooks. */
class in_call {
public:
    in_call() noexcept { rts_lockOpt(&cap_, nullptr); }
    explicit in_call(const options &o) noexcept : keep_(o.keep_exception)
    {
        RtsLockOpts opts{};
        opts.size = sizeof opts;
        opts.deadline_us = o.deadline_us();
        opts.alloc_limit_bytes = o.alloc_limit_bytes;
        opts.no_wait = o.no_wait;
        opts.handle = o.canceller == nullptr ? nullptr : o.canceller->handle();
        rts_lockOpt(&cap_, &opts);
    }
    explicit in_call(detail::with_hooks) noexcept : cap_(rts_lock()) {}
    in_call(const in_call &) = delete;
    in_call &operator=(const in_call &) = delete;
    /* One that was left from inside (pthread_exit, a foreign exception) is over already. */
    ~in_call() { if (!inside_) rts_unlock(cap_); }

    /* Whether there is a capability; and why not. */
    explicit operator bool() const noexcept { return !rts_isDead(cap_); }
    RtsStatus refusal() const noexcept { return rts_getRefusal(cap_); }
    /* The capability that is held now: another one may be after each call. */
    Capability *cap() const noexcept { return cap_; }
    bool was_left() const noexcept { return inside_; }

    /* Run the IO function f on the arguments, and evaluate its result.  Safepoint: what is needed afterwards is in roots, or stable. */
    template <class R = void, class F, class... A> result<R> call(const F &f, const A &...args) { return run<R>(rts_evalIO, apply(f, args...)); }
    /* The same for a pure function; without arguments, evaluate. */
    template <class R, class F, class... A> result<R> eval(const F &f, const A &...args) { return run<R>(rts_eval, apply(f, args...)); }

    /* Not safepoints: a managed value of a C++ one, and the lazy application of f to arguments. */
    template <class T> HaskellObj make(const T &v) { return marshal<T>::make(cap_, v); }
    template <class F, class... A> HaskellObj apply(const F &f, const A &...args)
    {
        HaskellObj application = marshal<F>::make(cap_, f);
        ((application = rts_apply(cap_, application, marshal<A>::make(cap_, args))), ...);
        return application;
    }
    /* A safepoint for long work between calls. */
    void poll()
    {
        inside_ = true;
        rts_pollCap(&cap_);
        inside_ = false;
    }

private:
    template <class R> result<R> run(void (*evaluate)(Capability **, HaskellObj, HaskellObj *), HaskellObj p)
    {
        HaskellObj value = CAPSTAN_POISON;
        inside_ = true;
        evaluate(&cap_, p, &value);
        inside_ = false;
        if (rts_getSchedStatus(cap_) != Success) return detail::describe(cap_, keep_);
        return detail::read_result<R>(value);
    }

    Capability *cap_ = nullptr;
    bool keep_ = false;
    bool inside_ = false;
};

inline stable::stable(in_call &here, HaskellObj object) : sp_(here ? getStablePtr(reinterpret_cast<StgPtr>(object)) : nullptr) {}

inline root::root(in_call &here, HaskellObj value) : here_(here), value_(value), slot_(&value_)
{
    capstanPushRootsOfCap(here.cap(), &link_, 1, &slot_);
}
inline root::~root()
{
    if (!here_.was_left()) capstanPopRootsOfCap(here_.cap(), &link_);
}

/* A whole in-call: run the IO function f, a static closure or a stable, on the arguments. */
template <class R = void, class F, class... A> result<R> call(const F &f, const A &...args)
{
    static_assert(!std::is_same_v<R, HaskellObj>, "an object does not outlive the in-call: ask for a stable");
    if constexpr (std::is_same_v<F, options>) {
        in_call here(f);
        return here.call<R>(args...);
    } else {
        in_call here;
        return here.call<R>(f, args...);
    }
}

/* A managed IO function that C++ keeps and calls. */
template <class Signature> class function;
template <class R, class... A> class function<R(A...)> {
public:
    explicit function(stable f) : f_(std::move(f)) {}
    result<R> operator()(const A &...args) const { return capstan::call<R>(f_, args...); }
    const stable &object() const noexcept { return f_; }

private:
    stable f_;
};

/* ---- Callables as managed functions ------------------------------------------------------------------------------------ */

/* safe: called without the capability, as by rts_safeCall: it may block and call in.  unsafe: a plain call, for short ones that do neither (they have 32 KiB
 * of stack, and all collections wait for them). */
enum class calling { safe, unsafe };

namespace detail {

template <class F> struct signature_of : signature_of<decltype(&F::operator())> {};
template <class R, class... A> struct signature_of<R (*)(A...)> { using type = R(A...); };
template <class R, class... A> struct signature_of<R (*)(A...) noexcept> { using type = R(A...); };
template <class C, class R, class... A> struct signature_of<R (C::*)(A...)> { using type = R(A...); };
template <class C, class R, class... A> struct signature_of<R (C::*)(A...) const> { using type = R(A...); };
template <class C, class R, class... A> struct signature_of<R (C::*)(A...) noexcept> { using type = R(A...); };
template <class C, class R, class... A> struct signature_of<R (C::*)(A...) const noexcept> { using type = R(A...); };

template <class> using object_for = HaskellObj;

/* What went wrong in a callable.  Plain memory, because a raise may let the frame that it lies in vanish. */
struct failure {
    bool failed;
    std::shared_ptr<const stable> *original; /* the managed exception that passed through, if it was kept */
    char text[256];

    void note(const char *type, const char *what) noexcept
    {
        failed = true;
        std::snprintf(text, sizeof text, "%s%s%s", type, *type == 0 ? "" : ": ", what);
    }
    /* Context: a handler. */
    void note_current() noexcept
    {
        int status = 0;
        /* Only C++'s own have a type. */
        const std::type_info *type = std::current_exception() ? abi::__cxa_current_exception_type() : nullptr;
        char *name = type == nullptr ? nullptr : abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
        const char *called = name != nullptr ? name : type != nullptr ? type->name() : "a foreign exception";
        try {
            throw;
        } catch (const call_error &e) {
            if (e.error().exception) original = new (std::nothrow) std::shared_ptr<const stable>(e.error().exception);
            note("", e.what());
        } catch (const std::exception &e) {
            note(called, e.what());
        } catch (...) {
            note("", called);
        }
        std::free(name);
    }
    /* Not a safepoint. */
    HaskellObj exception(Capability *cap) noexcept
    {
        HaskellObj e = CAPSTAN_POISON;
        if (original != nullptr) {
            e = (*original)->object();
            delete std::exchange(original, nullptr);
        } else {
            HaskellObj message = rts_mkBytes(cap, text, std::strlen(text));
            if (message != CAPSTAN_POISON) e = rts_mkCon(cap, &capstan_ErrorCall_info, &message);
        }
        return e == CAPSTAN_POISON ? &capstan_HeapOverflow_closure : e;
    }
};

/* One call of a callable: its arguments and its result, in plain memory for the same reason.  C++ runs in its functions only, and no exception leaves them. */
template <class F, class R, class... A> struct invocation {
    using Arguments = std::tuple<std::decay_t<A>...>;
    using Value = std::conditional_t<std::is_void_v<R>, std::monostate, std::decay_t<R>>;
    F *callable;
    bool has_arguments, has_value;
    failure problem;
    alignas(Arguments) unsigned char arguments[sizeof(Arguments)];
    alignas(Value) unsigned char value[sizeof(Value)];

    Arguments &its_arguments() noexcept { return *std::launder(reinterpret_cast<Arguments *>(arguments)); }
    Value &its_value() noexcept { return *std::launder(reinterpret_cast<Value *>(value)); }

    struct bad_argument { std::size_t which; };
    template <class T> static T need(HaskellObj object, std::size_t which)
    {
        std::optional<T> value = marshal<T>::read(object);
        if (!value) throw bad_argument{ which };
        return std::move(*value);
    }
    template <std::size_t... i> void read_each([[maybe_unused]] const HaskellObj *objects, std::index_sequence<i...>)
    {
        new (arguments) Arguments{ need<std::decay_t<A>>(objects[i], i + 1)... };
        has_arguments = true;
    }
    void read(const HaskellObj *objects) noexcept
    {
        try {
            read_each(objects, std::index_sequence_for<A...>());
        } catch (const bad_argument &bad) {
            problem.failed = true;
            std::snprintf(problem.text, sizeof problem.text, "argument %zu of a C++ function is of another type, or does not fit", bad.which);
        } catch (...) {
            problem.note_current();
        }
    }
    void call()
    {
        if constexpr (std::is_void_v<R>) {
            std::apply(*callable, std::move(its_arguments()));
            new (value) Value();
        } else {
            new (value) Value(std::apply(*callable, std::move(its_arguments())));
        }
        has_value = true;
    }
    /* For rts_safeCall.  (A forced unwind is caught as a reference to nothing.) */
    __attribute__((no_sanitize("undefined"))) static void *run(void *frame)
    {
        auto *self = static_cast<invocation *>(frame);
        try {
            self->call();
#if __has_include(<bits/cxxabi_forced.h>)
        } catch (abi::__forced_unwind &) { /* pthread_exit, cancellation: must go on */
            self->drop();
            throw;
#endif
        } catch (...) {
            self->problem.note_current();
        }
        return nullptr;
    }
    HaskellObj result(Capability *cap) noexcept
    {
        try {
            if constexpr (std::is_void_v<R>) return CAPSTAN_UNIT;
            else return marshal<Value>::make(cap, its_value());
        } catch (...) {
            problem.note_current();
            return CAPSTAN_POISON;
        }
    }
    void drop() noexcept
    {
        if (std::exchange(has_arguments, false)) its_arguments().~Arguments();
        if (std::exchange(has_value, false)) its_value().~Value();
    }
};

/* The managed function of a callable: free variable 0 is a byte array outside the heap, which is the callable. */
template <class F, calling how, class R, class... A> struct managed {
    static_assert(sizeof...(A) < CAPSTAN_MAX_ARITY, "more arguments than a managed function has");
    using Call = invocation<F, R, A...>;

    static HaskellObj safely(Stack *stack, void *call) { return rts_safeCall(stack, Call::run, call), CAPSTAN_UNIT; }

    /* Wherever this may raise, nothing lives in its frame that would have to be destroyed. */
    static HaskellObj entry(Stack *stack, HaskellObj self, object_for<A>... arguments, HaskellObj /* the world */)
    {
        HaskellObj objects[] = { self, arguments... }, outcome = CAPSTAN_UNIT;
        HaskellObj *slots[sizeof...(A) + 1];
        CapstanRoots link;
        for (std::size_t i = 0; i <= sizeof...(A); i++) slots[i] = &objects[i];
        capstanPushRoots(stack, &link, sizeof...(A) + 1, slots);
        for (std::size_t i = 1; i <= sizeof...(A); i++) objects[i] = rts_force(stack, objects[i]);
        Call call;
        call.callable = static_cast<F *>(rts_bytes(rts_freeVar(objects[0], 0), nullptr));
        call.has_arguments = call.has_value = call.problem.failed = false;
        call.problem.original = nullptr;
        call.read(objects + 1);
        bool raised = false;
        if (!call.problem.failed) {
            if constexpr (how == calling::safe) raised = !rts_try(stack, safely, &call, &outcome);
            else Call::run(&call);
        }
        /* The roots kept the callable alive until here. */
        capstanPopRoots(stack, &link);
        if (!raised && !call.problem.failed) outcome = call.result(stack->cap);
        if (call.problem.failed) outcome = call.problem.exception(stack->cap);
        call.drop();
        if (raised || call.problem.failed) rts_raise(stack, outcome);
        return outcome;
    }
    static void release(void *, void *callable) noexcept { delete static_cast<F *>(callable); }

    static inline const StgInfoTable info = { CLOSURE_FUN, 0, sizeof...(A) + 1, 1, 0, 0, reinterpret_cast<StgFunPtr>(entry), "C++ function", nullptr };

    static HaskellObj make(Capability *cap, F *callable)
    {
        HaskellObj held = rts_mkBytesExternal(cap, callable, sizeof(F), release, nullptr);
        return held == CAPSTAN_POISON ? held : rts_mkClosure(cap, &info, &held);
    }
};

template <class Signature, class F> struct maker;
template <class R, class... A, class F> struct maker<R(A...), F> {
    static HaskellObj make(Capability *cap, F *callable, calling how)
    {
        return how == calling::safe ? managed<F, calling::safe, R, A...>::make(cap, callable) : managed<F, calling::unsafe, R, A...>::make(cap, callable);
    }
};

} // namespace detail

/* A managed IO function that calls a copy of the callable, from any number of threads at once: so it must bear that.  The managed function owns the copy, which
 * is destroyed when a collection finds that nobody has the function any more, or when the runtime ends; its destructor may let go of stables, but not call
 * in.  Parameters are values or const references.  The signature is the callable's, or given: make_function<int(int)>(here, generic).
 * Poison: no memory, or no capability. */
template <class Signature = void, class F> HaskellObj make_function(in_call &here, F &&callable, calling how = calling::safe)
{
    using Held = std::decay_t<F>;
    using Chosen = typename std::conditional_t<std::is_void_v<Signature>, detail::signature_of<Held>, std::enable_if<true, Signature>>::type;
    return detail::maker<Chosen, Held>::make(here.cap(), new Held(std::forward<F>(callable)), how);
}

/* ---- C function pointers ----------------------------------------------------------------------------------------------- */

namespace detail {

/* An action that raises: what comes of a result that is no R. */
inline HaskellObj raise_wrong_result(Stack *stack, HaskellObj, HaskellObj)
{
    rts_raiseError(stack, "the result of an adjustor's function is of another type, or does not fit");
}
inline HaskellObj wrong_result_closure()
{
    static const StgInfoTable info = { CLOSURE_FUN, INFO_STATIC, 1, 0, 0, 0, reinterpret_cast<StgFunPtr>(raise_wrong_result), "wrongResult", nullptr };
    static const StgInfoTable *closure[2] = { &info, nullptr };
    return reinterpret_cast<HaskellObj>(closure);
}

/* The letter of a type in rts/Foreign.h. */
template <class T> constexpr char letter_of()
{
    if constexpr (std::is_void_v<T>) return 'v';
    else if constexpr (std::is_pointer_v<T>) return 'p';
    else if constexpr (std::is_same_v<T, float>) return 'f';
    else if constexpr (std::is_same_v<T, double>) return 'd';
    else {
        static_assert(std::is_integral_v<T> || std::is_enum_v<T>, "C functions take and give numbers, enumerations and pointers");
        static_assert(sizeof(T) <= 8, "no integers of more than 64 bits");
        if constexpr (std::is_enum_v<T>) return letter_of<std::underlying_type_t<T>>();
        else return (std::is_signed_v<T> ? "0BS3W567L" : "0bs3w567l")[sizeof(T)];
    }
}

} // namespace detail

/* A C function pointer to a managed IO function, or to a C++ callable, by way of a managed one: adjustor<int(int)> f(here, &add1_closure); library(f.get()).
 * It may be called from any thread, but not from inside an unsafe call, and keeps what it calls alive.  Freed with this object; a call that has begun ends as
 * if nothing had happened.
 * What fails in a call (an exception, a result of another type, a runtime that has ended) cannot reach the C caller: on_error makes a result of it, without
 * a capability, and must not throw.  Without on_error it goes the way of rts_checkSchedStatus (RtsConfig.statusHook), and the result is zero if that returns. */
template <class Signature> class adjustor;
template <class R, class... A> class adjustor<R(A...)> {
public:
    using pointer = R (*)(A...);
    using handler = std::function<R(const error &)>;

    /* f: a managed function, or a callable.  Empty if there is no memory, or no executable memory: RtsConfig.errorHook hears why. */
    template <class F> adjustor(in_call &here, F &&f, handler on_error = nullptr)
    {
        HaskellObj pair[2] = { function_of(here, std::forward<F>(f)), CAPSTAN_UNIT };
        if (on_error) pair[1] = rts_mkBytesExternal(here.cap(), new handler(std::move(on_error)), sizeof(handler), release, nullptr);
        if (pair[0] == CAPSTAN_POISON || pair[1] == CAPSTAN_POISON) return;
        HaskellObj array = rts_mkArray(here.cap(), 2, pair[0]);
        rts_setElem(here.cap(), array, 1, pair[1]);
        stable kept(here, array);
        static constexpr char type[] = { detail::letter_of<R>(), detail::letter_of<A>()..., 0 };
        if (array != CAPSTAN_POISON && kept) function_ = rts_createAdjustor(kept.get(), reinterpret_cast<StgFunPtr>(enter), type);
        if (function_ != nullptr) kept.release();
    }
    adjustor(adjustor &&other) noexcept : function_(other.release()) {}
    adjustor &operator=(adjustor &&other) noexcept
    {
        if (this != &other) {
            if (function_ != nullptr) freeHaskellFunctionPtr(function_);
            function_ = other.release();
        }
        return *this;
    }
    ~adjustor() { if (function_ != nullptr) freeHaskellFunctionPtr(function_); }

    explicit operator bool() const noexcept { return function_ != nullptr; }
    pointer get() const noexcept { return reinterpret_cast<pointer>(function_); }
    /* For C that frees it by freeHaskellFunctionPtr. */
    void *release() noexcept { return std::exchange(function_, nullptr); }

private:
    template <class F> static HaskellObj function_of(in_call &here, F &&f)
    {
        using T = std::decay_t<F>;
        if constexpr (std::is_same_v<T, HaskellObj> || std::is_same_v<T, stable> || std::is_same_v<T, root>) return here.apply(f);
        else return make_function<R(A...)>(here, std::forward<F>(f));
    }
    static void release(void *, void *h) noexcept { delete static_cast<handler *>(h); }

    /* What the adjustor calls. */
    static R enter(HsStablePtr kept, A... arguments)
    {
        handler *on_error = nullptr;
        error e;
        {
            in_call here{ detail::with_hooks() };
            HaskellObj pair = here ? reinterpret_cast<HaskellObj>(deRefStablePtr(kept)) : CAPSTAN_POISON;
            if (here && rts_getElem(pair, 1) != CAPSTAN_UNIT) on_error = static_cast<handler *>(rts_bytes(rts_getElem(pair, 1), nullptr));
            result<R> r = here.template call<R>(here ? rts_getElem(pair, 0) : CAPSTAN_POISON, arguments...);
            if (r) {
                if constexpr (std::is_void_v<R>) return;
                else return std::move(r).value();
            }
            e = r.error();
            if (on_error == nullptr) {
                if (e.code == RTS_WRONG_KIND) (void)here.call(detail::wrong_result_closure());
                rts_checkSchedStatus(const_cast<char *>("a C++ adjustor"), here.cap());
                return R();
            }
        }
        return (*on_error)(e);
    }

    void *function_ = nullptr;
};

/* ---- Submissions ------------------------------------------------------------------------------------------------------- */

namespace detail {

template <class R> result<R> refused(RtsStatus code)
{
    error e;
    e.status = Refused;
    e.code = code;
    e.message = rts_statusText(code);
    return e;
}

/* Read v, an immediate; or what make gives, in an in-call. */
template <class R, class Make> result<R> read_within(Make make)
{
    in_call here;
    return here ? read_result<R>(make(here)) : refused<R>(here.refusal());
}

template <class R> result<R> take(const RtsResult &r)
{
    stable kept(r.status == Success && r.value.kind == decltype(r.value)::RtsValueStable ? r.value.u.sp : nullptr);
    if (r.status != Success) {
        error e;
        e.status = r.status;
        e.message = r.text;
        return e;
    }
    if constexpr (std::is_void_v<R>) {
        return {};
    } else {
        const RtsValue &v = r.value;
        constexpr bool plain = !std::is_same_v<R, stable>;
        switch (v.kind) {
        case RtsValue::RtsValueUnit: if (plain) return read_result<R>(CAPSTAN_UNIT); break;
        case RtsValue::RtsValueBool: if (plain) return read_result<R>(v.u.b ? CAPSTAN_TRUE : CAPSTAN_FALSE); break;
        case RtsValue::RtsValueInt:
            if (plain && v.u.i >= CAPSTAN_SMALL_INT_MIN && v.u.i <= CAPSTAN_SMALL_INT_MAX) return read_result<R>(CAPSTAN_SMALL_INT(v.u.i));
            break;
        default: break;
        }
        return read_within<R>([&](in_call &here) -> HaskellObj {
            switch (v.kind) {
            case RtsValue::RtsValueUnit: return CAPSTAN_UNIT;
            case RtsValue::RtsValueBool: return here.make(v.u.b);
            case RtsValue::RtsValueInt: return here.make(v.u.i);
            case RtsValue::RtsValueDouble: return here.make(v.u.d);
            case RtsValue::RtsValuePtr: return here.make(v.u.p);
            default: return kept.object();
            }
        });
    }
}

/* The arguments of a submission; what cannot be held without a capability is made a stable pointer in an in-call of its own. */
struct packing {
    std::optional<in_call> here;
    RtsStatus status = RTS_OK;

    HsStablePtr keep(HaskellObj object)
    {
        HsStablePtr sp = getStablePtr(reinterpret_cast<StgPtr>(object));
        if (sp == nullptr) status = RTS_NO_MEMORY;
        return sp;
    }
    bool enter()
    {
        if (!here) here.emplace();
        if (!*here) status = here->refusal();
        return status == RTS_OK;
    }
    template <class T> RtsValue pack(const T &v)
    {
        RtsValue value{};
        if constexpr (std::is_same_v<T, bool>) {
            value.kind = RtsValue::RtsValueBool;
            value.u.b = v;
        } else if constexpr (std::is_same_v<T, double>) {
            value.kind = RtsValue::RtsValueDouble;
            value.u.d = v;
        } else if constexpr (is_integer<T> && (std::is_signed_v<T> || sizeof(T) < sizeof(HsInt))) {
            value.kind = RtsValue::RtsValueInt;
            value.u.i = v;
        } else if (enter()) {
            value.kind = RtsValue::RtsValueStable;
            value.u.sp = keep(marshal<T>::make(here->cap(), v));
        }
        return value;
    }
};

template <class R, class Done> struct job {
    Done done;
    stable function;
    static void deliver(void *ctx, const RtsResult *r) noexcept
    {
        std::unique_ptr<job> self(static_cast<job *>(ctx));
        self->function.reset(); /* whoever has the result may end the runtime */
        self->done(take<R>(*r));
    }
};

inline void unpack(const RtsSubmission &s)
{
    for (unsigned i = 0; i < s.n_args; i++)
        if (s.args[i].kind == RtsValue::RtsValueStable && s.args[i].u.sp != nullptr) hs_free_stable_ptr(s.args[i].u.sp);
}

template <class R, class Done, class F, class... A> RtsStatus submit(Done &&done, const options &o, RtsInCallHandle *handle, const F &f, const A &...args)
{
    static_assert(sizeof...(A) <= 8, "a submission has at most 8 arguments");
    using Job = job<R, std::decay_t<Done>>;
    std::unique_ptr<Job> mine(new Job{ std::forward<Done>(done), stable() });
    RtsSubmission s{};
    packing pack;
    s.size = sizeof s;
    if constexpr (std::is_same_v<F, stable>) {
        if (pack.enter()) mine->function = stable(pack.keep(f.object()));
        s.function_sp = mine->function.get();
    } else {
        s.function = f;
    }
    ((s.args[s.n_args++] = pack.pack(args)), ...);
    s.deadline_us = o.deadline_us();
    s.alloc_limit_bytes = o.alloc_limit_bytes;
    s.event_fd = -1;
    s.done = Job::deliver;
    s.ctx = mine.get();
    pack.here.reset();
    RtsStatus status = pack.status == RTS_OK ? rts_submit(&s, handle) : pack.status;
    if (status == RTS_OK) mine.release();
    else unpack(s);
    return status;
}

} // namespace detail

/* Have the IO function f, a static closure or a stable, run on the arguments in a managed thread, without waiting for it; done(result<R>) is called with
 * what comes of it, on a thread of the runtime's, and throws nothing.  With another answer than RTS_OK it is not called.  Only submissions with strings and
 * the like, or whose f is a stable, wait for a capability.  (Errors have no exception_class.) */
template <class R = void, class Done, class F, class... A> RtsStatus submit_then(Done &&done, const options &o, const F &f, const A &...args)
{
    return detail::submit<R>(std::forward<Done>(done), o, o.canceller == nullptr ? nullptr : o.canceller->handle(), f, args...);
}

/* A submission whose result is waited for.  Letting go of it lets it run on. */
template <class R> class pending {
public:
    explicit pending(std::future<result<R>> f, RtsInCallHandle h) : future_(std::move(f)), handle_(h) {}
    /* Waits; once.  Not inside an in-call. */
    result<R> get() { return future_.get(); }
    std::future<result<R>> &future() noexcept { return future_; }
    /* false: it has ended. */
    bool cancel() noexcept { return rts_cancel(handle_); }

private:
    std::future<result<R>> future_;
    RtsInCallHandle handle_;
};

/* The same with a future: submit<int>(&f_closure, 1), submit<int>(options, &f_closure, 1). */
template <class R = void, class F, class... A> pending<R> submit(const F &f, const A &...args)
{
    std::promise<result<R>> promise;
    std::future<result<R>> future = promise.get_future();
    RtsInCallHandle handle = 0;
    auto done = [p = std::make_shared<std::promise<result<R>>>(std::move(promise))](result<R> r) { p->set_value(std::move(r)); };
    RtsStatus status;
    if constexpr (std::is_same_v<F, options>) status = detail::submit<R>(done, f, &handle, args...);
    else status = detail::submit<R>(done, options(), &handle, f, args...);
    if (status != RTS_OK) done(detail::refused<R>(status));
    return pending<R>(std::move(future), handle);
}

} // namespace capstan
#endif
