/*
 * The partitions of a worker: an engine each, begun from the store. Saving: saving.c.
 */
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "crash/slot.h"
#include "worker/worker.h"

#define COMPLAINT_INTERVAL_MS 60000

static int partition_history(void *context, uint32_t partition, const char *job, uint64_t run,
                             bool (*visit)(void *visit_context, int64_t offset, const void *record, size_t size),
                             void *visit_context)
{
    struct pdr_worker *worker = context;
    if (worker->log->operations->history)
        return worker->log->operations->history(worker->log, partition, job, run, visit, visit_context);
    return worker->store ? store_history(worker->store, partition, job, run, visit, visit_context) : LOG_OK;
}

static void job_log(void *context, const pdr_job *job, int level, const char *message)
{
    struct pdr_worker *worker = context;
    worker_notice(worker, level, "job %s: %s", pdr_job_id(job), message);
}

static struct engine *partition_engine(struct pdr_worker *worker, uint32_t partition)
{
    struct engine_config config = {
        .partition = partition,
        .genesis = worker->log->genesis,
        .worker = worker->name,
        .boot_id = worker->boot_id,
        .registry = worker->registry,
        .has_queues = worker->log->operations->put_task != NULL,
        .queue_take = worker->queue_options ? queue_options_take : NULL,
        .queue_limit = worker->queue_options ? queue_options_limit : NULL,
        .queue_context = worker->queue_options,
        .memory = &worker->memory,
        .shared_limits = worker->limits,
        .type_elsewhere = worker_type_elsewhere,
        .type_context = worker,
        .seed = (uint64_t)worker_monotonic_us(NULL) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)(uintptr_t)worker ^
                (uint64_t)worker_wall_ms(),
        .own_clock = worker->log->operations->history != NULL,
        .hands_over = worker->log->operations->history == NULL, /* an embedded file has one owner, by its lock */
        .limits = { .live_jobs = worker->options.live_jobs, .live_bytes = worker->options.live_bytes,
                    .crash_limit = crash_limit(), .life_ms = worker->options.life_ms,
                    .keep_ms = worker->options.keep_ms, .retention_bytes = worker->options.retention_bytes,
                    .retention_age_ms = worker->options.retention_age_ms,
                    .alive_ms = worker->options.session_timeout_ms / 2,
                    .drain_ms = worker_drain_ms(worker) > 0 ? worker_drain_ms(worker) : -1 },
        .host = { .context = worker, .history = partition_history, .unshown = worker_unshown, .stopwatch_us = worker_monotonic_us },
        .job = { .log = job_log, .log_context = worker },
    };
    struct engine *engine = engine_new(&config);
    if (engine && worker->log->operations->history)
        engine_on_histories_kept(engine, INT64_MAX);
    return engine;
}

static void load_run(void *context, const StoredRun *run)
{
    (void)!engine_load_run(context, run);
}

static void load_output(void *context, const StoredOutput *output)
{
    (void)!engine_load_output(context, output);
}

/* False: the rows do not fit together, and the engine has them. */
static bool partition_load(struct pdr_worker *worker, uint32_t partition, struct engine *engine)
{
    StoredPartition *row = NULL;
    if (!worker->store || store_partition(worker->store, partition, &row) != LOG_OK)
        return true;
    bool whole = true;
    if (row->log_id == worker->log->genesis.log_id && row->format == FORMAT_VERSION && row->partition == partition) {
        engine_load_partition(engine, row);
        whole = store_each_run(worker->store, partition, load_run, engine) == LOG_OK &&
                store_each_output(worker->store, partition, load_output, engine) == LOG_OK && engine_loaded_whole(engine);
    }
    stored_partition_free(row);
    return whole;
}

static void partition_drop_stored(struct pdr_worker *worker, uint32_t partition)
{
    if (worker->store && (store_begin(worker->store) != LOG_OK || store_drop_partition(worker->store, partition) != LOG_OK ||
                          store_commit(worker->store) != LOG_OK))
        store_rollback(worker->store);
}

static void partition_begin(struct pdr_worker *worker, uint32_t partition)
{
    struct engine *engine = worker->partitions[partition].engine;
    int64_t start = 0, end = 0;
    if (worker->log->operations->bounds(worker->log, LOG_JOURNAL, partition, &start, &end) != LOG_OK)
        start = 0;
    worker->partitions[partition].read_to_end = false;
    engine_on_time(engine, worker_wall_ms(), worker_monotonic_ms());
    engine_begin(engine, start);
}

static bool partition_new(struct pdr_worker *worker, uint32_t partition)
{
    struct worker_partition *slot = &worker->partitions[partition];
    slot->engine = partition_engine(worker, partition);
    slot->generation++;
    if (slot->engine && !partition_load(worker, partition, slot->engine)) {
        worker_notice(worker, PDR_WARNING, "partition %u: reading the journal from its start: the store's rows do not fit together",
                      partition);
        partition_drop_stored(worker, partition);
        engine_free(slot->engine);
        slot->engine = partition_engine(worker, partition);
    }
    if (!slot->engine)
        worker_fail(worker, PDR_NO_MEMORY, "out of memory");
    return slot->engine != NULL;
}

bool worker_follow(struct pdr_worker *worker, uint32_t partition)
{
    if (!partition_new(worker, partition))
        return false;
    worker->partitions[partition].standby = true;
    worker->partitions[partition].engine_ends = false;
    partition_begin(worker, partition);
    return true;
}

void worker_assign(struct pdr_worker *worker, uint32_t partition)
{
    struct worker_partition *slot = &worker->partitions[partition];
    bool is_new = !slot->engine;
    slot->assigned = true;
    slot->owned_at_ms = worker_monotonic_ms();
    if (is_new && !partition_new(worker, partition))
        return;
    if (is_new || slot->standby)
        worker_tell_crashes(worker, partition);
    slot->standby = false;
    engine_on_assigned(slot->engine);
    if (is_new)
        partition_begin(worker, partition);
}

void worker_revoke(struct pdr_worker *worker, uint32_t partition)
{
    struct worker_partition *slot = &worker->partitions[partition];
    slot->assigned = false;
    free(slot->stopped); /* should it come back, it is tried again */
    slot->stopped = NULL;
    if (slot->engine)
        engine_on_revoked(slot->engine);
}

/* ---- partitions that cannot go on ------------------------------------------------------------------------------------ */

/* One of them is no reason to end the others; the engine goes when its outputs are done with. */
void worker_partition_stopped(struct pdr_worker *worker, uint32_t partition, const char *why)
{
    struct worker_partition *slot = &worker->partitions[partition];
    if (slot->stopped)
        return;
    if (!slot->assigned) { /* it was being given up: whoever has it now says what is wrong with it */
        worker_notice(worker, PDR_WARNING, "partition %u, which is given up, is stopped: %s", partition, why);
        slot->owned = false;
        slot->engine_ends = true;
        return;
    }
    slot->stopped = strdup(why);
    slot->owned = false;
    if (!slot->stopped) {
        worker_fail(worker, PDR_NO_MEMORY, "out of memory");
        return;
    }
    worker_notice(worker, PDR_ERROR, "partition %u is stopped: %s", partition, why);
    worker->next_complaint_ms = worker_monotonic_ms() + COMPLAINT_INTERVAL_MS;
    size_t assigned = 0, stopped = 0;
    for (uint32_t p = 0; p < worker->partition_count; p++) {
        assigned += worker->partitions[p].assigned;
        stopped += worker->partitions[p].stopped != NULL;
    }
    if (stopped >= assigned)
        worker_fail(worker, PDR_PARTITION_STOPPED, "partition %u: %s", partition, why);
}

/* Again and again, so that nobody takes a worker for healthy whose jobs stand still in one partition. */
void worker_complain(struct pdr_worker *worker)
{
    if (worker_monotonic_ms() < worker->next_complaint_ms)
        return;
    worker->next_complaint_ms = worker_monotonic_ms() + COMPLAINT_INTERVAL_MS;
    for (uint32_t p = 0; p < worker->partition_count; p++)
        if (worker->partitions[p].stopped)
            worker_notice(worker, PDR_ERROR, "partition %u is still stopped, its jobs stand still: %s", p,
                          worker->partitions[p].stopped);
}

static void count_most(size_t *most, size_t count) { *most = count > *most ? count : *most; }

static void worker_count_gone(struct pdr_worker *worker, uint32_t partition)
{
    struct engine_counts counts, *gone = &worker->gone;
    engine_counts(worker->partitions[partition].engine, &counts);
    gone->replays += counts.replays;
    gone->evictions += counts.evictions;
    count_most(&gone->live_jobs_most, counts.live_jobs_most);
    count_most(&gone->woken_most, counts.woken_most);
    count_most(&gone->inbox_held_most, counts.inbox_held_most);
    gone->inbox_pauses += counts.inbox_pauses;
}

void worker_partition_close(struct pdr_worker *worker, uint32_t partition)
{
    struct worker_partition *slot = &worker->partitions[partition];
    if (!slot->engine)
        return;
    worker->log->operations->unfollow(worker->log, LOG_INBOX, partition);
    worker->log->operations->unfollow(worker->log, LOG_JOURNAL, partition);
    worker_count_gone(worker, partition);
    engine_free(slot->engine);
    slot->engine = NULL;
    slot->owned = slot->standby = slot->engine_ends = false;
}

/* Rule 3: what the store said is dropped; the journal is read from its start. A file that is wrong again goes as a whole. */
int worker_rebuild(struct pdr_worker *worker, uint32_t partition, bool again)
{
    if (again && worker->store)
        store_give_up(worker->store);
    else
        partition_drop_stored(worker, partition);
    struct engine *engine = worker->partitions[partition].engine;
    if (worker->partitions[partition].assigned)
        engine_on_assigned(engine);
    if (worker->partitions[partition].assigned || worker->partitions[partition].standby)
        partition_begin(worker, partition);
    else
        worker_partition_close(worker, partition); /* it was being given up: whoever wants it claims it */
    return PDR_OK;
}
