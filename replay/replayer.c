#include "replayer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void replayer_silence(void *context, const pdr_job *job, int level, const char *message)
{
    (void)context, (void)job, (void)level, (void)message;
}

/* Replays the first `count` events. NULL: out of memory. */
static pdr_job *replayer_prefix(const struct registry *registry, const struct callable *callable, const char *id,
                                uint64_t run, const Event *const *events, size_t count, enum job_state *state)
{
    struct job_options options = {.log = replayer_silence};
    pdr_job *job = job_new(registry, callable, id, run, &options);
    if (job)
        *state = job_replay(job, events, count);
    return job;
}

static void replayer_report(struct replay_result *result, enum replay_verdict verdict, const char *text)
{
    free(result->report);
    result->verdict = verdict;
    result->report = strdup(text && *text ? text : "out of memory");
}

/* The shortest history that differs: the job agrees with `low` events and differs with `high`. Its report is the one
 * that names the place. */
static void replayer_narrow(const struct registry *registry, const struct callable *callable, const char *id, uint64_t run,
                            const Event *const *events, size_t high, struct replay_result *result)
{
    size_t low = 0;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        enum job_state state = JOB_BROKEN;
        pdr_job *job = replayer_prefix(registry, callable, id, run, events, middle, &state);
        if (!job)
            return replayer_report(result, REPLAY_BROKEN, NULL);
        if (state == JOB_DIVERGED) {
            high = middle;
            replayer_report(result, REPLAY_DIVERGED, job_report(job));
        } else {
            low = middle;
        }
        job_free(job);
    }
    result->agreed = low;
}

void replayer_run(const struct registry *registry, const char *type, const char *id, uint64_t run,
                  const Event *const *events, size_t count, struct replay_result *result)
{
    *result = (struct replay_result){.verdict = REPLAY_BROKEN};
    const struct callable *callable = registry_job(registry, type);
    enum job_state state = JOB_BROKEN;
    if (!callable) {
        if (asprintf(&result->report, "no module given here has a job type \"%s\"; they have: %s", type,
                     registry_job_names(registry)) < 0)
            result->report = NULL;
        return;
    }
    result->build = callable->build;
    pdr_job *job = replayer_prefix(registry, callable, id, run, events, count, &state);
    if (!job)
        return replayer_report(result, REPLAY_BROKEN, NULL);
    const pdr_site *site = job_site(job);
    if (site)
        result->site = *site; /* its texts are the module's */
    if (state == JOB_DIVERGED)
        replayer_report(result, REPLAY_DIVERGED, job_report(job));
    else if (state == JOB_BROKEN)
        replayer_report(result, REPLAY_BROKEN, job_report(job));
    else
        result->verdict = REPLAY_SAME;
    result->ended = state == JOB_ENDED;
    job_free(job);
    result->agreed = count;
    if (result->verdict == REPLAY_DIVERGED)
        replayer_narrow(registry, callable, id, run, events, count, result);
}

void replay_result_free(struct replay_result *result)
{
    free(result->report);
    *result = (struct replay_result){0};
}
