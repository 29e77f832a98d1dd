/*
 * Carries out what engines want: appends, sends, steps, replies, notices.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker.h"

/* ---- cookies ------------------------------------------------------------------------------------------------------ */

static bool cookie_take(struct pdr_worker *worker, uint32_t partition, uint64_t cookie, uint64_t *out)
{
    size_t looked = 0;
    while (looked < worker->slot_count && worker->slots[worker->slot_hint].used) {
        worker->slot_hint = (worker->slot_hint + 1) % worker->slot_count;
        looked++;
    }
    if (looked == worker->slot_count) {
        size_t count = worker->slot_count ? worker->slot_count * 2 : 1024;
        struct cookie_slot *slots = realloc(worker->slots, count * sizeof *slots);
        if (!slots)
            return false;
        memset(slots + worker->slot_count, 0, (count - worker->slot_count) * sizeof *slots);
        worker->slots = slots;
        worker->slot_hint = worker->slot_count;
        worker->slot_count = count;
    }
    struct cookie_slot *slot = &worker->slots[worker->slot_hint];
    *slot = (struct cookie_slot){ partition, worker->partitions[partition].generation, cookie, true };
    *out = worker->slot_hint;
    worker->slot_hint = (worker->slot_hint + 1) % worker->slot_count;
    return true;
}

void worker_delivered(struct pdr_worker *worker, uint64_t cookie, enum log_delivery delivery, int64_t offset)
{
    if (cookie >= worker->slot_count || !worker->slots[cookie].used)
        return;
    struct cookie_slot slot = worker->slots[cookie];
    worker->slots[cookie].used = false;
    struct worker_partition *owner = &worker->partitions[slot.partition];
    if (owner->engine && owner->generation == slot.generation)
        engine_on_delivered(owner->engine, slot.cookie, delivery, offset);
}

/* ---- appends and sends -------------------------------------------------------------------------------------------- */

static struct postponed_lane *postponed_lane(struct pdr_worker *worker, enum log_stream stream, uint32_t partition)
{
    return &worker->lanes[2 * partition + (stream == LOG_INBOX)];
}

static void postpone(struct pdr_worker *worker, enum log_stream stream, uint32_t partition, uint64_t cookie,
                     const struct engine_output *out)
{
    struct postponed *postponed = malloc(sizeof *postponed + out->size);
    if (!postponed) {
        worker_fail(worker, PDR_NO_MEMORY, "out of memory");
        return;
    }
    postponed->next = NULL;
    postponed->stream = stream;
    postponed->partition = partition;
    postponed->cookie = cookie;
    postponed->key = out->key ? strdup(out->key) : NULL;
    postponed->size = out->size;
    memcpy(postponed->data, out->data, out->size);
    if (worker->postponed_tail)
        worker->postponed_tail->next = postponed;
    else
        worker->postponed = postponed;
    worker->postponed_tail = postponed;
    postponed_lane(worker, stream, partition)->count++;
}

static void append_refused(struct pdr_worker *worker, uint64_t cookie)
{
    worker_notice(worker, PDR_WARNING, "%s", worker->log->error);
    worker_delivered(worker, cookie, LOG_NOT_PERSISTED, -1);
}

static void worker_append(struct pdr_worker *worker, uint32_t owner, enum log_stream stream,
                          const struct engine_output *out)
{
    uint64_t cookie;
    if (out->partition >= worker->partition_count) { /* the journal knew before us: sent again when the log is open as it is now */
        worker_map_asked(worker);
        return;
    }
    if (!cookie_take(worker, owner, out->cookie, &cookie)) {
        worker_fail(worker, PDR_NO_MEMORY, "out of memory");
        return;
    }
    if (postponed_lane(worker, stream, out->partition)->count > 0) {
        postpone(worker, stream, out->partition, cookie, out);
        return;
    }
    struct log_message message = { out->key, out->data, out->size, out->header };
    int code = worker->log->operations->append(worker->log, stream, out->partition, &message, cookie);
    if (code == LOG_FULL)
        postpone(worker, stream, out->partition, cookie, out);
    else if (code != LOG_OK)
        append_refused(worker, cookie);
}

#define QUEUE_NOTICE_MS 30000

/* A queue that takes nothing is tried again by the engine, a while later. */
static void worker_put_task(struct pdr_worker *worker, uint32_t owner, const struct engine_output *out)
{
    uint64_t cookie;
    if (!cookie_take(worker, owner, out->cookie, &cookie)) {
        worker_fail(worker, PDR_NO_MEMORY, "out of memory");
        return;
    }
    struct log_message message = { out->key, out->data, out->size, NULL };
    int code = worker->log->operations->put_task(worker->log, out->text, (uint32_t)out->count, &message, cookie);
    if (code == LOG_OK)
        return;
    if (code != LOG_FULL && worker_monotonic_ms() >= worker->queue_notice_ms) { /* each task comes again each second */
        worker_notice(worker, PDR_WARNING, "%s", worker->log->error);
        worker->queue_notice_ms = worker_monotonic_ms() + QUEUE_NOTICE_MS;
    }
    worker_delivered(worker, cookie, LOG_NOT_PERSISTED, -1);
}

/* In order within a partition's stream; one that is full does not keep the others waiting (H28). */
void worker_send_postponed(struct pdr_worker *worker)
{
    struct postponed **link = &worker->postponed, *last = NULL;
    worker_send_aside(worker);
    worker->postponed_round++;
    while (*link) {
        struct postponed *postponed = *link;
        struct postponed_lane *lane = postponed_lane(worker, postponed->stream, postponed->partition);
        struct log_message message = { postponed->key, postponed->data, postponed->size, NULL };
        int code = LOG_FULL;
        if (lane->full_round != worker->postponed_round)
            code = worker->log->operations->append(worker->log, postponed->stream, postponed->partition, &message,
                                                   postponed->cookie);
        if (code == LOG_FULL) {
            lane->full_round = worker->postponed_round;
            last = postponed;
            link = &postponed->next;
            continue;
        }
        *link = postponed->next;
        lane->count--;
        if (code != LOG_OK)
            append_refused(worker, postponed->cookie);
        free(postponed->key);
        free(postponed);
    }
    worker->postponed_tail = last;
}

void worker_outputs_release(struct pdr_worker *worker)
{
    while (worker->postponed) {
        struct postponed *next = worker->postponed->next;
        free(worker->postponed->key);
        free(worker->postponed);
        worker->postponed = next;
    }
    free(worker->slots);
    free(worker->lanes);
    worker->postponed_tail = NULL;
    worker->slots = NULL;
    worker->lanes = NULL;
    worker->slot_count = worker->slot_hint = 0;
}

/* ---- steps --------------------------------------------------------------------------------------------------------- */

/* It came too late to begin: the engine looks at the log first. It is told the time, or it would see no reason to. */
void worker_not_begun(struct pdr_worker *worker, uint32_t partition, const char *job, uint64_t run, uint64_t op,
                      uint32_t attempt)
{
    struct engine *engine = worker->partitions[partition].engine;
    if (!engine)
        return;
    engine_on_time(engine, worker_wall_ms(), worker_monotonic_ms());
    engine_on_step_handed_back(engine, job, run, op, attempt);
}

static struct attempt_request attempt_request_of(const struct pdr_worker *worker, const struct engine_output *out)
{
    return (struct attempt_request){ .callable = out->step,
                                     .job = out->key,
                                     .run = out->run,
                                     .op = out->op,
                                     .attempt = out->attempt,
                                     .input = out->input,
                                     .log_id = worker->log->genesis.log_id };
}

static void step_run_in_place(struct pdr_worker *worker, uint32_t partition, const struct engine_output *out)
{
    struct attempt_request request = attempt_request_of(worker, out);
    struct attempt_outcome outcome = { 0 };
    char job[256];
    uint64_t run = out->run, op = out->op;
    uint32_t attempt = out->attempt;
    int64_t started = worker_wall_ms();
    strncpy(job, out->key, sizeof job - 1);
    job[sizeof job - 1] = '\0';
    if (worker_monotonic_ms() >= out->begin_until) {
        worker_not_begun(worker, partition, job, run, op, attempt);
        return;
    }
    attempt_run(&request, &outcome);
    engine_on_step_ended(worker->partitions[partition].engine, job, run, op, attempt, &outcome, started);
}

static void step_run(struct pdr_worker *worker, uint32_t partition, const struct engine_output *out)
{
    if (out->in_place) {
        step_run_in_place(worker, partition, out);
        return;
    }
    struct attempt_request request = attempt_request_of(worker, out);
    if (step_pool_submit(worker->pool, partition, &request, worker_wall_ms(), out->begin_until) != PDR_OK)
        worker_fail(worker, PDR_NO_MEMORY, "out of memory");
}

static void step_abandon_one(struct pdr_worker *worker, const struct engine_output *out)
{
    struct step_pool_load load;
    if (out->timeout_ms == 0) {
        step_pool_abandon(worker->pool, out->key, out->run, out->op, out->attempt);
        return;
    }
    if (!step_pool_give_up(worker->pool, out->key, out->run, out->op, out->attempt, &load))
        return;
    worker_notice(worker, PDR_WARNING,
                  "job %s: attempt %" PRIu32 " of operation %" PRIu64 " runs longer than its timeout of %" PRId64 " ms and "
                  "cannot be stopped: %zu threads for steps are stuck, %zu may be; what it still brings is dropped",
                  out->key, out->attempt, out->op, out->timeout_ms, load.stuck, load.limit);
    if (load.stuck >= load.limit)
        worker_notice(worker, PDR_ERROR, "no step begins any more until a stuck one returns; restart the worker to be rid "
                                         "of them");
}

/* ---- notices --------------------------------------------------------------------------------------------------------- */

#define REPLAY_NOTICES 20 /* of single jobs after a takeover; the rest is counted */

static void notice_replayed(struct pdr_worker *worker, struct worker_partition *slot, const struct engine_output *out)
{
    slot->replayed_jobs++;
    slot->replayed_events += out->count;
    slot->replayed_us += out->microseconds;
    if (slot->replayed_jobs > REPLAY_NOTICES)
        return;
    char where[512] = "the beginning";
    if (out->site)
        snprintf(where, sizeof where, "%s:%u", out->site->file, out->site->line);
    worker_notice(worker, PDR_INFO, "job %s: replayed %" PRIu64 " events in %.1f ms, going on at %s", out->key,
                  out->count, (double)out->microseconds / 1000.0, where);
}

static void notice_owned(struct pdr_worker *worker, uint32_t partition)
{
    struct worker_partition *slot = &worker->partitions[partition];
    struct engine_counts counts;
    engine_counts(slot->engine, &counts);
    slot->owned = true;
    slot->replayed_jobs = 0;
    worker_notice(worker, PDR_INFO, "partition %u is ours after %" PRId64 " ms: %zu open jobs, journal at %" PRId64,
                  partition, worker_monotonic_ms() - slot->owned_at_ms, counts.open_runs, counts.position);
}

static void notice_lost(struct pdr_worker *worker, uint32_t partition, const char *why)
{
    struct worker_partition *slot = &worker->partitions[partition];
    slot->owned = false;
    slot->owned_at_ms = worker_monotonic_ms();
    worker_notice(worker, PDR_WARNING, "partition %u: %s", partition, why ? why : "lost");
}

/* ---- one output ------------------------------------------------------------------------------------------------------- */

static void journal_follow(struct pdr_worker *worker, uint32_t partition, int64_t from)
{
    if (worker->log->operations->follow(worker->log, LOG_JOURNAL, partition, from) != LOG_OK)
        worker_fail(worker, PDR_UNREACHABLE, "%s", worker->log->error);
}

/* Rule 13: a new owner starts at the greater of its position and the log's start. */
/* Rule 16: commands that nobody absorbed are gone; going on would lose what clients were told is safe. The embedded
 * log's offsets have gaps and only the owner trims it. */
static bool inbox_is_whole(struct pdr_worker *worker, uint32_t partition, int64_t from, int64_t start)
{
    if (start <= from || worker->log->operations->history)
        return true;
    char text[256];
    snprintf(text, sizeof text,
             "commands at offsets %" PRId64 " to %" PRId64 " of inbox partition %u are gone, and no job has taken them: "
             "something else than Perdure deleted them",
             from, start - 1, partition);
    if (worker->options.accept_lost_commands) {
        worker_notice(worker, PDR_WARNING, "%s; going on without them", text);
        return true;
    }
    char why[512];
    snprintf(why, sizeof why, "%s; look for who did, then start with --accept-lost-commands to go on without them", text);
    worker_partition_stopped(worker, partition, why);
    return false;
}

static void inbox_follow(struct pdr_worker *worker, uint32_t partition, int64_t from)
{
    struct log *log = worker->log;
    int64_t start = 0, end = 0;
    if (log->operations->bounds(log, LOG_INBOX, partition, &start, &end) != LOG_OK)
        start = 0;
    if (!inbox_is_whole(worker, partition, from, start))
        return;
    if (log->operations->follow(log, LOG_INBOX, partition, start > from ? start : from) != LOG_OK)
        worker_fail(worker, PDR_UNREACHABLE, "%s", log->error);
}

/* Attempts that no thread has begun are not run to be thrown away: the next owner begins them. */
static void hand_back_steps(struct pdr_worker *worker, uint32_t partition, const struct engine_output *out)
{
    struct worker_partition *slot = &worker->partitions[partition];
    uint64_t running = out->count, back = 0;
    for (struct attempt_done *done; (done = step_pool_take_back(worker->pool, partition)); back++) {
        engine_on_step_handed_back(slot->engine, done->job, done->run, done->op, done->attempt);
        attempt_done_free(done);
    }
    if (running > 0)
        worker_notice(worker, PDR_INFO, "partition %u is given back: %" PRIu64 " steps may end, %" PRIu64 " had not begun",
                      partition, running - back, back);
}

/* What the engine tells of itself. */
static void worker_is_told(struct pdr_worker *worker, uint32_t partition, const struct engine_output *out)
{
    struct worker_partition *slot = &worker->partitions[partition];
    switch (out->kind) {
    case ENGINE_OUT_OWNED:
        notice_owned(worker, partition);
        if (engine_map_version(slot->engine) > worker->log->genesis.map_version)
            worker_map_asked(worker);
        break;
    case ENGINE_OUT_TAKEN_OVER:
        worker_taken_over(worker, partition, out->takeover);
        break;
    case ENGINE_OUT_LOST:
        notice_lost(worker, partition, out->text);
        break;
    case ENGINE_OUT_DRAINING:
        hand_back_steps(worker, partition, out);
        break;
    case ENGINE_OUT_RELEASED:
        if (slot->owned && !worker->draining)
            worker_notice(worker, PDR_INFO, "partition %u is not ours any more", partition);
        slot->owned = false;
        break;
    case ENGINE_OUT_REPLAYED:
        notice_replayed(worker, slot, out);
        break;
    case ENGINE_OUT_REBUILD:
        worker_notice(worker, PDR_WARNING, "partition %u: reading the journal from its start: %s", partition, out->text);
        worker_rebuild(worker, partition, out->count > 1);
        break;
    case ENGINE_OUT_STOPPED:
        if (slot->standby)
            worker_standby_stopped(worker, partition, out->text);
        else
            worker_partition_stopped(worker, partition, out->text);
        break;
    case ENGINE_OUT_CRASH_DONE:
        worker_crash_done(out->count);
        break;
    default: /* ENGINE_OUT_NOTE */
        worker_notice(worker, PDR_WARNING, "%s", out->text);
        break;
    }
}

static void worker_carry_out_one(struct pdr_worker *worker, uint32_t partition, const struct engine_output *out)
{
    struct log *log = worker->log;
    struct worker_partition *slot = &worker->partitions[partition];
    if (slot->standby && worker_standby_forbids(out->kind)) {
        worker_notice(worker, PDR_ERROR, "partition %u is only followed, and something was to be written for it: it was "
                      "not. This is an error in Perdure", partition);
        return;
    }
    switch (out->kind) {
    case ENGINE_OUT_APPEND:
        worker_append(worker, partition, LOG_JOURNAL, out);
        break;
    case ENGINE_OUT_SEND:
        worker_append(worker, partition, LOG_INBOX, out);
        break;
    case ENGINE_OUT_TASK:
        worker_put_task(worker, partition, out);
        break;
    case ENGINE_OUT_REPLY:
        worker_reply(worker, out->reply_to, out->reply);
        break;
    case ENGINE_OUT_STATUS:
        worker_put_status(worker, out->key, out->data, out->size, &(struct log_place){ partition, out->offset });
        break;
    case ENGINE_OUT_STEP:
        step_run(worker, partition, out);
        break;
    case ENGINE_OUT_ABANDON_STEP:
        step_abandon_one(worker, out);
        break;
    case ENGINE_OUT_FOLLOW_JOURNAL:
        journal_follow(worker, partition, out->offset);
        break;
    case ENGINE_OUT_FOLLOW_INBOX:
        inbox_follow(worker, partition, out->offset);
        break;
    case ENGINE_OUT_UNFOLLOW_INBOX:
        log->operations->unfollow(log, LOG_INBOX, partition);
        break;
    case ENGINE_OUT_TRIM_INBOX:
        worker_trim(worker, LOG_INBOX, partition, out->offset);
        break;
    case ENGINE_OUT_CUT_JOURNAL:
        log->operations->trim(log, LOG_JOURNAL, partition, out->offset);
        worker_notice(worker, PDR_INFO, "partition %u: journal cut below %" PRId64 ", %" PRIu64 " runs and %zu bytes of it "
                      "copied forward", partition, out->offset, out->count, out->size);
        break;
    case ENGINE_OUT_ASK_INBOX_END: {
        int64_t start, end;
        if (log->operations->bounds(log, LOG_INBOX, partition, &start, &end) == LOG_OK)
            engine_on_inbox_asked(slot->engine, end);
        break;
    }
    case ENGINE_OUT_FORGOTTEN:
        worker_put_status(worker, out->key, NULL, 0, NULL);
        break;
    case ENGINE_OUT_MAP:
        worker_map_asked(worker);
        break;
    case ENGINE_OUT_READ_SOURCE:
        worker_read_source(worker, partition, out);
        break;
    case ENGINE_OUT_DEAD:
        worker_dead_letter(worker, partition, out);
        break;
    default:
        worker_is_told(worker, partition, out);
        break;
    }
}

bool worker_carry_out(struct pdr_worker *worker, uint32_t partition)
{
    struct worker_partition *slot = &worker->partitions[partition];
    struct engine_output out;
    bool any = false;
    while (slot->engine && !slot->stopped && engine_take(slot->engine, &out)) {
        any = true;
        bool released = out.kind == ENGINE_OUT_RELEASED;
        worker_carry_out_one(worker, partition, &out);
        if (!released || slot->assigned)
            continue;
        slot->standby = worker_standby_keeps(worker, partition);
        if (!slot->standby) {
            worker_save_partition(worker, partition);
            worker_partition_close(worker, partition);
            break;
        }
    }
    if (slot->engine && (slot->stopped || slot->engine_ends))
        worker_partition_close(worker, partition);
    return any;
}
