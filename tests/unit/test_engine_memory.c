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
PDR_JOB(sender, pdr_text, pdr_text)
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

int sender(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    for (int i = 0; i < 10; i++)
        PDR_TRY(pdr_send(job, go, pdr_format(job, "other-%d", i), in));
    PDR_TRY(pdr_sleep(job, PDR_DAY));
    *out = *in;
    return PDR_OK;
}

int work(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    (void)attempt;
    *out = *in;
    return PDR_OK;
}

PDR_MODULE(budgeted, PDR_RUNS(patient), PDR_RUNS(busy), PDR_RUNS(sender), PDR_RUNS(work));

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

/* ---- what attempts bring ----------------------------------------------------------------------------------- */

static void start_many(struct trial *trial, const char *type, int from, int count)
{
    char job[32], request[32];
    for (int i = from; i < from + count; i++) {
        snprintf(job, sizeof job, "%s-%d", type, i);
        snprintf(request, sizeof request, "r-%s-%d", type, i);
        trial_start(trial, job, type, "in", request);
    }
    trial_settle(trial);
}

/* The attempt of job busy-`number`, if it runs. */
static void end_attempt(struct trial *trial, int number, const char *text)
{
    char job[32], request[32];
    Payload result = PERDURE__V1__PAYLOAD__INIT;
    snprintf(job, sizeof job, "busy-%d", number);
    snprintf(request, sizeof request, "r-busy-%d", number);
    result.type = (char *)"text";
    result.data.data = (uint8_t *)(uintptr_t)text;
    result.data.len = strlen(text);
    struct attempt_outcome outcome = { .result = payload_copy(&result) };
    engine_on_step_ended(trial->workers[0].engine, job, run_id_of(trial->genesis.log_id, job, request), 1, 1, &outcome,
                         trial->wall_ms);
}

/* All that run end at the same time, again and again; returns the most that did. */
static size_t work_off(struct trial *trial, int count, const char *result, const struct engine_memory *memory,
                       size_t *most_used)
{
    size_t most = 0;
    for (int round = 0; round < 200 && memory->attempts > 0; round++) {
        most = memory->attempts > most ? memory->attempts : most;
        for (int i = 0; i < count; i++)
            end_attempt(trial, i, result);
        *most_used = memory->used > *most_used ? memory->used : *most_used;
        after(trial, 20);
        *most_used = memory->used > *most_used ? memory->used : *most_used;
    }
    return most;
}

/* What runs has room for its result; a part of the budget is left for jobs. */
static void attempts_reserve(void **state)
{
    struct engine_memory memory = { .budget = 8000000, .result = 500000 };
    struct trial_worker *worker;
    struct trial *trial = owned(&memory, &worker);
    (void)state;
    worker->hold_steps = true;
    start_many(trial, "busy", 0, 30);
    assert_int_equal(worker->replies, 30);
    assert_int_equal(memory.attempts, 8); /* half of the budget */
    assert_in_range(memory.used, 8 * 500000, memory.budget);
    trial_free(trial);
    assert_int_equal(memory.attempts, 0);
    assert_int_equal(memory.used, 0);
}

#define LARGE 500000

/* So many jobs with a result of LARGE each; all have it. Returns the most that ran at a time, `most_used` the most that counted. */
static size_t large_results(struct engine_memory *memory, int count, size_t *most_used)
{
    static char large[LARGE];
    struct trial_worker *worker;
    struct trial *trial = owned(memory, &worker);
    char job[32];
    memset(large, 'x', sizeof large - 1);
    worker->hold_steps = true;
    start_many(trial, "busy", 0, count);
    *most_used = 0;
    size_t most = work_off(trial, count, large, memory, most_used);
    for (int i = 0; i < count; i++) {
        snprintf(job, sizeof job, "busy-%d", i);
        assert_string_equal(trial_state(trial, job), "completed");
    }
    trial_free(trial);
    assert_int_equal(memory->used, 0);
    return most;
}

/* The largest results there may be, of all at once: the budget is kept to, as far as one of each partition goes. */
static void large_results_stay_within(void **state)
{
    struct engine_memory memory = { .budget = 4000000, .result = LARGE };
    size_t most_used;
    (void)state;
    assert_int_equal(large_results(&memory, 30, &most_used), STEPS_OVER_BUDGET);
    assert_true(most_used < memory.budget + 6 * LARGE); /* an append counts four times its bytes */
}

/* Jobs that are each larger than the budget go on, a few at a time. */
static void larger_than_the_budget(void **state)
{
    struct engine_memory memory = { .budget = 1000, .result = LARGE };
    size_t most_used;
    (void)state;
    assert_in_range(large_results(&memory, 10, &most_used), 1, STEPS_OVER_BUDGET);
}

/* Jobs that left memory while they waited for a step come back when those that are still there have had theirs. */
static void evicted_waiters_come_later(void **state)
{
    struct engine_memory memory = { .budget = 16 * 1024 * 1024, .result = PAYLOAD_LIMIT_BYTES };
    struct trial_worker *worker;
    struct trial *trial = owned(&memory, &worker);
    (void)state;
    worker->hold_steps = true;
    start_many(trial, "busy", 0, 60);
    trial_settle(trial);
    engine_on_histories_kept(worker->engine, INT64_MAX);
    size_t running = worker->steps_held, evicted = 0;
    assert_in_range(running, STEPS_OVER_BUDGET, 20);
    while (evicted < 30 && engine_evict(worker->engine))
        evicted++;
    assert_int_equal(evicted, 30);
    for (int i = 0; i < 100; i++) {
        trial_advance(trial, 1);
        trial_run(worker);
    }
    assert_int_equal(worker->outputs[ENGINE_OUT_REPLAYED], 0);
    assert_int_equal(worker->steps_held, running);
    for (int i = 0; i < 5; i++) {
        size_t unused;
        work_off(trial, 60, "done", &memory, &unused);
        after(trial, 100);
    }
    assert_int_equal(worker->outputs[ENGINE_OUT_REPLAYED], 30);
    assert_int_equal(worker->steps_held, 60);
    trial_free(trial);
}

/* A partition that is given away takes the results of what ran, whatever room there is. */
static void results_are_taken_while_draining(void **state)
{
    struct engine_memory memory = { .budget = SIZE_MAX / 2 };
    struct trial_worker *worker;
    struct trial *trial = owned(&memory, &worker);
    (void)state;
    worker->hold_steps = true;
    start_many(trial, "busy", 0, 3);
    engine_on_histories_kept(worker->engine, INT64_MAX);
    memory.budget = 1;
    engine_on_revoked(worker->engine);
    trial_settle(trial);
    for (int i = 0; i < 3; i++)
        end_attempt(trial, i, "done");
    trial_settle(trial);
    for (int i = 0; i < 3; i++) {
        char job[32];
        snprintf(job, sizeof job, "busy-%d", i);
        assert_string_equal(trial_state(trial, job), "completed");
    }
    assert_int_equal(worker->outputs[ENGINE_OUT_RELEASED], 1);
    trial_free(trial);
}

/* ---- what is read --------------------------------------------------------------------------------------------- */

/* Commands that wait for a journal that stands still leave most of the budget to the jobs that will work them off. */
static void the_intake_has_a_share(void **state)
{
    struct engine_memory memory = { .budget = 1000000 };
    struct trial_worker *worker;
    struct trial *trial = owned(&memory, &worker);
    (void)state;
    start_many(trial, "patient", 0, 1);
    for (int i = 0; i < 400; i++) {
        char request[32];
        snprintf(request, sizeof request, "s-%d", i);
        trial_signal(trial, "patient-0", "go", "word", request);
    }
    for (int i = 0; i < 20; i++) {
        trial_read(worker);
        trial_run(worker);
    }
    assert_int_equal(worker->inbox_from, -1); /* not followed */
    assert_true(memory.used < memory.budget);
    trial_free(trial);
}

/* What waits to be sent counts, and no longer than that. */
static void the_outbox_counts(void **state)
{
    struct engine_memory memory = { .budget = SIZE_MAX / 2 };
    struct trial_worker *worker;
    struct trial *trial = owned(&memory, &worker);
    size_t before = memory.used;
    (void)state;
    trial_start(trial, "sends", "sender", "word", "r1");
    trial_read(worker);
    for (int i = 0; i < 4; i++) { /* its record is confirmed; what it sends does not land */
        trial_run(worker);
        while (worker->append_count > 0 && !worker->appends[0].send) {
            uint64_t cookie = worker->appends[0].cookie;
            trial_land(worker);
            trial_acknowledge(worker, cookie, LOG_PERSISTED, (int64_t)trial->journal.count - 1);
        }
        trial_read(worker);
    }
    assert_true(worker->append_count > 0 && worker->appends[0].send);
    assert_true(memory.used > before + 10 * 256);
    size_t full = memory.used;
    trial_settle(trial);
    assert_true(memory.used < full - 10 * 256);
    trial_free(trial);
    assert_int_equal(memory.used, 0);
}

static void save_nothing(void *context, const StoredPartition *row) { (void)context, (void)row; }
static void save_no_run(void *context, const StoredRun *run) { (void)context, (void)run; }
static void save_no_output(void *context, const StoredOutput *const *rows, size_t count) { (void)context, (void)rows, (void)count; }

static void save_record_size(void *context, const char *job, uint64_t run, uint64_t seq, int64_t offset, const void *data,
                             size_t size)
{
    (void)job, (void)run, (void)seq, (void)offset, (void)data;
    *(size_t *)context += size;
}

/* Histories that are not stored yet are told apart, so that the host can store them sooner, and count no longer than that. */
static void unsaved_histories_count(void **state)
{
    struct engine_memory memory = { .budget = SIZE_MAX / 2 };
    struct trial *trial = trial_new(modules);
    size_t saved = 0;
    const struct engine_save save = { .context = &saved, .partition = save_nothing, .run = save_no_run,
                                      .record = save_record_size, .outputs = save_no_output };
    (void)state;
    trial->memory = &memory;
    trial->store_is_damaged = true; /* there is one, beside the log */
    struct trial_worker *worker = trial_worker(trial, 0, NULL);
    engine_on_assigned(worker->engine);
    trial_start(trial, "waits", "patient", "word", "r1");
    trial_settle(trial);
    size_t unsaved = memory.unsaved, used = memory.used;
    assert_true(unsaved > 0);
    engine_store(worker->engine, &save);
    assert_true(saved > 0 && saved <= unsaved);
    assert_int_equal(memory.unsaved, 0);
    assert_int_equal(memory.used, used - unsaved);
    trial_signal(trial, "waits", "go", "word", "r2");
    trial_settle(trial);
    assert_true(memory.unsaved > 0);
    trial_free(trial); /* with its engine */
    assert_int_equal(memory.unsaved, 0);
    assert_int_equal(memory.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_waits_for_room_alone), cmocka_unit_test(attempts_reserve),
        cmocka_unit_test(large_results_stay_within), cmocka_unit_test(larger_than_the_budget),
        cmocka_unit_test(evicted_waiters_come_later), cmocka_unit_test(results_are_taken_while_draining),
        cmocka_unit_test(the_intake_has_a_share), cmocka_unit_test(the_outbox_counts),
        cmocka_unit_test(unsaved_histories_count),
    };
    return cmocka_run_group_tests_name("the engine's memory", tests, NULL, NULL);
}
