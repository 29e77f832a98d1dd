/* A dump: records one after another, each [u8 stream][u32 partition][i64 offset][i64 append ms][u32 size][bytes],
 * numbers little endian. In whatever order they stand there, the journals come first, and among them the lower partition:
 * what has moved to another one is known there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "verify.h"

enum { HEAD = 25, LARGEST = 1 << 30 };

struct place {
    uint64_t stream_partition;
    long at; /* of its head */
};

static uint64_t little(const uint8_t *p, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | p[i];
    return value;
}

static bool cut_off(const char *path, long at)
{
    fprintf(stderr, "perdure-verify: %s: the dump is cut off or damaged after byte %ld\n", path, at);
    return false;
}

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->stream_partition != y->stream_partition)
        return x->stream_partition < y->stream_partition ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Where each record stands. */
static bool find_all(FILE *file, const char *path, struct place **places, size_t *count)
{
    uint8_t head[HEAD];
    size_t room = 0, got;
    for (long at = 0; (got = fread(head, 1, HEAD, file)) > 0; at = ftell(file)) {
        uint32_t size = got == HEAD ? (uint32_t)little(head + 21, 4) : UINT32_MAX;
        if (size > LARGEST || head[0] > INBOX || fseek(file, size, SEEK_CUR) != 0)
            return cut_off(path, at);
        *places = pv_must_grow(*places, *count, &room, sizeof **places);
        (*places)[(*count)++] = (struct place){.stream_partition = (uint64_t)head[0] << 32 | little(head + 1, 4), .at = at};
    }
    if (*count)
        qsort(*places, *count, sizeof **places, by_place);
    return true;
}

static bool read_one(struct check *c, FILE *file, const char *path, long at, uint8_t **data, size_t *room)
{
    uint8_t head[HEAD];
    if (fseek(file, at, SEEK_SET) != 0 || fread(head, 1, HEAD, file) != HEAD)
        return cut_off(path, at);
    uint32_t size = (uint32_t)little(head + 21, 4);
    if (size > *room || !*data) {
        free(*data);
        *data = pv_must_alloc(*room = (size_t)size + 4096);
    }
    if (fread(*data, 1, size, file) != size)
        return cut_off(path, at);
    struct message m = {.stream = head[0] ? INBOX : JOURNAL,
                        .partition = (uint32_t)little(head + 1, 4),
                        .offset = (int64_t)little(head + 5, 8),
                        .append_ms = (int64_t)little(head + 13, 8),
                        .data = *data,
                        .size = size};
    pv_check_record(c, &m);
    return true;
}

bool pv_read_dump(struct check *c, FILE *file, const char *path)
{
    struct place *places = NULL;
    uint8_t *data = NULL;
    size_t count = 0, room = 0;
    rewind(file);
    bool ok = find_all(file, path, &places, &count);
    for (size_t i = 0; ok && i < count; i++)
        ok = read_one(c, file, path, places[i].at, &data, &room);
    if (ok && ferror(file)) {
        fprintf(stderr, "perdure-verify: %s: cannot be read\n", path);
        ok = false;
    }
    free(places);
    free(data);
    return ok;
}

bool pv_read_file(struct check *c, const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        fprintf(stderr, "perdure-verify: %s: %s\n", path, strerror(errno));
        return false;
    }
    bool ok = pv_read_dump(c, file, path);
    fclose(file);
    return ok;
}
