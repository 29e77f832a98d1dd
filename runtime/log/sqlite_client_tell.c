/*
 * What came for a client of an embedded log (records, ends, answers to appends, replies) is told to its handler.
 */
#include "log/sqlite_client.h"

#include <stdlib.h>

void sqlite_client_drop_pending(struct sqlite_client *client, struct pending **at)
{
    struct pending *gone = *at;
    *at = gone->next;
    if (client->pending_last == &gone->next)
        client->pending_last = at;
    client->pending_count--;
    free(gone);
}

static void tell_submitted(struct sqlite_client *client, const SocketFrame *frame)
{
    struct pending **at = &client->pending;
    while (*at != NULL && (*at)->frame != frame->id)
        at = &(*at)->next;
    if (*at == NULL)
        return; /* its deadline had passed */
    uint64_t cookie = (*at)->cookie;
    enum log_delivery delivery = LOG_PERSISTED;
    int64_t offset = -1;
    if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_SUBMITTED) {
        offset = frame->submitted->offset;
    } else if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_FAILURE &&
               frame->failure->code != SQLITE_FAILURE_BROKEN) {
        sqlite_client_fail(client, frame->failure->message);
        delivery = LOG_NOT_PERSISTED;
    } else {
        sqlite_client_disconnect(client); /* goes again */
        return;
    }
    sqlite_client_drop_pending(client, at);
    if (client->log.handler.delivered != NULL)
        client->log.handler.delivered(client->log.handler.context, cookie, delivery, offset);
}

static void tell_fault(struct sqlite_client *client, struct client_follower *follower, enum log_fault fault,
                       uint32_t partition, const char *message)
{
    follower->active = false;
    if (client->log.handler.fault != NULL)
        client->log.handler.fault(client->log.handler.context, fault, partition, message);
}

static void tell_rows(struct sqlite_client *client, uint32_t index, const Perdure__V1__SocketRows *rows)
{
    struct client_follower *follower = &client->followers[index];
    const struct log_handler *handler = &client->log.handler;
    enum log_stream stream = index & 1 ? LOG_INBOX : LOG_JOURNAL;
    uint32_t generation = follower->generation, partition = index / 2;
    if (follower->next < rows->start || follower->next > rows->end) {
        bool below = follower->next < rows->start;
        tell_fault(client, follower, below ? LOG_OUT_OF_RANGE : LOG_TRUNCATED, partition,
                   below ? "asked for records below the log's start" : "asked for records beyond the log's end");
        return;
    }
    for (size_t i = 0; i < rows->n_rows && follower->active && follower->generation == generation; i++) {
        const Perdure__V1__SocketRow *row = rows->rows[i];
        struct log_record record = {.stream = stream, .partition = partition, .offset = row->offset,
                                    .append_ms = row->append_ms, .leader_epoch = -1, .data = row->record.data,
                                    .size = row->record.len};
        follower->next = row->offset + 1;
        if (handler->record != NULL)
            handler->record(handler->context, &record);
    }
    if (!follower->active || follower->generation != generation)
        return;
    follower->next = rows->next;
    if (rows->more)
        return;
    bool tell = !follower->told_end || rows->n_rows > 0;
    follower->told_end = true;
    if (tell && handler->end != NULL)
        handler->end(handler->context, stream, partition, rows->next);
}

static void tell_frame(struct sqlite_client *client, const SocketFrame *frame)
{
    if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_REPLY) {
        if (client->log.handler.reply != NULL)
            client->log.handler.reply(client->log.handler.context, frame->reply);
        return;
    }
    for (uint32_t i = 0; frame->id != 0 && i < 2 * client->log.genesis.partitions; i++) {
        struct client_follower *follower = &client->followers[i];
        if (follower->frame != frame->id || !follower->active)
            continue;
        follower->frame = 0;
        if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_ROWS)
            tell_rows(client, i, frame->rows);
        else if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_FAILURE)
            tell_fault(client, follower, LOG_FATAL, i / 2, frame->failure->message);
        return;
    }
    tell_submitted(client, frame);
}

bool sqlite_client_tell(struct sqlite_client *client)
{
    bool told = false;
    while (client->arrived != NULL) {
        struct arrived *arrived = client->arrived;
        client->arrived = arrived->next;
        if (client->arrived == NULL)
            client->arrived_last = &client->arrived;
        tell_frame(client, arrived->frame);
        sqlite_frame_free(arrived->frame);
        free(arrived);
        told = true;
    }
    return told;
}

bool sqlite_client_expire(struct sqlite_client *client, int64_t now)
{
    bool told = false;
    for (struct pending **at = &client->pending; *at != NULL;) {
        if ((*at)->deadline > now) {
            at = &(*at)->next;
            continue;
        }
        uint64_t cookie = (*at)->cookie;
        enum log_delivery delivery = (*at)->sent_once ? LOG_POSSIBLY_PERSISTED : LOG_NOT_PERSISTED;
        sqlite_client_drop_pending(client, at);
        told = true;
        if (client->log.handler.delivered != NULL)
            client->log.handler.delivered(client->log.handler.context, cookie, delivery, -1);
        at = &client->pending;
    }
    return told;
}
