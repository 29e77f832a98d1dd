/*
 * Is the partition still ours? Only the journal knows: an append that counted says that it was when it was sent. On a proof
 * older than the time after which a silent owner is taken for dead nothing is begun in the world, no step, no message, no
 * task: a Mark is appended and read back first (rule 8). A new owner has none: behind the claim that it read there may be
 * another one. What the journal judges itself (appends, and so job code) waits for nothing.
 */
#include "engine/internal.h"

#define NO_PROOF (INT64_MIN / 2)

/* The epoch begins. */
void proof_reset(struct engine *engine)
{
    engine->proof.sent_ms = RULE(LOOK_FIRST) ? NO_PROOF : engine->monotonic_ms;
    engine->proof.wanted = false;
    engine->proof.slow_n = 0;
    RULE_FIRED(LOOK_FIRST);
}

/* A log that takes longer than that for an append could prove nothing: then as long as it may take at all. */
static int64_t proof_lasts_ms(const struct engine *engine)
{
    return engine->proof.log_is_slow ? engine->limits.append_deadline_ms : engine->limits.alive_ms;
}

int64_t proof_until(const struct engine *engine)
{
    return RULE(PROOF_AGE) && RULE(MARKS) ? engine->proof.sent_ms + proof_lasts_ms(engine) : INT64_MAX;
}

bool proof_holds(struct engine *engine)
{
    bool holds = RULE(PROOF_AGE) ? engine->monotonic_ms < proof_until(engine) : engine->proof.sent_ms != NO_PROOF;
    if (!RULE(MARKS)) /* none comes */
        return true;
    if (!holds) {
        RULE_FIRED(PROOF_AGE);
        engine->proof.wanted = true;
    }
    return holds;
}

bool proof_wants_mark(const struct engine *engine)
{
    return engine->proof.wanted && !engine->appends; /* else one that is on its way will tell */
}

void proof_confirmed(struct engine *engine, const struct append *append)
{
    int64_t sent = append->deadline - engine->limits.append_deadline_ms, age = engine->monotonic_ms - sent;
    if (age < engine->limits.alive_ms) {
        engine->proof.log_is_slow = false;
    } else if (!engine->proof.log_is_slow) { /* or this process stood still: one that is sent from now on tells which */
        engine->proof.log_is_slow = true;
        engine->proof.slow_n = engine->n;
        sent = NO_PROOF;
    } else if (append->n <= engine->proof.slow_n) {
        return;
    }
    engine->proof.sent_ms = sent;
}

/* After appends were confirmed: what had to wait goes on. */
void proof_look(struct engine *engine)
{
    if (!engine->proof.wanted || !proof_holds(engine))
        return;
    engine->proof.wanted = false;
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next)
            if (run->user)
                steps_start(run->user);
}
