/*
 * Plays the engine for one job: records what it asks for, runs its steps, fires its timers; and, if told, throws the job
 * away after every event and replays it on a stack full of garbage.
 */
#ifndef JOB_TRIAL_H
#define JOB_TRIAL_H

#include <perdure/perdure.h>

#include "job/job.h"

#define TRIAL_PENDING 4096

struct job_trial_pending {
    enum job_command_kind kind; /* JOB_STEP, JOB_ARM_TIMER */
    uint64_t op;
    int64_t at_ms;
    uint32_t attempt;
};

struct job_trial {
    struct registry *registry;
    const struct callable *callable;
    struct job_options options;
    const char *id;
    uint64_t run;
    pdr_job *job;
    int64_t now_ms;
    bool replay_always;
    bool one_thread_more; /* replays on another thread, so that nothing can hang on this one */
    Event **events;
    size_t count;
    struct job_trial_pending pending[TRIAL_PENDING];
    size_t pending_count;
    size_t attempts; /* steps run */
    size_t replays;
    size_t abandoned;     /* steps and timers */
    char complaint[4096]; /* what the trial itself found wrong; empty: nothing */
};

/* `input`: text; NULL: none. */
struct job_trial *job_trial_new(const pdr_module *module, const char *build, const char *job, bool replay_always);
void job_trial_free(struct job_trial *trial);
enum job_state job_trial_start(struct job_trial *trial, const char *input);
/* Feeds an event, whose seq and t are filled in; takes it over. */
enum job_state job_trial_feed(struct job_trial *trial, Event *event);
enum job_state job_trial_signal(struct job_trial *trial, const char *name, const char *text);
enum job_state job_trial_cancel(struct job_trial *trial, const char *reason);
enum job_state job_trial_child_ended(struct job_trial *trial, uint64_t op, const char *state, const char *text);
enum job_state job_trial_fire(struct job_trial *trial, uint64_t op);
/* Runs the `index`th of the pending steps. */
enum job_state job_trial_attempt(struct job_trial *trial, size_t index);
/* Does the next thing: the first pending step, else the earliest timer. False: there is nothing to do. */
bool job_trial_next(struct job_trial *trial);
/* Until it ends, or only a signal or a child can help. */
enum job_state job_trial_run(struct job_trial *trial);
void job_trial_take(struct job_trial *trial);
/* A second job from the first `count` events of the history; the caller job_free()s it. */
pdr_job *job_trial_replay(struct job_trial *trial, size_t count);

const Event *job_trial_last(const struct job_trial *trial);
/* Text of the result of a job that completed; NULL: it did not. */
const char *job_trial_result(const struct job_trial *trial);
const Error *job_trial_error(const struct job_trial *trial);
/* "started step_completed:m/s timer_started:sleep ..." */
char *job_trial_story(const struct job_trial *trial);
Event *job_trial_event(int kind, uint64_t op);
Payload *job_trial_text(const char *text);

#endif
