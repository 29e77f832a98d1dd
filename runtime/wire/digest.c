/*
 * Digests (rules 6, 9, 33). The bytes that go into each are fixed in docs/format.md and by tests: never change them.
 */
#define XXH_INLINE_ALL /* most inputs are short: the call would cost as much as the hash */
#include <string.h>
#include <xxhash.h>

#include "wire/wire.h"

/* What is hashed, piece by piece. */
struct piece {
    const void *data;
    size_t size;
};

/* Shorter inputs are put together on the stack: setting up XXH3's streaming state costs more than the copy. */
#define GATHER_BYTES 1024

static size_t pieces_gather(uint8_t buffer[GATHER_BYTES], const struct piece *pieces, size_t count)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].size > GATHER_BYTES - used)
            return SIZE_MAX;
        if (pieces[i].size > 0)
            memcpy(buffer + used, pieces[i].data, pieces[i].size);
        used += pieces[i].size;
    }
    return used;
}

static digest pieces_hash128(const struct piece *pieces, size_t count)
{
    uint8_t buffer[GATHER_BYTES];
    XXH128_hash_t hash;
    size_t size = pieces_gather(buffer, pieces, count);
    if (size != SIZE_MAX) {
        hash = XXH3_128bits(buffer, size);
    } else {
        XXH3_state_t state;
        XXH3_128bits_reset(&state);
        for (size_t i = 0; i < count; i++)
            XXH3_128bits_update(&state, pieces[i].data, pieces[i].size);
        hash = XXH3_128bits_digest(&state);
    }
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    digest result;
    memcpy(result.bytes, canonical.digest, sizeof(result.bytes));
    return result;
}

static uint64_t pieces_hash64(const struct piece *pieces, size_t count)
{
    uint8_t buffer[GATHER_BYTES];
    size_t size = pieces_gather(buffer, pieces, count);
    if (size != SIZE_MAX)
        return XXH3_64bits(buffer, size);
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    for (size_t i = 0; i < count; i++)
        XXH3_64bits_update(&state, pieces[i].data, pieces[i].size);
    return XXH3_64bits_digest(&state);
}

struct le64 {
    uint8_t bytes[8];
};

static struct le64 le64_of(uint64_t value)
{
    struct le64 out;
    for (int i = 0; i < 8; i++)
        out.bytes[i] = (uint8_t)(value >> (8 * i));
    return out;
}

static uint64_t le64_get(const uint8_t *in)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)in[i] << (8 * i);
    return value;
}

digest digest_of_run(uint64_t run)
{
    struct le64 le = le64_of(run);
    digest result = {{0}};
    memcpy(result.bytes, le.bytes, sizeof(le.bytes));
    return result;
}

digest digest_next(digest previous, const void *event, size_t size)
{
    struct le64 length = le64_of(size);
    struct piece pieces[] = {
        {previous.bytes, sizeof(previous.bytes)},
        {length.bytes, sizeof(length.bytes)},
        {event, size},
    };
    return pieces_hash128(pieces, 3);
}

bool digest_equal(digest a, digest b)
{
    return memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0;
}

digest digest_from_bytes(ProtobufCBinaryData bytes)
{
    digest result = {{0}};
    if (bytes.len == sizeof(result.bytes))
        memcpy(result.bytes, bytes.data, sizeof(result.bytes));
    return result;
}

uint64_t payload_digest(const char *type, const void *data, size_t size)
{
    struct piece pieces[] = {{type, strlen(type) + 1}, {data, size}}; /* with its NUL */
    return pieces_hash64(pieces, 2);
}

digest live_hash_of(const char *job, uint64_t run, uint64_t seq, digest last)
{
    size_t size = strlen(job);
    struct le64 job_length = le64_of(size), eight = le64_of(8), sixteen = le64_of(16);
    struct le64 run_bytes = le64_of(run), seq_bytes = le64_of(seq);
    struct piece pieces[] = {
        {job_length.bytes, 8}, {job, size},
        {eight.bytes, 8},      {run_bytes.bytes, 8},
        {eight.bytes, 8},      {seq_bytes.bytes, 8},
        {sixteen.bytes, 8},    {last.bytes, 16},
    };
    return pieces_hash128(pieces, sizeof(pieces) / sizeof(pieces[0]));
}

static void live_hash_store(digest *sum, uint64_t low, uint64_t high)
{
    struct le64 a = le64_of(low), b = le64_of(high);
    memcpy(sum->bytes, a.bytes, 8);
    memcpy(sum->bytes + 8, b.bytes, 8);
}

void live_hash_add(digest *sum, digest term)
{
    uint64_t low = le64_get(sum->bytes) + le64_get(term.bytes);
    uint64_t carry = low < le64_get(term.bytes);
    live_hash_store(sum, low, le64_get(sum->bytes + 8) + le64_get(term.bytes + 8) + carry);
}

void live_hash_subtract(digest *sum, digest term)
{
    uint64_t low = le64_get(sum->bytes);
    uint64_t borrow = low < le64_get(term.bytes);
    live_hash_store(sum, low - le64_get(term.bytes), le64_get(sum->bytes + 8) - le64_get(term.bytes + 8) - borrow);
}

uint64_t hash64(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

uint64_t run_id_of(uint64_t log_id, const char *job, const char *request)
{
    size_t job_size = strlen(job), request_size = strlen(request);
    struct le64 eight = le64_of(8), log_bytes = le64_of(log_id);
    struct le64 job_length = le64_of(job_size), request_length = le64_of(request_size);
    struct piece pieces[] = {
        {eight.bytes, 8},          {log_bytes.bytes, 8},
        {job_length.bytes, 8},     {job, job_size},
        {request_length.bytes, 8}, {request, request_size},
    };
    uint64_t run = pieces_hash64(pieces, sizeof(pieces) / sizeof(pieces[0]));
    return run != 0 ? run : 1; /* 0 says "not known" on the wire */
}
