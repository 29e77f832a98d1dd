/*
 * Giving a partition up by plan (rule 4): no step begins any more, those that run get a moment to end, what they returned
 * is appended and confirmed, then a Mark. Attempts that do not end in time are handed back: nothing was recorded of them,
 * so the next owner begins them again. Release tells the next owner to begin at once; who comes back itself writes none.
 */
#include "engine/internal.h"

/* Job code may run: an owner, and one that drains as long as steps may end. */
bool engine_takes_turns(const struct engine *engine)
{
    return engine->state == ENGINE_OWNER || (engine->state == ENGINE_DRAINING && !engine->drained);
}

void drain_begin(struct engine *engine)
{
    engine->state = ENGINE_DRAINING;
    engine->drained = false;
    engine->drain_until = engine->monotonic_ms + engine->limits.drain_ms;
    starts_leave(engine); /* others of their type go on */
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_DRAINING);
    if (queued)
        queued->output.count = engine->running_steps;
}

void engine_on_revoked(struct engine *engine)
{
    engine->assigned = false;
    bool waits_to_claim = engine->state == ENGINE_CLAIMING && !engine->claim;
    if (engine->state == ENGINE_CATCHING_UP || engine->state == ENGINE_FENCED || waits_to_claim) {
        engine_disown(engine, NULL);
        engine_let_go(engine);
    } else if (engine->state == ENGINE_OWNER) {
        if (!handover_stays(engine))
            drain_begin(engine);
    } else if (engine->state == ENGINE_FOLLOWING || engine->state == ENGINE_STOPPED) {
        engine_put(engine, ENGINE_OUT_RELEASED);
    }
}

void engine_on_stop(struct engine *engine, bool leave)
{
    engine->keeps_claim = !leave && engine->assigned; /* whom it was taken from, the next owner waits for the Release */
    engine->config.hands_over = false;                /* nothing is waited for any more */
    engine_on_revoked(engine);
}

/* Assigned again before the Release left: it goes on where it was. What came meanwhile was left to the next owner, who
 * it is itself; steps that were wanted meanwhile have not begun. */
void drain_end(struct engine *engine)
{
    engine->state = ENGINE_OWNER;
    engine->keeps_claim = false;
    inbox_follow(engine);
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next) {
            struct active *active = run->user;
            if (active && !active->wake_alarm.place) /* else it is brought back when it is due */
                active_enqueue(active);
        }
}

/* What a step returned, or a decision that follows from it, is not in an append yet. */
static bool results_wait(const struct engine *engine)
{
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (const struct run *run = engine->judge->table[i]; run; run = run->next) {
            const struct active *active = run->user;
            if (!active || active->parked || !slots_keep(engine, run->job))
                continue;
            for (const struct input *input = active->inputs.head; input; input = input->next)
                if (input->offset < 0 && input->event->kind_case != PERDURE__V1__EVENT__KIND_TIMER_FIRED)
                    return true;
        }
    return false;
}

static void drain_release(struct engine *engine)
{
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    header_init(engine, &header, PERDURE__V1__KIND__KIND_RELEASE);
    Position in_pos = inbox_low(engine, false);
    header.in_pos = &in_pos;
    header.out_pos = outbox_position(engine);
    record.header = &header;
    engine->release_sent = engine_append(engine, &record) != NULL;
}

void engine_drain(struct engine *engine)
{
    if (engine->claim)
        return; /* it claimed again just before: what is appended now would count for nobody */
    if (!engine->drained) {
        engine->drained = engine->monotonic_ms >= engine->drain_until ||
                          (engine->running_steps == 0 && !results_wait(engine));
        retention_run(engine);
        engine_take_turns(engine);
        if (engine->history_lost)
            return;
        if (engine->state == ENGINE_DRAINING && engine->handover.say_leaving && !engine->appends)
            engine_mark(engine);
        if (!engine->drained || engine->state != ENGINE_DRAINING)
            return;
    }
    if (engine->appends || engine->release_sent)
        return;
    if (engine->mark_first || engine->changed_since_mark) {
        engine_mark(engine);
    } else if (engine->keeps_claim) {
        engine_disown(engine, NULL);
        engine_let_go(engine);
    } else {
        drain_release(engine);
    }
}
