/*
 * Attempts of remote steps that ended their worker process, which says so when it was started again. They count as crashes in
 * the owner's own process do (crash.c): before the attempt's failure stands a JobCrashed, and one too many puts the job aside
 * instead of having it tried again. With its last attempt the step fails: its job hears of that.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

bool remote_crash_is_told(const Perdure__V1__TaskReport *report)
{
    return report->kind_case == PERDURE__V1__TASK_REPORT__KIND_FAILED && report->worker[0] &&
           strcmp(report->failed->type, "Crashed") == 0;
}

/* The same whoever says it, however often: a crash is journaled once. */
static uint64_t crash_id(const struct step *step)
{
    char attempt[64];
    int size = snprintf(attempt, sizeof attempt, "%016" PRIx64 "-%" PRIu64 "-%" PRIu32, step->active->run, step->op,
                        step->attempt);
    uint64_t id = hash64(attempt, (size_t)size);
    return id ? id : 1;
}

static Event *crash_event(const struct step *step, const char *worker, const Error *failure)
{
    Perdure__V1__JobCrashed crash = PERDURE__V1__JOB_CRASHED__INIT;
    Event event = PERDURE__V1__EVENT__INIT;
    const char *message = failure ? failure->message : "";
    char reason[512]; /* of a worker in other hands, it may be long */
    size_t said = strlen(CRASHED_MESSAGE);
    snprintf(reason, sizeof reason, "%s", message + (strncmp(message, CRASHED_MESSAGE, said) == 0 ? said : 0));
    crash.crash = crash_id(step);
    crash.reason = reason;
    crash.name = step->name;
    crash.attempt = step->attempt;
    crash.worker = (char *)(uintptr_t)worker;
    crash.count = 1; /* held against it: how often in a row, its turn says */
    crash.at = step->active->engine->wall_ms;
    event.op = step->op;
    event.kind_case = PERDURE__V1__EVENT__KIND_JOB_CRASHED;
    event.job_crashed = &crash;
    Event *copy = event_copy(&event);
    if (copy) {
        utf8_repair(copy->job_crashed->reason);
        utf8_repair(copy->job_crashed->worker);
    }
    return copy;
}

void remote_crash_put_first(const struct step *step, const char *worker, struct input *end)
{
    struct active *active = step->active;
    struct input **link = &active->inputs.head, *crash;
    if (end->event->kind_case != PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED || crash_is_known(active->head->crashes, crash_id(step)))
        return;
    crash = calloc(1, sizeof *crash);
    if (!crash || !(crash->event = crash_event(step, worker, end->event->attempt_failed->error))) {
        free(crash);
        engine_stop(active->engine, "out of memory");
        return;
    }
    crash->offset = -1;
    while (*link != end)
        link = &(*link)->next;
    crash->next = end;
    *link = crash;
}
