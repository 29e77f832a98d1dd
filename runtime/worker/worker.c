/*
 * The public worker: opening, the loop, stopping.
 */
#include "worker/worker.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "constants.h"
#include "crash/slot.h"
#include "worker/queue_worker.h"

#define BRING_BACK_MS 4       /* jobs that are due are replayed for so long, then what has come is looked at */
#define SAVE_INTERVAL_MS 1000 /* how much journal a takeover reads again at most, in time */
#define SAVE_LEAST_MS 50
#define STOP_PATIENCE_MS 10000 /* how long a stop waits for the log beyond the drain, and a failed worker for its steps */
#define STEPS_PATIENCE_MS 500

int64_t worker_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Goes on while the machine sleeps: an owner must know how long it was away. */
int64_t worker_monotonic_us(void *unused)
{
    struct timespec now;
    (void)unused;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t worker_monotonic_ms(void) { return worker_monotonic_us(NULL) / 1000; }

void worker_notice(struct pdr_worker *worker, int level, const char *format, ...)
{
    char text[2048];
    va_list arguments;
    if (!worker->options.notice)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    worker->options.notice(worker->options.notice_context, level, text);
}

/* The first failure is the one that explains. */
void worker_fail(struct pdr_worker *worker, int code, const char *format, ...)
{
    va_list arguments;
    if (worker->failed)
        return;
    worker->failed = true;
    worker->code = code;
    va_start(arguments, format);
    vsnprintf(worker->error, sizeof worker->error, format, arguments);
    va_end(arguments);
}

/* ---- what the log tells ------------------------------------------------------------------------------------------- */

static void on_record(void *context, const struct log_record *record)
{
    struct pdr_worker *worker = context;
    struct engine *engine = worker->partitions[record->partition].engine;
    if (engine)
        engine_on_record(engine, record);
}

static void on_end(void *context, enum log_stream stream, uint32_t partition, int64_t end)
{
    struct pdr_worker *worker = context;
    struct worker_partition *slot = &worker->partitions[partition];
    if (!slot->engine)
        return;
    engine_on_end(slot->engine, stream, end);
    if (stream != LOG_JOURNAL || slot->read_to_end)
        return;
    slot->read_to_end = true;
    if (slot->standby)
        worker_standby_read(worker, partition, end);
}

static void on_delivered(void *context, uint64_t cookie, enum log_delivery delivery, int64_t offset)
{
    worker_delivered(context, cookie, delivery, offset);
}

static void on_assigned(void *context, uint32_t partition)
{
    struct pdr_worker *worker = context;
    if (partition >= worker->partition_count)
        worker_map_asked(worker);
    else if (!worker->draining && !worker->grown_log)
        worker_assign(worker, partition);
}

static void on_revoked(void *context, uint32_t partition)
{
    struct pdr_worker *worker = context;
    if (partition < worker->partition_count)
        worker_revoke(worker, partition);
}

static void on_fault(void *context, enum log_fault fault, uint32_t partition, const char *message)
{
    struct pdr_worker *worker = context;
    worker_notice(worker, fault == LOG_FATAL || fault == LOG_MEMBERSHIP_TAKEN ? PDR_ERROR : PDR_WARNING, "%s",
                  message ? message : "the log has a fault");
    for (uint32_t p = 0; p < worker->partition_count; p++)
        if (worker->partitions[p].engine && (partition == LOG_ALL || partition == p))
            engine_on_fault(worker->partitions[p].engine, fault, message);
    int fatal = worker->log->error_exit == 2 ? PDR_INVALID : PDR_UNREACHABLE; /* refused: starting again does not help */
    if (partition == LOG_ALL && (fault == LOG_FATAL || fault == LOG_MEMBERSHIP_TAKEN))
        worker_fail(worker, fault == LOG_FATAL ? fatal : PDR_MEMBER_TAKEN, "%s",
                    message ? message : "the log cannot go on");
}

static void on_row_lost(void *context, const char *key) { worker_row_lost(context, key); }

static void on_dead_lost(void *context, const struct log_record *record, const char *reason)
{
    worker_dead_lost(context, record, reason);
}

/* ---- opening --------------------------------------------------------------------------------------------------------- */

static void read_boot_id(struct pdr_worker *worker)
{
    int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t size = file >= 0 ? read(file, worker->boot_id, sizeof worker->boot_id - 1) : -1;
    if (file >= 0)
        close(file);
    worker->boot_id[size > 0 ? size : 0] = '\0';
    worker->boot_id[strcspn(worker->boot_id, "\n")] = '\0';
}

/* Each log has a directory of its own: its last path component, in the user's state directory. */
static void default_data_path(const char *uri, char *path, size_t size)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME"), *slash = strrchr(uri, '/');
    char base[1024];
    if (state && *state)
        snprintf(base, sizeof base, "%s", state);
    else
        snprintf(base, sizeof base, "%s/.local/state", home && *home ? home : ".");
    snprintf(path, size, "%s/perdure/%.*s-%08x", base, (int)strcspn(slash ? slash + 1 : uri, "?"),
             slash ? slash + 1 : uri, (unsigned)hash64(uri, strlen(uri)));
}

static int open_data(struct pdr_worker *worker)
{
    char path[2048];
    if (worker->options.data)
        snprintf(path, sizeof path, "%s", worker->options.data);
    else
        default_data_path(worker->log_uri, path, sizeof path);
    if (data_dir_open(&worker->data, path, worker->options.name, worker->error, sizeof worker->error) != 0)
        return PDR_INVALID;
    worker->data_is_open = true;
    worker->name = strdup(worker->data.worker);
    return worker->name ? PDR_OK : PDR_NO_MEMORY;
}

static int name_embedded(struct pdr_worker *worker)
{
    char name[128], host[64] = "worker";
    gethostname(host, sizeof host - 1);
    snprintf(name, sizeof name, "%s-%d", host, (int)getpid());
    worker->name = strdup(worker->options.name ? worker->options.name : name);
    return worker->name ? PDR_OK : PDR_NO_MEMORY;
}

int worker_open_log(struct pdr_worker *worker, struct log **out)
{
    struct log_options options = {
        .client_name = worker->name,
        .member = worker->options.queue ? NULL : worker->name, /* a step worker owns nothing */
        .session_timeout_ms = worker->options.session_timeout_ms,
        .create = !worker->options.queue,
    };
    int code = log_open(worker->log_uri, &options, out, worker->error, sizeof worker->error);
    return code == 0 ? PDR_OK : code == 5 || code == LOG_BUSY ? PDR_UNREACHABLE : code == 3 ? PDR_NOT_FOUND : PDR_INVALID;
}

int worker_use_log(struct pdr_worker *worker, struct log *log)
{
    struct log_handler handler = {
        .context = worker, .record = on_record, .end = on_end, .delivered = on_delivered, .assigned = on_assigned,
        .revoked = on_revoked, .fault = on_fault, .row_lost = on_row_lost, .dead_lost = on_dead_lost,
    };
    log_set_handler(log, &handler);
    pthread_mutex_lock(&worker->log_mutex);
    worker->log = log;
    pthread_mutex_unlock(&worker->log_mutex);
    worker->partition_count = log->genesis.partitions;
    worker->partitions = calloc(worker->partition_count, sizeof *worker->partitions);
    worker->lanes = calloc(2 * (size_t)worker->partition_count, sizeof *worker->lanes);
    return worker->partitions && worker->lanes ? PDR_OK : PDR_NO_MEMORY;
}

static int open_log(struct pdr_worker *worker)
{
    struct log *log = NULL;
    int code = worker_open_log(worker, &log);
    return code == PDR_OK ? worker_use_log(worker, log) : code;
}

int pdr_worker_open(const pdr_worker_options *options, pdr_worker **out)
{
    pdr_worker *worker = calloc(1, sizeof *worker);
    *out = worker;
    if (!worker)
        return PDR_NO_MEMORY;
    if (options)
        memcpy(&worker->options, options, options->size < sizeof *options ? options->size : sizeof *options);
    worker->data.lock = -1;
    pthread_mutex_init(&worker->log_mutex, NULL);
    const char *environment = getenv("PERDURE_LOG");
    const char *uri = worker->options.log ? worker->options.log : environment ? environment : "sqlite:perdure.db";
    worker->log_uri = strdup(uri);
    worker->registry = registry_new();
    if (!worker->log_uri || !worker->registry)
        return PDR_NO_MEMORY;
    read_boot_id(worker);
    if (!queue_options_read(worker->options.queue_rates, worker->options.queue_limits, &worker->queue_options, worker->error,
                            sizeof worker->error))
        return PDR_INVALID;
    int limited = worker_read_limits(worker);
    if (limited != PDR_OK)
        return limited;
    bool embedded = strncmp(uri, "sqlite:", 7) == 0;
    if (embedded && worker->options.queue) {
        worker_fail(worker, PDR_INVALID, "%s is an embedded log and has no queues: its worker runs their steps itself", uri);
        return PDR_INVALID;
    }
    int code = embedded || worker->options.queue ? name_embedded(worker) : open_data(worker);
    if (code == PDR_OK)
        code = open_log(worker);
    if (code == PDR_OK && !worker->options.queue)
        worker_store_open(worker);
    return code;
}

int pdr_worker_add(pdr_worker *worker, const pdr_module *module)
{
    return registry_add(worker->registry, module, NULL, worker->error, sizeof worker->error);
}

int pdr_worker_load(pdr_worker *worker, const char *path)
{
    return registry_load(worker->registry, path, worker->error, sizeof worker->error);
}

const char *pdr_worker_error(const pdr_worker *worker) { return worker ? worker->error : "out of memory"; }

/* ---- the loop ----------------------------------------------------------------------------------------------------------- */

static void worker_take_steps(struct pdr_worker *worker)
{
    for (struct attempt_done *done; (done = step_pool_take(worker->pool));) {
        if (done->was_stuck)
            worker_notice(worker, PDR_INFO, "job %s: an attempt that was stuck has returned; %zu threads are stuck", done->job,
                          step_pool_load_of(worker->pool).stuck);
        struct engine *engine = worker->partitions[done->partition].engine;
        if (done->not_begun)
            worker_not_begun(worker, done->partition, done->job, done->run, done->op, done->attempt);
        else if (engine)
            engine_on_step_ended(engine, done->job, done->run, done->op, done->attempt, &done->outcome,
                                 done->started_ms);
        attempt_done_free(done);
    }
}

int64_t worker_drain_ms(const struct pdr_worker *worker)
{
    int64_t wanted = worker->options.drain_timeout_ms;
    int64_t usual = worker->options.queue ? QUEUE_DRAIN_MS : DRAIN_MS;
    return wanted == 0 ? usual : wanted > 0 ? wanted : 0;
}

static void worker_stop_begin(struct pdr_worker *worker)
{
    bool leave = atomic_load(&worker->leaving) || worker->options.leave;
    atomic_store(&worker->leaving, leave);
    worker->draining = true;
    for (uint32_t p = 0; p < worker->partition_count; p++) {
        worker->partitions[p].assigned = false;
        if (worker->partitions[p].engine)
            engine_on_stop(worker->partitions[p].engine, leave);
    }
}

static bool worker_has_partitions(const struct pdr_worker *worker)
{
    for (uint32_t p = 0; p < worker->partition_count; p++)
        if (worker->partitions[p].engine)
            return true;
    return false;
}

/* By the clock as it is now: the one before may have run a job for seconds, and a proof of ownership is judged by its age. */
static bool worker_run_engine(struct pdr_worker *worker, uint32_t partition, bool bring_back)
{
    struct engine *engine = worker->partitions[partition].engine;
    if (!engine)
        return false;
    engine_on_time(engine, worker_wall_ms(), worker_monotonic_ms());
    engine_run(engine, bring_back);
    return worker_carry_out(worker, partition);
}

/* Runs the engines until none wants anything more of what has come. True: something is to be flushed. Each time another one is
 * the first, by chance: what the partitions share, as the rate of a queue, is not always the same one's. */
static bool worker_turn(struct pdr_worker *worker)
{
    bool any = false, again = true;
    worker->chance = worker->chance * 1664525 + 1013904223; /* Numerical Recipes' generator: its upper bits */
    uint32_t first = worker->chance >> 16;
    for (int round = 0; again && round < 1000 && !worker->failed; round++) {
        again = false;
        for (uint32_t i = 0; i < worker->partition_count; i++)
            again = worker_run_engine(worker, (first + i) % worker->partition_count, false) || again;
        any = any || again;
        again = again && worker->memory.used < worker->memory.budget; /* else first of all what can leave memory does */
    }
    return any;
}

/* Jobs that are due are replayed, a few at a time: one partition with long histories does not keep the others from what has
 * come for them meanwhile. True: some did not have their turn. `any`: something is to be
 * flushed. */
static bool worker_bring_back(struct pdr_worker *worker, bool *any)
{
    int64_t begun = worker_monotonic_ms(), now = begun;
    for (uint32_t i = 0; i < worker->partition_count && !worker->failed; i++) {
        if (now - begun >= BRING_BACK_MS)
            return true;
        uint32_t p = worker->next_brought_back++ % worker->partition_count;
        if (!worker->partitions[p].engine || !engine_has_due(worker->partitions[p].engine))
            continue;
        *any = worker_run_engine(worker, p, true) || *any;
        now = worker_monotonic_ms();
    }
    return false;
}

/* Histories that are not stored are in memory, and their jobs cannot leave it. */
static int64_t worker_save_at(const struct pdr_worker *worker)
{
    bool many = worker->memory.unsaved > worker->memory.budget / MEMORY_PART_OF_UNSAVED;
    return worker->saved_ms + (many ? SAVE_LEAST_MS : SAVE_INTERVAL_MS);
}

static int worker_timeout(const struct pdr_worker *worker)
{
    int64_t now = worker_monotonic_ms(), next = now + 1000;
    for (uint32_t p = 0; p < worker->partition_count; p++) {
        int64_t wake = worker->partitions[p].engine ? engine_next_wake(worker->partitions[p].engine) : INT64_MAX;
        if (wake < next)
            next = wake;
    }
    if (worker_save_at(worker) < next && worker_has_partitions(worker))
        next = worker_save_at(worker);
    if (worker_standby_next(worker) < next)
        next = worker_standby_next(worker);
    if (worker_grow_next(worker) < next)
        next = worker_grow_next(worker);
    if ((worker->postponed || worker->aside_waits) && now + 1 < next)
        next = now + 1;
    return next > now ? (int)(next - now) : 0;
}

static void worker_save_if_due(struct pdr_worker *worker)
{
    if (worker_monotonic_ms() < worker_save_at(worker))
        return;
    worker_save(worker);
    worker->saved_ms = worker_monotonic_ms();
}

static void pool_wake(void *context)
{
    struct pdr_worker *worker = context;
    pthread_mutex_lock(&worker->log_mutex); /* a namespace that grows is opened anew: see worker_change_log() */
    worker->log->operations->wake(worker->log);
    pthread_mutex_unlock(&worker->log_mutex);
}

static void worker_loop(struct pdr_worker *worker)
{
    int64_t give_up = INT64_MAX;
    int timeout = 0;
    while (!worker->failed) {
        crash_heartbeat();
        if (worker->log->operations->poll(worker->log, timeout) == LOG_FAILED && !worker->failed)
            worker_fail(worker, PDR_UNREACHABLE, "%s", worker->log->error);
        if (atomic_load(&worker->stopping) && !worker->draining) {
            worker_stop_begin(worker);
            give_up = worker_monotonic_ms() + worker_drain_ms(worker) + STOP_PATIENCE_MS;
        }
        worker_take_steps(worker);
        worker_take_sources(worker);
        worker_take_registrations(worker);
        worker_grow(worker);
        worker_send_postponed(worker);
        bool busy = worker_turn(worker);
        bool again = worker_bring_back(worker, &busy);
        worker->log->operations->flush(worker->log);
        worker_save_if_due(worker);
        again = worker_evict(worker) || again; /* what waited for room */
        worker_complain(worker);
        worker_standby(worker);
        if (worker->draining && (!worker_has_partitions(worker) || worker_monotonic_ms() > give_up))
            break;
        /* A flush of the embedded log confirms, and tells of what it confirmed: look again before waiting. */
        timeout = again || (busy && worker->log->operations->history) ? 0 : worker_timeout(worker);
    }
}

/* For people who wonder what a restart cost, and for tests. */
static void worker_tell_counts(struct pdr_worker *worker)
{
    const struct engine_counts *gone = &worker->gone;
    worker_notice(worker, PDR_INFO, "%" PRIu64 " jobs were rebuilt, %" PRIu64 " evicted; at most %zu were in memory, %zu "
                  "brought back at a time, %zu commands held, in one partition; an inbox was held back %" PRIu64 " times",
                  gone->replays, gone->evictions, gone->live_jobs_most, gone->woken_most, gone->inbox_held_most,
                  gone->inbox_pauses);
}

int pdr_worker_run(pdr_worker *worker)
{
    int threads = worker->options.step_threads > 0 ? worker->options.step_threads : STEP_THREADS;
    if (registry_count(worker->registry) == 0) {
        worker_fail(worker, PDR_INVALID, "the worker has no module; name one with --module FILE.so");
        return PDR_INVALID;
    }
    if (!worker_knows_limited(worker))
        return worker->code;
    crash_thread_begin(); /* the first thread that does: this one runs the jobs */
    worker->pool = step_pool_new(threads, pool_wake, worker);
    if (!worker->pool)
        return PDR_NO_MEMORY;
    if (worker->options.queue)
        return queue_worker_run(worker);
    int code = worker_register(worker);
    if (code != PDR_OK)
        return code;
    if (worker->log->operations->join(worker->log) != LOG_OK) {
        worker_fail(worker, PDR_UNREACHABLE, "%s", worker->log->error);
        return worker->code;
    }
    worker_notice(worker, PDR_INFO, "worker %s on %s runs %s", worker->name, worker->log_uri,
                  registry_job_names(worker->registry));
    worker_memory_begin(worker);
    crash_serving();
    worker_loop(worker);
    if (!worker->failed)
        worker_save(worker);
    worker_tell_counts(worker);
    for (uint32_t p = 0; p < worker->partition_count; p++) /* leaving takes them back, and forgets why they stood still */
        if (worker->partitions[p].stopped)
            worker_fail(worker, PDR_PARTITION_STOPPED, "partition %u: %s", p, worker->partitions[p].stopped);
    worker->log->operations->leave(worker->log, atomic_load(&worker->leaving));
    worker->log->operations->flush(worker->log);
    return worker->failed ? worker->code : PDR_OK;
}

void pdr_worker_stop(pdr_worker *worker)
{
    atomic_store(&worker->stopping, true);
    if (worker->log)
        worker->log->operations->wake(worker->log);
}

void pdr_worker_leave(pdr_worker *worker)
{
    atomic_store(&worker->leaving, true);
    pdr_worker_stop(worker);
}

void pdr_worker_close(pdr_worker *worker)
{
    if (!worker)
        return;
    /* After a drain they have had their time, and were handed back. */
    size_t stuck = step_pool_free(worker->pool, worker->draining ? STEPS_PATIENCE_MS : STOP_PATIENCE_MS);
    if (stuck > 0)
        worker_notice(worker, PDR_WARNING, "%zu steps still run; they are left behind", stuck);
    worker_sources_stop(worker);
    worker_registrations_free(worker);
    for (uint32_t p = 0; p < worker->partition_count; p++) {
        engine_free(worker->partitions[p].engine);
        free(worker->partitions[p].stopped);
    }
    free(worker->partitions);
    if (worker->grown_log)
        worker->grown_log->operations->close(worker->grown_log);
    store_close(worker->store);
    if (worker->log)
        worker->log->operations->close(worker->log);
    worker_outputs_release(worker);
    queue_options_free(worker->queue_options);
    limits_free(worker->limits);
    worker_aside_release(worker);
    if (worker->data_is_open)
        data_dir_close(&worker->data);
    if (stuck == 0) /* code that still runs must stay loaded */
        registry_free(worker->registry);
    free(worker->log_uri);
    free(worker->name);
    free(worker);
}
