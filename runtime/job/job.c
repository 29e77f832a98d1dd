/*
 * The life of a job in memory: made, replayed, fed, freed.
 */
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "job/state.h"

/* First chunk of a job's memory: a small job needs no second. */
#define JOB_ARENA_BYTES 1024

static void job_code(void *argument)
{
    pdr_job *job = argument;
    job->returned = job->callable->entry->run(job, job->input, job->output);
}

pdr_job *job_new(const struct registry *registry, const struct callable *callable, const char *id, uint64_t run,
                 const struct job_options *options)
{
    pdr_job *job = calloc(1, sizeof(*job));
    if (job == NULL)
        return NULL;
    if (options != NULL)
        job->options = *options;
    job->registry = registry;
    job->callable = callable;
    job->run = run;
    job->next_op = 1;
    wire_arena_init(&job->arena, JOB_ARENA_BYTES);
    job->id = strdup(id);
    size_t stack = job->options.stack_bytes > 0 ? job->options.stack_bytes : JOB_STACK_BYTES;
    if (job->id != NULL && coroutine_init(&job->coroutine, stack, job_code, job))
        return job;
    free(job->id);
    free(job);
    return NULL;
}

static void job_free_signals(pdr_job *job)
{
    while (job->signal_first != NULL) {
        struct signal *signal = job->signal_first;
        job->signal_first = signal->next;
        payload_free(signal->payload);
        free(signal);
    }
}

void job_free(pdr_job *job)
{
    if (job == NULL)
        return;
    ending_clean_up(job);
    coroutine_release(&job->coroutine);
    job_free_signals(job);
    command_free_all(job);
    operation_free_all(job);
    wire_arena_release(&job->arena);
    free(job->outcome.result.data);
    free(job->waiting);
    free(job->waiting_pointers);
    free(job->unconsumed);
    free(job->report_memory);
    free(job->cancel_reason);
    free(job->build);
    free(job->id);
    free(job);
}

static void job_end_of_turn(pdr_job *job)
{
    if (!job_is_stopped(job))
        return;
    ending_clean_up(job);
    coroutine_release(&job->coroutine); /* whatever it is now, its code never runs again */
}

static void job_replay_events(pdr_job *job, struct replay *replay)
{
    for (; replay->at < replay->count; replay->at++) {
        apply_event(job, replay->events[replay->at]);
        if (job->state == JOB_WAITING || job->state == JOB_ENDED)
            replay->agreed = replay->at + 1;
        if (job->state == JOB_WAITING)
            serve_run(job);
        if (job->state == JOB_DIVERGED || job->state == JOB_BROKEN)
            return;
    }
    match_rest(job);
}

enum job_state job_replay(pdr_job *job, const Event *const *events, size_t count)
{
    struct replay replay = {.events = events, .count = count};
    if (job_is_stopped(job) || job->started)
        return job->state;
    job->replay = &replay;
    if (match_index(job, &replay))
        job_replay_events(job, &replay);
    size_t first = replay.agreed > AGREED_COUNT ? replay.agreed - AGREED_COUNT : 0;
    for (size_t i = first; i < replay.agreed; i++)
        report_agreed(job, events[i]);
    job->replay = NULL;
    free(replay.recorded);
    if (!job_is_stopped(job))
        operation_announce_pending(job);
    job_end_of_turn(job);
    return job->state;
}

enum job_state job_feed(pdr_job *job, const Event *event)
{
    bool ended = job->state == JOB_ENDED;
    if (job_is_stopped(job) && !(ended && event->kind_case == PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED))
        return job->state;
    apply_event(job, event);
    if (job->state == JOB_WAITING || job->state == JOB_ENDED)
        report_agreed(job, event);
    if (!job_is_stopped(job))
        serve_run(job);
    if (!ended)
        job_end_of_turn(job);
    return job->state;
}

enum job_state job_state_of(const pdr_job *job)
{
    return job->state;
}

const char *job_report(const pdr_job *job)
{
    return job->report;
}
