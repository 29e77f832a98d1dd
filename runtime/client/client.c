/*
 * A client's log and its questions: appended, appended again, answered.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "client/internal.h"
#include "constants.h"
#include "wire/token.h"

int64_t client_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

int64_t client_monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static void client_random(void *bytes, size_t size)
{
    if (getrandom(bytes, size, 0) == (ssize_t)size)
        return;
    uint64_t seed[3] = {(uint64_t)client_wall_ms(), (uint64_t)getpid(), (uint64_t)(uintptr_t)bytes}; /* no entropy yet */
    for (size_t i = 0; i < size; i++) {
        seed[2] = hash64(seed, sizeof seed);
        ((uint8_t *)bytes)[i] = (uint8_t)seed[2];
    }
}

int client_fail(struct client *client, int exit_code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(client->error, sizeof client->error, format, arguments);
    va_end(arguments);
    client->error_exit = exit_code;
    return exit_code;
}

int client_log_failed(struct client *client)
{
    const struct log *log = client->log;
    return client_fail(client, log->error_exit ? log->error_exit : EXIT_UNREACHABLE, "%s", log->error);
}

const char *client_error(const struct client *client)
{
    return client->error;
}

int client_error_exit(const struct client *client)
{
    return client->error_exit;
}

const Genesis *client_genesis(const struct client *client)
{
    return &client->log->genesis;
}

const char *client_default_log(void)
{
    const char *set = getenv("PERDURE_LOG");
    return set ? set : "sqlite:perdure.db";
}

/* ---- what the log tells ---------------------------------------------------------------------- */

static struct question *client_find(struct client *client, uint64_t correlation)
{
    struct question *question = client->buckets[correlation % CLIENT_BUCKETS];
    while (question && question->correlation != correlation)
        question = question->next_in_bucket;
    return question;
}

static void client_resend_at(struct client *client, struct question *question, int64_t at)
{
    question->resend_at = at;
    if (at < client->next_resend)
        client->next_resend = at;
}

static void client_on_delivered(void *context, uint64_t cookie, enum log_delivery delivery, int64_t offset)
{
    struct client *client = context;
    struct question *question = client_find(client, cookie);
    if (!question)
        return;
    question->appending = false;
    if (log_has(delivery, offset))
        question->in_log = true;
    else
        client_resend_at(client, question, client_monotonic_ms() + 100); /* again, with the same request id */
}

static void client_on_reply(void *context, const Reply *reply)
{
    struct client *client = context;
    if (reply->client != client->id)
        return;
    struct question *question = client_find(client, reply->correlation);
    if (!question || question->ended)
        return;
    Reply *copy = reply_copy(reply);
    if (!copy)
        return; /* it is asked again */
    question->in_log = true;
    bool ended = strcmp(reply->answer, "ended") == 0;
    if (ended || (reply->final && !question->answer))
        question->ended = copy;
    if (!question->answer)
        question->answer = copy;
    else if (!ended)
        reply_free(copy); /* a second answer to a second append */
    if (question->on_answer)
        question->on_answer(question->context, question);
}

static void client_on_fault(void *context, enum log_fault fault, uint32_t partition, const char *message)
{
    struct client *client = context;
    if (fault == LOG_OUT_OF_RANGE && client->reader && client->reader->partition == partition)
        client->reader->out_of_range = true;
    if (fault == LOG_UNREACHABLE)
        snprintf(client->trouble, sizeof client->trouble, "%s", message ? message : "");
    if (fault == LOG_FATAL) {
        client_fail(client, client->log->error_exit ? client->log->error_exit : EXIT_UNREACHABLE, "%s",
                    message ? message : client->log->error);
        client->fatal = true;
    }
}

static void client_on_record(void *context, const struct log_record *record)
{
    struct client *client = context;
    struct client_reader *reader = client->reader;
    if (reader && reader->stream == record->stream && reader->partition == record->partition && !reader->done)
        reader->record(reader->context, record);
}

static void client_on_end(void *context, enum log_stream stream, uint32_t partition, int64_t end)
{
    struct client *client = context;
    struct client_reader *reader = client->reader;
    if (reader && reader->stream == stream && reader->partition == partition) {
        reader->done = true;
        reader->end = end;
    }
}

static void client_on_partition(void *context, uint32_t partition)
{
    (void)context; /* a client is never assigned anything */
    (void)partition;
}

/* ---- open and close -------------------------------------------------------------------------- */

int client_use(struct log *log, struct client **out)
{
    struct client *client = *out = calloc(1, sizeof *client);
    if (!client)
        return EXIT_UNREACHABLE;
    client->log = log;
    client->next_resend = INT64_MAX;
    client_random(&client->id, sizeof client->id);
    client_random(&client->correlation, sizeof client->correlation);
    struct log_handler handler = {
        .context = client,
        .record = client_on_record,
        .end = client_on_end,
        .delivered = client_on_delivered,
        .assigned = client_on_partition,
        .revoked = client_on_partition,
        .fault = client_on_fault,
        .reply = client_on_reply,
    };
    log_set_handler(log, &handler);
    return EXIT_OK;
}

int client_open(const char *uri, const struct client_options *options, struct client **out, char *error,
                size_t error_size)
{
    struct log_options log_options = {
        .client_name = options->name ? options->name : "perdure-client",
        .create = options->create,
        .read_only = options->read_only,
    };
    struct log *log = NULL;
    *out = NULL;
    int code = log_open(uri, &log_options, &log, error, error_size);
    if (!log)
        return code > 0 ? code : EXIT_UNREACHABLE;
    code = client_use(log, out);
    if (code != EXIT_OK) {
        snprintf(error, error_size, "out of memory");
        log->operations->close(log);
    }
    return code;
}

void client_close(struct client *client)
{
    if (!client)
        return;
    while (client->questions)
        client_forget(client, client->questions);
    client->log->operations->close(client->log);
    free(client);
}

/* ---- questions ------------------------------------------------------------------------------- */

const char *client_job_id_error(const char *id)
{
    size_t length = strlen(id);
    if (length == 0)
        return "a job id must not be empty";
    if (length > JOB_ID_LIMIT_BYTES)
        return "a job id may have at most 255 bytes";
    if (strncmp(id, "type:", 5) == 0)
        return "a job id must not begin with \"type:\" (registrations are kept under such names)";
    for (const unsigned char *c = (const unsigned char *)id; *c; c++)
        if (*c < 0x20 || *c == 0x7f)
            return "a job id must not contain control characters";
    return utf8_valid(id, length) ? NULL : "a job id must be UTF-8";
}

static bool client_utf8(struct client *client, const char *what, const char *text)
{
    if (utf8_valid(text, strlen(text)))
        return true;
    client_fail(client, EXIT_USAGE, "%s is not UTF-8", what);
    return false;
}

static bool client_reason_fits(struct client *client, const char *reason)
{
    size_t length = strlen(reason);
    if (length <= REASON_LIMIT_BYTES)
        return client_utf8(client, "the reason", reason);
    client_fail(client, EXIT_USAGE, "the reason has %zu bytes, at most %d are allowed", length, REASON_LIMIT_BYTES);
    return false;
}

/* A record with a string that is not UTF-8 is unreadable to everyone but us, and stays so: no copy of it can be repaired. */
static bool client_texts_fit(struct client *client, const Command *command)
{
    const Error *error;
    switch (command->kind_case) {
    case PERDURE__V1__COMMAND__KIND_START:
        return client_utf8(client, "the job type", command->start->type);
    case PERDURE__V1__COMMAND__KIND_SIGNAL:
        if (name_valid(command->signal->name, strlen(command->signal->name), SIGNAL_NAME_LIMIT_BYTES))
            return true;
        client_fail(client, EXIT_USAGE, "the name of a signal has 1 to %d bytes of UTF-8 without control characters",
                    SIGNAL_NAME_LIMIT_BYTES);
        return false;
    case PERDURE__V1__COMMAND__KIND_CANCEL:
        return client_reason_fits(client, command->cancel->reason);
    case PERDURE__V1__COMMAND__KIND_TERMINATE:
        return client_reason_fits(client, command->terminate->reason);
    case PERDURE__V1__COMMAND__KIND_RESUME:
        return client_reason_fits(client, command->resume->reason);
    case PERDURE__V1__COMMAND__KIND_TASK_REPORT:
        error = command->task_report->kind_case == PERDURE__V1__TASK_REPORT__KIND_FAILED ? command->task_report->failed : NULL;
        return !error || (client_utf8(client, "the type of the error", error->type) &&
                          client_utf8(client, "the message of the error", error->message));
    default:
        return true;
    }
}

static const char *client_command_name(const Command *command)
{
    switch (command->kind_case) {
    case PERDURE__V1__COMMAND__KIND_START:
        return "start";
    case PERDURE__V1__COMMAND__KIND_SIGNAL:
        return "signal";
    case PERDURE__V1__COMMAND__KIND_CANCEL:
        return "cancel";
    case PERDURE__V1__COMMAND__KIND_TERMINATE:
        return "terminate";
    case PERDURE__V1__COMMAND__KIND_RESUME:
        return "resume";
    case PERDURE__V1__COMMAND__KIND_TASK_REPORT:
        return "complete";
    case PERDURE__V1__COMMAND__KIND_GROW:
        return "grow";
    default:
        return "watch";
    }
}

/* Fills header and record of a new question; the command's reply_to is set for the time of the encoding. */
static bool client_encode(struct client *client, struct question *question, Command *command)
{
    const Genesis *genesis = &client->log->genesis;
    ReplyTo reply_to = PERDURE__V1__REPLY_TO__INIT;
    Record record = PERDURE__V1__RECORD__INIT;
    Header *header = &question->header;
    perdure__v1__header__init(header);
    header->format = FORMAT_VERSION;
    header->rule_level = genesis->rule_level;
    header->min_reader = 1;
    header->log = (uint32_t)genesis->log_id;
    header->kind = PERDURE__V1__KIND__KIND_COMMAND;
    header->slot = slot_of(question->job);
    header->map_version = genesis->map_version ? genesis->map_version : 1;
    header->job = question->job;
    header->born = client_wall_ms(); /* rule 14 */
    header->t = header->born;
    header->first = -1;
    header->name = (char *)client_command_name(command);
    struct token token;
    if (command->kind_case == PERDURE__V1__COMMAND__KIND_TASK_REPORT && token_read(command->task_report->token, &token))
        header->run = token.run; /* rule 14: results name their run */
    /* Without an address no answer comes; the status record is asked then. */
    if (client->log->operations->reply_address(client->log, &reply_to) == LOG_OK)
        client->id = reply_to.client;
    else
        reply_to.client = client->id;
    reply_to.correlation = question->correlation;
    char *request = command->request;
    command->request = question->request;
    command->reply_to = &reply_to;
    record.header = header;
    record.command = command;
    question->record = record_encode(&record, &question->size);
    command->request = request;
    command->reply_to = NULL;
    return question->record != NULL;
}

static bool client_append(struct client *client, struct question *question)
{
    struct log_message message = {*question->job ? question->job : NULL, question->record, question->size, &question->header};
    struct log *log = client->log;
    int code = log->operations->append(log, LOG_INBOX, question->partition, &message, question->correlation);
    int64_t now = client_monotonic_ms();
    if (code == LOG_FULL) {
        client_resend_at(client, question, now + 10);
        return true;
    }
    if (code != LOG_OK) {
        client_log_failed(client);
        return false;
    }
    question->appending = true;
    client_resend_at(client, question, now + question->resend_after);
    question->resend_after *= 2;
    if (question->resend_after > CLIENT_RESEND_MAX_MS)
        question->resend_after = CLIENT_RESEND_MAX_MS;
    if (log->operations->flush && log->operations->flush(log) != LOG_OK) {
        client_log_failed(client);
        return false;
    }
    return true;
}

static size_t client_payload_size(const Command *command)
{
    const Payload *payload = NULL;
    if (command->kind_case == PERDURE__V1__COMMAND__KIND_START)
        payload = command->start->input;
    else if (command->kind_case == PERDURE__V1__COMMAND__KIND_SIGNAL)
        payload = command->signal->payload;
    else if (command->kind_case == PERDURE__V1__COMMAND__KIND_TASK_REPORT &&
             command->task_report->kind_case == PERDURE__V1__TASK_REPORT__KIND_COMPLETED)
        payload = command->task_report->completed;
    return payload ? payload->data.len : 0;
}

static void client_link(struct client *client, struct question *question)
{
    struct question **bucket = &client->buckets[question->correlation % CLIENT_BUCKETS];
    question->next = client->questions;
    question->link = &client->questions;
    if (question->next)
        question->next->link = &question->next;
    client->questions = question;
    question->next_in_bucket = *bucket;
    *bucket = question;
}

static void client_unlink(struct client *client, struct question *question)
{
    struct question **bucket = &client->buckets[question->correlation % CLIENT_BUCKETS];
    *question->link = question->next;
    if (question->next)
        question->next->link = question->link;
    while (*bucket != question)
        bucket = &(*bucket)->next_in_bucket;
    *bucket = question->next_in_bucket;
}

static struct question *client_ask_at(struct client *client, const char *job, uint32_t partition, Command *command)
{
    if (client_payload_size(command) > PAYLOAD_LIMIT_BYTES) { /* H20 */
        client_fail(client, EXIT_USAGE, "the payload has %zu bytes, at most %d fit; store it elsewhere and pass its place",
                    client_payload_size(command), PAYLOAD_LIMIT_BYTES);
        return NULL;
    }
    if (command->request && strlen(command->request) > REQUEST_ID_LIMIT_BYTES) { /* cut short it could be another one's */
        client_fail(client, EXIT_USAGE, "the request id has %zu bytes, at most %d are allowed", strlen(command->request),
                    REQUEST_ID_LIMIT_BYTES);
        return NULL;
    }
    if (!client_utf8(client, "the request id", command->request ? command->request : "") || !client_texts_fit(client, command))
        return NULL;
    struct question *question = calloc(1, sizeof *question);
    if (question)
        question->job = strdup(job);
    if (!question || !question->job) {
        free(question);
        client_fail(client, EXIT_UNREACHABLE, "out of memory");
        return NULL;
    }
    uint64_t random[2];
    client_random(random, sizeof random);
    if (command->request && *command->request)
        snprintf(question->request, sizeof question->request, "%s", command->request);
    else
        snprintf(question->request, sizeof question->request, "c-%016llx%016llx", (unsigned long long)random[0],
                 (unsigned long long)random[1]);
    question->correlation = ++client->correlation;
    question->partition = partition;
    question->resend_after = CLIENT_RESEND_MS;
    client_link(client, question);
    if (!client_encode(client, question, command)) {
        client_fail(client, EXIT_UNREACHABLE, "out of memory");
    } else if (question->size > RECORD_LIMIT_BYTES) {
        client_fail(client, EXIT_USAGE, "the command has %zu bytes, at most %d fit", question->size, RECORD_LIMIT_BYTES);
    } else if (client_append(client, question)) {
        return question;
    }
    client_forget(client, question);
    return NULL;
}

struct question *client_ask(struct client *client, const char *job, Command *command)
{
    const char *wrong = client_job_id_error(job);
    if (wrong) {
        client_fail(client, EXIT_USAGE, "%s", wrong);
        return NULL;
    }
    return client_ask_at(client, job, partition_of(job, client->log->genesis.partitions), command);
}

struct question *client_ask_partition(struct client *client, uint32_t partition, Command *command)
{
    return client_ask_at(client, "", partition, command);
}

void client_forget(struct client *client, struct question *question)
{
    if (!question)
        return;
    client_unlink(client, question);
    if (question->ended != question->answer)
        reply_free(question->ended);
    reply_free(question->answer);
    free(question->record);
    free(question->job);
    free(question);
}

/* Appends again what is due, and finds out when the next one is. */
static bool client_resend(struct client *client, int64_t now)
{
    int64_t next = INT64_MAX;
    client->next_resend = INT64_MAX;
    for (struct question *question = client->questions; question; question = question->next) {
        if (question->answer)
            continue;
        if (now >= question->resend_at && !client_append(client, question))
            return false;
        if (question->resend_at < next)
            next = question->resend_at;
    }
    client->next_resend = next;
    return true;
}

bool client_poll(struct client *client, int64_t timeout_ms)
{
    int64_t now = client_monotonic_ms();
    if (now >= client->next_resend && !client_resend(client, now))
        return false;
    if (client->next_resend - now < timeout_ms)
        timeout_ms = client->next_resend > now ? client->next_resend - now : 0;
    if (timeout_ms > 1000)
        timeout_ms = 1000;
    if (client->log->operations->poll(client->log, (int)timeout_ms) < 0 && !client->fatal) {
        client_log_failed(client);
        return false;
    }
    return !client->fatal;
}

enum client_outcome client_wait(struct client *client, struct question *question, int64_t timeout_ms,
                                int64_t patience_ms)
{
    int64_t deadline = client_monotonic_ms() + timeout_ms, quiet = INT64_MAX;
    while (!question->answer) {
        int64_t now = client_monotonic_ms();
        if (question->in_log && quiet == INT64_MAX)
            quiet = patience_ms > INT64_MAX - now ? INT64_MAX - 1 : now + patience_ms;
        int64_t until = quiet < deadline ? quiet : deadline;
        if (now >= until)
            return question->in_log ? CLIENT_QUEUED : CLIENT_SENT_NOWHERE;
        if (!client_poll(client, until - now))
            return CLIENT_BROKEN;
    }
    return CLIENT_ANSWERED;
}
