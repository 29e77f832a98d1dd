/*
 * What needs no owner: status records, registrations, and the journal, judged like every reader does (rules 1, 2, 23).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

#define READ_TIMEOUT_MS INT64_C(60000)

int client_read(struct client *client, struct client_reader *reader, int64_t from, int64_t timeout_ms)
{
    struct log *log = client->log;
    int64_t deadline = client_monotonic_ms() + timeout_ms;
    int code = EXIT_OK;
    client->reader = reader;
    if (log->operations->follow(log, reader->stream, reader->partition, from) != LOG_OK) {
        client->reader = NULL;
        return client_log_failed(client);
    }
    while (!reader->done && code == EXIT_OK) {
        int64_t now = client_monotonic_ms();
        if (reader->out_of_range)
            code = client_fail(client, EXIT_UNREACHABLE, "the log was cut while it was read: try again");
        else if (now >= deadline)
            code = client_fail(client, EXIT_UNREACHABLE, "the log did not deliver its records within %lld s%s%s",
                               (long long)timeout_ms / 1000, *client->trouble ? ": " : "", client->trouble);
        else if (!client_poll(client, deadline - now))
            code = client->error_exit;
    }
    log->operations->unfollow(log, reader->stream, reader->partition);
    client->reader = NULL;
    return code;
}

/* ---- status records -------------------------------------------------------------------------- */

int client_status(struct client *client, const char *job, Status **out)
{
    void *data = NULL;
    size_t size = 0;
    *out = NULL;
    int code = client->log->operations->get_status(client->log, job, &data, &size);
    if (code == LOG_NOT_FOUND)
        return client_fail(client, EXIT_NOT_FOUND, "there is no job \"%s\"", job);
    if (code != LOG_OK)
        return client_log_failed(client);
    *out = status_decode(data, size);
    free(data);
    return *out ? EXIT_OK : client_fail(client, EXIT_UNREACHABLE, "the status record of \"%s\" is damaged", job);
}

struct read_listing {
    bool (*visit)(void *context, const Status *status);
    void *context;
};

static bool read_list_row(void *context, const char *key, const void *data, size_t size)
{
    struct read_listing *listing = context;
    if (strncmp(key, "type:", 5) == 0)
        return true;
    Status *status = status_decode(data, size);
    if (!status)
        return true; /* one damaged hint hides no other job */
    bool more = listing->visit(listing->context, status);
    status_free(status);
    return more;
}

int client_list(struct client *client, bool (*visit)(void *context, const Status *status), void *context)
{
    struct read_listing listing = {visit, context};
    int code = client->log->operations->each_status(client->log, "", read_list_row, &listing);
    return code == LOG_OK ? EXIT_OK : client_log_failed(client);
}

static bool read_registration(void *context, const char *key, const void *data, size_t size)
{
    struct registrations *registrations = context;
    (void)key;
    Registration *registration = perdure__v1__registration__unpack(NULL, size, data);
    if (!registration)
        return true;
    Registration **grown = realloc(registrations->items, (registrations->count + 1) * sizeof *grown);
    if (!grown) {
        registration_free(registration);
        return false;
    }
    registrations->items = grown;
    registrations->items[registrations->count++] = registration;
    return true;
}

static int read_newest_first(const void *a, const void *b)
{
    const Registration *left = *(Registration *const *)a, *right = *(Registration *const *)b;
    int order = strcmp(left->module, right->module);
    return order ? order : (left->registered < right->registered) - (left->registered > right->registered);
}

int client_registrations(struct client *client, struct registrations *out)
{
    *out = (struct registrations){0};
    if (client->log->operations->each_status(client->log, "type:", read_registration, out) != LOG_OK) {
        registrations_free(out);
        return client_log_failed(client);
    }
    if (out->count > 0)
        qsort(out->items, out->count, sizeof *out->items, read_newest_first);
    return EXIT_OK;
}

void registrations_free(struct registrations *registrations)
{
    for (size_t i = 0; i < registrations->count; i++)
        registration_free(registrations->items[i]);
    free(registrations->items);
    *registrations = (struct registrations){0};
}

/* ---- starts that nobody has taken ------------------------------------------------------------ */

struct read_queue {
    const char *job;
    Status *found;   /* by the first start */
    int64_t offset;  /* of it */
    bool of_a_job;   /* which waits for its child */
};

static void read_queued_start(void *context, const struct log_record *record)
{
    struct read_queue *queue = context;
    Record *decoded = NULL;
    if (record_decode(record->data, record->size, &decoded) != WIRE_OK)
        return;
    const Command *command = decoded->command;
    if (!queue->found && command && command->kind_case == PERDURE__V1__COMMAND__KIND_START &&
        strcmp(decoded->header->job, queue->job) == 0) {
        Status status = PERDURE__V1__STATUS__INIT;
        status.id = decoded->header->job;
        status.type = command->start->type;
        status.state = (char *)"queued";
        status.created = decoded->header->born;
        status.updated = decoded->header->born;
        status.input = command->start->input;
        queue->found = status_copy(&status);
        queue->offset = record->offset;
        queue->of_a_job = decoded->header->sender && *decoded->header->sender->job;
    }
    record_free(decoded);
}

/* The first start of the job in the inbox from `from` on. */
static int read_queue(struct client *client, struct read_queue *queue, int64_t from)
{
    struct client_reader reader = {
        .stream = LOG_INBOX,
        .partition = partition_of(queue->job, client->log->genesis.partitions),
        .record = read_queued_start,
        .context = queue,
    };
    int64_t start = 0, end = 0;
    struct log *log = client->log;
    status_free(queue->found);
    queue->found = NULL;
    if (log->operations->bounds(log, LOG_INBOX, reader.partition, &start, &end) != LOG_OK)
        return client_log_failed(client);
    if (from < start)
        from = start;
    return end > from ? client_read(client, &reader, from, READ_TIMEOUT_MS) : EXIT_OK;
}

/* A job that has begun, and whose status record is still on its way. */
static void read_begun(Status *status, const struct history *history)
{
    const Header *last = history->records[history->count - 1].record->header;
    free(status->state);
    status->state = strdup("running");
    status->run = last->run;
    status->events = last->seq + last->count - 1;
    status->updated = last->t;
}

/* The start that was found may be one that an owner has dealt with: the inbox is kept for a while behind it. */
static int read_judge_queue(struct client *client, struct read_queue *queue)
{
    struct history *history;
    bool of_a_job = queue->of_a_job;
    int code = client_journal(client, queue->job, &history);
    if (code != EXIT_OK)
        return code;
    if (history->count > 0)
        read_begun(queue->found, history);
    else if (queue->offset < history->in_pos && (code = read_queue(client, queue, history->in_pos)) == EXIT_OK && !queue->found)
        code = client_fail(client, EXIT_NOT_FOUND, "there is no job \"%s\": its start was refused; %s says why", queue->job,
                           of_a_job ? "the history of the job that started it" : "the log of the worker that did");
    history_free(history);
    return code;
}

int client_describe(struct client *client, const char *job, Status **out)
{
    int code = client_status(client, job, out);
    if (code != EXIT_NOT_FOUND || client->log->genesis.partitions == 0)
        return code;
    struct read_queue queue = {.job = job};
    code = read_queue(client, &queue, 0);
    if (code == EXIT_OK && !queue.found)
        code = client_fail(client, EXIT_NOT_FOUND, "there is no job \"%s\"", job);
    if (code == EXIT_OK)
        code = read_judge_queue(client, &queue);
    if (code == EXIT_OK && !queue.found->state)
        code = client_fail(client, EXIT_UNREACHABLE, "out of memory");
    if (code == EXIT_OK)
        *out = queue.found;
    else
        status_free(queue.found);
    return code;
}
