/* A dump: records one after another, each [u8 stream][u32 partition][i64 offset][i64 append ms][u32 size][bytes],
 * numbers little endian. Read twice, since the journals come first. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "verify.h"

enum { HEAD = 25, LARGEST = 1 << 30 };

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

static bool read_stream(struct check *c, FILE *file, const char *path, enum stream stream)
{
    uint8_t head[HEAD], *data = NULL;
    size_t room = 0, got;
    bool ok = true;
    rewind(file);
    while (ok && (got = fread(head, 1, HEAD, file)) > 0) {
        uint32_t size = got == HEAD ? (uint32_t)little(head + 21, 4) : UINT32_MAX;
        if (size > LARGEST || head[0] > INBOX) {
            ok = cut_off(path, ftell(file));
            break;
        }
        if (size > room || !data) {
            free(data);
            data = pv_must_alloc(room = (size_t)size + 4096);
        }
        struct message m = {.stream = head[0] ? INBOX : JOURNAL,
                            .partition = (uint32_t)little(head + 1, 4),
                            .offset = (int64_t)little(head + 5, 8),
                            .append_ms = (int64_t)little(head + 13, 8),
                            .data = data,
                            .size = size};
        ok = fread(data, 1, size, file) == size || cut_off(path, ftell(file));
        if (ok && m.stream == stream)
            pv_check_record(c, &m);
    }
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
    bool ok = read_stream(c, file, path, JOURNAL) && read_stream(c, file, path, INBOX);
    if (ok && ferror(file)) {
        fprintf(stderr, "perdure-verify: %s: cannot be read\n", path);
        ok = false;
    }
    fclose(file);
    return ok;
}
