/*
 * How a partition was taken over, and what it cost: told once, at the first progress. For people and figures only.
 */
#include <stdio.h>
#include <string.h>

#include "engine/internal.h"

/* A partition in which nothing is to be done is reported after so long. */
#define TAKEOVER_TOLD_MS 2000

static int64_t takeover_now_us(const struct engine *engine)
{
    const struct engine_host *host = &engine->config.host;
    return host->stopwatch_us ? host->stopwatch_us(host->context) : engine->monotonic_ms * 1000;
}

void takeover_begin(struct engine *engine)
{
    struct engine_takeover *takeover = &engine->takeover;
    memset(takeover, 0, sizeof *takeover);
    takeover->silent_ms = -1;
    takeover->warm = engine->began;
    takeover->progress_us = -1;
    engine->takeover_from_us = takeover_now_us(engine);
    engine->takeover_open = true;
}

void takeover_count(struct engine *engine, size_t size)
{
    if (engine->state != ENGINE_CATCHING_UP)
        return;
    engine->takeover.records++;
    engine->takeover.bytes += size;
}

/* Time since the moment before, which begins anew. */
static int64_t takeover_lap(struct engine *engine)
{
    int64_t now = takeover_now_us(engine), took = now - engine->takeover_from_us;
    engine->takeover_from_us = now;
    return took;
}

void takeover_read(struct engine *engine)
{
    if (engine->takeover_open)
        engine->takeover.read_us += takeover_lap(engine);
}

/* A claim appears in the journal: is it ours? What stood there before it says what kind of takeover it is. */
void takeover_claimed(struct engine *engine, int64_t append_ms)
{
    struct engine_takeover *takeover = &engine->takeover;
    const struct handover *before = &engine->handover;
    if (!engine->takeover_open || engine->state != ENGINE_CLAIMING || engine->judge->nonce != engine->nonce)
        return;
    snprintf(takeover->previous, sizeof takeover->previous, "%s", before->owner);
    if (before->last_ms > 0)
        takeover->silent_ms = append_ms > before->last_ms ? append_ms - before->last_ms : 0;
    if (!before->owner[0])
        takeover->cause = TAKEOVER_FIRST;
    else if (before->released)
        takeover->cause = TAKEOVER_PLANNED;
    else if (!engine->config.hands_over || strcmp(before->owner, engine->config.worker ? engine->config.worker : "") == 0)
        takeover->cause = TAKEOVER_RESTART; /* of an embedded file there is one worker at a time, named by its process */
    else
        takeover->cause = TAKEOVER_UNPLANNED;
}

/* Between reading and claiming lies what the owner before took to answer. */
void takeover_claims(struct engine *engine)
{
    if (engine->takeover_open)
        engine->takeover.wait_us += takeover_lap(engine);
}

void takeover_owned(struct engine *engine)
{
    if (!engine->takeover_open)
        return;
    engine->takeover.claim_us = takeover_lap(engine);
    engine->takeover.owned = true;
    alarm_set(&engine->alarms, &engine->takeover_alarm, engine->monotonic_ms + TAKEOVER_TOLD_MS);
}

void takeover_tell(struct engine *engine)
{
    if (!engine->takeover_open || !engine->takeover.owned)
        return;
    engine->takeover_open = false;
    alarm_clear(&engine->alarms, &engine->takeover_alarm);
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_TAKEN_OVER);
    if (queued)
        queued->output.takeover = &engine->takeover;
}

/* A step begins, or an append is confirmed. */
void takeover_progress(struct engine *engine)
{
    if (!engine->takeover_open || !engine->takeover.owned)
        return;
    engine->takeover.progress_us = takeover_lap(engine);
    takeover_tell(engine);
}

void takeover_end(struct engine *engine)
{
    engine->takeover_open = false;
    alarm_clear(&engine->alarms, &engine->takeover_alarm);
}
