/*
 * Frames on the socket of an embedded log: 4 bytes length, little endian, then one perdure.v1.SocketFrame.
 */
#ifndef PERDURE_SQLITE_FRAME_H
#define PERDURE_SQLITE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "constants.h"
#include "log/sqlite_db.h"
#include "perdure/v1/socket.pb-c.h"

typedef Perdure__V1__SocketFrame SocketFrame;

/* From clients: one record and its envelope. From the owner: one chunk of rows, the last of which may be a whole record
 * beyond the chunk's size. */
#define SQLITE_REQUEST_LIMIT (RECORD_LIMIT_BYTES + 64 * 1024)
#define SQLITE_ANSWER_LIMIT (8 * 1024 * 1024 + WIRE_SIZE_LIMIT_BYTES)

enum sqlite_failure {
    SQLITE_FAILURE_OTHER_FILE = 1,
    SQLITE_FAILURE_MALFORMED = 2,
    SQLITE_FAILURE_BROKEN = 4,
};

struct sqlite_buffer {
    uint8_t *data;
    size_t start, end, room;
};

static inline size_t sqlite_buffer_size(const struct sqlite_buffer *buffer) { return buffer->end - buffer->start; }
void sqlite_buffer_free(struct sqlite_buffer *buffer);
/* One read() or send() of a non-blocking descriptor: bytes moved, 0 when it would block, -1 when the peer is gone. */
ssize_t sqlite_buffer_receive(struct sqlite_buffer *buffer, int fd, size_t most);
ssize_t sqlite_buffer_send(struct sqlite_buffer *buffer, int fd);

bool sqlite_frame_put(struct sqlite_buffer *buffer, const SocketFrame *frame); /* false: no memory */
enum sqlite_frame_result { SQLITE_FRAME_GOT, SQLITE_FRAME_PARTIAL, SQLITE_FRAME_BAD };
enum sqlite_frame_result sqlite_frame_get(struct sqlite_buffer *buffer, size_t limit, SocketFrame **out);
void sqlite_frame_free(SocketFrame *frame);

bool sqlite_frame_put_failure(struct sqlite_buffer *buffer, uint64_t id, enum sqlite_failure code, const char *message);
bool sqlite_frame_put_submitted(struct sqlite_buffer *buffer, uint64_t id, const struct sqlite_op *op);
bool sqlite_frame_put_welcome(struct sqlite_buffer *buffer, uint64_t id, const Genesis *genesis, int pid);

/* Answers what can be answered from the database at once: Read, Bounds, GetStatus, EachStatus, History. */
bool sqlite_serve(struct sqlite_db *db, const SocketFrame *request, struct sqlite_buffer *answer);
/* A Read that asks to wait, and there is nothing yet. */
bool sqlite_serve_must_wait(const struct sqlite_db *db, const SocketFrame *request);

#endif
