/*
 * Standby (rule 23): a worker follows the journals of some partitions that it does not own, so that a takeover finds them
 * read and in the store. It never appends, commits offsets or trims for them. The group's `range` assignor gives each
 * member a row of neighbours; when a member goes, the rows shift: what a worker gets then lies beside what it has. So
 * those nearest to its own are followed. A worker that has none begins at a place that its name gives.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/worker.h"

#define STANDBY_INTERVAL_MS 1000
#define STANDBY_STARTS 4         /* at most so many begin at once: each may read much */
#define STANDBY_AGAIN_MS 60000   /* one that cannot be followed is tried again after so long */

static bool is_standby(const struct worker_partition *slot) { return slot->engine && slot->standby; }

/* From the nearest that we have, in steps; 0: we have it. */
static uint32_t standby_distance(const struct pdr_worker *worker, uint32_t partition)
{
    uint32_t count = worker->partition_count;
    bool any = false;
    for (uint32_t away = 0; away < count; away++) {
        if (partition + away < count && worker->partitions[partition + away].assigned)
            return away;
        if (away <= partition && worker->partitions[partition - away].assigned)
            return away;
    }
    for (uint32_t p = 0; p < count; p++)
        any = any || worker->partitions[p].assigned;
    uint32_t first = (uint32_t)(hash64(worker->name, strlen(worker->name)) % count);
    return any ? count : (partition + count - first) % count + 1;
}

/* The N nearest; the lower one of two as near. */
static void standby_choose(const struct pdr_worker *worker, bool *wanted)
{
    for (int chosen = 0; chosen < worker->options.standby; chosen++) {
        uint32_t best = UINT32_MAX, best_distance = UINT32_MAX;
        for (uint32_t p = 0; p < worker->partition_count; p++) {
            uint32_t distance = wanted[p] || worker->partitions[p].assigned ? 0 : standby_distance(worker, p);
            if (distance > 0 && distance < best_distance)
                best = p, best_distance = distance;
        }
        if (best == UINT32_MAX)
            return;
        wanted[best] = true;
    }
}

/* True: a partition that was given up stays followed. What is not wanted goes with the next look. */
bool worker_standby_keeps(const struct pdr_worker *worker, uint32_t partition)
{
    return worker->options.standby > 0 && !worker->draining && !worker->grown_log && !worker->partitions[partition].stopped &&
           worker->log->operations->history == NULL;
}

static int standby_start(struct pdr_worker *worker, uint32_t partition)
{
    if (worker_follow(worker, partition))
        worker_notice(worker, PDR_INFO, "partition %u is followed: standby", partition);
    return 1;
}

void worker_standby(struct pdr_worker *worker)
{
    int64_t now = worker_monotonic_ms();
    if (worker->options.standby <= 0 || worker->draining || worker->grown_log || worker->log->operations->history ||
        now < worker->next_standby_ms)
        return;
    worker->next_standby_ms = now + STANDBY_INTERVAL_MS;
    bool *wanted = calloc(worker->partition_count, sizeof *wanted);
    if (!wanted)
        return;
    standby_choose(worker, wanted);
    int starts = 0;
    for (uint32_t p = 0; p < worker->partition_count; p++) {
        struct worker_partition *slot = &worker->partitions[p];
        if (is_standby(slot) && !wanted[p])
            worker_partition_close(worker, p);
        else if (wanted[p] && !slot->engine && starts < STANDBY_STARTS && now >= slot->standby_from_ms)
            starts += standby_start(worker, p);
    }
    free(wanted);
}

/* What we cannot read may be read by its owner: no reason to end anything. */
void worker_standby_stopped(struct pdr_worker *worker, uint32_t partition, const char *why)
{
    worker_notice(worker, PDR_WARNING, "partition %u cannot be followed: %s", partition, why);
    worker->partitions[partition].standby_from_ms = worker_monotonic_ms() + STANDBY_AGAIN_MS;
    worker->partitions[partition].standby_ends = true;
}
