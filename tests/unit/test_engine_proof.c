/*
 * An owner begins nothing on an old proof that the partition is its own, nor on its claim alone (engine/proof.c).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "constants.h"
#include "engine_trial.h"

#define BACKOFF_MS 10000
#define SLOW_MS (HANDOVER_ALIVE_MS + 1000)

PDR_JOB(stubborn, pdr_text, pdr_text)
PDR_STEP(act, pdr_text, pdr_text, .max_attempts = 5, .backoff_ms = BACKOFF_MS, .backoff_max_ms = BACKOFF_MS)

int stubborn(pdr_job *job, const pdr_text *name, pdr_text *out)
{
    pdr_text *line;
    PDR_TRY(pdr_await(job, act, name, &line));
    PDR_TRY(pdr_await(job, act, name, &line));
    *out = *line;
    return PDR_OK;
}

static int failures; /* of the attempts to come */

int act(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    if (failures-- > 0)
        return pdr_attempt_fail(attempt, "Flaky", "not yet");
    *out = *in;
    return PDR_OK;
}

PDR_MODULE(proving, PDR_RUNS(stubborn), PDR_RUNS(act));

static const pdr_module *const modules[] = { &pdr_module_proving, NULL };

/* Owner of a journal in which a job is about to begin. */
static struct trial *owned(struct trial_worker **worker)
{
    struct trial *trial = trial_new(modules);
    *worker = trial_worker(trial, 0, NULL);
    engine_on_assigned((*worker)->engine);
    trial_settle(trial);
    trial_start(trial, "j", "stubborn", "a", "r1");
    return trial;
}

/* Another one claims; of this the first worker has read nothing. */
static void superseded(struct trial *trial)
{
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_run(second);
    trial_read(second);
    trial_run(second);
    trial_land(second);
}

/* All that is held lands, is acknowledged and read `ms` later. */
static void confirm(struct trial_worker *worker, int64_t ms)
{
    uint64_t cookies[16];
    size_t count = worker->append_count;
    int64_t first = (int64_t)worker->trial->journal.count;
    assert_in_range(count, 1, 16);
    for (size_t i = 0; i < count; i++)
        cookies[i] = worker->appends[i].cookie;
    trial_land(worker);
    trial_advance(worker->trial, ms);
    engine_on_time(worker->engine, worker->trial->wall_ms, worker->trial->monotonic_ms);
    for (size_t i = 0; i < count; i++)
        trial_acknowledge(worker, cookies[i], LOG_PERSISTED, first + (int64_t)i);
    trial_read(worker);
    trial_run(worker);
}

/* What its only append that is held is. */
static uint32_t held_kind(const struct trial_worker *worker)
{
    Record *record = NULL;
    assert_int_equal(worker->append_count, 1);
    assert_int_equal(record_decode(worker->appends[0].data, worker->appends[0].size, &record), WIRE_OK);
    uint32_t kind = record->header->kind;
    record_free(record);
    return kind;
}

/* Its claim is read back, the one behind it not yet: its journal comes in pieces. */
static void claim_read_back_late(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    worker->hold_steps = true;
    trial_settle(trial);
    assert_int_equal(worker->steps_held, 1);
    engine_on_revoked(worker->engine);
    trial_advance(trial, DRAIN_MS);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    engine_on_assigned(worker->engine);
    trial_run(worker);
    trial_read(worker);
    trial_run(worker);
    assert_int_equal(held_kind(worker), PERDURE__V1__KIND__KIND_CLAIM);
    int64_t claim = (int64_t)trial->journal.count;
    uint64_t cookie = worker->appends[0].cookie;
    trial_land(worker);
    trial_acknowledge(worker, cookie, LOG_PERSISTED, claim);
    superseded(trial);
    const struct trial_record *own = &trial->journal.records[claim];
    struct log_record given = { LOG_JOURNAL, 0, claim, own->append_ms, -1, own->data, own->size };
    engine_on_record(worker->engine, &given);
    trial_run(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    assert_int_equal(worker->steps_held, 1); /* it waits for its first Mark */
    assert_int_equal(held_kind(worker), PERDURE__V1__KIND__KIND_MARK);
    trial_read(worker);
    trial_run(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FENCED);
    assert_int_equal(worker->steps_held, 1);
    trial_free(trial);
}

/* The time of a retry comes long after the last word of the log. */
static void retry_looks_first(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    failures = 1;
    trial_settle(trial);
    trial_advance(trial, MARK_INTERVAL_MS); /* the Mark of what came */
    trial_settle(trial);
    size_t begun = worker->outputs[ENGINE_OUT_STEP];
    assert_int_equal(begun, 1);
    trial_advance(trial, 2 * BACKOFF_MS);
    trial_run(worker);
    assert_int_equal(worker->outputs[ENGINE_OUT_STEP], begun);
    assert_int_equal(held_kind(worker), PERDURE__V1__KIND__KIND_MARK);
    confirm(worker, 1);
    assert_int_equal(worker->outputs[ENGINE_OUT_STEP], begun + 1);
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "j"), "completed");
    trial_free(trial);
}

static void retry_of_a_superseded_owner(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    failures = 1;
    trial_settle(trial);
    trial_advance(trial, MARK_INTERVAL_MS);
    trial_settle(trial);
    superseded(trial);
    trial_advance(trial, 2 * BACKOFF_MS);
    trial_run(worker); /* as if stopped: time has passed, nothing was read */
    confirm(worker, 1);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FENCED);
    assert_int_equal(worker->outputs[ENGINE_OUT_STEP], 1);
    trial_free(trial);
}

/* It is stopped between an append and its confirmation: that is no proof of now. */
static void stopped_while_waiting(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_read(worker);
    trial_run(worker);
    assert_int_equal(held_kind(worker), PERDURE__V1__KIND__KIND_EVENT);
    confirm(worker, SLOW_MS);
    assert_int_equal(worker->outputs[ENGINE_OUT_STEP], 0);
    assert_int_equal(held_kind(worker), PERDURE__V1__KIND__KIND_MARK);
    confirm(worker, 1);
    assert_int_equal(worker->outputs[ENGINE_OUT_STEP], 1);
    trial_free(trial);
}

/* A log that is always as slow costs one Mark, then it is believed. */
static void slow_log(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_read(worker);
    trial_run(worker);
    confirm(worker, SLOW_MS);
    assert_int_equal(worker->outputs[ENGINE_OUT_STEP], 0);
    confirm(worker, SLOW_MS); /* the Mark */
    assert_int_equal(worker->outputs[ENGINE_OUT_STEP], 1);
    confirm(worker, SLOW_MS); /* the first step's result, perhaps a Mark */
    assert_int_equal(worker->outputs[ENGINE_OUT_STEP], 2);
    confirm(worker, SLOW_MS);
    assert_string_equal(trial_state(trial, "j"), "completed");
    trial_free(trial);
}

/* Its host came to it too late: it is begun again on a new proof, the same attempt. */
static void handed_back(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    worker->hold_steps = true;
    trial_settle(trial);
    assert_int_equal(worker->steps_held, 1);
    int64_t until = worker->held.begin_until;
    assert_int_equal(until, trial->monotonic_ms + HANDOVER_ALIVE_MS);
    trial_advance(trial, MARK_INTERVAL_MS);
    trial_settle(trial); /* a Mark proves more, the attempt's time stays as it was */
    trial_advance(trial, HANDOVER_ALIVE_MS);
    engine_on_time(worker->engine, trial->wall_ms, trial->monotonic_ms);
    engine_on_step_handed_back(worker->engine, "j", worker->held.run, worker->held.op, worker->held.attempt);
    trial_run(worker);
    assert_int_equal(worker->steps_held, 1);
    assert_int_equal(held_kind(worker), PERDURE__V1__KIND__KIND_MARK);
    confirm(worker, 1);
    assert_int_equal(worker->steps_held, 2);
    assert_int_equal(worker->held.attempt, 1);
    assert_true(worker->held.begin_until > until);
    trial_free(trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claim_read_back_late),
        cmocka_unit_test(retry_looks_first),
        cmocka_unit_test(retry_of_a_superseded_owner),
        cmocka_unit_test(stopped_while_waiting),
        cmocka_unit_test(slow_log),
        cmocka_unit_test(handed_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
