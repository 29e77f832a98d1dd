/*
 * The loop of a step worker. One thread polls the log, hands tasks to the pool and writes reports.
 */
#include "worker/queue_worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "crash/slot.h"
#include "worker/queue_options.h"

/* ---- offsets ------------------------------------------------------------------------------------------------------------ */

static struct lane *lane_of(struct queue_worker *queue, uint32_t number)
{
    for (size_t i = 0; i < queue->lane_count; i++)
        if (queue->lanes[i].number == number)
            return &queue->lanes[i];
    struct lane *lanes = realloc(queue->lanes, (queue->lane_count + 1) * sizeof *lanes);
    if (!lanes)
        return NULL;
    queue->lanes = lanes;
    lanes[queue->lane_count] = (struct lane){ .number = number };
    return &lanes[queue->lane_count++];
}

/* Its owner knows that we have it, or it needs no report: it need not come again. */
void taken_reported(struct queue_worker *queue, struct taken *taken)
{
    struct lane *lane = lane_of(queue, taken->lane);
    taken->reported = true;
    if (!taken->pending || !lane)
        return;
    taken->pending = false;
    int64_t position = lane->next;
    for (struct taken *other = queue->all; other; other = other->next)
        if (other->pending && other->lane == taken->lane && other->offset < position)
            position = other->offset;
    queue->log->operations->take_commit(queue->log, taken->lane, position);
}

/* ---- tasks ---------------------------------------------------------------------------------------------------------------- */

static uint64_t task_key(const Perdure__V1__Task *task)
{
    char text[300];
    int length = snprintf(text, sizeof text, "%s-%u-%u", task->idempotency_key, task->attempt, task->dispatch);
    return hash64(text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

static struct taken *task_taken(const struct queue_worker *queue, const struct taken *again)
{
    for (struct taken *taken = queue->all; taken; taken = taken->next)
        if ((taken->key == again->key && (taken->state != TAKEN_OVER || taken->reports > 0)) ||
            taken_is_crash_of(taken, again->record->task))
            return taken;
    return NULL;
}

static bool task_is_settled(const struct queue_worker *queue, uint64_t key)
{
    for (size_t i = 0; i < QUEUE_SETTLED_KEPT; i++)
        if (queue->settled[i] == key)
            return true;
    return false;
}

static void taken_over(struct queue_worker *queue, struct taken *taken, bool settled)
{
    queue->held -= taken->state == TAKEN_HELD;
    taken->state = TAKEN_OVER;
    taken_leaves_limits(queue, taken);
    if (settled)
        queue->settled[queue->settled_next++ % QUEUE_SETTLED_KEPT] = taken->key;
}

static void taken_decline(struct queue_worker *queue, struct taken *taken, const char *reason)
{
    taken_report_declined(queue, taken, reason);
    taken_over(queue, taken, true);
}

static void taken_free(struct taken *taken)
{
    record_free(taken->record);
    free(taken);
}

static void queue_clean(struct queue_worker *queue)
{
    for (struct taken **link = &queue->all; *link;) {
        struct taken *taken = *link;
        if (taken->state == TAKEN_OVER && taken->reports == 0 && taken->crash == 0) {
            *link = taken->next;
            taken_free(taken);
        } else {
            link = &taken->next;
        }
    }
}

/* NULL: it is no task; told, and passed over. */
static struct taken *taken_new(struct queue_worker *queue, const struct log_record *found)
{
    Record *record = NULL;
    const char *why = "";
    enum wire_error wrong = record_decode_why(found->data, found->size, &record, &why);
    if (wrong || record->header->kind != PERDURE__V1__KIND__KIND_TASK || !record->task) {
        worker_notice(queue->worker, PDR_WARNING, "lane %u, offset %" PRId64 " is passed over: %s", found->partition,
                      found->offset, wrong ? wire_error_text(wrong) : "it is no task");
        record_free(record);
        return NULL;
    }
    struct taken *taken = calloc(1, sizeof *taken);
    if (!taken) {
        record_free(record);
        worker_fail(queue->worker, PDR_NO_MEMORY, "out of memory");
        return NULL;
    }
    int64_t hold = QUEUE_HOLD_MS;
    for (uint32_t i = 1; i < record->task->dispatch && hold < QUEUE_HOLD_MAX_MS; i++)
        hold *= 2;
    taken->record = record;
    taken->lane = found->partition;
    taken->offset = found->offset;
    taken->pending = true;
    taken->key = task_key(record->task);
    taken->correlation = ++queue->next_correlation;
    taken->decline_at = worker_monotonic_ms() + (hold < QUEUE_HOLD_MAX_MS ? hold : QUEUE_HOLD_MAX_MS);
    return taken;
}

static void on_task(void *context, const struct log_record *found)
{
    struct queue_worker *queue = context;
    struct lane *lane = lane_of(queue, found->partition);
    struct taken *taken = taken_new(queue, found), **link = &queue->all;
    if (lane)
        lane->next = found->offset + 1;
    if (!taken || !lane)
        return;
    struct taken *first = task_taken(queue, taken);
    if (first) { /* delivered again: its reports are those of the first time, and until one of them has arrived it may come again */
        first->lane = taken->lane;
        first->offset = taken->offset;
        first->pending = true;
        if (first->reported)
            taken_reported(queue, first);
        taken_free(taken);
        return;
    }
    while (*link)
        link = &(*link)->next;
    *link = taken;
    queue->held++;
    if (task_is_settled(queue, taken->key)) {
        taken_over(queue, taken, false);
        taken_reported(queue, taken);
    } else if (!registry_step(queue->worker->registry, taken->record->task->step)) {
        char reason[160];
        snprintf(reason, sizeof reason, "this worker has no step %.100s", taken->record->task->step);
        taken_decline(queue, taken, reason);
    }
}

static void on_lane_lost(void *context, uint32_t lane)
{
    struct queue_worker *queue = context;
    for (struct taken *taken = queue->all; taken; taken = taken->next) {
        if (taken->lane != lane)
            continue;
        taken->pending = false;
        if (taken->state == TAKEN_HELD)
            taken_over(queue, taken, false);
    }
}

static size_t room_of(void *context)
{
    const struct queue_worker *queue = context;
    size_t most = queue->worker->draining ? 0 : (queue->slot_count + 1) * QUEUE_HELD_PER_SLOT;
    return queue->held < most ? most - queue->held : 0;
}

/* ---- running ---------------------------------------------------------------------------------------------------------------- */

static void beat_arm(struct taken *taken, int64_t now)
{
    int64_t limit = taken->record->task->heartbeat_ms;
    taken->beat_at = limit > 0 ? now + (limit / 3 > 0 ? limit / 3 : 1) : 0;
}

static void taken_run(struct queue_worker *queue, struct taken *taken, uint32_t slot)
{
    const Perdure__V1__Task *task = taken->record->task;
    taken->started_ms = worker_wall_ms();
    if (task->start_by > 0 && taken->started_ms > task->start_by) { /* its owner sends it again, or gave it up */
        taken_over(queue, taken, true);
        taken_reported(queue, taken);
        return;
    }
    struct attempt_request request = {
        .callable = registry_step(queue->worker->registry, task->step),
        .job = task->job,
        .run = task->run,
        .op = task->op,
        .attempt = task->attempt,
        .input = task->input,
        .log_id = taken->record->header->log,
        .progress = task->progress,
    };
    if (step_pool_submit(queue->worker->pool, slot, &request, taken->started_ms, INT64_MAX) != PDR_OK) {
        worker_fail(queue->worker, PDR_NO_MEMORY, "out of memory");
        return;
    }
    taken->state = TAKEN_RUNNING;
    queue->held--;
    queue->slots[slot] = taken;
    queue->running++;
    taken->begun_at = worker_monotonic_ms() + QUEUE_BEGUN_MS;
    taken->detail_at = taken->begun_at + QUEUE_DETAIL_MS;
    beat_arm(taken, worker_monotonic_ms());
}

static void queue_fill_slots(struct queue_worker *queue)
{
    struct taken *taken = queue->all;
    queue->looked_ms = worker_monotonic_ms();
    for (uint32_t slot = 0; slot < queue->slot_count && queue->held > 0; slot++) {
        while (!queue->slots[slot] && taken) {
            struct taken *next = taken->next;
            if (taken->state == TAKEN_HELD && taken_is_admitted(queue, taken))
                taken_run(queue, taken, slot);
            taken = next;
        }
    }
}

Error failure_of(const char *type, const char *message, bool final)
{
    Error error;
    perdure__v1__error__init(&error);
    error.type = (char *)(uintptr_t)type;
    error.message = (char *)(uintptr_t)message;
    error.code = PDR_FAILED;
    error.final = final;
    return error;
}

static void taken_report_later(struct queue_worker *queue, struct taken *taken)
{
    Error error = failure_of("Misuse", "it returned PDR_LATER, which a step can that its job's own worker runs: leave out its "
                             ".queue", true);
    taken_report_end(queue, taken, NULL, &error);
}

static void queue_take_ended(struct queue_worker *queue)
{
    for (struct attempt_done *done; (done = step_pool_take(queue->worker->pool));) {
        struct taken *taken = queue->slots[done->partition];
        queue->slots[done->partition] = NULL;
        queue->running--;
        if (taken->stopped) { /* it may have returned early: nobody is to take that for its result */
            taken_over(queue, taken, true);
            attempt_done_free(done);
            continue;
        }
        if (done->detail && done->outcome.error) /* another attempt may go on from there */
            taken_report_beat(queue, taken, done->detail);
        if (done->outcome.code == PDR_LATER)
            taken_report_later(queue, taken);
        else
            taken_report_end(queue, taken, done->outcome.result, done->outcome.error);
        taken_over(queue, taken, true);
        attempt_done_free(done);
    }
}

/* That it runs, that it lives, how far it is: what is due. */
static void taken_keep_time(struct queue_worker *queue, struct taken *taken, int64_t now)
{
    const Perdure__V1__Task *task = taken->record->task;
    char *detail = NULL;
    if (taken->begun_at > 0 && now >= taken->begun_at) {
        taken_report_begun(queue, taken);
        taken->begun_at = 0;
    }
    if (now >= taken->detail_at) {
        detail = step_pool_take_detail(queue->worker->pool, task->job, task->run, task->op, task->attempt);
        taken->detail_at = now + QUEUE_DETAIL_MS;
    }
    if (detail || (taken->beat_at > 0 && now >= taken->beat_at)) {
        taken_report_beat(queue, taken, detail);
        beat_arm(taken, now);
    }
    free(detail);
}

static void queue_keep_time(struct queue_worker *queue)
{
    int64_t now = worker_monotonic_ms();
    for (struct taken *taken = queue->all; taken; taken = taken->next) {
        if (taken->state == TAKEN_HELD && (now >= taken->decline_at || queue->worker->draining)) {
            char reason[160] = "shutting down";
            if (!queue->worker->draining)
                taken_why_held(queue, taken, reason, sizeof reason);
            taken_decline(queue, taken, reason);
        }
        if (taken->state == TAKEN_RUNNING && !taken->stopped)
            taken_keep_time(queue, taken, now);
    }
}

/* ---- the loop ------------------------------------------------------------------------------------------------------------------ */

static void on_delivered(void *context, uint64_t cookie, enum log_delivery delivery, int64_t offset)
{
    report_delivered(context, cookie, delivery, offset);
}

/* Nobody waits for it any more. A C function cannot be interrupted: it is told, and may look (pdr_attempt_cancelled()). */
static void on_reply(void *context, const Reply *reply)
{
    struct queue_worker *queue = context;
    for (size_t slot = 0; slot < queue->slot_count; slot++) {
        struct taken *taken = queue->slots[slot];
        if (!taken || taken->correlation != reply->correlation || strcmp(reply->answer, "stop") != 0)
            continue;
        const Perdure__V1__Task *task = taken->record->task;
        taken->stopped = true;
        step_pool_tell_cancelled(queue->worker->pool, task->job, task->run, task->op, task->attempt);
    }
}

static void on_fault(void *context, enum log_fault fault, uint32_t partition, const char *message)
{
    struct queue_worker *queue = context;
    (void)partition;
    if (fault == LOG_FATAL)
        worker_fail(queue->worker, queue->log->error_exit == 2 ? PDR_INVALID : PDR_UNREACHABLE, "%s", message);
    else
        worker_notice(queue->worker, PDR_WARNING, "%s", message);
}

static bool queue_drained(struct queue_worker *queue, int64_t give_up)
{
    struct pdr_worker *worker = queue->worker;
    if (!worker->draining || queue->held > 0)
        return false;
    if (queue->running == 0 && !queue->reports)
        return true;
    return worker_monotonic_ms() > give_up;
}

static void queue_loop(struct queue_worker *queue)
{
    struct pdr_worker *worker = queue->worker;
    const struct log_operations *operations = queue->log->operations;
    int64_t give_up = INT64_MAX;
    bool left = false;
    while (!worker->failed && !queue_drained(queue, give_up)) {
        crash_heartbeat();
        if (operations->poll(queue->log, queue_limits_timeout(queue, queue->running > 0 ? QUEUE_BEGUN_MS : 100)) == LOG_FAILED)
            worker_fail(worker, PDR_UNREACHABLE, "%s", queue->log->error);
        if (atomic_load(&worker->stopping) && !worker->draining) {
            worker->draining = true;
            give_up = worker_monotonic_ms() + worker_drain_ms(worker);
        }
        queue_take_ended(queue);
        if (!worker->draining)
            queue_fill_slots(queue);
        queue_keep_time(queue);
        reports_send(queue);
        queue_clean(queue);
        operations->take_resume(queue->log);
        if (worker->draining && !left && queue->held == 0 && !queue->reports) {
            operations->take_stop(queue->log); /* others have its lanes at once */
            left = true;
        }
    }
    operations->take_stop(queue->log);
}

/* What still runs is given up: another worker begins it at once. */
static void queue_give_back(struct queue_worker *queue)
{
    Error error = failure_of("Shutdown", "its step worker was shut down", false);
    for (size_t slot = 0; slot < queue->slot_count; slot++)
        if (queue->slots[slot] && !queue->slots[slot]->stopped)
            taken_report_end(queue, queue->slots[slot], NULL, &error);
    int64_t give_up = worker_monotonic_ms() + 10000;
    while (queue->reports && worker_monotonic_ms() < give_up) {
        reports_send(queue);
        queue->log->operations->poll(queue->log, 20);
    }
}

/* Who has none of a queue's steps would decline them all. One that is declared for another queue may be sent here by a
 * call. */
static bool queue_has_steps(struct pdr_worker *worker)
{
    const char *queue = worker->options.queue, *called = registry_calls(worker->registry, queue);
    char steps[300], others[300];
    if (registry_serves(worker->registry, queue, others, sizeof others))
        return true;
    const char *but = *others ? "those that do are declared for " : "none is declared for another queue";
    if (called || !*registry_step_names(worker->registry, steps, sizeof steps)) {
        worker_fail(worker, PDR_INVALID, "queue %s: no step of it runs here (%s%s); %s%s", queue,
                    called ? called : "its modules run no step", called ? " has no function in its module" : "", but,
                    others);
        return false;
    }
    worker_notice(worker, PDR_WARNING, "queue %s: no step that runs here is declared for it (%s%s); it gets only what a "
                  "call sends there by .queue", queue, but, others);
    return true;
}

/* Of the supervisor, so that lanes need not wait for the session of a process that crashed. */
static const char *queue_member(struct queue_worker *queue)
{
    const struct crash_record *record = crash_record_attached();
    if (!record || record->place == 0)
        return NULL;
    snprintf(queue->member, sizeof queue->member, "step-worker-%016" PRIx64, record->place);
    return queue->member;
}

int queue_worker_run(struct pdr_worker *worker)
{
    struct queue_worker queue = { .worker = worker, .log = worker->log };
    const struct log_handler handler = {
        .context = &queue, .delivered = on_delivered, .fault = on_fault, .reply = on_reply
    };
    const struct log_taker taker = { &queue, on_task, on_lane_lost, room_of, queue_member(&queue) };
    const char *other = queue_options_other(worker->queue_options, worker->options.queue);
    if (other) {
        worker_fail(worker, PDR_INVALID, "queue rate of \"%s\": this worker serves queue %s alone", other, worker->options.queue);
        return worker->code;
    }
    if (!queue_has_steps(worker))
        return worker->code;
    queue.slot_count = (size_t)(worker->options.step_threads > 0 ? worker->options.step_threads : STEP_THREADS);
    queue.slots = calloc(queue.slot_count, sizeof *queue.slots);
    perdure__v1__reply_to__init(&queue.reply_to);
    log_set_handler(worker->log, &handler);
    queue.has_reply_to = worker->log->operations->reply_address(worker->log, &queue.reply_to) == LOG_OK;
    if (!queue.has_reply_to)
        worker_notice(worker, PDR_WARNING, "owners cannot tell this worker that nobody waits: %s", worker->log->error);
    if (!queue.slots || worker->log->operations->take_tasks(worker->log, worker->options.queue, &taker) != LOG_OK) {
        free(queue.slots);
        worker_fail(worker, worker->log->error_exit == 2 ? PDR_INVALID : PDR_UNREACHABLE, "%s", worker->log->error);
        return worker->code;
    }
    worker_notice(worker, PDR_INFO, "worker %s on %s serves queue %s with %zu threads", worker->name, worker->log_uri,
                  worker->options.queue, queue.slot_count);
    crash_serving();
    queue_tell_crashes(&queue);
    queue_loop(&queue);
    queue_give_back(&queue);
    memset(&worker->log->handler, 0, sizeof worker->log->handler);
    reports_free(&queue);
    while (queue.all) {
        struct taken *next = queue.all->next;
        taken_free(queue.all);
        queue.all = next;
    }
    free(queue.slots);
    free(queue.lanes);
    return worker->failed ? worker->code : PDR_OK;
}
