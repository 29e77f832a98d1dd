/*
 * Standby (rule 23): a worker follows the journals of some partitions that it does not own, so that a takeover finds them
 * read and in the store. It never appends, commits offsets or trims for them.
 *
 * Which? The `range` assignor cuts the partitions into rows, one a member, in the order of their names. When a member
 * goes, the rows are cut anew, and each member's new row touches or overlaps its old one. So what a worker gets lies
 * beside what it has, and what is nearer it gets in more of the cases: the nearest are followed. Members that are more
 * than there are partitions have none; the first of them gets the last row. Where the group deals partitions out in
 * another way (cooperative-sticky), any may come; each worker follows its share, from a place that its name gives.
 */
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "worker/worker.h"

static bool is_standby(const struct worker_partition *slot) { return slot->engine && slot->standby; }

static bool standby_is_on(const struct pdr_worker *worker)
{
    return worker->options.standby > 0 && !worker->draining && !worker->grown_log &&
           worker->log->operations->history == NULL;
}

struct candidate {
    uint32_t partition;
    uint32_t distance; /* 0: ours */
};

static int candidate_compare(const void *a, const void *b)
{
    const struct candidate *one = a, *other = b;
    if (one->distance != other->distance)
        return one->distance < other->distance ? -1 : 1;
    return one->partition < other->partition ? -1 : one->partition > other->partition;
}

/* How far each partition lies from the nearest of ours; false: we have none. */
static bool distances_from_ours(const struct pdr_worker *worker, struct candidate *candidates)
{
    uint32_t count = worker->partition_count, away = count;
    bool any = false;
    for (uint32_t p = 0; p < count; p++) {
        any = any || worker->partitions[p].assigned;
        away = worker->partitions[p].assigned ? 0 : away + 1;
        candidates[p].distance = away;
    }
    away = count;
    for (uint32_t p = count; p-- > 0;) {
        away = worker->partitions[p].assigned ? 0 : away + 1;
        if (away < candidates[p].distance)
            candidates[p].distance = away;
    }
    return any;
}

static void distances(const struct pdr_worker *worker, struct candidate *candidates)
{
    uint32_t count = worker->partition_count, first = 0;
    for (uint32_t p = 0; p < count; p++)
        candidates[p].partition = p;
    if (worker->log->deals_rows && distances_from_ours(worker, candidates))
        return;
    if (!worker->log->deals_rows)
        first = (uint32_t)(hash64(worker->name, strlen(worker->name)) % count);
    for (uint32_t p = 0; p < count; p++) {
        uint32_t away = worker->log->deals_rows ? count - p : (p + count - first) % count + 1;
        candidates[p].distance = worker->partitions[p].assigned ? 0 : away;
    }
}

/* The N nearest that others have; the lower one of two as near. */
bool worker_standby_choose(const struct pdr_worker *worker, bool *wanted)
{
    struct candidate *candidates = calloc(worker->partition_count, sizeof *candidates);
    if (!candidates)
        return false;
    distances(worker, candidates);
    qsort(candidates, worker->partition_count, sizeof *candidates, candidate_compare);
    int chosen = 0;
    for (uint32_t i = 0; i < worker->partition_count && chosen < worker->options.standby; i++)
        if (candidates[i].distance > 0) {
            wanted[candidates[i].partition] = true;
            chosen++;
        }
    free(candidates);
    return true;
}

/* True: a partition that was given up stays followed. What is not wanted goes with the next look. */
bool worker_standby_keeps(const struct pdr_worker *worker, uint32_t partition)
{
    return standby_is_on(worker) && !worker->partitions[partition].stopped;
}

static void standby_start(struct pdr_worker *worker, uint32_t partition)
{
    if (worker_follow(worker, partition))
        worker_notice(worker, PDR_INFO, "partition %u is followed: standby", partition);
}

/* A journal may be long, and reading it takes the time of the partitions that we own: few are read from afar at once. */
static int standby_reading(const struct pdr_worker *worker)
{
    int reading = 0;
    for (uint32_t p = 0; p < worker->partition_count; p++)
        reading += is_standby(&worker->partitions[p]) && !worker->partitions[p].read_to_end;
    return reading;
}

int64_t worker_standby_next(const struct pdr_worker *worker)
{
    return standby_is_on(worker) ? worker->next_standby_ms : INT64_MAX;
}

void worker_standby(struct pdr_worker *worker)
{
    int64_t now = worker_monotonic_ms();
    if (!standby_is_on(worker) || now < worker->next_standby_ms)
        return;
    worker->next_standby_ms = now + STANDBY_INTERVAL_MS;
    bool *wanted = calloc(worker->partition_count, sizeof *wanted);
    int reading = standby_reading(worker);
    bool chosen = wanted && worker_standby_choose(worker, wanted);
    for (uint32_t p = 0; p < worker->partition_count && chosen; p++) {
        struct worker_partition *slot = &worker->partitions[p];
        if (is_standby(slot) && !wanted[p]) {
            worker_partition_close(worker, p);
        } else if (wanted[p] && !slot->engine && reading < STANDBY_READING_LIMIT && now >= slot->standby_from_ms) {
            standby_start(worker, p);
            reading++;
        }
    }
    free(wanted);
}

void worker_standby_read(struct pdr_worker *worker, uint32_t partition, int64_t end)
{
    worker_notice(worker, PDR_INFO, "partition %u is followed up to its end, offset %lld: a takeover will find it read",
                  partition, (long long)end);
    worker->next_standby_ms = 0; /* there is room for the next */
}

/* What we cannot read may be read by its owner: no reason to end anything. */
void worker_standby_stopped(struct pdr_worker *worker, uint32_t partition, const char *why)
{
    worker_notice(worker, PDR_WARNING, "partition %u cannot be followed, and is tried again in %d s: %s", partition,
                  STANDBY_AGAIN_MS / 1000, why);
    worker->partitions[partition].standby_from_ms = worker_monotonic_ms() + STANDBY_AGAIN_MS;
    worker->partitions[partition].engine_ends = true;
}

/* Rule 23. An engine that owns nothing wants none of this; should it, nobody else's partition pays for it. */
bool worker_standby_forbids(enum engine_output_kind kind)
{
    switch (kind) {
    case ENGINE_OUT_APPEND:
    case ENGINE_OUT_SEND:
    case ENGINE_OUT_TASK:
    case ENGINE_OUT_REPLY:
    case ENGINE_OUT_STATUS:
    case ENGINE_OUT_STEP:
    case ENGINE_OUT_TRIM_INBOX:
    case ENGINE_OUT_CUT_JOURNAL:
    case ENGINE_OUT_FORGOTTEN:
    case ENGINE_OUT_DEAD:
        return true;
    default:
        return false;
    }
}
