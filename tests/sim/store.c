/* The workers' stores: rows that survive a crash, with one transaction a save (rule 22), and old or damaged copies. */
#include <stdlib.h>
#include <string.h>

#include "world.h"

static struct row *rows_add(struct rows *rows)
{
    if (rows->count == rows->capacity) {
        rows->capacity = rows->capacity ? rows->capacity * 2 : 64;
        rows->rows = realloc(rows->rows, rows->capacity * sizeof *rows->rows);
        if (!rows->rows)
            abort();
    }
    struct row *row = &rows->rows[rows->count++];
    memset(row, 0, sizeof *row);
    return row;
}

static void row_release(struct row *row)
{
    blob_release(row->key);
    blob_release(row->value);
}

static void rows_remove(struct rows *rows, size_t index)
{
    row_release(&rows->rows[index]);
    rows->count--; /* the order stays: outputs are given back as they were put */
    memmove(&rows->rows[index], &rows->rows[index + 1], (rows->count - index) * sizeof *rows->rows);
}

void rows_clear(struct rows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        row_release(&rows->rows[i]);
    free(rows->rows);
    memset(rows, 0, sizeof *rows);
}

void rows_copy(struct rows *to, const struct rows *from)
{
    rows_clear(to);
    for (size_t i = 0; i < from->count; i++) {
        struct row *row = rows_add(to);
        *row = from->rows[i];
        blob_share(row->key);
        blob_share(row->value);
    }
    to->position = from->position;
}

static struct blob *blob_of_message(const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(size + 1);
    if (!bytes)
        abort();
    protobuf_c_message_pack(message, bytes);
    struct blob *blob = blob_new(bytes, size);
    free(bytes);
    return blob;
}

static struct blob *blob_of_text(const char *text) { return blob_new(text, strlen(text) + 1); }

/* ---- saving: everything goes into a copy that replaces the rows at commit -------------------------------- */

static bool row_is(const struct row *row, int kind, const char *job)
{
    return (int)row->kind == kind && strcmp((const char *)row->key->data, job) == 0;
}

static void save_partition(void *context, const StoredPartition *row)
{
    struct rows *rows = context;
    for (size_t i = 0; i < rows->count; i++)
        if (rows->rows[i].kind == ROW_PARTITION)
            rows_remove(rows, i--);
    struct row *added = rows_add(rows);
    added->kind = ROW_PARTITION;
    added->value = blob_of_message(&row->base);
    rows->position = row->position;
}

static void save_run(void *context, const StoredRun *run)
{
    struct rows *rows = context;
    for (size_t i = 0; i < rows->count; i++)
        if (row_is(&rows->rows[i], ROW_RUN, run->job))
            rows_remove(rows, i--);
    struct row *added = rows_add(rows);
    added->kind = ROW_RUN;
    added->key = blob_of_text(run->job);
    added->run = run->run;
    added->value = blob_of_message(&run->base);
}

static void save_record(void *context, const char *job, uint64_t run, uint64_t seq, int64_t offset, const void *data,
                        size_t size)
{
    struct rows *rows = context;
    for (size_t i = 0; i < rows->count; i++)
        if (row_is(&rows->rows[i], ROW_RECORD, job) && rows->rows[i].run == run && rows->rows[i].seq == seq)
            rows_remove(rows, i--);
    struct row *added = rows_add(rows);
    added->kind = ROW_RECORD;
    added->key = blob_of_text(job);
    added->run = run;
    added->seq = seq;
    added->offset = offset;
    added->value = blob_new(data, size);
}

static void save_closed(void *context, const char *job, uint64_t run)
{
    struct rows *rows = context;
    for (size_t i = 0; i < rows->count; i++)
        if (row_is(&rows->rows[i], ROW_RECORD, job) && rows->rows[i].run == run)
            rows_remove(rows, i--);
}

static void save_outputs(void *context, const StoredOutput *const *outputs, size_t count)
{
    struct rows *rows = context;
    for (size_t i = 0; i < rows->count; i++)
        if (rows->rows[i].kind == ROW_OUTPUTS)
            rows_remove(rows, i--);
    for (size_t i = 0; i < count; i++) {
        struct row *added = rows_add(rows);
        added->kind = ROW_OUTPUTS;
        added->value = blob_of_message(&outputs[i]->base);
    }
}

static void save_forgotten(void *context, const char *job)
{
    struct rows *rows = context;
    for (size_t i = 0; i < rows->count; i++)
        if (row_is(&rows->rows[i], ROW_RUN, job))
            rows_remove(rows, i--);
}

/* With rule 22 left out, a crash may leave the rows of one save beside the position of another. */
static void rows_tear(struct rows *rows, const struct rows *before)
{
    if (rng_chance(&world->faults, 5000)) { /* position, but not the rows */
        struct blob *partition = NULL;
        for (size_t i = 0; i < rows->count; i++)
            if (rows->rows[i].kind == ROW_PARTITION)
                partition = blob_share(rows->rows[i].value);
        int64_t position = rows->position;
        rows_copy(rows, before);
        for (size_t i = 0; i < rows->count; i++)
            if (rows->rows[i].kind == ROW_PARTITION)
                rows_remove(rows, i--);
        struct row *added = rows_add(rows);
        added->kind = ROW_PARTITION;
        added->value = partition;
        rows->position = position;
        return;
    }
    for (size_t i = 0; i < rows->count; i++) /* rows, but not the position */
        if (rows->rows[i].kind == ROW_PARTITION)
            rows_remove(rows, i--);
    for (size_t i = 0; i < before->count; i++)
        if (before->rows[i].kind == ROW_PARTITION) {
            struct row *added = rows_add(rows);
            *added = before->rows[i];
            blob_share(added->value);
        }
    rows->position = before->position;
}

bool rows_save(struct rows *rows, struct engine *engine, bool torn)
{
    struct rows next = { 0 };
    struct engine_save save = { .context = &next, .partition = save_partition, .run = save_run, .record = save_record,
                                .closed = save_closed, .outputs = save_outputs, .forgotten = save_forgotten };
    rows_copy(&next, rows);
    engine_store(engine, &save);
    if (torn)
        rows_tear(&next, rows);
    rows_clear(rows);
    *rows = next;
    return true;
}

/* ---- loading ------------------------------------------------------------------------------------------------ */

static int row_load(const struct row *row, struct engine *engine)
{
    int code = 0;
    if (row->kind == ROW_PARTITION) {
        StoredPartition *message = perdure__v1__stored_partition__unpack(NULL, row->value->size, row->value->data);
        code = engine_load_partition(engine, message);
        perdure__v1__stored_partition__free_unpacked(message, NULL);
    } else if (row->kind == ROW_RUN) {
        StoredRun *message = perdure__v1__stored_run__unpack(NULL, row->value->size, row->value->data);
        code = engine_load_run(engine, message);
        perdure__v1__stored_run__free_unpacked(message, NULL);
    } else if (row->kind == ROW_OUTPUTS) {
        StoredOutput *message = perdure__v1__stored_output__unpack(NULL, row->value->size, row->value->data);
        code = engine_load_output(engine, message);
        perdure__v1__stored_output__free_unpacked(message, NULL);
    }
    return code;
}

void rows_load(const struct rows *rows, struct engine *engine)
{
    static const int order[] = { ROW_PARTITION, ROW_RUN, ROW_OUTPUTS };
    for (size_t k = 0; k < sizeof order / sizeof *order; k++)
        for (size_t i = 0; i < rows->count; i++)
            if ((int)rows->rows[i].kind == order[k] && row_load(&rows->rows[i], engine) != 0)
                world_bad("a store cannot be loaded");
}

static int row_compare(const void *a, const void *b)
{
    const struct row *x = *(const struct row *const *)a, *y = *(const struct row *const *)b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

int rows_history(const struct rows *rows, const char *job, uint64_t run,
                 bool (*visit)(void *context, int64_t offset, const void *record, size_t size), void *context)
{
    const struct row **found = malloc((rows->count + 1) * sizeof *found);
    size_t count = 0;
    if (!found)
        abort();
    for (size_t i = 0; i < rows->count; i++)
        if (row_is(&rows->rows[i], ROW_RECORD, job) && rows->rows[i].run == run)
            found[count++] = &rows->rows[i];
    qsort(found, count, sizeof *found, row_compare);
    for (size_t i = 0; i < count; i++)
        if (!visit(context, found[i]->offset, found[i]->value->data, found[i]->value->size))
            break;
    free(found);
    return LOG_OK;
}

/* A row is gone, as after bit rot or a restore of half a folder. */
void rows_damage(struct rows *rows)
{
    for (size_t tries = 0; tries < 8 && rows->count > 0; tries++) {
        size_t i = (size_t)rng_below(&world->faults, rows->count);
        if (rows->rows[i].kind != ROW_RUN)
            continue;
        /* An open run: that a stub is gone no later record can show. */
        StoredRun *run = perdure__v1__stored_run__unpack(NULL, rows->rows[i].value->size, rows->rows[i].value->data);
        bool open = run && run->open;
        perdure__v1__stored_run__free_unpacked(run, NULL);
        if (!open)
            continue;
        rows_remove(rows, i);
        return;
    }
}
