/*
 * Says which job's code runs on which thread, in memory that a supervisor reads when the process is gone. Nothing of it
 * happens until a program gives the memory: the library alone never does.
 */
#ifndef PERDURE_CRASH_SLOT_H
#define PERDURE_CRASH_SLOT_H

#include <perdure/perdure.h>
#include <stddef.h>
#include <string.h>

#include "crash/crash_record.h"

/* This thread's place; NULL: nobody looks. */
extern __thread struct crash_slot *crash_slot_mine;

/* Before any worker runs. `prepare`, if not NULL, is called on each thread that will run code of jobs. */
void crash_record_attach(struct crash_record *record, void (*prepare)(void));
void crash_limit_set(uint32_t limit); /* crashes of a job in a row until it is put aside */
uint32_t crash_limit(void);           /* 0: not set */
struct crash_record *crash_record_attached(void); /* NULL: none */

/* A thread that will run code of jobs, and one that will not any more. */
void crash_thread_begin(void);
void crash_thread_end(void);
void crash_serving(void); /* the worker's loop begins */
void crash_heartbeat(void);

#ifdef PDR_MUTATIONS /* the simulator decides there whose code crashes */
extern void (*crash_probe)(enum crash_kind kind, const char *job, uint64_t run);
#define CRASH_PROBE(kind, job, run) (crash_probe ? crash_probe((kind), (job), (run)) : (void)0)
#else
#define CRASH_PROBE(kind, job, run) ((void)0)
#endif

static inline void crash_slot_begin(enum crash_kind kind, const char *job, uint64_t run, const char *name,
                                    const char *build)
{
    struct crash_slot *slot = crash_slot_mine;
    if (!slot)
        return;
    size_t size = strlen(job) + 1;
    slot->kind = kind;
    slot->run = run;
    slot->op = 0;
    slot->attempt = 0;
    slot->site = NULL;
    slot->name = name;
    slot->build = build;
    memcpy(slot->job, job, size < sizeof slot->job ? size : sizeof slot->job - 1); /* ends with the zeros it began with */
}

/* From here on what happens on this thread is of what was said. */
static inline void crash_slot_commit(void)
{
    struct crash_slot *slot = crash_slot_mine;
    if (slot)
        atomic_store_explicit(&slot->busy, ++slot->begun, memory_order_release);
}

static inline void crash_slot_leave(void)
{
    struct crash_slot *slot = crash_slot_mine;
    if (slot)
        atomic_store_explicit(&slot->busy, 0, memory_order_release);
}

/* The job's code goes on at `site`, on a coroutine's stack; `size` 0: on the thread's own. */
static inline void crash_enter_job(const char *job, uint64_t run, const char *name, const char *build,
                                   const pdr_site *site, const void *stack_top, size_t stack_size)
{
    struct crash_slot *slot = crash_slot_mine;
    CRASH_PROBE(CRASH_IN_JOB, job, run);
    if (!slot)
        return;
    crash_slot_begin(CRASH_IN_JOB, job, run, name, build);
    slot->site = site;
    slot->stack_high = (uint64_t)(uintptr_t)stack_top;
    slot->stack_low = slot->stack_high - stack_size;
    crash_slot_commit();
}

/* An attempt of a step begins. In place: on the thread that runs jobs too. */
void crash_enter_step(const char *job, uint64_t run, uint64_t op, uint32_t attempt, const char *name, const char *build);

#endif
