/*
 * What the events of a run say of its crashes: how many in a row, in whose code, and whether it is put aside for them.
 * Derived from the journal alone, so that every owner counts the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <perdure/perdure.h>

#include "engine/judge.h"
#include "wire/wire.h"

#define COUNTS (sizeof((struct crash_tally *)0)->counts / sizeof(struct crash_count))

void crash_tally_free(struct crash_tally *tally)
{
    if (tally)
        free(tally->report);
    free(tally);
}

#define RECENT (sizeof((struct crash_tally *)0)->recent / sizeof(uint64_t))

bool crash_is_known(const struct crash_tally *tally, uint64_t id)
{
    for (uint32_t i = 0; tally && i < tally->recent_count; i++)
        if (tally->recent[i] == id)
            return true;
    return false;
}

static void recent_add(struct crash_tally *tally, uint64_t id)
{
    if (tally->recent_count == RECENT)
        memmove(tally->recent, tally->recent + 1, --tally->recent_count * sizeof *tally->recent);
    tally->recent[tally->recent_count++] = id;
}

const struct crash_count *crash_count_of(const struct crash_tally *tally, uint64_t op)
{
    for (size_t i = 0; tally && i < tally->count; i++)
        if (tally->counts[i].op == op)
            return &tally->counts[i];
    return NULL;
}

static void count_drop(struct crash_tally *tally, uint64_t op)
{
    for (size_t i = 0; i < tally->count; i++)
        if (tally->counts[i].op == op) {
            memmove(&tally->counts[i], &tally->counts[i + 1], (tally->count - i - 1) * sizeof *tally->counts);
            tally->count--;
            return;
        }
}

/* Steps that crash by turns, more than are told apart: the oldest count goes; the total bounds them all. */
static struct crash_count *count_add(struct crash_tally *tally, uint64_t op)
{
    if (tally->count == COUNTS)
        count_drop(tally, tally->counts[0].op);
    tally->counts[tally->count] = (struct crash_count){ .op = op };
    return &tally->counts[tally->count++];
}

static char *report_make(const Perdure__V1__JobCrashed *crash)
{
    char *report = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&report, &size);
    if (!out)
        return NULL;
    fprintf(out, "%s%s%s", crash->name, crash->name[0] ? ": " : "", crash->reason);
    if (crash->attempt)
        fprintf(out, " (attempt %u)", crash->attempt);
    if (crash->count > 1)
        fprintf(out, ", %u times in a row", crash->count);
    for (size_t i = 0; i < crash->n_trace; i++)
        fprintf(out, "\n    %s", crash->trace[i]);
    return fclose(out) == 0 ? report : NULL;
}

static int on_crashed(struct run *run, const Event *event)
{
    const Perdure__V1__JobCrashed *crash = event->job_crashed;
    if (!run->crashes && !(run->crashes = calloc(1, sizeof *run->crashes)))
        return PDR_NO_MEMORY;
    struct crash_tally *tally = run->crashes;
    recent_add(tally, crash->crash);
    tally->t = event->t;
    tally->quarantined = tally->quarantined || crash->quarantined;
    free(tally->report);
    if (!(tally->report = report_make(crash)))
        return PDR_NO_MEMORY;
    if (crash->count == 0)
        return PDR_OK; /* it was only there */
    tally->total++;
    struct crash_count *count = (struct crash_count *)crash_count_of(tally, event->op);
    if (!count)
        count = count_add(tally, event->op);
    count->attempt = crash->attempt;
    count->count = crash->count;
    snprintf(count->reason, sizeof count->reason, "%s", crash->reason);
    utf8_repair(count->reason); /* cut */
    return PDR_OK;
}

static void on_resumed(struct run *run)
{
    if (!run->crashes)
        return;
    run->crashes->quarantined = false;
    run->crashes->count = 0;
    run->crashes->total = 0;
}

/* A step that ended without a crash has no row of them any more. */
static void on_attempt_failed(struct crash_tally *tally, const Event *event)
{
    const struct crash_count *count = crash_count_of(tally, event->op);
    if (count && count->attempt != event->attempt_failed->attempt)
        count_drop(tally, event->op);
}

int crash_on_event(struct run *run, const Event *event)
{
    if (event->kind_case == PERDURE__V1__EVENT__KIND_JOB_CRASHED)
        return on_crashed(run, event);
    if (!run->crashes)
        return PDR_OK;
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_RESUMED:
        on_resumed(run);
        break;
    case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
        on_attempt_failed(run->crashes, event);
        break;
    case PERDURE__V1__EVENT__KIND_STARTED: /* what came from outside says nothing of the job's own code */
    case PERDURE__V1__EVENT__KIND_CANCEL_REQUESTED:
    case PERDURE__V1__EVENT__KIND_SEND_REFUSED:
    case PERDURE__V1__EVENT__KIND_STEP_PROGRESS:
        break;
    case PERDURE__V1__EVENT__KIND_STEP_COMPLETED:
    case PERDURE__V1__EVENT__KIND_STEP_FAILED:
        count_drop(run->crashes, event->op);
        count_drop(run->crashes, 0);
        break;
    case PERDURE__V1__EVENT__KIND_COMPLETED:
    case PERDURE__V1__EVENT__KIND_FAILED:
    case PERDURE__V1__EVENT__KIND_CANCELLED:
    case PERDURE__V1__EVENT__KIND_TERMINATED:
        crash_tally_free(run->crashes);
        run->crashes = NULL;
        break;
    default: /* its code took part in this and went on: progress */
        count_drop(run->crashes, 0);
        break;
    }
    return PDR_OK;
}

int crash_restore(struct run *run, const StoredCrashes *stored)
{
    if (!stored)
        return PDR_OK;
    struct crash_tally *tally = run->crashes = calloc(1, sizeof *tally);
    if (!tally)
        return PDR_NO_MEMORY;
    for (size_t i = 0; i < stored->n_recent; i++)
        recent_add(tally, stored->recent[i]);
    tally->total = stored->total;
    tally->quarantined = stored->quarantined;
    tally->t = stored->t;
    tally->report = strdup(stored->report);
    for (size_t i = 0; i < stored->n_counts; i++) {
        struct crash_count *count = count_add(tally, stored->counts[i]->op);
        count->attempt = stored->counts[i]->attempt;
        count->count = stored->counts[i]->count;
        snprintf(count->reason, sizeof count->reason, "%s", stored->counts[i]->reason);
    }
    return tally->report ? PDR_OK : PDR_NO_MEMORY;
}
