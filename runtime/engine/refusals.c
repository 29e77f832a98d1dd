/*
 * Answers and refusals. What is refused is refused for good only when a confirmed record puts the position beyond it: to a
 * client by a reply that waits, to a job in a Mark (rule 15).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

/* Leaves when in_pos is confirmed beyond `offset`; takes the reply. */
void inbox_answer(struct engine *engine, int64_t offset, const ReplyTo *to, Reply *reply)
{
    if (!reply || !to) {
        reply_free(reply);
        return;
    }
    if (!RULE(REFUSE_AFTER_CONFIRM)) {
        reply_send(engine, to, reply);
        return;
    }
    RULE_FIRED(REFUSE_AFTER_CONFIRM);
    struct held_reply *held = calloc(1, sizeof *held);
    if (!held) {
        reply_free(reply);
        return;
    }
    held->offset = offset;
    held->reply_to = *to;
    held->reply = reply;
    held->counted = MEMORY_OF_RECORD(perdure__v1__reply__get_packed_size(reply));
    memory_add_intake(engine, held->counted);
    held->next = engine->held_replies;
    engine->held_replies = held;
    engine->changed_since_mark = true;
}

void inbox_release_replies(struct engine *engine)
{
    struct held_reply **link = &engine->held_replies;
    while (*link) {
        struct held_reply *held = *link;
        if (held->offset >= engine->confirmed_in_pos.offset ||
            engine->confirmed_in_pos.generation != engine->inbox_generation) {
            link = &held->next;
            continue;
        }
        *link = held->next;
        memory_subtract_intake(engine, held->counted);
        reply_send(engine, &held->reply_to, held->reply);
        free(held);
    }
}

bool inbox_replies_could_go(const struct engine *engine)
{
    if (!engine->held_replies)
        return false;
    Position low = inbox_low(engine, true);
    for (const struct held_reply *held = engine->held_replies; held; held = held->next)
        if (held->offset < low.offset)
            return true;
    return false;
}

static void refuse_job(struct engine *engine, int64_t offset, const Header *header, const Command *command,
                       const char *code, const char *text)
{
    struct held_refusal *held = calloc(1, sizeof *held);
    Refusal *refusal = calloc(1, sizeof *refusal);
    if (!held || !refusal) {
        free(held);
        free(refusal);
        engine_stop(engine, "out of memory");
        return;
    }
    perdure__v1__refusal__init(refusal);
    held->refusal = refusal;
    held->offset = offset;
    refusal->to = calloc(1, sizeof *refusal->to);
    if (refusal->to) {
        perdure__v1__sender__init(refusal->to);
        refusal->to->job = strdup(header->sender->job);
        refusal->to->run = header->sender->run;
        refusal->to->seq = header->sender->seq;
        refusal->to->index = header->sender->index;
        refusal->to->partition = header->sender->partition;
    }
    refusal->code = strdup(code);
    refusal->message = strdup(text);
    refusal->request = strdup(command->request);
    refusal->of_start = command->kind_case == PERDURE__V1__COMMAND__KIND_START;
    if (refusal->of_start)
        refusal->op = command->start->parent_op;
    else if (command->kind_case == PERDURE__V1__COMMAND__KIND_SIGNAL)
        refusal->op = command->signal->sender_op;
    held->counted = MEMORY_OF_RECORD(perdure__v1__refusal__get_packed_size(refusal));
    memory_add_intake(engine, held->counted);
    struct held_refusal **link = &engine->held_refusals; /* by offset */
    while (*link && (*link)->offset < offset)
        link = &(*link)->next;
    held->next = *link;
    *link = held;
    struct inbox_entry *entry = inbox_find(engine, offset);
    if (entry)
        entry->state = RULE(REFUSAL_IN_MARK) ? INBOX_IN_MARK : INBOX_DONE;
    inbox_keep(engine, offset, false);
    if (!RULE(REFUSAL_IN_MARK)) {
        inbox_done(engine, offset);
        *link = held->next; /* the mutation: told by nobody's history */
        memory_subtract_intake(engine, held->counted);
        perdure__v1__refusal__free_unpacked(refusal, NULL);
        free(held);
    } else {
        RULE_FIRED(REFUSAL_IN_MARK);
    }
}

/* Who sent it may be gone: then nothing else says why there is no such job. */
static void refuse_tell_start(struct engine *engine, const char *job, const char *code, const char *text)
{
    if (engine->refusal_told_ms && engine->monotonic_ms - engine->refusal_told_ms < REFUSAL_TELL_MS) {
        engine->refusals_untold++;
        return;
    }
    char more[64] = "";
    if (engine->refusals_untold > 0)
        snprintf(more, sizeof more, " (%zu others were refused before it)", engine->refusals_untold);
    engine_note(engine, "the start of job \"%s\" was refused, %s: %s%s", job, code, text, more);
    engine->refusal_told_ms = engine->monotonic_ms;
    engine->refusals_untold = 0;
}

void inbox_refuse(struct engine *engine, int64_t offset, const Header *header, const Command *command,
                  const char *code, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (command->kind_case == PERDURE__V1__COMMAND__KIND_START)
        refuse_tell_start(engine, header->job, code, text);
    if (header->sender && header->sender->job[0]) {
        bool answers = command->kind_case == PERDURE__V1__COMMAND__KIND_START ||
                       command->kind_case == PERDURE__V1__COMMAND__KIND_SIGNAL;
        if (answers)
            refuse_job(engine, offset, header, command, code, text);
        else
            inbox_done(engine, offset); /* a result or a refusal for a run that is gone: nobody waits */
        return;
    }
    if (command->reply_to) {
        Reply *reply = reply_make("refused", command->request, true);
        if (reply && (reply->error = calloc(1, sizeof *reply->error))) {
            perdure__v1__error__init(reply->error);
            reply->error->type = strdup(code);
            reply->error->message = strdup(text);
            reply->error->code = PDR_FAILED;
        }
        inbox_answer(engine, offset, command->reply_to, reply);
    }
    inbox_done(engine, offset);
}

/* ---- Marks (rule 9) ------------------------------------------------------------------------------------------------ */

void engine_mark(struct engine *engine)
{
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    Mark mark = PERDURE__V1__MARK__INIT;
    Position in_pos = inbox_low(engine, true);
    struct held_refusal *beyond = engine->held_refusals; /* the first that this Mark has no room for */
    size_t count = 0, bytes = 0, i = 0;
    /* Rule 15: only what this Mark's in_pos passes. Behind an input that waits, the next owner reads it again, and may take it. */
    for (; beyond && beyond->offset < in_pos.offset; beyond = beyond->next, count++) {
        bytes += perdure__v1__refusal__get_packed_size(beyond->refusal);
        if (count > 0 && bytes > engine->limits.turn_bytes)
            break;
    }
    Refusal *refusals[count + 1];
    for (struct held_refusal *held = engine->held_refusals; held != beyond; held = held->next) {
        held->in_mark = true;
        refusals[i++] = held->refusal;
    }
    if (beyond && beyond->offset < in_pos.offset)
        in_pos.offset = beyond->offset;
    header_init(engine, &header, PERDURE__V1__KIND__KIND_MARK);
    header.in_pos = &in_pos;
    header.out_pos = outbox_position(engine);
    mark.in_pos = &in_pos;
    mark.out_pos = header.out_pos;
    mark.refusals = refusals;
    mark.n_refusals = count;
    mark.live_hash = (ProtobufCBinaryData){ .len = 16, .data = engine->judge->live_hash.bytes };
    mark.live_count = engine->judge->live_count;
    mark.largest_t = engine->judge->largest_t;
    mark.shown = statuses_shown_until(engine);
    mark.cut = retention_mark(engine, &in_pos);
    if (mark.cut > 0)
        header.min_reader = RULE_LEVEL_RETENTION;
    mark.leaving = handover_leaving(engine);
    record.header = &header;
    record.mark = &mark;
    struct append *append = engine_append(engine, &record);
    if (!append)
        return;
    if (mark.cut > 0)
        retention_mark_sent(engine, append->n);
    append->in_pos = in_pos;
    engine->mark_first = engine->mark_wanted = engine->changed_since_mark = false;
    alarm_set(&engine->alarms, &engine->mark_alarm, engine->monotonic_ms + engine->limits.mark_interval_ms);
    if (engine->confirmed_in_pos.offset > engine->trim_to && !engine->trim_alarm.place &&
        engine->confirmed_in_pos.generation == engine->inbox_generation) {
        engine->trim_to = engine->confirmed_in_pos.offset; /* rule 16: behind it, and after a delay */
        RULE_FIRED(TRIM_DELAY);
        alarm_set(&engine->alarms, &engine->trim_alarm,
                  engine->monotonic_ms + (RULE(TRIM_DELAY) ? engine->limits.trim_delay_ms : 0));
    }
}

bool inbox_has_refusals(const struct engine *engine)
{
    const struct held_refusal *held = engine->held_refusals;
    while (held && held->in_mark)
        held = held->next;
    return held && held->offset < inbox_low(engine, true).offset;
}

/* Only now may the position of other records pass what the Mark refused: it could have been lost before. */
void inbox_mark_confirmed(struct engine *engine)
{
    struct held_refusal **link = &engine->held_refusals;
    while (*link) {
        struct held_refusal *held = *link;
        if (!held->in_mark) {
            link = &held->next;
            continue;
        }
        *link = held->next;
        memory_subtract_intake(engine, held->counted);
        inbox_done(engine, held->offset);
        perdure__v1__refusal__free_unpacked(held->refusal, NULL);
        free(held);
    }
}
