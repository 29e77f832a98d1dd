/*
 * Who owns the partition: claims, the doubt of rule 5, being fenced, letting go. Giving it up by plan: drain.c.
 */
#include "engine/internal.h"

static void claim_append(struct engine *engine, const char *cause)
{
    takeover_claims(engine);
    alarm_clear(&engine->alarms, &engine->handover.alarm);
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    Claim claim = PERDURE__V1__CLAIM__INIT;
    Genesis genesis = engine->config.genesis;
    header_init(engine, &header, PERDURE__V1__KIND__KIND_CLAIM);
    genesis.partition = engine->config.partition;
    slots_genesis(engine, &genesis);
    engine->slots.claimed = engine->judge->map;
    engine->nonce = engine_random(engine);
    claim.nonce = engine->nonce;
    claim.worker = (char *)(engine->config.worker ? engine->config.worker : "");
    claim.boot = (char *)(engine->config.boot_id ? engine->config.boot_id : "");
    claim.version = (char *)"0.1";
    claim.cause = (char *)cause;
    header.nonce = engine->nonce;
    record.header = &header;
    record.genesis = &genesis;
    record.claim = &claim;
    append_free(engine->claim);
    engine->claim = engine_append(engine, &record);
    engine->counts.claims++;
}

void engine_claim(struct engine *engine, const char *cause)
{
    claim_append(engine, cause);
    engine->state = ENGINE_CLAIMING;
}

/* Rule 17: a new claim of the owner's own, so that its offset can be cut at. Nothing is in flight, so what is in memory is
 * what is judged: jobs stay as they are, and wait until it is read back. */
void engine_claim_again(struct engine *engine) { claim_append(engine, "retention"); }

/* What was worked on goes; what was judged stays. */
static void actives_drop(struct engine *engine)
{
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next)
            if (run->user) {
                steps_clear(run->user, true);
                active_free(run->user);
            }
}

/* Everything that belongs to an owner goes; what was judged stays. */
void engine_disown(struct engine *engine, const char *why)
{
    if (engine->state == ENGINE_OWNER || engine->state == ENGINE_DRAINING)
        engine_put(engine, ENGINE_OUT_UNFOLLOW_INBOX);
    retention_abort(engine);
    appends_forget(engine);
    outbox_forget_sends(engine);
    inbox_reset(engine);
    slots_clear(engine);
    actives_drop(engine);
    handover_reset(engine);
    takeover_end(engine);
    alarm_clear(&engine->alarms, &engine->mark_alarm);
    alarm_clear(&engine->alarms, &engine->claim_alarm);
    alarm_clear(&engine->alarms, &engine->trim_alarm);
    engine->mark_wanted = engine->mark_first = false;
    engine->release_sent = engine->keeps_claim = engine->proof.wanted = false;
    if (why)
        engine_put_notice(engine, ENGINE_OUT_LOST, "%s", why);
}

/* It owns nothing any more: the host may let the engine go, unless the partition was assigned again meanwhile. */
void engine_let_go(struct engine *engine)
{
    engine->state = engine->assigned ? ENGINE_CATCHING_UP : ENGINE_FOLLOWING;
    if (engine->assigned) {
        takeover_begin(engine);
        engine_follow(engine); /* tells the end again, also of a quiet journal */
    } else {
        engine_put(engine, ENGINE_OUT_RELEASED);
    }
}

/* Rule 5: nothing more is sent in this epoch. A new claim, what is in the log is read, what is missing appended again. */
void engine_doubt(struct engine *engine, const char *why)
{
    if (!engine_owns(engine) && engine->state != ENGINE_CLAIMING)
        return;
    if (!RULE(CLAIM_ON_DOUBT))
        return;
    RULE_FIRED(CLAIM_ON_DOUBT);
    if (!engine->assigned) { /* rule 4: it may be another's by now; whoever owns it next reads what is in the log */
        engine_disown(engine, why);
        engine_let_go(engine);
        return;
    }
    engine_note(engine, "partition %u: claims anew: %s", engine->config.partition, why);
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next)
            if (run->user)
                turn_rewind(run->user);
    retention_abort(engine);
    appends_forget(engine);
    outbox_forget_sends(engine);
    inbox_reset(engine);
    slots_reset(engine);
    engine_put(engine, ENGINE_OUT_UNFOLLOW_INBOX);
    engine_claim(engine, why);
}

/* A log that takes no claim is not asked for another in the same breath. */
static void engine_claim_failed(struct engine *engine)
{
    if (!engine->assigned || engine_owns(engine)) {
        engine_doubt(engine, "the claim was not acknowledged");
        return;
    }
    append_free(engine->claim);
    engine->claim = NULL;
    alarm_set(&engine->alarms, &engine->claim_alarm, engine->monotonic_ms + engine->claim_retry_ms);
    engine->claim_retry_ms *= 2;
    if (engine->claim_retry_ms > CLAIM_BACKOFF_MAX_MS)
        engine->claim_retry_ms = CLAIM_BACKOFF_MAX_MS;
}

/* A fenced owner waits before it claims again, so that two that both believe themselves assigned do not take turns
 * (rule 4, hazard 4). */
static void engine_fenced(struct engine *engine)
{
    engine_disown(engine, "another worker claimed the partition");
    if (!engine->assigned) {
        engine_let_go(engine);
        return;
    }
    engine->state = ENGINE_FENCED;
    int64_t backoff = RULE(CLAIM_BACKOFF) ? engine->claim_backoff_ms : 0;
    RULE_FIRED(CLAIM_BACKOFF);
    engine->claim_backoff_ms = backoff * 2 < CLAIM_BACKOFF_MAX_MS ? backoff * 2 : CLAIM_BACKOFF_MAX_MS;
    backoff += (int64_t)(engine_random(engine) % (uint64_t)(backoff / 2 + 1));
    alarm_set(&engine->alarms, &engine->claim_alarm, engine->monotonic_ms + backoff);
}

static bool engine_clock_is_sane(struct engine *engine, int64_t append_ms)
{
    int64_t skew = engine->wall_ms - append_ms;
    if (append_ms <= 0)
        return true;
    if (skew < 0)
        skew = -skew;
    if (skew > CLOCK_SKEW_LIMIT_MS && !engine->config.own_clock) { /* rule 30 */
        engine_stop(engine, "this machine's clock differs from the log's by %lld s; set it right (limit %lld s)",
                    (long long)(skew / 1000), (long long)(CLOCK_SKEW_LIMIT_MS / 1000));
        return false;
    }
    engine->claim_skew_ms = skew;
    if (skew > CLOCK_SKEW_WARN_MS && engine->config.own_clock) /* nothing can be set right, and no other machine is there */
        engine_note(engine, "the log's newest records are from %lld ms later than now: this machine's clock was ahead when they "
                    "were written, or is behind", (long long)skew);
    else if (skew > CLOCK_SKEW_WARN_MS)
        engine_note(engine, "this machine's clock differs from the log's by %lld ms", (long long)skew);
    return true;
}

static void epoch_begin(struct engine *engine)
{
    int64_t offset = engine->claim->offset;
    append_free(engine->claim);
    engine->claim = NULL;
    engine->own_claim = offset;
    engine->n = 0;
    engine->acked_n = 0;
    proof_reset(engine);
    engine->mark_first = true; /* rule 9: first thing in an epoch */
    engine->changed_since_mark = true;
    engine->counts.claim = offset;
    outbox_confirm(engine, offset);
    retention_begin(engine);
}

/* Rule 7 holds for the claim as for any append: what was read before it is confirmed by it. */
static void engine_owned(struct engine *engine)
{
    if (!engine_clock_is_sane(engine, engine->claim->append_ms))
        return;
    if (engine_owns(engine)) { /* it claimed again: nothing else changes */
        epoch_begin(engine);
        return;
    }
    if (!engine->assigned)
        RULE_FIRED(UNWANTED_RELEASED);
    if (!engine->assigned && !RULE(UNWANTED_RELEASED)) {
        engine_disown(engine, NULL);
        engine_let_go(engine);
        return;
    }
    engine->state = engine->assigned ? ENGINE_OWNER : ENGINE_DRAINING;
    engine->drained = true; /* nothing runs yet */
    epoch_begin(engine);
    engine->claim_backoff_ms = engine->limits.claim_backoff_ms;
    engine->claim_retry_ms = CLAIM_RETRY_MS;
    engine->release_sent = false;
    engine->confirmed_in_pos = engine->judge->in_pos;
    handover_reset(engine);
    takeover_owned(engine);
    inbox_begin(engine);
    if (slots_are_here(engine)) /* rule 25: else they begin with SlotIn */
        wake_runs(engine);
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_OWNED);
    if (queued)
        queued->output.offset = engine->own_claim;
}

/* Rule 5: a claim that was read, lost by a truncation and sent again is acknowledged at another offset: nothing read since
 * the first is to be trusted. It stays unowned until the truncation is told or its deadline claims anew. */
static bool claim_is_where_it_was_read(struct engine *engine)
{
    const struct append *claim = engine->claim;
    if (claim->known_offset < 0 || claim->known_offset == claim->offset)
        return true;
    engine_note(engine, "the claim was acknowledged at another offset than it was read");
    return false;
}

void engine_on_claim(struct engine *engine, const struct log_record *record)
{
    struct append *claim = engine->state == ENGINE_CLAIMING || engine_owns(engine) ? engine->claim : NULL;
    if (claim && engine->judge->nonce == engine->nonce) {
        claim->read_back = true;
        claim->offset = record->offset;
        claim->append_ms = record->append_ms;
        if (!RULE(ACKED) || (claim->acked && claim_is_where_it_was_read(engine)))
            engine_owned(engine);
    } else if (engine_owns(engine) || (claim && claim->read_back)) {
        engine_fenced(engine);
    } else if (engine->state == ENGINE_CLAIMING) {
        /* Another owned it before our claim comes: jobs in memory know nothing of what was done then. */
        actives_drop(engine);
    }
}

void engine_on_claim_delivered(struct engine *engine, enum log_delivery delivery, int64_t offset)
{
    engine->claim->acked = delivery == LOG_PERSISTED;
    engine->claim->known_offset = offset;
    if (delivery != LOG_PERSISTED)
        engine_claim_failed(engine);
    else if (engine->claim->read_back && claim_is_where_it_was_read(engine))
        engine_owned(engine);
}
