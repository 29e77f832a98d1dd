/*
 * Moving a partition between two live workers (rule 4) without a gap. Whoever it was taken from goes on as the owner,
 * says so in a Mark, and gives it up only when the next one asks for it: that one has read the journal by then. An ask is
 * a Mark under no epoch: it counts for nobody. The owner answers with a Mark, drains, and writes Release; the next one
 * claims. Who is not answered claims all the same: an owner that died answers nobody, and safety never needs any of this.
 */
#include "engine/internal.h"

#include <stdio.h>
#include <string.h>

/* Claims in records are offsets: no epoch has this one. */
#define NO_CLAIM (-1)

static bool is_ask(const Record *record)
{
    return record->header->kind == PERDURE__V1__KIND__KIND_MARK && record->header->claim == NO_CLAIM && record->mark &&
           record->mark->asks[0];
}

/* ---- the one who wants it ------------------------------------------------------------------------------------------ */

/* Somebody else may own it and live: our own earlier life under this name cannot, its directory was locked. */
static bool owner_may_live(const struct engine *engine)
{
    const struct handover *handover = &engine->handover;
    return engine->config.hands_over && engine->judge->owned && engine->judge->nonce != engine->nonce &&
           strcmp(handover->owner, engine->config.worker ? engine->config.worker : "") != 0;
}

static void handover_wait(struct engine *engine, int64_t ms)
{
    alarm_set(&engine->alarms, &engine->handover.alarm, engine->monotonic_ms + ms);
}

static void handover_ask(struct engine *engine)
{
    struct handover *handover = &engine->handover;
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    Mark mark = PERDURE__V1__MARK__INIT;
    header_init(engine, &header, PERDURE__V1__KIND__KIND_MARK);
    header.claim = NO_CLAIM;
    header.nonce = handover->ask_nonce = engine_random(engine);
    mark.asks = (char *)(engine->config.worker && *engine->config.worker ? engine->config.worker : "?");
    mark.live_hash = (ProtobufCBinaryData){ .len = 16, .data = engine->judge->live_hash.bytes }; /* every Mark has one */
    record.header = &header;
    record.mark = &mark;
    handover->asked = true;
    engine_append_uncounted(engine, &record);
    handover_wait(engine, HANDOVER_ASK_MS);
}

/* The journal is read to its end: now is the moment to own it. */
void handover_caught_up(struct engine *engine)
{
    if (!engine->handover.asked)
        takeover_read(engine);
    if (!owner_may_live(engine)) {
        engine_claim(engine, "assigned");
    } else if (!engine->handover.asked) {
        handover_ask(engine);
    }
}

void handover_on_alarm(struct engine *engine)
{
    if (engine->state == ENGINE_CATCHING_UP)
        engine_claim(engine, "assigned, the owner before does not answer");
}

/* How long may its silence last? It spoke shortly before: it lives, and only the machine is slow. What it said to take is
 * counted from the first who asked: if that one has died since, or was given something else, nobody else waits as long. */
static void handover_asked_is_read(struct engine *engine, int64_t append_ms)
{
    struct handover *handover = &engine->handover;
    bool recent = handover->last_ms > 0 && append_ms - handover->last_ms < engine->limits.alive_ms;
    int64_t left = handover->first_asked_ms + handover->leaving_ms + HANDOVER_SLACK_MS - append_ms;
    if (handover->leaving_ms > 0)
        handover_wait(engine, left > HANDOVER_ANSWER_MS ? left : HANDOVER_ANSWER_MS);
    else
        handover_wait(engine, recent ? HANDOVER_SLACK_MS : HANDOVER_ANSWER_MS);
}

/* ---- the one who has it ---------------------------------------------------------------------------------------------- */

static void handover_is_asked(struct engine *engine)
{
    if (!engine_owns(engine))
        return;
    engine->handover.asked_for = true;
    engine->handover.say_leaving = true;
    if (engine->state == ENGINE_OWNER && !engine->assigned)
        drain_begin(engine);
    else
        engine->mark_wanted = true; /* the answer: it lives, and will hear that it was revoked */
}

/* True: it goes on as the owner until it is asked. */
bool handover_stays(struct engine *engine)
{
    if (!engine->config.hands_over || engine->handover.asked_for)
        return false;
    engine->handover.say_leaving = engine->mark_wanted = true;
    return true;
}

/* For a Mark: how long it will take at most to give the partition up; 0: that is not intended. */
int64_t handover_leaving(struct engine *engine)
{
    if (!engine->handover.say_leaving)
        return 0;
    engine->handover.say_leaving = false;
    return engine->limits.drain_ms > 0 ? engine->limits.drain_ms : 1;
}

/* ---- both read the journal --------------------------------------------------------------------------------------------- */

static void handover_on_claim(struct engine *engine, const Claim *claim)
{
    struct handover *handover = &engine->handover;
    snprintf(handover->owner, sizeof handover->owner, "%s", claim->worker);
    handover->leaving_ms = handover->first_asked_ms = 0;
    if (engine->state == ENGINE_CATCHING_UP && handover->asked) { /* another one to be asked */
        handover->asked = false;
        alarm_clear(&engine->alarms, &handover->alarm);
    }
}

/* After every record that was judged. */
void handover_on_record(struct engine *engine, const struct log_record *record, const Record *decoded,
                        enum judge_verdict verdict)
{
    struct handover *handover = &engine->handover;
    bool waits = engine->state == ENGINE_CATCHING_UP && handover->asked;
    takeover_count(engine, record->size);
    if (verdict == JUDGE_FENCED && is_ask(decoded)) {
        if (!handover->first_asked_ms)
            handover->first_asked_ms = record->append_ms;
        if (!waits)
            handover_is_asked(engine);
        else if (decoded->header->nonce == handover->ask_nonce)
            handover_asked_is_read(engine, record->append_ms);
        return;
    }
    if (verdict == JUDGE_FENCED || verdict == JUDGE_DUPLICATE || verdict == JUDGE_REJECTED)
        return;
    if (verdict == JUDGE_CLAIM) {
        takeover_claimed(engine, record->append_ms);
        handover_on_claim(engine, decoded->claim);
    }
    handover->last_ms = record->append_ms;
    if (verdict == JUDGE_MARK && decoded->mark->leaving > 0) {
        handover->leaving_ms = decoded->mark->leaving;
        handover->first_asked_ms = 0;
        if (waits)
            handover_wait(engine, handover->leaving_ms + HANDOVER_SLACK_MS);
    }
    handover->released = verdict == JUDGE_RELEASE;
}

void handover_reset(struct engine *engine)
{
    struct handover *handover = &engine->handover;
    handover->asked = handover->asked_for = handover->say_leaving = false;
    alarm_clear(&engine->alarms, &handover->alarm);
}
