/*
 * The outbox (rules 10, 11): what leaves for other jobs follows from counted events and Marks, under ids that follow from
 * them too; it is sent until delivered, to one target in order, and again by the next owner.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

/* ---- targets ------------------------------------------------------------------------------------------------------- */

static struct outbox_target *target_of(struct outbox *outbox, const char *job)
{
    if (outbox->target_capacity == 0) {
        outbox->target_capacity = 256;
        outbox->targets = calloc(outbox->target_capacity, sizeof(struct outbox_target *));
        if (!outbox->targets) {
            outbox->target_capacity = 0;
            return NULL;
        }
    }
    struct outbox_target **bucket = &outbox->targets[hash64(job, strlen(job)) & (outbox->target_capacity - 1)];
    for (struct outbox_target *target = *bucket; target; target = target->next)
        if (strcmp(target->job, job) == 0)
            return target;
    struct outbox_target *target = calloc(1, sizeof *target);
    if (!target || !(target->job = strdup(job))) {
        free(target);
        return NULL;
    }
    target->next = *bucket;
    *bucket = target;
    return target;
}

static void target_drop_if_empty(struct outbox *outbox, struct outbox_target *target)
{
    if (target->head || target->busy)
        return;
    struct outbox_target **link =
        &outbox->targets[hash64(target->job, strlen(target->job)) & (outbox->target_capacity - 1)];
    while (*link != target)
        link = &(*link)->next;
    *link = target->next;
    free(target->job);
    free(target);
}

/* ---- entries --------------------------------------------------------------------------------------------------------- */

/* The target of what goes to a partition and to no job: no job id has a control character in it. */
#define PARTITION_TARGET '\x02'

/* By the map as it is now: what waited while it changed goes to the new place (rule 24). */
static uint32_t entry_partition(const struct engine *engine, const struct outbox_entry *entry)
{
    const char *job = entry->target->job;
    const struct slot_map *map = &engine->judge->map;
    if (job[0] == PARTITION_TARGET)
        return (uint32_t)strtoul(job + 1, NULL, 10);
    return partition_of(job, map->version ? map->partitions : engine->config.genesis.partitions);
}

static void entry_count(struct engine *engine, struct outbox_entry *entry)
{
    memory_subtract(engine, entry->counted);
    entry->counted = MEMORY_OF_OUTPUT(entry->size);
    memory_add(engine, entry->counted);
}

static struct outbox_entry *entry_push_like(struct engine *engine, const char *job, const struct outbox_entry *like)
{
    struct outbox *outbox = &engine->outbox;
    struct outbox_entry *entry = calloc(1, sizeof *entry);
    struct outbox_target *target = like->data ? target_of(outbox, job) : NULL;
    struct outbox_entry **oldest = like->forward ? &outbox->forwards : &outbox->oldest;
    struct outbox_entry **newest = like->forward ? &outbox->forwards_newest : &outbox->newest;
    if (!entry || !target) {
        free(entry);
        free(like->data);
        engine_stop(engine, "out of memory");
        return NULL;
    }
    *entry = *like;
    entry->target = target;
    entry->older = *newest;
    if (*newest)
        (*newest)->newer = entry;
    else
        *oldest = entry;
    *newest = entry;
    if (target->tail)
        target->tail->next_to_target = entry;
    else
        target->head = entry;
    target->tail = entry;
    outbox->unsent++;
    outbox->changed = true;
    entry_count(engine, entry);
    return entry;
}

static struct outbox_entry *entry_push(struct engine *engine, const char *job, const char *sender, int64_t offset,
                                       uint32_t index, void *data, size_t size)
{
    struct outbox_entry like = { .offset = offset, .index = index, .data = data, .size = size,
                                 .from_slot = sender && sender[0] ? slot_of(sender) : SLOT_COUNT };
    return entry_push_like(engine, job, &like);
}

static void entry_remove(struct engine *engine, struct outbox_entry *entry)
{
    struct outbox *outbox = &engine->outbox;
    struct outbox_target *target = entry->target;
    if (entry->sending) {
        outbox->slots[entry->slot].entry = NULL;
        outbox->sending--;
        target->busy = false;
    }
    if (entry->older)
        entry->older->newer = entry->newer;
    else
        *(entry->forward ? &outbox->forwards : &outbox->oldest) = entry->newer;
    if (entry->newer)
        entry->newer->older = entry->older;
    else
        *(entry->forward ? &outbox->forwards_newest : &outbox->newest) = entry->older;
    struct outbox_entry *previous = NULL;
    for (struct outbox_entry *at = target->head; at != entry; at = at->next_to_target)
        previous = at;
    if (previous)
        previous->next_to_target = entry->next_to_target;
    else
        target->head = entry->next_to_target;
    if (target->tail == entry)
        target->tail = previous;
    target_drop_if_empty(outbox, target);
    memory_subtract(engine, entry->counted);
    outbox_task_free(entry->task);
    free(entry->data);
    free(entry);
    outbox->unsent--;
    outbox->changed = true;
    engine->changed_since_mark = true;
}

/* ---- from events to commands --------------------------------------------------------------------------------------------- */

struct outgoing {
    Header header;
    Sender sender;
    Command command;
    char request[64];
};

static void outgoing_init(struct engine *engine, struct outgoing *out, const char *target, uint64_t target_run,
                          int64_t born)
{
    header_init(engine, &out->header, PERDURE__V1__KIND__KIND_COMMAND);
    perdure__v1__sender__init(&out->sender);
    perdure__v1__command__init(&out->command);
    out->header.job = (char *)target;
    out->header.run = target_run;
    out->header.slot = slot_of(target);
    out->header.born = born;
    out->header.t = born;
    out->header.sender = &out->sender;
    out->command.request = out->request;
}

static void outgoing_from_run(struct engine *engine, struct outgoing *out, const struct run *run, uint64_t seq)
{
    out->sender.job = run->job;
    out->sender.run = run->run;
    out->sender.seq = seq;
    out->sender.partition = engine->config.partition;
    snprintf(out->request, sizeof out->request, "%016" PRIx64 "-%" PRIu64 "-0", run->run, seq);
}

static void outgoing_push(struct engine *engine, struct outgoing *out, int64_t offset, uint32_t index)
{
    Record record = PERDURE__V1__RECORD__INIT;
    size_t size = 0;
    record.header = &out->header;
    record.command = &out->command;
    void *data = record_encode(&record, &size);
    entry_push(engine, out->header.job, out->sender.job, offset, index, data, size);
}

static void collect_child(struct engine *engine, struct run *run, const Event *event, int64_t offset, uint32_t index)
{
    const Perdure__V1__ChildRequested *child = event->child_requested;
    Perdure__V1__Start start = PERDURE__V1__START__INIT;
    struct outgoing out;
    outgoing_init(engine, &out, child->job, 0, event->t);
    outgoing_from_run(engine, &out, run, event->seq);
    start.type = child->type;
    start.input = child->input;
    start.parent_job = run->job;
    start.parent_run = run->run;
    start.parent_op = event->op;
    out.command.kind_case = PERDURE__V1__COMMAND__KIND_START;
    out.command.start = &start;
    outgoing_push(engine, &out, offset, index);
}

static void collect_signal(struct engine *engine, struct run *run, const Event *event, int64_t offset, uint32_t index)
{
    Perdure__V1__Signal signal = PERDURE__V1__SIGNAL__INIT;
    struct outgoing out;
    outgoing_init(engine, &out, event->signal_sent->target, 0, event->t);
    outgoing_from_run(engine, &out, run, event->seq);
    signal.name = event->signal_sent->name;
    signal.payload = event->signal_sent->payload;
    signal.sender_op = event->op;
    out.command.kind_case = PERDURE__V1__COMMAND__KIND_SIGNAL;
    out.command.signal = &signal;
    outgoing_push(engine, &out, offset, index);
}

static void collect_result(struct engine *engine, struct run *run, const Event *event, int64_t offset, uint32_t index)
{
    Perdure__V1__ChildResult result = PERDURE__V1__CHILD_RESULT__INIT;
    struct outgoing out;
    if (!run->parent)
        return;
    outgoing_init(engine, &out, run->parent->job, run->parent->run, event->t);
    outgoing_from_run(engine, &out, run, event->seq);
    result.op = run->parent->op;
    result.child_run = run->run;
    result.state = (char *)run_end_name(run->end);
    if (event->kind_case == PERDURE__V1__EVENT__KIND_COMPLETED)
        result.result = event->completed->result;
    else if (event->kind_case == PERDURE__V1__EVENT__KIND_FAILED)
        result.error = event->failed->error;
    out.command.kind_case = PERDURE__V1__COMMAND__KIND_CHILD_RESULT;
    out.command.child_result = &result;
    outgoing_push(engine, &out, offset, index);
}

void outbox_collect(struct engine *engine, struct run *run, const struct judged *judged, int64_t offset)
{
    for (uint32_t i = 0; i < judged->count; i++) {
        const Event *event = judged->events[i];
        switch (event->kind_case) {
        case PERDURE__V1__EVENT__KIND_CHILD_REQUESTED:
            collect_child(engine, run, event, offset, i);
            break;
        case PERDURE__V1__EVENT__KIND_SIGNAL_SENT:
            collect_signal(engine, run, event, offset, i);
            break;
        case PERDURE__V1__EVENT__KIND_STEP_SCHEDULED:
        case PERDURE__V1__EVENT__KIND_STEP_DISPATCHED:
            task_collect(engine, run, event, offset, i);
            break;
        case PERDURE__V1__EVENT__KIND_COMPLETED:
        case PERDURE__V1__EVENT__KIND_FAILED:
        case PERDURE__V1__EVENT__KIND_CANCELLED:
        case PERDURE__V1__EVENT__KIND_TERMINATED:
            collect_result(engine, run, event, offset, i);
            break;
        default:
            break;
        }
    }
}

void outbox_collect_mark(struct engine *engine, const Mark *mark, int64_t offset)
{
    for (uint32_t i = 0; i < mark->n_refusals; i++) {
        const Refusal *refused = mark->refusals[i];
        Perdure__V1__ChildRefusal refusal = PERDURE__V1__CHILD_REFUSAL__INIT;
        Error error = PERDURE__V1__ERROR__INIT;
        struct outgoing out;
        if (!refused->to)
            continue;
        outgoing_init(engine, &out, refused->to->job, refused->to->run, engine->judge->largest_t);
        out.sender.job = (char *)"";
        out.sender.partition = engine->config.partition;
        out.sender.index = i;
        /* Of the command, not of the Mark: late copies of one command may be refused in several, and are one answer. */
        snprintf(out.request, sizeof out.request, "refused-%s", refused->request);
        error.type = refused->code;
        error.message = refused->message;
        error.code = PDR_FAILED;
        error.final = true;
        refusal.op = refused->op;
        refusal.of_start = refused->of_start;
        refusal.error = &error;
        out.command.kind_case = PERDURE__V1__COMMAND__KIND_REFUSAL;
        out.command.refusal = &refusal;
        outgoing_push(engine, &out, offset, i);
    }
}

/* Where the report of a delivery finds its entry. */
static bool slot_take(struct outbox *outbox, struct outbox_entry *entry, uint64_t *cookie)
{
    size_t index = 0;
    while (index < outbox->slot_count && outbox->slots[index].entry)
        index++;
    if (index == outbox->slot_count) {
        size_t count = outbox->slot_count ? outbox->slot_count * 2 : 64;
        struct send_slot *slots = realloc(outbox->slots, count * sizeof *slots);
        if (!slots)
            return false;
        memset(slots + outbox->slot_count, 0, (count - outbox->slot_count) * sizeof *slots);
        outbox->slots = slots;
        outbox->slot_count = count;
    }
    outbox->slots[index].entry = entry;
    outbox->slots[index].generation = ++outbox->next_generation;
    entry->slot = (uint32_t)index;
    *cookie = COOKIE_SEND | ((uint64_t)outbox->slots[index].generation << 24 & ~COOKIE_SEND) | index;
    return true;
}

/* ---- tasks ------------------------------------------------------------------------------------------------------------------ */

/* Tasks are in no order among each other: each is its own target, of a name that no job has. Without `data` it is made from
 * the history when it goes. */
bool outbox_put_task(struct engine *engine, const char *job, int64_t offset, uint32_t index, struct outbox_task *task,
                     void *data, size_t size)
{
    char target[JOB_ID_LIMIT_BYTES + 64];
    snprintf(target, sizeof target, "\x01%" PRIu64 "-%" PRIu32 "-%" PRIu32 "-%s", task->op, task->attempt, task->dispatch,
             job);
    char *none = data ? NULL : calloc(1, 1);
    struct outbox_entry *entry = entry_push(engine, target, job, offset, index, data ? data : none, size);
    if (!entry) {
        outbox_task_free(task);
        return false;
    }
    entry->task = task;
    entry->partition = engine->config.partition;
    return true;
}

const char *outbox_task_job(const struct outbox_entry *entry)
{
    const char *job = entry->target->job;
    for (int dashes = 0; dashes < 3; job++)
        dashes += *job == '-';
    return job;
}

enum task_fate { TASK_WAITS, TASK_GOES, TASK_IS_OVER };

/* What is over by what is confirmed needs nobody any more. */
static enum task_fate task_fate(struct engine *engine, const struct outbox_entry *entry, struct step **step)
{
    const struct outbox_task *task = entry->task;
    struct run *run = judge_find(engine->judge, outbox_task_job(entry));
    *step = NULL;
    if (!run || run->run != task->run || !run_is_open(run))
        return TASK_IS_OVER;
    if (task->not_before > engine->monotonic_ms) {
        if (!engine->task_alarm.place || task->not_before < engine->task_alarm.due)
            alarm_set(&engine->alarms, &engine->task_alarm, task->not_before);
        return TASK_WAITS;
    }
    struct active *active = active_of(engine, run);
    if (active && active->parked)
        return TASK_GOES;
    if (active && !active->known)
        active_enqueue(active); /* replayed, it says what it waits for */
    if (!active || !active->known || active->in_flight)
        return TASK_WAITS;
    *step = step_find(active, task->op);
    bool wanted = *step && (*step)->remote && (*step)->attempt == task->attempt && (*step)->state == STEP_OUT &&
                  !(*step)->remote->begun && (*step)->remote->dispatch == task->dispatch;
    return wanted ? TASK_GOES : TASK_IS_OVER;
}

/* TASK_WAITS: its history cannot be read just now. `step`: that waits for it; NULL: its job is put aside, and cannot say. */
static enum task_fate task_make(struct engine *engine, struct outbox_entry *entry, const struct step *step)
{
    bool over;
    if (entry->size > 0 && step)
        return TASK_GOES;
    size_t size = 0;
    void *data = task_from_history(engine, judge_find(engine->judge, outbox_task_job(entry)), entry->task, &size, &over);
    if (!data)
        return over ? TASK_IS_OVER : TASK_WAITS;
    free(entry->data);
    entry->data = data;
    entry->size = size;
    entry_count(engine, entry);
    return TASK_GOES;
}

static void task_not_delivered(struct engine *engine, struct outbox_entry *entry)
{
    entry->task->not_before = engine->monotonic_ms + TASK_RETRY_MS;
}

/* False: the entry is gone. */
static bool task_send(struct engine *engine, struct outbox_entry *entry)
{
    struct outbox *outbox = &engine->outbox;
    struct step *step;
    uint64_t cookie;
    enum task_fate fate = task_fate(engine, entry, &step);
    if (fate == TASK_WAITS)
        return true;
    if (fate == TASK_GOES && (fate = task_make(engine, entry, step)) == TASK_WAITS) {
        task_not_delivered(engine, entry);
        return true;
    }
    if (fate == TASK_IS_OVER) {
        entry_remove(engine, entry);
        return false;
    }
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_TASK);
    if (!queued || !slot_take(outbox, entry, &cookie))
        return true;
    entry->sending = true;
    entry->target->busy = true;
    outbox->sending++;
    queued->output.cookie = cookie;
    queued->output.key = outbox_task_job(entry);
    queued->output.data = entry->data;
    queued->output.size = entry->size;
    queued->output.text = step ? step->remote->queue->name : entry->task->queue;
    queued->output.count = step ? queue_lane(step) : (uint32_t)entry->task->run;
    return true;
}

/* ---- between partitions (rule 25) --------------------------------------------------------------------------------------- */

void outbox_to_partition(struct engine *engine, uint32_t partition, int64_t offset, uint32_t index,
                         Perdure__V1__SlotsMoved *moved)
{
    struct outgoing out;
    char target[16];
    Record record = PERDURE__V1__RECORD__INIT;
    size_t size = 0;
    outgoing_init(engine, &out, "", 0, engine->judge->largest_t);
    out.header.slot = 0;
    out.sender.partition = engine->config.partition;
    out.sender.index = index;
    snprintf(out.request, sizeof out.request, "slots-%" PRIu32 "-%" PRIu32 "-%" PRId64, moved->map_version,
             engine->config.partition, offset);
    out.command.kind_case = PERDURE__V1__COMMAND__KIND_SLOTS_MOVED;
    out.command.slots_moved = moved;
    record.header = &out.header;
    record.command = &out.command;
    snprintf(target, sizeof target, "%c%" PRIu32, PARTITION_TARGET, partition);
    void *data = record_encode(&record, &size);
    entry_push(engine, target, NULL, offset, index, data, size);
}

/* The same bytes: request id, born and sender stay; its receiver drops what it knows. It stands in no journal but in our
 * inbox, and is done there when it was delivered: a new owner forwards it again. */
void outbox_forward(struct engine *engine, const char *job, int64_t inbox_offset, const void *data, size_t size)
{
    struct outbox_entry like = { .offset = INT64_MAX, .size = size, .data = malloc(size ? size : 1), .confirmed = true,
                                 .forward = true, .inbox_offset = inbox_offset, .from_slot = SLOT_COUNT };
    if (like.data)
        memcpy(like.data, data, size);
    entry_push_like(engine, job, &like);
}

bool outbox_has_leaving(const struct engine *engine)
{
    const Genesis *next = &engine->config.genesis;
    for (const struct outbox_entry *entry = engine->outbox.oldest; entry; entry = entry->newer)
        if (entry->from_slot < SLOT_COUNT && entry->from_slot % next->partitions != engine->config.partition)
            return true;
    return false;
}

/* ---- sending ------------------------------------------------------------------------------------------------------------------ */

void outbox_confirm(struct engine *engine, int64_t offset)
{
    engine->outbox.confirmed_below = offset + 1;
    for (struct outbox_entry *entry = engine->outbox.newest; entry; entry = entry->older)
        if (entry->offset <= offset) {
            if (entry->confirmed)
                break;
            entry->confirmed = true;
        }
}

void outbox_drop_below(struct engine *engine, int64_t out_pos)
{
    if (engine_owns(engine))
        return; /* the owner knows better: it said so */
    while (engine->outbox.oldest && engine->outbox.oldest->offset < out_pos)
        entry_remove(engine, engine->outbox.oldest);
}

/* Not `position`: what was read there may be lost yet, and other records with outputs come to stand there. */
int64_t outbox_position(const struct engine *engine)
{
    const struct outbox *outbox = &engine->outbox;
    return outbox->oldest && outbox->oldest->offset < outbox->confirmed_below ? outbox->oldest->offset
                                                                              : outbox->confirmed_below;
}

#define SENDS_IN_FLIGHT_LIMIT 1024

static bool entry_may_go(const struct engine *engine, const struct outbox_entry *entry)
{
    if (entry->sending)
        return false;
    if (!entry->confirmed) /* rule 8 */
        RULE_FIRED(CONFIRM);
    if (!entry->confirmed && RULE(CONFIRM))
        return false;
    if (entry->offset < engine->own_claim) /* rule 10 */
        RULE_FIRED(RESEND);
    if (!RULE(RESEND) && entry->offset < engine->own_claim)
        return false;
    bool in_order = entry->target->head == entry && !entry->target->busy; /* rule 11 */
    if (!in_order)
        RULE_FIRED(OUTBOX_ORDER);
    return in_order || !RULE(OUTBOX_ORDER);
}

static void entries_send(struct engine *engine, struct outbox_entry *first)
{
    struct outbox *outbox = &engine->outbox;
    for (struct outbox_entry *entry = first, *next; entry && outbox->sending < SENDS_IN_FLIGHT_LIMIT; entry = next) {
        uint64_t cookie;
        next = entry->newer;
        if (!entry_may_go(engine, entry))
            continue;
        if (!proof_holds(engine))
            return;
        if (entry->task) {
            task_send(engine, entry);
            continue;
        }
        struct queued_output *queued = engine_put(engine, ENGINE_OUT_SEND);
        if (!queued || !slot_take(outbox, entry, &cookie))
            return;
        entry->sending = true;
        entry->target->busy = true;
        outbox->sending++;
        queued->output.cookie = cookie;
        queued->output.partition = entry_partition(engine, entry);
        queued->output.key = entry->target->job[0] == PARTITION_TARGET ? NULL : entry->target->job;
        queued->output.data = entry->data;
        queued->output.size = entry->size;
    }
}

void outbox_send(struct engine *engine)
{
    entries_send(engine, engine->outbox.oldest);
    entries_send(engine, engine->outbox.forwards);
}

/* Rule 10: an output is not read back, so that it was acknowledged is not enough. */
static bool send_has_arrived(enum log_delivery delivery, int64_t offset)
{
    if (delivery == LOG_PERSISTED && !log_has(delivery, offset))
        RULE_FIRED(SEND_PLACE);
    return RULE(SEND_PLACE) ? log_has(delivery, offset) : delivery == LOG_PERSISTED;
}

void outbox_delivered(struct engine *engine, uint64_t cookie, enum log_delivery delivery, int64_t offset)
{
    struct outbox *outbox = &engine->outbox;
    size_t index = cookie & 0xffffff;
    uint32_t generation = (uint32_t)((cookie & ~COOKIE_SEND) >> 24);
    if (index >= outbox->slot_count || outbox->slots[index].generation != generation || !outbox->slots[index].entry)
        return;
    struct outbox_entry *entry = outbox->slots[index].entry;
    if (send_has_arrived(delivery, offset)) {
        if (entry->forward)
            inbox_done(engine, entry->inbox_offset);
        entry_remove(engine, entry);
        return;
    }
    /* Sent again, under the same request id: its receiver drops the second. */
    outbox->slots[index].entry = NULL;
    outbox->sending--;
    entry->sending = false;
    entry->target->busy = false;
    if (entry->task)
        task_not_delivered(engine, entry);
}

/* Deliveries of an epoch that is over are not waited for: all is sent again by whoever owns next. */
void outbox_forget_sends(struct engine *engine)
{
    struct outbox *outbox = &engine->outbox;
    for (struct outbox_entry *entry = outbox->oldest; entry; entry = entry->newer) {
        entry->sending = false;
        entry->target->busy = false;
    }
    for (size_t i = 0; i < outbox->slot_count; i++)
        outbox->slots[i].entry = NULL;
    outbox->sending = 0;
    while (outbox->forwards) { /* the next owner reads them in the inbox */
        outbox->forwards->sending = outbox->forwards->target->busy = false;
        entry_remove(engine, outbox->forwards);
    }
}

void outbox_clear(struct engine *engine)
{
    outbox_forget_sends(engine);
    while (engine->outbox.oldest)
        entry_remove(engine, engine->outbox.oldest);
}

int outbox_restore(struct engine *engine, const StoredOutput *stored)
{
    void *data = malloc(stored->record.len ? stored->record.len : 1);
    if (!data)
        return PDR_NO_MEMORY;
    if (stored->record.len > 0)
        memcpy(data, stored->record.data, stored->record.len);
    if (stored->op > 0) { /* only tasks have one */
        struct outbox_task *task = outbox_task_new(stored->queue, stored->run, stored->op, stored->attempt, stored->dispatch);
        if (task && outbox_put_task(engine, stored->target, stored->offset, stored->index, task, data, stored->record.len))
            return PDR_OK;
        return PDR_NO_MEMORY;
    }
    Record *record = NULL;
    (void)!record_decode(data, stored->record.len, &record);
    const Sender *sender = record ? record->header->sender : NULL;
    bool pushed = entry_push(engine, stored->target, sender ? sender->job : NULL, stored->offset, stored->index, data,
                             stored->record.len);
    record_free(record);
    return pushed ? PDR_OK : PDR_NO_MEMORY;
}
