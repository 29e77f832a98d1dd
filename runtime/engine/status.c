/*
 * What the outside sees of a job: replies to clients and the status record (design: a wait is written down when it
 * outlasts a moment, at each retry, at each change of state). Only what is confirmed is shown (rule 8).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"
#include "wire/pack.h"
#include "wire/token.h"

/* ---- replies ----------------------------------------------------------------------------------------------- */

Reply *reply_make(const char *answer, const char *request, bool final)
{
    Reply *reply = calloc(1, sizeof *reply);
    if (!reply)
        return NULL;
    perdure__v1__reply__init(reply);
    reply->answer = strdup(answer);
    reply->request = strdup(request);
    reply->final = final;
    return reply;
}

void reply_send(struct engine *engine, const ReplyTo *to, Reply *reply)
{
    struct queued_output *queued = reply ? engine_put(engine, ENGINE_OUT_REPLY) : NULL;
    ReplyTo *address = queued ? malloc(sizeof *address) : NULL;
    if (!address) {
        reply_free(reply);
        return;
    }
    *address = *to;
    reply->client = to->client;
    reply->correlation = to->correlation;
    queued->owned[0] = address;
    queued->owned_reply = reply;
    queued->output.reply_to = address;
    queued->output.reply = reply;
}

/* ---- the status record -------------------------------------------------------------------------------------- */

static void set_text(char **field, const char *text)
{
    if (*field != protobuf_c_empty_string)
        free(*field);
    wire_string(field, text);
}

/* Who executes it, and the token that completes it. */
static void waiting_add_remote(const struct active *active, const struct step *step, Waiting *waiting)
{
    const struct remote *remote = step->remote;
    struct token token = { (uint32_t)active->engine->config.genesis.log_id, active->run, step->op, step->attempt, "" };
    char text[TOKEN_BYTES];
    snprintf(token.job, sizeof token.job, "%s", active->head->job);
    token_write(&token, text);
    set_text(&waiting->token, text);
    set_text(&waiting->queue, step->policy.queue);
    if (!remote)
        return;
    bool held = step->state == STEP_UNLOGGED || step->state == STEP_HELD || step->state == STEP_ASKED;
    set_text(&waiting->phase, held ? "held" : !remote->queue ? "outside" : remote->begun ? "started" : "dispatched");
    set_text(&waiting->executor, remote->worker);
    if (!remote->begun)
        set_text(&waiting->declined, remote->declined);
    waiting->heard = remote->heard_ms;
    if (remote->progress)
        waiting->progress = payload_copy(remote->progress);
    if (remote->begun && step->policy.timeout_ms > 0 && remote->begun_ms > 0)
        waiting->until = remote->begun_ms + step->policy.timeout_ms;
}

/* What only the engine knows of a wait: attempts and retry times. */
static void waiting_add_step(const struct active *active, Waiting *waiting)
{
    for (const struct step *step = active->steps; step; step = step->next) {
        if (step->op != waiting->op)
            continue;
        waiting->attempt = step->attempt;
        if (step->remote || step->policy.queue)
            waiting_add_remote(active, step, waiting);
        char limit[LIMIT_TEXT_BYTES];
        set_text(&waiting->limit, limit_text(&step->limit, limit, sizeof limit));
        if (waiting->limit)
            utf8_repair(waiting->limit); /* a key is any text, and may be cut */
        if (step->state == STEP_DELAYED && step->alarm.place && step->alarm.kind == ALARM_RETRY) {
            free(waiting->kind);
            waiting->kind = strdup("retry");
            waiting->until = active->engine->wall_ms + (step->alarm.due - active->engine->monotonic_ms);
        } else if (step->state == STEP_RUNNING && step->policy.timeout_ms > 0) {
            waiting->until = step->started_ms + step->policy.timeout_ms;
        }
    }
}

static void status_add_waiting(Status *status, const struct active *active)
{
    const Waiting *const *waiting = NULL;
    size_t count = active->job ? job_waiting(active->job, &waiting) : 0;
    status->waiting = calloc(count + 1, sizeof *status->waiting);
    for (size_t i = 0; i < count && status->waiting; i++) {
        Waiting *copy = waiting_copy(waiting[i]);
        if (!copy)
            return;
        waiting_add_step(active, copy);
        status->waiting[status->n_waiting++] = copy;
    }
}

static const char *status_state(const struct run *head, const struct active *active)
{
    if (!run_is_open(head))
        return run_end_name(head->end);
    if (active && active->parked)
        return active->parked_state;
    return active && (active->running_steps || active->in_flight || active->queued) ? "running" : "waiting";
}

/* What a job waits for that does not run: its module, or somebody who lets it try again. */
static void status_add_outer_wait(Status *status, const struct active *active)
{
    bool module = strcmp(active->parked_state, "waiting") == 0;
    const struct crash_tally *tally = active->head->crashes;
    Waiting *waiting = calloc(1, sizeof *waiting);
    if (!waiting || !(status->waiting = calloc(1, sizeof *status->waiting))) {
        free(waiting);
        return;
    }
    perdure__v1__waiting__init(waiting);
    waiting->kind = strdup(module ? "module" : "resume");
    waiting->name = strdup(active->head->type ? active->head->type : "");
    waiting->since = tally && tally->quarantined ? tally->t : active->head->t;
    status->waiting[status->n_waiting++] = waiting;
}

static void status_add_start(Status *status, const struct active *active)
{
    status->waiting = calloc(1, sizeof *status->waiting);
    if (status->waiting && (status->waiting[0] = start_waiting(active)))
        status->n_waiting = 1;
}

/* A record that the log does not take would leave the last one standing for ever. The result must be in it. */
static void status_fit(Status *status)
{
    if (!status->input || perdure__v1__status__get_packed_size(status) <= RECORD_LIMIT_BYTES)
        return;
    payload_free(status->input);
    status->input = NULL;
    status->input_left_out = true;
}

Status *status_make(struct engine *engine, struct run *head)
{
    const struct active *active = head->user;
    Status *status = calloc(1, sizeof *status);
    if (!status)
        return NULL;
    perdure__v1__status__init(status);
    status->id = strdup(head->job);
    status->run = head->run;
    status->type = strdup(head->type ? head->type : "");
    status->state = strdup(status_state(head, active));
    status->created = head->created;
    status->updated = head->t;
    status->events = head->seq;
    status->worker = strdup(engine->config.worker ? engine->config.worker : "");
    status->build = strdup(head->build ? head->build : "");
    status->claim = engine->own_claim;
    status->nonce = engine->nonce;
    status->offset = head->last;
    if (active && active->report)
        status->report = strdup(active->report);
    if (head->outcome && head->outcome->result)
        status->result = payload_copy(head->outcome->result);
    if (head->outcome && head->outcome->error)
        status->error = error_copy(head->outcome->error);
    if (active && active->input)
        status->input = payload_copy(active->input);
    if (run_is_open(head) && active && active->parked)
        status_add_outer_wait(status, active);
    else if (run_is_open(head) && active && start_waits(active))
        status_add_start(status, active);
    else if (run_is_open(head) && active)
        status_add_waiting(status, active);
    status_fit(status);
    return status;
}

static void least(int64_t *until, int64_t offset)
{
    *until = offset < *until ? offset : *until;
}

/* Rule 9: below which offset everything was shown. Said in a Mark, so nothing is on its way: no status waits for a confirmation. */
int64_t statuses_shown_until(const struct engine *engine)
{
    const struct engine_host *host = &engine->config.host;
    int64_t until = engine->judge->position, before = engine->judge->shown;
    if (engine->untold_count > 0 || !slots_are_here(engine))
        return before;
    if (host->unshown)
        least(&until, host->unshown(host->context, engine->config.partition));
    for (const struct queued_output *queued = engine->outputs; queued; queued = queued->next)
        if (queued->output.kind == ENGINE_OUT_STATUS)
            least(&until, queued->output.offset);
    for (size_t i = 0; i < engine->alarms.count; i++) {
        const struct alarm *alarm = engine->alarms.heap[i];
        const struct active *active = (const struct active *)((const char *)alarm - offsetof(struct active, status_alarm));
        if (alarm->kind == ALARM_STATUS)
            least(&until, active->head->last);
    }
    return until > before ? until : before;
}

/* A new owner has not told yet what the one before may not have told. */
void status_untold(struct active *active, bool untold)
{
    if (active->untold != untold)
        active->engine->untold_count += untold ? 1 : (size_t)-1;
    active->untold = untold;
}

static void status_put(struct engine *engine, struct run *head)
{
    Status *status = status_make(engine, head);
    if (!status)
        return;
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_STATUS);
    size_t size = 0;
    if (queued && (queued->owned[0] = wire_pack(&status->base, 0, &size)) && (queued->owned[1] = strdup(head->job))) {
        queued->output.data = queued->owned[0];
        queued->output.size = size;
        queued->output.key = queued->owned[1];
        queued->output.offset = head->last;
    }
    status_free(status);
}

void status_publish(struct active *active)
{
    struct engine *engine = active->engine;
    alarm_clear(&engine->alarms, &active->status_alarm);
    /* While something is unconfirmed the job in memory is ahead of what may be shown. */
    active->status_due = active->in_flight != NULL;
    if (active->in_flight || !engine_owns(engine) || active->head->seq == 0)
        return;
    status_untold(active, false);
    if (!active->job && active->known && run_is_open(active->head))
        return; /* evicted: the record says what it waits for, its code is not asked again */
    status_put(engine, active->head);
}

void status_schedule(struct active *active, bool at_once)
{
    struct engine *engine = active->engine;
    if (at_once)
        status_publish(active);
    else if (!active->status_alarm.place && run_is_open(active->head)) {
        active->unshown_ms = engine->monotonic_ms;
        alarm_set(&engine->alarms, &active->status_alarm, engine->monotonic_ms + engine->limits.status_delay_ms);
    }
}

/* The alarm was set when it began to wait; if it has moved since, it is that wait that must outlast the delay. */
void status_on_alarm(struct active *active)
{
    struct engine *engine = active->engine;
    int64_t quiet = active->moved_ms + engine->limits.status_delay_ms, latest = active->unshown_ms + STATUS_BUSY_MS;
    int64_t due = quiet < latest ? quiet : latest;
    if (due > engine->monotonic_ms)
        alarm_set(&engine->alarms, &active->status_alarm, due);
    else
        status_publish(active);
}

Status *engine_status(struct engine *engine, const char *job)
{
    struct run *head = judge_find(engine->judge, job);
    return head && head->seq > 0 ? status_make(engine, head) : NULL;
}
