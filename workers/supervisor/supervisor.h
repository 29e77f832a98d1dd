/*
 * The supervisor of a worker: a small process that starts it, again when it crashes, and says whose code it was. Nothing
 * of the runtime is in it but the layout of the memory the two share. What the files share.
 *   main.c: command line, signals, the loop    child.c: starting and reaping     watch.c: the watchdog
 *   report.c: whose crash it was               symbols.c: names for addresses    notify.c: the service manager, health
 *   memory.c: killed for want of it
 */
#ifndef PERDURE_SUPERVISOR_H
#define PERDURE_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "crash/crash_record.h"

#define SUSPECTS 64 /* of one kill; more are not remembered */

struct supervisor {
    char **command;      /* of the worker, ends with NULL */
    int64_t watchdog_ms; /* 0: none */
    bool json, quiet;
    struct crash_record *record;
    int record_file;

    pid_t child; /* 0: none now */
    int64_t begun_ms;
    bool served;          /* this child has begun to run jobs */
    bool ever_served;     /* some child has */
    bool ready_told;
    bool stopping;        /* asked to end: the child is not started again */
    int stop_signal;
    unsigned crashes;     /* in a row, without a sign of progress between them */
    int64_t restart_ms;   /* monotonic; 0: not waiting */

    int64_t watched_ms;   /* the watchdog looked last */
    struct watched *watched;
    bool verdict;         /* a thread was asked for its backtrace; what follows is the end of this child */
    int64_t verdict_ms;
    int32_t verdict_slot;

    int64_t memory_kills, memory_kills_before; /* of this machine, looked at last and before; -1: not known */
    int64_t memory_ms;
    bool out_of_memory;      /* this child was killed for it */
    struct suspect {
        uint32_t kind;
        uint64_t run, op;
    } suspect[SUSPECTS];     /* the calls that ran then, the last time */
    size_t suspect_count;

    int64_t notify_every_ms; /* the service manager's watchdog; 0: none */
    int64_t notified_ms;
    uint64_t heartbeat;
    int64_t heartbeat_ms;
    int64_t health_ms;       /* the health file was touched last */
};

int64_t supervisor_now_ms(void);
enum { SAY_INFO = 1, SAY_WARNING = 2, SAY_ERROR = 3 };
/* One line to standard error, in the form of the worker's own. */
void say(const struct supervisor *supervisor, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* child.c */
bool child_start(struct supervisor *supervisor);
/* It has ended with `status`. Returns an exit code: the supervisor ends too; -1: it goes on. */
int child_ended(struct supervisor *supervisor, int status);

/* watch.c */
struct watched {
    uint64_t busy;
    int64_t ms; /* seen so for so long, as far as the child could run */
};
void watch_begin(struct supervisor *supervisor); /* of a new child */
void watch_look(struct supervisor *supervisor);
int watch_timeout(const struct supervisor *supervisor); /* milliseconds until the next look */

/* memory.c */
void memory_begin(struct supervisor *supervisor); /* of a new child */
void memory_look(struct supervisor *supervisor);
bool memory_was_short(const struct supervisor *supervisor, int status); /* the child that ended so was killed for it */
/* It is held against this call, one of `busy`. */
bool memory_suspects(const struct supervisor *supervisor, const struct crash_slot *slot, uint32_t busy);
void memory_remember(struct supervisor *supervisor); /* who ran: for the next time */

/* report.c: after the child's end, from what stands in the record. */
void report_crash(struct supervisor *supervisor, int status);
unsigned reports_done(struct supervisor *supervisor); /* frees those that were journaled; how many */

/* symbols.c: "function+0x12 (module.so+0x1139)". */
void symbol_of(const struct crash_record *record, uint64_t address, char *text, size_t size);

/* notify.c: sd_notify(3), without its library. Does nothing when no service manager asks for it. */
void notify(const char *state);
int64_t notify_interval_ms(void); /* 0: no watchdog is asked for */
/* The file that $PERDURE_HEALTH_FILE names, if it does, is as old as the last sign of life of the worker's loop: what the
 * health check of a container looks at. */
void health_touch(void);

#endif
