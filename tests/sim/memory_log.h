/* The log of the simulator: per partition an inbox and a journal in memory. A record's offset is its index; a hole (an
 * offset without a record, as Kafka leaves them) has no blob. What was acknowledged is below `safe`. */
#ifndef SIM_MEMORY_LOG_H
#define SIM_MEMORY_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blob {
    uint32_t references;
    size_t size;
    uint8_t data[];
};

struct blob *blob_new(const void *data, size_t size);
struct blob *blob_share(struct blob *blob);
void blob_release(struct blob *blob);

struct memory_record {
    struct blob *blob; /* NULL: a hole */
    int64_t append_ms;
    uint32_t kind;  /* of a journal record */
    uint64_t nonce; /* of a Claim */
    /* Of a session that was not told yet: it sends again what a truncation takes. */
    uint64_t session, cookie;
};

struct memory_stream {
    struct memory_record *records;
    int64_t end;
    int64_t capacity;
    int64_t start; /* trimmed below; the records stay for the checks */
    int64_t safe;  /* below it a truncation in the safe mode takes nothing: acknowledged */
};

int64_t memory_stream_append(struct memory_stream *stream, struct blob *blob, int64_t append_ms);
void memory_stream_truncate(struct memory_stream *stream, int64_t end);
void memory_stream_clear(struct memory_stream *stream);

#endif
