/*
 * Remote steps at the owner: dispatched once, again when lost or declined, timed out, told to stop; a result is taken once.
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
#include "wire/token.h"

/* ---- modules: `render` has no function anywhere --------------------------------------------------------------- */

PDR_STEP(render, pdr_text, pdr_text, .queue = "gpu", .max_attempts = 3)
PDR_STEP(here, pdr_text, pdr_text, .queue = "gpu", .max_attempts = 2)
PDR_STEP(approve, pdr_text, pdr_text)
PDR_JOB(film, pdr_text, pdr_text)
PDR_JOB(urgent, pdr_text, pdr_text)
PDR_JOB(timed, pdr_text, pdr_text)
PDR_JOB(limited, pdr_text, pdr_text)
PDR_JOB(silent, pdr_text, pdr_text)
PDR_JOB(fickle, pdr_text, pdr_text)
PDR_JOB(choice, pdr_text, pdr_text)
PDR_JOB(asked, pdr_text, pdr_text)
PDR_JOB(local, pdr_text, pdr_text)
PDR_JOB(pair, pdr_text, pdr_text)
PDR_JOB(sorry, pdr_text, pdr_text)
PDR_SIGNAL(enough, pdr_text)

int film(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *shot;
    PDR_TRY(pdr_await(job, render, in, &shot));
    *out = *shot;
    return PDR_OK;
}

int urgent(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *shot;
    PDR_TRY(pdr_await(job, render, in, &shot, .priority = 5));
    *out = *shot;
    return PDR_OK;
}

int timed(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *shot;
    PDR_TRY(pdr_await(job, render, in, &shot, .schedule_to_start_ms = 5000, .timeout_ms = 20000, .heartbeat_ms = 8000,
                      .deadline_ms = 100000));
    *out = *shot;
    return PDR_OK;
}

static bool fickle_turned;

/* Not the same in each replay. */
int fickle(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *shot;
    if (fickle_turned)
        PDR_TRY(pdr_sleep(job, 1000));
    PDR_TRY(pdr_await(job, render, in, &shot));
    *out = *shot;
    return PDR_OK;
}

int silent(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *shot;
    PDR_TRY(pdr_await(job, render, in, &shot, .schedule_to_start_ms = 5000, .heartbeat_ms = -1, .max_attempts = 1));
    *out = *shot;
    return PDR_OK;
}

int limited(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *shot;
    (void)out;
    return pdr_await(job, render, in, &shot, .queue = "no/such");
}

int choice(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_future(render) shot = pdr_start(job, render, in);
    pdr_text *word;
    PDR_TRY(pdr_receive(job, enough, &word));
    (void)shot; /* nobody joins it */
    PDR_TRY(pdr_sleep(job, 1000));
    *out = *word;
    return PDR_OK;
}

int pair(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_future(render) one = pdr_start(job, render, in), two = pdr_start(job, render, in);
    pdr_text *shot;
    PDR_TRY(pdr_join(job, render, one, &shot));
    PDR_TRY(pdr_join(job, render, two, &shot));
    *out = *shot;
    return PDR_OK;
}

/* When it is cancelled, it goes on for a while. */
int sorry(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *shot;
    pdr_compensate(job, here, in);
    PDR_TRY(pdr_await(job, render, in, &shot));
    *out = *shot;
    return PDR_OK;
}

int asked(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *answer;
    PDR_TRY(pdr_await(job, approve, in, &answer, .timeout_ms = 60000, .max_attempts = 1));
    *out = *answer;
    return PDR_OK;
}

int local(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *shot;
    PDR_TRY(pdr_await(job, here, in, &shot));
    *out = *shot;
    return PDR_OK;
}

int here(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "here %s", in->chars);
    return PDR_OK;
}

static size_t approvals;
static char approval_token[TOKEN_BYTES];

int approve(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    (void)in;
    (void)out;
    approvals++;
    snprintf(approval_token, sizeof approval_token, "%s", pdr_attempt_token(attempt));
    return PDR_LATER;
}

PDR_MODULE(studio, PDR_RUNS(film), PDR_RUNS(urgent), PDR_RUNS(timed), PDR_RUNS(limited), PDR_RUNS(silent), PDR_RUNS(fickle), PDR_RUNS(choice), PDR_RUNS(asked),
           PDR_RUNS(local), PDR_RUNS(pair), PDR_RUNS(sorry), PDR_RUNS(approve), PDR_RUNS(here), PDR_CALLS(render));

static const pdr_module *const modules[] = { &pdr_module_studio, NULL };

/* A worker that has only the job `other`. */
PDR_JOB(other, pdr_text, pdr_text)
int other(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    (void)job;
    (void)in;
    (void)out;
    return PDR_OK;
}

/* ---- helpers ------------------------------------------------------------------------------------------------------ */

static struct trial *owned_with(struct trial_worker **worker, bool queues, const struct engine_limits *limits)
{
    struct trial *trial = trial_new(modules);
    trial->has_queues = queues;
    *worker = trial_worker(trial, 0, limits);
    engine_on_assigned((*worker)->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of((*worker)->engine), ENGINE_OWNER);
    return trial;
}

static struct trial *owned(struct trial_worker **worker) { return owned_with(worker, true, NULL); }

static void start(struct trial *trial, const char *job, const char *type)
{
    trial_start(trial, job, type, "in", job);
    trial_settle(trial);
}

/* The second worker takes the partition over. */
static struct trial_worker *taken_over(struct trial *trial)
{
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    engine_on_assigned(second->engine);
    trial_settle(trial);
    assert_int_equal(engine_state_of(second->engine), ENGINE_OWNER);
    return second;
}

static const struct trial_task *task_of(struct trial_worker *worker, size_t index)
{
    assert_true(worker->task_count > index);
    return &worker->tasks[index];
}

/* One report of `worker` into the inbox, as the wire asks for it. */
static void put_report(struct trial *trial, const Perdure__V1__Task *task, const char *worker, const char *what,
                   Perdure__V1__TaskReport *report)
{
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    ReplyTo reply_to = PERDURE__V1__REPLY_TO__INIT;
    char request[128];
    size_t size;
    trial_header(&header, PERDURE__V1__KIND__KIND_COMMAND);
    snprintf(request, sizeof request, "%s-%u-%u/%s", task->idempotency_key, task->attempt, task->dispatch, what);
    header.job = task->job;
    header.run = task->run;
    header.slot = slot_of(task->job);
    header.born = header.t = trial->wall_ms;
    report->token = task->token;
    report->op = task->op;
    report->attempt = task->attempt;
    report->dispatch = task->dispatch;
    report->worker = (char *)worker;
    reply_to.client = 9;
    command.request = request;
    command.reply_to = &reply_to;
    command.kind_case = PERDURE__V1__COMMAND__KIND_TASK_REPORT;
    command.task_report = report;
    record.header = &header;
    record.command = &command;
    void *data = record_encode(&record, &size);
    trial_inbox_append(trial, data, size);
    free(data);
}

static void report(struct trial *trial, const Perdure__V1__Task *task, const char *worker, const char *what,
                   Perdure__V1__TaskReport *message)
{
    put_report(trial, task, worker, what, message);
    trial_settle(trial);
}

static Payload text_payload(const char *text)
{
    Payload payload = PERDURE__V1__PAYLOAD__INIT;
    payload.type = (char *)"text";
    payload.data = (ProtobufCBinaryData){ strlen(text), (uint8_t *)(uintptr_t)text };
    return payload;
}

static void begin(struct trial *trial, const Perdure__V1__Task *task, const char *worker)
{
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Perdure__V1__TaskStarted begun = PERDURE__V1__TASK_STARTED__INIT;
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_BEGUN;
    message.begun = &begun;
    report(trial, task, worker, "started", &message);
}

static void beat(struct trial *trial, const Perdure__V1__Task *task, const char *worker, const char *detail)
{
    static int number;
    char what[32];
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Perdure__V1__TaskHeartbeat heartbeat = PERDURE__V1__TASK_HEARTBEAT__INIT;
    Payload payload = text_payload(detail ? detail : "");
    heartbeat.detail = detail ? &payload : NULL;
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_HEARTBEAT;
    message.heartbeat = &heartbeat;
    snprintf(what, sizeof what, "beat/%d", ++number);
    report(trial, task, worker, what, &message);
}

static void decline_for(struct trial *trial, const Perdure__V1__Task *task, const char *reason)
{
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Perdure__V1__TaskDeclined declined = PERDURE__V1__TASK_DECLINED__INIT;
    declined.reason = (char *)(uintptr_t)reason;
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_DECLINED;
    message.declined = &declined;
    report(trial, task, "w", "declined", &message);
}

/* After it waited there for a slot. */
static void decline(struct trial *trial, const Perdure__V1__Task *task)
{
    trial_advance(trial, TASK_DECLINED_MAX_MS);
    decline_for(trial, task, "");
}

static void complete(struct trial *trial, const Perdure__V1__Task *task, const char *worker, const char *text)
{
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Payload payload = text_payload(text);
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_COMPLETED;
    message.completed = &payload;
    report(trial, task, worker, worker[0] ? "end" : text, &message);
}

static void fail_with(struct trial *trial, const Perdure__V1__Task *task, const char *type, const char *text, bool final)
{
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Error error = PERDURE__V1__ERROR__INIT;
    error.type = (char *)(uintptr_t)type;
    error.message = (char *)(uintptr_t)text;
    error.final = final;
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_FAILED;
    message.failed = &error;
    report(trial, task, "w", "end", &message);
}

static void break_off(struct trial *trial, const Perdure__V1__Task *task, bool final)
{
    fail_with(trial, task, "Broken", "it broke", final);
}

static void crash(struct trial *trial, const Perdure__V1__Task *task)
{
    fail_with(trial, task, "Crashed", CRASHED_MESSAGE "SIGSEGV at address 0x0", false);
}

/* What has to be known to complete an attempt by its token alone. */
static Perdure__V1__Task task_of_token(const char *text)
{
    static struct token token;
    Perdure__V1__Task task = PERDURE__V1__TASK__INIT;
    assert_true(token_read(text, &token));
    task.job = token.job;
    task.run = token.run;
    task.op = token.op;
    task.attempt = token.attempt;
    task.token = (char *)(uintptr_t)text;
    task.idempotency_key = (char *)"outside";
    return task;
}

/* Events of a kind; StepProgress: with a detail, when `detailed`. */
static size_t count_events(struct trial *trial, Perdure__V1__Event__KindCase kind, bool detailed)
{
    size_t found = 0;
    for (size_t i = 0; i < trial->journal.count; i++) {
        Record *record = NULL;
        if (record_decode(trial->journal.records[i].data, trial->journal.records[i].size, &record) != WIRE_OK)
            continue;
        for (size_t e = 0; e < record->n_events; e++) {
            Event *event = event_decode(record->events[e].data, record->events[e].len);
            found += event->kind_case == kind && (!detailed || event->step_progress->detail);
            event_free(event);
        }
        record_free(record);
    }
    return found;
}

static size_t events_of(struct trial *trial, Perdure__V1__Event__KindCase kind) { return count_events(trial, kind, false); }

static size_t details_of(struct trial *trial)
{
    return count_events(trial, PERDURE__V1__EVENT__KIND_STEP_PROGRESS, true);
}

static size_t ends_of(struct trial *trial)
{
    return events_of(trial, PERDURE__V1__EVENT__KIND_STEP_COMPLETED) +
           events_of(trial, PERDURE__V1__EVENT__KIND_STEP_FAILED);
}

static const Waiting *waiting_of(struct trial *trial, const char *job, Status **status)
{
    *status = engine_status(trial->workers[0].engine, job);
    assert_non_null(*status);
    assert_true((*status)->n_waiting > 0);
    return (*status)->waiting[0];
}

static void result_is(struct trial *trial, const char *job, const char *text)
{
    Status *status = engine_status(trial->workers[0].engine, job);
    assert_non_null(status);
    assert_string_equal(status->state, "completed");
    assert_int_equal(status->result->data.len, strlen(text));
    assert_memory_equal(status->result->data.data, text, strlen(text));
    status_free(status);
}

/* ---- the way of a task ---------------------------------------------------------------------------------------------- */

static void dispatched_and_completed(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    Status *status;
    (void)state;
    start(trial, "f", "film");
    assert_int_equal(worker->task_count, 1);
    const Perdure__V1__Task *task = task_of(worker, 0)->task;
    assert_string_equal(task->queue, "gpu");
    assert_string_equal(task->step, "studio/render");
    assert_string_equal(task->job, "f");
    assert_int_equal(task->attempt, 1);
    assert_int_equal(task->dispatch, 1);
    assert_int_equal(task->heartbeat_ms, TASK_HEARTBEAT_MS);
    assert_memory_equal(task->input->data.data, "in", 2);
    const Waiting *waiting = waiting_of(trial, "f", &status);
    assert_string_equal(waiting->kind, "step");
    assert_string_equal(waiting->queue, "gpu");
    assert_string_equal(waiting->phase, "dispatched");
    assert_string_equal(waiting->token, task->token);
    status_free(status);
    begin(trial, task, "w1");
    waiting = waiting_of(trial, "f", &status);
    assert_string_equal(waiting->phase, "started");
    assert_string_equal(waiting->executor, "w1");
    status_free(status);
    size_t replies = worker->replies;
    complete(trial, task, "w1", "shot");
    assert_int_equal(worker->replies, replies); /* a step worker waits for no answer */
    result_is(trial, "f", "shot");
    trial_free(trial);
}

/* Rule 14: whatever is delivered again, a result is taken once. */
static void results_come_twice(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "film");
    const Perdure__V1__Task *task = task_of(worker, 0)->task;
    complete(trial, task, "w1", "one");
    complete(trial, task, "w1", "one");
    complete(trial, task, "w2", "two");
    result_is(trial, "f", "one");
    assert_int_equal(ends_of(trial), 1);
    trial_free(trial);
}

/* Two ends before the first is in an append: the second finds nobody who waits. */
static void results_come_at_once(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "choice");
    const Perdure__V1__Task *task = task_of(worker, 0)->task;
    Perdure__V1__Task again = *task;
    again.dispatch = 2; /* another request id */
    struct trial_worker saved = *worker;
    worker->inbox_from = -1; /* both arrive together */
    complete(trial, task, "w1", "one");
    complete(trial, &again, "w2", "two");
    worker->inbox_from = saved.inbox_from;
    trial_settle(trial);
    assert_int_equal(ends_of(trial), 1);
    trial_free(trial);
}

/* Rule 8: a task leaves when the event that dispatches it is confirmed. */
static void not_before_it_is_confirmed(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    trial_start(trial, "f", "film", "in", "f");
    trial_read(worker);
    trial_run(worker);
    trial_land(worker);
    trial_read(worker); /* read back, not acknowledged */
    trial_run(worker);
    assert_int_equal(worker->task_count, 0);
    trial_free(trial);
}

/* ---- takeovers ---------------------------------------------------------------------------------------------------------- */

/* Rule 10: delivered, and out_pos says so: not sent again; a result after the takeover is taken. */
static void delivered_before_a_takeover(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "film");
    trial_advance(trial, 2 * MARK_INTERVAL_MS);
    trial_settle(trial);
    struct trial_worker *second = taken_over(trial);
    assert_int_equal(second->task_count, 0);
    complete(trial, task_of(worker, 0)->task, "w1", "shot");
    result_is(trial, "f", "shot");
    trial_free(trial);
}

static void not_delivered_before_a_takeover(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    worker->refuse_tasks = true;
    start(trial, "f", "film");
    trial_advance(trial, 2 * MARK_INTERVAL_MS);
    trial_settle(trial);
    assert_int_equal(worker->task_count, 0);
    assert_true(worker->outputs[ENGINE_OUT_TASK] >= 2); /* tried again, a while later */
    struct trial_worker *second = taken_over(trial);
    assert_int_equal(second->task_count, 1);
    assert_int_equal(task_of(second, 0)->task->attempt, 1);
    trial_free(trial);
}

/* A retry that was asked for by an owner that died is made from the history. */
static void a_retry_is_sent_by_the_next_owner(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "film");
    const Perdure__V1__Task *first = task_of(worker, 0)->task;
    begin(trial, first, "w1");
    trial_advance(trial, TASK_NOTED_AFTER_MS);
    trial_settle(trial);
    trial_advance(trial, TASK_PROGRESS_MS);
    beat(trial, first, "w1", "half");
    beat(trial, first, "w1", "more"); /* not so soon */
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_STEP_PROGRESS), 2);
    worker->refuse_tasks = true;
    break_off(trial, first, false);
    trial_advance(trial, 5000);
    trial_settle(trial);
    struct trial_worker *second = taken_over(trial);
    const Perdure__V1__Task *task = task_of(second, 0)->task;
    assert_int_equal(task->attempt, 2);
    assert_string_equal(task->queue, "gpu");
    assert_string_equal(task->idempotency_key, first->idempotency_key);
    assert_non_null(task->progress);
    assert_memory_equal(task->progress->data.data, "half", 4);
    complete(trial, first, "w1", "late"); /* of attempt 1: dropped */
    assert_int_equal(ends_of(trial), 0);
    begin(trial, task, "w2");
    trial_advance(trial, TASK_NOTED_AFTER_MS);
    trial_settle(trial);
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_STEP_PROGRESS), 3);
    assert_int_equal(details_of(trial), 1); /* what attempt 1 said is there already */
    complete(trial, task, "w2", "shot");
    result_is(trial, "f", "shot");
    trial_free(trial);
}

/* A new owner reads a signal and a result in one go, before it has rebuilt the job. */
static void a_burst_after_a_takeover(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "choice");
    worker->inbox_from = -1;
    trial_signal(trial, "f", "enough", "yes", "enough");
    complete(trial, task_of(worker, 0)->task, "w1", "shot");
    assert_int_equal(ends_of(trial), 0);
    taken_over(trial);
    assert_int_equal(ends_of(trial), 1);
    trial_free(trial);
}

/* ---- failures and limits -------------------------------------------------------------------------------------------------- */

static void tried_again_by_the_owner(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "film");
    for (size_t i = 0; i < 3; i++) {
        break_off(trial, task_of(worker, i)->task, false);
        trial_advance(trial, 10000);
        trial_settle(trial);
    }
    assert_int_equal(worker->task_count, 3);
    assert_string_equal(trial_state(trial, "f"), "failed");
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED), 2);
    assert_int_equal(ends_of(trial), 1);
    start(trial, "g", "film");
    break_off(trial, task_of(worker, 3)->task, true);
    assert_string_equal(trial_state(trial, "g"), "failed");
    trial_free(trial);
}

/* By time alone, and the owner changes in between: the limits follow from the events. */
static void schedule_to_start(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "timed");
    assert_int_equal(task_of(worker, 0)->task->start_by, trial->wall_ms + 5000);
    trial_advance(trial, 4000);
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "f"), "waiting");
    trial_advance(trial, 1500);
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "f"), "failed");
    trial_free(trial);
}

static void start_to_close(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "timed");
    const Perdure__V1__Task *task = task_of(worker, 0)->task;
    begin(trial, task, "w1");
    for (int i = 0; i < 4; i++) {
        trial_advance(trial, 5000);
        beat(trial, task, "w1", NULL);
    }
    trial_settle(trial);
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED), 1);
    assert_string_equal(worker->last_answer, "stop"); /* its worker is told */
    trial_advance(trial, 5000);
    trial_settle(trial);
    assert_int_equal(worker->task_count, 2);
    complete(trial, task, "w1", "late");
    assert_int_equal(ends_of(trial), 0);
    trial_free(trial);
}

static void heartbeats_end(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "film");
    begin(trial, task_of(worker, 0)->task, "w1");
    trial_advance(trial, TASK_HEARTBEAT_MS - 1000);
    beat(trial, task_of(worker, 0)->task, "w1", NULL);
    trial_advance(trial, TASK_HEARTBEAT_MS - 1000);
    trial_settle(trial);
    assert_int_equal(worker->task_count, 1);
    trial_advance(trial, 10000);
    trial_settle(trial);
    trial_advance(trial, 10000);
    trial_settle(trial);
    assert_int_equal(worker->task_count, 2);
    assert_int_equal(task_of(worker, 1)->task->attempt, 2);
    trial_free(trial);
}

/* Whoever executed it and whoever dispatched it die at once, just after it began: its silence ends it all the same. */
static void begun_and_both_dead(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "timed");
    begin(trial, task_of(worker, 0)->task, "w1");
    trial_advance(trial, TASK_NOTED_AFTER_MS - 100);
    trial_start(trial, "g", "film", "in", "g"); /* a record that tells how far the inbox is behind */
    trial_settle(trial);
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_STEP_PROGRESS), 0);
    struct trial_worker *second = taken_over(trial);
    trial_advance(trial, 8100);
    trial_settle(trial);
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED), 1);
    size_t before = second->task_count;
    trial_advance(trial, 2 * RETRY_BACKOFF_MS);
    trial_settle(trial);
    assert_int_equal(task_of(second, before)->task->attempt, 2);
    trial_free(trial);
}

/* An inbox that its new owner cannot read for a while, its leader is gone: no limit is judged by what lies there. */
static void an_inbox_that_is_not_read(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "timed");
    begin(trial, task_of(worker, 0)->task, "w1");
    trial_advance(trial, TASK_NOTED_AFTER_MS);
    trial_settle(trial);
    worker->inbox_from = -1;
    complete(trial, task_of(worker, 0)->task, "w1", "shot");
    struct trial_worker *second = trial_worker(trial, 1, NULL);
    int64_t from = -1;
    engine_on_assigned(second->engine);
    for (int i = 0; i < 60; i++) {
        trial_run(second);
        from = second->inbox_from >= 0 ? second->inbox_from : from;
        second->inbox_from = -1;
        trial_land_acknowledged(second);
        trial_read(second);
        trial_advance(trial, 1000); /* beyond all its limits */
    }
    assert_int_equal(engine_state_of(second->engine), ENGINE_OWNER);
    second->inbox_from = from;
    for (int i = 0; i < 10; i++) {
        trial_land_acknowledged(second);
        trial_read(second);
        trial_run(second);
        trial_advance(trial, 100);
    }
    assert_string_equal(second->last_state, "completed");
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED), 0);
    trial_free(trial);
}

/* ... though the wall clock goes back meanwhile. */
static void a_beginning_and_a_clock_set_back(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "timed");
    begin(trial, task_of(worker, 0)->task, "w1");
    trial->wall_ms -= 60000;
    trial_advance(trial, TASK_NOTED_AFTER_MS);
    trial_settle(trial);
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_STEP_PROGRESS), 1);
    trial_free(trial);
}

/* The position of the inbox waits for the beginning of an attempt for a moment only. */
static void a_beginning_holds_nothing_up(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "timed");
    begin(trial, task_of(worker, 0)->task, "w1");
    start(trial, "f2", "choice");
    complete(trial, task_of(worker, 1)->task, "w1", "shot"); /* begun and ended within the moment */
    size_t replies = worker->replies;
    trial_start(trial, "f", "timed", "other", "again"); /* refused: its answer waits for the position */
    trial_settle(trial);
    trial_advance(trial, TASK_NOTED_AFTER_MS);
    trial_settle(trial);
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_STEP_PROGRESS), 1);
    assert_true(worker->replies > replies);
    struct trial_worker *second = taken_over(trial); /* all is behind: only what comes is read */
    assert_int_equal(second->inbox_from, (int64_t)trial->inbox.count);
    trial_free(trial);
}

/* A new owner knows of no beginning: it does not call silence a fault before it could hear of one. */
static void silence_after_a_takeover(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "timed");
    const Perdure__V1__Task *task = task_of(worker, 0)->task;
    begin(trial, task, "w1");
    trial_advance(trial, 6000); /* beyond schedule-to-start */
    taken_over(trial);
    trial_advance(trial, 1000);
    trial_settle(trial);
    beat(trial, task, "w1", NULL);
    trial_advance(trial, 7000);
    beat(trial, task, "w1", NULL);
    complete(trial, task, "w1", "shot");
    result_is(trial, "f", "shot");
    trial_free(trial);
}

static void deadline(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "timed");
    for (int i = 0; i < 110; i += 2) {
        if (worker->task_count > 0)
            beat(trial, task_of(worker, worker->task_count - 1)->task, "w1", NULL);
        trial_advance(trial, 2000);
        trial_settle(trial);
    }
    assert_string_equal(trial_state(trial, "f"), "failed");
    assert_true(worker->task_count > 2); /* attempts of 20 s */
    trial_free(trial);
}

/* Its end came in time, its owner did not: a new one reads its inbox before it judges. */
static void an_end_that_came_meanwhile(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "timed");
    Perdure__V1__Task task = *task_of(worker, 0)->task;
    begin(trial, &task, "w1");
    engine_free(worker->engine);
    worker->engine = NULL;
    trial_lose(worker);
    complete(trial, &task, "w1", "shot");
    trial_advance(trial, 200000); /* deadline and timeout are over */
    trial_worker(trial, 0, NULL);
    engine_on_assigned(worker->engine);
    trial_settle(trial);
    result_is(trial, "f", "shot");
    trial_free(trial);
}

/* Nobody has begun it for an hour: a topic may have lost it. */
static void lost_in_its_queue(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "film");
    assert_int_equal(task_of(worker, 0)->task->start_by, trial->wall_ms + TASK_REDISPATCH_MS);
    trial_advance(trial, TASK_REDISPATCH_MS + TASK_SKEW_MS + 1000);
    trial_settle(trial);
    assert_int_equal(worker->task_count, 2);
    assert_int_equal(task_of(worker, 1)->task->attempt, 1);
    assert_int_equal(task_of(worker, 1)->task->dispatch, 2);
    complete(trial, task_of(worker, 0)->task, "w1", "shot"); /* of the first dispatch: as good */
    result_is(trial, "f", "shot");
    trial_free(trial);
}

static void declined(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "film");
    decline(trial, task_of(worker, 0)->task);
    assert_int_equal(worker->task_count, 2);
    assert_int_not_equal(task_of(worker, 0)->lane, task_of(worker, 1)->lane);
    decline(trial, task_of(worker, 0)->task); /* again: of a dispatch that is over */
    assert_int_equal(worker->task_count, 2);
    decline(trial, task_of(worker, 1)->task);
    assert_int_equal(worker->task_count, 3);
    begin(trial, task_of(worker, 2)->task, "w");
    decline(trial, task_of(worker, 2)->task); /* it has begun */
    assert_int_equal(worker->task_count, 3);
    trial_free(trial);
}

/* Nobody has the step: it goes around more and more slowly, and the history does not grow without end. */
static void declined_at_once(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    int64_t end = trial->wall_ms + 60000, wait = TASK_DECLINED_MS, sent = trial->wall_ms;
    Status *status = NULL;
    (void)state;
    start(trial, "f", "film");
    for (size_t done = 0; trial->wall_ms < end; trial_advance(trial, 10), trial_settle(trial)) {
        if (worker->task_count == done)
            continue;
        if (done > 0) { /* when it says it goes is when it went */
            assert_in_range(trial->wall_ms - sent, wait, wait + 20);
            assert_in_range(trial->wall_ms - task_of(worker, done)->task->dispatched, 0, 20);
            wait = wait * 2 < TASK_DECLINED_MAX_MS ? wait * 2 : TASK_DECLINED_MAX_MS;
        }
        sent = trial->wall_ms;
        decline_for(trial, task_of(worker, done++)->task, "this worker has no step film");
    }
    assert_in_range(worker->task_count, 10, 13);
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_STEP_DISPATCHED), worker->task_count);
    const Waiting *waiting = waiting_of(trial, "f", &status);
    assert_string_equal(waiting->phase, "dispatched");
    assert_string_equal(waiting->declined, "w: this worker has no step film");
    status_free(status);
    trial_free(trial);
}

/* The next owner keeps to it. */
static void declined_and_taken_over(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "film");
    for (size_t done = 0; done < 7; trial_advance(trial, 10), trial_settle(trial))
        if (worker->task_count > done)
            decline_for(trial, task_of(worker, done++)->task, "");
    assert_int_equal(worker->task_count, 7); /* the next one goes in 6.4 s */
    int64_t declined = trial->wall_ms;
    struct trial_worker *next = taken_over(trial);
    while (next->task_count == 0 && trial->wall_ms < declined + 20000) {
        trial_advance(trial, 10);
        trial_settle(trial);
    }
    assert_int_equal(task_of(next, 0)->task->dispatch, 8);
    assert_in_range(trial->wall_ms - declined, 6300, 6500);
    trial_free(trial);
}

static void bad_queue(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "limited");
    assert_string_equal(trial_state(trial, "f"), "failed");
    assert_int_equal(worker->task_count, 0);
    trial_free(trial);
}

static void bad_result(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Payload payload = text_payload("shot");
    (void)state;
    start(trial, "f", "film");
    payload.type = (char *)"shop.Order";
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_COMPLETED;
    message.completed = &payload;
    report(trial, task_of(worker, 0)->task, "", "outside", &message); /* somebody who hears of it */
    assert_string_equal(worker->last_answer, "refused");
    assert_string_equal(trial_state(trial, "f"), "waiting");
    report(trial, task_of(worker, 0)->task, "w", "end", &message);
    assert_string_equal(trial_state(trial, "f"), "failed");
    trial_free(trial);
}

/* ---- what is held back ---------------------------------------------------------------------------------------------------- */

static void held_back_by_priority(void **state)
{
    struct trial_worker *worker;
    struct engine_limits limits = { .tasks_out = 2 };
    struct trial *trial = owned_with(&worker, true, &limits);
    Status *status;
    (void)state;
    start(trial, "a", "film");
    start(trial, "b", "film");
    start(trial, "c", "film");
    start(trial, "d", "urgent");
    assert_int_equal(worker->task_count, 2);
    assert_string_equal(waiting_of(trial, "c", &status)->phase, "held");
    status_free(status);
    begin(trial, task_of(worker, 0)->task, "w"); /* room for one */
    assert_int_equal(worker->task_count, 3);
    assert_string_equal(task_of(worker, 2)->task->job, "d");
    complete(trial, task_of(worker, 1)->task, "w", "shot");
    assert_int_equal(worker->task_count, 4);
    assert_string_equal(task_of(worker, 3)->task->job, "c");
    /* What was held back and then dispatched is not dispatched again by the next owner. */
    trial_advance(trial, 2 * MARK_INTERVAL_MS);
    trial_settle(trial);
    assert_int_equal(taken_over(trial)->task_count, 0);
    trial_free(trial);
}

static void held_back_across_a_takeover(void **state)
{
    struct trial_worker *worker;
    struct engine_limits limits = { .tasks_out = 1 };
    struct trial *trial = owned_with(&worker, true, &limits);
    (void)state;
    start(trial, "a", "film");
    start(trial, "b", "film");
    trial_advance(trial, 2 * MARK_INTERVAL_MS);
    trial_settle(trial);
    struct trial_worker *second = taken_over(trial); /* with the limit of everybody */
    assert_int_equal(second->task_count, 1);
    assert_string_equal(task_of(second, 0)->task->job, "b");
    trial_free(trial);
}

static int64_t rate_next;
static bool one_a_second(void *context, const char *queue, int64_t now, int64_t *again)
{
    (void)context;
    assert_string_equal(queue, "gpu");
    if (now < rate_next) {
        *again = rate_next;
        return false;
    }
    rate_next = now + 1000;
    return true;
}

static void rate_of_a_queue(void **state)
{
    struct trial *trial = trial_new(modules);
    (void)state;
    rate_next = 0;
    trial->has_queues = true;
    trial->queue_take = one_a_second;
    struct trial_worker *worker = trial_worker(trial, 0, NULL);
    engine_on_assigned(worker->engine);
    trial_settle(trial);
    start(trial, "a", "film");
    start(trial, "b", "film");
    start(trial, "c", "film");
    assert_int_equal(worker->task_count, 1);
    trial_advance(trial, 1000);
    trial_settle(trial);
    assert_int_equal(worker->task_count, 2);
    assert_true(engine_next_wake(worker->engine) <= trial->monotonic_ms + 1000);
    trial_advance(trial, 1000);
    trial_settle(trial);
    assert_int_equal(worker->task_count, 3);
    trial_free(trial);
}

static void spread_over_lanes(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    size_t lanes[TASK_LANES] = { 0 };
    char job[16];
    (void)state;
    for (size_t i = 0; i < 2 * TASK_LANES; i++) {
        snprintf(job, sizeof job, "f%zu", i);
        start(trial, job, "film");
    }
    for (size_t i = 0; i < worker->task_count; i++)
        lanes[task_of(worker, i)->lane]++;
    for (size_t i = 0; i < TASK_LANES; i++)
        assert_int_equal(lanes[i], 2);
    for (size_t i = 0; i < worker->task_count; i++) /* all lanes but one stand still */
        if (task_of(worker, i)->lane == 7)
            begin(trial, task_of(worker, i)->task, "w");
    start(trial, "last", "film");
    assert_int_equal(task_of(worker, 2 * TASK_LANES)->lane, 7);
    trial_free(trial);
}

/* ---- stops ------------------------------------------------------------------------------------------------------------------ */

static void cancel_reaches_the_worker(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "film");
    const Perdure__V1__Task *task = task_of(worker, 0)->task;
    begin(trial, task, "w1");
    trial_cancel(trial, "f");
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "f"), "cancelled");
    assert_true(worker->stops == 1);
    beat(trial, task, "w1", NULL); /* it did not hear */
    assert_true(worker->stops == 2);
    trial_free(trial);
}

static void an_abandoned_future_is_stopped(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "choice");
    begin(trial, task_of(worker, 0)->task, "w1");
    trial_signal(trial, "f", "enough", "yes", "enough");
    trial_settle(trial);
    assert_int_equal(worker->stops, 0); /* the job goes on, it could join it yet */
    trial_advance(trial, 2000);
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "f"), "completed");
    assert_int_equal(worker->stops, 1);
    trial_free(trial);
}

/* Rule 8: not before what led to it is confirmed. */
static void a_stop_waits_for_its_reason(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "film");
    begin(trial, task_of(worker, 0)->task, "w1");
    trial_terminate(trial, "f");
    trial_read(worker);
    trial_run(worker);
    trial_land(worker);
    trial_read(worker);
    trial_run(worker);
    assert_int_equal(worker->stops, 0);
    trial_free(trial);
}

static void a_second_copy_is_stopped(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "film");
    begin(trial, task_of(worker, 0)->task, "w1");
    Perdure__V1__Task copy = *task_of(worker, 0)->task;
    copy.dispatch = 2;
    begin(trial, &copy, "w2");
    trial_advance(trial, TASK_NOTED_AFTER_MS);
    trial_settle(trial);
    assert_int_equal(worker->stops, 1);
    beat(trial, task_of(worker, 0)->task, "w1", NULL);
    assert_int_equal(worker->stops, 1);
    complete(trial, &copy, "w2", "returned early");
    assert_string_equal(trial_state(trial, "f"), "waiting"); /* what a stopped one ends with does not count */
    complete(trial, task_of(worker, 0)->task, "w1", "shot");
    result_is(trial, "f", "shot");
    trial_free(trial);
}

/* Without heartbeats: a new owner knows from the history that the attempt has begun, and a second one is as good as the first. */
static void no_heartbeats(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    start(trial, "f", "silent");
    Perdure__V1__Task task = *task_of(worker, 0)->task;
    begin(trial, &task, "w1");
    trial_advance(trial, TASK_NOTED_AFTER_MS / 2);
    trial_settle(trial);
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_STEP_PROGRESS), 0);
    trial_advance(trial, TASK_NOTED_AFTER_MS);
    trial_settle(trial);
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_STEP_PROGRESS), 1);
    struct trial_worker *next = taken_over(trial);
    for (int i = 0; i < 5; i++) {
        trial_advance(trial, TASK_REDISPATCH_MS / 2);
        trial_settle(trial);
    }
    assert_string_equal(trial_state(trial, "f"), "waiting");
    assert_int_equal(next->outputs[ENGINE_OUT_TASK], 0);
    begin(trial, &task, "w2"); /* delivered again: nobody knows whether w1 lives */
    assert_int_equal(next->stops, 0);
    complete(trial, &task, "w2", "shot");
    result_is(trial, "f", "shot");
    trial_free(trial);
}

/* ---- evicted, put aside, without queues ------------------------------------------------------------------------------------ */

static void evicted_jobs_have_their_tasks(void **state)
{
    struct trial_worker *worker;
    struct engine_limits limits = { .live_jobs = 1 };
    struct trial *trial = owned_with(&worker, true, &limits);
    struct engine_counts counts;
    char job[16];
    (void)state;
    for (int i = 0; i < 5; i++) {
        snprintf(job, sizeof job, "f%d", i);
        start(trial, job, "film");
    }
    engine_counts(worker->engine, &counts);
    assert_true(counts.live_jobs <= 1 && counts.evictions >= 4);
    uint64_t replays = counts.replays;
    for (size_t i = 0; i < 5; i++)
        begin(trial, task_of(worker, i)->task, "w");
    trial_advance(trial, TASK_NOTED_AFTER_MS);
    trial_settle(trial);
    trial_advance(trial, TASK_PROGRESS_MS);
    for (size_t i = 0; i < 5; i++)
        beat(trial, task_of(worker, i)->task, "w", "half");
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_STEP_PROGRESS), 10);
    engine_counts(worker->engine, &counts);
    assert_int_equal(counts.replays, replays); /* signs of life bring nobody back */
    for (size_t i = 0; i < 5; i++)
        complete(trial, task_of(worker, i)->task, "w", "shot");
    for (int i = 0; i < 5; i++) {
        snprintf(job, sizeof job, "f%d", i);
        result_is(trial, job, "shot");
    }
    trial_free(trial);
}

/* Job f: another one when it is rebuilt. */
static void put_aside(struct trial *trial, struct trial_worker *worker)
{
    fickle_turned = false;
    start(trial, "f", "fickle");
    assert_true(engine_evict(worker->engine));
    fickle_turned = true;
    trial_signal(trial, "f", "enough", "x", "r2");
    trial_settle(trial);
    trial_advance(trial, 1000);
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "f"), "diverged");
}

/* A worker gives its task back just when the job turns out to be another one: it is put aside, and nobody falls over the step
 * that is gone. */
static void declined_and_put_aside(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Perdure__V1__TaskDeclined declined = PERDURE__V1__TASK_DECLINED__INIT;
    (void)state;
    fickle_turned = false;
    start(trial, "f", "fickle");
    assert_true(engine_evict(worker->engine));
    fickle_turned = true;
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_DECLINED;
    message.declined = &declined;
    put_report(trial, task_of(worker, 0)->task, "w", "declined", &message);
    trial_signal(trial, "f", "enough", "x", "r2");
    trial_settle(trial);
    trial_advance(trial, 1000);
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "f"), "diverged");
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED), 1);
    fickle_turned = false;
    trial_free(trial);
}

/* Given back, or begun, while its job is put aside: it is there when that goes on. */
static void reported_while_put_aside(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    put_aside(trial, worker);
    decline(trial, task_of(worker, 0)->task);
    decline(trial, task_of(worker, 0)->task); /* of a dispatch that is over */
    assert_int_equal(worker->task_count, 2);
    assert_int_equal(task_of(worker, 1)->task->dispatch, 2);
    begin(trial, task_of(worker, 1)->task, "w");
    begin(trial, task_of(worker, 1)->task, "w");
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_STEP_PROGRESS), 1);
    complete(trial, task_of(worker, 1)->task, "w", "shot");
    assert_int_equal(ends_of(trial), 1);
    fickle_turned = false;
    trial_free(trial);
}

/* Declined, it waits for its turn; its attempt ends meanwhile, and its job is put aside: it is not looked for again and again. */
static void ended_while_it_waits_put_aside(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    put_aside(trial, worker);
    trial->wall_ms -= 1000; /* at once, by the owner's clock */
    decline_for(trial, task_of(worker, 0)->task, "no such step");
    complete(trial, task_of(worker, 0)->task, "w", "shot");
    assert_int_equal(ends_of(trial), 1);
    trial_advance(trial, TASK_DECLINED_MAX_MS);
    trial_settle(trial);
    size_t asked = trial->histories_asked;
    for (int i = 0; i < 5; i++) {
        trial_advance(trial, TASK_RETRY_MS);
        trial_settle(trial);
    }
    assert_int_equal(trial->histories_asked, asked);
    assert_int_equal(worker->task_count, 1);
    fickle_turned = false;
    trial_free(trial);
}

/* What a worker says of why it declined may be any bytes: the journal takes only text. */
static void declined_in_bytes(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    Status *status;
    (void)state;
    start(trial, "f", "film");
    decline_for(trial, task_of(worker, 0)->task, "\xff\xfe");
    trial_advance(trial, TASK_DECLINED_MAX_MS);
    trial_settle(trial);
    assert_int_equal(worker->task_count, 2);
    assert_string_equal(waiting_of(trial, "f", &status)->declined, "");
    status_free(status);
    trial_free(trial);
}

/* A second attempt that runs is shown as running, no more as waiting for its turn. */
static void a_retry_that_runs_is_shown(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned_with(&worker, false, NULL);
    (void)state;
    worker->hold_steps = true;
    start(trial, "l", "local");
    struct attempt_outcome failed = { .code = PDR_FAILED, .error = calloc(1, sizeof *failed.error) };
    perdure__v1__error__init(failed.error);
    failed.error->type = strdup("Broken");
    failed.error->message = strdup("it broke");
    failed.error->code = PDR_FAILED;
    engine_on_step_ended(worker->engine, worker->held.job, worker->held.run, worker->held.op, 1, &failed, trial->wall_ms);
    trial_settle(trial);
    trial_advance(trial, STATUS_DELAY_MS);
    trial_settle(trial);
    assert_string_equal(worker->last_state, "waiting");
    trial_advance(trial, 60000);
    trial_settle(trial);
    assert_int_equal(worker->steps_held, 2);
    trial_advance(trial, STATUS_DELAY_MS);
    trial_settle(trial);
    assert_string_equal(worker->last_state, "running");
    trial_free(trial);
}

/* Rule 12: absorbed though its module is missing; once; and the job goes on with it where the module is. */
static void a_result_without_the_module(void **state)
{
    static const pdr_entry entries[] = { PDR_RUNS(other) };
    static const pdr_module others = { sizeof(pdr_module), "others", entries, 1, PDR_HEADER_VERSION };
    static const pdr_module *const none[] = { &others, NULL };
    struct trial_worker *worker;
    struct trial *trial = owned(&worker), *only = trial_new(none);
    (void)state;
    start(trial, "f", "film");
    struct registry *had = trial->registry;
    trial->registry = only->registry;
    struct trial_worker *second = taken_over(trial);
    trial->registry = had;
    complete(trial, task_of(worker, 0)->task, "w1", "shot");
    complete(trial, task_of(worker, 0)->task, "w2", "another");
    assert_int_equal(ends_of(trial), 1);
    engine_free(second->engine);
    second->engine = NULL;
    trial_advance(trial, 2 * CLAIM_BACKOFF_MS);
    trial_settle(trial);
    assert_int_equal(engine_state_of(worker->engine), ENGINE_OWNER);
    result_is(trial, "f", "shot");
    trial_free(trial);
    trial_free(only);
}

/* ---- attempts that crash their worker ------------------------------------------------------------------------------ */

static size_t crashes_of(struct trial *trial) { return events_of(trial, PERDURE__V1__EVENT__KIND_JOB_CRASHED); }

static size_t failures_of(struct trial *trial) { return events_of(trial, PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED); }

static void state_is(struct trial_worker *worker, const char *job, const char *state, const char *report)
{
    Status *status = engine_status(worker->engine, job);
    assert_non_null(status);
    assert_string_equal(status->state, state);
    if (report)
        assert_non_null(strstr(status->report, report));
    status_free(status);
}

static void resume(struct trial *trial, const char *job)
{
    trial_resume(trial, job);
    trial_settle(trial);
}

/* Counted as a crash of the owner's own process is; whoever says it again, it is one crash. */
static void a_step_that_crashes_its_worker(void **state)
{
    static const struct engine_limits limits = { .crash_limit = 2 };
    struct trial_worker *worker;
    struct trial *trial = owned_with(&worker, true, &limits);
    (void)state;
    start(trial, "f", "film");
    start(trial, "neighbour", "film");
    crash(trial, task_of(worker, 0)->task);
    crash(trial, task_of(worker, 0)->task);
    assert_int_equal(crashes_of(trial), 1);
    state_is(worker, "f", "waiting", NULL);
    trial_advance(trial, 5000);
    trial_settle(trial);
    assert_int_equal(task_of(worker, 2)->task->attempt, 2);
    crash(trial, task_of(worker, 2)->task);
    state_is(worker, "f", "quarantined", "studio/render: SIGSEGV at address 0x0 (attempt 2), 2 times in a row");
    crash(trial, task_of(worker, 2)->task);
    assert_int_equal(crashes_of(trial), 2);
    assert_int_equal(failures_of(trial), 2);
    complete(trial, task_of(worker, 1)->task, "w2", "shot");
    result_is(trial, "neighbour", "shot");
    trial_advance(trial, 60000);
    trial_settle(trial);
    assert_int_equal(worker->task_count, 3);
    struct trial_worker *second = taken_over(trial);
    state_is(second, "f", "quarantined", "2 times in a row");
    resume(trial, "f");
    assert_int_equal(task_of(second, 0)->task->attempt, 3);
    complete(trial, task_of(second, 0)->task, "w1", "shot");
    state_is(second, "f", "completed", NULL);
    assert_int_equal(crashes_of(trial), 2);
    trial_free(trial);
}

/* What came with it is absorbed; the job hears of it when it is resumed. */
static void a_crash_and_a_signal_at_once(void **state)
{
    static const struct engine_limits limits = { .crash_limit = 1 };
    struct trial_worker *worker;
    struct trial *trial = owned_with(&worker, true, &limits);
    (void)state;
    start(trial, "f", "choice");
    int64_t from = worker->inbox_from;
    worker->inbox_from = -1; /* both arrive together */
    crash(trial, task_of(worker, 0)->task);
    trial_signal(trial, "f", "enough", "yes", "enough");
    worker->inbox_from = from;
    trial_settle(trial);
    state_is(worker, "f", "quarantined", "attempt 1");
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED), 1);
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_TIMER_STARTED), 0);
    resume(trial, "f");
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_TIMER_STARTED), 1);
    trial_free(trial);
}

/* Its job has given it up by then: nothing is held against it. */
static void a_crash_that_nobody_waits_for(void **state)
{
    static const struct engine_limits limits = { .crash_limit = 1 };
    struct trial_worker *worker;
    struct trial *trial = owned_with(&worker, true, &limits);
    (void)state;
    start(trial, "f", "sorry");
    int64_t from = worker->inbox_from;
    worker->inbox_from = -1; /* both arrive together */
    trial_cancel(trial, "f");
    crash(trial, task_of(worker, 0)->task);
    worker->inbox_from = from;
    trial_settle(trial);
    assert_int_equal(crashes_of(trial) + failures_of(trial), 0);
    assert_string_equal(task_of(worker, 1)->task->step, "studio/here");
    complete(trial, task_of(worker, 1)->task, "w1", "undone");
    state_is(worker, "f", "cancelled", NULL);
    trial_free(trial);
}

/* What only the owner knew of another attempt, that it has begun, is in the history before the job goes. */
static void a_crash_beside_an_attempt(void **state)
{
    static const struct engine_limits limits = { .crash_limit = 1 };
    struct trial_worker *worker;
    struct trial *trial = owned_with(&worker, true, &limits);
    Status *status;
    (void)state;
    start(trial, "f", "pair");
    begin(trial, task_of(worker, 1)->task, "w1");
    crash(trial, task_of(worker, 0)->task);
    state_is(worker, "f", "quarantined", NULL);
    assert_int_equal(events_of(trial, PERDURE__V1__EVENT__KIND_STEP_PROGRESS), 1);
    resume(trial, "f");
    assert_int_equal((status = engine_status(worker->engine, "f"))->n_waiting, 1);
    status_free(status);
    trial_advance(trial, TASK_HEARTBEAT_MS + 5000); /* its worker is gone: tried again, as the one that crashed is */
    trial_settle(trial);
    trial_advance(trial, 5000);
    trial_settle(trial);
    assert_int_equal(worker->task_count, 4);
    trial_free(trial);
}

/* Whether the task was delivered nobody knows: it would go again. */
static void a_crash_of_a_task_in_doubt(void **state)
{
    static const struct engine_limits limits = { .crash_limit = 1 };
    struct trial_worker *worker;
    struct trial *trial = owned_with(&worker, true, &limits);
    (void)state;
    worker->doubt_tasks = true;
    start(trial, "f", "film");
    crash(trial, task_of(worker, 0)->task);
    state_is(worker, "f", "quarantined", NULL);
    trial_advance(trial, 5000);
    trial_settle(trial);
    assert_int_equal(worker->task_count, 1);
    worker->doubt_tasks = false;
    resume(trial, "f");
    assert_int_equal(task_of(worker, 1)->task->attempt, 2);
    trial_free(trial);
}

/* Its last attempt: that is the step's failure, which its job hears of. */
static void the_last_attempt_crashes(void **state)
{
    static const struct engine_limits limits = { .crash_limit = 3 };
    struct trial_worker *worker;
    struct trial *trial = owned_with(&worker, true, &limits);
    (void)state;
    start(trial, "f", "film");
    for (size_t i = 0; i < 3; i++) {
        crash(trial, task_of(worker, i)->task);
        trial_advance(trial, 5000);
        trial_settle(trial);
    }
    state_is(worker, "f", "failed", NULL);
    assert_int_equal(crashes_of(trial), 2);
    trial_free(trial);
}

/* Rule 12: what a job that is put aside cannot hear is absorbed all the same. */
static void a_crash_without_the_module(void **state)
{
    static const pdr_entry entries[] = { PDR_RUNS(other) };
    static const pdr_module others = { sizeof(pdr_module), "others", entries, 1, PDR_HEADER_VERSION };
    static const pdr_module *const none[] = { &others, NULL };
    struct trial_worker *worker;
    struct trial *trial = owned(&worker), *only = trial_new(none);
    (void)state;
    start(trial, "f", "film");
    crash(trial, task_of(worker, 0)->task);
    trial_advance(trial, 5000);
    trial_settle(trial);
    struct registry *had = trial->registry;
    trial->registry = only->registry;
    struct trial_worker *second = taken_over(trial);
    trial->registry = had;
    crash(trial, task_of(worker, 1)->task);
    crash(trial, task_of(worker, 1)->task);
    assert_int_equal(crashes_of(trial), 2);
    assert_int_equal(failures_of(trial), 2);
    state_is(second, "f", "waiting", "waits for a worker with the module");
    engine_free(second->engine);
    second->engine = NULL;
    trial_advance(trial, 2 * CLAIM_BACKOFF_MS);
    trial_settle(trial);
    assert_int_equal(task_of(worker, 2)->task->attempt, 3);
    trial_free(trial);
    trial_free(only);
}

static void without_queues(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned_with(&worker, false, NULL);
    Status *status;
    char token[TOKEN_BYTES];
    (void)state;
    start(trial, "l", "local");
    result_is(trial, "l", "here in");
    start(trial, "f", "film");
    assert_int_equal(worker->outputs[ENGINE_OUT_TASK], 0);
    const Waiting *waiting = waiting_of(trial, "f", &status);
    assert_string_equal(waiting->phase, "outside");
    snprintf(token, sizeof token, "%s", waiting->token);
    status_free(status);
    Perdure__V1__Task task = task_of_token(token);
    break_off(trial, &task, false);
    trial_advance(trial, 5000);
    trial_settle(trial);
    complete(trial, &task, "", "of attempt 1");
    assert_string_equal(worker->last_answer, "refused");
    task.attempt = 2;
    complete(trial, &task, "", "shot");
    assert_string_equal(worker->last_answer, "accepted");
    result_is(trial, "f", "shot");
    trial_free(trial);
}

/* PDR_LATER: run once, whoever owns the job; completed by its token; timed out otherwise. */
static void completed_later(void **state)
{
    struct trial_worker *worker;
    struct trial *trial = owned(&worker);
    (void)state;
    approvals = 0;
    start(trial, "a", "asked");
    assert_int_equal(approvals, 1);
    taken_over(trial);
    assert_int_equal(approvals, 1);
    Perdure__V1__Task task = task_of_token(approval_token);
    assert_string_equal(task.job, "a");
    size_t replies = trial->workers[1].replies;
    complete(trial, &task, "", "yes");
    assert_int_equal(trial->workers[1].replies, replies + 1); /* whoever completes it from outside does */
    result_is(trial, "a", "yes");
    start(trial, "b", "asked");
    trial_advance(trial, 59000);
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "b"), "waiting");
    trial_advance(trial, 2000);
    trial_settle(trial);
    assert_string_equal(trial_state(trial, "b"), "failed");
    trial_free(trial);
}

/* Rule 5: an append in doubt; what was out is out, what was on its way comes again. */
static void doubt_in_between(void **state)
{
    struct trial_worker *worker;
    struct engine_limits limits = { .tasks_out = 1 };
    struct trial *trial = owned_with(&worker, true, &limits);
    (void)state;
    start(trial, "a", "film");
    start(trial, "b", "film");
    const Perdure__V1__Task *task = task_of(worker, 0)->task;
    complete(trial, task, "w", "shot");
    assert_int_equal(worker->task_count, 2);
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Payload payload = text_payload("other");
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_COMPLETED;
    message.completed = &payload;
    int64_t inbox = worker->inbox_from;
    worker->inbox_from = -1;
    report(trial, task_of(worker, 1)->task, "w", "end", &message);
    worker->inbox_from = inbox;
    trial_read(worker);
    trial_run(worker);
    trial_lose(worker); /* the append with the result */
    engine_on_fault(worker->engine, LOG_PRODUCER_REPLACED, "replaced");
    trial_settle(trial);
    result_is(trial, "a", "shot");
    result_is(trial, "b", "other");
    assert_int_equal(ends_of(trial), 2);
    assert_int_equal(worker->task_count, 2);
    trial_free(trial);
}

static void tokens(void **state)
{
    struct token token = { 0x1234abcd, 0xfedcba9876543210, 17, 3, "order 17/ü%" }, read;
    char text[TOKEN_BYTES];
    (void)state;
    token_write(&token, text);
    assert_string_equal(text, "1234abcd-fedcba9876543210-17-3-order%2017%2F%C3%BC%25");
    assert_true(token_read(text, &read));
    assert_memory_equal(&token.job, &read.job, strlen(token.job) + 1);
    assert_true(read.log == token.log && read.run == token.run && read.op == 17 && read.attempt == 3);
    memset(token.job, '%', JOB_ID_LIMIT_BYTES);
    token_write(&token, text);
    assert_int_equal(token_read(text, &read), true);
    static const char *const bad[] = { "", "x", "1-2-3-4", "1-2-3-4-", "1-2-0-4-a", "1-0-1-1-a", "1-1-1-0-a", "123456789-1-1-1-a",
                                       "1-1-1-99999999999-a", "1-1-1-1-a%", "1-1-1-1-a%4", "1-1-1-1-a%0a", "1-1-1-1-a b",
                                       "1-12345678123456789-1-1-a", "-1-1-1-a", "1-1-1-1-%ff" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(token_read(bad[i], &read));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dispatched_and_completed),
        cmocka_unit_test(results_come_twice),
        cmocka_unit_test(results_come_at_once),
        cmocka_unit_test(not_before_it_is_confirmed),
        cmocka_unit_test(delivered_before_a_takeover),
        cmocka_unit_test(not_delivered_before_a_takeover),
        cmocka_unit_test(a_retry_is_sent_by_the_next_owner),
        cmocka_unit_test(a_burst_after_a_takeover),
        cmocka_unit_test(tried_again_by_the_owner),
        cmocka_unit_test(schedule_to_start),
        cmocka_unit_test(start_to_close),
        cmocka_unit_test(heartbeats_end),
        cmocka_unit_test(begun_and_both_dead),
        cmocka_unit_test(a_beginning_holds_nothing_up),
        cmocka_unit_test(a_beginning_and_a_clock_set_back),
        cmocka_unit_test(an_inbox_that_is_not_read),
        cmocka_unit_test(silence_after_a_takeover),
        cmocka_unit_test(deadline),
        cmocka_unit_test(lost_in_its_queue),
        cmocka_unit_test(declined),
        cmocka_unit_test(declined_at_once),
        cmocka_unit_test(declined_and_taken_over),
        cmocka_unit_test(bad_queue),
        cmocka_unit_test(bad_result),
        cmocka_unit_test(held_back_by_priority),
        cmocka_unit_test(held_back_across_a_takeover),
        cmocka_unit_test(rate_of_a_queue),
        cmocka_unit_test(spread_over_lanes),
        cmocka_unit_test(cancel_reaches_the_worker),
        cmocka_unit_test(an_abandoned_future_is_stopped),
        cmocka_unit_test(a_stop_waits_for_its_reason),
        cmocka_unit_test(a_second_copy_is_stopped),
        cmocka_unit_test(no_heartbeats),
        cmocka_unit_test(an_end_that_came_meanwhile),
        cmocka_unit_test(ended_while_it_waits_put_aside), cmocka_unit_test(declined_in_bytes),
        cmocka_unit_test(declined_and_put_aside),
        cmocka_unit_test(reported_while_put_aside),
        cmocka_unit_test(a_retry_that_runs_is_shown),
        cmocka_unit_test(a_step_that_crashes_its_worker),
        cmocka_unit_test(a_crash_and_a_signal_at_once),
        cmocka_unit_test(a_crash_that_nobody_waits_for),
        cmocka_unit_test(a_crash_beside_an_attempt),
        cmocka_unit_test(a_crash_of_a_task_in_doubt),
        cmocka_unit_test(the_last_attempt_crashes),
        cmocka_unit_test(a_crash_without_the_module),
        cmocka_unit_test(evicted_jobs_have_their_tasks),
        cmocka_unit_test(a_result_without_the_module),
        cmocka_unit_test(without_queues),
        cmocka_unit_test(completed_later),
        cmocka_unit_test(doubt_in_between),
        cmocka_unit_test(tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
