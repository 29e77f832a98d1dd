/*
 * Which job ids there are, and where a job lives: job id to slot to partition.
 */
#include <string.h>

#include "constants.h"
#include "wire/wire.h"

/* As in Kafka's clients: seed 0x9747b28c, blocks read little endian. */
uint32_t murmur2(const void *data, size_t size)
{
    const uint32_t m = 0x5bd1e995;
    const uint8_t *at = data;
    uint32_t hash = 0x9747b28c ^ (uint32_t)size;
    for (; size >= 4; at += 4, size -= 4) {
        uint32_t k = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
        k *= m;
        k ^= k >> 24;
        hash = hash * m ^ k * m;
    }
    if (size > 0) {
        for (size_t i = size; i-- > 0;)
            hash ^= (uint32_t)at[i] << (8 * i);
        hash *= m;
    }
    hash ^= hash >> 13;
    hash *= m;
    return hash ^ hash >> 15;
}

uint32_t slot_of(const char *job)
{
    return (murmur2(job, strlen(job)) & 0x7fffffff) % SLOT_COUNT;
}

uint32_t partition_of(const char *job, uint32_t partitions)
{
    return slot_of(job) % partitions; /* rule 24: so in every version of the map */
}

/* Length of the UTF-8 sequence at `at`, 0: none. Table 3-7 of the Unicode standard. */
static size_t utf8_sequence(const uint8_t *at, size_t left)
{
    uint8_t lead = at[0];
    size_t size = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (size == 0 || size > left)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (lead == 0xe0 && at[1] < 0xa0) || (lead == 0xf0 && at[1] < 0x90);
    bool surrogate = lead == 0xed && at[1] >= 0xa0;
    bool beyond = lead == 0xf4 && at[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : size;
}

bool utf8_valid(const char *text, size_t size)
{
    const uint8_t *at = (const uint8_t *)text;
    for (size_t step; size > 0; at += step, size -= step)
        if ((step = utf8_sequence(at, size)) == 0)
            return false;
    return true;
}

void utf8_repair(char *text)
{
    size_t left = strlen(text);
    for (size_t step; left > 0; text += step, left -= step) {
        step = utf8_sequence((const uint8_t *)text, left);
        if (step == 0) {
            *text = '?';
            step = 1;
        }
    }
}

bool name_valid(const char *name, size_t size, size_t limit)
{
    for (size_t i = 0; i < size; i++)
        if ((uint8_t)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    return size > 0 && size <= limit && utf8_valid(name, size);
}

bool job_id_valid(const char *job, size_t size)
{
    return name_valid(job, size, JOB_ID_LIMIT_BYTES);
}
