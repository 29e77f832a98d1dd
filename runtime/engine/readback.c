/*
 * The journal is read back: every record is judged, own appends are confirmed by it, and a store that it contradicts is
 * not believed.
 */
#include <stdio.h>
#include <string.h>

#include "engine/internal.h"

void engine_follow(struct engine *engine)
{
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_FOLLOW_JOURNAL);
    if (queued)
        queued->output.offset = engine->verify_anchor ? engine->judge->anchor : engine->judge->position;
    engine->follow_asked = true;
    engine->ahead.from = engine->ahead.to = 0; /* it goes on behind them, or reads all anew */
}

static void engine_count_verdict(struct engine *engine, enum judge_verdict verdict)
{
    if (verdict == JUDGE_COUNTED || verdict == JUDGE_MARK || verdict == JUDGE_RELEASE || verdict == JUDGE_COPY ||
        verdict == JUDGE_STUB || verdict == JUDGE_SLOT_OUT || verdict == JUDGE_SLOT_IN)
        engine->counts.records_counted++;
    else if (verdict == JUDGE_DUPLICATE)
        engine->counts.records_duplicate++;
    else if (verdict == JUDGE_FENCED || verdict == JUDGE_REJECTED)
        engine->counts.records_rejected++;
}

/* An acknowledgement without a place may be of a record that is nowhere (log_has()): it says nothing of those before it. */
static bool append_is_acknowledged(const struct engine *engine, const struct append *append)
{
    return append->acked || append->n <= engine->acked_n;
}

/* Confirmed (rule 7): read back, counted, and this or a later append is acknowledged; in order. */
void engine_confirm(struct engine *engine)
{
    while (engine->appends && engine->appends->read_back &&
           (append_is_acknowledged(engine, engine->appends) || !RULE(ACKED))) {
        struct append *append = engine->appends;
        engine->appends = append->next;
        if (!engine->appends)
            engine->appends_tail = NULL;
        if (engine->unacked == append) /* a later one's acknowledgement confirms it too */
            engine->unacked = append->next;
        engine->append_count--;
        memory_subtract(engine, append->counted);
        if (position_is_beyond(&append->in_pos, &engine->confirmed_in_pos))
            engine->confirmed_in_pos = append->in_pos;
        outbox_confirm(engine, append->offset);
        proof_confirmed(engine, append);
        if (append->active) {
            takeover_progress(engine);
            turn_confirmed(append->active, append);
        } else if (append->kind == PERDURE__V1__KIND__KIND_MARK) {
            inbox_mark_confirmed(engine);
            retention_mark_confirmed(engine, append->n);
        } else if (append->kind == PERDURE__V1__KIND__KIND_COPY || append->kind == PERDURE__V1__KIND__KIND_STUB) {
            retention_confirmed(engine);
        } else if (append->kind == PERDURE__V1__KIND__KIND_SLOT_OUT || append->kind == PERDURE__V1__KIND__KIND_SLOT_IN) {
            slots_confirmed(engine);
        } else if (append->kind == PERDURE__V1__KIND__KIND_RELEASE) {
            append_free(append);
            engine_disown(engine, NULL);
            engine_let_go(engine);
            return;
        }
        append_free(append);
    }
    if (engine->appends && engine->appends->read_back)
        RULE_FIRED(ACKED);
    proof_look(engine);
}

/* One of ours came back: the front of the line, or something before it was lost. */
static void engine_own_read_back(struct engine *engine, const Header *header, int64_t offset)
{
    struct append *append = engine->unread;
    if (!append || append->n > header->n)
        return; /* a late copy */
    if (append->n < header->n) {
        engine_doubt(engine, "an append was lost");
        return;
    }
    append->read_back = true;
    append->offset = offset;
    engine->unread = append->next;
    if (append->known_offset >= 0 && append->known_offset != offset) {
        engine_doubt(engine, "an append was acknowledged at another offset than it was read");
        return;
    }
    engine_confirm(engine);
}

/* After every counted record, whoever wrote it. */
static void engine_on_counted(struct engine *engine, const struct log_record *record, const Header *header,
                              const struct judged *judged)
{
    engine->counts.events += judged->count;
    engine->changed_since_mark = true;
    engine->judge->anchor_digest = hash64(record->data, record->size);
    save_note_record(engine, header, record->offset, record->data, record->size);
    outbox_collect(engine, judged->run, judged, record->offset);
    outbox_drop_below(engine, out_pos_seen(header->out_pos, record->offset));
}

static bool engine_header_is_ours(const struct engine *engine, const Header *header)
{
    return engine_owns(engine) && header->claim == engine->own_claim && header->nonce == engine->nonce;
}

void engine_distrust(struct engine *engine)
{
    char why[256];
    uint32_t lost = engine->history_lost ? engine->histories_lost : 0;
    snprintf(why, sizeof why, "%s", engine->judge->error);
    if (!engine->from_store) {
        engine_stop(engine, "%s; the journal is damaged or was changed: run `perdure verify`", why);
        return;
    }
    engine_disown(engine, "the store is not to be trusted; reading the journal from its start");
    outbox_clear(engine);
    save_clear(engine);
    retention_free(engine);
    engine->retention.journal_bytes = engine->retention.claim_bytes = 0;
    slots_clear(engine);
    judge_reset(engine->judge);
    engine->handover.owner[0] = '\0';
    engine->handover.leaving_ms = engine->handover.last_ms = 0;
    engine->state = ENGINE_FOLLOWING;
    engine->records_stored = engine->history_lost = false;
    engine->from_store = false;
    engine->began = false;
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_REBUILD);
    if (!queued)
        return;
    queued->output.text = queued->owned[0] = strdup(why);
    queued->output.count = lost;
}

void engine_rebuild(struct engine *engine, const char *why)
{
    engine->from_store = true; /* what is in memory is of no more worth than a store */
    if (why != engine->judge->error)
        snprintf(engine->judge->error, sizeof engine->judge->error, "%s", why);
    engine_distrust(engine);
}

static void engine_on_verdict(struct engine *engine, const struct log_record *record, const Record *decoded,
                              enum judge_verdict verdict, const struct judged *judged)
{
    const Header *header = decoded->header;
    switch (verdict) {
    case JUDGE_COUNTED:
        engine_on_counted(engine, record, header, judged);
        break;
    case JUDGE_COPY:
        if (judged->unknown) /* rule 18: who has the run has its records */
            save_note_record(engine, header, record->offset, record->data, record->size);
        break;
    case JUDGE_MARK:
        outbox_collect_mark(engine, decoded->mark, record->offset);
        outbox_drop_below(engine, out_pos_seen(decoded->mark->out_pos, record->offset));
        if (decoded->mark->cut > 0 && decoded->mark->cut == engine->judge->claim)
            engine->retention.journal_bytes = engine->retention.claim_bytes; /* what lies before it goes */
        break;
    case JUDGE_SLOT_OUT:
        slots_on_out(engine, decoded->slot_out, record->offset);
        outbox_drop_below(engine, out_pos_seen(header->out_pos, record->offset));
        break;
    case JUDGE_SLOT_IN:
        slots_on_in(engine, decoded->slot_in, record->offset);
        outbox_drop_below(engine, out_pos_seen(header->out_pos, record->offset));
        break;
    case JUDGE_CLAIM:
        engine->retention.claim_bytes = record->size;
        engine_on_claim(engine, record);
        return;
    case JUDGE_REJECTED:
        if (engine_header_is_ours(engine, header)) {
            engine_doubt(engine, "an own record was rejected");
        } else if (engine->from_store && header->claim == engine->judge->claim &&
                   header->nonce == engine->judge->nonce) {
            snprintf(engine->judge->error, sizeof engine->judge->error, "journal offset %lld was rejected",
                     (long long)record->offset);
            engine_distrust(engine); /* rule 3 */
        }
        return;
    case JUDGE_DISTRUST:
        engine_distrust(engine);
        return;
    case JUDGE_STOP:
        engine_stop(engine, "partition %u, %s", engine->config.partition, engine->judge->error);
        return;
    case JUDGE_NO_MEMORY:
        engine_stop(engine, "out of memory");
        return;
    case JUDGE_FENCED:
    case JUDGE_DUPLICATE:
    case JUDGE_GENESIS:
    case JUDGE_RELEASE:
    case JUDGE_STUB:
        break;
    }
    if (engine->state == ENGINE_FENCED && verdict != JUDGE_FENCED && verdict != JUDGE_DUPLICATE) {
        /* The foreign owner lives: wait on (rule 4). It is done: no need to. */
        int64_t wait = verdict == JUDGE_RELEASE ? 0 : engine->claim_backoff_ms;
        alarm_set(&engine->alarms, &engine->claim_alarm, engine->monotonic_ms + wait);
    }
    if (engine_header_is_ours(engine, header) && verdict != JUDGE_FENCED)
        engine_own_read_back(engine, header, record->offset);
}

/* The common case of an owner: the record is, byte for byte, the next append that we wait for. */
static bool engine_own_fast(struct engine *engine, const struct log_record *record)
{
    struct append *append = engine->unread;
    if (!append || append->kind != PERDURE__V1__KIND__KIND_EVENT || append->size != record->size ||
        memcmp(append->data, record->data, record->size) != 0)
        return false;
    struct judged judged = { 0 };
    engine->judge->position = record->offset + 1;
    engine->handover.last_ms = record->append_ms;
    enum judge_verdict verdict = judge_events(engine->judge, record->offset, append->header, append->events,
                                              append->count, append->after, &judged);
    judged.events = append->events;
    judged.count = append->count;
    engine_count_verdict(engine, verdict);
    Record decoded = PERDURE__V1__RECORD__INIT;
    decoded.header = append->header;
    /* The append may be freed on the way: its header is used before that only. */
    engine_on_verdict(engine, record, &decoded, verdict, &judged);
    return true;
}

/*
 * Rule 7: where all below is read, an acknowledgement at the very next offset says what stands there, as reading it would, and
 * some time before the log hands it over. It comes all the same, and is compared.
 */
bool engine_read_ahead(struct engine *engine, struct append *append)
{
    struct ahead *ahead = &engine->ahead;
    int64_t offset = append->known_offset;
    if (append != engine->unread || append->kind != PERDURE__V1__KIND__KIND_EVENT || offset < engine->judge->position ||
        !engine_owns(engine) || engine->follow_asked || engine->verify_anchor)
        return false;
    if (offset > engine->judge->position) {
        RULE_FIRED(ACK_PLACE);
        if (RULE(ACK_PLACE))
            return false;
    }
    if (offset != ahead->to)
        ahead->from = offset;
    if (offset - ahead->from >= READ_AHEAD)
        return false;
    struct log_record record = { .stream = LOG_JOURNAL, .partition = engine->config.partition, .offset = offset,
                                 .append_ms = engine->handover.last_ms, .data = append->data, .size = append->size };
    ahead->digest[offset % READ_AHEAD] = hash64(append->data, append->size);
    ahead->to = offset + 1;
    retention_on_read(engine, append->size);
    return engine_own_fast(engine, &record);
}

/* True: it was known. */
static bool engine_was_read(struct engine *engine, const struct log_record *record)
{
    struct ahead *ahead = &engine->ahead;
    if (record->offset >= engine->judge->position)
        return false;
    if (record->offset < ahead->from || record->offset >= ahead->to)
        return true; /* handed over twice */
    ahead->from = record->offset + 1;
    if (hash64(record->data, record->size) == ahead->digest[record->offset % READ_AHEAD])
        engine->handover.last_ms = record->append_ms;
    else
        engine_rebuild(engine, "the journal has lost a record that it had acknowledged");
    return true;
}

/* Rule 22: what the store stands on must still be in the log as it was (H22: a truncated log that grew again). */
static bool engine_anchor_holds(struct engine *engine, const struct log_record *record)
{
    engine->verify_anchor = false;
    RULE_FIRED(STORE_ANCHOR);
    if (record->offset == engine->judge->anchor &&
        hash64(record->data, record->size) == engine->judge->anchor_digest) {
        /* What lay behind it counted for nothing; a truncated log may hold other records there now. */
        engine->judge->position = engine->judge->anchor + 1;
        return true;
    }
    snprintf(engine->judge->error, sizeof engine->judge->error, "journal offset %lld is not what the store was made from",
             (long long)engine->judge->anchor);
    engine_distrust(engine);
    return false;
}

void engine_on_journal(struct engine *engine, const struct log_record *record)
{
    if (engine->verify_anchor && !engine_anchor_holds(engine, record))
        return;
    if (engine_was_read(engine, record))
        return;
    retention_on_read(engine, record->size);
    if (engine_owns(engine) && engine_own_fast(engine, record))
        return;
    Record *decoded = NULL;
    enum wire_error error = record_decode(record->data, record->size, &decoded);
    if (error == WIRE_NOT_PERDURE) { /* somebody else's bytes count for nobody (rule 1) */
        engine->judge->position = record->offset + 1;
        engine->counts.records_rejected++;
        return;
    }
    if (error != WIRE_OK) {
        engine_stop(engine, "partition %u, journal offset %lld: %s", engine->config.partition,
                    (long long)record->offset, wire_error_text(error));
        return;
    }
    if (!engine_owns(engine))
        retention_sweep(engine);
    struct judged judged;
    enum judge_verdict verdict = judge_record(engine->judge, record->offset, decoded, &judged);
    engine_count_verdict(engine, verdict);
    if (verdict == JUDGE_MARK || verdict == JUDGE_RELEASE || verdict == JUDGE_CLAIM || verdict == JUDGE_COPY ||
        verdict == JUDGE_STUB || verdict == JUDGE_SLOT_OUT || verdict == JUDGE_SLOT_IN) {
        engine->judge->anchor = record->offset;
        engine->judge->anchor_digest = hash64(record->data, record->size);
    }
    handover_on_record(engine, record, decoded, verdict);
    engine_on_verdict(engine, record, decoded, verdict, &judged);
    judged_release(&judged);
    record_free(decoded);
}

void engine_on_journal_end(struct engine *engine, int64_t end)
{
    if (engine->follow_asked)
        return; /* of what was followed before */
    if (engine->verify_anchor) { /* read to the end and never met it */
        struct log_record none = { .offset = -1, .data = "", .size = 0 };
        if (!engine_anchor_holds(engine, &none))
            return;
    }
    if (engine->judge->position < end)
        engine->judge->position = end; /* what lies between is no record of this partition */
    if (engine->state == ENGINE_CATCHING_UP && !engine->judge->whole && engine->judge->begin >= 0)
        engine_stop(engine, "partition %u: the journal begins at offset %lld, and nothing after it says what was cut there: "
                    "something else than Perdure deleted its head, open jobs are missing; restore it, or keep what is left "
                    "with `perdure export`", engine->config.partition, (long long)engine->judge->begin);
    else if (engine->state == ENGINE_CATCHING_UP)
        handover_caught_up(engine);
}
