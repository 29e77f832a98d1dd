/*
 * Perdure: durable execution in C. A job is an ordinary function that awaits; what it awaited is logged, and after a
 * crash the function is run again against its log, up to where it was.
 *
 * One rule: declare a name once; then every verb takes its context first and the declared name second. The name carries
 * its types, so nothing is cast, no string is repeated, and a wrong message is a compile error.
 *
 *     PDR_STEP(charge, Order, Receipt, .max_attempts = 5)          int charge(pdr_attempt *, const Order *, Receipt *);
 *     PDR_JOB(checkout, Order, Shipment)                           int checkout(pdr_job *, const Order *, Shipment *);
 *     ...
 *     PDR_TRY(pdr_await(job, charge, order, &receipt));
 *
 * Job functions are deterministic: whatever they do, they do again, with the same results, whenever the job is rebuilt.
 * So all that looks at or touches the outside is a step; clocks and chance come from pdr_now() and pdr_random().
 *
 * What takes a pdr_job * may be called in that job only, what takes a pdr_attempt * in that attempt only; elsewhere it
 * does nothing and says PDR_MISUSE. Nothing here prints, exits or installs signal handlers.
 *
 * Builds as C11 or later and as C++17 or later, with gcc and clang. protobuf messages: <perdure/protobuf-c.h>.
 */
#ifndef PERDURE_PERDURE_H
#define PERDURE_PERDURE_H

#if defined __GNUC__ && !defined PDR_HEADER_WARNINGS
#pragma GCC system_header /* errors point at the line of the user, not into our macros */
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PDR_VERSION "0.1.0"
#define PDR_HEADER_VERSION 1 /* of the binary interface between a module and the library */

#if !defined __GNUC__
#error "perdure.h needs gcc or clang"
#endif
#define PDR_UNUSED __attribute__((unused))
#define PDR_INLINE_ static inline __attribute__((unused))
#define PDR_API __attribute__((visibility("default")))
#define PDR_LOCAL_ __attribute__((visibility("hidden"))) /* one module's `print` is never another's */
#define PDR_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define PDR_NODISCARD __attribute__((warn_unused_result))

#ifdef __cplusplus
#define PDR_ZERO = {} /* member default: g++ -Wextra asks for it under designated initialisers */
#define PDR_CAST_(T, x) static_cast<T>(x)
#define PDR_C_ extern "C"
extern "C" {
#else
#define PDR_ZERO
#define PDR_CAST_(T, x) ((T)(x))
#define PDR_C_ extern
#endif

/* ---- codes ---------------------------------------------------------------------------------------------------- */

/* Name, number, text. -4 is kept for steps that run at most once. */
#define PDR_ERROR_MAP(X)                                                                     \
    X(FAILED, -1, "a step, a child job or the job itself failed")                            \
    X(CANCELLED, -2, "the job was asked to stop")                                            \
    X(TIMED_OUT, -3, "the time limit passed")                                                \
    X(MISUSE, -5, "called from where it may not be called, or with what it does not take")   \
    X(NO_MEMORY, -6, "out of memory")                                                        \
    X(NOT_FOUND, -7, "no such job, type or name")                                            \
    X(EXISTS, -8, "the id is taken by another job")                                          \
    X(UNREACHABLE, -9, "the log cannot be reached")                                          \
    X(INVALID, -10, "a module, a setting or an input is not valid")                          \
    X(LATER, -11, "the attempt is completed from outside, later")                    \
    X(MEMBER_TAKEN, -12, "another worker has the same name: give each a data directory")     \
    X(PARTITION_STOPPED, -13, "a part of the log could not be worked on")

enum pdr_code {
    PDR_OK = 0,
#define PDR_CODE_(name, number, text) PDR_##name = (number),
    PDR_ERROR_MAP(PDR_CODE_)
#undef PDR_CODE_
};

/* The text above, "ok", or "unknown code". Static. Any thread. */
PDR_API const char *pdr_code_text(int code);
/* Of the library that is running; PDR_VERSION is that of the header. Any thread. */
PDR_API const char *pdr_version(void);

/* Leaves the function with the code when `expr` is not PDR_OK. The only macro that returns. */
#define PDR_TRY(expr)                \
    do {                             \
        int pdr_code_ = (expr);      \
        if (pdr_code_ != PDR_OK)     \
            return pdr_code_;        \
    } while (0)

/* All times are milliseconds, all points in time milliseconds since 1970. */
#define PDR_SECOND INT64_C(1000)
#define PDR_MINUTE (60 * PDR_SECOND)
#define PDR_HOUR (60 * PDR_MINUTE)
#define PDR_DAY (24 * PDR_HOUR)

/* ---- messages ------------------------------------------------------------------------------------------------- */

typedef struct pdr_codec pdr_codec;
typedef struct pdr_type {
    size_t size;            /* of this struct */
    size_t message_size;    /* sizeof the C message */
    const char *name;       /* C name */
    const pdr_codec *codec; /* to and from bytes */
    const void *descriptor; /* the codec's own, e.g. a ProtobufCMessageDescriptor */
} pdr_type;

/* Messages without a generator. Strings end with NUL; NULL is the empty string. */
typedef struct pdr_none { char unused; } pdr_none;
typedef struct pdr_bytes { const void *data; size_t size; } pdr_bytes;
typedef struct pdr_text { const char *chars; } pdr_text; /* UTF-8 */
typedef struct pdr_json { const char *chars; } pdr_json; /* one JSON value */

PDR_API extern const pdr_codec pdr_codec_none, pdr_codec_bytes, pdr_codec_text, pdr_codec_json;
#define PDR_BUILTIN_(T)                                                                                              \
    static const pdr_type pdr_type_pdr_##T PDR_UNUSED = { sizeof(pdr_type), sizeof(pdr_##T), #T, &pdr_codec_##T,     \
                                                          NULL };                                                    \
    PDR_INLINE_ pdr_##T pdr_init_pdr_##T(void)                                                                       \
    {                                                                                                                \
        pdr_##T message;                                                                                             \
        __builtin_memset(&message, 0, sizeof message);                                                               \
        return message;                                                                                              \
    }
PDR_BUILTIN_(none)
PDR_BUILTIN_(bytes)
PDR_BUILTIN_(text)
PDR_BUILTIN_(json)

#define PDR_NONE (PDR_CAST_(const pdr_none *, NULL)) /* the input of what takes pdr_none */
/* A message with its defaults, by value; the same in the job's memory, by pointer. */
#define pdr_init(T) pdr_init_##T()
#define pdr_new(job, T) PDR_CAST_(T *, pdr_message_new((job), &pdr_type_##T))

/* ---- handles -------------------------------------------------------------------------------------------------- */

typedef struct pdr_job pdr_job;         /* one durable execution, inside its job function */
typedef struct pdr_attempt pdr_attempt; /* one try of a step, inside its step function */
typedef struct pdr_limit pdr_limit;     /* how many at once */
typedef struct pdr_client pdr_client;   /* starts, signals and asks from outside */
typedef struct pdr_worker pdr_worker;   /* runs jobs and steps */

/* Something that will be ready: a step, a child, a signal, a timer. A small value, copied freely. */
typedef struct pdr_future { uint64_t id; } pdr_future;

/* Where in the source an await stands. Shown to people, never compared. */
typedef struct pdr_site {
    const char *file;
    const char *function;
    int line;
} pdr_site;
#define PDR_HERE                                                                     \
    __extension__({                                                                  \
        static const pdr_site pdr_here_ = { __FILE__, __func__, __LINE__ };          \
        &pdr_here_;                                                                  \
    })

/* Why something failed. */
typedef struct pdr_failure {
    size_t size;                     /* of this struct */
    int code;                        /* enum pdr_code */
    const char *type;                /* as given to pdr_fail and friends, "BadAmount"; else a word of ours, "TimedOut" */
    const char *message;
    bool final;                      /* was not to be tried again */
    pdr_site site;                   /* the await that returned it; file NULL: unknown */
    const struct pdr_failure *cause; /* NULL: the last of the chain */
} pdr_failure;

/* ---- options: zero is the default; members are only ever appended ----------------------------------------------- */

/* Of a step: in its declaration, and at a call, which overrides the declaration member by member; -1 at a call says
 * 'none' where the declaration has a limit. */
typedef struct pdr_step_options {
    size_t size PDR_ZERO;
    int max_attempts PDR_ZERO;       /* default: no limit */
    int64_t timeout_ms PDR_ZERO;     /* of one attempt; default: none */
    int64_t deadline_ms PDR_ZERO;    /* of all attempts together; default: none */
    int64_t backoff_ms PDR_ZERO;     /* before the second attempt, then doubled, with jitter; default: 1 s */
    int64_t backoff_max_ms PDR_ZERO; /* default: 100 s */
    bool in_place PDR_ZERO;          /* it is short and never blocks: runs on the job's own thread, no hand-over */
    pdr_limit *limit PDR_ZERO;       /* at a call: runs when this limit has room */
    const char *label PDR_ZERO;      /* at a call: shown to people beside the name */
    /* A step that other processes execute, in any language: docs/remote-steps.md. Its function need not be linked. */
    const char *queue PDR_ZERO;      /* whose workers execute it; "" at a call: this worker after all */
    int64_t schedule_to_start_ms PDR_ZERO; /* to be begun within, else it fails for good; default: none */
    int64_t heartbeat_ms PDR_ZERO;   /* an attempt not heard of for so long has failed; default: 60 s */
    int priority PDR_ZERO;           /* larger goes first where more wait than the queue takes; default: 0 */
    /* Of the attempts with this key, of whatever step and job, so many run at the same time in a worker; others wait, in the
     * order in which they came. One that outlives its timeout is given up and counts no more, though its function still runs:
     * a step whose key must exclude others looks at pdr_attempt_cancelled(), or has no timeout. Not for steps with a queue.
     * Copied; never compared in replay. */
    const char *concurrency_key PDR_ZERO; /* default: none */
    int concurrency_limit PDR_ZERO;       /* default: 1 */
} pdr_step_options;

/* Of a child job. */
typedef struct pdr_child_options {
    size_t size PDR_ZERO;
    const char *id PDR_ZERO; /* default: PARENT/OPERATION */
    pdr_limit *limit PDR_ZERO;
    const char *label PDR_ZERO;
} pdr_child_options;

/* Of waiting for a future, a signal, a result. */
typedef struct pdr_wait_options {
    size_t size PDR_ZERO;
    int64_t timeout_ms PDR_ZERO; /* 0: for ever; then PDR_TIMED_OUT */
} pdr_wait_options;

/* Of a start by a client. */
typedef struct pdr_start_options {
    size_t size PDR_ZERO;
    bool again PDR_ZERO;             /* the id may be one of a job that has ended: another run begins */
    const char *request PDR_ZERO;    /* names this start, so that it can be repeated; at most 128 bytes; default: a random one */
    int64_t keep_ms PDR_ZERO;        /* remember the job this long after its end; default: 25 h */
    int64_t timeout_ms PDR_ZERO;     /* give up asking; default: 30 s */
} pdr_start_options;

#ifdef __cplusplus
}
template <class T> inline const T *pdr_address_(const T &temporary) { return &temporary; }
extern "C" {
#define PDR_OPTIONS_(T, ...) pdr_address_(T{ .size = sizeof(T), __VA_ARGS__ })
#else
#define PDR_OPTIONS_(T, ...) (&(T){ .size = sizeof(T), __VA_ARGS__ })
#endif

/* A message of another type must be an error, never a warning, also where perdure.h is a system header (compilers drop
 * warnings there). So a stray pointer becomes a struct, which converts to nothing. */
#ifdef __cplusplus
#define PDR_IN_(T, x) (x)
#define PDR_OUT_(T, x) (x)
#else
struct pdr_another_message_type { char unused; };
static const struct pdr_another_message_type pdr_mismatch_ PDR_UNUSED = { 0 };
#define PDR_IN_(T, x) _Generic((x), T *: (x), const T *: (x), default: pdr_mismatch_)
#define PDR_OUT_(T, x) _Generic((x), T **: (x), void *: (x), default: pdr_mismatch_) /* void *: NULL, not wanted */
#endif

/* ---- declarations --------------------------------------------------------------------------------------------- */

/* 4 to 7 are kept for queries, updates, promises and state. */
enum pdr_kind { PDR_KIND_STEP = 1, PDR_KIND_JOB = 2, PDR_KIND_SIGNAL = 3 };

/* What a declaration makes; there is one in every file that includes it: compare names, never addresses. */
typedef struct pdr_decl {
    size_t size;
    enum pdr_kind kind;
    const char *name;
    const pdr_type *in;
    const pdr_type *out;
    const void *defaults; /* pdr_step_options or pdr_child_options; NULL: none */
} pdr_decl;

/*
 * PDR_STEP(name, Input, Result, options...) declares a step and the function that does it:
 *     int name(pdr_attempt *attempt, const Input *in, Result *out);
 * It may do anything, also block. It runs at least once and is tried again after a failure; its result is logged once.
 * `out` comes initialised; it and all it points to are encoded when the function returns PDR_OK.
 */
#define PDR_STEP(name, ...) PDR_CALLABLE_(name, pdr_attempt, STEP, pdr_step_options, __VA_ARGS__, )

/*
 * PDR_JOB(name, Input, Result, options...) declares a job and its function:
 *     int name(pdr_job *job, const Input *in, Result *out);
 */
#define PDR_JOB(name, ...) \
    PDR_CALLABLE_(name, pdr_job, JOB, pdr_child_options, __VA_ARGS__, ) PDR_CLIENT_(name, __VA_ARGS__, )

/* PDR_SIGNAL(name, Message) declares a signal that jobs receive and anybody sends. */
#define PDR_SIGNAL(fn, In)                                                                                           \
    typedef In pdr_in_##fn;                                                                                          \
    PDR_FUTURE_(fn, In)                                                                                              \
    static const pdr_decl pdr_decl_##fn PDR_UNUSED = { sizeof(pdr_decl), PDR_KIND_SIGNAL, #fn, &pdr_type_##In,       \
                                                       &pdr_type_pdr_none, NULL };                                   \
    PDR_INLINE_ PDR_NODISCARD int fn##_pdr_receive(pdr_job *job, const pdr_site *site, In **out,                     \
                                                   const pdr_wait_options *options)                                  \
    {                                                                                                                \
        void *message = NULL;                                                                                        \
        int code = pdr_receive_(job, site, &pdr_decl_##fn, &message, options);                                       \
        if (out)                                                                                                     \
            *out = PDR_CAST_(In *, message);                                                                         \
        return code;                                                                                                 \
    }                                                                                                                \
    PDR_INLINE_ pdr_future_##fn fn##_pdr_expect(pdr_job *job, const pdr_site *site)                                  \
    {                                                                                                                \
        pdr_future_##fn future = { pdr_expect_(job, site, &pdr_decl_##fn) };                                         \
        return future;                                                                                               \
    }                                                                                                                \
    PDR_INLINE_ PDR_NODISCARD int fn##_pdr_send(pdr_job *job, const pdr_site *site, const char *id, const In *in)    \
    {                                                                                                                \
        return pdr_send_(job, site, &pdr_decl_##fn, id, in);                                                         \
    }                                                                                                                \
    PDR_INLINE_ PDR_NODISCARD int fn##_pdr_client_signal(pdr_client *client, const char *id, const In *in)           \
    {                                                                                                                \
        return pdr_client_signal_(client, &pdr_decl_##fn, id, in);                                                   \
    }

#define PDR_FUTURE_(fn, Out)                                                                                         \
    typedef Out pdr_out_##fn;                                                                                        \
    typedef struct pdr_future_##fn { pdr_future any; } pdr_future_##fn;                                              \
    PDR_INLINE_ PDR_NODISCARD int fn##_pdr_join(pdr_job *job, const pdr_site *site, pdr_future_##fn future,          \
                                                Out **out, const pdr_wait_options *options)                          \
    {                                                                                                                \
        void *result = NULL;                                                                                         \
        int code = pdr_join_(job, site, future.any, &result, options);                                               \
        if (out)                                                                                                     \
            *out = PDR_CAST_(Out *, result);                                                                         \
        return code;                                                                                                 \
    }

#define PDR_CALLABLE_(fn, Context, KIND, Options, In, Out, ...)                                                      \
    PDR_C_ PDR_LOCAL_ int fn(Context *context, const In *in, Out *out);                                              \
    typedef In pdr_in_##fn;                                                                                          \
    typedef Options pdr_options_##fn;                                                                                \
    PDR_FUTURE_(fn, Out)                                                                                             \
    static const Options pdr_defaults_##fn PDR_UNUSED = { .size = sizeof(Options), __VA_ARGS__ };                    \
    static const pdr_decl pdr_decl_##fn PDR_UNUSED = { sizeof(pdr_decl), PDR_KIND_##KIND, #fn, &pdr_type_##In,       \
                                                       &pdr_type_##Out, &pdr_defaults_##fn };                        \
    PDR_INLINE_ int fn##_pdr_run(void *context, const void *in, void *out)                                           \
    {                                                                                                                \
        return fn(PDR_CAST_(Context *, context), PDR_CAST_(const In *, in), PDR_CAST_(Out *, out));                  \
    }                                                                                                                \
    PDR_INLINE_ PDR_NODISCARD int fn##_pdr_await(pdr_job *job, const pdr_site *site, const In *in, Out **out,        \
                                                 const Options *options)                                             \
    {                                                                                                                \
        void *result = NULL;                                                                                         \
        int code = pdr_await_(job, site, &pdr_decl_##fn, in, &result, options);                                      \
        if (out)                                                                                                     \
            *out = PDR_CAST_(Out *, result);                                                                         \
        return code;                                                                                                 \
    }                                                                                                                \
    PDR_INLINE_ pdr_future_##fn fn##_pdr_start(pdr_job *job, const pdr_site *site, const In *in,                     \
                                               const Options *options)                                               \
    {                                                                                                                \
        pdr_future_##fn future = { pdr_start_(job, site, &pdr_decl_##fn, in, options) };                             \
        return future;                                                                                               \
    }                                                                                                                \
    PDR_INLINE_ int fn##_pdr_compensate(pdr_job *job, const pdr_site *site, const In *in, const Options *options)    \
    {                                                                                                                \
        return pdr_compensate_(job, site, &pdr_decl_##fn, in, options);                                              \
    }

#define PDR_CLIENT_(fn, In, Out, ...)                                                                                \
    PDR_INLINE_ PDR_NODISCARD int fn##_pdr_client_start(pdr_client *client, const char *id, const In *in,            \
                                                        const pdr_start_options *options)                            \
    {                                                                                                                \
        return pdr_client_start_(client, &pdr_decl_##fn, id, in, options);                                           \
    }                                                                                                                \
    PDR_INLINE_ PDR_NODISCARD int fn##_pdr_client_result(pdr_client *client, const char *id, Out **out,              \
                                                         const pdr_wait_options *options)                            \
    {                                                                                                                \
        void *result = NULL;                                                                                         \
        int code = pdr_client_result_(client, &pdr_decl_##fn, id, &result, options);                                 \
        if (out)                                                                                                     \
            *out = PDR_CAST_(Out *, result);                                                                         \
        return code;                                                                                                 \
    }

/* ---- in a job: awaits ----------------------------------------------------------------------------------------- */

/*
 * Every await returns PDR_OK or a code; pdr_error() tells more. Inputs are encoded before the call returns, so they may
 * be locals. Results live in the job's memory until the job ends and are the job's to change; `*out` is NULL unless
 * PDR_OK; `out` may be NULL. Once the job is asked to stop, the await in progress and every later one return
 * PDR_CANCELLED. An input above about 930 kB gives PDR_FAILED, type "TooLarge".
 */

/* Runs a step or a child job and waits for its result:
 *     pdr_await(job, name, const Input *in, Result **out, options...) */
#define pdr_await(job, name, in, ...) PDR_AWAIT_(job, name, in, __VA_ARGS__, )
#define PDR_AWAIT_(job, name, in, out, ...)                                                           \
    name##_pdr_await((job), PDR_HERE, PDR_IN_(pdr_in_##name, in), PDR_OUT_(pdr_out_##name, out),      \
                     PDR_OPTIONS_(pdr_options_##name, __VA_ARGS__))

/* Starts a step or a child job and goes on: pdr_future(name) f = pdr_start(job, name, const Input *in, options...).
 * What cannot be started (input too large ...) says so when it is joined. */
#define pdr_start(job, ...) PDR_START_(job, __VA_ARGS__, )
#define PDR_START_(job, name, in, ...) \
    name##_pdr_start((job), PDR_HERE, PDR_IN_(pdr_in_##name, in), PDR_OPTIONS_(pdr_options_##name, __VA_ARGS__))

/* Waits for a future: pdr_join(job, name, pdr_future(name) f, Result **out, .timeout_ms = ...). After PDR_TIMED_OUT
 * the future is as good as before. May be called again, with the same answer. */
#define pdr_join(job, name, future, ...) PDR_JOIN_(job, name, future, __VA_ARGS__, )
#define PDR_JOIN_(job, name, future, out, ...)                                                  \
    name##_pdr_join((job), PDR_HERE, (future), PDR_OUT_(pdr_out_##name, out),                   \
                    PDR_OPTIONS_(pdr_wait_options, __VA_ARGS__))

/* Waits for a signal: pdr_receive(job, name, Message **out, .timeout_ms = ...). Signals that come early are kept, in
 * order; each is received once. */
#define pdr_receive(job, name, ...) PDR_RECEIVE_(job, name, __VA_ARGS__, )
#define PDR_RECEIVE_(job, name, out, ...)                                    \
    name##_pdr_receive((job), PDR_HERE, PDR_OUT_(pdr_out_##name, out),       \
                       PDR_OPTIONS_(pdr_wait_options, __VA_ARGS__))

/* A future for the next signal of that name that no earlier receive or expect takes; for pdr_any() and pdr_join(). */
#define pdr_expect(job, name) name##_pdr_expect((job), PDR_HERE)

/* Signals another job: pdr_send(job, name, const char *id, const Message *in). Returns at once; delivered once, in
 * order, also across crashes. That there was no such job is written to the job's log. */
#define pdr_send(job, name, id, in) name##_pdr_send((job), PDR_HERE, (id), PDR_IN_(pdr_in_##name, in))

/*
 * Registers what undoes a step: pdr_compensate(job, name, const Input *in, options...). If the job does not end well
 * (its function returns another code than PDR_OK), all that was registered runs then, the last first, each to its end,
 * also when the job was cancelled. One that fails makes the job fail with "CompensationFailed", after the others ran.
 */
#define pdr_compensate(job, ...) PDR_COMPENSATE_(job, __VA_ARGS__, )
#define PDR_COMPENSATE_(job, name, in, ...)                                                \
    name##_pdr_compensate((job), PDR_HERE, PDR_IN_(pdr_in_##name, in),                     \
                          PDR_OPTIONS_(pdr_options_##name, __VA_ARGS__))

/* The type of a future of `name`; `.any` is the plain pdr_future in it. */
#define pdr_future(name) pdr_future_##name

/* Waits, across restarts: int pdr_sleep(job, milliseconds). A future that is ready then: pdr_timer(job, milliseconds). */
#define pdr_sleep(job, ms) pdr_sleep_((job), PDR_HERE, (ms))
#define pdr_timer(job, ms) pdr_timer_((job), PDR_HERE, (ms))

/* Wait until one, or all, of several futures are ready (failed ones are): int pdr_any(job, a.any, b.any, timer ...).
 * PDR_OK then; each one's own outcome is pdr_join()'s to say. */
#ifdef __cplusplus
#define pdr_any(job, ...) pdr_wait_list_((job), PDR_HERE, false, { __VA_ARGS__ })
#define pdr_all(job, ...) pdr_wait_list_((job), PDR_HERE, true, { __VA_ARGS__ })
#else
#define PDR_FUTURES_(...) \
    (const pdr_future[]){ __VA_ARGS__ }, sizeof((const pdr_future[]){ __VA_ARGS__ }) / sizeof(pdr_future)
#define pdr_any(job, ...) pdr_wait_((job), PDR_HERE, false, PDR_FUTURES_(__VA_ARGS__))
#define pdr_all(job, ...) pdr_wait_((job), PDR_HERE, true, PDR_FUTURES_(__VA_ARGS__))
#endif

/* Whether joining it would return at once. Does not wait. */
PDR_API bool pdr_ready(pdr_job *job, pdr_future future);

/* At most `at_once` of what is started with `.limit` of it run at the same time. Lives as long as the job. */
PDR_API pdr_limit *pdr_limit_new(pdr_job *job, int at_once);

/* ---- in a job: the rest ----------------------------------------------------------------------------------------- */

/*
 * Memory that lives until the job ends, zeroed; never NULL: when there is none left, the job is put aside, as if its
 * worker had stopped. pdr_array(job, T, count) is typed.
 */
PDR_API void *pdr_alloc(pdr_job *job, size_t size);
PDR_API void *pdr_alloc_array(pdr_job *job, size_t count, size_t size);
PDR_API void *pdr_message_new(pdr_job *job, const pdr_type *type);
#define pdr_array(job, T, count) PDR_CAST_(T *, pdr_alloc_array((job), (count), sizeof(T)))
PDR_API char *pdr_format(pdr_job *job, const char *format, ...) PDR_PRINTF(2, 3);

/* Calls `clean_up` (the last registered first) when the job function has returned, and also whenever the job leaves
 * memory, to be rebuilt later. For what the job's memory does not cover: files, foreign libraries' objects. It runs
 * after the locals of the job function are gone and must not await. */
PDR_API void pdr_defer(pdr_job *job, void (*clean_up)(void *), void *argument);

/* Says why the job fails, and returns PDR_FAILED, to be returned by the job function. If the last await failed, that
 * becomes the cause. */
PDR_API int pdr_fail(pdr_job *job, const char *type, const char *format, ...) PDR_PRINTF(3, 4);
/* Why the last await failed, or what pdr_fail() said; NULL after an await that did not fail. Lives as long as the job. */
PDR_API const pdr_failure *pdr_error(const pdr_job *job);

/* The time of the event that the job last went on with; never goes back, the same at every rebuild. */
PDR_API int64_t pdr_now(pdr_job *job);
/* The same numbers at every rebuild, others in every run. Not for secrets. */
PDR_API uint64_t pdr_random(pdr_job *job);
/* A version 4 UUID in text, 36 characters, from pdr_random(). */
PDR_API const char *pdr_uuid(pdr_job *job);
PDR_API const char *pdr_job_id(const pdr_job *job);

/* One line to the worker's log, named by the job; silent while the job is rebuilt. */
enum pdr_level { PDR_DEBUG = 0, PDR_INFO = 1, PDR_WARNING = 2, PDR_ERROR = 3 };
PDR_API void pdr_log(pdr_job *job, int level, const char *format, ...) PDR_PRINTF(3, 4);

/* ---- in a step ---------------------------------------------------------------------------------------------------- */

/* 1, 2 ... */
PDR_API int pdr_attempt_number(const pdr_attempt *attempt);
/* The same in every attempt of this step of this job, used by no other: give it to the outside as idempotency key.
 * Letters, digits and '-' only. Lives as long as the attempt. */
PDR_API const char *pdr_attempt_key(const pdr_attempt *attempt);
PDR_API const char *pdr_attempt_job_id(const pdr_attempt *attempt);
/* Memory that lives as long as the attempt, zeroed, for what `out` points to. NULL: out of memory; the attempt then
 * counts as failed, whatever it returns. */
PDR_API void *pdr_attempt_alloc(pdr_attempt *attempt, size_t size);
PDR_API char *pdr_attempt_format(pdr_attempt *attempt, const char *format, ...) PDR_PRINTF(2, 3);
/* Say why the attempt fails and return PDR_FAILED, to be returned by the step function. The first is tried again, as
 * the options say; the second is not. */
PDR_API int pdr_attempt_fail(pdr_attempt *attempt, const char *type, const char *format, ...) PDR_PRINTF(3, 4);
PDR_API int pdr_attempt_give_up(pdr_attempt *attempt, const char *type, const char *format, ...) PDR_PRINTF(3, 4);
/*
 * Names this attempt: whoever has it can complete the attempt from outside, by pdr_client_complete() or `perdure complete`.
 * A step that hands it to somebody (a person, a webhook) returns PDR_LATER: its thread is free, and the attempt goes on,
 * also across restarts, until it is completed or `timeout_ms` has passed. Lives as long as the attempt.
 */
PDR_API const char *pdr_attempt_token(pdr_attempt *attempt);
/* True: nobody waits for this attempt any more: its job was cancelled, terminated or has gone on, or the attempt has
 * outlived its timeout. What it returns will not count; a long step looks now and then, cleans up and returns. May come
 * late or never, as when a message is lost. Once true it stays so. */
PDR_API bool pdr_attempt_cancelled(const pdr_attempt *attempt);
/* Says how far a remote step is: shown by `perdure describe`, and a later attempt may find it. Call it as often as you
 * like: the newest is sent, twice a second at most. That the step lives is said without it. Of a step that its job's own
 * worker runs it goes nowhere. Text above 64,000 bytes is cut. */
PDR_API void pdr_attempt_heartbeat(pdr_attempt *attempt, const char *format, ...) PDR_PRINTF(2, 3);
/* What an earlier attempt of this remote step said last, as far as it was kept (once in 10 s at most): its text, or JSON
 * where a step worker in another language said it. NULL: nothing. Lives as long as the attempt. */
PDR_API const char *pdr_attempt_progress(pdr_attempt *attempt);

/* ---- modules ------------------------------------------------------------------------------------------------------ */

typedef struct pdr_entry {
    const pdr_decl *decl;
    int (*run)(void *context, const void *in, void *out);
} pdr_entry;

typedef struct pdr_module {
    size_t size;
    const char *name;
    const pdr_entry *entries;
    size_t entry_count;
    uint32_t header_version; /* PDR_HEADER_VERSION it was built with */
} pdr_module;

/*
 * PDR_MODULE(shop, PDR_RUNS(checkout), PDR_RUNS(charge), ...); once in a shared object: what it can run. PDR_CALLS(render)
 * names a step with a queue whose function is elsewhere: tools then can show its input and result. Jobs are then
 * known as "shop/checkout". Link it with a build id (-Wl,--build-id): it names the code a job ran with. Several modules
 * may be linked into one program and given to pdr_worker_add() as &pdr_module_shop.
 */
#define PDR_RUNS(name) { &pdr_decl_##name, name##_pdr_run }
#define PDR_CALLS(name) { &pdr_decl_##name, NULL }
#define PDR_MODULE(fn, ...)                                                                                          \
    static const pdr_entry pdr_entries_##fn[] = { __VA_ARGS__ };                                                     \
    PDR_C_ PDR_API const pdr_module pdr_module_##fn;                                                                 \
    const pdr_module pdr_module_##fn = { sizeof(pdr_module), #fn, pdr_entries_##fn,                                  \
                                         sizeof pdr_entries_##fn / sizeof(pdr_entry), PDR_HEADER_VERSION };          \
    PDR_C_ PDR_API const pdr_module pdr_module_entry __attribute__((weak, alias("pdr_module_" #fn)))

/* ---- a worker in your own program ----------------------------------------------------------------------------------- */

/* How a worker became the owner of a partition of the log, and what it took. */
typedef struct pdr_takeover {
    size_t size;          /* of this struct */
    uint32_t partition;
    const char *cause;    /* "first", "restart": it was ours before, "planned", "unplanned" */
    const char *previous; /* name of the owner before; "": nobody */
    int64_t silent_ms;    /* from its last record to our claim, by the log's clock: of one that died, what it took to
                             find out and to read; -1: not known */
    bool followed;        /* we read along before it was ours */
    uint64_t records, bytes; /* read for it */
    int64_t read_us, wait_us, claim_us; /* reading, waiting for the owner before, claiming */
    int64_t progress_us;  /* from then to the first step or event; -1: there was nothing to do */
} pdr_takeover;

typedef struct pdr_worker_options {
    size_t size PDR_ZERO;
    const char *log PDR_ZERO;              /* "sqlite:PATH" or "kafka://HOST:PORT/NAMESPACE"; default: $PERDURE_LOG, then
                                              "sqlite:perdure.db" */
    const char *data PDR_ZERO;             /* directory of the worker's own files; default: by the log's name */
    const char *name PDR_ZERO;             /* shown, and the static member id on Kafka; 127 bytes; default: kept in `data` */
    int step_threads PDR_ZERO;             /* default: 16 */
    int64_t session_timeout_ms PDR_ZERO;   /* Kafka: how long a silent worker keeps its partitions; default: 10 s */
    size_t live_jobs PDR_ZERO;             /* paused jobs kept with their stacks; default: 20,000 */
    size_t live_bytes PDR_ZERO;            /* memory of these; default: 512 MiB */
    /* Everything the worker has to say, and what jobs log; called on any of its threads. Default: nowhere. */
    void (*notice)(void *context, int level, const char *text) PDR_ZERO;
    void *notice_context PDR_ZERO;
    bool accept_lost_commands PDR_ZERO;    /* go on though the log has lost commands that no job has taken; default:
                                              refuse, and say which */
    const char *queue PDR_ZERO;            /* a step worker: runs no jobs, only what waits in this queue; Kafka only */
    const char *queue_rates PDR_ZERO;      /* tasks that this worker dispatches, a step worker: begins, at most:
                                              "gpu=5/s,mail=100/s" */
    const char *queue_limits PDR_ZERO;     /* tasks out that nobody has begun, of a partition: "gpu=100"; default: 1,000 */
    int64_t keep_ms PDR_ZERO;              /* a job that has ended is remembered so long at least; default: 25 h */
    int64_t life_ms PDR_ZERO;              /* older commands are refused; the same for all workers; default: 24 h */
    int64_t retention_bytes PDR_ZERO;      /* a journal is cut when it has grown to about this; default: 64 MiB;
                                              negative: never */
    int64_t retention_age_ms PDR_ZERO;     /* ... and after this, however little was written; default: as keep_ms */
    int64_t drain_timeout_ms PDR_ZERO;     /* how long running steps may end before a partition is given up, then their
                                              attempts are handed back; default: 10 s, of a step worker 30 s;
                                              -1: not at all */
    /* The same for takeovers, each also told as a notice; `notice_context` is its context. Default: nowhere. */
    void (*takeover)(void *context, const pdr_takeover *takeover) PDR_ZERO;
    int standby PDR_ZERO;                  /* Kafka: so many partitions of others are followed, nothing is written for
                                              them, and taking them over is quick; those that we would get if another
                                              worker went, as far as that can be told. Costs reading what is written
                                              there and memory as for own ones, without stacks; 0: none (default) */
    bool leave PDR_ZERO;                   /* pdr_worker_stop() means for good, as pdr_worker_leave() does */
    size_t memory_bytes PDR_ZERO;          /* what jobs, their inputs and what is not written yet may take, of all partitions:
                                              beyond, idle jobs leave memory, then others wait; default: half of the control
                                              group's limit, a quarter of the machine's memory where there is none */
    /* Of attempts that run in this worker, over all its partitions; a step is named as in its module, or MODULE/STEP. In a
     * step worker what finds no room goes to another. */
    const char *step_rates PDR_ZERO;       /* begun in a second at most: "charge=5/s,mail=0.2/s"; default: no limit */
    const char *step_limits PDR_ZERO;      /* at the same time at most: "charge=3"; default: no limit but step_threads */
    /* Runs of a job type, JOB or MODULE/JOB, that begin in this worker in a second at most, over all its partitions:
     * "checkout=20/s,shop/refund=0.2/s". Others wait in line after their start was accepted. pdr_worker_run() refuses a
     * type that no module added or loaded has. Default: no limit */
    const char *job_rates PDR_ZERO;
} pdr_worker_options;

/* Opens the log. `*out` is set also on failure, for pdr_worker_error(), unless PDR_NO_MEMORY; close it in any case.
 * `options` may be NULL. */
PDR_API int pdr_worker_open(const pdr_worker_options *options, pdr_worker **out) PDR_NODISCARD;
/* Before pdr_worker_run(). The module must outlive the worker. PDR_INVALID: pdr_worker_error() says what is wrong. */
PDR_API int pdr_worker_add(pdr_worker *worker, const pdr_module *module) PDR_NODISCARD;
/* The same from a shared object. */
PDR_API int pdr_worker_load(pdr_worker *worker, const char *path) PDR_NODISCARD;
/* Runs jobs until it is stopped (PDR_OK) or cannot go on. The calling thread runs the jobs. PDR_PARTITION_STOPPED: it ran
 * and was stopped, or had nothing left to run: pdr_worker_error() names a partition that it could not work on, and why. */
PDR_API int pdr_worker_run(pdr_worker *worker) PDR_NODISCARD;
/* Makes pdr_worker_run() return soon, with everything confirmed, to come back: on Kafka the worker stays a member and
 * keeps its partitions until its session timeout. Any thread; safe in a signal handler. */
PDR_API void pdr_worker_stop(pdr_worker *worker);
/* The same for good: its partitions are released and its membership ends, so that others go on at once. */
PDR_API void pdr_worker_leave(pdr_worker *worker);
/* Not while it runs. NULL is fine. */
PDR_API void pdr_worker_close(pdr_worker *worker);
/* Why the last call failed; "" if none did. Lives until the next call on the worker. */
PDR_API const char *pdr_worker_error(const pdr_worker *worker);

/* ---- a client ------------------------------------------------------------------------------------------------------- */

/* A client serves one thread at a time; any number of them may be open. In the child of a fork it is of no use, and closing it
 * does nothing there. A start or signal that returned PDR_OK is in
 * the log. `log`: as for workers; NULL: the default. `*out` is set also on failure, for pdr_client_error(), unless
 * PDR_NO_MEMORY; close it in any case. */
PDR_API int pdr_client_open(const char *log, pdr_client **out) PDR_NODISCARD;
PDR_API void pdr_client_close(pdr_client *client);

/*
 * pdr_client_start(client, name, const char *id, const Input *in, options...): PDR_OK also when a job of that id, type
 * and input was started before; PDR_EXISTS when another has the id.
 * pdr_client_signal(client, name, const char *id, const Message *in): PDR_NOT_FOUND when there is no such job.
 * pdr_client_result(client, name, const char *id, Result **out, .timeout_ms = ...): waits for the end. PDR_FAILED,
 * PDR_CANCELLED: how the job ended, pdr_client_failure() says why. `*out` is the caller's to pdr_free().
 * All: PDR_TIMED_OUT, PDR_UNREACHABLE; then it may or may not have happened, and may be repeated.
 */
#define pdr_client_start(client, ...) PDR_CLIENT_START_(client, __VA_ARGS__, )
#define PDR_CLIENT_START_(client, name, id, in, ...)                                    \
    name##_pdr_client_start((client), (id), PDR_IN_(pdr_in_##name, in),                 \
                            PDR_OPTIONS_(pdr_start_options, __VA_ARGS__))
#define pdr_client_signal(client, name, id, in) \
    name##_pdr_client_signal((client), (id), PDR_IN_(pdr_in_##name, in))
#define pdr_client_result(client, name, id, ...) PDR_CLIENT_RESULT_(client, name, id, __VA_ARGS__, )
#define PDR_CLIENT_RESULT_(client, name, id, out, ...)                                  \
    name##_pdr_client_result((client), (id), PDR_OUT_(pdr_out_##name, out),             \
                             PDR_OPTIONS_(pdr_wait_options, __VA_ARGS__))

/*
 * pdr_client_complete(client, name, const char *token, const Result *result): completes an attempt of a step from outside,
 * as pdr_attempt_token() or `perdure describe` named it. PDR_NOT_FOUND: nothing waits for that attempt (any more).
 * pdr_client_fail(client, token, type, message, final): the attempt failed; unless `final`, it is tried again.
 */
#define pdr_client_complete(client, name, token, result) \
    pdr_client_complete_((client), &pdr_decl_##name, (token), PDR_IN_(pdr_out_##name, result))
PDR_API int pdr_client_fail(pdr_client *client, const char *token, const char *type, const char *message,
                            bool final_) PDR_NODISCARD;

/* Asks a job to stop: its awaits return PDR_CANCELLED, its compensations run. `reason`: UTF-8 of at most 16 KiB, or NULL. */
PDR_API int pdr_client_cancel(pdr_client *client, const char *id, const char *reason) PDR_NODISCARD;
/* Ends a job where it stands: none of its code runs any more. */
PDR_API int pdr_client_terminate(pdr_client *client, const char *id, const char *reason) PDR_NODISCARD;
/* Lets a job try again that is quarantined or diverged. PDR_FAILED: it is neither. */
PDR_API int pdr_client_resume(pdr_client *client, const char *id, const char *reason) PDR_NODISCARD;
/* Frees what a client call returned, with all it points to. NULL is fine. */
PDR_API void pdr_free(void *message);
/* Why the last call failed, as a sentence; "" if none did. Lives until the next call on the client. */
PDR_API const char *pdr_client_error(const pdr_client *client);
/* How the job ended whose result was asked for last; NULL: well, or not yet. Lives until the next call. */
PDR_API const pdr_failure *pdr_client_failure(const pdr_client *client);

/* ---- what the verbs call: not for direct use ---------------------------------------------------------------------- */

PDR_API int pdr_await_(pdr_job *, const pdr_site *, const pdr_decl *, const void *in, void **out, const void *options);
PDR_API pdr_future pdr_start_(pdr_job *, const pdr_site *, const pdr_decl *, const void *in, const void *options);
PDR_API int pdr_join_(pdr_job *, const pdr_site *, pdr_future, void **out, const pdr_wait_options *);
PDR_API int pdr_receive_(pdr_job *, const pdr_site *, const pdr_decl *, void **out, const pdr_wait_options *);
PDR_API pdr_future pdr_expect_(pdr_job *, const pdr_site *, const pdr_decl *);
PDR_API int pdr_send_(pdr_job *, const pdr_site *, const pdr_decl *, const char *id, const void *in);
PDR_API int pdr_compensate_(pdr_job *, const pdr_site *, const pdr_decl *, const void *in, const void *options);
PDR_API int pdr_sleep_(pdr_job *, const pdr_site *, int64_t ms) PDR_NODISCARD;
PDR_API pdr_future pdr_timer_(pdr_job *, const pdr_site *, int64_t ms);
PDR_API int pdr_wait_(pdr_job *, const pdr_site *, bool all, const pdr_future *, size_t count) PDR_NODISCARD;
PDR_API int pdr_client_start_(pdr_client *, const pdr_decl *, const char *id, const void *in,
                              const pdr_start_options *);
PDR_API int pdr_client_signal_(pdr_client *, const pdr_decl *, const char *id, const void *in);
PDR_API int pdr_client_complete_(pdr_client *, const pdr_decl *, const char *token, const void *result) PDR_NODISCARD;
PDR_API int pdr_client_result_(pdr_client *, const pdr_decl *, const char *id, void **out, const pdr_wait_options *);

#ifdef __cplusplus
}
#include <initializer_list>
PDR_NODISCARD inline int pdr_wait_list_(pdr_job *job, const pdr_site *site, bool all,
                                        std::initializer_list<pdr_future> futures)
{
    return pdr_wait_(job, site, all, futures.begin(), futures.size());
}
#endif
#endif
