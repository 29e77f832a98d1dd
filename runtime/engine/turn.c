/*
 * Turns: a run's waiting inputs become events, the job runs on them, what it asks for becomes events too, and all of it
 * one append (rule 31). A run has one append in flight at most, so what it pipelines is at most what one turn holds
 * (rule 8); inputs that come meanwhile wait and share the next.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

/* ---- inputs ----------------------------------------------------------------------------------------------- */

void input_free(struct input *input)
{
    if (!input)
        return;
    event_free(input->event);
    free(input->request);
    free(input->reply_to);
    free(input);
}

void inputs_clear(struct input_list *list)
{
    while (list->head) {
        struct input *next = list->head->next;
        input_free(list->head);
        list->head = next;
    }
    list->tail = NULL;
}

static void inputs_append(struct input_list *list, struct input *input)
{
    input->next = NULL;
    if (list->tail)
        list->tail->next = input;
    else
        list->head = input;
    list->tail = input;
}

static struct input *inputs_take(struct input_list *list)
{
    struct input *input = list->head;
    list->head = input->next;
    if (!list->head)
        list->tail = NULL;
    input->next = NULL;
    return input;
}

void input_push(struct active *active, struct input *input)
{
    inputs_append(&active->inputs, input);
    active_enqueue(active);
}

/* ---- active runs -------------------------------------------------------------------------------------------- */

struct active *active_of(struct engine *engine, struct run *head)
{
    if (head->user)
        return head->user;
    struct active *active = calloc(1, sizeof *active);
    if (!active) {
        engine_stop(engine, "out of memory");
        return NULL;
    }
    active->engine = engine;
    active->head = head;
    active->run = head->run;
    active->seq = head->seq;
    active->digest = head->digest;
    active->t = head->t;
    active->status_alarm.kind = ALARM_STATUS;
    active->wake_alarm.kind = ALARM_WAKE;
    head->user = active;
    return active;
}

void active_enqueue(struct active *active)
{
    struct engine *engine = active->engine;
    if (active->queued || active->in_flight)
        return; /* turn_confirmed() looks again */
    active->queued = true;
    active->next_queued = NULL;
    if (engine->runnable_tail)
        engine->runnable_tail->next_queued = active;
    else
        engine->runnable = active;
    engine->runnable_tail = active;
}

static void active_dequeue(struct active *active)
{
    struct engine *engine = active->engine;
    struct active *previous = NULL;
    if (!active->queued)
        return;
    for (struct active *at = engine->runnable; at != active; at = at->next_queued)
        previous = at;
    if (previous)
        previous->next_queued = active->next_queued;
    else
        engine->runnable = active->next_queued;
    if (engine->runnable_tail == active)
        engine->runnable_tail = previous;
    active->queued = false;
}

static void lru_remove(struct active *active)
{
    struct engine *engine = active->engine;
    if (!active->in_lru)
        return;
    if (active->newer)
        active->newer->older = active->older;
    else
        engine->lru_newest = active->older;
    if (active->older)
        active->older->newer = active->newer;
    else
        engine->lru_oldest = active->newer;
    active->newer = active->older = NULL;
    active->in_lru = false;
    engine->live_jobs--;
    engine->live_bytes -= active->bytes;
}

static void lru_touch(struct active *active)
{
    struct engine *engine = active->engine;
    lru_remove(active);
    active->bytes = job_bytes(active->job);
    active->older = engine->lru_newest;
    if (engine->lru_newest)
        engine->lru_newest->newer = active;
    else
        engine->lru_oldest = active;
    engine->lru_newest = active;
    active->in_lru = true;
    engine->live_jobs++;
    engine->live_bytes += active->bytes;
}

static void active_drop_job(struct active *active)
{
    lru_remove(active);
    for (size_t i = active->outgoing_next; i < active->outgoing_count; i++)
        event_free(active->outgoing[i]);
    free(active->outgoing);
    active->outgoing = NULL;
    active->outgoing_count = active->outgoing_next = active->outgoing_capacity = 0;
    steps_forget_job(active);
    timers_clear(active);
    if (active->job)
        job_free(active->job);
    active->job = NULL;
}

static void watchers_clear(struct active *active)
{
    while (active->watchers) {
        struct watcher *next = active->watchers->next;
        free(active->watchers->request);
        free(active->watchers);
        active->watchers = next;
    }
}

void active_free(struct active *active)
{
    struct engine *engine = active->engine;
    active_dequeue(active);
    active_drop_job(active);
    steps_clear(active, false);
    inputs_clear(&active->inputs);
    watchers_clear(active);
    payload_free(active->input);
    alarm_clear(&engine->alarms, &active->status_alarm);
    alarm_clear(&engine->alarms, &active->wake_alarm);
    active->head->user = NULL;
    free(active->report);
    free(active);
}

void active_settle(struct active *active)
{
    if (active->job || active->in_flight || active->inputs.head || active->steps || active->queued ||
        active->watchers || active->parked || active->status_alarm.place || active->wake_alarm.place)
        return;
    active_free(active);
}

/* ---- replay -------------------------------------------------------------------------------------------------- */

struct history {
    Event **events;
    size_t count;
    size_t capacity;
    digest digest;
    bool broken;
};

static bool history_visit(void *context, int64_t offset, const void *data, size_t size)
{
    struct history *history = context;
    Record *record = NULL;
    (void)offset;
    if (record_decode(data, size, &record) != WIRE_OK || record->header->seq != history->count + 1) {
        history->broken = true;
        record_free(record);
        return false;
    }
    for (size_t i = 0; i < record->n_events; i++) {
        if (history->count == history->capacity) {
            size_t capacity = history->capacity ? history->capacity * 2 : 16;
            Event **events = realloc(history->events, capacity * sizeof *events);
            if (!events) {
                history->broken = true;
                break;
            }
            history->events = events;
            history->capacity = capacity;
        }
        Event *event = event_decode(record->events[i].data, record->events[i].len);
        if (!event) {
            history->broken = true;
            break;
        }
        history->events[history->count++] = event;
        history->digest = digest_next(history->digest, record->events[i].data, record->events[i].len);
    }
    record_free(record);
    return !history->broken;
}

static void history_release(struct history *history)
{
    for (size_t i = 0; i < history->count; i++)
        event_free(history->events[i]);
    free(history->events);
}

static void active_park(struct active *active, const char *state, const char *report)
{
    active->parked = true;
    active->parked_state = state;
    free(active->report);
    active->report = report ? strdup(report) : NULL;
    active_drop_job(active);
    steps_clear(active, true);
    status_schedule(active, true);
}

static bool history_load(struct active *active, struct history *history)
{
    struct engine *engine = active->engine;
    struct engine_host *host = &engine->config.host;
    memset(history, 0, sizeof *history);
    history->digest = digest_of_run(active->run);
    int code = host->history(host->context, engine->config.partition, active->head->job, active->run, history_visit,
                             history);
    /* What the host does not hold yet, we do. */
    for (struct unsaved_record *record = engine->unsaved; record && code == LOG_OK; record = record->next)
        if (record->run == active->run && record->seq == history->count + 1 &&
            strcmp(record->job, active->head->job) == 0)
            history_visit(history, record->offset, record->data, record->size);
    if (code == LOG_OK && !history->broken && history->count == active->head->seq &&
        digest_equal(history->digest, active->head->digest))
        return true;
    char why[256];
    snprintf(why, sizeof why, "its history cannot be read: %llu of %llu events are there, or their digest differs",
             (unsigned long long)history->count, (unsigned long long)active->head->seq);
    active_park(active, "quarantined", why);
    return false;
}

static void turn_check_job(struct active *active)
{
    enum job_state state = job_state_of(active->job);
    if (state == JOB_DIVERGED || state == JOB_BROKEN) {
        char *report = strdup(job_report(active->job) ? job_report(active->job) : "");
        active_park(active, state == JOB_DIVERGED ? "diverged" : "quarantined", report);
        free(report);
    }
}

static void outgoing_push(struct active *active, Event *event)
{
    if (active->outgoing_count == active->outgoing_capacity) {
        size_t capacity = active->outgoing_capacity ? active->outgoing_capacity * 2 : 4;
        Event **outgoing = realloc(active->outgoing, capacity * sizeof *outgoing);
        if (!outgoing) {
            event_free(event);
            engine_stop(active->engine, "out of memory");
            return;
        }
        active->outgoing = outgoing;
        active->outgoing_capacity = capacity;
    }
    active->outgoing[active->outgoing_count++] = event;
}

/* What the job wants now: commands to log, attempts to run, timers to arm. */
static void turn_take(struct active *active)
{
    struct job_command command;
    while (job_take(active->job, &command)) {
        switch (command.kind) {
        case JOB_RECORD:
            outgoing_push(active, command.event);
            break;
        case JOB_STEP:
            step_want(active, &command);
            break;
        case JOB_ABANDON_STEP:
            step_abandon(active, command.op);
            break;
        case JOB_ARM_TIMER:
            timer_arm(active, command.op, command.at_ms);
            break;
        case JOB_DISARM_TIMER:
            timer_disarm(active, command.op);
            break;
        case JOB_NOTHING:
            break;
        }
    }
    turn_check_job(active);
}

static const struct callable *turn_callable(struct active *active, const char *type)
{
    const struct callable *callable = registry_job(active->engine->config.registry, type);
    if (!callable) {
        char why[256];
        snprintf(why, sizeof why, "waits for a worker with the module of `%s`", type);
        active_park(active, "waiting", why);
    }
    return callable;
}

static void active_set_input(struct active *active, const Event *started)
{
    payload_free(active->input);
    active->input = started->started->input ? payload_copy(started->started->input) : NULL;
}

static bool turn_new_job(struct active *active, const char *type)
{
    const struct callable *callable = turn_callable(active, type);
    if (!callable)
        return false;
    active->job = job_new(active->engine->config.registry, callable, active->head->job, active->run,
                          &active->engine->config.job);
    if (!active->job)
        active_park(active, "quarantined", "no memory or address space for its stack");
    return active->job != NULL;
}

/* Runs the job function again against its history, up to where it was. */
static bool turn_replay(struct active *active)
{
    struct engine *engine = active->engine;
    struct history history;
    int64_t (*stopwatch)(void *) = engine->config.host.stopwatch_us;
    int64_t begin = stopwatch ? stopwatch(engine->config.host.context) : 0;

    if (active->head->unknown_event) {
        active_park(active, "quarantined", "its history has an event that this version does not know");
        return false;
    }
    if (!history_load(active, &history)) {
        history_release(&history);
        return false;
    }
    if (history.events[0]->kind_case == PERDURE__V1__EVENT__KIND_STARTED)
        active_set_input(active, history.events[0]);
    if (!turn_new_job(active, active->head->type)) {
        history_release(&history);
        return false;
    }
    engine->replays_this_turn++;
    engine->counts.replays++;
    job_replay(active->job, (const Event *const *)history.events, history.count);
    history_release(&history);
    turn_take(active);
    if (!active->job)
        return false;
    lru_touch(active);
    const pdr_site *site = job_site(active->job);
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_REPLAYED);
    if (queued) {
        queued->output.key = queued->owned[0] = strdup(active->head->job);
        queued->output.run = active->run;
        queued->output.count = active->head->seq;
        queued->output.microseconds = stopwatch ? stopwatch(engine->config.host.context) - begin : 0;
        Site *shown = calloc(1, sizeof *shown);
        if (site && shown) {
            perdure__v1__site__init(shown);
            shown->file = (char *)site->file;
            shown->function = (char *)site->function;
            shown->line = (uint32_t)site->line;
        }
        queued->owned[1] = shown;
        queued->output.site = site ? shown : NULL;
    }
    return true;
}

/* ---- building an append ----------------------------------------------------------------------------------------- */

struct turn {
    struct active *active;
    ProtobufCBinaryData *packed;
    Event **events;
    size_t count, capacity;
    size_t bytes;
    struct input_list inputs;
    size_t input_count;
    bool more;
};

/* Rule 30: never back in a run, never behind what it absorbed (unless that clock is far ahead). */
static int64_t turn_time(struct active *active, int64_t input_t)
{
    int64_t t = active->engine->wall_ms;
    if (input_t > t && input_t <= active->engine->wall_ms + CLOCK_SKEW_LIMIT_MS)
        t = input_t;
    if (RULE(RISING_T) && t < active->t) {
        RULE_FIRED(RISING_T);
        t = active->t;
    }
    return t;
}

static bool turn_reserve(struct turn *turn)
{
    if (turn->count < turn->capacity)
        return true;
    size_t capacity = turn->capacity ? turn->capacity * 2 : 8;
    ProtobufCBinaryData *packed = realloc(turn->packed, capacity * sizeof *packed);
    if (packed)
        turn->packed = packed;
    Event **events = realloc(turn->events, capacity * sizeof *events);
    if (events)
        turn->events = events;
    if (!packed || !events)
        return false;
    turn->capacity = capacity;
    return true;
}

/* Numbers, stamps and packs one event; the turn owns it from here on. */
static bool turn_add(struct turn *turn, Event *event, int64_t t)
{
    struct active *active = turn->active;
    if (!turn_reserve(turn)) {
        engine_stop(active->engine, "out of memory");
        return false;
    }
    event->seq = active->seq + 1;
    event->t = t;
    size_t size = perdure__v1__event__get_packed_size(event);
    uint8_t *data = malloc(size ? size : 1);
    if (!data) {
        engine_stop(active->engine, "out of memory");
        return false;
    }
    perdure__v1__event__pack(event, data);
    turn->packed[turn->count] = (ProtobufCBinaryData){ .len = size, .data = data };
    turn->events[turn->count++] = event;
    turn->bytes += size;
    active->seq++;
    active->t = t;
    active->digest = digest_next(active->digest, data, size);
    return true;
}

static void ending_fill(struct turn *turn, Perdure__V1__Ending **slot, int64_t t)
{
    struct active *active = turn->active;
    struct run *head = active->head;
    Perdure__V1__Ending *ending = calloc(1, sizeof *ending);
    if (!ending)
        return;
    perdure__v1__ending__init(ending);
    int64_t keep = head->run == active->run && head->keep_ms ? head->keep_ms : active->engine->limits.keep_ms;
    ending->keep_until = t + keep;
    size_t known = head->run == active->run ? head->requests.recent_count : 0;
    ending->requests = calloc(known + turn->input_count + 1, sizeof *ending->requests);
    for (size_t i = 0; i < known && ending->requests; i++)
        ending->requests[ending->n_requests++] = strdup(head->requests.recent[i]);
    for (struct input *input = turn->inputs.head; input && ending->requests; input = input->next)
        if (input->request && ending->n_requests < REQUESTS_KEPT)
            ending->requests[ending->n_requests++] = strdup(input->request);
    const uint64_t *unconsumed = NULL;
    size_t count = active->job ? job_unconsumed(active->job, &unconsumed) : 0;
    ending->unconsumed = count ? calloc(count, sizeof *ending->unconsumed) : NULL;
    for (size_t i = 0; i < count && ending->unconsumed; i++)
        ending->unconsumed[ending->n_unconsumed++] = unconsumed[i];
    *slot = ending;
}

static Perdure__V1__Ending **event_ending(Event *event)
{
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_COMPLETED:
        return &event->completed->ending;
    case PERDURE__V1__EVENT__KIND_FAILED:
        return &event->failed->ending;
    case PERDURE__V1__EVENT__KIND_CANCELLED:
        return &event->cancelled->ending;
    case PERDURE__V1__EVENT__KIND_TERMINATED:
        return &event->terminated->ending;
    default:
        return NULL;
    }
}

/* One event always fits; several only below the limit of a turn (rule 31): no log takes what is above RECORD_LIMIT_BYTES. */
static bool turn_has_room(const struct turn *turn, const Event *event)
{
    return turn->count == 0 ||
           turn->bytes + perdure__v1__event__get_packed_size(event) <= turn->active->engine->limits.turn_bytes;
}

/* Moves the job's command events into the turn, as many as fit. */
static bool turn_add_outgoing(struct turn *turn, int64_t t)
{
    struct active *active = turn->active;
    while (active->outgoing_next < active->outgoing_count) {
        if (!turn_has_room(turn, active->outgoing[active->outgoing_next])) {
            turn->more = true;
            return true;
        }
        Event *event = active->outgoing[active->outgoing_next++];
        Perdure__V1__Ending **ending = event_ending(event);
        if (ending) {
            ending_fill(turn, ending, t);
            active->ending = true;
        }
        if (!turn_add(turn, event, t)) {
            event_free(event);
            return false;
        }
    }
    active->outgoing_next = active->outgoing_count = 0;
    return true;
}

static uint32_t event_attempt(const Event *event)
{
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_STEP_COMPLETED:
        return event->step_completed->attempt;
    case PERDURE__V1__EVENT__KIND_STEP_FAILED:
        return event->step_failed->attempt;
    case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
        return event->attempt_failed->attempt;
    default:
        return 0;
    }
}

/* After a doubt a result may be in the log already: then the replayed job does not wait for this attempt any more. */
static bool result_is_wanted(struct active *active, const Event *event)
{
    for (struct step *step = active->steps; step; step = step->next)
        if (step->op == event->op && step->attempt == event_attempt(event)) {
            if (!step->wanted)
                step_abandon(active, event->op);
            else
                return true;
            break;
        }
    return false;
}

/* A result is taken once, by the run and attempt that wait for it; what comes too late is dropped (rule 14). */
static bool input_is_wanted(struct active *active, const struct input *input)
{
    const Event *event = input->event;
    if (active->ending)
        return false;
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_STEP_COMPLETED:
    case PERDURE__V1__EVENT__KIND_STEP_FAILED:
    case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
        return result_is_wanted(active, event);
    case PERDURE__V1__EVENT__KIND_TIMER_FIRED:
        for (struct timer *timer = active->timers; timer; timer = timer->next)
            if (timer->op == event->op)
                return true;
        return false;
    default:
        return true;
    }
}

static void turn_forget_operation(struct active *active, const Event *event)
{
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_STEP_COMPLETED:
    case PERDURE__V1__EVENT__KIND_STEP_FAILED:
    case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
        step_abandon(active, event->op); /* it is over; a retry is asked for by the job */
        break;
    case PERDURE__V1__EVENT__KIND_TIMER_FIRED:
        timer_disarm(active, event->op);
        break;
    default:
        break;
    }
}

/* A client's input that comes after the end is refused, others are dropped. */
static void turn_refuse_late(struct active *active, struct input *input)
{
    struct engine *engine = active->engine;
    if (input->offset >= 0) {
        if (input->reply_to) {
            Reply *reply = reply_make("refused", input->request ? input->request : "", true);
            if (reply && (reply->error = calloc(1, sizeof *reply->error))) {
                perdure__v1__error__init(reply->error);
                reply->error->type = strdup("Closed");
                reply->error->message = strdup("the job has ended");
                reply->error->code = PDR_FAILED;
            }
            inbox_answer(engine, input->offset, input->reply_to, reply);
        }
        inbox_done(engine, input->offset);
    }
    input_free(input);
}

static void turn_terminate(struct turn *turn, struct input *input)
{
    struct active *active = turn->active;
    active->ending = true;
    active->parked = false;
    if (active->job || active->outgoing) {
        steps_clear(active, true);
        active_drop_job(active);
    }
    ending_fill(turn, &input->event->terminated->ending, turn_time(active, input->t));
}

/* One input: an event of it, the job runs on, its commands follow. */
static bool turn_feed(struct turn *turn, struct input *input)
{
    struct active *active = turn->active;
    Event *event = input->event;
    int64_t t = turn_time(active, input->t);
    if (event->kind_case == PERDURE__V1__EVENT__KIND_TIMER_FIRED)
        for (struct timer *timer = active->timers; timer; timer = timer->next)
            if (timer->op == event->op && t < timer->fire_at)
                t = timer->fire_at; /* rule 30: t >= fire_at though the wall clock went back */
    inputs_append(&turn->inputs, input);
    turn->input_count++;
    if (event->kind_case == PERDURE__V1__EVENT__KIND_TERMINATED)
        turn_terminate(turn, input);
    if (!turn_add(turn, event, t))
        return false;
    turn_forget_operation(active, event);
    if (event->kind_case == PERDURE__V1__EVENT__KIND_STARTED)
        active_set_input(active, event);
    if (event->kind_case == PERDURE__V1__EVENT__KIND_STARTED && !active->parked &&
        turn_new_job(active, event->started->type)) {
        const Event *first = event;
        job_replay(active->job, &first, 1);
        turn_take(active);
    } else if (active->job) {
        job_feed(active->job, event);
        turn_take(active);
    }
    return turn_add_outgoing(turn, t);
}

/* Without a job (parked): results of the inside wait, what came from outside is absorbed (rule 12). */
static bool input_needs_job(const struct input *input) { return input->offset < 0; }

static void turn_gather(struct turn *turn)
{
    struct active *active = turn->active;
    struct engine *engine = active->engine;
    while (active->inputs.head && turn_has_room(turn, active->inputs.head->event) && !turn->more &&
           engine->state == ENGINE_OWNER) {
        struct input *input = inputs_take(&active->inputs);
        if (active->parked && input_needs_job(input)) {
            input_free(input); /* its step runs again when the job does */
        } else if (!input_is_wanted(active, input)) {
            turn_refuse_late(active, input);
        } else if (!turn_feed(turn, input)) {
            return;
        }
    }
}

static size_t turn_input_refs(const struct turn *turn, InputRef *refs, InputRef **pointers)
{
    size_t count = 0;
    for (struct input *input = turn->inputs.head; input; input = input->next) {
        if (input->offset < 0)
            continue;
        perdure__v1__input_ref__init(&refs[count]);
        refs[count].partition = turn->active->engine->config.partition;
        refs[count].generation = input->generation;
        refs[count].offset = input->offset;
        refs[count].leader_epoch = input->leader_epoch;
        refs[count].request = input->request ? input->request : (char *)"";
        pointers[count] = &refs[count];
        count++;
    }
    return count;
}

static struct append *turn_append(struct turn *turn, uint64_t first_seq, digest prev)
{
    struct active *active = turn->active;
    struct engine *engine = active->engine;
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    Position in_pos = inbox_low(engine, false);
    InputRef refs[turn->input_count + 1], *pointers[turn->input_count + 1];

    header_init(engine, &header, PERDURE__V1__KIND__KIND_EVENT);
    header.slot = slot_of(active->head->job);
    header.job = active->head->job;
    header.run = active->run;
    header.seq = first_seq;
    header.count = (uint32_t)turn->count;
    header.more = turn->more;
    header.prev = (ProtobufCBinaryData){ .len = sizeof prev.bytes, .data = prev.bytes };
    header.digest = (ProtobufCBinaryData){ .len = sizeof active->digest.bytes, .data = active->digest.bytes };
    header.first = first_seq == 1 ? -1 : active->head->first;
    header.inputs = pointers;
    header.n_inputs = turn_input_refs(turn, refs, pointers);
    header.in_pos = &in_pos;
    header.out_pos = outbox_position(engine);
    header.t = active->t;
    const Event *started = turn->events[0]->kind_case == PERDURE__V1__EVENT__KIND_STARTED ? turn->events[0] : NULL;
    header.type = (char *)(started ? started->started->type : active->head->type);
    header.build = (char *)(started ? started->started->build : active->head->build);
    for (size_t i = 0; i < turn->count; i++)
        if (event_name(turn->events[i])[0])
            header.name = (char *)event_name(turn->events[i]);
    record.header = &header;
    record.events = turn->packed;
    record.n_events = turn->count;
    struct append *append = engine_append(engine, &record);
    if (append) {
        append->active = active;
        append->events = turn->events;
        append->count = turn->count;
        append->after = active->digest;
        append->inputs = turn->inputs;
        append->in_pos = in_pos;
        active->in_flight = append;
        active->moved_ms = engine->monotonic_ms;
        turn->events = NULL;
        memset(&turn->inputs, 0, sizeof turn->inputs);
    }
    return append;
}

static void turn_release(struct turn *turn)
{
    for (size_t i = 0; i < turn->count; i++)
        free(turn->packed[i].data);
    free(turn->packed);
    free(turn->events);
}

static bool turn_needs_job(const struct active *active)
{
    return !active->job && !active->parked && run_is_open(active->head) && active->head->run == active->run;
}

void turn_run(struct active *active)
{
    struct engine *engine = active->engine;
    struct turn turn = { .active = active };
    uint64_t first_seq = active->seq + 1;
    digest prev = active->digest;

    if (active->in_flight)
        return;
    if (turn_needs_job(active))
        turn_replay(active);
    if (engine->state != ENGINE_OWNER)
        return;
    if (!active->inputs.head && active->outgoing_next == active->outgoing_count) {
        steps_start(active); /* all that led here is confirmed */
        status_schedule(active, false);
        active_settle(active);
        return;
    }
    if (active->seq == 0)
        prev = digest_of_run(active->run);
    if (turn_add_outgoing(&turn, active->t > engine->wall_ms ? active->t : engine->wall_ms))
        turn_gather(&turn);
    if (turn.count > 0 && engine->state == ENGINE_OWNER)
        turn_append(&turn, first_seq, prev);
    else if (engine->state == ENGINE_OWNER)
        active_enqueue(active);
    if (active->job)
        lru_touch(active);
    if (!RULE(STEP_AFTER_CONFIRM))
        steps_start(active);
    turn_release(&turn);
}

/* ---- after an append is confirmed ---------------------------------------------------------------------------------- */

static void turn_answer(struct active *active, struct input *input)
{
    struct engine *engine = active->engine;
    bool start = input->event->kind_case == PERDURE__V1__EVENT__KIND_STARTED;
    if (input->reply_to) {
        Reply *reply = reply_make("accepted", input->request ? input->request : "", !(start && input->watch));
        if (reply)
            reply->status = status_make(engine, active->head);
        reply_send(engine, input->reply_to, reply);
    }
    if (start && input->watch && input->reply_to) {
        struct watcher *watcher = calloc(1, sizeof *watcher);
        if (!watcher)
            return;
        watcher->run = active->run;
        watcher->request = strdup(input->request ? input->request : "");
        watcher->reply_to = *input->reply_to;
        watcher->next = active->watchers;
        active->watchers = watcher;
    }
}

static void watchers_answer(struct active *active)
{
    struct engine *engine = active->engine;
    while (active->watchers) {
        struct watcher *watcher = active->watchers;
        active->watchers = watcher->next;
        Reply *reply = reply_make("ended", watcher->request, true);
        if (reply)
            reply->status = status_make(engine, active->head);
        reply_send(engine, &watcher->reply_to, reply);
        free(watcher->request);
        free(watcher);
    }
}

static void turn_ended(struct active *active)
{
    watchers_answer(active);
    steps_clear(active, true);
    active_drop_job(active);
    status_schedule(active, true);
    /* The next run of this id may have been asked for since the end was read back. */
    while (active->inputs.head && active->inputs.head->event->kind_case != PERDURE__V1__EVENT__KIND_STARTED)
        turn_refuse_late(active, inputs_take(&active->inputs));
    if (active->inputs.head)
        active_enqueue(active);
    else
        active_settle(active);
}

static bool append_retries(const struct append *append)
{
    for (size_t i = 0; i < append->count; i++)
        if (append->events[i]->kind_case == PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED)
            return true;
    return false;
}

void turn_confirmed(struct active *active, struct append *append)
{
    active->in_flight = NULL;
    for (struct input *input = append->inputs.head; input; input = input->next) {
        if (input->offset >= 0)
            inbox_done(active->engine, input->offset);
        turn_answer(active, input);
    }
    if (!run_is_open(active->head)) {
        turn_ended(active);
        return;
    }
    steps_start(active);
    status_schedule(active, append_retries(append) || active->status_due);
    if (active->inputs.head || active->outgoing_next < active->outgoing_count)
        active_enqueue(active);
    else
        active_settle(active);
}

/* After a doubt: back to what is judged. Step results are kept, they will be appended again; what came from the inbox
 * is read again; the job replays. */
void turn_rewind(struct active *active)
{
    struct input_list kept = { 0 };
    struct input_list *lists[2] = { active->in_flight ? &active->in_flight->inputs : NULL, &active->inputs };
    for (size_t l = 0; l < 2; l++)
        while (lists[l] && lists[l]->head) {
            struct input *input = inputs_take(lists[l]);
            for (size_t i = 0; l == 0 && i < active->in_flight->count; i++)
                if (active->in_flight->events[i] == input->event)
                    active->in_flight->events[i] = NULL;
            bool result = input->offset < 0 && input->event->kind_case != PERDURE__V1__EVENT__KIND_TIMER_FIRED;
            if (result)
                inputs_append(&kept, input);
            else
                input_free(input);
        }
    if (active->in_flight) {
        active->in_flight->active = NULL;
        active->in_flight = NULL;
    }
    active->inputs = kept;
    active->ending = false;
    active_drop_job(active);
}

static bool start_visit(void *context, int64_t offset, const void *data, size_t size)
{
    struct active *active = context;
    Record *record = NULL;
    (void)offset;
    if (record_decode(data, size, &record) == WIRE_OK && record->n_events > 0) {
        Event *event = event_decode(record->events[0].data, record->events[0].len);
        if (event && event->kind_case == PERDURE__V1__EVENT__KIND_STARTED)
            active_set_input(active, event);
        event_free(event);
    }
    record_free(record);
    return false;
}

/* A run whose end may have been confirmed to nobody: the owner before died, or doubted it. */
static bool end_is_recent(const struct engine *engine, const struct run *run)
{
    return run->seq > 0 && !run_is_open(run) && run->t >= engine->judge->largest_t - ENDS_TOLD_AGAIN_MS;
}

/* Tells of such ends (again): the status record would say `running` for ever. */
static void turn_tell_ends(struct engine *engine)
{
    struct engine_host *host = &engine->config.host;
    for (struct unsaved_record *record = engine->unsaved; record; record = record->next) {
        struct run *run = record->seq == 1 ? judge_find(engine->judge, record->job) : NULL;
        struct active *active = run && run->run == record->run && end_is_recent(engine, run) ? active_of(engine, run)
                                                                                             : NULL;
        if (active && !active->input)
            start_visit(active, record->offset, record->data, record->size);
    }
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next) {
            struct active *active = end_is_recent(engine, run) ? active_of(engine, run) : NULL;
            if (!active)
                continue;
            active->run = run->run;
            if (!active->input)
                (void)host->history(host->context, engine->config.partition, run->job, run->run, start_visit, active);
            watchers_answer(active);
            status_publish(active);
        }
}

/* A new owner wakes every open run: it may have steps to run, timers to wait for. */
void turn_wake_all(struct engine *engine)
{
    turn_tell_ends(engine);
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next) {
            if (!run_is_open(run)) {
                if (run->user)
                    active_free(run->user);
                continue;
            }
            struct active *active = active_of(engine, run);
            if (!active)
                return;
            active->run = run->run;
            active->seq = run->seq;
            active->digest = run->digest;
            active->t = run->t;
            active->ending = false;
            active->parked = false;
            active_enqueue(active);
        }
}

/* ---- eviction -------------------------------------------------------------------------------------------------------- */

static int64_t active_wake_time(const struct active *active)
{
    int64_t due = INT64_MAX;
    for (struct timer *timer = active->timers; timer; timer = timer->next)
        if (timer->alarm.place && timer->alarm.due < due)
            due = timer->alarm.due;
    for (struct step *step = active->steps; step; step = step->next)
        if (step->state == STEP_DELAYED && step->alarm.place && step->alarm.due < due)
            due = step->alarm.due;
    return due;
}

static bool active_is_evictable(const struct active *active)
{
    if (active->in_flight || active->inputs.head || active->queued || active->running_steps || active->ending ||
        active->outgoing_next < active->outgoing_count || active->head->last >= active->engine->histories_below)
        return false;
    for (struct step *step = active->steps; step; step = step->next)
        if (step->state != STEP_DELAYED)
            return false;
    /* What is due fires at the next tick; evicted before it, the job would be replayed and evicted for ever. */
    return active_wake_time(active) > active->engine->monotonic_ms;
}

static void active_evict(struct active *active)
{
    struct engine *engine = active->engine;
    int64_t due = active_wake_time(active);
    active_drop_job(active);
    steps_clear(active, false);
    if (due != INT64_MAX)
        alarm_set(&engine->alarms, &active->wake_alarm, due);
    engine->counts.evictions++;
    active_settle(active);
}

/* Beyond the limits, the least recently used go; those that cannot be given up now are passed over, a few each time:
 * what is over the limit when nothing more happens would stay for ever. */
void turn_evict(struct engine *engine)
{
    struct active *active = engine->lru_oldest;
    size_t passed_over = 0;
    while (active && passed_over < 64 &&
           (engine->live_jobs > engine->limits.live_jobs || engine->live_bytes > engine->limits.live_bytes)) {
        struct active *next = active->newer;
        if (active_is_evictable(active)) {
            if (active->status_alarm.place)
                status_publish(active);
            active_evict(active);
        } else {
            lru_touch(active); /* looked at again when the others have been */
            passed_over++;
        }
        active = next;
    }
}
