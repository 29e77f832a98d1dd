/*
 * Every row of the transition table on top of engine.c, by hand; then N-th-fault sweeps over append and delivery.
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

PDR_JOB(greet, pdr_text, pdr_text)
PDR_STEP(compose, pdr_text, pdr_text)
PDR_SIGNAL(go, pdr_text)

int greet(pdr_job *job, const pdr_text *name, pdr_text *out)
{
    pdr_text *line, *word;
    PDR_TRY(pdr_await(job, compose, name, &line));
    PDR_TRY(pdr_receive(job, go, &word));
    PDR_TRY(pdr_sleep(job, 500));
    PDR_TRY(pdr_await(job, compose, line, &line));
    *out = *line;
    return PDR_OK;
}

int compose(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "<%s>", in->chars);
    return PDR_OK;
}

PDR_MODULE(greetings, PDR_RUNS(greet), PDR_RUNS(compose));

static const pdr_module *const modules[] = { &pdr_module_greetings, NULL };

static struct trial *owned(struct trial_worker **worker)
{
    struct trial *trial = trial_new(modules);
    *worker = trial_worker(trial, 0, NULL);
    engine_on_assigned((*worker)->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of((*worker)->engine), ENGINE_OWNER);
    return trial;
}

static struct trial_worker *second_claims(struct trial *trial)
{
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_run(second);
    trial_read(second);
    trial_run(second);
    assert_int_equal(engine_state_of(second->engine), ENGINE_CLAIMING);
    trial_land(second);
    return second;
}

/* ---- the table -------------------------------------------------------------------------------------------- */

static void following_to_owner(void **state)
{
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, NULL);
    (void)state;
    trial_run(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    engine_on_assigned(worker->engine);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_CATCHING_UP);
    trial_run(worker);
    trial_read(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_CLAIMING);
    trial_run(worker);
    uint64_t cookie = worker->appends[0].cookie;
    trial_land(worker);
    trial_read(worker);
    /* Rule 7: read back alone is not enough. */
    assert_int_equal(engine_state_of(worker->engine), ENGINE_CLAIMING);
    trial_acknowledge(worker, cookie, LOG_PERSISTED, 1);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    trial_run(worker);
    assert_int_equal(worker->outputs[ENGINE_OUT_OWNED], 1);
    trial_free(trial);
}

static void catching_up_and_revoked(void **state)
{
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, NULL);
    (void)state;
    engine_on_assigned(worker->engine);
    engine_on_revoked(worker->engine);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    trial_settle(trial);
    assert_int_equal(trial->journal.count, 1);
    trial_free(trial);
}

static void claim_lost_claims_anew(void **state)
{
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, NULL);
    (void)state;
    engine_on_assigned(worker->engine);
    trial_run(worker);
    trial_read(worker);
    trial_run(worker);
    trial_lose(worker);
    trial_advance(trial, APPEND_DEADLINE_MS + 1);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    struct engine_counts counts;
    engine_counts(worker->engine, &counts);
    assert_int_equal(counts.claims, 2);
    trial_free(trial);
}

static void claim_read_back_though_revoked_is_released(void **state)
{
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, NULL);
    (void)state;
    engine_on_assigned(worker->engine);
    trial_run(worker);
    trial_read(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_CLAIMING);
    engine_on_revoked(worker->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    assert_int_equal(trial_kind(trial, trial->journal.count - 1), PERDURE__V1__KIND__KIND_RELEASE);
    trial_free(trial);
}

static void doubt_claims_and_appends_again(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "j", "greet", "a", "r1");
    trial_read(worker);
    trial_run(worker);
    assert_int_equal(worker->append_count, 1);
    uint64_t cookie = worker->appends[0].cookie;
    trial_lose(worker);
    trial_acknowledge(worker, cookie, LOG_NOT_PERSISTED, -1);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_CLAIMING);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    assert_string_equal(trial_state(trial, "j"), "waiting");
    trial_free(trial);
}

static void acknowledged_elsewhere_is_doubt(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "j", "greet", "a", "r1");
    trial_read(worker);
    trial_run(worker);
    uint64_t cookie = worker->appends[0].cookie;
    int64_t offset = (int64_t)trial->journal.count;
    trial_land(worker);
    trial_read(worker);
    trial_acknowledge(worker, cookie, LOG_PERSISTED, offset + 3);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_CLAIMING);
    trial_free(trial);
}

static void unknown_offset_is_no_doubt(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "j", "greet", "a", "r1");
    trial_read(worker);
    trial_run(worker);
    uint64_t cookie = worker->appends[0].cookie;
    trial_land(worker);
    trial_read(worker);
    trial_acknowledge(worker, cookie, LOG_PERSISTED, -1);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "j"), "waiting");
    trial_free(trial);
}

static void revoked_drains_and_releases(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "j", "greet", "a", "r1");
    trial_settle(trial);
    engine_on_revoked(worker->engine);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_DRAINING);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    assert_int_equal(trial_kind(trial, trial->journal.count - 1), PERDURE__V1__KIND__KIND_RELEASE);
    assert_int_equal(trial_kind(trial, trial->journal.count - 2), PERDURE__V1__KIND__KIND_MARK);
    assert_int_equal(worker->outputs[ENGINE_OUT_RELEASED], 1);
    trial_free(trial);
}

static void assigned_again_before_the_release(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "j", "greet", "a", "r1");
    trial_read(worker);
    trial_run(worker); /* an append is in flight: it cannot release yet */
    engine_on_revoked(worker->engine);
    trial_run(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_DRAINING);
    engine_on_assigned(worker->engine);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    trial_free(trial);
}

static void foreign_claim_fences(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "j", "greet", "a", "r1");
    trial_settle(trial);
    second_claims(trial);
    trial_read(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FENCED);
    trial_run(worker);
    assert_int_equal(worker->outputs[ENGINE_OUT_LOST], 1);
    trial_free(trial);
}

static void foreign_claim_while_not_assigned(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "j", "greet", "a", "r1");
    trial_read(worker);
    trial_run(worker);
    engine_on_revoked(worker->engine);
    trial_lose(worker);
    second_claims(trial);
    trial_read(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    trial_free(trial);
}

/* Another's claim before ours: ours comes later and wins. */
static void foreign_claim_while_claiming(void **state)
{
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, NULL);
    (void)state;
    engine_on_assigned(worker->engine);
    trial_run(worker);
    trial_read(worker);
    trial_run(worker);
    second_claims(trial); /* lands first */
    trial_read(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_CLAIMING);
    uint64_t cookie = worker->appends[0].cookie;
    trial_land(worker);
    trial_acknowledge(worker, cookie, LOG_PERSISTED, (int64_t)trial->journal.count - 1);
    trial_read(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    trial_free(trial);
}

/* Rule 4: a silent foreign epoch is claimed after the backoff; one that writes is left alone. */
static void fenced_claims_after_silence(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    second_claims(trial);
    trial_read(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FENCED);
    engine_free(trial->workers[1].engine); /* the second is gone, without a word */
    trial->workers[1].engine = NULL;
    trial_lose(&trial->workers[1]);
    trial_advance(trial, CLAIM_BACKOFF_MS - 1);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FENCED);
    trial_advance(trial, CLAIM_BACKOFF_MAX_MS);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    trial_free(trial);
}

static void fenced_and_revoked(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    second_claims(trial);
    trial_read(worker);
    engine_on_revoked(worker->engine);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    trial_free(trial);
}

static void corrupt_record_stops(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    struct trial_record *last = &trial->journal.records[trial->journal.count - 1];
    unsigned char *copy = malloc(last->size);
    memcpy(copy, last->data, last->size);
    copy[last->size - 1] ^= 1;
    trial_journal_append(trial, copy, last->size);
    trial_journal_append(trial, "not ours", 8);
    free(copy);
    trial_read(worker);
    trial_run(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_STOPPED);
    assert_non_null(strstr(worker->last_text, "journal offset"));
    trial_free(trial);
}

/* Rule 1: bytes of somebody else count for nobody. */
/* Hazards 7, 26: the head of the journal is gone, and no Mark says that it was cut there. */
static void a_head_that_others_cut_stops(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "j", "greet", "a", "r1");
    trial_settle(trial);
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_run(second);
    second->journal_from = 3; /* the log begins here: behind genesis and claim, among the records of the job */
    trial_read(second);
    trial_run(second);
    assert_int_equal(engine_state_of(second->engine), ENGINE_STOPPED);
    assert_non_null(strstr(second->last_text, "something else than Perdure deleted its head"));
    trial_free(trial);
}

static void foreign_bytes_are_passed_over(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_journal_append(trial, "not ours", 8);
    trial_start(trial, "j", "greet", "a", "r1");
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    assert_string_equal(trial_state(trial, "j"), "waiting");
    trial_free(trial);
}

static void clock_far_off_stops(void **state)
{
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, NULL);
    (void)state;
    engine_on_assigned(worker->engine);
    trial_run(worker);
    trial_read(worker);
    trial_run(worker);
    trial->wall_ms += CLOCK_SKEW_LIMIT_MS + 1000; /* the log's clock when the claim lands */
    uint64_t cookie = worker->appends[0].cookie;
    trial_land(worker);
    trial_acknowledge(worker, cookie, LOG_PERSISTED, 1);
    trial_read(worker);
    trial_run(worker);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_STOPPED);
    assert_non_null(strstr(worker->last_text, "clock"));
    trial_free(trial);
}

/* ---- a job's way, with faults at every append ---------------------------------------------------------------- */

static void finish(struct trial *trial)
{
    for (int i = 0; i < 50 && strcmp(trial_state(trial, "j"), "completed") != 0; i++) {
        trial_settle(trial);
        trial_advance(trial, 1000);
    }
    assert_string_equal(trial_state(trial, "j"), "completed");
}

static size_t count_kind_events(struct trial *trial)
{
    size_t count = 0;
    for (size_t i = 0; i < trial->journal.count; i++)
        count += trial_kind(trial, i) == PERDURE__V1__KIND__KIND_EVENT;
    return count;
}

static void job_completes(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "j", "greet", "a", "r1");
    trial_signal(trial, "j", "go", "now", "r2");
    finish(trial);
    assert_true(worker->replies >= 2);
    assert_int_equal(worker->refused, 0);
    trial_free(trial);
}

enum fault { LOST_SILENTLY, LOST_AND_TOLD, LANDED_BUT_TOLD_LOST, LANDED_UNACKNOWLEDGED };

/* The n-th append of the job's whole way meets the fault; true: there was an n-th. */
static bool way_with_fault(size_t n, enum fault fault)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    size_t seen = 0;
    bool met = false;
    trial_start(trial, "j", "greet", "a", "r1");
    trial_signal(trial, "j", "go", "now", "r2");
    for (int round = 0; round < 200 && !met && strcmp(trial_state(trial, "j"), "completed") != 0; round++) {
        trial_read(worker);
        trial_run(worker);
        while (worker->append_count > 0 && !met) {
            struct trial_append append = worker->appends[0];
            worker->append_count--;
            memmove(worker->appends, worker->appends + 1, worker->append_count * sizeof append);
            int64_t offset = append.send ? -1 : (int64_t)trial->journal.count;
            met = seen++ == n;
            if (!met || fault == LANDED_BUT_TOLD_LOST || fault == LANDED_UNACKNOWLEDGED)
                trial_journal_append(trial, append.data, append.size);
            free(append.data);
            if (!met)
                trial_acknowledge(worker, append.cookie, LOG_PERSISTED, offset);
            else if (fault == LOST_AND_TOLD)
                trial_acknowledge(worker, append.cookie, LOG_NOT_PERSISTED, -1);
            else if (fault == LANDED_BUT_TOLD_LOST)
                trial_acknowledge(worker, append.cookie, LOG_POSSIBLY_PERSISTED, -1);
        }
        if (worker->append_count == 0)
            trial_advance(trial, 100);
    }
    trial_lose(worker);
    if (met)
        trial_advance(trial, APPEND_DEADLINE_MS + 1);
    finish(trial);
    assert_true(count_kind_events(trial) >= 3);
    assert_int_equal(worker->refused, 0);
    trial_free(trial);
    return met;
}

static void every_append_meets_every_fault(void **state)
{
    (void)state;
    for (int fault = LOST_SILENTLY; fault <= LANDED_UNACKNOWLEDGED; fault++) {
        size_t n = 0;
        while (way_with_fault(n, (enum fault)fault))
            n++;
        assert_true(n >= 4); /* start and signal, step and timer, timer fired, step and end */
    }
}

/* Takeover by a second worker after each append of the first: the job ends once, the same way. */
static void takeover_after_every_append(void **state)
{
    (void)state;
    for (size_t n = 0; n < 8; n++) {
        struct trial_worker *worker;
        struct trial *trial = owned(&worker);
        trial_start(trial, "j", "greet", "a", "r1");
        trial_signal(trial, "j", "go", "now", "r2");
        for (size_t i = 0; i < n; i++) {
            trial_read(worker);
            trial_run(worker);
            size_t count = worker->append_count;
            int64_t offset = (int64_t)trial->journal.count;
            uint64_t cookie = count ? worker->appends[0].cookie : 0;
            trial_land(worker);
            if (count)
                trial_acknowledge(worker, cookie, LOG_PERSISTED, offset);
            trial_advance(trial, 200);
        }
        engine_free(worker->engine); /* dies without a word */
        trial_lose(worker);
        trial_worker(trial, 0, NULL);
        engine_on_assigned(worker->engine);
        finish(trial);
        trial_free(trial);
    }
}

/* What is held back for a Mark goes at once, not when the host next looks by itself. */
static void a_wanted_mark_is_due(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "j", "greet", "a", "r1");
    trial_settle(trial);
    trial_advance(trial, 10000);
    trial_settle(trial);
    assert_true(engine_next_wake(worker->engine) > trial->monotonic_ms);
    trial_signal(trial, "nobody", "go", "x", "r2");
    trial_read(worker);
    assert_true(engine_next_wake(worker->engine) <= trial->monotonic_ms);
    trial_settle(trial);
    assert_int_equal(worker->refused, 1);
    assert_true(engine_next_wake(worker->engine) > trial->monotonic_ms);
    trial_start(trial, "j", "greet", "a", "r3");
    trial_read(worker);
    assert_true(engine_next_wake(worker->engine) <= trial->monotonic_ms);
    trial_free(trial);
}

/* A new owner's host may let what has come go before the jobs that are to be replayed: those wait, and it is told that they do. */
static void what_comes_goes_before_replays(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    worker->hold_steps = true;
    trial_start(trial, "old", "greet", "a", "r1");
    trial_settle(trial);
    assert_int_equal(worker->steps_held, 1);
    engine_free(worker->engine);
    trial_lose(worker);
    trial_worker(trial, 0, NULL);
    worker->hold_jobs = true;
    worker->steps_held = 0;
    engine_on_assigned(worker->engine);
    trial_start(trial, "new", "greet", "b", "r2");
    trial_settle(trial);
    assert_int_equal(worker->outputs[ENGINE_OUT_REPLAYED], 0);
    assert_int_equal(worker->steps_held, 1);
    assert_string_equal(worker->held.job, "new");
    assert_true(engine_has_due(worker->engine));
    assert_true(engine_next_wake(worker->engine) <= trial->monotonic_ms);
    worker->hold_jobs = false;
    trial_run(worker);
    assert_int_equal(worker->outputs[ENGINE_OUT_REPLAYED], 1);
    assert_int_equal(worker->steps_held, 2);
    assert_string_equal(worker->held.job, "old");
    trial_free(trial);
}

/* An owner whose appends do not land reads no more of its inbox than it may hold; nothing is lost when they do again. */
static void inbox_is_held_back(void **state)
{
    struct engine_limits limits = { .inbox_records = 6 };
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, &limits);
    struct engine_counts counts;
    char job[16];
    (void)state;
    engine_on_assigned(worker->engine);
    trial_settle(trial);
    for (int i = 0; i < 50; i++) {
        snprintf(job, sizeof job, "b%d", i);
        trial_start(trial, job, "greet", job, job);
    }
    for (int i = 0; i < 20; i++) {
        trial_read(worker);
        trial_run(worker);
    }
    engine_counts(worker->engine, &counts);
    assert_int_equal(counts.inbox_held, 7); /* the one that was too many is held too */
    assert_int_equal(counts.inbox_pauses, 1);
    for (int i = 0; i < 30; i++) {
        trial_settle(trial);
        trial_advance(trial, 100);
    }
    engine_counts(worker->engine, &counts);
    assert_int_equal(counts.inbox_held, 0);
    assert_int_equal(counts.inbox_held_most, 7);
    assert_true(counts.inbox_pauses >= 7);
    for (int i = 0; i < 50; i++) {
        snprintf(job, sizeof job, "b%d", i);
        assert_string_equal(trial_state(trial, job), "waiting");
    }
    trial_free(trial);
}

/* So are repetitions and what is refused, though nothing of them waits for an append but their answer. */
static void answers_are_held_back(void **state)
{
    struct engine_limits limits = { .inbox_records = 6 };
    struct engine_memory memory = { .budget = SIZE_MAX / 2 };
    struct trial *trial = trial_new(modules);
    trial->memory = &memory;
    struct trial_worker *worker = trial_worker(trial, 0, &limits);
    (void)state;
    engine_on_assigned(worker->engine);
    trial_settle(trial);
    size_t before = memory.used;
    for (int i = 0; i < 50; i++) {
        trial_start(trial, "first", "greet", "x", "request");
        trial_signal(trial, "nobody", "word", "y", NULL);
    }
    for (int i = 0; i < 20; i++) {
        trial_read(worker);
        trial_run(worker);
    }
    assert_int_equal(worker->inbox_from, -1);
    assert_int_equal(worker->replies, 0);
    assert_in_range(memory.used - before, 6 * 512, 100000); /* the answers count */
    for (int i = 0; i < 60; i++) {
        trial_settle(trial);
        trial_advance(trial, 100);
    }
    assert_int_equal(worker->replies, 100);
    assert_int_equal(worker->refused, 50);
    assert_string_equal(trial_state(trial, "first"), "waiting");
    trial_free(trial);
}

/* Until it is known whether somebody has the type of a start, what stands behind it is not taken: its signals. */
static void a_type_is_asked_for(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial->elsewhere = ENGINE_TYPE_ASKED;
    trial_start(trial, "new", "unheard", "x", "r1");
    trial_signal(trial, "new", "word", "y", "r2");
    trial_start(trial, "old", "greet", "x", "r3");
    trial_settle(trial);
    assert_int_equal(worker->inbox_from, -1);
    assert_int_equal(worker->replies, 0);
    trial_settle(trial);
    assert_int_equal(worker->inbox_from, -1); /* not even with room for more */

    trial->elsewhere = ENGINE_TYPE_KNOWN;
    engine_on_types(worker->engine);
    trial_settle(trial);
    assert_int_equal(worker->replies, 3);
    assert_int_equal(worker->refused, 0);
    assert_string_equal(trial_state(trial, "new"), "waiting");
    assert_string_equal(trial_state(trial, "old"), "waiting");

    trial->elsewhere = ENGINE_TYPE_ASKED;
    trial_start(trial, "none", "misspelled", "x", "r4");
    trial_settle(trial);
    trial->elsewhere = ENGINE_TYPE_UNKNOWN;
    engine_on_types(worker->engine);
    trial_settle(trial);
    assert_int_equal(worker->refused, 1);
    trial_free(trial);
}

/* ... nor does a new epoch forget to read on. */
static void a_type_is_asked_for_anew(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial->elsewhere = ENGINE_TYPE_ASKED;
    trial_start(trial, "new", "unheard", "x", "r1");
    trial_settle(trial);
    engine_on_fault(worker->engine, LOG_PRODUCER_REPLACED, "test");
    trial->elsewhere = ENGINE_TYPE_KNOWN; /* told to the epoch before */
    trial_settle(trial);
    trial_advance(trial, 5000);
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "new"), "waiting");
    trial_free(trial);
}

/* ---- an acknowledgement before the record is read (rule 7) ------------------------------------------------------ */

/* The record of a start is in the log, at the offset that is returned; nobody has read it. */
static int64_t start_lands(struct trial *trial, struct trial_worker *worker, uint64_t *cookie)
{
    trial_start(trial, "j", "greet", "a", "r1");
    trial_read(worker);
    trial_run(worker);
    assert_int_equal(worker->append_count, 1);
    *cookie = worker->appends[0].cookie;
    trial_land(worker);
    return (int64_t)trial->journal.count - 1;
}

static void an_acknowledgement_stands_for_reading(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    uint64_t cookie;
    (void)state;
    int64_t offset = start_lands(trial, worker, &cookie);
    assert_int_equal(worker->journal_from, offset);
    trial_acknowledge(worker, cookie, LOG_PERSISTED, offset);
    trial_run(worker);
    assert_int_equal(worker->replies, 1); /* the start is accepted, and nothing was read */
    trial_settle(trial);
    assert_int_equal(worker->replies, 1);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    trial_free(trial);
}

/* Another's claim lies before it: that must be read first, and then it does not count. */
static void an_acknowledgement_further_on_does_not(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    uint64_t cookie;
    (void)state;
    second_claims(trial);
    int64_t offset;
    trial_start(trial, "j", "greet", "a", "r1");
    struct log_record start = { LOG_INBOX, 0, 0, trial->inbox.records[0].append_ms, -1, trial->inbox.records[0].data,
                                trial->inbox.records[0].size };
    worker->inbox_from = 1;
    engine_on_record(worker->engine, &start);
    trial_run(worker);
    assert_int_equal(worker->append_count, 1);
    cookie = worker->appends[0].cookie;
    trial_land(worker);
    offset = (int64_t)trial->journal.count - 1;
    trial_acknowledge(worker, cookie, LOG_PERSISTED, offset);
    trial_run(worker);
    assert_int_equal(worker->replies, 0);
    trial_read(worker);
    trial_run(worker);
    assert_int_equal(worker->replies, 0);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FENCED);
    trial_free(trial);
}

/* A log that has lost what it acknowledged, and gave the offset out again, is not believed. */
static void what_was_acknowledged_must_be_read(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    uint64_t cookie;
    (void)state;
    int64_t offset = start_lands(trial, worker, &cookie);
    trial_acknowledge(worker, cookie, LOG_PERSISTED, offset);
    trial_run(worker);
    ((unsigned char *)trial->journal.records[offset].data)[trial->journal.records[offset].size - 1] ^= 1;
    trial_read(worker);
    trial_run(worker);
    assert_int_equal(worker->outputs[ENGINE_OUT_REBUILD], 1);
    trial_free(trial);
}

/* Evicted jobs come back when something arrives for them. */
static void evicted_jobs_go_on(void **state)
{
    struct engine_limits limits = { .live_jobs = 2 };
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, &limits);
    char job[16];
    (void)state;
    engine_on_assigned(worker->engine);
    for (int i = 0; i < 20; i++) {
        snprintf(job, sizeof job, "e%d", i);
        trial_start(trial, job, "greet", job, job);
    }
    trial_settle(trial);
    trial_advance(trial, 1000);
    trial_settle(trial);
    struct engine_counts counts;
    engine_counts(worker->engine, &counts);
    assert_true(counts.live_jobs <= 2);
    assert_true(counts.evictions >= 18);
    for (int i = 0; i < 20; i++) {
        char request[16];
        snprintf(job, sizeof job, "e%d", i);
        snprintf(request, sizeof request, "g%d", i);
        trial_signal(trial, job, "go", "now", request);
    }
    for (int i = 0; i < 10; i++) {
        trial_settle(trial);
        trial_advance(trial, 600);
    }
    for (int i = 0; i < 20; i++) {
        snprintf(job, sizeof job, "e%d", i);
        assert_string_equal(trial_state(trial, job), "completed");
    }
    trial_free(trial);
}

static void forget_row(void *context, const StoredPartition *row) { (void)context, (void)row; }
static void forget_run(void *context, const StoredRun *run) { (void)context, (void)run; }
static void forget_text(void *context, const char *job) { (void)context, (void)job; }
static void forget_closed(void *context, const char *job, uint64_t run) { (void)context, (void)job, (void)run; }
static void forget_outputs(void *context, const StoredOutput *const *outputs, size_t count)
{
    (void)context, (void)outputs, (void)count;
}
static void forget_record(void *context, const char *job, uint64_t run, uint64_t seq, int64_t offset, const void *data,
                          size_t size)
{
    (void)context, (void)job, (void)run, (void)seq, (void)offset, (void)data, (void)size;
}

/* Rule 3: the journal that is read anew gives all there was; a store that still fails is not asked for it. */
static void a_damaged_store_costs_one_reading(void **state)
{
    const struct engine_save nowhere = { NULL, forget_row, forget_run, forget_record, forget_closed, forget_outputs,
                                         forget_text };
    struct engine_limits limits = { .live_jobs = 1 };
    struct trial *trial = trial_new(modules);
    trial->store_is_damaged = true;
    struct trial_worker *worker = trial_worker(trial, 0, &limits);
    char job[16], request[16];
    (void)state;
    engine_on_assigned(worker->engine);
    for (int i = 0; i < 5; i++) {
        snprintf(job, sizeof job, "d%d", i);
        trial_start(trial, job, "greet", job, job);
    }
    trial_settle(trial);
    engine_store(worker->engine, &nowhere);
    engine_on_histories_kept(worker->engine, (int64_t)trial->journal.count);
    trial_advance(trial, 1000);
    trial_settle(trial);
    for (int i = 0; i < 5; i++) {
        snprintf(job, sizeof job, "d%d", i);
        snprintf(request, sizeof request, "g%d", i);
        trial_signal(trial, job, "go", "now", request);
    }
    trial_settle(trial);
    assert_int_equal(worker->outputs[ENGINE_OUT_REBUILD], 1);
    engine_on_assigned(worker->engine); /* as the host does for it */
    engine_begin(worker->engine, 0);
    for (int i = 0; i < 10; i++) {
        trial_settle(trial);
        trial_advance(trial, 600);
    }
    assert_int_equal(worker->outputs[ENGINE_OUT_REBUILD], 1);
    assert_int_equal(trial->histories_asked, 1);
    for (int i = 0; i < 5; i++) {
        snprintf(job, sizeof job, "d%d", i);
        assert_string_equal(trial_state(trial, job), "completed");
    }
    trial_free(trial);
}

/* A job ends, many Marks follow, and only then its status record proves to be lost (rule 9). */
static void a_lost_status_is_shown_again(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial->unshown = (int64_t)trial->journal.count;
    trial_start(trial, "j", "greet", "a", "r1");
    trial_signal(trial, "j", "go", "now", "r2");
    finish(trial);
    trial_start(trial, "k", "greet", "a", "r3");
    for (int i = 0; i < 20; i++) {
        char request[16];
        snprintf(request, sizeof request, "s%d", i);
        trial_advance(trial, 5000);
        trial_signal(trial, "k", "other", "x", request); /* so that there is something to mark */
        trial_settle(trial);
    }
    size_t shown = worker->outputs[ENGINE_OUT_STATUS];
    *worker->last_state = '\0';
    engine_on_fault(worker->engine, LOG_STATUS_LOST, "timed out");
    trial_settle(trial);
    trial_advance(trial, 5000);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    assert_int_equal(worker->outputs[ENGINE_OUT_STATUS], shown + 2);

    trial->unshown = 0; /* and now they are there: a Mark says so, and the next epoch shows none again */
    trial_advance(trial, 5000);
    trial_signal(trial, "k", "other", "x", "last");
    trial_settle(trial);
    for (int i = 0; i < 3; i++) {
        trial_advance(trial, 5000);
        trial_settle(trial);
    }
    shown = worker->outputs[ENGINE_OUT_STATUS];
    engine_on_fault(worker->engine, LOG_STATUS_LOST, "timed out");
    trial_settle(trial);
    trial_advance(trial, 5000);
    trial_settle(trial);
    assert_true(worker->outputs[ENGINE_OUT_STATUS] <= shown + 1); /* `k` waits and is in memory */
    trial_free(trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(following_to_owner),
        cmocka_unit_test(catching_up_and_revoked),
        cmocka_unit_test(claim_lost_claims_anew),
        cmocka_unit_test(claim_read_back_though_revoked_is_released),
        cmocka_unit_test(doubt_claims_and_appends_again),
        cmocka_unit_test(acknowledged_elsewhere_is_doubt),
        cmocka_unit_test(unknown_offset_is_no_doubt),
        cmocka_unit_test(revoked_drains_and_releases),
        cmocka_unit_test(assigned_again_before_the_release),
        cmocka_unit_test(foreign_claim_fences),
        cmocka_unit_test(foreign_claim_while_not_assigned),
        cmocka_unit_test(foreign_claim_while_claiming),
        cmocka_unit_test(fenced_claims_after_silence),
        cmocka_unit_test(fenced_and_revoked),
        cmocka_unit_test(corrupt_record_stops),
        cmocka_unit_test(a_head_that_others_cut_stops),
        cmocka_unit_test(foreign_bytes_are_passed_over),
        cmocka_unit_test(clock_far_off_stops),
        cmocka_unit_test(job_completes),
        cmocka_unit_test(every_append_meets_every_fault),
        cmocka_unit_test(takeover_after_every_append),
        cmocka_unit_test(what_comes_goes_before_replays), cmocka_unit_test(a_wanted_mark_is_due),
        cmocka_unit_test(an_acknowledgement_stands_for_reading),
        cmocka_unit_test(an_acknowledgement_further_on_does_not),
        cmocka_unit_test(what_was_acknowledged_must_be_read),
        cmocka_unit_test(evicted_jobs_go_on),
        cmocka_unit_test(a_damaged_store_costs_one_reading),
        cmocka_unit_test(a_lost_status_is_shown_again),
        cmocka_unit_test(inbox_is_held_back), cmocka_unit_test(answers_are_held_back),
        cmocka_unit_test(a_type_is_asked_for), cmocka_unit_test(a_type_is_asked_for_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
