/* Digests, ids and hashes as docs/format.md gives them; and the checker's own keys for its tables. */
#include <string.h>
#include <xxhash.h>

#include "verify.h"

static void put64(uint8_t *p, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

static void add64(XXH3_state_t *state, uint64_t value)
{
    uint8_t bytes[8];
    put64(bytes, value);
    (void)XXH3_64bits_update(state, bytes, sizeof bytes);
}

/* A length-prefixed part. The 64-bit and the 128-bit hash take their input in the same way. */
static void add_part(XXH3_state_t *state, const void *bytes, size_t size)
{
    add64(state, size);
    (void)XXH3_64bits_update(state, bytes, size);
}

static void add_number(XXH3_state_t *state, uint64_t value)
{
    add64(state, 8);
    add64(state, value);
}

static XXH3_state_t *fresh_state(void)
{
    static XXH3_state_t *state;
    if (!state)
        state = XXH3_createState();
    (void)XXH3_128bits_reset(state);
    return state;
}

void pv_digest_first(uint64_t run, uint8_t digest[DIGEST])
{
    memset(digest, 0, DIGEST);
    put64(digest, run);
}

/* rule 33: over the stored bytes, never a re-encoding */
void pv_digest_next(uint8_t digest[DIGEST], const uint8_t *event, size_t size)
{
    XXH3_state_t *state = fresh_state();
    (void)XXH3_128bits_update(state, digest, DIGEST);
    uint8_t length[8];
    put64(length, size);
    (void)XXH3_128bits_update(state, length, sizeof length);
    (void)XXH3_128bits_update(state, event, size);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    memcpy(digest, canonical.digest, DIGEST);
}

/* rule 6 */
uint64_t pv_digest_run(uint64_t log_id, const char *job, const char *request)
{
    XXH3_state_t *state = fresh_state();
    (void)XXH3_64bits_reset(state);
    add_number(state, log_id);
    add_part(state, job, strlen(job));
    add_part(state, request, strlen(request));
    uint64_t run = XXH3_64bits_digest(state);
    return run ? run : 1;
}

/* rule 9: one open run's share of the live hash */
unsigned __int128 pv_digest_live(const char *job, uint64_t run, uint64_t seq, const uint8_t digest[DIGEST])
{
    XXH3_state_t *state = fresh_state();
    add_part(state, job, strlen(job));
    add_number(state, run);
    add_number(state, seq);
    add_part(state, digest, DIGEST);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    unsigned __int128 sum = 0;
    for (int i = DIGEST - 1; i >= 0; i--)
        sum = sum << 8 | canonical.digest[i];
    return sum;
}

/* What events of a step say of its input: over type, NUL, data. */
uint64_t pv_digest_input(const char *type, const void *data, size_t size)
{
    XXH3_state_t *state = fresh_state();
    (void)XXH3_64bits_reset(state);
    (void)XXH3_64bits_update(state, type, strlen(type) + 1);
    (void)XXH3_64bits_update(state, data, size);
    return XXH3_64bits_digest(state);
}

static uint32_t murmur2(const uint8_t *data, size_t size)
{
    const uint32_t m = 0x5bd1e995;
    uint32_t h = 0x9747b28c ^ (uint32_t)size;
    for (; size >= 4; data += 4, size -= 4) {
        uint32_t k = (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
        k *= m;
        k ^= k >> 24;
        h = h * m ^ k * m;
    }
    uint32_t tail = 0;
    for (size_t i = size; i > 0; i--)
        tail = tail << 8 | data[i - 1];
    if (size)
        h = (h ^ tail) * m;
    h = (h ^ h >> 13) * m;
    return h ^ h >> 15;
}

/* rule 24 */
uint32_t pv_digest_slot(const char *job)
{
    return (murmur2((const uint8_t *)job, strlen(job)) & 0x7fffffff) % SLOTS;
}

uint64_t pv_hash_bytes(const void *bytes, size_t size)
{
    return XXH3_64bits(bytes, size);
}

uint64_t pv_hash_text(const char *text)
{
    return pv_hash_bytes(text, strlen(text));
}

uint64_t pv_hash_two(uint64_t a, uint64_t b)
{
    const uint64_t both[2] = {a, b};
    return pv_hash_bytes(both, sizeof both);
}

uint64_t pv_hash_three(uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t all[3] = {a, b, c};
    return pv_hash_bytes(all, sizeof all);
}
