/*
 * A namespace that has more partitions than when the worker opened it (rules 24, 25): the log is opened anew, the partitions
 * are given back as for a planned move, and the worker joins again with the new number.
 */
#include <stdlib.h>

#include "worker/worker.h"

#define MAP_RETRY_MS 2000

void worker_map_asked(struct pdr_worker *worker) { worker->map_asked = true; }

static bool journals_know_more(const struct pdr_worker *worker)
{
    for (uint32_t p = 0; p < worker->partition_count; p++)
        if (worker->partitions[p].engine &&
            engine_map_version(worker->partitions[p].engine) > worker->log->genesis.map_version)
            return true;
    return false;
}

static void worker_look(struct pdr_worker *worker)
{
    struct log *log = NULL;
    if (worker_monotonic_ms() < worker->map_retry_ms || worker->draining)
        return;
    worker->map_asked = false;
    worker->map_retry_ms = worker_monotonic_ms() + MAP_RETRY_MS;
    if (worker_open_log(worker, &log) != PDR_OK) {
        worker_notice(worker, PDR_WARNING, "the namespace may have grown, and cannot be opened anew: %s", worker->error);
        worker->map_asked = true;
        return;
    }
    if (log->genesis.map_version <= worker->log->genesis.map_version) {
        log->operations->close(log);
        worker->map_asked = journals_know_more(worker); /* a broker told us what was */
        return;
    }
    worker_notice(worker, PDR_INFO, "the namespace has grown from %u to %u partitions: giving back what is owned, joining "
                  "again", worker->log->genesis.partitions, log->genesis.partitions);
    worker->grown_log = log;
    for (uint32_t p = 0; p < worker->partition_count; p++) { /* those that are only followed go at once */
        worker->partitions[p].assigned = false;
        if (worker->partitions[p].standby)
            worker_partition_close(worker, p);
        else if (worker->partitions[p].engine)
            engine_on_stop(worker->partitions[p].engine, true);
    }
}

static bool worker_is_empty(const struct pdr_worker *worker)
{
    for (uint32_t p = 0; p < worker->partition_count; p++)
        if (worker->partitions[p].engine)
            return false;
    return true;
}

/* It leaves the group for good: the new partitions must be dealt out, to it among others. */
static void worker_change_log(struct pdr_worker *worker)
{
    struct log *old = worker->log, *log = worker->grown_log;
    worker_sources_stop(worker);
    worker_registrations_wait(worker);
    worker_save(worker);
    old->operations->leave(old, true);
    worker_outputs_release(worker);
    for (uint32_t p = 0; p < worker->partition_count; p++)
        free(worker->partitions[p].stopped);
    free(worker->partitions);
    worker->partitions = NULL;
    worker->grown_log = NULL;
    int code = worker_use_log(worker, log);
    old->operations->close(old);
    if (code != PDR_OK)
        worker_fail(worker, code, "out of memory");
    else if (log->operations->join(log) != LOG_OK)
        worker_fail(worker, PDR_UNREACHABLE, "%s", log->error);
}

int64_t worker_grow_next(const struct pdr_worker *worker)
{
    if (worker->draining)
        return INT64_MAX;
    if (worker->grown_log)
        return worker_is_empty(worker) ? 0 : INT64_MAX;
    return worker->map_asked ? worker->map_retry_ms : INT64_MAX;
}

void worker_grow(struct pdr_worker *worker)
{
    if (worker->map_asked && !worker->grown_log)
        worker_look(worker);
    if (worker->grown_log && !worker->draining && worker_is_empty(worker))
        worker_change_log(worker);
}
