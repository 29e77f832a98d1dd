/* --save: every record as it was read, into a dump (read_file.c says how it looks), so that what was judged can be judged
 * again when the log has gone on. */
#include <errno.h>
#include <string.h>

#include "verify.h"

enum { HEAD = 25 };

bool pv_save_open(struct check *c, const char *path)
{
    c->save = fopen(path, "we");
    if (!c->save)
        fprintf(stderr, "perdure-verify: %s: %s\n", path, strerror(errno));
    return c->save != NULL;
}

static void put_little(uint8_t *p, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++, value >>= 8)
        p[i] = (uint8_t)value;
}

void pv_save_to(FILE *file, const struct message *m)
{
    uint8_t head[HEAD];
    head[0] = (uint8_t)m->stream;
    put_little(head + 1, m->partition, 4);
    put_little(head + 5, (uint64_t)m->offset, 8);
    put_little(head + 13, (uint64_t)m->append_ms, 8);
    put_little(head + 21, m->size, 4);
    fwrite(head, 1, HEAD, file);
    fwrite(m->data, 1, m->size, file);
}

void pv_save(const struct check *c, const struct message *m)
{
    if (c->save)
        pv_save_to(c->save, m);
}

bool pv_save_close(struct check *c, const char *path)
{
    FILE *file = c->save;
    c->save = NULL;
    if (!file)
        return true;
    bool failed = ferror(file) != 0;
    if (fclose(file) == 0 && !failed)
        return true;
    fprintf(stderr, "perdure-verify: %s: not written as a whole: %s\n", path, strerror(errno));
    return false;
}
