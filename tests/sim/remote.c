/*
 * Queues and their workers: tasks that are lost, doubled, late, declined; step workers that die, go on after they were
 * given up, and whose reports come twice, late or never; and people who complete attempts by their token.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "job/job.h"
#include "wire/token.h"
#include "world.h"

#define STEP_WORKERS 3
#define REMOTE_CLIENT 9 /* reply_to of their reports */

/* A task in a topic, then its execution. */
struct execution {
    struct execution *next;
    Record *record;
    const Perdure__V1__Task *task;
    uint64_t number;
    int64_t visible;  /* in the topic */
    bool begun;
    unsigned worker;
    int64_t started;
    int64_t beats;    /* next heartbeat */
    int64_t ends;
    bool dies;        /* its worker does, before the end is told */
    unsigned beat_count;
    struct attempt_outcome outcome;
};

/* An attempt whose token somebody has, to complete it; says so until there is an answer. */
struct ask {
    struct ask *next;
    struct token token;
    int64_t at;
    unsigned value;
    uint64_t input_digest; /* of the step that asks */
    uint64_t number;       /* 0: not said yet */
    uint64_t effect;
};

/* A report on its way. */
struct report_due {
    struct report_due *next;
    int64_t at;
    uint32_t partition;
    struct blob *blob;
};

static void execution_free(struct execution *execution)
{
    payload_free(execution->outcome.result);
    error_free(execution->outcome.error);
    record_free(execution->record);
    free(execution);
}

/* ---- reports ------------------------------------------------------------------------------------------------------ */

static void report_land(const struct report_due *report)
{
    struct pending pending = { .blob = blob_share(report->blob), .client = true, .copy = -1 };
    session_push(world->clients, LOG_INBOX, report->partition, &pending);
}

static void report_push(const char *job, uint64_t run, const char *request, Perdure__V1__TaskReport *message,
                        uint64_t number, int64_t delay)
{
    Record record = PERDURE__V1__RECORD__INIT;
    Header header = PERDURE__V1__HEADER__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    ReplyTo reply_to = PERDURE__V1__REPLY_TO__INIT;
    header.format = header.rule_level = header.min_reader = header.map_version = 1;
    header.log = (uint32_t)world->log_id;
    header.kind = PERDURE__V1__KIND__KIND_COMMAND;
    header.job = (char *)(uintptr_t)job;
    header.run = run;
    header.slot = slot_of(job);
    header.born = world->now;
    reply_to.client = REMOTE_CLIENT;
    reply_to.correlation = number;
    command.request = (char *)(uintptr_t)request;
    command.reply_to = &reply_to;
    command.kind_case = PERDURE__V1__COMMAND__KIND_TASK_REPORT;
    command.task_report = message;
    record.header = &header;
    record.command = &command;
    struct report_due *report = calloc(1, sizeof *report);
    size_t size;
    void *data = record_encode(&record, &size);
    if (!report || !data)
        abort();
    report->at = world->now + delay;
    report->partition = partition_of(job, world->profile.partitions);
    report->blob = blob_new(data, size);
    free(data);
    report->next = world->remote_reports;
    world->remote_reports = report;
}

static void execution_report(const struct execution *execution, const char *what, Perdure__V1__TaskReport *message,
                             int64_t delay)
{
    const Perdure__V1__Task *task = execution->task;
    char request[96], worker[16];
    snprintf(request, sizeof request, "%s-%u-%u/%s", task->idempotency_key, task->attempt, task->dispatch, what);
    snprintf(worker, sizeof worker, "s%u", execution->worker);
    message->token = task->token;
    message->op = task->op;
    message->attempt = task->attempt;
    message->dispatch = task->dispatch;
    message->worker = worker;
    message->started = execution->started;
    trace("s%u reports %s of %s op %llu", execution->worker, what, task->job, (unsigned long long)task->op);
    report_push(task->job, task->run, request, message, execution->number, delay);
    if (fault_now(FAULT_REPORT_TWICE))
        report_push(task->job, task->run, request, message, execution->number, delay + rng_between(&world->faults, 0, 4000));
}

static bool reports_turn(void)
{
    bool did = false;
    for (struct report_due **link = &world->remote_reports; *link;) {
        struct report_due *report = *link;
        if (report->at > world->now) {
            link = &report->next;
            continue;
        }
        *link = report->next;
        report_land(report);
        blob_release(report->blob);
        free(report);
        did = true;
    }
    return did;
}

/* ---- executions ------------------------------------------------------------------------------------------------------ */

static void execution_begin(struct execution *execution)
{
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Perdure__V1__TaskStarted begun = PERDURE__V1__TASK_STARTED__INIT;
    const Perdure__V1__Task *task = execution->task;
    execution->begun = true;
    execution->started = world->now;
    execution->beats = task->heartbeat_ms > 0 ? world->now + task->heartbeat_ms / 3 : INT64_MAX;
    execution->ends = world->now + rng_between(&world->schedule, 0, rng_chance(&world->schedule, 1000) ? 12000 : 60);
    execution->dies = fault_now(FAULT_STEP_WORKER_DIES);
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_BEGUN;
    message.begun = &begun;
    execution_report(execution, "started", &message, 0);
}

static void execution_decline(struct execution *execution)
{
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Perdure__V1__TaskDeclined declined = PERDURE__V1__TASK_DECLINED__INIT;
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_DECLINED;
    message.declined = &declined;
    execution_report(execution, "declined", &message, 0);
}

static void execution_beat(struct execution *execution)
{
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Perdure__V1__TaskHeartbeat heartbeat = PERDURE__V1__TASK_HEARTBEAT__INIT;
    Payload detail = PERDURE__V1__PAYLOAD__INIT;
    char what[24], text[24];
    snprintf(what, sizeof what, "beat/%u", ++execution->beat_count);
    snprintf(text, sizeof text, "%u", execution->beat_count);
    detail.type = (char *)"text";
    detail.data = (ProtobufCBinaryData){ strlen(text), (uint8_t *)text };
    heartbeat.detail = &detail;
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_HEARTBEAT;
    message.heartbeat = &heartbeat;
    execution->beats = world->now + execution->task->heartbeat_ms / 3;
    if (!fault_now(FAULT_HEARTBEAT_LOST))
        execution_report(execution, what, &message, 0);
}

static void execution_act(struct execution *execution)
{
    const Perdure__V1__Task *task = execution->task;
    const struct callable *step = registry_step(world->registry, task->step);
    if (!step)
        world_bad("a task of %s names step %s, which nobody has", task->job, task->step);
    struct attempt_request request = { .callable = step, .job = task->job, .run = task->run, .op = task->op,
                                       .attempt = task->attempt, .input = task->input };
    struct effect effect = { .job = task->job, .run = task->run, .op = task->op, .attempt = task->attempt,
                             .step = step->name, .worker = 100 + (int)execution->worker,
                             .claim = (int64_t)execution->number, .at = world->now };
    uint64_t before = world->token;
    effect.input_digest = payload_digest(task->input->type, task->input->data.data, task->input->data.len);
    attempt_run(&request, &execution->outcome);
    effect.token = world->token > before ? world->token : 0;
    truth_on_effect(&effect);
}

static void execution_crash(const struct execution *execution)
{
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Error error = PERDURE__V1__ERROR__INIT;
    error.type = (char *)"Crashed";
    error.message = (char *)CRASHED_MESSAGE "SIGSEGV at address 0x0";
    error.code = PDR_FAILED;
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_FAILED;
    message.failed = &error;
    execution_report(execution, "end", &message, rng_between(&world->schedule, 20, 2000));
}

static void execution_end(struct execution *execution)
{
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    execution_act(execution);
    if (execution->dies)
        return;
    if (crashes_in_task(execution->task)) {
        execution_crash(execution);
        return;
    }
    if (execution->outcome.code == PDR_OK) {
        message.kind_case = PERDURE__V1__TASK_REPORT__KIND_COMPLETED;
        message.completed = execution->outcome.result;
    } else {
        message.kind_case = PERDURE__V1__TASK_REPORT__KIND_FAILED;
        message.failed = execution->outcome.error;
    }
    execution_report(execution, "end", &message, fault_now(FAULT_REPORT_LATE) ? rng_between(&world->faults, 500, 30000) : 0);
}

/* True: it is over. */
static bool execution_turn(struct execution *execution, bool *did)
{
    if (!execution->begun) {
        if (execution->visible > world->now)
            return false;
        *did = true;
        execution->worker = (unsigned)rng_below(&world->schedule, STEP_WORKERS);
        if (fault_now(FAULT_TASK_LOST))
            return true;
        if (execution->task->start_by && world->now > execution->task->start_by)
            return true; /* its owner sees to it */
        if (fault_now(FAULT_TASK_DECLINED)) {
            execution_decline(execution);
            return true;
        }
        execution_begin(execution);
        return false;
    }
    if (execution->beats <= world->now && execution->ends > world->now && !execution->dies) {
        *did = true;
        execution_beat(execution);
    }
    if (execution->ends > world->now)
        return false;
    *did = true;
    execution_end(execution);
    return true;
}

static void execution_add(const void *data, size_t size, int64_t delay)
{
    struct execution *execution = calloc(1, sizeof *execution);
    if (!execution || record_decode(data, size, &execution->record) != WIRE_OK)
        world_bad("a task that cannot be decoded");
    execution->task = execution->record->task;
    execution->number = ++world->execution_count;
    execution->visible = world->now + delay;
    execution->next = world->executions;
    world->executions = execution;
}

void remote_put_task(struct worker *worker, uint32_t p, const struct engine_output *out)
{
    enum log_delivery delivery = LOG_PERSISTED;
    int64_t delay = rng_between(&world->schedule, 0, 40);
    trace("%s/%u puts a task of %s into %s", worker->name, p, out->key, out->text);
    if (fault_now(FAULT_TASK_REFUSED)) {
        session_tell(worker->session, p, out->cookie, LOG_NOT_PERSISTED, -1);
        return;
    }
    if (fault_now(FAULT_ACK_IMPLICIT)) {
        session_tell(worker->session, p, out->cookie, LOG_PERSISTED, -1);
        return;
    }
    if (fault_now(FAULT_TASK_IN_DOUBT))
        delivery = LOG_POSSIBLY_PERSISTED;
    if (fault_now(FAULT_TASK_LATE))
        delay += rng_between(&world->faults, 500, 20000);
    execution_add(out->data, out->size, delay);
    if (fault_now(FAULT_TASK_TWICE))
        execution_add(out->data, out->size, delay + rng_between(&world->faults, 0, 5000));
    session_tell(worker->session, p, out->cookie, delivery, delivery == LOG_PERSISTED ? 0 : -1);
}

static void ask_answered(uint64_t number)
{
    for (struct ask **link = &world->asks; *link; link = &(*link)->next)
        if ((*link)->number == number) {
            struct ask *ask = *link;
            *link = ask->next;
            free(ask);
            return;
        }
}

/* A worker that is told to stop does, or is too far for that. */
void remote_reply(const Reply *reply)
{
    ask_answered(reply->correlation);
    if (strcmp(reply->answer, "stop") != 0)
        return;
    fault_count(FAULT_STEP_STOPPED);
    for (struct execution **link = &world->executions; *link; link = &(*link)->next) {
        struct execution *execution = *link;
        if (execution->number != reply->correlation || !execution->begun)
            continue;
        if (rng_chance(&world->schedule, 5000)) {
            *link = execution->next;
            execution_free(execution);
        }
        return;
    }
}

/* ---- completion from outside --------------------------------------------------------------------------------------- */

void people_ask(const char *text, const char *input, unsigned value)
{
    struct ask *ask = calloc(1, sizeof *ask);
    if (!ask || !token_read(text, &ask->token))
        world_bad("\"%s\" is no token", text);
    ask->value = value;
    ask->input_digest = payload_digest("text", input, strlen(input));
    ask->at = world->now + rng_between(&world->schedule, 0, rng_chance(&world->schedule, 3000) ? 5000 : 100);
    ask->next = world->asks;
    world->asks = ask;
}

static void ask_complete(struct ask *ask)
{
    Perdure__V1__TaskReport message = PERDURE__V1__TASK_REPORT__INIT;
    Payload payload = PERDURE__V1__PAYLOAD__INIT;
    const struct token *token = &ask->token;
    char text[TOKEN_BYTES], result[48], request[48];
    if (!ask->number) {
        ask->number = ++world->execution_count;
        ask->effect = effect_begin();
        struct effect effect = { .job = (char *)(uintptr_t)token->job, .run = token->run, .op = token->op,
                                 .attempt = token->attempt, .step = "sim/asked", .worker = 200,
                                 .input_digest = ask->input_digest, .claim = (int64_t)ask->number, .token = ask->effect,
                                 .at = world->now };
        truth_on_effect(&effect);
    }
    token_write(token, text);
    snprintf(result, sizeof result, "%u %llu", ask->value, (unsigned long long)ask->effect);
    snprintf(request, sizeof request, "outside-%llu", (unsigned long long)ask->number);
    payload.type = (char *)"text";
    payload.data = (ProtobufCBinaryData){ strlen(result), (uint8_t *)result };
    message.token = text;
    message.op = token->op;
    message.attempt = token->attempt;
    message.kind_case = PERDURE__V1__TASK_REPORT__KIND_COMPLETED;
    message.completed = &payload;
    ask->at = world->now + 2000;
    report_push(token->job, token->run, request, &message, ask->number, 0);
}

static bool asks_turn(void)
{
    bool did = false;
    for (struct ask *ask = world->asks; ask; ask = ask->next)
        if (ask->at <= world->now) {
            ask_complete(ask);
            did = true;
        }
    return did;
}

/* ---- turns ------------------------------------------------------------------------------------------------------------ */

bool remote_turn(void)
{
    bool did = false;
    for (struct execution **link = &world->executions; *link;) {
        struct execution *execution = *link;
        if (!execution_turn(execution, &did)) {
            link = &execution->next;
            continue;
        }
        *link = execution->next;
        execution_free(execution);
    }
    did = asks_turn() || did;
    return reports_turn() || did;
}

int64_t remote_next(void)
{
    int64_t next = INT64_MAX;
    for (const struct execution *execution = world->executions; execution; execution = execution->next) {
        int64_t at = !execution->begun ? execution->visible
                     : execution->beats < execution->ends && !execution->dies ? execution->beats
                                                                               : execution->ends;
        next = at < next ? at : next;
    }
    for (const struct ask *ask = world->asks; ask; ask = ask->next)
        next = ask->at < next ? ask->at : next;
    for (const struct report_due *report = world->remote_reports; report; report = report->next)
        next = report->at < next ? report->at : next;
    return next;
}

bool remote_is_idle(void) { return !world->executions && !world->asks && !world->remote_reports; }

void remote_free_all(void)
{
    while (world->executions) {
        struct execution *next = world->executions->next;
        execution_free(world->executions);
        world->executions = next;
    }
    while (world->asks) {
        struct ask *next = world->asks->next;
        free(world->asks);
        world->asks = next;
    }
    while (world->remote_reports) {
        struct report_due *next = world->remote_reports->next;
        blob_release(world->remote_reports->blob);
        free(world->remote_reports);
        world->remote_reports = next;
    }
}
