/*
 * Jobs that come by the thousand: `burst` has short children, a few at a time.
 */
#include <stdio.h>
#include <stdlib.h>

#include <perdure/perdure.h>

#define AT_A_TIME 20

PDR_STEP(touch, pdr_text, pdr_text, .in_place = true)
PDR_JOB(spark, pdr_text, pdr_text)
PDR_JOB(burst, pdr_text, pdr_text)
PDR_JOB(ember, pdr_text, pdr_text)
PDR_SIGNAL(blow, pdr_text)

int touch(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "%s", in->chars);
    return PDR_OK;
}

int spark(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *done;
    PDR_TRY(pdr_await(job, touch, in, &done));
    out->chars = done->chars;
    return PDR_OK;
}

/* Its input says how many. */
int burst(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    long count = strtol(in->chars, NULL, 10), good = 0;
    pdr_future(spark) sparks[AT_A_TIME];
    for (long i = 0; i < count; i += AT_A_TIME) {
        for (long k = 0; k < AT_A_TIME && i + k < count; k++) {
            pdr_text text = { pdr_format(job, "%ld", i + k) };
            sparks[k] = pdr_start(job, spark, &text, .id = pdr_format(job, "%s-%ld", pdr_job_id(job), i + k));
        }
        for (long k = 0; k < AT_A_TIME && i + k < count; k++) {
            pdr_text *result;
            PDR_TRY(pdr_join(job, spark, sparks[k], &result));
            good += strtol(result->chars, NULL, 10) == i + k;
        }
    }
    out->chars = pdr_format(job, "%ld", good);
    return PDR_OK;
}

/* Lives through many cuts: as many steps, then as many signals, as its input says. */
int ember(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    long count = strtol(in->chars, NULL, 10), sum = 0;
    for (long i = 0; i < count; i++) {
        pdr_text *done, text = { pdr_format(job, "%ld", i) };
        PDR_TRY(pdr_await(job, touch, &text, &done));
        sum += strtol(done->chars, NULL, 10);
    }
    for (long i = 0; i < count; i++) {
        pdr_text *word;
        PDR_TRY(pdr_receive(job, blow, &word));
        sum += strtol(word->chars, NULL, 10);
    }
    out->chars = pdr_format(job, "%ld", sum);
    return PDR_OK;
}

PDR_MODULE(burst, PDR_RUNS(touch), PDR_RUNS(spark), PDR_RUNS(burst), PDR_RUNS(ember));
