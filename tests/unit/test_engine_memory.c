/*
 * The memory budget in the engine: what counts, who waits for room, who goes on without.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "engine_trial.h"

/* ---- a module ------------------------------------------------------------------------------------------ */

PDR_JOB(patient, pdr_text, pdr_text)
PDR_JOB(busy, pdr_text, pdr_text)
PDR_STEP(work, pdr_text, pdr_text)
PDR_SIGNAL(go, pdr_text)

int patient(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *word;
    (void)in;
    PDR_TRY(pdr_receive(job, go, &word, .timeout_ms = PDR_DAY));
    *out = *word;
    return PDR_OK;
}

int busy(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *done;
    PDR_TRY(pdr_await(job, work, in, &done));
    *out = *done;
    return PDR_OK;
}

int work(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    (void)attempt;
    *out = *in;
    return PDR_OK;
}

PDR_MODULE(budgeted, PDR_RUNS(patient), PDR_RUNS(busy), PDR_RUNS(work));

static const pdr_module *const modules[] = { &pdr_module_budgeted, NULL };

static struct trial *owned(struct engine_memory *memory, struct trial_worker **worker)
{
    struct trial *trial = trial_new(modules);
    trial->memory = memory;
    *worker = trial_worker(trial, 0, NULL);
    engine_on_assigned((*worker)->engine);
    trial_settle(trial);
    return trial;
}

static void after(struct trial *trial, int64_t ms)
{
    trial_advance(trial, ms);
    trial_settle(trial);
}

/* ---- who waits for room ---------------------------------------------------------------------------------- */

/* What comes for a job that is evicted until a timer is due does not wait for that timer, but for room. */
static void a_signal_waits_for_room_alone(void **state)
{
    struct engine_memory memory = { .budget = SIZE_MAX / 2 };
    struct trial_worker *worker;
    struct trial *trial = owned(&memory, &worker);
    (void)state;
    trial_start(trial, "waits", "patient", "x", "r1");
    trial_settle(trial);
    engine_on_histories_kept(worker->engine, INT64_MAX);
    assert_true(engine_evict(worker->engine));
    memory.budget = 1;
    worker->hold_steps = true;
    trial_start(trial, "works", "busy", "x", "r2");
    trial_settle(trial);
    assert_int_equal(worker->steps_held, 1); /* alone in memory, and at work */
    trial_signal(trial, "waits", "go", "word", "r3");
    after(trial, 100);
    assert_int_equal(worker->replies, 2);
    trial_step_end(worker, "done");
    after(trial, 100);
    assert_string_equal(trial_state(trial, "works"), "completed");
    assert_int_equal(worker->replies, 3);
    assert_string_equal(trial_state(trial, "waits"), "completed");
    trial_free(trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_waits_for_room_alone),
    };
    return cmocka_run_group_tests_name("the engine's memory", tests, NULL, NULL);
}
