/*
 * Crashes that the worker before this one left behind: each is journaled before the job whose code it was runs again, or
 * the next crash would come first, for ever. What the next owner needs to know of them stands in the run's tally.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

/* Told by the host, not yet confirmed in the journal. */
struct held_crash {
    struct held_crash *next;
    char *job;
    uint64_t run;
    bool pushed;  /* its run has it among its inputs */
    Event *event; /* its `count` says whether it counts */
};

static void held_free(struct held_crash *held)
{
    event_free(held->event);
    free(held->job);
    free(held);
}

void crashes_clear(struct engine *engine)
{
    while (engine->crashes) {
        struct held_crash *next = engine->crashes->next;
        held_free(engine->crashes);
        engine->crashes = next;
    }
}

/* It stands in the journal, or nobody wants it any more: the host may forget it. */
static void crash_done(struct engine *engine, uint64_t id)
{
    struct held_crash **link = &engine->crashes;
    while (*link && (*link)->event->job_crashed->crash != id)
        link = &(*link)->next;
    if (!*link)
        return;
    struct held_crash *held = *link;
    *link = held->next;
    held_free(held);
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_CRASH_DONE);
    if (queued)
        queued->output.count = id;
}

static struct input *crash_input(struct engine *engine, const struct held_crash *held)
{
    struct input *input = calloc(1, sizeof *input);
    if (!input || !(input->event = event_copy(held->event))) {
        free(input);
        engine_stop(engine, "out of memory");
        return NULL;
    }
    input->offset = -1;
    return input;
}

/* Before all that waits for the run; its job is not made until this is confirmed. */
static void crash_push(struct active *active, const struct held_crash *held)
{
    struct input *input = crash_input(active->engine, held);
    if (!input)
        return;
    if (active->job || active->in_flight) { /* it runs already: it is too late to come first */
        input_push(active, input);
        return;
    }
    active->crash_pending = true;
    input->next = active->inputs.head;
    active->inputs.head = input;
    if (!active->inputs.tail)
        active->inputs.tail = input;
    active_enqueue(active);
}

void crashes_attach(struct engine *engine, bool again)
{
    if (!slots_are_here(engine))
        return; /* rule 25: when the jobs begin here */
    for (struct held_crash *held = engine->crashes, *next; held; held = next) {
        struct run *run = judge_find(engine->judge, held->job);
        uint64_t id = held->event->job_crashed->crash;
        next = held->next;
        held->pushed = held->pushed && !again;
        if (held->pushed || !run || run->run != held->run)
            continue; /* its start was never confirmed: it may come yet */
        struct active *active = NULL;
        if (run_is_open(run) && !run->unknown_event && !crash_is_known(run->crashes, id)) /* rule 32: untouched */
            active = active_of(engine, run);
        held->pushed = true;
        if (active)
            crash_push(active, held);
        else
            crash_done(engine, id);
    }
}

void crash_attach_start(struct active *active)
{
    struct engine *engine = active->engine;
    for (struct held_crash *held = engine->crashes; held; held = held->next) {
        if (held->run != active->run || strcmp(held->job, active->head->job) != 0)
            continue;
        struct input *input = crash_input(engine, held);
        if (!input)
            return;
        held->pushed = active->crash_pending = true;
        inputs_append(&active->inputs, input); /* behind Started: both are logged, and nothing runs */
        return;
    }
}

void engine_on_crashed(struct engine *engine, const char *job, uint64_t run, const Event *event)
{
    struct held_crash *held = calloc(1, sizeof *held);
    if (!held || !(held->job = strdup(job)) || !(held->event = event_copy(event))) {
        if (held)
            free(held->job);
        free(held);
        engine_stop(engine, "out of memory");
        return;
    }
    held->run = run;
    struct held_crash **link = &engine->crashes;
    while (*link)
        link = &(*link)->next;
    *link = held;
    if (engine->state == ENGINE_OWNER)
        crashes_attach(engine, false);
}

/* Else another job could crash before this crash is known, and again, without end. */
bool crashes_come_first(struct engine *engine, bool run)
{
    bool any = false;
    for (struct held_crash *held = engine->crashes, *next; held; held = next) {
        struct run *head = held->pushed ? judge_find(engine->judge, held->job) : NULL;
        struct active *active = head ? head->user : NULL;
        next = held->next;
        if (!active || active->run != held->run || !slots_keep(engine, held->job))
            continue;
        any = true;
        if (!run || !active->crash_pending || active->in_flight || engine->state != ENGINE_OWNER)
            continue;
        active_dequeue(active);
        turn_run(active);
    }
    return any;
}

/* How many in a row this one makes, and whether that is one too many. */
void crash_fill(const struct active *active, Event *event)
{
    const struct engine *engine = active->engine;
    Perdure__V1__JobCrashed *crash = event->job_crashed;
    const struct crash_tally *tally = active->head->run == active->run ? active->head->crashes : NULL;
    const struct crash_count *before = crash_count_of(tally, event->op);
    uint32_t limit = engine->limits.crash_limit, total = tally ? tally->total : 0;
    if (crash->count == 0)
        return;
    crash->count = (before ? before->count : 0) + 1;
    crash->quarantined = crash->count >= limit || total + 1 >= CRASHES_ALL_FACTOR * limit;
}

bool crash_is_over(const struct active *active, struct append *append)
{
    bool over = false;
    for (size_t i = 0; i < append->count; i++) {
        const Event *event = append->events[i];
        if (event->kind_case == PERDURE__V1__EVENT__KIND_JOB_CRASHED)
            crash_done(active->engine, event->job_crashed->crash);
        over = over || event->kind_case == PERDURE__V1__EVENT__KIND_JOB_CRASHED ||
               event->kind_case == PERDURE__V1__EVENT__KIND_RESUMED;
    }
    return over;
}

/* A run that the journal puts aside: its inputs are absorbed (rule 12), its code does not run. */
bool crash_parks(struct active *active)
{
    const struct crash_tally *tally = active->head->crashes;
    if (!tally || !tally->quarantined || active->head->run != active->run)
        return false;
    active_load_input(active);
    remote_note_begun(active); /* with the job goes what only its owner knows */
    active_park(active, "quarantined", tally->report);
    return true;
}

const char *crash_of_attempt(const struct active *active, uint64_t op, uint32_t attempt)
{
    const struct crash_count *count = crash_count_of(active->head->crashes, op);
    return count && op != 0 && count->attempt == attempt ? count->reason : NULL;
}
