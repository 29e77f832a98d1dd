/*
 * Traces that once lost, doubled or stalled something, each by hand, step by step.
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

PDR_JOB(once, pdr_text, pdr_text)
PDR_JOB(patient, pdr_text, pdr_text)
PDR_JOB(teller, pdr_text, pdr_text)
PDR_STEP(act, pdr_text, pdr_text)
PDR_SIGNAL(go, pdr_text)

int once(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    (void)job;
    *out = *in;
    return PDR_OK;
}

/* Ends at the second signal. */
int patient(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *word;
    PDR_TRY(pdr_receive(job, go, &word));
    PDR_TRY(pdr_receive(job, go, &word));
    *out = *in;
    return PDR_OK;
}

int teller(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *done;
    PDR_TRY(pdr_send(job, go, "other", in));
    PDR_TRY(pdr_send(job, go, "other", in));
    PDR_TRY(pdr_await(job, act, in, &done));
    *out = *done;
    return PDR_OK;
}

int act(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "<%s>", in->chars);
    return PDR_OK;
}

PDR_MODULE(traces, PDR_RUNS(once), PDR_RUNS(patient), PDR_RUNS(teller), PDR_RUNS(act));

static const pdr_module *const modules[] = { &pdr_module_traces, NULL };

/* ---- tools ------------------------------------------------------------------------------------------------ */

static struct trial *owned_within(struct trial_worker **worker, const struct engine_limits *limits)
{
    struct trial *trial = trial_new(modules);
    *worker = trial_worker(trial, 0, limits);
    engine_on_assigned((*worker)->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of((*worker)->engine), ENGINE_OWNER);
    return trial;
}

static struct trial *owned(struct trial_worker **worker) { return owned_within(worker, NULL); }

/* Starts the same id once more, whatever its last run was. */
static void start_again(struct trial *trial, const char *job, const char *type, const char *request)
{
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Start start = PERDURE__V1__START__INIT;
    Payload input = PERDURE__V1__PAYLOAD__INIT;
    input.type = (char *)"text";
    input.data = (ProtobufCBinaryData){ 1, (uint8_t *)(uintptr_t) "x" };
    start.type = (char *)(uintptr_t)type;
    start.input = &input;
    start.id_policy = PERDURE__V1__ID_POLICY__ID_POLICY_AGAIN;
    command.kind_case = PERDURE__V1__COMMAND__KIND_START;
    command.start = &start;
    trial_command(trial, job, &command, request);
}

static void watch(struct trial *trial, const char *job, const char *request)
{
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Watch body = PERDURE__V1__WATCH__INIT;
    command.kind_case = PERDURE__V1__COMMAND__KIND_WATCH;
    command.watch = &body;
    trial_command(trial, job, &command, request);
}

/* What the engine wants to append is acknowledged and lands, one append after the other; nothing is read back. */
static void land_acknowledged(struct trial_worker *worker)
{
    for (size_t count = worker->append_count; count > 0; count--) {
        struct trial_append append = worker->appends[0];
        worker->append_count--;
        memmove(worker->appends, worker->appends + 1, worker->append_count * sizeof append);
        int64_t offset = (int64_t)worker->trial->journal.count;
        if (append.send)
            trial_inbox_append(worker->trial, append.data, append.size);
        else
            trial_journal_append(worker->trial, append.data, append.size);
        free(append.data);
        trial_acknowledge(worker, append.cookie, LOG_PERSISTED, append.send ? (int64_t)worker->trial->inbox.count - 1 : offset);
    }
}

/* H35. The second of two appends is lost and acknowledged without a place: that says nothing of the first. */
static void a_placeless_acknowledgement(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "a", "patient", "a", "r1");
    trial_start(trial, "b", "patient", "b", "r2");
    trial_read(worker);
    trial_run(worker);
    assert_int_equal(worker->append_count, 2);
    uint64_t first = worker->appends[0].cookie, second = worker->appends[1].cookie;
    free(worker->appends[1].data);
    worker->append_count = 1;
    int64_t offset = (int64_t)trial->journal.count;
    trial_land(worker);
    trial_read(worker);
    trial_acknowledge(worker, second, LOG_PERSISTED, -1);
    trial_run(worker);
    assert_int_equal(worker->replies, 0);
    trial_acknowledge(worker, first, LOG_PERSISTED, offset);
    trial_run(worker);
    assert_int_equal(worker->replies, 1);
    trial_free(trial);
}

static size_t count_kind(struct trial *trial, uint32_t kind)
{
    size_t count = 0;
    for (size_t i = 0; i < trial->journal.count; i++)
        count += trial_kind(trial, i) == kind;
    return count;
}

/* ---- handovers -------------------------------------------------------------------------------------------- */

/* Revoked with an append in flight; a command arrives; assigned again: the command is not passed over. */
static void command_while_draining(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "a", "patient", "a", "r1");
    trial_read(worker);
    trial_run(worker);
    engine_on_revoked(worker->engine);
    trial_start(trial, "b", "patient", "b", "r2");
    trial_read(worker);
    engine_on_assigned(worker->engine);
    trial_start(trial, "c", "patient", "c", "r3");
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "a"), "waiting");
    assert_string_equal(trial_state(trial, "c"), "waiting");
    assert_string_equal(trial_state(trial, "b"), "waiting");
    trial_free(trial);
}

/* Assigned again while the Release is on its way: it is claimed anew as soon as that is confirmed. */
static void assigned_while_releasing(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    engine_on_revoked(worker->engine);
    trial_run(worker);
    assert_int_equal(worker->append_count, 1);
    engine_on_assigned(worker->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    assert_int_equal(count_kind(trial, PERDURE__V1__KIND__KIND_RELEASE), 1);
    trial_free(trial);
}

/* Fenced while draining: there is nothing to release, and the host may let the engine go. */
static void fenced_while_draining_is_released(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "a", "patient", "a", "r1");
    trial_read(worker);
    trial_run(worker);
    engine_on_revoked(worker->engine);
    trial_lose(worker);
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of(second->engine), ENGINE_OWNER);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    assert_int_equal(worker->outputs[ENGINE_OUT_RELEASED], 1);
    trial_free(trial);
}

/* In doubt and no longer assigned: it does not claim what is another's by now (rule 4). */
static void doubt_while_not_assigned(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "a", "patient", "a", "r1");
    trial_read(worker);
    trial_run(worker);
    engine_on_revoked(worker->engine);
    uint64_t cookie = worker->appends[0].cookie;
    trial_lose(worker);
    trial_acknowledge(worker, cookie, LOG_NOT_PERSISTED, -1);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FOLLOWING);
    assert_int_equal(worker->outputs[ENGINE_OUT_RELEASED], 1);
    assert_int_equal(count_kind(trial, PERDURE__V1__KIND__KIND_CLAIM), 1);
    trial_free(trial);
}

/* A fenced owner that is still assigned claims at once when the other releases, not after its backoff. */
static void claims_when_the_other_releases(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_FENCED);
    engine_on_revoked(second->engine);
    trial_settle(trial);
    trial_advance(trial, 10);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    trial_free(trial);
}

/* The claim is refused at once, every time: the engine must not ask for another in the same breath. */
static void refused_claims_are_spaced(void **state)
{
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, NULL);
    struct engine_counts counts;
    (void)state;
    engine_on_assigned(worker->engine);
    trial_run(worker);
    trial_read(worker);
    for (int i = 0; i < 1000; i++) {
        trial_run(worker);
        if (worker->append_count > 0) {
            uint64_t cookie = worker->appends[0].cookie;
            trial_lose(worker);
            trial_acknowledge(worker, cookie, LOG_NOT_PERSISTED, -1);
        }
        trial_advance(trial, 10);
    }
    engine_counts(worker->engine, &counts);
    assert_true(counts.claims >= 2);
    assert_true(counts.claims < 20); /* in 10 s */
    trial_advance(trial, CLAIM_BACKOFF_MAX_MS);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    trial_free(trial);
}

/* The claim was read from a tail that was lost, and is acknowledged where the producer's second try put it: what was read
 * before it is not confirmed by that. */
static void claim_acknowledged_elsewhere(void **state)
{
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, NULL);
    (void)state;
    engine_on_assigned(worker->engine);
    trial_run(worker);
    trial_read(worker);
    trial_run(worker);
    uint64_t cookie = worker->appends[0].cookie;
    trial_land(worker);
    trial_read(worker);
    trial_acknowledge(worker, cookie, LOG_PERSISTED, 0);
    trial_run(worker);
    assert_int_equal(worker->outputs[ENGINE_OUT_OWNED], 0);
    trial_free(trial);
}

/* The journal's end lies behind records of nobody (another partition's, a transaction's marker): read is read. */
static void end_beyond_the_last_record(void **state)
{
    struct trial *trial = trial_new(modules);
    struct trial_worker *worker = trial_worker(trial, 0, NULL);
    (void)state;
    engine_on_assigned(worker->engine);
    trial_run(worker);
    struct log_record genesis = { LOG_JOURNAL, 0, 0, trial->wall_ms, -1, trial->journal.records[0].data,
                                  trial->journal.records[0].size };
    engine_on_record(worker->engine, &genesis);
    engine_on_end(worker->engine, LOG_JOURNAL, 4);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_CLAIMING);
    trial_free(trial);
}

/* ---- ends ---------------------------------------------------------------------------------------------------- */

/* The owner dies between the landing of a job's end and its confirmation: the next one tells of it. */
static void end_is_told_after_takeover(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "a", "patient", "a", "r1");
    trial_signal(trial, "a", "go", "1", "r2");
    trial_settle(trial);
    trial_advance(trial, STATUS_DELAY_MS + 1);
    trial_settle(trial);
    assert_string_equal(worker->last_state, "waiting");
    trial_signal(trial, "a", "go", "2", "r3");
    trial_read(worker);
    trial_run(worker);
    trial_land(worker);
    engine_free(worker->engine);
    worker = trial_worker(trial, 0, NULL);
    engine_on_assigned(worker->engine);
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "a"), "completed");
    assert_string_equal(worker->last_state, "completed");
    trial_free(trial);
}

/* The same with a doubt in between; who watches hears of the end. */
static void end_is_told_after_doubt(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "a", "once", "a", "r1");
    trial_start(trial, "b", "patient", "b", "r2");
    trial_signal(trial, "b", "go", "1", "r3");
    trial_settle(trial);
    watch(trial, "b", "w");
    trial_signal(trial, "b", "go", "2", "r4");
    trial_read(worker);
    trial_run(worker);
    uint64_t cookie = worker->appends[0].cookie;
    trial_land(worker);
    worker->last_answer[0] = '\0';
    trial_acknowledge(worker, cookie, LOG_POSSIBLY_PERSISTED, -1);
    size_t replies = worker->replies;
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "b"), "completed");
    assert_string_equal(worker->last_state, "completed");
    assert_true(worker->replies >= replies + 2); /* the watcher's, and the signal's when it was read again */
    trial_free(trial);
}

/* A client that waits for days asks every few seconds, each time under another id: that must not add up. */
static void watchers_do_not_add_up(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    char request[16];
    (void)state;
    trial_start(trial, "a", "patient", "a", "r1");
    for (int i = 0; i < WATCHERS_LIMIT + 500; i++) {
        snprintf(request, sizeof request, "w%d", i);
        watch(trial, "a", request);
    }
    trial_settle(trial);
    trial_signal(trial, "a", "go", "1", "r2");
    trial_settle(trial);
    size_t replies = worker->replies;
    trial_signal(trial, "a", "go", "2", "r3");
    trial_settle(trial);
    assert_int_equal(worker->replies, replies + WATCHERS_LIMIT + 1); /* and the signal's */
    trial_free(trial);
}

/* A start of the same id between the read-back of the end and its acknowledgement: it is another run. */
static void started_again_before_the_end_is_confirmed(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "a", "patient", "x", "r1");
    trial_signal(trial, "a", "go", "1", "r2");
    trial_settle(trial);
    trial_signal(trial, "a", "go", "2", "r3");
    trial_read(worker);
    trial_run(worker);
    uint64_t cookie = worker->appends[0].cookie;
    int64_t offset = (int64_t)trial->journal.count;
    trial_land(worker);
    trial_read(worker);
    start_again(trial, "a", "patient", "r4");
    trial_read(worker);
    trial_acknowledge(worker, cookie, LOG_PERSISTED, offset);
    trial_settle(trial);
    assert_int_equal(worker->refused, 0);
    assert_string_equal(trial_state(trial, "a"), "waiting");
    trial_free(trial);
}

/* Rule 30: by its time a reader knows which of two runs' statuses is the later one, whatever the clocks of their owners say. */
static void started_again_by_a_clock_behind(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "a", "once", "x", "r1");
    trial_settle(trial);
    Status *before = engine_status(worker->engine, "a");
    trial->wall_ms -= 10000;
    start_again(trial, "a", "once", "r2");
    trial_settle(trial);
    Status *after = engine_status(worker->engine, "a");
    assert_true(after->run != before->run);
    assert_true(after->created > before->updated);
    status_free(before);
    status_free(after);
    trial_free(trial);
}

/* ---- what a turn holds ------------------------------------------------------------------------------------------ */

/* Two signals that each fit, but not together, do not make a record that no log takes (H20, rule 31). */
static void large_inputs_share_no_record(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    char *small = malloc(200001), *large = malloc(900001);
    memset(small, 's', 200000);
    memset(large, 'l', 900000);
    small[200000] = large[900000] = '\0';
    trial_start(trial, "a", "patient", "a", "r1");
    trial_settle(trial);
    trial_signal(trial, "a", "go", small, "r2");
    trial_signal(trial, "a", "go", large, "r3");
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "a"), "completed");
    for (size_t i = 0; i < trial->journal.count; i++)
        assert_true(trial->journal.records[i].size <= RECORD_LIMIT_BYTES);
    free(small);
    free(large);
    trial_free(trial);
}

/* Thousands of refusals to jobs do not make a Mark that no log takes. */
static void many_refusals_take_several_marks(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    char parent[200];
    (void)state;
    memset(parent, 'p', sizeof parent - 1);
    parent[sizeof parent - 1] = '\0';
    for (int i = 0; i < 6000; i++) {
        Header header;
        Record record = PERDURE__V1__RECORD__INIT;
        Sender sender = PERDURE__V1__SENDER__INIT;
        Command command = PERDURE__V1__COMMAND__INIT;
        Perdure__V1__Start start = PERDURE__V1__START__INIT;
        char job[16], request[16];
        snprintf(job, sizeof job, "j%d", i);
        snprintf(request, sizeof request, "r%d", i);
        trial_header(&header, PERDURE__V1__KIND__KIND_COMMAND);
        header.job = job;
        header.born = header.t = trial->wall_ms;
        header.sender = &sender;
        sender.job = parent;
        sender.run = 7;
        start.type = (char *)(uintptr_t) "nobody's";
        command.request = request;
        command.kind_case = PERDURE__V1__COMMAND__KIND_START;
        command.start = &start;
        record.header = &header;
        record.command = &command;
        size_t size;
        void *data = record_encode(&record, &size);
        trial_inbox_append(trial, data, size);
        free(data);
    }
    size_t sent = trial->inbox.count;
    trial_settle(trial);
    for (size_t i = 0; i < trial->journal.count; i++)
        assert_true(trial->journal.records[i].size <= RECORD_LIMIT_BYTES);
    assert_true(trial->inbox.count >= sent + 6000); /* each told its sender */
    trial_free(trial);
}

/* A turn in several records: its step starts after the last of them is confirmed (rule 8). */
static void step_after_the_whole_turn(void **state)
{
    struct engine_limits limits = { .turn_bytes = 64 };
    struct trial_worker *worker;
    struct trial *trial = owned_within(&worker, &limits);
    (void)state;
    worker->hold_steps = true;
    trial_start(trial, "a", "teller", "a", "r1");
    trial_read(worker);
    trial_run(worker);
    while (count_kind(trial, PERDURE__V1__KIND__KIND_EVENT) < 3) { /* start, two signals */
        assert_int_equal(worker->steps_held, 0);
        assert_true(worker->append_count > 0);
        land_acknowledged(worker);
        trial_read(worker);
        trial_run(worker);
    }
    trial_settle(trial);
    assert_int_equal(worker->steps_held, 1);
    trial_free(trial);
}

/* ---- the inbox --------------------------------------------------------------------------------------------------- */

/* Ids that would not fit where they are copied to are nobody's (an in-place step of such a job would never end). */
static void long_ids_are_refused(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    char id[JOB_ID_LIMIT_BYTES + 2];
    (void)state;
    memset(id, 'i', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    trial_start(trial, id, "once", "a", "r1");
    trial_start(trial, "a", "once", "a", id);
    trial_settle(trial);
    assert_int_equal(count_kind(trial, PERDURE__V1__KIND__KIND_EVENT), 0);
    id[JOB_ID_LIMIT_BYTES] = '\0';
    trial_start(trial, id, "once", "a", "r2");
    trial_settle(trial);
    assert_string_equal(trial_state(trial, id), "completed");
    trial_free(trial);
}

/* H21. The inbox loses its tail; new commands get the offsets of old ones: none is dropped for its offset. */
static void inbox_cut_back(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "a", "patient", "a", "r1");
    trial_signal(trial, "a", "go", "1", "r2");
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "a"), "waiting");
    trial_inbox_cut(trial, 1);
    trial_read(worker);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    trial_signal(trial, "a", "go", "2", "r3"); /* at the offset of r2 */
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "a"), "completed");
    trial_free(trial);
}

/* The same with commands in hand: what was read from the lost tail must not stand for what comes at its offsets. */
static void inbox_cut_back_with_commands_in_hand(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "a", "patient", "a", "r1");
    trial_start(trial, "b", "patient", "b", "r2");
    trial_settle(trial);
    trial_signal(trial, "a", "go", "1", "r3");
    trial_read(worker);
    trial_run(worker); /* in flight */
    trial_inbox_cut(trial, 2);
    trial_read(worker);
    trial_signal(trial, "b", "go", "1", "r4"); /* at the offset of r3 */
    trial_read(worker);
    trial_settle(trial);
    engine_free(worker->engine);
    worker = trial_worker(trial, 0, NULL);
    engine_on_assigned(worker->engine);
    trial_settle(trial);
    trial_signal(trial, "b", "go", "2", "r5");
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "b"), "completed");
    trial_free(trial);
}

/* Two were in hand, and a third was refused: their offsets come again, for others. */
static void inbox_cut_back_twice_over(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    struct engine_counts counts;
    (void)state;
    trial_start(trial, "a", "patient", "a", "r1");
    trial_start(trial, "b", "patient", "b", "r2");
    trial_settle(trial);
    trial_signal(trial, "a", "go", "1", "r3");
    trial_signal(trial, "b", "go", "1", "r4");
    trial_signal(trial, "nobody", "go", "1", "r5");
    trial_read(worker);
    trial_run(worker);
    trial_inbox_cut(trial, 2);
    trial_read(worker);
    trial_signal(trial, "nobody", "go", "1", "r6");
    trial_signal(trial, "a", "go", "2", "r7");
    trial_settle(trial);
    trial_advance(trial, MARK_INTERVAL_MS + 1);
    trial_settle(trial);
    engine_counts(worker->engine, &counts);
    assert_int_equal(counts.in_pos, trial->inbox.count);
    assert_int_equal(worker->refused, 1);
    trial_signal(trial, "a", "go", "3", "r8");
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "a"), "completed");
    trial_free(trial);
}

/* A refusal at an offset that was confirmed for another: it waits for its own confirmation (rule 15). */
static void refusal_after_the_inbox_was_cut(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "a", "patient", "a", "r1");
    trial_start(trial, "b", "patient", "b", "r2");
    trial_settle(trial);
    trial_advance(trial, MARK_INTERVAL_MS + 1);
    trial_settle(trial);
    trial_inbox_cut(trial, 1);
    trial_read(worker);
    trial_run(worker);
    trial_signal(trial, "nobody", "go", "1", "r3"); /* at the offset of r2 */
    trial_read(worker);
    trial_run(worker);
    assert_int_equal(worker->refused, 0);
    trial_settle(trial);
    assert_int_equal(worker->refused, 1);
    trial_free(trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_placeless_acknowledgement),
        cmocka_unit_test(command_while_draining),
        cmocka_unit_test(assigned_while_releasing),
        cmocka_unit_test(fenced_while_draining_is_released),
        cmocka_unit_test(doubt_while_not_assigned),
        cmocka_unit_test(claims_when_the_other_releases),
        cmocka_unit_test(refused_claims_are_spaced),
        cmocka_unit_test(claim_acknowledged_elsewhere),
        cmocka_unit_test(end_beyond_the_last_record),
        cmocka_unit_test(end_is_told_after_takeover),
        cmocka_unit_test(end_is_told_after_doubt),
        cmocka_unit_test(watchers_do_not_add_up),
        cmocka_unit_test(started_again_before_the_end_is_confirmed),
        cmocka_unit_test(started_again_by_a_clock_behind),
        cmocka_unit_test(large_inputs_share_no_record),
        cmocka_unit_test(many_refusals_take_several_marks),
        cmocka_unit_test(step_after_the_whole_turn),
        cmocka_unit_test(long_ids_are_refused),
        cmocka_unit_test(inbox_cut_back),
        cmocka_unit_test(inbox_cut_back_with_commands_in_hand),
        cmocka_unit_test(inbox_cut_back_twice_over),
        cmocka_unit_test(refusal_after_the_inbox_was_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
