/*
 * The jobs that are measured. All steps are in place: a hand-over to the pool costs the same with and without a log.
 */
#include <stdlib.h>
#include <string.h>

#include "bench.h"

PDR_STEP(tick, pdr_text, pdr_text, .in_place = true)
PDR_STEP(look_up, pdr_text, pdr_text, .in_place = true)
PDR_STEP(translate, pdr_text, pdr_text, .in_place = true)
PDR_STEP(sign, pdr_text, pdr_text, .in_place = true)
PDR_STEP(far_tick, pdr_text, pdr_text, .queue = "bench")
PDR_SIGNAL(go, pdr_text)

struct shared *bench_shared;

/* Input: how many steps, one after the other. */
int chain(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *last = NULL;
    for (long left = atol(in->chars); left > 0; left--)
        PDR_TRY(pdr_await(job, tick, in, &last));
    *out = last ? *last : *in;
    return PDR_OK;
}

/* The same, each step by a step worker. */
int far_chain(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *last = NULL;
    for (long left = atol(in->chars); left > 0; left--)
        PDR_TRY(pdr_await(job, far_tick, in, &last));
    *out = last ? *last : *in;
    return PDR_OK;
}

int single(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *result;
    PDR_TRY(pdr_await(job, tick, in, &result));
    *out = *result;
    return PDR_OK;
}

/* As the sample of that name. */
int hello(pdr_job *job, const pdr_text *name, pdr_text *out)
{
    pdr_text *greeting, *translated, *signed_off;

    PDR_TRY(pdr_await(job, look_up, name, &greeting));
    PDR_TRY(pdr_await(job, translate, greeting, &translated));
    PDR_TRY(pdr_await(job, sign, translated, &signed_off));
    *out = *signed_off;
    return PDR_OK;
}

/* A long history: so many steps, a hundred at a time; then one after the other, without end. */
int fill(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    enum { AT_ONCE = 100 };
    for (long left = atol(in->chars); left > 0; left -= AT_ONCE) {
        pdr_future(look_up) futures[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++)
            futures[i] = pdr_start(job, look_up, in);
        for (int i = 0; i < AT_ONCE; i++)
            PDR_TRY(pdr_join(job, look_up, futures[i], NULL));
    }
    for (;;)
        PDR_TRY(pdr_await(job, tick, in, NULL));
    *out = *in;
    return PDR_OK;
}

int pause_here(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    (void)in;
    pdr_text *said;
    PDR_TRY(pdr_receive(job, go, &said));
    *out = *said;
    return PDR_OK;
}

/* ---- steps ---------------------------------------------------------------------------------------------------------- */

int tick(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    if (bench_shared) {
        uint64_t number = atomic_load(&bench_shared->ticks);
        atomic_store(&bench_shared->stamps[number % SHARED_STAMPS], now_ns());
        atomic_store(&bench_shared->ticks, number + 1);
    }
    out->chars = pdr_attempt_format(attempt, "result of step %s", in->chars);
    return PDR_OK;
}

int far_tick(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    return tick(attempt, in, out);
}

int look_up(pdr_attempt *attempt, const pdr_text *name, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "Hello, %s", name->chars);
    return PDR_OK;
}

int translate(pdr_attempt *attempt, const pdr_text *greeting, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "%s! Bonjour!", greeting->chars);
    return PDR_OK;
}

int sign(pdr_attempt *attempt, const pdr_text *letter, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "%s Yours, %s.", letter->chars, pdr_attempt_job_id(attempt));
    return PDR_OK;
}

PDR_MODULE(bench, PDR_RUNS(chain), PDR_RUNS(single), PDR_RUNS(hello), PDR_RUNS(fill), PDR_RUNS(pause_here),
           PDR_RUNS(tick), PDR_RUNS(far_chain), PDR_RUNS(far_tick), PDR_RUNS(look_up), PDR_RUNS(translate), PDR_RUNS(sign));
