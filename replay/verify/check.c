/* The whole of a check: what is known, and who looks at which record. */
#include <stdlib.h>
#include <string.h>

#include "verify.h"

void pv_check_start(struct check *c, struct report *report)
{
    memset(c, 0, sizeof *c);
    c->report = report;
    pv_table_init(&c->job_index, sizeof(uint32_t));
    pv_table_init(&c->type_index, sizeof(uint32_t));
    pv_table_init(&c->run_index, sizeof(uint32_t));
    pv_table_init(&c->counted, 3 * sizeof(uint64_t));
    pv_table_init(&c->reached, sizeof(struct reach));
    pv_table_init(&c->carried, 1);
    pv_table_init(&c->others, sizeof(uint64_t));
    pv_table_init(&c->outputs, sizeof(struct output));
    pv_table_init(&c->requested, sizeof(struct child_request));
    pv_table_init(&c->results, 1);
    pv_table_init(&c->signals, sizeof(struct signal_sum));
    pv_table_init(&c->absorbed, sizeof(struct absorbed));
    pv_table_init(&c->known, 1);
    pv_table_init(&c->tastes, 1);
    pv_table_init(&c->from_jobs, 1);
    pv_table_init(&c->refused, 1);
    pv_table_init(&c->refused_ops, sizeof(bool));
    pv_table_init(&c->acked_index, sizeof(uint32_t));
    pv_table_init(&c->effects, sizeof(struct effect));
}

static void free_tables(struct check *c)
{
    struct table *const all[] = {
        &c->job_index, &c->type_index,  &c->run_index, &c->counted,     &c->others, &c->outputs,
        &c->requested, &c->results,     &c->signals,   &c->absorbed,    &c->known,  &c->from_jobs,
        &c->refused,   &c->acked_index, &c->effects,   &c->refused_ops, &c->tastes, &c->reached,
        &c->carried,
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        pv_table_free(all[i]);
}

void pv_check_free(struct check *c)
{
    free_tables(c);
    for (size_t i = 0; i < c->job_count; i++)
        free(c->jobs[i].id);
    for (size_t i = 0; i < c->run_count; i++) {
        if (c->runs[i].life) {
            pv_table_free(&c->runs[i].life->operations);
            pv_table_free(&c->runs[i].life->requests);
            free(c->runs[i].life);
        }
    }
    for (size_t i = 0; i < c->type_count; i++)
        free(c->types[i]);
    for (size_t i = 0; i < c->acked_count; i++)
        free(c->acked[i].request);
    free(c->jobs);
    free(c->runs);
    free(c->types);
    free(c->acked);
    for (uint32_t i = 0; i < c->partition_count; i++) {
        pv_copy_drop(&c->partitions[i]);
        free(c->partitions[i].copy.held);
    }
    free(c->moves);
    free(c->forwards);
    free(c->partitions);
    free(c->children);
    free(c->refusals);
}

struct partition *pv_check_partition(struct check *c, uint32_t partition)
{
    if (partition >= SLOTS)
        return NULL; /* rule 24: P is at most 4096 */
    if (partition >= c->partition_count) {
        struct partition *wider = pv_must_alloc((partition + 1) * sizeof *wider);
        if (c->partition_count)
            memcpy(wider, c->partitions, c->partition_count * sizeof *wider);
        free(c->partitions);
        for (uint32_t i = c->partition_count; i <= partition; i++)
            wider[i] = (struct partition){.last = -1,
                                          .inbox_first = -1,
                                          .inbox_last = -1,
                                          .horizon = INT64_MAX,
                                          .inbox_horizon = INT64_MAX,
                                          .in_pos = -1,
                                          .out_pos = -1,
                                          .sure_in_pos = -1,
                                          .sure_out_pos = -1,
                                          .slots_in_pos = -1};
        c->partitions = wider;
        c->partition_count = partition + 1;
    }
    return &c->partitions[partition];
}

uint32_t pv_check_job(struct check *c, const char *id)
{
    bool fresh;
    uint32_t *index = pv_table_put(&c->job_index, pv_hash_text(id), &fresh);
    if (!fresh)
        return *index;
    *index = (uint32_t)c->job_count;
    c->jobs = pv_must_grow(c->jobs, c->job_count, &c->job_room, sizeof *c->jobs);
    c->jobs[c->job_count++] = (struct job){.id = pv_must_copy(id), .run = -1};
    return (uint32_t)(c->job_count - 1);
}

uint32_t pv_check_type(struct check *c, const char *name)
{
    bool fresh;
    uint32_t *index = pv_table_put(&c->type_index, pv_hash_text(name), &fresh);
    if (!fresh)
        return *index;
    *index = c->type_count;
    char **longer = pv_must_alloc((c->type_count + 1) * sizeof *longer);
    if (c->type_count)
        memcpy(longer, c->types, c->type_count * sizeof *longer);
    free(c->types);
    c->types = longer;
    c->types[c->type_count] = pv_must_copy(name);
    return c->type_count++;
}

struct run *pv_check_run(struct check *c, uint32_t job, uint64_t id)
{
    const uint32_t *index = pv_table_find(&c->run_index, pv_hash_two(job, id));
    return index ? &c->runs[*index] : NULL;
}

struct where pv_where_of(const struct message *m, const header_pb *h)
{
    struct where w = {.stream = m->stream, .partition = m->partition, .offset = m->offset};
    if (h) {
        w.job = *h->job ? h->job : NULL;
        w.run = h->run;
        w.seq = h->seq;
    }
    return w;
}

void pv_check_partitions(struct check *c, uint32_t partitions)
{
    if (partitions)
        (void)pv_check_partition(c, partitions - 1);
}

void pv_check_horizon(struct check *c, enum stream stream, uint32_t partition, int64_t horizon)
{
    struct partition *p = pv_check_partition(c, partition);
    if (!p)
        return;
    if (stream == JOURNAL)
        p->horizon = horizon;
    else
        p->inbox_horizon = horizon;
}

void pv_check_begins(struct check *c, enum stream stream, uint32_t partition, int64_t offset)
{
    struct partition *p = pv_check_partition(c, partition);
    if (!p)
        return;
    if (stream == JOURNAL)
        p->from = offset;
    else
        p->inbox_first = offset;
}

void pv_check_record(struct check *c, const struct message *m)
{
    struct where w = pv_where_of(m, NULL);
    struct partition *p = pv_check_partition(c, m->partition);
    if (p && m->offset < (m->stream == JOURNAL ? p->from : p->inbox_first))
        return;
    pv_save(c, m);
    if (!pv_hold(c, p != NULL, 24, &w, "no log has a partition of this number"))
        return;
    int64_t *last = m->stream == JOURNAL ? &p->last : &p->inbox_last;
    if (!pv_hold(c, m->offset > *last, 26, &w, "the offset is not above the one before it (%" PRId64 ")", *last))
        return;
    *last = m->offset;
    if (m->stream == JOURNAL)
        pv_judge(c, m);
    else
        pv_check_inbox(c, m);
}

uint32_t pv_check_map(const struct check *c)
{
    uint32_t most = 0;
    for (int i = 1; i < MAPS; i++)
        most = c->maps[i] > most ? c->maps[i] : most;
    return most;
}

/* A growth makes its partitions first, then each one's Genesis, and only then any slot leaves. */
static bool is_coming(const struct check *c, uint32_t partition)
{
    for (size_t i = 0; i < c->move_count; i++) {
        if (c->moves[i].to == partition)
            return false;
    }
    return partition >= c->maps[1] && c->maps[1];
}

static void finish_partition(struct check *c, uint32_t i)
{
    const struct partition *p = &c->partitions[i];
    struct where w = {.stream = JOURNAL, .partition = i, .offset = p->last};
    if (!p->seen && is_coming(c, i)) {
        pv_unchecked(c, &w, "it has no Genesis yet: a growth was begun and not finished, or partitions were added by hand");
        return;
    }
    pv_hold(c, p->has_genesis, 1, &w, "the partition has neither a Genesis nor a Claim");
    if (p->seen && p->has_genesis)
        pv_hold(c, p->whole, 19, &w, "it begins at %" PRId64 ", and no Mark after it says what was cut there", p->begin);
}

void pv_check_finish(struct check *c)
{
    for (uint32_t i = 0; i < c->partition_count; i++) {
        if (!c->partitions[i].stopped)
            finish_partition(c, i);
    }
    for (uint32_t i = c->partition_count; i < pv_check_map(c); i++) {
        struct where w = {.stream = JOURNAL, .partition = i, .offset = -1};
        pv_hold(c, false, 24, &w, "the map names %" PRIu32 " partitions, the log has %" PRIu32, pv_check_map(c),
                c->partition_count);
    }
    pv_inputs_finish(c);
    pv_forwards_finish(c);
    pv_across_finish(c);
    pv_slots_finish(c);
    pv_lists_finish(c);
}
