/*
 * Jobs whose steps others execute: the workers of queue `errands`, or whoever has an attempt's token. `upper`, `slow` and
 * `fail` have no function here.
 */
#include <stdio.h>
#include <stdlib.h>

#include <perdure/perdure.h>

PDR_STEP(upper, pdr_text, pdr_text, .queue = "errands", .backoff_ms = 50)
PDR_STEP(slow, pdr_text, pdr_text, .queue = "errands", .heartbeat_ms = 3000, .backoff_ms = 50)
PDR_STEP(fail, pdr_text, pdr_text, .queue = "errands", .max_attempts = 3, .backoff_ms = 50)
PDR_STEP(near, pdr_text, pdr_text, .queue = "errands")
PDR_STEP(ask, pdr_text, pdr_text, .timeout_ms = 600000)
PDR_JOB(shout, pdr_text, pdr_text)
PDR_JOB(crowd, pdr_text, pdr_text)
PDR_JOB(sleepy, pdr_text, pdr_text)
PDR_JOB(stubborn, pdr_text, pdr_text)
PDR_JOB(nearby, pdr_text, pdr_text)
PDR_JOB(asking, pdr_text, pdr_text)

int shout(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, upper, in, &got));
    out->chars = got->chars;
    return PDR_OK;
}

/* As many at once as its input says. */
int crowd(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    int count = atoi(in->chars);
    pdr_future(upper) *futures = pdr_array(job, pdr_future(upper), (size_t)count);
    for (int i = 0; i < count; i++)
        futures[i] = pdr_start(job, upper, &(pdr_text){ pdr_format(job, "m%d", i) });
    for (int i = 0; i < count; i++) {
        pdr_text *got;
        PDR_TRY(pdr_join(job, upper, futures[i], &got));
        if (got->chars[0] != 'M' || atoi(got->chars + 1) != i)
            return pdr_fail(job, "Mixed", "%s came for m%d", got->chars, i);
    }
    out->chars = pdr_format(job, "%d", count);
    return PDR_OK;
}

int sleepy(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, slow, in, &got));
    out->chars = got->chars;
    return PDR_OK;
}

int stubborn(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, fail, in, &got));
    out->chars = got->chars;
    return PDR_OK;
}

int nearby(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, near, in, &got));
    out->chars = got->chars;
    return PDR_OK;
}

int near(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "%s, nearby", in->chars);
    return PDR_OK;
}

/* Hands its token to whoever reads the file. */
int ask(pdr_attempt *attempt, const pdr_text *path, pdr_text *out)
{
    FILE *file = fopen(path->chars, "a");
    (void)out;
    if (!file)
        return pdr_attempt_fail(attempt, "NoFile", "cannot write %s", path->chars);
    fprintf(file, "%s\n", pdr_attempt_token(attempt));
    return fclose(file) == 0 ? PDR_LATER : pdr_attempt_fail(attempt, "NoFile", "cannot write %s", path->chars);
}

int asking(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, ask, in, &got));
    out->chars = got->chars;
    return PDR_OK;
}

PDR_MODULE(errands, PDR_RUNS(shout), PDR_RUNS(crowd), PDR_RUNS(sleepy), PDR_RUNS(stubborn), PDR_RUNS(nearby),
           PDR_RUNS(asking), PDR_RUNS(near), PDR_RUNS(ask), PDR_CALLS(upper), PDR_CALLS(slow));
