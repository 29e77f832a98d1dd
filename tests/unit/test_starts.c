/*
 * Runs that a rate of their job type holds back: absorbed at once, let in one after the other, by a new owner too.
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

PDR_JOB(order, pdr_text, pdr_text)
PDR_JOB(approval, pdr_text, pdr_text)
PDR_JOB(free_job, pdr_text, pdr_text)
PDR_JOB(caller, pdr_text, pdr_text)
PDR_STEP(charge, pdr_text, pdr_text)
PDR_SIGNAL(go, pdr_text)

int order(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *done;
    PDR_TRY(pdr_await(job, charge, in, &done));
    PDR_TRY(pdr_sleep(job, 1000000));
    *out = *done;
    return PDR_OK;
}

int approval(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *first, *second;
    (void)in;
    PDR_TRY(pdr_receive(job, go, &first));
    PDR_TRY(pdr_receive(job, go, &second));
    out->chars = pdr_format(job, "%s %s", first->chars, second->chars);
    return PDR_OK;
}

int free_job(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    (void)job;
    *out = *in;
    return PDR_OK;
}

int caller(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *result;
    PDR_TRY(pdr_await(job, order, in, &result));
    *out = *result;
    return PDR_OK;
}

static size_t charges;

int charge(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    charges++;
    out->chars = pdr_attempt_format(attempt, "%s charged", in->chars);
    return PDR_OK;
}

PDR_MODULE(shop, PDR_RUNS(order), PDR_RUNS(approval), PDR_RUNS(free_job), PDR_RUNS(caller), PDR_RUNS(charge));

static const pdr_module *const modules[] = { &pdr_module_shop, NULL };

/* ---- helpers ----------------------------------------------------------------------------------------- */

static struct trial *owned(struct trial_worker **worker, const char *type, double rate)
{
    struct trial *trial = trial_new(modules);
    trial->limits = limits_new();
    assert_true(limits_set(trial->limits, LIMIT_JOB_RATE, type, rate));
    *worker = trial_worker(trial, 0, NULL);
    engine_on_assigned((*worker)->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of((*worker)->engine), ENGINE_OWNER);
    charges = 0;
    return trial;
}

static size_t held(const struct trial_worker *worker)
{
    struct engine_counts counts;
    engine_counts(worker->engine, &counts);
    return counts.starts_held;
}

static void start_many(struct trial *trial, const char *type, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char job[20], request[20];
        snprintf(job, sizeof job, "job-%zu", i);
        snprintf(request, sizeof request, "start-%zu", i);
        trial_start(trial, job, type, job, request);
    }
    trial_settle(trial);
}

static void after(struct trial *trial, int64_t ms)
{
    trial_advance(trial, ms);
    trial_settle(trial);
}

/* "start shop/order job-rate order=2/s" of a job that is held back. */
static const char *waits_for(struct trial *trial, const char *job)
{
    static char text[200];
    Status *status = engine_status(trial->workers[0].engine, job);
    text[0] = '\0';
    if (status && status->n_waiting > 0)
        snprintf(text, sizeof text, "%s %s %s", status->waiting[0]->kind, status->waiting[0]->name,
                 status->waiting[0]->limit);
    status_free(status);
    return text;
}

static void cancel(struct trial *trial, const char *job)
{
    trial_cancel(trial, job);
    trial_settle(trial);
}

static void terminate(struct trial *trial, const char *job)
{
    trial_terminate(trial, job);
    trial_settle(trial);
}

/* ---- tests ------------------------------------------------------------------------------------------- */

static void test_one_after_the_other(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker, "order", 2);
    (void)state;
    start_many(trial, "order", 5);
    trial_start(trial, "other", "free_job", "x", "other");
    trial_settle(trial);
    assert_int_equal(worker->replies, 6); /* absorbed and answered, held back or not */
    assert_string_equal(worker->last_answer, "accepted");
    assert_string_equal(trial_state(trial, "other"), "completed");
    assert_int_equal(charges, 1);
    assert_int_equal(held(worker), 4);
    assert_string_equal(waits_for(trial, "job-1"), "start shop/order job-rate order=2/s");
    assert_string_equal(trial_state(trial, "job-1"), "waiting");
    struct engine_counts counts;
    engine_counts(worker->engine, &counts);
    assert_int_equal(counts.live_jobs, 1); /* no stack of those that wait; that of the ended one went */
    assert_int_equal(engine_next_wake(worker->engine), trial->monotonic_ms + 200); /* statuses */
    after(trial, 499);
    assert_int_equal(charges, 1);
    for (size_t begun = 2; begun <= 5; begun++) {
        after(trial, begun == 2 ? 1 : 500);
        assert_int_equal(charges, begun);
        assert_int_equal(held(worker), 5 - begun);
    }
    assert_string_equal(waits_for(trial, "job-4"), "timer sleep ");
    trial_free(trial);
}

static void test_signals_are_kept(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker, "approval", 1);
    (void)state;
    start_many(trial, "approval", 2);
    trial_signal(trial, "job-1", "go", "one", "s1");
    trial_settle(trial);
    trial_signal(trial, "job-1", "go", "two", "s2");
    trial_settle(trial);
    assert_int_equal(worker->replies, 4);
    assert_int_equal(held(worker), 1);
    after(trial, 1000);
    assert_int_equal(held(worker), 0);
    Status *status = engine_status(worker->engine, "job-1");
    assert_string_equal(status->state, "completed");
    assert_memory_equal(status->result->data.data, "one two", 7);
    status_free(status);
    trial_free(trial);
}

/* Its awaits say that it is cancelled: nothing to wait for. Who is terminated goes too. Nobody waits for them. */
static void test_cancelled_and_terminated(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker, "order", 1);
    (void)state;
    start_many(trial, "order", 4);
    cancel(trial, "job-1");
    assert_string_equal(trial_state(trial, "job-1"), "cancelled");
    terminate(trial, "job-2");
    assert_string_equal(trial_state(trial, "job-2"), "terminated");
    assert_int_equal(charges, 1);
    assert_int_equal(held(worker), 1);
    after(trial, 1000);
    assert_int_equal(charges, 2);
    assert_int_equal(held(worker), 0);
    trial_free(trial);
}

static void test_resume_is_refused(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker, "order", 1);
    (void)state;
    start_many(trial, "order", 2);
    trial_resume(trial, "job-1");
    trial_settle(trial);
    after(trial, 10);
    assert_int_equal(worker->refused, 1);
    assert_int_equal(held(worker), 1);
    trial_free(trial);
}

static void test_children_count(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker, "order", 1);
    (void)state;
    trial_start(trial, "parent", "caller", "x", "p");
    start_many(trial, "order", 1);
    after(trial, 10);
    assert_int_equal(charges, 1);
    assert_int_equal(held(worker), 1);
    after(trial, 1000);
    assert_int_equal(charges, 2);
    trial_free(trial);
}

/* Another owner: who has begun, by its history, goes on; the others stand in line again, let in before or not. */
static void test_takeover(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker, "order", 1);
    (void)state;
    start_many(trial, "order", 1); /* its step has ended, it sleeps */
    worker->hold_steps = true;
    trial_advance(trial, 1000);
    for (int i = 1; i < 4; i++) {
        char job[20];
        snprintf(job, sizeof job, "job-%d", i);
        trial_start(trial, job, "order", job, job);
    }
    trial_settle(trial);
    assert_int_equal(worker->steps_held, 1); /* job-1 runs its step */
    trial_signal(trial, "job-3", "go", "x", "s");
    trial_settle(trial);
    assert_int_equal(held(worker), 2);
    engine_free(worker->engine);
    worker->engine = NULL;
    assert_int_equal(limits_next(trial->limits), INT64_MAX); /* nothing of it stands in line */
    trial_advance(trial, 20000);
    limits_free(trial->limits);
    trial->limits = limits_new();
    assert_true(limits_set(trial->limits, LIMIT_JOB_RATE, "shop/order", 1));
    worker = trial_worker(trial, 0, NULL);
    engine_on_assigned(worker->engine);
    worker->hold_steps = false;
    charges = 0;
    trial_settle(trial);
    assert_int_equal(charges, 1);
    assert_int_equal(held(worker), 2);
    assert_string_equal(waits_for(trial, "job-0"), "timer sleep "); /* it has begun, by its history */
    assert_string_equal(waits_for(trial, "job-1"), "timer sleep "); /* the oldest of those that may not have begun */
    after(trial, 1000);
    after(trial, 1000);
    assert_int_equal(charges, 3);
    trial_free(trial);
}

/* In doubt of its ownership it claims anew, and whom it let in is not held back again. */
static void test_doubt(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker, "order", 1);
    (void)state;
    worker->hold_steps = true;
    start_many(trial, "order", 3);
    assert_int_equal(worker->steps_held, 1);
    engine_on_fault(worker->engine, LOG_PRODUCER_REPLACED, "test");
    assert_int_equal(held(worker), 0);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    assert_int_equal(held(worker), 2);
    assert_int_equal(worker->steps_held, 1); /* its attempt goes on */
    trial_step_end(worker, "done");
    trial_settle(trial);
    assert_string_equal(waits_for(trial, "job-0"), "timer sleep ");
    after(trial, 1000);
    assert_int_equal(worker->steps_held, 2);
    trial_free(trial);
}

/* Who gives the partition up leaves the line: others of the type go on. Assigned again, it stands in it again. */
static void test_drained(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker, "order", 1);
    (void)state;
    worker->hold_steps = true;
    start_many(trial, "order", 3);
    engine_on_revoked(worker->engine);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_DRAINING);
    assert_int_equal(held(worker), 0);
    assert_int_equal(limits_next(trial->limits), INT64_MAX);
    engine_on_assigned(worker->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    assert_int_equal(held(worker), 2);
    trial_free(trial);
}

/* Its code has run, and crashed the worker before: it does not stand in line for that again. */
static void test_crashed(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker, "order", 1);
    Event event = PERDURE__V1__EVENT__INIT;
    Perdure__V1__JobCrashed crash = PERDURE__V1__JOB_CRASHED__INIT;
    (void)state;
    worker->hold_steps = true;
    start_many(trial, "order", 3);
    Status *status = engine_status(worker->engine, "job-2");
    uint64_t run = status->run;
    status_free(status);
    engine_free(worker->engine);
    crash.crash = 7;
    crash.count = 1;
    crash.reason = (char *)"SIGSEGV";
    event.kind_case = PERDURE__V1__EVENT__KIND_JOB_CRASHED;
    event.job_crashed = &crash;
    worker = trial_worker(trial, 0, NULL);
    worker->hold_steps = false;
    engine_on_crashed(worker->engine, "job-2", run, &event);
    engine_on_assigned(worker->engine);
    trial_settle(trial);
    assert_string_equal(waits_for(trial, "job-2"), "timer sleep ");
    assert_int_equal(held(worker), 2); /* the rate let one in just before */
    trial_free(trial);
}

/* Without room in memory jobs are made one at a time; those that it holds up keep others of their type in line. */
static void test_memory(void **state)
{
    struct engine_memory memory = { .budget = 1 };
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker;
    (void)state;
    memory.used = 1;
    trial->memory = &memory;
    trial->limits = limits_new();
    assert_true(limits_set(trial->limits, LIMIT_JOB_RATE, "order", 2));
    worker = trial_worker(trial, 0, NULL);
    worker->hold_steps = true;
    engine_on_assigned(worker->engine);
    trial_settle(trial);
    start_many(trial, "order", 8);
    assert_int_equal(worker->replies, 8); /* absorbed all the same */
    for (int i = 0; i < 10; i++)
        after(trial, 1000);
    assert_int_equal(worker->steps_held, 1);
    assert_true(held(worker) >= 5); /* one begun, two let in */
    memory.budget = SIZE_MAX / 2;
    after(trial, 10);
    assert_in_range(worker->steps_held, 2, 4);
    for (int i = 0; i < 10; i++)
        after(trial, 1000);
    assert_int_equal(worker->steps_held, 8);
    trial_free(trial);
}

static struct { bool seen, unbegun; int64_t rests; } row;

static void see_run(void *context, const StoredRun *run)
{
    if (strcmp(run->job, context) == 0) {
        row.seen = true;
        row.unbegun = run->unbegun;
        row.rests = run->rests;
    }
}
static void see_partition(void *context, const StoredPartition *partition) { (void)context, (void)partition; }
static void see_record(void *context, const char *job, uint64_t run, uint64_t seq, int64_t offset, const void *data,
                       size_t size)
{
    (void)context, (void)job, (void)run, (void)seq, (void)offset, (void)data, (void)size;
}
static void see_closed(void *context, const char *job, uint64_t run) { (void)context, (void)job, (void)run; }
static void see_outputs(void *context, const StoredOutput *const *outputs, size_t count)
{
    (void)context, (void)outputs, (void)count;
}
static void see_forgotten(void *context, const char *job) { (void)context, (void)job; }

static void save(struct trial_worker *worker, char *job)
{
    const struct engine_save save = { job, see_partition, see_run, see_record, see_closed, see_outputs, see_forgotten };
    memset(&row, 0, sizeof row);
    engine_store(worker->engine, &save);
}

/* No record says that it has begun, and waits for a signal now: the store does. */
static void test_store_knows_who_rests(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker, "approval", 1);
    (void)state;
    start_many(trial, "approval", 2);
    save(worker, (char *)"job-1");
    assert_true(row.seen && row.unbegun && row.rests == 0);
    after(trial, 1000);
    save(worker, (char *)"job-1");
    assert_true(row.seen && !row.unbegun && row.rests == -1);
    trial_free(trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_after_the_other),
        cmocka_unit_test(test_signals_are_kept),
        cmocka_unit_test(test_cancelled_and_terminated),
        cmocka_unit_test(test_resume_is_refused),
        cmocka_unit_test(test_children_count),
        cmocka_unit_test(test_takeover),
        cmocka_unit_test(test_doubt),
        cmocka_unit_test(test_drained),
        cmocka_unit_test(test_crashed),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_store_knows_who_rests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
