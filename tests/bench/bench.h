/*
 * perdure-bench: what Perdure costs beside the least that its log could cost, in one run of one program.
 */
#ifndef PERDURE_BENCH_H
#define PERDURE_BENCH_H

#include <perdure/perdure.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/wire.h"

/* ---- options and output (main.c, environment.c) --------------------------------------------------------------- */

struct bench {
    const char *only;
    const char *log; /* as given; NULL: sqlite in a temporary directory */
    const char *program;
    bool json;
    bool quick;
    bool kafka;
    uint32_t partitions; /* of namespaces made here */
    size_t open;         /* jobs open at a time; 0: several numbers are tried */
    pid_t broker;        /* 0: unknown */
    char directory[256]; /* ours, removed at the end */
    char *environment;   /* JSON object */
    int logs;
    struct shared *shared;
    int shared_file;
};

/* `floor` 0: there is none. */
void bench_figure(struct bench *bench, const char *name, double value, const char *unit, double floor, double ratio);
void bench_note(const struct bench *bench, const char *format, ...) __attribute__((format(printf, 2, 3)));
__attribute__((noreturn, format(printf, 1, 2))) void bench_fail(const char *format, ...);
char *bench_environment(const struct bench *bench);
/* A log of its own for one figure. */
void bench_log_new(struct bench *bench, const char *what, char *uri, size_t size);
/* On Kafka: its topics go. */
void bench_log_drop(struct bench *bench, const char *uri);
/* Host part of --log kafka://HOST:PORT/NAME, and a topic name of ours. */
void bench_brokers(const struct bench *bench, char *brokers, size_t size);
void bench_topic(const struct bench *bench, const char *what, char *name, size_t size);
pid_t bench_find_broker(const char *brokers);

/* ---- clocks, sums (measure.c) ----------------------------------------------------------------------------------- */

int64_t now_ns(void);
struct samples {
    double *values;
    size_t count, space;
};
void samples_add(struct samples *samples, double value);
double samples_percentile(struct samples *samples, double percent); /* sorts */
void samples_free(struct samples *samples);
double process_cpu_seconds(pid_t pid); /* 0: self; < 0: unknown */
int64_t process_rss_bytes(pid_t pid);
void sleep_ms(int64_t ms);

/* ---- the worker's process (host.c) ------------------------------------------------------------------------------ */

#define SHARED_STAMPS (1 << 20)
#define SHARED_PARTITIONS 256
struct shared {
    _Atomic uint64_t ticks;                        /* steps `tick` that ran, in all */
    _Atomic int64_t stamps[SHARED_STAMPS];         /* ns, of each */
    _Atomic int64_t owned_ns[SHARED_PARTITIONS];   /* when the worker said that it owns it; 0: not */
    _Atomic uint64_t replayed_events, replayed_us; /* of the last replay that it told */
    _Atomic uint32_t owned;
};
extern struct shared *bench_shared;

struct host {
    pid_t pid;
};
struct host_limits {
    size_t live_jobs, live_bytes;
};
void shared_new(struct bench *bench);
/* Starts the worker and waits until it owns every partition. */
void host_start(struct bench *bench, const char *uri, const struct host_limits *limits, struct host *host);
void host_start_only(struct bench *bench, const char *uri, const struct host_limits *limits, struct host *host);
/* A step worker of `queue`. */
void host_start_queue(struct bench *bench, const char *uri, const char *queue, struct host *host);
void host_stop(struct host *host); /* SIGTERM */
void host_kill(struct host *host); /* SIGKILL */
int host_main(int count, char **arguments); /* perdure-bench worker ... */

/* ---- one record as the engine writes it (records.c) -------------------------------------------------------------- */

struct row {
    char *data;
    size_t size;
    char job[256];
    uint64_t run, seq;
    char kind[32], name[128];
};
/* Runs a job; gives its start as it stood in the inbox, and up to `limit` records of its journal. How many. */
size_t rows_of_job(const char *uri, const char *type, const char *job, const char *input, struct row *inbox,
                   struct row *rows, size_t limit);
void row_free(struct row *row);

/* ---- many jobs at once by the client library (load.c) ------------------------------------------------------------ */

struct load_result {
    double seconds;
    uint64_t jobs;
    double worker_cpu, client_cpu, broker_cpu; /* seconds */
};
/* A watched start with a text. */
void load_command(Command *command, Perdure__V1__Start *start, Payload *payload, const char *type, const char *input);
/* Runs jobs of `type`, `open` at a time, for `seconds` after a warm-up. */
void load_run(struct bench *bench, const char *uri, pid_t worker, const char *type, size_t open, double seconds,
              struct load_result *result);
/* The same with `rate` jobs a second, evenly; `seconds` is how long it started jobs. */
void load_paced(struct bench *bench, const char *uri, const char *type, double rate, double seconds,
                struct load_result *result);
int load_main(int count, char **arguments); /* perdure-bench load ... */
/* Starts `count` jobs that go on waiting; returns when all were accepted. `input` NULL: some text. */
void load_start(const char *uri, const char *type, const char *prefix, const char *input, size_t count);
/* Runs `count` jobs one after the other: milliseconds from the start of each to the news of its end. */
void load_probe(const char *uri, const char *type, size_t count, int64_t pause_ms, struct samples *ms);

/* ---- floors ------------------------------------------------------------------------------------------------------- */

struct sqlite_floor;
struct sqlite_floor *sqlite_floor_open(struct bench *bench, const char *name);
double sqlite_floor_commit(struct sqlite_floor *floor, const struct row *row); /* us of one commit of one row */
/* Jobs a second: inbox row, `count` journal rows each after the one before was committed; `open` jobs at a time. */
double sqlite_floor_jobs(struct sqlite_floor *floor, const struct row *inbox, const struct row *rows, size_t count,
                         size_t open, double seconds);
void sqlite_floor_close(struct sqlite_floor *floor);

struct kafka_floor;
struct kafka_floor *kafka_floor_open(struct bench *bench, const char *name);
double kafka_floor_round_trip(struct kafka_floor *floor, const struct row *row); /* us: acknowledged and read back */
void kafka_floor_close(struct kafka_floor *floor);
/* The same loop by two processes: this one starts and hears, the other chains the records. */
double kafka_bare_jobs(struct bench *bench, const struct row *inbox, const struct row *rows, size_t count, size_t open,
                       int linger_ms, double seconds, struct load_result *result);
int kafka_bare_main(int count, char **arguments); /* perdure-bench bare ... */

/* ---- figures ------------------------------------------------------------------------------------------------------- */

void figure_step(struct bench *bench);
void figure_result(struct bench *bench);
void figure_remote(struct bench *bench);
void figure_hello(struct bench *bench);
void figure_replay(struct bench *bench);
void figure_restart(struct bench *bench);
void figure_memory(struct bench *bench);

extern const pdr_module pdr_module_bench;
PDR_JOB(chain, pdr_text, pdr_text)
PDR_JOB(far_chain, pdr_text, pdr_text)
PDR_JOB(single, pdr_text, pdr_text)
PDR_JOB(hello, pdr_text, pdr_text)
PDR_JOB(fill, pdr_text, pdr_text)
PDR_JOB(pause_here, pdr_text, pdr_text)

#endif
