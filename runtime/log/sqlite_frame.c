/*
 * Framing on the socket of an embedded log.
 */
#include "log/sqlite_frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "wire/pack.h"
#include "wire/wire.h"

#define LENGTH_BYTES 4

void sqlite_buffer_free(struct sqlite_buffer *buffer)
{
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

static bool buffer_reserve(struct sqlite_buffer *buffer, size_t size)
{
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
    if (buffer->end + size <= buffer->room)
        return true;
    if (buffer->start > 0) {
        memmove(buffer->data, buffer->data + buffer->start, sqlite_buffer_size(buffer));
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    size_t room = buffer->room ? buffer->room : 4096;
    while (room < buffer->end + size)
        room *= 2;
    uint8_t *grown = room == buffer->room ? buffer->data : realloc(buffer->data, room);
    if (grown == NULL)
        return false;
    buffer->data = grown;
    buffer->room = room;
    return true;
}

ssize_t sqlite_buffer_receive(struct sqlite_buffer *buffer, int fd, size_t most)
{
    if (!buffer_reserve(buffer, most))
        return -1;
    ssize_t got;
    do
        got = recv(fd, buffer->data + buffer->end, most, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        buffer->end += (size_t)got;
        return got;
    }
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : -1;
}

ssize_t sqlite_buffer_send(struct sqlite_buffer *buffer, int fd)
{
    ssize_t sent;
    do
        sent = send(fd, buffer->data + buffer->start, sqlite_buffer_size(buffer), MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        buffer->start += (size_t)sent;
        if (buffer->start == buffer->end && buffer->room > 256 * 1024)
            sqlite_buffer_free(buffer); /* one big answer must not hold its memory for ever */
        return sent;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
}

bool sqlite_frame_put(struct sqlite_buffer *buffer, const SocketFrame *frame)
{
    size_t size;
    uint8_t *bytes = wire_pack(&frame->base, LENGTH_BYTES, &size);
    bool taken = bytes != NULL && size - LENGTH_BYTES <= UINT32_MAX && buffer_reserve(buffer, size);
    if (taken) {
        for (int i = 0; i < LENGTH_BYTES; i++)
            bytes[i] = (uint8_t)((size - LENGTH_BYTES) >> (8 * i));
        memcpy(buffer->data + buffer->end, bytes, size);
        buffer->end += size;
    }
    free(bytes);
    return taken;
}

enum sqlite_frame_result sqlite_frame_get(struct sqlite_buffer *buffer, size_t limit, SocketFrame **out)
{
    *out = NULL;
    if (sqlite_buffer_size(buffer) < LENGTH_BYTES)
        return SQLITE_FRAME_PARTIAL;
    const uint8_t *at = buffer->data + buffer->start;
    size_t size = (size_t)at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16 | (size_t)at[3] << 24;
    if (size > limit)
        return SQLITE_FRAME_BAD;
    if (sqlite_buffer_size(buffer) < LENGTH_BYTES + size)
        return SQLITE_FRAME_PARTIAL;
    /* Not protobuf-c's unpack: it recurses into the causes of an error, and a hostile frame would nest them deeper than
     * the stack. */
    *out = (SocketFrame *)wire_decode(&perdure__v1__socket_frame__descriptor, at + LENGTH_BYTES, size);
    buffer->start += LENGTH_BYTES + size;
    return *out != NULL ? SQLITE_FRAME_GOT : SQLITE_FRAME_BAD;
}

void sqlite_frame_free(SocketFrame *frame) { perdure__v1__socket_frame__free_unpacked(frame, NULL); }

bool sqlite_frame_put_failure(struct sqlite_buffer *buffer, uint64_t id, enum sqlite_failure code, const char *message)
{
    SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
    Perdure__V1__SocketFailure failure = PERDURE__V1__SOCKET_FAILURE__INIT;
    failure.code = code;
    failure.message = (char *)(uintptr_t)message;
    frame.id = id;
    frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_FAILURE;
    frame.failure = &failure;
    return sqlite_frame_put(buffer, &frame);
}

bool sqlite_frame_put_submitted(struct sqlite_buffer *buffer, uint64_t id, const struct sqlite_op *op)
{
    SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
    Perdure__V1__SocketSubmitted submitted = PERDURE__V1__SOCKET_SUBMITTED__INIT;
    submitted.offset = op->offset;
    submitted.repeated_request = op->repeated;
    frame.id = id;
    frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_SUBMITTED;
    frame.submitted = &submitted;
    return sqlite_frame_put(buffer, &frame);
}

bool sqlite_frame_put_welcome(struct sqlite_buffer *buffer, uint64_t id, const Genesis *genesis, int pid)
{
    SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
    Perdure__V1__SocketWelcome welcome = PERDURE__V1__SOCKET_WELCOME__INIT;
    welcome.genesis = (Genesis *)(uintptr_t)genesis;
    welcome.pid = pid;
    frame.id = id;
    frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_WELCOME;
    frame.welcome = &welcome;
    return sqlite_frame_put(buffer, &frame);
}
