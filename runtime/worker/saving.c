/*
 * The worker's store: opened, saved into, and done without while it cannot be. It is a cache (rule 22): without it the
 * engines keep in memory what it would hold, and the next start or takeover reads more of the journal.
 */
#include <stdio.h>

#include "constants.h"
#include "worker/worker.h"

struct save_context {
    struct store *store;
    uint32_t partition;
    bool failed;
};

static void save_check(struct save_context *save, int code) { save->failed = save->failed || code != LOG_OK; }

static void save_partition_row(void *context, const StoredPartition *row)
{
    struct save_context *save = context;
    save_check(save, store_put_partition(save->store, save->partition, row));
}

static void save_run_row(void *context, const StoredRun *run)
{
    struct save_context *save = context;
    save_check(save, store_put_run(save->store, save->partition, run));
}

static void save_record_row(void *context, const char *job, uint64_t run, uint64_t seq, int64_t offset,
                            const void *data, size_t size)
{
    struct save_context *save = context;
    save_check(save, store_put_record(save->store, save->partition, job, run, seq, offset, data, size));
}

static void save_closed(void *context, const char *job, uint64_t run)
{
    struct save_context *save = context;
    save_check(save, store_drop_records(save->store, save->partition, job, run));
}

static void save_output_rows(void *context, const StoredOutput *const *outputs, size_t count)
{
    struct save_context *save = context;
    save_check(save, store_put_outputs(save->store, save->partition, outputs, count));
}

static void save_forgotten(void *context, const char *job)
{
    struct save_context *save = context;
    save_check(save, store_drop_run(save->store, save->partition, job));
}

static bool save_one(struct pdr_worker *worker, uint32_t partition)
{
    struct save_context context = { .store = worker->store, .partition = partition };
    struct engine_save save = { &context, save_partition_row, save_run_row, save_record_row, save_closed,
                                save_output_rows, save_forgotten };
    engine_store(worker->partitions[partition].engine, &save);
    return !context.failed;
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static const char *store_name(const struct pdr_worker *worker, char *path, size_t size)
{
    if (worker->store_in_log)
        return worker->log_uri;
    snprintf(path, size, "%s/store.db", worker->data.path);
    return path;
}

/* Said once, until it is well again. */
static void store_is_ill(struct pdr_worker *worker, const char *what, const char *why)
{
    char path[4096];
    worker->store_retry_ms = worker_monotonic_ms() + STORE_RETRY_MS;
    if (worker->store_ill)
        return;
    worker->store_ill = true;
    worker_notice(worker, PDR_WARNING, "the store %s %s: %s. It is a cache: jobs go on, what changes is kept in memory, and the "
                  "next start or takeover reads more of the journal. Make room, or set its directory right; the file may be "
                  "deleted too. It is tried again every %d s", store_name(worker, path, sizeof path), what, why,
                  STORE_RETRY_MS / 1000);
}

static void store_is_well(struct pdr_worker *worker)
{
    char path[4096];
    if (!worker->store_ill)
        return;
    worker->store_ill = false;
    worker_notice(worker, PDR_INFO, "the store %s is written again", store_name(worker, path, sizeof path));
}

static bool store_try_open(struct pdr_worker *worker)
{
    char path[4096], why[512];
    if (worker->store_in_log)
        return (worker->store = store_of_log(worker->log)) != NULL;
    if (data_dir_renew(&worker->data, why, sizeof why) == 0 &&
        store_open(store_name(worker, path, sizeof path), worker->log->genesis.log_id, &worker->store, why, sizeof why) ==
            LOG_OK)
        return true;
    worker->store = NULL;
    store_is_ill(worker, "cannot be opened", why);
    return false;
}

/* A worker without a store works. */
void worker_store_open(struct pdr_worker *worker)
{
    worker->store = store_of_log(worker->log);
    worker->store_in_log = worker->store != NULL;
    if (!worker->store)
        (void)!store_try_open(worker);
}

/* The new one has nothing: it is told all, or all is read again. */
static bool store_open_anew(struct pdr_worker *worker)
{
    store_close(worker->store);
    if (!store_try_open(worker))
        return false;
    for (uint32_t p = 0; p < worker->partition_count; p++) {
        struct engine *engine = worker->partitions[p].engine;
        if (!engine)
            continue;
        if (store_begin(worker->store) == LOG_OK && store_drop_partition(worker->store, p) == LOG_OK)
            (void)!store_commit(worker->store);
        if (!engine_store_anew(engine))
            engine_rebuild(engine, "the store was lost, and with it records that are needed");
    }
    return true;
}

static bool store_put_in_place(struct pdr_worker *worker)
{
    char path[4096], why[512];
    worker->store_look_ms = worker_monotonic_ms() + STORE_RETRY_MS;
    if (store_is_in_place(worker->store))
        return true;
    if (data_dir_renew(&worker->data, why, sizeof why) != 0) {
        store_is_ill(worker, "was taken away, and cannot be put back", why);
        return false;
    }
    if (store_put_back(worker->store, worker->log->genesis.log_id) != LOG_OK) {
        store_is_ill(worker, "was taken away, and cannot be put back", store_error(worker->store));
        return false;
    }
    worker_notice(worker, PDR_WARNING, "the store %s was taken away or replaced while it was in use: a copy was put back",
                  store_name(worker, path, sizeof path));
    return true;
}

static bool store_is_ready(struct pdr_worker *worker)
{
    if (!worker->store || store_is_lost(worker->store))
        return store_open_anew(worker);
    return worker_monotonic_ms() < worker->store_look_ms || store_put_in_place(worker);
}

/* ---- saving ------------------------------------------------------------------------------------------------------ */

/* What is stored, or kept in memory: either way these jobs may be evicted. */
static void histories_are_kept(struct pdr_worker *worker)
{
    for (uint32_t p = 0; p < worker->partition_count; p++) {
        struct engine_counts counts;
        if (!worker->partitions[p].engine || worker->store_in_log)
            continue;
        engine_counts(worker->partitions[p].engine, &counts);
        engine_on_histories_kept(worker->partitions[p].engine, counts.position);
    }
}

/* Rows and position of all in one transaction (rule 22). */
static bool save_all(struct pdr_worker *worker)
{
    bool good = store_begin(worker->store) == LOG_OK;
    for (uint32_t p = 0; p < worker->partition_count && good; p++)
        if (worker->partitions[p].engine)
            good = save_one(worker, p);
    if (good && store_commit(worker->store) == LOG_OK)
        return true;
    store_rollback(worker->store);
    store_is_ill(worker, "cannot be written", store_error(worker->store));
    return false;
}

/* Before its engine goes: the next start reads nothing twice. */
void worker_save_partition(struct pdr_worker *worker, uint32_t partition)
{
    if (!worker->store || worker->store_ill || store_is_lost(worker->store))
        return;
    if (store_begin(worker->store) != LOG_OK || !save_one(worker, partition) || store_commit(worker->store) != LOG_OK) {
        store_rollback(worker->store);
        store_is_ill(worker, "cannot be written", store_error(worker->store));
    }
}

void worker_save(struct pdr_worker *worker)
{
    bool waits = worker->store_ill && !worker->draining && worker_monotonic_ms() < worker->store_retry_ms;
    if (!waits && store_is_ready(worker) && save_all(worker))
        store_is_well(worker);
    histories_are_kept(worker);
}
