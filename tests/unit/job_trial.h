/*
 * Plays the engine for one job: records what it asks for, runs its steps, fires its timers; and, if told, throws the job
 * away after every event and replays it on a stack full of garbage.
 */
#ifndef JOB_TRIAL_H
#define JOB_TRIAL_H

#include <perdure/perdure.h>

#include "job/job.h"

#define TRIAL_PENDING 4096

struct trial_pending {
    enum job_command_kind kind; /* JOB_STEP, JOB_ARM_TIMER */
    uint64_t op;
    int64_t at_ms;
    uint32_t attempt;
};

struct trial {
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
    struct trial_pending pending[TRIAL_PENDING];
    size_t pending_count;
    size_t attempts;  /* steps run */
    size_t replays;
    size_t abandoned; /* steps and timers */
    char complaint[4096]; /* what the trial itself found wrong; empty: nothing */
};

/* `input`: text; NULL: none. */
struct trial *trial_new(const pdr_module *module, const char *build, const char *job, bool replay_always);
void trial_free(struct trial *trial);
enum job_state trial_start(struct trial *trial, const char *input);
/* Feeds an event, whose seq and t are filled in; takes it over. */
enum job_state trial_feed(struct trial *trial, Event *event);
enum job_state trial_signal(struct trial *trial, const char *name, const char *text);
enum job_state trial_cancel(struct trial *trial, const char *reason);
enum job_state trial_child_ended(struct trial *trial, uint64_t op, const char *state, const char *text);
enum job_state trial_fire(struct trial *trial, uint64_t op);
/* Runs the `index`th of the pending steps. */
enum job_state trial_attempt(struct trial *trial, size_t index);
/* Does the next thing: the first pending step, else the earliest timer. False: there is nothing to do. */
bool trial_next(struct trial *trial);
/* Until it ends, or only a signal or a child can help. */
enum job_state trial_run(struct trial *trial);
void trial_take(struct trial *trial);
/* A second job from the first `count` events of the history; the caller job_free()s it. */
pdr_job *trial_replay(struct trial *trial, size_t count);

const Event *trial_last(const struct trial *trial);
/* Text of the result of a job that completed; NULL: it did not. */
const char *trial_result(const struct trial *trial);
const Error *trial_error(const struct trial *trial);
/* "started step_completed:m/s timer_started:sleep ..." */
char *trial_story(const struct trial *trial);
Event *trial_event(int kind, uint64_t op);
Payload *trial_text(const char *text);

#endif
