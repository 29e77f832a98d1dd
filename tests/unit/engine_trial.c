#include "engine_trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"

#define LOG_ID UINT64_C(0x1122334455667788)

/* ---- the log --------------------------------------------------------------------------------------- */

static void stream_push(struct trial *trial, struct trial_stream *stream, const void *data, size_t size)
{
    stream->records = realloc(stream->records, (stream->count + 1) * sizeof *stream->records);
    void *copy = malloc(size);
    memcpy(copy, data, size);
    stream->records[stream->count++] = (struct trial_record){ copy, size, trial->wall_ms };
}

void trial_journal_append(struct trial *trial, const void *data, size_t size)
{
    stream_push(trial, &trial->journal, data, size);
}

void trial_inbox_append(struct trial *trial, const void *data, size_t size)
{
    stream_push(trial, &trial->inbox, data, size);
}

void trial_inbox_cut(struct trial *trial, size_t end)
{
    while (trial->inbox.count > end)
        free(trial->inbox.records[--trial->inbox.count].data);
}

uint32_t trial_kind(const struct trial *trial, size_t offset)
{
    Record *record = NULL;
    if (record_decode(trial->journal.records[offset].data, trial->journal.records[offset].size, &record) != WIRE_OK)
        return 0;
    uint32_t kind = record->header->kind;
    record_free(record);
    return kind;
}

void trial_header(Header *header, uint32_t kind)
{
    perdure__v1__header__init(header);
    header->format = FORMAT_VERSION;
    header->rule_level = header->min_reader = RULE_LEVEL;
    header->log = (uint32_t)LOG_ID;
    header->kind = kind;
    header->map_version = 1;
}

static void trial_genesis(struct trial *trial)
{
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    trial_header(&header, PERDURE__V1__KIND__KIND_GENESIS);
    perdure__v1__genesis__init(&trial->genesis);
    trial->genesis.log_id = LOG_ID;
    trial->genesis.namespace_ = (char *)"trial";
    trial->genesis.partitions = 1;
    trial->genesis.map_version = 1;
    trial->genesis.format = FORMAT_VERSION;
    trial->genesis.rule_level = RULE_LEVEL;
    record.header = &header;
    record.genesis = &trial->genesis;
    size_t size;
    void *data = record_encode(&record, &size);
    trial_journal_append(trial, data, size);
    free(data);
}

struct trial *trial_new(const pdr_module *const *modules)
{
    struct trial *trial = calloc(1, sizeof *trial);
    char error[256];
    trial->wall_ms = INT64_C(1700000000000);
    trial->monotonic_ms = 1000;
    trial->registry = registry_new();
    for (; *modules; modules++)
        if (registry_add(trial->registry, *modules, "build", error, sizeof error) != PDR_OK)
            abort();
    trial_genesis(trial);
    return trial;
}

static void stream_free(struct trial_stream *stream)
{
    for (size_t i = 0; i < stream->count; i++)
        free(stream->records[i].data);
    free(stream->records);
}

void trial_free(struct trial *trial)
{
    for (int i = 0; i < 2; i++) {
        engine_free(trial->workers[i].engine);
        trial_lose(&trial->workers[i]);
        free(trial->workers[i].appends);
        for (size_t t = 0; t < trial->workers[i].task_count; t++)
            record_free(trial->workers[i].tasks[t].record);
        free(trial->workers[i].tasks);
    }
    stream_free(&trial->journal);
    stream_free(&trial->inbox);
    registry_free(trial->registry);
    limits_free(trial->limits);
    free(trial);
}

/* ---- a worker ----------------------------------------------------------------------------------------- */

static int trial_history(void *context, uint32_t partition, const char *job, uint64_t run,
                         bool (*visit)(void *context, int64_t offset, const void *record, size_t size),
                         void *visit_context)
{
    struct trial *trial = context;
    uint64_t next = 1;
    (void)partition;
    trial->histories_asked++;
    if (trial->store_is_damaged)
        return LOG_FAILED;
    for (size_t i = 0; i < trial->journal.count; i++) {
        Record *record = NULL;
        if (record_decode(trial->journal.records[i].data, trial->journal.records[i].size, &record) != WIRE_OK)
            continue;
        const Header *header = record->header;
        bool wanted = header->kind == PERDURE__V1__KIND__KIND_EVENT && header->run == run && header->seq == next &&
                      strcmp(header->job, job) == 0;
        if (wanted)
            next += header->count;
        record_free(record);
        if (wanted && !visit(visit_context, (int64_t)i, trial->journal.records[i].data, trial->journal.records[i].size))
            break;
    }
    return LOG_OK;
}

static int64_t trial_unshown(void *context, uint32_t partition)
{
    const struct trial *trial = context;
    (void)partition;
    return trial->unshown ? trial->unshown : INT64_MAX;
}

static enum engine_type trial_type_elsewhere(void *context, const char *type)
{
    const struct trial *trial = context;
    (void)type;
    return trial->elsewhere;
}

struct trial_worker *trial_worker(struct trial *trial, int number, const struct engine_limits *limits)
{
    struct trial_worker *worker = &trial->workers[number];
    struct engine_config config = {
        .genesis = trial->genesis,
        .worker = number ? "second" : "first",
        .registry = trial->registry,
        .has_queues = trial->has_queues,
        .queue_take = trial->queue_take,
        .type_elsewhere = trial_type_elsewhere,
        .type_context = trial,
        .shared_limits = trial->limits,
        .memory = trial->memory,
        .seed = (uint64_t)number + 1,
        .hands_over = trial->hands_over,
        .host = { .context = trial, .history = trial_history, .unshown = trial_unshown },
    };
    if (limits)
        config.limits = *limits;
    worker->trial = trial;
    worker->journal_from = worker->inbox_from = -1;
    worker->engine = engine_new(&config);
    if (!worker->engine)
        return NULL;
    if (!trial->store_is_damaged)
        engine_on_histories_kept(worker->engine, INT64_MAX);
    engine_on_time(worker->engine, trial->wall_ms, trial->monotonic_ms);
    engine_begin(worker->engine, 0);
    return worker;
}

static void trial_hold(struct trial_worker *worker, const struct engine_output *out)
{
    struct trial_append append = { out->cookie, out->kind == ENGINE_OUT_SEND, malloc(out->size), out->size };
    memcpy(append.data, out->data, out->size);
    worker->appends = realloc(worker->appends, (worker->append_count + 1) * sizeof append);
    worker->appends[worker->append_count++] = append;
}

static void trial_step(struct trial_worker *worker, const struct engine_output *out)
{
    struct attempt_request request = { .callable = out->step, .job = out->key, .run = out->run, .op = out->op,
                                       .attempt = out->attempt, .input = out->input,
                                       .log_id = worker->trial->genesis.log_id };
    struct attempt_outcome outcome = { 0 };
    char job[256];
    uint64_t run = out->run, op = out->op;
    uint32_t attempt = out->attempt;
    snprintf(job, sizeof job, "%s", out->key);
    if (worker->hold_steps) {
        worker->steps_held++;
        snprintf(worker->held.job, sizeof worker->held.job, "%s", job);
        worker->held.run = run;
        worker->held.op = op;
        worker->held.attempt = attempt;
        worker->held.begin_until = out->begin_until;
        return;
    }
    attempt_run(&request, &outcome);
    engine_on_step_ended(worker->engine, job, run, op, attempt, &outcome, worker->trial->wall_ms);
}

void trial_step_end(struct trial_worker *worker, const char *text)
{
    Payload result = PERDURE__V1__PAYLOAD__INIT;
    result.type = (char *)"text";
    result.data.data = (uint8_t *)(uintptr_t)text;
    result.data.len = strlen(text);
    struct attempt_outcome outcome = { .result = payload_copy(&result) };
    engine_on_step_ended(worker->engine, worker->held.job, worker->held.run, worker->held.op, worker->held.attempt,
                         &outcome, worker->trial->wall_ms);
}

static void trial_status(struct trial_worker *worker, const struct engine_output *out)
{
    Status *status = perdure__v1__status__unpack(NULL, out->size, out->data);
    snprintf(worker->last_state, sizeof worker->last_state, "%s", status ? status->state : "");
    status_free(status);
}

/* A task arrives in its queue at once, or is refused. */
static void trial_task(struct trial_worker *worker, const struct engine_output *out)
{
    Record *record = NULL;
    if (!worker->refuse_tasks && record_decode(out->data, out->size, &record) == WIRE_OK) {
        worker->tasks = realloc(worker->tasks, (worker->task_count + 1) * sizeof *worker->tasks);
        worker->tasks[worker->task_count++] = (struct trial_task){ record, record->task, (uint32_t)out->count };
    }
    engine_on_delivered(worker->engine, out->cookie, !record ? LOG_NOT_PERSISTED : worker->doubt_tasks ? LOG_POSSIBLY_PERSISTED : LOG_PERSISTED, 0);
}

static void trial_take(struct trial_worker *worker, const struct engine_output *out)
{
    worker->outputs[out->kind]++;
    switch (out->kind) {
    case ENGINE_OUT_APPEND:
    case ENGINE_OUT_SEND:
        trial_hold(worker, out);
        break;
    case ENGINE_OUT_FOLLOW_JOURNAL:
        worker->journal_from = out->offset;
        break;
    case ENGINE_OUT_FOLLOW_INBOX:
        worker->inbox_from = out->offset;
        break;
    case ENGINE_OUT_UNFOLLOW_INBOX:
        worker->inbox_from = -1;
        break;
    case ENGINE_OUT_TASK:
        trial_task(worker, out);
        break;
    case ENGINE_OUT_STEP:
        trial_step(worker, out);
        break;
    case ENGINE_OUT_REPLY:
        worker->replies++;
        worker->stops += strcmp(out->reply->answer, "stop") == 0;
        worker->refused += strcmp(out->reply->answer, "refused") == 0;
        snprintf(worker->last_answer, sizeof worker->last_answer, "%s", out->reply->answer);
        break;
    case ENGINE_OUT_STATUS:
        trial_status(worker, out);
        break;
    case ENGINE_OUT_TAKEN_OVER:
        worker->takeover = *out->takeover;
        break;
    case ENGINE_OUT_STOPPED:
    case ENGINE_OUT_NOTE:
    case ENGINE_OUT_LOST:
    case ENGINE_OUT_DEAD:
        snprintf(worker->last_text, sizeof worker->last_text, "%s", out->text ? out->text : "");
        break;
    default:
        break;
    }
}

void trial_run(struct trial_worker *worker)
{
    struct engine_output out;
    bool any = true;
    while (any) {
        any = false;
        engine_on_time(worker->engine, worker->trial->wall_ms, worker->trial->monotonic_ms);
        engine_run(worker->engine, !worker->hold_jobs);
        while (engine_take(worker->engine, &out)) {
            trial_take(worker, &out);
            any = true;
        }
    }
}

size_t trial_land(struct trial_worker *worker)
{
    size_t count = worker->append_count;
    for (size_t i = 0; i < count; i++) {
        struct trial_append *append = &worker->appends[i];
        stream_push(worker->trial, append->send ? &worker->trial->inbox : &worker->trial->journal, append->data,
                    append->size);
        free(append->data);
    }
    worker->append_count = 0;
    return count;
}

void trial_lose(struct trial_worker *worker)
{
    for (size_t i = 0; i < worker->append_count; i++)
        free(worker->appends[i].data);
    worker->append_count = 0;
}

void trial_acknowledge(struct trial_worker *worker, uint64_t cookie, enum log_delivery delivery, int64_t offset)
{
    engine_on_delivered(worker->engine, cookie, delivery, offset);
}

static void trial_read_stream(struct trial_worker *worker, enum log_stream which)
{
    struct trial_stream *stream = which == LOG_JOURNAL ? &worker->trial->journal : &worker->trial->inbox;
    int64_t *from = which == LOG_JOURNAL ? &worker->journal_from : &worker->inbox_from;
    if (*from < 0)
        return;
    while (*from < (int64_t)stream->count) {
        const struct trial_record *record = &stream->records[*from];
        struct log_record given = { which, 0, *from, record->append_ms, -1, record->data, record->size };
        ++*from;
        engine_on_record(worker->engine, &given);
    }
    engine_on_end(worker->engine, which, (int64_t)stream->count);
}

void trial_read(struct trial_worker *worker)
{
    trial_read_stream(worker, LOG_JOURNAL);
    trial_read_stream(worker, LOG_INBOX);
}

void trial_land_acknowledged(struct trial_worker *worker)
{
    size_t count = worker->append_count;
    uint64_t cookies[count + 1];
    bool sends[count + 1];
    int64_t first = (int64_t)worker->trial->journal.count, inbox = (int64_t)worker->trial->inbox.count;
    for (size_t i = 0; i < count; i++) {
        cookies[i] = worker->appends[i].cookie;
        sends[i] = worker->appends[i].send;
    }
    trial_land(worker);
    for (size_t i = 0; i < count; i++)
        trial_acknowledge(worker, cookies[i], LOG_PERSISTED, sends[i] ? inbox++ : first++);
}

static bool trial_settle_one(struct trial_worker *worker)
{
    trial_run(worker);
    size_t count = worker->append_count;
    trial_land_acknowledged(worker);
    bool unread = (worker->journal_from >= 0 && worker->journal_from < (int64_t)worker->trial->journal.count) ||
                  (worker->inbox_from >= 0 && worker->inbox_from < (int64_t)worker->trial->inbox.count);
    trial_read(worker);
    trial_run(worker);
    return count > 0 || unread || worker->append_count > 0;
}

void trial_settle(struct trial *trial)
{
    bool moved = true;
    for (int round = 0; moved && round < 10000; round++) {
        moved = false;
        for (int i = 0; i < 2; i++)
            if (trial->workers[i].engine)
                moved = trial_settle_one(&trial->workers[i]) || moved;
    }
}

void trial_advance(struct trial *trial, int64_t ms)
{
    trial->wall_ms += ms;
    trial->monotonic_ms += ms;
}

/* ---- commands --------------------------------------------------------------------------------------------- */

void trial_command(struct trial *trial, const char *job, Command *command, const char *request)
{
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    ReplyTo reply_to = PERDURE__V1__REPLY_TO__INIT;
    trial_header(&header, PERDURE__V1__KIND__KIND_COMMAND);
    header.job = (char *)job;
    header.slot = slot_of(job);
    header.born = header.t = trial->wall_ms;
    reply_to.client = 7;
    command->request = (char *)request;
    command->reply_to = &reply_to;
    record.header = &header;
    record.command = command;
    size_t size;
    void *data = record_encode(&record, &size);
    stream_push(trial, &trial->inbox, data, size);
    free(data);
}

void trial_start(struct trial *trial, const char *job, const char *type, const char *text, const char *request)
{
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Start start = PERDURE__V1__START__INIT;
    Payload input = PERDURE__V1__PAYLOAD__INIT;
    input.type = (char *)"text";
    input.data = (ProtobufCBinaryData){ strlen(text), (uint8_t *)(uintptr_t)text };
    start.type = (char *)type;
    start.input = &input;
    command.kind_case = PERDURE__V1__COMMAND__KIND_START;
    command.start = &start;
    trial_command(trial, job, &command, request);
}

void trial_signal(struct trial *trial, const char *job, const char *name, const char *text, const char *request)
{
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Signal signal = PERDURE__V1__SIGNAL__INIT;
    Payload payload = PERDURE__V1__PAYLOAD__INIT;
    payload.type = (char *)"text";
    payload.data = (ProtobufCBinaryData){ strlen(text), (uint8_t *)(uintptr_t)text };
    signal.name = (char *)name;
    signal.payload = &payload;
    command.kind_case = PERDURE__V1__COMMAND__KIND_SIGNAL;
    command.signal = &signal;
    trial_command(trial, job, &command, request);
}

void trial_cancel(struct trial *trial, const char *job)
{
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Cancel cancel = PERDURE__V1__CANCEL__INIT;
    command.kind_case = PERDURE__V1__COMMAND__KIND_CANCEL;
    command.cancel = &cancel;
    trial_command(trial, job, &command, "cancel");
}

void trial_terminate(struct trial *trial, const char *job)
{
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Terminate terminate = PERDURE__V1__TERMINATE__INIT;
    command.kind_case = PERDURE__V1__COMMAND__KIND_TERMINATE;
    command.terminate = &terminate;
    trial_command(trial, job, &command, "terminate");
}

void trial_resume(struct trial *trial, const char *job)
{
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Resume resume = PERDURE__V1__RESUME__INIT;
    command.kind_case = PERDURE__V1__COMMAND__KIND_RESUME;
    command.resume = &resume;
    trial_command(trial, job, &command, "resume");
}

const char *trial_state(struct trial *trial, const char *job)
{
    static char state[32];
    Status *status = engine_status(trial->workers[0].engine, job);
    snprintf(state, sizeof state, "%s", status ? status->state : "");
    if (status)
        status_free(status);
    return state;
}
