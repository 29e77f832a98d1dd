/*
 * What the worker before this one left in the memory that its supervisor keeps: each crash goes to the engine of its
 * job's partition, which journals it once it owns that. If another worker owns it by then, nobody does: that one runs
 * the job, and counts what it sees itself. A step worker tells the owner: queue_crashes.c.
 */
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "crash/slot.h"
#include "worker/worker.h"

#define CRASH_REPORT_LIFE_MS INT64_C(600000) /* by then the job has gone on elsewhere */

static char **trace_split(char *text, size_t *count)
{
    char **lines = calloc(CRASH_FRAMES, sizeof *lines);
    *count = 0;
    for (char *line = strtok_r(text, "\n", &text); line && lines && *count < CRASH_FRAMES;
         line = strtok_r(NULL, "\n", &text))
        lines[(*count)++] = line;
    return lines;
}

/* The memory is another process's too: what is read of it ends, whatever it holds. */
static void text_end(char *text, size_t size) { text[size - 1] = '\0'; }

static void report_bound(struct crash_report *report)
{
    text_end(report->job, sizeof report->job);
    text_end(report->name, sizeof report->name);
    text_end(report->build, sizeof report->build);
    text_end(report->reason, sizeof report->reason);
    text_end(report->trace, sizeof report->trace);
    text_end(report->site_file, sizeof report->site_file);
    text_end(report->site_function, sizeof report->site_function);
}

static void report_tell(struct pdr_worker *worker, struct engine *engine, struct crash_report *report)
{
    Event event = PERDURE__V1__EVENT__INIT;
    Site site = PERDURE__V1__SITE__INIT;
    Perdure__V1__JobCrashed crash = PERDURE__V1__JOB_CRASHED__INIT;
    crash.trace = trace_split(report->trace, &crash.n_trace);
    crash.crash = report->id;
    crash.reason = report->reason;
    crash.signal = report->signal;
    crash.name = report->name;
    crash.attempt = report->attempt;
    crash.worker = worker->name;
    crash.build = report->build;
    crash.count = report->counts ? 1 : 0;
    crash.at = report->at_ms;
    event.op = report->kind == CRASH_IN_JOB ? 0 : report->op;
    site.file = report->site_file;
    site.function = report->site_function;
    site.line = report->site_line;
    event.site = report->site_file[0] ? &site : NULL;
    event.kind_case = PERDURE__V1__EVENT__KIND_JOB_CRASHED;
    event.job_crashed = &crash;
    engine_on_crashed(engine, report->job, report->run, &event);
    free(crash.trace);
}

bool crash_report_read(size_t index, struct crash_report *copy)
{
    struct crash_record *record = crash_record_attached();
    struct crash_report *report = record ? &record->report[index] : NULL;
    uint32_t state = report ? atomic_load(&report->state) : CRASH_REPORT_FREE;
    if (state != CRASH_REPORT_PENDING && state != CRASH_REPORT_TOLD)
        return false;
    *copy = *report;
    report_bound(copy);
    if (worker_wall_ms() - copy->at_ms <= CRASH_REPORT_LIFE_MS)
        return true;
    atomic_store(&report->state, CRASH_REPORT_DONE);
    return false;
}

void worker_tell_crashes(struct pdr_worker *worker, uint32_t partition)
{
    struct crash_report copy;
    for (size_t i = 0; i < CRASH_REPORTS; i++)
        if (crash_report_read(i, &copy) && partition_of(copy.job, worker->partition_count) == partition)
            report_tell(worker, worker->partitions[partition].engine, &copy);
}

static void report_becomes(uint64_t id, uint32_t state)
{
    struct crash_record *record = crash_record_attached();
    for (size_t i = 0; record && i < CRASH_REPORTS; i++)
        if (atomic_load(&record->report[i].state) == CRASH_REPORT_PENDING && record->report[i].id == id)
            atomic_store(&record->report[i].state, state);
}

void worker_crash_done(uint64_t id) { report_becomes(id, CRASH_REPORT_DONE); }

void worker_crash_told(uint64_t id) { report_becomes(id, CRASH_REPORT_TOLD); }
