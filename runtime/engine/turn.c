/*
 * Turns: a run's waiting inputs become events, the job runs on them, what it asks for becomes events too, and all of it
 * one append (rule 31). A run has one append in flight at most, so what it pipelines is at most what one turn holds
 * (rule 8); inputs that come meanwhile wait and share the next.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"
#include "wire/pack.h"

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

/* Of what the job has asked for already: the rest of a turn that did not fit (rule 31), or what was lost with its owner. */
static int64_t turn_rest_time(const struct active *active)
{
    if (active->split)
        RULE_FIRED(SPLIT_T);
    bool rest = active->split && RULE(SPLIT_T);
    return rest || active->t > active->engine->wall_ms ? active->t : active->engine->wall_ms;
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
    size_t size;
    uint8_t *data = wire_pack(&event->base, 0, &size);
    if (!data) {
        engine_stop(active->engine, "out of memory");
        return false;
    }
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
        bool step = event->kind_case == PERDURE__V1__EVENT__KIND_STEP_SCHEDULED;
        if (step)
            remote_admit(active, event);
        if (!turn_add(turn, event, t)) {
            event_free(event);
            return false;
        }
        if (step)
            remote_scheduled(active, event);
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
    return !RULE(ATTEMPT_NAMED) && event->op != 0;
}

/* Of an attempt outside it is told with the failure that stands behind it, if that is waited for still. Without a job both are
 * kept: what came says all that is known. */
static bool crash_is_wanted(struct active *active, const Event *crash)
{
    const struct input *next = active->inputs.head;
    bool outside = next && next->offset >= 0 && next->event->kind_case == PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED &&
                   next->event->op == crash->op && next->event->attempt_failed->attempt == crash->job_crashed->attempt;
    return !active->job || !outside || result_is_wanted(active, next->event);
}

/* A result is taken once, by the run and attempt that wait for it; what comes too late is dropped (rule 14). */
static bool input_is_wanted(struct active *active, const struct input *input)
{
    const Event *event = input->event;
    if (active->ending)
        return false;
    if (active->parked && input->offset >= 0)
        return true; /* looked at when it came */
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_STEP_COMPLETED:
    case PERDURE__V1__EVENT__KIND_STEP_FAILED:
    case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
        return result_is_wanted(active, event);
    case PERDURE__V1__EVENT__KIND_JOB_CRASHED: /* rule 32: kept over a doubt, and what nobody knows came before it */
        return !(active->head->unknown_event && active->head->run == active->run) && crash_is_wanted(active, event);
    case PERDURE__V1__EVENT__KIND_STEP_DISPATCHED:
        return remote_dispatch_is_wanted(active, event);
    case PERDURE__V1__EVENT__KIND_STEP_PROGRESS:
        return active->parked || step_find(active, event->op) != NULL;
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
    case PERDURE__V1__EVENT__KIND_STEP_DISPATCHED:
        remote_dispatched(active, event);
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
    remote_stop_all(active);
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
    if (event->kind_case == PERDURE__V1__EVENT__KIND_JOB_CRASHED)
        crash_fill(active, event);
    if (!turn_add(turn, event, t))
        return false;
    turn_forget_operation(active, event);
    if (event->kind_case == PERDURE__V1__EVENT__KIND_STARTED)
        active_set_input(active, event);
    if (event->kind_case == PERDURE__V1__EVENT__KIND_STARTED && !active->parked && !active->crash_pending &&
        !start_is_held(active, event->started->type) && active_new_job(active, event->started->type)) {
        const Event *first = event;
        job_replay(active->job, &first, 1);
        active_take(active);
    } else if (active->job) {
        job_feed(active->job, event);
        active_take(active);
    }
    return turn_add_outgoing(turn, t);
}

/* Without a job (parked): results of the inside wait, what came from outside, or is said of it, is absorbed (rule 12). */
static bool input_needs_job(const struct input *input)
{
    return input->offset < 0 && input->event->kind_case != PERDURE__V1__EVENT__KIND_JOB_CRASHED &&
           input->event->kind_case != PERDURE__V1__EVENT__KIND_STEP_PROGRESS;
}

static void turn_gather(struct turn *turn)
{
    struct active *active = turn->active;
    struct engine *engine = active->engine;
    while (active->inputs.head && turn_has_room(turn, active->inputs.head->event) && !turn->more &&
           engine_takes_turns(engine)) {
        struct input *input = inputs_take(&active->inputs);
        bool crash = input->event->kind_case == PERDURE__V1__EVENT__KIND_JOB_CRASHED;
        bool first = crash && active->crash_pending; /* what comes after it wants the job */
        if (active->parked && input_needs_job(input)) {
            input_free(input); /* its step runs again when the job does */
        } else if (!input_is_wanted(active, input)) {
            turn_refuse_late(active, input);
        } else if (!turn_feed(turn, input)) {
            return;
        }
        if (first)
            active->crash_pending = active->inputs.head && /* another, told before this one was journaled */
                                    active->inputs.head->event->kind_case == PERDURE__V1__EVENT__KIND_JOB_CRASHED;
        if (crash)
            return; /* it may put the job aside */
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
    header.rests = active_rests(active);
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
        active->split = turn->more;
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

/* It is evicted, and its code waits for nothing of what came. */
static bool turn_is_passive(const struct active *active)
{
    const struct input *input = active->inputs.head;
    if (!active->known || !input)
        return false;
    while (input && input_is_passive(input))
        input = input->next;
    return !input;
}

static bool turn_needs_job(const struct active *active)
{
    return !turn_is_passive(active) && !active->job && !active->parked && !active->crash_pending &&
           run_is_open(active->head) && active->head->run == active->run;
}

bool turn_makes_job(const struct active *active)
{
    const struct input *first = active->inputs.head;
    bool starts = first && first->event->kind_case == PERDURE__V1__EVENT__KIND_STARTED;
    return !active->in_flight && !active->job && !active->parked && !active->crash_pending &&
           (starts || turn_needs_job(active)) &&
           !start_is_limited(active, starts ? first->event->started->type : active->head->type);
}

void turn_run(struct active *active)
{
    struct engine *engine = active->engine;
    struct turn turn = { .active = active };
    uint64_t first_seq = active->seq + 1;
    digest prev = active->digest;

    if (active->in_flight || retention_holds(engine, active))
        return;
    if (active->parked)
        RULE_FIRED(ABSORB_ASIDE);
    if (!RULE(ABSORB_ASIDE) && active->parked && active->inputs.head &&
        active->inputs.head->event->kind_case == PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED)
        return;
    if (turn_needs_job(active) && !start_is_held(active, active->head->type))
        active_replay(active);
    if (!engine_takes_turns(engine) || engine->history_lost)
        return;
    if (!active->inputs.head && active->outgoing_next == active->outgoing_count) {
        stops_flush(active);
        steps_start(active); /* all that led here is confirmed */
        start_note_rest(active);
        status_schedule(active, false);
        active_settle(active);
        return;
    }
    if (active->seq == 0)
        prev = digest_of_run(active->run);
    if (turn_add_outgoing(&turn, turn_rest_time(active)))
        turn_gather(&turn);
    if (turn.count > 0 && engine_takes_turns(engine))
        turn_append(&turn, first_seq, prev);
    else if (engine_takes_turns(engine))
        active_enqueue(active);
    if (active->job)
        active_touch(active);
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

static void turn_ended(struct active *active)
{
    watchers_answer(active);
    remote_stop_all(active);
    stops_flush(active);
    start_leave(active);
    steps_clear(active, true);
    active_drop_job(active);
    wake_clear(active);
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
    for (size_t i = 0; i < append->count; i++) {
        if (append->events[i]->kind_case == PERDURE__V1__EVENT__KIND_STEP_PROGRESS)
            remote_noted(active, append->events[i]);
    }
    if (!run_is_open(active->head)) {
        turn_ended(active);
        return;
    }
    stops_flush(active);
    bool again = crash_is_over(active, append);
    if (again && !crash_parks(active))
        active->parked = false; /* its replay says whether it goes on */
    steps_start(active);
    status_schedule(active, append_retries(append) || active->status_due);
    /* Let in meanwhile. */
    bool begins = start_was_held(active) && !active->job && !active->parked;
    if (again || begins || active->inputs.head || active->outgoing_next < active->outgoing_count)
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
            /* A crash is attached again to the run that the journal has then. */
            bool result = input->offset < 0 && input->event->kind_case != PERDURE__V1__EVENT__KIND_TIMER_FIRED &&
                          input->event->kind_case != PERDURE__V1__EVENT__KIND_JOB_CRASHED &&
                          !input_is_passive(input);
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
    active->ending = active->crash_pending = active->split = false;
    active->known = false;
    start_leave(active);
    active_drop_job(active);
    steps_drop_remote(active); /* the history says what is out */
    stops_clear(active);
}
