/*
 * Questions to an embedded log: over the owner's socket, or, while there is no owner, from the file under the lock;
 * again and again until an answer or the deadline.
 */
#define _GNU_SOURCE
#include "log/sqlite_client.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Over the socket. False: no answer this way. */
static bool ask_owner(struct sqlite_client *client, SocketFrame *request, int64_t deadline, SocketFrame **answer)
{
    if (client->fd < 0 && !sqlite_client_connect(client))
        return false;
    bool asked = false;
    client->heard_at = sqlite_monotonic_ms();
    while (client->fd >= 0 && *answer == NULL) {
        if (client->welcome && !asked)
            asked = sqlite_frame_put(&client->out, request);
        sqlite_client_transfer(client, request->id, answer);
        int64_t now = sqlite_monotonic_ms();
        if (*answer != NULL || client->fd < 0)
            break;
        if (now > deadline || now - client->heard_at > SILENT_MS) {
            sqlite_client_disconnect(client);
            break;
        }
        if (client->welcome && !asked)
            continue;
        struct pollfd fd = {.fd = client->fd, .events = POLLIN};
        if (sqlite_buffer_size(&client->out) > 0)
            fd.events |= POLLOUT;
        poll(&fd, 1, 100);
    }
    return *answer != NULL;
}

static enum sqlite_open_result ask_file(struct sqlite_client *client, SocketFrame *request, SocketFrame **answer)
{
    struct sqlite_db *db;
    enum sqlite_open_result opened = sqlite_client_open_db(client, false, 0, &db);
    if (opened != SQLITE_OPENED)
        return opened;
    struct sqlite_buffer buffer = {0};
    if (!sqlite_serve(db, request, &buffer) || sqlite_frame_get(&buffer, UINT32_MAX, answer) != SQLITE_FRAME_GOT)
        sqlite_client_fail(client, "out of memory");
    sqlite_db_close(db);
    sqlite_buffer_free(&buffer);
    return *answer != NULL ? SQLITE_OPENED : SQLITE_OPEN_REFUSED;
}

/* The answer, to be freed; NULL: client->log.error. */
static SocketFrame *ask(struct sqlite_client *client, SocketFrame *request)
{
    int64_t deadline = sqlite_monotonic_ms() + CALL_MS, backoff = BACKOFF_FIRST_MS;
    SocketFrame *answer = NULL;
    request->id = ++client->last_frame;
    while (answer == NULL) {
        if (!ask_owner(client, request, deadline, &answer)) {
            enum sqlite_open_result opened = ask_file(client, request, &answer);
            if (opened == SQLITE_OPEN_MISSING || opened == SQLITE_OPEN_REFUSED)
                return NULL;
        }
        if (answer != NULL && answer->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_FAILURE) {
            sqlite_client_fail(client, answer->failure->message);
            sqlite_frame_free(answer);
            return NULL;
        }
        if (answer == NULL && sqlite_monotonic_ms() > deadline) {
            char text[480];
            snprintf(text, sizeof text, "%.400s, which does not answer", client->log.error);
            sqlite_client_fail(client, text);
            return NULL;
        }
        if (answer == NULL) {
            usleep((useconds_t)backoff * 1000);
            backoff = backoff * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : backoff * 2;
        }
    }
    return answer;
}

int sqlite_client_bounds(struct log *log, enum log_stream stream, uint32_t partition, int64_t *start, int64_t *end)
{
    Perdure__V1__SocketBounds bounds = PERDURE__V1__SOCKET_BOUNDS__INIT;
    bounds.stream = stream;
    bounds.partition = partition;
    SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
    frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_BOUNDS;
    frame.bounds = &bounds;
    SocketFrame *answer = ask(sqlite_client_of(log), &frame);
    bool good = answer != NULL && answer->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_RANGE;
    if (good) {
        *start = answer->range->start;
        *end = answer->range->end;
    }
    sqlite_frame_free(answer);
    return good ? LOG_OK : LOG_FAILED;
}

int sqlite_client_get_status(struct log *log, const char *key, void **data, size_t *size)
{
    Perdure__V1__SocketGetStatus get = PERDURE__V1__SOCKET_GET_STATUS__INIT;
    get.key = (char *)(uintptr_t)key;
    SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
    frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_GET_STATUS;
    frame.get_status = &get;
    SocketFrame *answer = ask(sqlite_client_of(log), &frame);
    int result = LOG_FAILED;
    if (answer != NULL && answer->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_STATUSES) {
        result = LOG_NOT_FOUND;
        if (answer->statuses->n_statuses > 0) {
            const ProtobufCBinaryData *row = &answer->statuses->statuses[0]->row;
            *size = row->len;
            *data = malloc(row->len + 1);
            if (*data != NULL && row->len > 0)
                memcpy(*data, row->data, row->len);
            result = *data != NULL ? LOG_OK : sqlite_client_fail(sqlite_client_of(log), "out of memory");
        }
    }
    sqlite_frame_free(answer);
    return result;
}

int sqlite_client_each_status(struct log *log, const char *prefix,
                              bool (*visit)(void *context, const char *key, const void *data, size_t size),
                              void *context)
{
    char *after = strdup("");
    bool more = after != NULL, good = more;
    while (more) {
        Perdure__V1__SocketEachStatus each = PERDURE__V1__SOCKET_EACH_STATUS__INIT;
        each.prefix = (char *)(uintptr_t)(prefix != NULL ? prefix : "");
        each.after = after;
        SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
        frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_EACH_STATUS;
        frame.each_status = &each;
        SocketFrame *answer = ask(sqlite_client_of(log), &frame);
        good = answer != NULL && answer->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_STATUSES;
        more = good && answer->statuses->more && answer->statuses->n_statuses > 0;
        for (size_t i = 0; good && i < answer->statuses->n_statuses; i++) {
            const Perdure__V1__SocketStatus *status = answer->statuses->statuses[i];
            if (!visit(context, status->key, status->row.data, status->row.len)) {
                more = false;
                break;
            }
        }
        if (more) {
            free(after);
            after = strdup(answer->statuses->statuses[answer->statuses->n_statuses - 1]->key);
            more = after != NULL;
        }
        sqlite_frame_free(answer);
    }
    free(after);
    return good ? LOG_OK : LOG_FAILED;
}

int sqlite_client_history(struct log *log, uint32_t partition, const char *job, uint64_t run,
                          bool (*visit)(void *context, int64_t offset, const void *record, size_t size), void *context)
{
    bool more = true, good = true;
    int64_t from = 0;
    while (more) {
        Perdure__V1__SocketHistory history = PERDURE__V1__SOCKET_HISTORY__INIT;
        history.partition = partition;
        history.job = (char *)(uintptr_t)job;
        history.run = run;
        history.from = from;
        SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
        frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_HISTORY;
        frame.history = &history;
        SocketFrame *answer = ask(sqlite_client_of(log), &frame);
        good = answer != NULL && answer->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_ROWS;
        more = good && answer->rows->more;
        for (size_t i = 0; good && i < answer->rows->n_rows; i++) {
            const Perdure__V1__SocketRow *row = answer->rows->rows[i];
            if (!visit(context, row->offset, row->record.data, row->record.len)) {
                more = false;
                break;
            }
        }
        from = good ? answer->rows->next : 0;
        sqlite_frame_free(answer);
    }
    return good ? LOG_OK : LOG_FAILED;
}
