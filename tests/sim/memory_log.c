#include "memory_log.h"

#include <stdlib.h>
#include <string.h>

struct blob *blob_new(const void *data, size_t size)
{
    struct blob *blob = malloc(sizeof *blob + size);
    if (!blob)
        abort();
    blob->references = 1;
    blob->size = size;
    if (size > 0)
        memcpy(blob->data, data, size);
    return blob;
}

struct blob *blob_share(struct blob *blob)
{
    if (blob)
        blob->references++;
    return blob;
}

void blob_release(struct blob *blob)
{
    if (blob && --blob->references == 0)
        free(blob);
}

int64_t memory_stream_append(struct memory_stream *stream, struct blob *blob, int64_t append_ms)
{
    if (stream->end == stream->capacity) {
        stream->capacity = stream->capacity ? stream->capacity * 2 : 256;
        stream->records = realloc(stream->records, (size_t)stream->capacity * sizeof *stream->records);
        if (!stream->records)
            abort();
    }
    stream->records[stream->end] = (struct memory_record){ .blob = blob_share(blob), .append_ms = append_ms };
    return stream->end++;
}

void memory_stream_truncate(struct memory_stream *stream, int64_t end)
{
    while (stream->end > end)
        blob_release(stream->records[--stream->end].blob);
    if (stream->safe > end)
        stream->safe = end;
}

void memory_stream_clear(struct memory_stream *stream)
{
    memory_stream_truncate(stream, 0);
    free(stream->records);
    memset(stream, 0, sizeof *stream);
}
