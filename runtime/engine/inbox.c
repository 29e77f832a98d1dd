/*
 * The inbox: what was read and is not yet behind us, from where it is read, what stands in it at all. What a command does is
 * in commands.c, what is refused in refusals.c.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

/* ---- the window of inbox records that were read and are not yet behind us --------------------------------------- */

static struct inbox_entry *window_at(const struct engine *engine, size_t index)
{
    return &engine->window[(engine->window_start + index) & (engine->window_capacity - 1)];
}

/* What is read is held until a confirmed record has absorbed it. */
static void entry_hold(struct engine *engine, struct inbox_entry *entry, size_t size)
{
    entry->state = INBOX_PENDING;
    entry->a_moment = false;
    entry->size = size ? size : 1;
    engine->inbox_held++;
    engine->inbox_bytes += entry->size;
    if (engine->inbox_held > engine->counts.inbox_held_most)
        engine->counts.inbox_held_most = engine->inbox_held;
    memory_add_intake(engine, MEMORY_OF_RECORD(entry->size));
}

static void entry_let_go(struct engine *engine, struct inbox_entry *entry)
{
    if (entry->size == 0)
        return;
    memory_subtract_intake(engine, MEMORY_OF_RECORD(entry->size));
    engine->inbox_held--;
    engine->inbox_bytes -= entry->size;
    entry->size = 0;
}

static bool window_push(struct engine *engine, int64_t offset, int64_t append_ms, size_t size)
{
    if (engine->window_count == engine->window_capacity) {
        size_t capacity = engine->window_capacity ? engine->window_capacity * 2 : 64;
        struct inbox_entry *window = calloc(capacity, sizeof *window);
        if (!window) {
            engine_stop(engine, "out of memory");
            return false;
        }
        for (size_t i = 0; i < engine->window_count; i++)
            window[i] = *window_at(engine, i);
        free(engine->window);
        engine->window = window;
        engine->window_start = 0;
        engine->window_capacity = capacity;
    }
    struct inbox_entry *entry = window_at(engine, engine->window_count++);
    *entry = (struct inbox_entry){ .offset = offset, .append_ms = append_ms };
    entry_hold(engine, entry, size);
    return true;
}

struct inbox_entry *inbox_find(struct engine *engine, int64_t offset)
{
    size_t low = 0, high = engine->window_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (window_at(engine, middle)->offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == engine->window_count || window_at(engine, low)->offset != offset)
        return NULL;
    return window_at(engine, low);
}

static const struct inbox_entry *window_first_parked(const struct engine *engine)
{
    for (size_t i = 0; i < engine->window_count; i++)
        if (window_at(engine, i)->state == INBOX_PARKED)
            return window_at(engine, i);
    return NULL;
}

void inbox_done(struct engine *engine, int64_t offset)
{
    struct inbox_entry *entry = inbox_find(engine, offset);
    if (entry) {
        entry->state = INBOX_DONE;
        entry_let_go(engine, entry);
    }
    while (engine->window_count > 0 && window_at(engine, 0)->state == INBOX_DONE) {
        engine->window_start = (engine->window_start + 1) & (engine->window_capacity - 1);
        engine->window_count--;
        engine->changed_since_mark = true;
    }
}

/* Rule 13: the lowest input that no confirmed record absorbed; never "read so far". In a Mark, what is refused in that
 * same Mark counts as done: both stand or fall together. */
Position inbox_low(const struct engine *engine, bool in_mark)
{
    Position low = PERDURE__V1__POSITION__INIT;
    low.generation = engine->inbox_generation;
    low.offset = engine->inbox_next;
    if (!RULE(IN_POS))
        return low;
    for (size_t i = 0; i < engine->window_count; i++) {
        const struct inbox_entry *entry = window_at(engine, i);
        if (entry->state == INBOX_PENDING || entry->state == INBOX_PARKED ||
            (entry->state == INBOX_IN_MARK && !in_mark)) {
            RULE_FIRED(IN_POS);
            low.offset = entry->offset;
            break;
        }
    }
    return low;
}

int64_t inbox_low_ms(const struct engine *engine, const Position *in_pos)
{
    for (size_t i = 0; i < engine->window_count; i++)
        if (window_at(engine, i)->offset >= in_pos->offset)
            return window_at(engine, i)->append_ms;
    return -1;
}

/* From what comes next; before that, what was parked is told again, or it would be taken after what came later. */
void inbox_follow(struct engine *engine)
{
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_FOLLOW_INBOX);
    const struct inbox_entry *parked = window_first_parked(engine);
    if (queued)
        queued->output.offset = parked ? parked->offset : engine->inbox_next;
    engine->inbox_turns_back = true;
    engine->inbox_paused = engine->inbox_asks = engine->inbox_was_read = false;
}

/* What came until a moment ago is read: a limit may be judged by it. */
bool inbox_is_heard(const struct engine *engine)
{
    return engine->state == ENGINE_OWNER && engine->inbox_was_read && !engine->inbox_paused && !engine->inbox_turns_back;
}

void inbox_park(struct engine *engine, int64_t offset)
{
    struct inbox_entry *entry = inbox_find(engine, offset);
    if (!entry || entry->state != INBOX_PENDING)
        return;
    entry->state = INBOX_PARKED;
    entry_let_go(engine, entry); /* told again: nothing but its place is kept */
}

/* It waits for something else than an append of ours, and takes no more than its place: the inbox is read on. `a_moment`: what
 * is done behind it meanwhile is counted; else it may be for what comes after it. */
void inbox_keep(struct engine *engine, int64_t offset, bool a_moment)
{
    struct inbox_entry *entry = inbox_find(engine, offset);
    if (!entry)
        return;
    entry_let_go(engine, entry);
    entry->a_moment = a_moment;
}

/* ---- back-pressure ---------------------------------------------------------------------------------------------- */

/* Repetitions and refused commands are done at once, but keep their places, and their answers, behind a command that waits
 * for an append of ours. While slots move, the first may wait for what comes after it (rule 25): then they do not count. */
static size_t window_behind_first(const struct engine *engine, const struct inbox_entry *first)
{
    bool ours = first && (first->size > 0 || first->a_moment || first->state == INBOX_IN_MARK) && !engine->slots.frozen;
    return ours ? engine->window_count : engine->inbox_held;
}

static bool inbox_is_full(const struct engine *engine, size_t part)
{
    const struct inbox_entry *first = engine->window_count > 0 ? window_at(engine, 0) : NULL;
    size_t records = engine->limits.inbox_records;
    size_t least = first && first->a_moment ? INBOX_RECORDS_OF_A_MOMENT : INBOX_RECORDS_LEAST;
    if (memory_stops_intake(engine, part) && records > least)
        records = least;
    return window_behind_first(engine, first) > records / part ||
           (engine->inbox_held > 0 && engine->inbox_bytes > engine->limits.inbox_bytes / part);
}

/* What the log goes on handing over before it hears of it is read again later. */
static void inbox_pause(struct engine *engine)
{
    engine_put(engine, ENGINE_OUT_UNFOLLOW_INBOX);
    engine->inbox_paused = true;
}

static void inbox_pause_if_full(struct engine *engine)
{
    if (engine->inbox_paused || !engine_owns(engine) || !inbox_is_full(engine, 1))
        return;
    inbox_pause(engine);
    engine->counts.inbox_pauses++;
}

/* Behind a start that is not decided stand the signals to it. */
void inbox_ask(struct engine *engine, int64_t offset)
{
    inbox_park(engine, offset);
    inbox_pause(engine);
    engine->inbox_asks = true;
}

void engine_on_types(struct engine *engine)
{
    engine->inbox_asks = false;
}

void inbox_go_on(struct engine *engine)
{
    if (engine->inbox_paused && !engine->inbox_asks && engine->state == ENGINE_OWNER && !inbox_is_full(engine, 2))
        inbox_follow(engine);
}

void inbox_reread(struct engine *engine)
{
    if (window_first_parked(engine))
        inbox_follow(engine);
}

void inbox_begin(struct engine *engine)
{
    engine->inbox_next = engine->judge->in_pos.offset;
    engine->inbox_generation = engine->judge->in_pos.generation;
    if (engine->inbox_generation < engine->inbox_generation_min)
        engine->inbox_generation = engine->inbox_generation_min;
    inbox_follow(engine);
}

/* The inbox ends below what was read: it was truncated, its offsets are given out again (H21). They are told apart by
 * the generation. */
void inbox_end(struct engine *engine, int64_t end)
{
    if (!engine->inbox_turns_back && !engine->inbox_paused) /* `end` may be beyond: of a file, or of what is no record */
        engine->inbox_was_read = true;
    if (engine->state != ENGINE_OWNER || end >= engine->inbox_next)
        return;
    engine_note(engine, "the inbox of partition %u was cut from offset %lld back to %lld; going on from there",
                engine->config.partition, (long long)engine->inbox_next, (long long)end);
    engine->inbox_generation_min = engine->inbox_generation + 1;
    alarm_clear(&engine->alarms, &engine->trim_alarm); /* it speaks of offsets that others have now */
    engine->trim_to = 0;
    if (engine->window_count > 0 || engine->held_replies || engine->held_refusals) {
        engine_doubt(engine, "the inbox was cut back behind commands in hand");
        return;
    }
    engine->inbox_generation = engine->inbox_generation_min;
    engine->inbox_next = end;
    engine->changed_since_mark = engine->mark_wanted = true;
    inbox_follow(engine);
}

void inbox_reset(struct engine *engine)
{
    for (size_t i = 0; i < engine->window_count; i++)
        entry_let_go(engine, window_at(engine, i));
    engine->window_count = engine->window_start = 0;
    engine->inbox_paused = engine->inbox_asks = false;
    while (engine->held_replies) {
        struct held_reply *next = engine->held_replies->next;
        memory_subtract_intake(engine, engine->held_replies->counted);
        reply_free(engine->held_replies->reply);
        free(engine->held_replies);
        engine->held_replies = next;
    }
    while (engine->held_refusals) {
        struct held_refusal *next = engine->held_refusals->next;
        memory_subtract_intake(engine, engine->held_refusals->counted);
        perdure__v1__refusal__free_unpacked(engine->held_refusals->refusal, NULL);
        free(engine->held_refusals);
        engine->held_refusals = next;
    }
}

/* What nobody can read goes to the dead letters and out of the way (rule 12). */
static void inbox_bury(struct engine *engine, const struct log_record *record, const char *why)
{
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_DEAD);
    if (queued && (queued->owned[0] = malloc(record->size ? record->size : 1)) && (queued->owned[1] = strdup(why))) {
        memcpy(queued->owned[0], record->data, record->size);
        queued->output.data = queued->owned[0];
        queued->output.size = record->size;
        queued->output.offset = record->offset;
        queued->output.text = queued->owned[1];
    }
    inbox_done(engine, record->offset);
}

/* What comes next, or was parked. */
static bool inbox_takes(struct engine *engine, const struct log_record *record)
{
    if (record->offset >= engine->inbox_next) {
        engine->inbox_next = record->offset + 1;
        return window_push(engine, record->offset, record->append_ms, record->size);
    }
    struct inbox_entry *entry = inbox_find(engine, record->offset);
    if (!entry || entry->state != INBOX_PARKED)
        return false;
    entry_hold(engine, entry, record->size);
    return true;
}

static void inbox_take(struct engine *engine, const struct log_record *record)
{
    Record *decoded = NULL;
    enum wire_error error = record_decode(record->data, record->size, &decoded);
    if (error == WIRE_NO_MEMORY) {
        engine_stop(engine, "out of memory"); /* it is whole: whoever owns next reads it */
        return;
    }
    if (error != WIRE_OK) {
        inbox_bury(engine, record, wire_error_text(error));
        return;
    }
    struct command_context context = { engine, record, decoded->header, decoded->command, NULL };
    const struct slots_context slots = { record, decoded->header, decoded->command };
    if (decoded->header->kind != PERDURE__V1__KIND__KIND_COMMAND || !decoded->command ||
        decoded->header->log != (uint32_t)engine->config.genesis.log_id)
        inbox_bury(engine, record, "no command of this log");
    else if (slots_command(engine, &slots))
        ;
    else if (strlen(decoded->command->request) > REQUEST_ID_LIMIT_BYTES)
        inbox_bury(engine, record, "its request id is too long"); /* a terminal event must hold many of them */
    else if (strlen(decoded->header->job) > JOB_ID_LIMIT_BYTES)
        inbox_refuse(engine, record->offset, decoded->header, decoded->command, "BadId",
                     "a job id may have at most %d bytes", JOB_ID_LIMIT_BYTES);
    else if (engine->judge->map.version <= 1 &&
             partition_of(decoded->header->job, engine->judge->map.partitions) != engine->config.partition)
        inbox_bury(engine, record, "the job belongs to another partition");
    else if (slots_elsewhere(engine, record, decoded->header->job))
        ;
    else if (command_is_alive(&context))
        command_dispatch(&context);
    payload_free(context.payload);
    record_free(decoded);
}

void inbox_record(struct engine *engine, const struct log_record *record)
{
    if (!engine_owns(engine) || engine->inbox_turns_back || engine->inbox_paused)
        return;
    if (engine->state == ENGINE_DRAINING)
        return; /* the next owner reads it */
    retention_on_inbox(engine, record->append_ms);
    if (!inbox_takes(engine, record))
        return;
    inbox_take(engine, record);
    inbox_pause_if_full(engine);
}
