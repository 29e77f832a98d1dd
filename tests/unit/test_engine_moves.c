/*
 * A partition that changes hands by plan: what a drain lets end, what it hands back, what it writes.
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

PDR_JOB(twice, pdr_text, pdr_text)
PDR_STEP(work, pdr_text, pdr_text)

int twice(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, work, in, &got));
    PDR_TRY(pdr_await(job, work, got, &got));
    *out = *got;
    return PDR_OK;
}

int work(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "%s.", in->chars);
    return PDR_OK;
}

PDR_MODULE(moving, PDR_RUNS(twice), PDR_RUNS(work));

static const pdr_module *const modules[] = { &pdr_module_moving, NULL };

/* An owner whose one job waits for its first step. */
static struct trial *at_work_as(struct trial_worker **worker, bool hands_over)
{
    struct trial *trial = trial_new(modules);
    trial->hands_over = hands_over;
    *worker = trial_worker(trial, 0, NULL);
    (*worker)->hold_steps = true;
    engine_on_assigned((*worker)->engine);
    trial_start(trial, "j", "twice", "a", "r1");
    trial_settle(trial);
    assert_int_equal(engine_state_of((*worker)->engine), ENGINE_OWNER);
    assert_int_equal((*worker)->steps_held, 1);
    return trial;
}

static struct trial *at_work(struct trial_worker **worker) { return at_work_as(worker, false); }

static uint32_t last_kind(const struct trial *trial, size_t back)
{
    return trial_kind(trial, trial->journal.count - back);
}

static void a_running_step_ends_first(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = at_work(&worker);
    size_t before = trial->journal.count;
    (void)state;
    engine_on_revoked(worker->engine);
    trial_settle(trial);
    assert_int_equal(worker->outputs[ENGINE_OUT_DRAINING], 1);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_DRAINING);
    assert_int_equal(trial->journal.count, before);
    trial_step_end(worker, "done");
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    assert_int_equal(last_kind(trial, 3), PERDURE__V1__KIND__KIND_EVENT);
    assert_int_equal(last_kind(trial, 2), PERDURE__V1__KIND__KIND_MARK);
    assert_int_equal(last_kind(trial, 1), PERDURE__V1__KIND__KIND_RELEASE);
    assert_int_equal(worker->steps_held, 1); /* the second is the next owner's */
    trial_free(trial);
}

static void a_step_that_does_not_end_is_handed_back(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = at_work(&worker);
    (void)state;
    engine_on_revoked(worker->engine);
    trial_settle(trial);
    assert_true(engine_next_wake(worker->engine) <= trial->monotonic_ms + DRAIN_MS);
    trial_advance(trial, DRAIN_MS);
    trial_settle(trial);
    assert_int_equal(last_kind(trial, 1), PERDURE__V1__KIND__KIND_RELEASE);
    assert_int_equal(worker->outputs[ENGINE_OUT_ABANDON_STEP], 1);
    trial_step_end(worker, "late"); /* counts for nothing */
    trial_settle(trial);
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_settle(trial);
    assert_string_equal(second->last_state, "completed");
    assert_int_equal(second->outputs[ENGINE_OUT_STEP], 2);
    trial_free(trial);
}

static void no_time_to_drain(void **state)
{
    struct engine_limits limits = { .drain_ms = -1 };
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, &limits);
    (void)state;
    worker->hold_steps = true;
    engine_on_assigned(worker->engine);
    trial_start(trial, "j", "twice", "a", "r1");
    trial_settle(trial);
    engine_on_revoked(worker->engine);
    trial_settle(trial);
    assert_int_equal(last_kind(trial, 1), PERDURE__V1__KIND__KIND_RELEASE);
    trial_free(trial);
}

static void who_comes_back_writes_no_release(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = at_work(&worker);
    (void)state;
    engine_on_stop(worker->engine, false);
    trial_step_end(worker, "done");
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    assert_int_equal(worker->outputs[ENGINE_OUT_RELEASED], 1);
    assert_int_equal(last_kind(trial, 1), PERDURE__V1__KIND__KIND_MARK);
    trial_free(trial);
}

static void who_leaves_writes_a_release(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = at_work(&worker);
    (void)state;
    engine_on_stop(worker->engine, true);
    trial_step_end(worker, "done");
    trial_settle(trial);
    assert_int_equal(last_kind(trial, 1), PERDURE__V1__KIND__KIND_RELEASE);
    trial_free(trial);
}

/* Taken from it before it stops to come back: somebody waits for the Release. */
static void who_stops_while_it_drains_writes_a_release(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = at_work(&worker);
    (void)state;
    engine_on_revoked(worker->engine);
    engine_on_stop(worker->engine, false);
    trial_step_end(worker, "done");
    trial_settle(trial);
    assert_int_equal(last_kind(trial, 1), PERDURE__V1__KIND__KIND_RELEASE);
    trial_free(trial);
}

static void an_attempt_that_never_began_delays_nothing(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = at_work(&worker);
    (void)state;
    engine_on_revoked(worker->engine);
    engine_on_step_handed_back(worker->engine, worker->held.job, worker->held.run, worker->held.op,
                               worker->held.attempt);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    assert_int_equal(last_kind(trial, 1), PERDURE__V1__KIND__KIND_RELEASE);
    trial_free(trial);
}

/* The steps that were wanted while it drained begin after all. */
static void assigned_again_it_goes_on(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = at_work(&worker);
    (void)state;
    engine_on_revoked(worker->engine);
    trial_step_end(worker, "done");
    trial_run(worker); /* the result is in flight; the second step is wanted */
    assert_int_equal(engine_state_of(worker->engine), ENGINE_DRAINING);
    engine_on_assigned(worker->engine);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    trial_settle(trial);
    assert_int_equal(worker->steps_held, 2);
    trial_step_end(worker, "done");
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "j"), "completed");
    trial_free(trial);
}

static void assigned_again_after_its_result_was_confirmed(void **state)
{
    struct engine_limits limits = { 0 };
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, &limits);
    (void)state;
    worker->hold_steps = true;
    engine_on_assigned(worker->engine);
    trial_start(trial, "other", "twice", "b", "r2"); /* its step keeps the drain open */
    trial_settle(trial);
    trial_start(trial, "j", "twice", "a", "r1");
    trial_settle(trial);
    engine_on_revoked(worker->engine);
    trial_step_end(worker, "done");
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_DRAINING);
    assert_int_equal(worker->steps_held, 2);
    engine_on_assigned(worker->engine);
    trial_settle(trial);
    assert_int_equal(worker->steps_held, 3);
    assert_string_equal(worker->held.job, "j");
    trial_free(trial);
}

/* ---- while its journal is copied forward (rule 18) ------------------------------------------------------------------ */

/* What the engine wants to append lands, is acknowledged and read; as long as it is not more than `most`. */
static bool land(struct trial_worker *worker, size_t most)
{
    if (worker->append_count > most)
        return false;
    trial_land_acknowledged(worker);
    trial_read(worker);
    return true;
}

/* An owner that has appended as many copies of its job's records as may be in flight, and not all. */
static struct trial *half_copied(struct trial_worker **worker)
{
    static const struct engine_limits limits = { .retention_bytes = 1 << 30, .retention_age_ms = 1000 };
    struct trial *trial = trial_new(modules);
    *worker = trial_worker(trial, 0, &limits);
    (*worker)->hold_steps = true;
    engine_on_assigned((*worker)->engine);
    trial_start(trial, "j", "twice", "a", "r1");
    trial_settle(trial);
    for (int i = 0; i < RETENTION_IN_FLIGHT + 20; i++) { /* a record each */
        char request[16];
        if (i == RETENTION_IN_FLIGHT) { /* a first pass ends with a claim: what came until now lies below it */
            trial_advance(trial, 1100);
            trial_settle(trial);
        }
        snprintf(request, sizeof request, "s%d", i);
        trial_signal(trial, "j", "note", "word", request);
        trial_settle(trial);
    }
    trial_advance(trial, 1100);
    do
        trial_run(*worker);
    while (land(*worker, RETENTION_IN_FLIGHT / 2));
    assert_int_equal((*worker)->append_count, RETENTION_IN_FLIGHT);
    return trial;
}

static size_t copies(const struct trial *trial)
{
    size_t count = 0;
    for (size_t i = 0; i < trial->journal.count; i++)
        count += trial_kind(trial, i) == PERDURE__V1__KIND__KIND_COPY;
    return count;
}

/* The result of its step waits behind the copy: that goes on, and no time is lost nor a step run again. */
static void a_copy_that_has_begun_is_ended(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = half_copied(&worker);
    (void)state;
    engine_on_revoked(worker->engine);
    trial_step_end(worker, "done");
    trial_run(worker);
    assert_true(land(worker, RETENTION_IN_FLIGHT));
    assert_true(engine_next_wake(worker->engine) <= trial->monotonic_ms);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    assert_int_equal(copies(trial), RETENTION_IN_FLIGHT + 21);
    assert_int_equal(last_kind(trial, 3), PERDURE__V1__KIND__KIND_EVENT);
    assert_int_equal(last_kind(trial, 1), PERDURE__V1__KIND__KIND_RELEASE);
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_settle(trial);
    assert_string_equal(second->last_state, "completed");
    assert_int_equal(second->outputs[ENGINE_OUT_STEP], 1);
    trial_free(trial);
}

/* Nothing waits for it: what has begun counts for nothing. */
static void a_copy_that_nobody_waits_for_is_left(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = half_copied(&worker);
    (void)state;
    engine_on_revoked(worker->engine);
    engine_on_step_handed_back(worker->engine, worker->held.job, worker->held.run, worker->held.op,
                               worker->held.attempt);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_settle(trial);
    assert_string_equal(second->last_state, "completed");
    trial_free(trial);
}

/* ---- between two live workers (rule 4) ----------------------------------------------------------------------------- */

static Record *record_at(const struct trial *trial, size_t back)
{
    const struct trial_record *record = &trial->journal.records[trial->journal.count - back];
    Record *decoded = NULL;
    assert_int_equal(record_decode(record->data, record->size, &decoded), WIRE_OK);
    return decoded;
}

static bool is_leaving_mark(const struct trial *trial, size_t back)
{
    Record *record = record_at(trial, back);
    bool is = record->mark && record->mark->leaving == DRAIN_MS;
    record_free(record);
    return is;
}

static bool is_ask(const struct trial *trial, size_t back)
{
    Record *record = record_at(trial, back);
    bool is = record->mark && record->header->claim == -1 && strcmp(record->mark->asks, "second") == 0;
    record_free(record);
    return is;
}

static void revoked_it_goes_on_until_it_is_asked(void **state)
{
    struct trial_worker *first;
    struct trial *trial = at_work_as(&first, true);
    (void)state;
    engine_on_revoked(first->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of(first->engine), ENGINE_OWNER);
    assert_true(is_leaving_mark(trial, 1));
    trial_step_end(first, "done");
    trial_settle(trial);
    assert_int_equal(first->steps_held, 2); /* works on */
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of(first->engine), ENGINE_DRAINING);
    assert_int_equal(engine_state_of(second->engine), ENGINE_CATCHING_UP);
    trial_advance(trial, DRAIN_MS / 2); /* it said that this may take so long */
    trial_settle(trial);
    assert_int_equal(engine_state_of(second->engine), ENGINE_CATCHING_UP);
    trial_step_end(first, "done");
    trial_settle(trial);
    assert_int_equal(engine_state_of(first->engine), ENGINE_FOLLOWING);
    assert_int_equal(engine_state_of(second->engine), ENGINE_OWNER);
    assert_string_equal(second->last_state, "completed");
    assert_int_equal(second->outputs[ENGINE_OUT_STEP], 0); /* nothing was done twice */
    trial_advance(trial, 2000); /* nothing is left to do: told all the same */
    trial_settle(trial);
    assert_int_equal(second->takeover.progress_us, -1);
    assert_int_equal(second->takeover.cause, TAKEOVER_PLANNED);
    assert_string_equal(second->takeover.previous, "first");
    trial_free(trial);
}

static void asked_before_it_is_revoked(void **state)
{
    struct trial_worker *first;
    struct trial *trial = at_work_as(&first, true);
    (void)state;
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_run(second);
    trial_read(second);
    trial_run(second);
    trial_land(second);
    assert_true(is_ask(trial, 1));
    trial_settle(trial);
    assert_int_equal(engine_state_of(first->engine), ENGINE_OWNER); /* it is still assigned, so it answers only */
    assert_true(is_leaving_mark(trial, 1));
    engine_on_revoked(first->engine);
    assert_int_equal(engine_state_of(first->engine), ENGINE_DRAINING);
    trial_step_end(first, "done");
    trial_settle(trial);
    assert_int_equal(engine_state_of(second->engine), ENGINE_OWNER);
    trial_free(trial);
}

static void asked_for_nothing_it_stays(void **state)
{
    struct trial_worker *first;
    struct trial *trial = at_work_as(&first, true);
    (void)state;
    engine_on_revoked(first->engine);
    engine_on_assigned(first->engine);
    trial_step_end(first, "done");
    trial_settle(trial);
    trial_step_end(first, "done");
    trial_settle(trial);
    assert_int_equal(first->outputs[ENGINE_OUT_OWNED], 1); /* its claim stands: no new one */
    assert_string_equal(trial_state(trial, "j"), "completed");
    trial_free(trial);
}

/* Told to leave it said so, and died; who asked first died too. The next ones do not wait from the beginning. */
static void what_it_said_to_take_is_waited_for_once(void **state)
{
    struct trial_worker *first;
    struct trial *trial = at_work_as(&first, true);
    (void)state;
    engine_on_revoked(first->engine);
    trial_settle(trial);
    assert_true(is_leaving_mark(trial, 1));
    engine_free(first->engine);
    first->engine = NULL;
    trial_advance(trial, 60000); /* nobody wanted it yet: that is no time of its draining */
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_settle(trial);
    trial_advance(trial, DRAIN_MS - 1000);
    trial_settle(trial);
    assert_int_equal(engine_state_of(second->engine), ENGINE_CATCHING_UP);
    engine_free(second->engine);
    second->engine = NULL;
    struct trial_worker *third = trial_worker(trial, 1, NULL);
    engine_on_assigned(third->engine);
    trial_settle(trial);
    trial_advance(trial, 1000 + HANDOVER_SLACK_MS - 1);
    trial_settle(trial);
    assert_int_equal(engine_state_of(third->engine), ENGINE_CATCHING_UP);
    trial_advance(trial, 1);
    trial_settle(trial);
    assert_int_equal(engine_state_of(third->engine), ENGINE_OWNER);
    trial_free(trial);
}

/* `spoke_ms` before it was asked, the owner was last heard of: then it is dead. How long does the next one wait? */
static void waits_for_a_dead_owner(int64_t spoke_ms, int64_t waits_ms)
{
    struct trial_worker *first;
    struct trial *trial = at_work_as(&first, true);
    engine_free(first->engine);
    first->engine = NULL;
    trial_advance(trial, spoke_ms);
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_settle(trial);
    assert_true(is_ask(trial, 1));
    trial_advance(trial, waits_ms - 1);
    trial_settle(trial);
    assert_int_equal(engine_state_of(second->engine), ENGINE_CATCHING_UP);
    trial_advance(trial, 1);
    trial_settle(trial);
    assert_int_equal(engine_state_of(second->engine), ENGINE_OWNER);
    assert_int_equal(second->takeover.cause, TAKEOVER_UNPLANNED);
    assert_int_equal(second->takeover.silent_ms, spoke_ms + waits_ms);
    trial_free(trial);
}

static void a_dead_owner_costs_a_moment(void **state)
{
    (void)state;
    waits_for_a_dead_owner(HANDOVER_ALIVE_MS, HANDOVER_ANSWER_MS);
}

static void one_heard_of_just_now_is_waited_for(void **state)
{
    (void)state;
    waits_for_a_dead_owner(HANDOVER_ALIVE_MS - 1, HANDOVER_SLACK_MS);
}

static void an_ask_that_is_lost_ends_too(void **state)
{
    struct trial_worker *first;
    struct trial *trial = at_work_as(&first, true);
    (void)state;
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_run(second);
    trial_read(second);
    trial_run(second);
    assert_int_equal(second->append_count, 1);
    trial_lose(second);
    assert_int_equal(engine_next_wake(second->engine), trial->monotonic_ms + HANDOVER_ASK_MS);
    trial_advance(trial, HANDOVER_ASK_MS);
    trial_run(second);
    assert_int_equal(engine_state_of(second->engine), ENGINE_CLAIMING);
    trial_free(trial);
}

static void after_a_restart_nobody_is_asked(void **state)
{
    struct trial_worker *first;
    struct trial *trial = at_work_as(&first, true);
    (void)state;
    engine_free(first->engine);
    first = trial_worker(trial, 0, NULL);
    engine_on_assigned(first->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of(first->engine), ENGINE_OWNER);
    assert_int_equal(first->takeover.cause, TAKEOVER_RESTART);
    trial_free(trial);
}

static void stopped_after_it_was_revoked_it_releases(void **state)
{
    struct trial_worker *first;
    struct trial *trial = at_work_as(&first, true);
    (void)state;
    engine_on_revoked(first->engine);
    trial_settle(trial);
    engine_on_stop(first->engine, false);
    assert_int_equal(engine_state_of(first->engine), ENGINE_DRAINING);
    trial_step_end(first, "done");
    trial_settle(trial);
    assert_int_equal(last_kind(trial, 1), PERDURE__V1__KIND__KIND_RELEASE);
    trial_free(trial);
}

static void claimed_by_a_third_it_asks_again(void **state)
{
    struct trial_worker *first;
    struct trial *trial = at_work_as(&first, true);
    (void)state;
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_run(second);
    trial_read(second);
    trial_run(second);
    trial_land(second);
    assert_true(is_ask(trial, 1));
    engine_on_fault(first->engine, LOG_PRODUCER_REPLACED, "test"); /* the owner claims anew, and forgets the ask */
    trial_run(first);
    trial_land(first);
    trial_read(second);
    trial_run(second);
    trial_land(second);
    assert_true(is_ask(trial, 1));
    trial_free(trial);
}

/* Rule 23: a standby reads, and nothing of it leaves, whatever the owner writes; then it takes over what it has read. */
static void who_only_follows_writes_nothing(void **state)
{
    struct trial_worker *owner;
    struct trial *trial = at_work(&owner);
    struct trial_worker *standby = trial_worker(trial, 1, NULL);
    (void)state;
    trial_settle(trial);
    trial_step_end(owner, "done");
    trial_settle(trial);
    engine_on_stop(owner->engine, true);
    trial_advance(trial, DRAIN_MS);
    trial_settle(trial);
    trial_advance(trial, 10 * MARK_INTERVAL_MS);
    trial_settle(trial);
    for (int kind = 0; kind <= ENGINE_OUT_NOTE; kind++)
        if (kind != ENGINE_OUT_FOLLOW_JOURNAL)
            assert_int_equal(standby->outputs[kind], 0);
    assert_int_equal(engine_state_of(standby->engine), ENGINE_FOLLOWING);
    engine_on_assigned(standby->engine);
    trial_settle(trial);
    assert_string_equal(standby->last_state, "completed");
    assert_true(standby->takeover.warm);
    assert_int_equal(standby->takeover.records, 0);
    assert_int_equal(standby->takeover.cause, TAKEOVER_PLANNED);
    trial_free(trial);
}

/* Rule 19 under a standby: what it read is of no use any more. It goes on following, from the new start. */
static void who_follows_a_cut_head_begins_anew(void **state)
{
    struct trial_worker *owner;
    struct trial *trial = at_work(&owner);
    struct trial_worker *standby = trial_worker(trial, 1, NULL);
    (void)state;
    trial_settle(trial);
    engine_on_fault(standby->engine, LOG_OUT_OF_RANGE, "the records from 3 on are gone");
    trial_run(standby);
    engine_begin(standby->engine, 0); /* as the host does for REBUILD */
    trial_settle(trial);
    assert_int_equal(standby->outputs[ENGINE_OUT_REBUILD], 1);
    assert_int_equal(standby->outputs[ENGINE_OUT_STOPPED], 0);
    assert_int_equal(engine_state_of(standby->engine), ENGINE_FOLLOWING);
    struct engine_counts counts;
    engine_counts(standby->engine, &counts);
    assert_int_equal(counts.open_runs, 1);
    trial_free(trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_running_step_ends_first),
        cmocka_unit_test(a_step_that_does_not_end_is_handed_back),
        cmocka_unit_test(no_time_to_drain),
        cmocka_unit_test(who_comes_back_writes_no_release),
        cmocka_unit_test(who_leaves_writes_a_release),
        cmocka_unit_test(who_stops_while_it_drains_writes_a_release),
        cmocka_unit_test(an_attempt_that_never_began_delays_nothing),
        cmocka_unit_test(assigned_again_it_goes_on),
        cmocka_unit_test(assigned_again_after_its_result_was_confirmed),
        cmocka_unit_test(a_copy_that_has_begun_is_ended),
        cmocka_unit_test(a_copy_that_nobody_waits_for_is_left),
        cmocka_unit_test(revoked_it_goes_on_until_it_is_asked),
        cmocka_unit_test(asked_before_it_is_revoked),
        cmocka_unit_test(asked_for_nothing_it_stays),
        cmocka_unit_test(what_it_said_to_take_is_waited_for_once),
        cmocka_unit_test(a_dead_owner_costs_a_moment),
        cmocka_unit_test(one_heard_of_just_now_is_waited_for),
        cmocka_unit_test(an_ask_that_is_lost_ends_too),
        cmocka_unit_test(after_a_restart_nobody_is_asked),
        cmocka_unit_test(stopped_after_it_was_revoked_it_releases),
        cmocka_unit_test(claimed_by_a_third_it_asks_again),
        cmocka_unit_test(who_only_follows_writes_nothing),
        cmocka_unit_test(who_follows_a_cut_head_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
