/*
 * Answers to what clients ask of an embedded log: given by the owner over its socket, or by a client to itself while it
 * holds the lock for one operation.
 */
#include "log/sqlite_frame.h"

#include <stdlib.h>
#include <string.h>

typedef Perdure__V1__SocketRow SocketRow;
typedef Perdure__V1__SocketRows SocketRows;
typedef Perdure__V1__SocketStatus SocketStatus;
typedef Perdure__V1__SocketStatuses SocketStatuses;

static SocketFrame answer_to(const SocketFrame *request)
{
    SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
    frame.id = request->id;
    return frame;
}

static bool serve_rows(struct sqlite_db *db, const SocketFrame *request, const struct sqlite_rows *rows,
                       enum log_stream stream, uint32_t partition, struct sqlite_buffer *answer)
{
    SocketRow *each = calloc(rows->count + 1, sizeof *each);
    SocketRow **list = calloc(rows->count + 1, sizeof *list);
    SocketRows message = PERDURE__V1__SOCKET_ROWS__INIT;
    SocketFrame frame = answer_to(request);
    bool put = false;
    if (each != NULL && list != NULL) {
        for (size_t i = 0; i < rows->count; i++) {
            perdure__v1__socket_row__init(&each[i]);
            each[i].offset = rows->rows[i].offset;
            each[i].append_ms = rows->rows[i].append_ms;
            each[i].record.data = (uint8_t *)(uintptr_t)rows->rows[i].data;
            each[i].record.len = rows->rows[i].size;
            list[i] = &each[i];
        }
        message.n_rows = rows->count;
        message.rows = list;
        message.next = rows->next;
        message.more = rows->more;
        message.start = db->starts[stream][partition];
        message.end = db->ends[stream];
        frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_ROWS;
        frame.rows = &message;
        put = sqlite_frame_put(answer, &frame);
    }
    free(each);
    free(list);
    return put;
}

static bool serve_statuses(const SocketFrame *request, const struct sqlite_rows *rows, struct sqlite_buffer *answer)
{
    SocketStatus *each = calloc(rows->count + 1, sizeof *each);
    SocketStatus **list = calloc(rows->count + 1, sizeof *list);
    SocketStatuses message = PERDURE__V1__SOCKET_STATUSES__INIT;
    SocketFrame frame = answer_to(request);
    bool put = false;
    if (each != NULL && list != NULL) {
        for (size_t i = 0; i < rows->count; i++) {
            perdure__v1__socket_status__init(&each[i]);
            each[i].key = (char *)(uintptr_t)rows->rows[i].key;
            each[i].row.data = (uint8_t *)(uintptr_t)rows->rows[i].data;
            each[i].row.len = rows->rows[i].size;
            list[i] = &each[i];
        }
        message.n_statuses = rows->count;
        message.statuses = list;
        message.more = rows->more;
        frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_STATUSES;
        frame.statuses = &message;
        put = sqlite_frame_put(answer, &frame);
    }
    free(each);
    free(list);
    return put;
}

static bool serve_range(struct sqlite_db *db, const SocketFrame *request, struct sqlite_buffer *answer)
{
    Perdure__V1__SocketRange range = PERDURE__V1__SOCKET_RANGE__INIT;
    range.start = db->starts[request->bounds->stream][request->bounds->partition];
    range.end = db->ends[request->bounds->stream];
    SocketFrame frame = answer_to(request);
    frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_RANGE;
    frame.range = &range;
    return sqlite_frame_put(answer, &frame);
}

/* Stream and partition a request names; false: there are none such. */
static bool serve_where(const struct sqlite_db *db, const SocketFrame *request, enum log_stream *stream,
                        uint32_t *partition)
{
    uint32_t number = 0;
    *partition = 0;
    switch (request->kind_case) {
    case PERDURE__V1__SOCKET_FRAME__KIND_READ:
        number = request->read->stream;
        *partition = request->read->partition;
        break;
    case PERDURE__V1__SOCKET_FRAME__KIND_BOUNDS:
        number = request->bounds->stream;
        *partition = request->bounds->partition;
        break;
    case PERDURE__V1__SOCKET_FRAME__KIND_HISTORY:
        *partition = request->history->partition;
        break;
    default:
        break;
    }
    *stream = number == LOG_INBOX ? LOG_INBOX : LOG_JOURNAL;
    return number <= LOG_INBOX && *partition < db->genesis->partitions;
}

bool sqlite_serve_must_wait(const struct sqlite_db *db, const SocketFrame *request)
{
    enum log_stream stream;
    uint32_t partition;
    return request->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_READ && request->read->wait &&
           serve_where(db, request, &stream, &partition) && request->read->from == db->ends[stream];
}

bool sqlite_serve(struct sqlite_db *db, const SocketFrame *request, struct sqlite_buffer *answer)
{
    enum log_stream stream;
    uint32_t partition;
    if (!serve_where(db, request, &stream, &partition))
        return sqlite_frame_put_failure(answer, request->id, SQLITE_FAILURE_MALFORMED, "no such partition");
    struct sqlite_rows rows = {0};
    int result = LOG_OK;
    bool put;
    switch (request->kind_case) {
    case PERDURE__V1__SOCKET_FRAME__KIND_READ:
        result = sqlite_read(db, stream, partition, request->read->from, request->read->max_rows, &rows);
        put = result == LOG_OK && serve_rows(db, request, &rows, stream, partition, answer);
        break;
    case PERDURE__V1__SOCKET_FRAME__KIND_HISTORY:
        result = sqlite_read_history(db, partition, request->history->job, request->history->run,
                                     request->history->from, &rows);
        put = result == LOG_OK && serve_rows(db, request, &rows, LOG_JOURNAL, partition, answer);
        break;
    case PERDURE__V1__SOCKET_FRAME__KIND_GET_STATUS:
        result = sqlite_read_status(db, request->get_status->key, &rows);
        put = result == LOG_OK && serve_statuses(request, &rows, answer);
        break;
    case PERDURE__V1__SOCKET_FRAME__KIND_EACH_STATUS:
        result = sqlite_read_statuses(db, request->each_status->prefix, request->each_status->after, &rows);
        put = result == LOG_OK && serve_statuses(request, &rows, answer);
        break;
    case PERDURE__V1__SOCKET_FRAME__KIND_BOUNDS:
        put = serve_range(db, request, answer);
        break;
    default:
        put = sqlite_frame_put_failure(answer, request->id, SQLITE_FAILURE_MALFORMED, "not a request");
        break;
    }
    sqlite_rows_free(&rows);
    return result == LOG_OK ? put : sqlite_frame_put_failure(answer, request->id, SQLITE_FAILURE_BROKEN, db->error);
}
