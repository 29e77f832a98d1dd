/*
 * The engine of one partition: its states, what the host tells it, time.
 *
 *   from          on                                              to
 *   FOLLOWING     assigned                                        CATCHING_UP
 *   CATCHING_UP   journal read to its end, and nobody else owns it,
 *                 or its owner was asked and gave it up, or said
 *                 nothing in time (handover.c)                    CLAIMING     (appends a Claim)
 *   CATCHING_UP   revoked                                         FOLLOWING
 *   CLAIMING      own claim read back                             OWNER        (else: waits, an append deadline claims anew)
 *   CLAIMING      own claim read back, but revoked meanwhile      DRAINING
 *   OWNER         any doubt (rule 5)                              CLAIMING
 *   CLAIMING      its claim fails                                 CLAIMING     (another one, after a growing delay)
 *   CLAIMING      any doubt, not assigned any more                FOLLOWING
 *   DRAINING      any doubt                                       FOLLOWING
 *   OWNER         revoked, and asked for it (if owners are asked)  DRAINING
 *   OWNER         another's claim read                            FENCED       (not assigned: FOLLOWING)
 *   CLAIMING      another's claim read                            CLAIMING     (ours comes later, or the deadline)
 *   DRAINING      steps ended or handed back, nothing in flight,
 *                 Mark and Release read back (to come back: Mark)   FOLLOWING    (assigned again meanwhile: CATCHING_UP)
 *   DRAINING      assigned again before the Release left          OWNER
 *   DRAINING      another's claim read                            FOLLOWING
 *   FENCED        foreign epoch silent for the backoff, or ended  CATCHING_UP
 *   FENCED        revoked                                         FOLLOWING
 *   any           a record that cannot be judged, wrong log       STOPPED
 */
#include "engine/engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

const char *engine_state_name(enum engine_state state)
{
    static const char *const names[] = {
#define STATE_NAME_(name, text) #name,
        ENGINE_STATE_MAP(STATE_NAME_)
#undef STATE_NAME_
    };
    return names[state];
}

enum engine_state engine_state_of(const struct engine *engine) { return engine->state; }

/* ---- small things ---------------------------------------------------------------------------------- */

/* xoshiro256++ (Blackman, Vigna 2019), seeded by splitmix64. */
static uint64_t rotate(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

uint64_t engine_random(struct engine *engine)
{
    uint64_t *s = engine->random, result = rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

static void engine_seed(struct engine *engine, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        engine->random[i] = z ^ (z >> 31);
    }
}

int64_t engine_due(const struct engine *engine, int64_t wall_ms)
{
    int64_t wait = wall_ms - engine->wall_ms;
    return engine->monotonic_ms + (wait > 0 ? wait : 0);
}

void engine_stop(struct engine *engine, const char *format, ...)
{
    char text[512];
    va_list arguments;
    if (engine->state == ENGINE_STOPPED)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    engine->state = ENGINE_STOPPED; /* first: what follows must not stop it again */
    engine->stop_reason = strdup(text);
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_STOPPED);
    if (queued)
        queued->output.text = engine->stop_reason ? engine->stop_reason : "out of memory";
}

/* ---- what the host tells ------------------------------------------------------------------------------------ */

void engine_on_record(struct engine *engine, const struct log_record *record)
{
    if (engine->state == ENGINE_STOPPED || !engine->began)
        return;
    engine->partition_changed = true;
    if (record->stream == LOG_JOURNAL)
        engine_on_journal(engine, record);
    else
        inbox_record(engine, record);
}

void engine_on_end(struct engine *engine, enum log_stream stream, int64_t end)
{
    if (!engine->began || engine->state == ENGINE_STOPPED)
        return;
    if (stream == LOG_JOURNAL)
        engine_on_journal_end(engine, end);
    else
        inbox_end(engine, end);
}

void engine_on_delivered(struct engine *engine, uint64_t cookie, enum log_delivery delivery, int64_t offset)
{
    if (engine->state == ENGINE_STOPPED)
        return;
    if (cookie & COOKIE_SEND) {
        outbox_delivered(engine, cookie, delivery, offset);
        return;
    }
    if (engine->claim && engine->claim->cookie == cookie) {
        engine_on_claim_delivered(engine, delivery, offset);
        return;
    }
    struct append *append = engine->unacked;
    while (append && append->cookie != cookie)
        append = append->next;
    if (!append)
        return; /* of an epoch that is over */
    if (delivery != LOG_PERSISTED) {
        engine_doubt(engine, "an append was not acknowledged");
        return;
    }
    append->acked = true;
    append->known_offset = offset;
    while (engine->unacked && engine->unacked->acked)
        engine->unacked = engine->unacked->next;
    bool nowhere = !log_has(delivery, offset);
    if (nowhere)
        RULE_FIRED(ACK_IMPLICIT);
    if (append->n > engine->acked_n && !(nowhere && RULE(ACK_IMPLICIT)))
        engine->acked_n = append->n;
    if (append->read_back && offset >= 0 && offset != append->offset)
        engine_doubt(engine, "an append was acknowledged at another offset than it was read");
    else if (!engine_read_ahead(engine, append))
        engine_confirm(engine);
}

void engine_on_fault(struct engine *engine, enum log_fault fault, const char *message)
{
    switch (fault) {
    case LOG_UNREACHABLE:
        break;
    case LOG_PRODUCER_REPLACED:
        engine_doubt(engine, message ? message : "the producer was replaced");
        break;
    case LOG_STATUS_LOST:
        if (engine_owns(engine))
            engine_doubt(engine, message ? message : "a status record was lost");
        break;
    case LOG_TRUNCATED:
    case LOG_OUT_OF_RANGE: /* rule 19 */
        if (fault == LOG_OUT_OF_RANGE)
            RULE_FIRED(REBUILD);
        if (fault == LOG_OUT_OF_RANGE && !RULE(REBUILD)) { /* the mutation: goes on behind the hole */
            engine_put(engine, ENGINE_OUT_FOLLOW_JOURNAL);
            break;
        }
        engine_rebuild(engine, message ? message : "records are gone");
        break;
    case LOG_MEMBERSHIP_TAKEN:
    case LOG_FATAL:
        engine_stop(engine, "%s", message ? message : "the log cannot go on");
        break;
    }
}

/* ---- assignment -------------------------------------------------------------------------------------------- */

void engine_on_assigned(struct engine *engine)
{
    engine->assigned = true;
    engine->handover.asked_for = engine->handover.say_leaving = false;
    if (engine->state == ENGINE_FOLLOWING) {
        engine->state = ENGINE_CATCHING_UP;
        takeover_begin(engine);
        if (engine->began) /* asks for the end again, so that a quiet journal is seen to be read */
            engine_follow(engine);
    } else if (engine->state == ENGINE_DRAINING && !engine->release_sent) {
        drain_end(engine);
    }
}

/* ---- time and turns ------------------------------------------------------------------------------------------ */

static void engine_on_alarm(struct engine *engine, struct alarm *alarm)
{
    switch ((enum alarm_kind)alarm->kind) {
    case ALARM_CLAIM:
        if (engine->state == ENGINE_FENCED && engine->assigned) {
            engine->state = ENGINE_CATCHING_UP;
            engine_follow(engine);
        } else if (engine->state == ENGINE_CLAIMING && !engine->claim) {
            engine_claim(engine, "the claim before was not acknowledged");
        }
        break;
    case ALARM_ASK:
        handover_on_alarm(engine);
        break;
    case ALARM_TAKEOVER:
        takeover_tell(engine);
        break;
    case ALARM_MARK:
        engine->mark_wanted = engine->mark_wanted || engine->changed_since_mark;
        break;
    case ALARM_RETENTION:
        retention_on_alarm(engine);
        break;
    case ALARM_TRIM: {
        struct queued_output *queued = engine_put(engine, ENGINE_OUT_TRIM_INBOX);
        if (queued)
            queued->output.offset = engine->trim_to;
        break;
    }
    case ALARM_STATUS: {
        struct active *active = (struct active *)((char *)alarm - offsetof(struct active, status_alarm));
        status_on_alarm(active);
        active_settle(active);
        break;
    }
    case ALARM_TIMER:
        timer_on_alarm((struct timer *)((char *)alarm - offsetof(struct timer, alarm)));
        break;
    case ALARM_RETRY:
    case ALARM_TIMEOUT:
        step_on_alarm(engine, (struct step *)((char *)alarm - offsetof(struct step, alarm)));
        break;
    case ALARM_QUEUE: /* engine_run() looks at all */
    case ALARM_TASK:
    case ALARM_WAKE: /* in a heap of their own */
        break;
    }
}

void engine_on_time(struct engine *engine, int64_t wall_ms, int64_t monotonic_ms)
{
    engine->wall_ms = wall_ms;
    if (monotonic_ms > engine->monotonic_ms)
        engine->monotonic_ms = monotonic_ms;
    if (engine->state == ENGINE_STOPPED)
        return;
    for (struct alarm *alarm; (alarm = alarms_take(&engine->alarms, engine->monotonic_ms));)
        engine_on_alarm(engine, alarm);
    if (engine->appends && engine->appends->deadline <= engine->monotonic_ms)
        engine_doubt(engine, "an append was not confirmed before its deadline");
    else if (engine->claim && engine->claim->deadline <= engine->monotonic_ms)
        engine_doubt(engine, "the claim was not confirmed before its deadline");
}

static bool engine_mark_is_wanted(const struct engine *engine)
{
    return engine->mark_wanted || engine->mark_first || proof_wants_mark(engine) || retention_wants_mark(engine) || inbox_has_refusals(engine) ||
           (!engine->appends && inbox_replies_could_go(engine));
}

int64_t engine_next_wake(const struct engine *engine)
{
    int64_t next = alarms_next(&engine->alarms);
    if (engine->state == ENGINE_STOPPED)
        return INT64_MAX;
    if (engine->history_lost || engine->outputs)
        return engine->monotonic_ms;
    if (engine->appends && engine->appends->deadline < next)
        next = engine->appends->deadline;
    if (engine->claim && engine->claim->deadline < next)
        next = engine->claim->deadline;
    if (engine->state == ENGINE_DRAINING && !engine->drained && engine->drain_until < next)
        next = engine->drain_until;
    bool waits = engine->claim || /* jobs wait for these */
                 (engine->state == ENGINE_OWNER && engine->appends &&
                  (engine_mark_is_wanted(engine) || retention_wants_claim(engine) || engine->slots.frozen ||
                   (engine->crashes && crashes_come_first((struct engine *)engine, false))));
    if (engine->runnable && engine_takes_turns(engine) && engine->append_count < engine->limits.appends_in_flight && !waits)
        next = engine->monotonic_ms;
    if (engine->state == ENGINE_OWNER && !engine->claim && !engine->appends && RULE(MARKS) && engine_mark_is_wanted(engine))
        next = engine->monotonic_ms;
    if (!waits && wakes_next(engine) < next)
        next = wakes_next(engine);
    if (!waits && steps_next_admitted(engine) < next)
        next = steps_next_admitted(engine);
    if (!waits && starts_next(engine) < next)
        next = starts_next(engine);
    if (!waits && engine_takes_turns(engine) && retention_wants_run(engine))
        next = engine->monotonic_ms;
    return next;
}

void engine_take_turns(struct engine *engine)
{
    engine->replays_this_turn = 0;
    while (engine->runnable && engine->append_count < engine->limits.appends_in_flight &&
           engine->replays_this_turn < engine->limits.replays_per_turn && engine_takes_turns(engine) && !engine->history_lost) {
        struct active *active = engine->runnable;
        engine->runnable = active->next_queued;
        if (!engine->runnable)
            engine->runnable_tail = NULL;
        active->queued = false;
        if (!slots_keep(engine, active->head->job)) /* rule 25: it goes on where its slot goes */
            slots_stand_still(active);
        else if (memory_admits(engine, active))
            turn_run(active);
        else if (!active->wake_alarm.place || active->wake_alarm.due > engine->monotonic_ms)
            wake_at(active, engine->monotonic_ms); /* not when its timer is due: something has come for it */
    }
}

void engine_run(struct engine *engine, bool bring_back)
{
    if (engine->history_lost) { /* nothing was appended since */
        engine_rebuild(engine, engine->judge->error);
        return;
    }
    if (engine->state == ENGINE_DRAINING) {
        engine_drain(engine);
        return;
    }
    if (engine->state != ENGINE_OWNER)
        return;
    inbox_release_replies(engine);
    if (retention_wants_claim(engine) && !engine->appends)
        engine_claim_again(engine);
    if (engine->claim || retention_wants_claim(engine))
        return; /* what is appended now would count for nobody */
    /* Rule 9: the alarm may have found nothing to mark; what changed since then must not wait for ever. */
    if (engine->changed_since_mark && !engine->mark_wanted && !engine->mark_alarm.place)
        alarm_set(&engine->alarms, &engine->mark_alarm, engine->monotonic_ms + engine->limits.mark_interval_ms);
    /* A Mark's live hash is true only if nothing is on its way: jobs wait for the moment. */
    if (RULE(MARKS) && engine_mark_is_wanted(engine)) {
        if (engine->appends)
            return;
        RULE_FIRED(MARKS);
        engine_mark(engine);
    }
    if (!slots_run(engine))
        return;
    starts_let_in(engine);
    if (!crashes_come_first(engine, true)) {
        engine_take_turns(engine);
        if (bring_back)
            wakes_take(engine); /* after what has come */
    }
    if (engine->state != ENGINE_OWNER || engine->history_lost)
        return;
    retention_run(engine);
    if (engine->state != ENGINE_OWNER)
        return;
    queues_pump(engine);
    steps_start_admitted(engine);
    actives_evict(engine);
    inbox_go_on(engine);
    outbox_send(engine);
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static void limits_fill(struct engine_limits *limits)
{
#define DEFAULT(field, value) \
    if (limits->field == 0)   \
    limits->field = (value)
    DEFAULT(live_jobs, LIVE_JOBS_LIMIT);
    DEFAULT(live_bytes, (size_t)LIVE_BYTES_LIMIT);
    DEFAULT(appends_in_flight, APPENDS_IN_FLIGHT_LIMIT);
    DEFAULT(replays_per_turn, REPLAYS_PER_TURN);
    DEFAULT(woken_jobs, WOKEN_JOBS_LIMIT);
    DEFAULT(inbox_records, INBOX_RECORDS_LIMIT);
    DEFAULT(inbox_bytes, (size_t)INBOX_BYTES_LIMIT);
    DEFAULT(turn_bytes, TURN_BYTES_LIMIT);
    DEFAULT(life_ms, LIFE_MS);
    DEFAULT(keep_ms, KEEP_OF(limits->life_ms));
    DEFAULT(append_deadline_ms, APPEND_DEADLINE_MS);
    DEFAULT(mark_interval_ms, MARK_INTERVAL_MS);
    DEFAULT(claim_backoff_ms, CLAIM_BACKOFF_MS);
    DEFAULT(trim_delay_ms, TRIM_DELAY_OF(limits->life_ms));
    DEFAULT(status_delay_ms, STATUS_DELAY_MS);
    DEFAULT(crash_limit, CRASH_LIMIT);
    DEFAULT(retention_bytes, RETENTION_BYTES);
    DEFAULT(retention_age_ms, limits->keep_ms);
    DEFAULT(retention_records, RETENTION_TURN_RECORDS);
    DEFAULT(skew_ms, CLOCK_SKEW_WARN_MS);
    DEFAULT(tasks_out, TASKS_OUT_LIMIT);
    DEFAULT(drain_ms, DRAIN_MS);
    DEFAULT(alive_ms, HANDOVER_ALIVE_MS);
#undef DEFAULT
}

struct engine *engine_new(const struct engine_config *config)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return NULL;
    engine->config = *config;
    engine->config.genesis.namespace_ = config->genesis.namespace_ ? config->genesis.namespace_ : (char *)"";
    engine->limits = config->limits;
    limits_fill(&engine->limits);
    engine->judge = judge_new(&config->genesis);
    if (!engine->judge) {
        free(engine);
        return NULL;
    }
    engine->judge->partition = config->partition;
    engine->claim_alarm.kind = ALARM_CLAIM;
    engine->mark_alarm.kind = ALARM_MARK;
    engine->trim_alarm.kind = ALARM_TRIM;
    retention_init(engine);
    engine->task_alarm.kind = ALARM_TASK;
    engine->handover.alarm.kind = ALARM_ASK;
    engine->takeover_alarm.kind = ALARM_TAKEOVER;
    engine->claim_backoff_ms = engine->limits.claim_backoff_ms;
    engine->claim_retry_ms = CLAIM_RETRY_MS;
    engine->own_claim = -1;
    engine->confirmed_in_pos = (Position)PERDURE__V1__POSITION__INIT;
    engine_seed(engine, config->seed ^ ((uint64_t)config->partition << 32));
    return engine;
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    engine->state = ENGINE_STOPPED;
    appends_forget(engine);
    inbox_reset(engine);
    slots_clear(engine);
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next)
            if (run->user)
                active_free(run->user);
    outbox_clear(engine);
    queues_free(engine);
    free(engine->outbox.slots);
    free(engine->outbox.targets);
    save_clear(engine);
    crashes_clear(engine);
    retention_free(engine);
    outputs_clear(engine);
    free(engine->window);
    memory_release(engine);
    alarms_release(&engine->alarms);
    alarms_release(&engine->wakes);
    judge_free(engine->judge);
    free(engine->stop_reason);
    free(engine);
}

void engine_begin(struct engine *engine, int64_t log_start)
{
    if (!engine->from_store)
        engine->judge->position = log_start;
    engine->verify_anchor = engine->from_store && engine->judge->anchor >= 0 && RULE(STORE_ANCHOR);
    engine_follow(engine);
    engine->began = true;
    if (engine->state == ENGINE_FOLLOWING && engine->assigned)
        engine->state = ENGINE_CATCHING_UP;
}

void engine_on_histories_kept(struct engine *engine, int64_t offset)
{
    if (offset > engine->histories_below)
        engine->histories_below = offset;
}

void engine_counts(const struct engine *engine, struct engine_counts *out)
{
    *out = engine->counts;
    out->open_runs = engine->judge->open_count;
    out->closed_runs = engine->judge->count - engine->judge->open_count;
    out->live_jobs = engine->live_jobs;
    out->live_bytes = engine->live_bytes;
    out->asleep = engine->wakes.count;
    out->starts_held = engine->starts_held;
    out->inbox_held = engine->inbox_held;
    out->inbox_bytes = engine->inbox_bytes;
    out->waiting_steps = engine->running_steps;
    out->appends_in_flight = engine->append_count;
    out->outputs_unsent = engine->outbox.unsent;
    out->position = engine->judge->position;
    out->in_pos = engine->confirmed_in_pos.offset;
    out->out_pos = outbox_position(engine);
    out->journal_bytes = engine->retention.journal_bytes;
    out->cut = engine->judge->cut;
}
