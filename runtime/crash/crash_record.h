/*
 * The memory that a supervised worker shares with its supervisor, and that outlives it: who runs job code on which
 * thread, what a crash was, what the next worker has to journal of it. Plain C: the supervisor has nothing else of the
 * runtime in it. Written with atomic stores; the supervisor only reads, but for `reports`.
 */
#ifndef PERDURE_CRASH_RECORD_H
#define PERDURE_CRASH_RECORD_H

#include <stdatomic.h>
#include <stdint.h>

#define CRASH_RECORD_MAGIC UINT64_C(0x3243455253524450) /* another layout: another number */
/* The environment of a supervised worker: "DESCRIPTOR". The worker takes it out, so that steps never see it. */
#define CRASH_RECORD_ENVIRONMENT "PERDURE_SUPERVISED"

#define CRASH_THREADS 2100 /* the loop, 1,024 that run steps, as many in the place of stuck ones */
#define CRASH_MODULES 128
#define CRASH_FRAMES 48
#define CRASH_REPORTS 16
#define CRASH_JOB_BYTES 256
#define CRASH_NAME_BYTES 256
#define CRASH_PATH_BYTES 512

enum crash_kind { CRASH_IDLE, CRASH_IN_JOB, CRASH_IN_STEP, CRASH_IN_PLACE /* a step on the loop's thread */ };

/* What one thread runs. `busy` is 0 while that is nothing of a job's, else a number that rises with each beginning: one
 * that stays the same is one call that does not return. */
struct crash_slot {
    _Atomic uint64_t busy;
    _Atomic int32_t thread; /* kernel's id; 0: free */
    uint32_t kind;
    uint64_t begun;         /* counts beginnings */
    uint64_t run;
    uint64_t op;
    uint32_t attempt;
    uint64_t stack_low, stack_high; /* of what runs; below it is a guard */
    const void *name;       /* MODULE/JOB or MODULE/STEP and the build id: readable in the process only */
    const void *build;
    const void *site;       /* the last await: struct pdr_site */
    char job[CRASH_JOB_BYTES];
};

enum crash_reason {
    CRASH_SIGNAL,   /* by the handler */
    CRASH_OVERFLOW, /* SIGSEGV below a stack */
    CRASH_EXIT,     /* code of a job or step called exit() */
    CRASH_WATCHDOG, /* a job did not await for too long */
    CRASH_KILLED,   /* by a signal that cannot be caught: kill -9, out of memory */
};

/* Filled by the handler while the process dies; `state` says how far it came. */
enum { CRASH_NONE, CRASH_BEGUN, CRASH_WHOLE };
struct crash_now {
    _Atomic uint32_t state;
    uint32_t reason;
    int32_t signal;
    int32_t code;      /* si_code */
    int32_t status;    /* of exit() */
    int32_t slot;      /* -1: no job's code was running on the thread */
    uint64_t address;  /* si_addr */
    _Atomic uint32_t frames;
    uint64_t frame[CRASH_FRAMES]; /* innermost first */
    char name[CRASH_NAME_BYTES];
    char build[64];
    char site_file[CRASH_NAME_BYTES];
    char site_function[CRASH_NAME_BYTES];
    uint32_t site_line;
};

struct crash_module {
    uint64_t low, high, base;
    char path[CRASH_PATH_BYTES];
};

/* What is to be journaled of a crash: the supervisor writes it, the next worker takes it. TOLD: a step worker's that its
 * owner knows of; its task may come again for a while. */
enum { CRASH_REPORT_FREE, CRASH_REPORT_PENDING, CRASH_REPORT_DONE, CRASH_REPORT_TOLD };
enum { CRASH_COUNTS = 1, CRASH_COUNTED /* by the supervisor already, in a row of crashes */ };
struct crash_report {
    _Atomic uint32_t state;
    uint32_t kind;
    uint64_t id;        /* random: one crash is journaled once */
    int64_t at_ms;
    int32_t signal;
    uint32_t counts;    /* CRASH_COUNTS, _COUNTED: it is the code's own fault; 0: it was only there when the worker was killed */
    uint64_t run;
    uint64_t op;
    uint32_t attempt;
    uint32_t site_line;
    char job[CRASH_JOB_BYTES];
    char name[CRASH_NAME_BYTES];
    char build[64];
    char site_file[CRASH_NAME_BYTES];
    char site_function[CRASH_NAME_BYTES];
    char reason[CRASH_NAME_BYTES];
    char trace[CRASH_FRAMES * 160]; /* a line a frame */
};

/* What the worker is at. */
enum { CRASH_CHILD_STARTS, CRASH_CHILD_SERVES, CRASH_CHILD_LEAVES /* its exit code is its own */ };

struct crash_record {
    uint64_t magic;
    uint64_t size;
    int32_t supervisor;         /* its process id */
    uint64_t place;             /* random: under it a worker that comes back is known to the group of its queue; 0: none */
    _Atomic uint32_t child;     /* CRASH_CHILD_... */
    _Atomic uint32_t watchdog;  /* the supervisor's verdict: the next SIGXCPU is it; the handler may take it back */
    _Atomic uint64_t heartbeat; /* rounds of the worker's loop */
    _Atomic uint32_t slots;     /* so many of the first were ever taken */
    _Atomic uint32_t modules;
    struct crash_module module[CRASH_MODULES];
    struct crash_now now;
    struct crash_report report[CRASH_REPORTS];
    struct crash_slot slot[CRASH_THREADS];
};

#endif
