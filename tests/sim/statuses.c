/*
 * The status records: a topic beside the journal, to which a worker's client sends when it can. What is on its way when the
 * worker dies is lost, or lands late. In the end each history that is over stands there as it ended.
 */
#include <stdlib.h>
#include <string.h>

#include "world.h"

struct status_record {
    struct status_record *next;
    Status *status;
    int worker; /* whose client has it; -1: nobody's any more */
    uint64_t incarnation;
    uint32_t partition; /* what it tells of */
    int64_t offset;
    int64_t lands;
};

static void status_record_free(struct status_record *record)
{
    perdure__v1__status__free_unpacked(record->status, NULL);
    free(record);
}

/* As readers of the topic have it: runtime/log/kafka_status.c. */
static bool status_is_late(const Status *before, const Status *status)
{
    if (status->updated > before->updated)
        return false;
    if (status->run == before->run && status->events != before->events)
        return status->events < before->events;
    return status->claim < before->claim;
}

static void status_land(struct status_record *record)
{
    struct status_record **link = &world->statuses.rows;
    while (*link && strcmp((*link)->status->id, record->status->id) != 0)
        link = &(*link)->next;
    trace("status of %s lands: %s, %llu events, of offset %lld%s", record->status->id, record->status->state,
          (unsigned long long)record->status->events, (long long)record->offset,
          *link && status_is_late((*link)->status, record->status) ? ", late" : "");
    if (*link && status_is_late((*link)->status, record->status)) {
        status_record_free(record);
        return;
    }
    struct status_record *before = *link;
    record->next = before ? before->next : NULL;
    *link = record;
    if (before)
        status_record_free(before);
}

/* One lane keeps its order, and is slow at times. */
void statuses_put(const struct worker *worker, const struct engine_output *out)
{
    struct statuses *statuses = &world->statuses;
    struct status_record *record = calloc(1, sizeof *record), **link = &statuses->on_the_way;
    if (!record || !(record->status = perdure__v1__status__unpack(NULL, out->size, out->data)))
        world_bad("%s: a status that cannot be decoded", worker->name);
    record->worker = worker->id;
    record->incarnation = worker->incarnation;
    record->partition = out->partition;
    record->offset = out->offset;
    if (!world->quiet && world->now >= statuses->slow_until && rng_chance(&statuses->rng, 200)) {
        fault_count(FAULT_STATUS_SLOW);
        statuses->slow_until = world->now + rng_between(&statuses->rng, 1000, 40000);
    }
    record->lands = world->now + rng_between(&statuses->rng, 0, 50);
    if (record->lands < statuses->slow_until)
        record->lands = statuses->slow_until;
    while (*link)
        link = &(*link)->next;
    *link = record;
}

void statuses_forgotten(const char *job)
{
    struct status_record **link = &world->statuses.rows;
    while (*link && strcmp((*link)->status->id, job) != 0)
        link = &(*link)->next;
    struct status_record *row = *link;
    if (row) {
        *link = row->next;
        status_record_free(row);
    }
}

void statuses_turn(void)
{
    for (struct status_record **link = &world->statuses.on_the_way, *record; (record = *link);) {
        if (record->lands > world->now && !world->quiet) {
            link = &record->next;
            continue;
        }
        *link = record->next;
        status_land(record);
    }
}

/* Its client is gone; what it had sent may be in the broker's hands. */
void statuses_orphan(const struct worker *worker)
{
    for (struct status_record **link = &world->statuses.on_the_way, *record; (record = *link);) {
        bool mine = record->worker == worker->id && record->incarnation == worker->incarnation;
        if (mine && rng_chance(&world->statuses.rng, 7000)) {
            fault_count(FAULT_STATUS_LOST);
            *link = record->next;
            status_record_free(record);
            continue;
        }
        if (mine)
            record->worker = -1;
        link = &record->next;
    }
}

int64_t statuses_unshown(void *context, uint32_t partition)
{
    const struct worker *worker = NULL;
    int64_t offset = INT64_MAX;
    for (int w = 0; w < WORKERS; w++)
        for (uint32_t p = 0; p < PARTITIONS_MAX; p++)
            if (context == &world->workers[w].seats[p].store)
                worker = &world->workers[w];
    for (const struct status_record *record = world->statuses.on_the_way; record; record = record->next)
        if (worker && record->worker == worker->id && record->incarnation == worker->incarnation &&
            record->partition == partition && record->offset < offset)
            offset = record->offset;
    return offset;
}

/* Nobody has forgotten `run`, and it is what its job did last. */
static bool status_is_wanted(const struct oracle_run *run, uint32_t p)
{
    return !run->open && run->forgotten_at < 0 && growth_holds(run, p) &&
           oracle_find(&world->oracles[p], run->job) == run;
}

void statuses_check(void)
{
    statuses_turn();
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        for (const struct oracle_run *run = world->oracles[p].all; run; run = run->next) {
            const struct status_record *row = world->statuses.rows;
            while (row && strcmp(row->status->id, run->job) != 0)
                row = row->next;
            if (!status_is_wanted(run, p))
                continue;
            if (!row)
                world_bad("%s is over and has no status record", run->job);
            if (row->status->run != run->run || row->status->events != run->seq)
                world_bad("%s is over with %llu events, its status record says %s with %llu", run->job,
                          (unsigned long long)run->seq, row->status->state, (unsigned long long)row->status->events);
        }
}

void statuses_free(void)
{
    struct status_record *lists[] = { world->statuses.rows, world->statuses.on_the_way };
    for (size_t i = 0; i < 2; i++)
        for (struct status_record *record = lists[i], *next; record; record = next) {
            next = record->next;
            status_record_free(record);
        }
}
