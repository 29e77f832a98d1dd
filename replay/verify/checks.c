/* The events of one run: what the event table allows, and in which order. */
#include <stdlib.h>
#include <string.h>

#include "verify.h"

static struct operation *operation_of(struct check *c, const struct where *w, struct run *run, const event_pb *e)
{
    pv_hold(c, e->op > 0, EVENT_TABLE, w, "an event of an operation names none");
    return pv_table_put(&run->life->operations, e->op, NULL);
}

/* One operation is one step: the same name and input at each attempt. */
static void check_step(struct check *c, const struct where *w, struct operation *op, const char *name, uint64_t input,
                       uint32_t attempt)
{
    uint64_t step = pv_hash_two(pv_hash_text(name), input);
    pv_hold(c, !op->step || op->step == step, EVENT_TABLE, w,
            "the operation's step has another name or input than before");
    op->step = step;
    pv_hold(c, !op->step_done, EVENT_TABLE, w, "the step of this operation has been completed before");
    pv_hold(c, attempt > op->attempt, EVENT_TABLE, w, "attempt %" PRIu32 " comes after attempt %" PRIu32, attempt,
            op->attempt);
    op->attempt = attempt;
}

/* A step that is executed outside: asked for once, before anything else is told of it. */
static void check_scheduled(struct check *c, const struct where *w, struct run *run, const event_pb *e)
{
    struct operation *op = operation_of(c, w, run, e);
    const Perdure__V1__StepScheduled *s = e->step_scheduled;
    uint64_t input = s->input ? pv_digest_input(s->input->type, s->input->data.data, s->input->data.len) : 0;
    pv_hold(c, !op->scheduled && !op->step, EVENT_TABLE, w, "the step of this operation has been asked for before");
    op->scheduled = true;
    op->held = s->held;
    op->step = pv_hash_two(pv_hash_text(s->name), input);
    op->dispatched = op->dispatch = !s->held;
}

/* Each attempt that is not over is dispatched under rising numbers, so that a late refusal is told from a new one. */
static void check_dispatched(struct check *c, const struct where *w, struct run *run, const event_pb *e)
{
    struct operation *op = operation_of(c, w, run, e);
    const Perdure__V1__StepDispatched *d = e->step_dispatched;
    uint64_t step = pv_hash_two(pv_hash_text(d->name), d->input_digest);
    pv_hold(c, !op->step || op->step == step, EVENT_TABLE, w,
            "the operation's step has another name or input than before");
    op->step = step;
    pv_hold(c, !op->step_done, EVENT_TABLE, w, "the step of this operation has been completed before");
    pv_hold(c, d->attempt == op->attempt + 1, EVENT_TABLE, w, "attempt %" PRIu32 " is dispatched after attempt %" PRIu32,
            d->attempt, op->attempt);
    uint32_t next = d->attempt == op->dispatched ? op->dispatch + 1 : 1;
    pv_hold(c, d->dispatch == next, EVENT_TABLE, w, "dispatch %" PRIu32 " of an attempt where %" PRIu32 " belongs",
            d->dispatch, next);
    op->dispatched = d->attempt;
    op->dispatch = d->dispatch;
}

static void check_progress(struct check *c, const struct where *w, struct run *run, const event_pb *e)
{
    struct operation *op = operation_of(c, w, run, e);
    pv_hold(c, !op->step_done, EVENT_TABLE, w, "the step of this operation has been completed before");
    pv_hold(c, op->dispatched == e->step_progress->attempt && op->attempt < e->step_progress->attempt, EVENT_TABLE, w,
            "progress of attempt %" PRIu32 ", which is not under way", e->step_progress->attempt);
}

static void check_step_event(struct check *c, const struct where *w, struct run *run, const event_pb *e)
{
    struct operation *op = operation_of(c, w, run, e);
    if (e->kind_case == PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED) {
        check_step(c, w, op, e->attempt_failed->name, e->attempt_failed->input_digest, e->attempt_failed->attempt);
        return;
    }
    if (e->kind_case == PERDURE__V1__EVENT__KIND_STEP_FAILED) {
        check_step(c, w, op, e->step_failed->name, e->step_failed->input_digest, e->step_failed->attempt);
    } else {
        check_step(c, w, op, e->step_completed->name, e->step_completed->input_digest, e->step_completed->attempt);
        pv_lists_step(c, w, run, e->op);
    }
    op->step_done = true;
}

/* rule 30: fire_at is stored once, and a timer fires by an event with t >= fire_at */
static void check_timer(struct check *c, const struct where *w, struct run *run, const event_pb *e)
{
    struct operation *op = operation_of(c, w, run, e);
    if (e->kind_case == PERDURE__V1__EVENT__KIND_TIMER_STARTED) {
        pv_hold(c, !op->timer_started, 30, w, "the timer of this operation has been started before");
        op->timer_started = true;
        op->fire_at = e->timer_started->fire_at;
        return;
    }
    if (!pv_hold(c, op->timer_started, 30, w, "a timer fired that was not started"))
        return;
    pv_hold(c, !op->timer_fired, 30, w, "the timer fired before: twice");
    pv_hold(c, e->t >= op->fire_at, 30, w, "the timer fired at %" PRId64 ", before %" PRId64, e->t, op->fire_at);
    op->timer_fired = true;
}

static void check_child(struct check *c, const struct where *w, struct run *run, const event_pb *e)
{
    struct operation *op = operation_of(c, w, run, e);
    if (e->kind_case == PERDURE__V1__EVENT__KIND_CHILD_REQUESTED) {
        pv_hold(c, !op->child_asked, EVENT_TABLE, w, "the child of this operation has been requested before");
        op->child_asked = true;
        return;
    }
    if (!pv_hold(c, op->child_asked, EVENT_TABLE, w, "a child ended that was not requested"))
        return;
    pv_hold(c, !op->child_ended, EVENT_TABLE, w, "the child of this operation has ended before");
    op->child_ended = true;
}

static void check_sent(struct check *c, const struct where *w, struct run *run, const event_pb *e)
{
    struct operation *op = operation_of(c, w, run, e);
    if (e->kind_case == PERDURE__V1__EVENT__KIND_SIGNAL_SENT) {
        pv_hold(c, !op->signal_sent, EVENT_TABLE, w, "the signal of this operation has been sent before");
        op->signal_sent = true;
        return;
    }
    if (!pv_hold(c, op->signal_sent, EVENT_TABLE, w, "a signal was refused that was not sent"))
        return;
    pv_hold(c, !op->send_refused, EVENT_TABLE, w, "the signal of this operation has been refused before");
    op->send_refused = true;
}

static void check_terminal(struct check *c, const struct where *w, struct run *run, const event_pb *e)
{
    static const enum run_state states[] = {RUN_COMPLETED, RUN_FAILED, RUN_CANCELLED, RUN_TERMINATED};
    run->state = (uint8_t)states[e->kind_case - PERDURE__V1__EVENT__KIND_COMPLETED];
    pv_check_ending(c, w, run, e);
}

static void check_started(struct check *c, const struct where *w, struct run *run, const event_pb *e)
{
    const Perdure__V1__Started *s = e->started;
    if (!s->previous_run) /* continue-as-new and reset make their ids otherwise: rule 6 */
        pv_hold(c, pv_digest_run(c->log_id, w->job, s->request) == run->id, 6, w,
                "the run id is not made of log id, job id and request id '%s'", s->request);
    run->type = pv_check_type(c, s->type);
}

/* A job that is put aside does nothing of its own until it is resumed. */
static void check_aside(struct check *c, const struct where *w, struct run *run, const event_pb *e)
{
    switch (e->kind_case) {
    case PERDURE__V1__EVENT__KIND_JOB_CRASHED:
        pv_hold(c, e->job_crashed->crash != 0, EVENT_TABLE, w, "a crash without its id");
        pv_hold(c, e->job_crashed->crash != run->last_crash, EVENT_TABLE, w, "one crash is in the history twice");
        pv_hold(c, !e->job_crashed->quarantined || e->job_crashed->count > 0, EVENT_TABLE, w,
                "a job is quarantined for a crash that is not held against it");
        run->last_crash = e->job_crashed->crash;
        run->aside = run->aside || e->job_crashed->quarantined;
        break;
    case PERDURE__V1__EVENT__KIND_RESUMED:
        run->aside = false;
        break;
    case PERDURE__V1__EVENT__KIND_TIMER_STARTED:
    case PERDURE__V1__EVENT__KIND_TIMER_FIRED:
    case PERDURE__V1__EVENT__KIND_SIGNAL_SENT:
    case PERDURE__V1__EVENT__KIND_CHILD_REQUESTED:
    case PERDURE__V1__EVENT__KIND_COMPLETED:
    case PERDURE__V1__EVENT__KIND_FAILED:
    case PERDURE__V1__EVENT__KIND_CANCELLED:
        pv_hold(c, !run->aside, EVENT_TABLE, w, "a quarantined job went on before it was resumed");
        break;
    default:
        break;
    }
}

static void check_event(struct check *c, const struct where *w, struct run *run, const event_pb *e)
{
    check_aside(c, w, run, e);
    switch (e->kind_case) {
    case PERDURE__V1__EVENT__KIND_STARTED:
        check_started(c, w, run, e);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_COMPLETED:
    case PERDURE__V1__EVENT__KIND_STEP_FAILED:
    case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
        check_step_event(c, w, run, e);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_SCHEDULED:
        check_scheduled(c, w, run, e);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_DISPATCHED:
        check_dispatched(c, w, run, e);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_PROGRESS:
        check_progress(c, w, run, e);
        break;
    case PERDURE__V1__EVENT__KIND_TIMER_STARTED:
    case PERDURE__V1__EVENT__KIND_TIMER_FIRED:
        check_timer(c, w, run, e);
        break;
    case PERDURE__V1__EVENT__KIND_SIGNAL_SENT:
    case PERDURE__V1__EVENT__KIND_SEND_REFUSED:
        check_sent(c, w, run, e);
        break;
    case PERDURE__V1__EVENT__KIND_CHILD_REQUESTED:
    case PERDURE__V1__EVENT__KIND_CHILD_ENDED:
        check_child(c, w, run, e);
        break;
    case PERDURE__V1__EVENT__KIND_CANCEL_REQUESTED:
        run->cancel_asked = true;
        break;
    case PERDURE__V1__EVENT__KIND_COMPLETED:
    case PERDURE__V1__EVENT__KIND_FAILED:
    case PERDURE__V1__EVENT__KIND_CANCELLED:
    case PERDURE__V1__EVENT__KIND_TERMINATED:
        check_terminal(c, w, run, e);
        break;
    default:
        break;
    }
}

/* rules 30 and 33: what every event says of its place */
static bool check_place(struct check *c, const struct where *w, struct run *run, const header_pb *h, const event_pb *e)
{
    pv_hold(c, e->seq == w->seq, 33, w, "the event's own seq is %" PRIu64, e->seq);
    pv_hold(c, e->t >= run->t, 30, w, "t goes back from %" PRId64 " to %" PRId64, run->t, e->t);
    pv_hold(c, e->t <= h->t, 30, w, "t %" PRId64 " is above that of its record, %" PRId64, e->t, h->t);
    run->t = e->t > run->t ? e->t : run->t;
    bool first = e->kind_case == PERDURE__V1__EVENT__KIND_STARTED;
    pv_hold(c, first == (w->seq == 1), 2, w, first ? "a run starts twice" : "a run does not begin with Started");
    return pv_hold(c, run->state == RUN_OPEN, 2, w, "an event after the terminal event of its run");
}

static void check_unpacked(struct check *c, const struct message *m, const header_pb *h, struct run *run,
                           event_pb *const *events)
{
    struct where w = pv_where_of(m, h);
    for (uint32_t i = 0; i < h->count && !run->stopped; i++, w.seq++) {
        /* rule 32: an event of no known kind stops its job, not the partition */
        run->stopped =
            !pv_hold(c, events[i] && events[i]->kind_case, 32, &w,
                     "an event that cannot be read, or of an unknown kind; the job is not judged from here on");
        if (run->stopped || !check_place(c, &w, run, h, events[i]))
            continue;
        if (i == 0)
            pv_absorb_inputs(c, m, h, run, events, h->count);
        pv_across_event(c, m, run, events[i]);
        check_event(c, &w, run, events[i]);
        pv_lists_event(c, run, events[i]);
    }
    if (!run->stopped)
        pv_hold(c, h->t == run->t, 33, &w, "the record's t %" PRId64 " is not that of its last event, %" PRId64, h->t,
                run->t);
}

void pv_check_events(struct check *c, const struct message *m, const record_pb *record, struct run *run)
{
    const header_pb *h = record->header;
    if (run->stopped)
        return;
    event_pb **events = pv_must_alloc(h->count * sizeof *events);
    for (uint32_t i = 0; i < h->count; i++)
        events[i] = pv_event(&record->events[i]);
    check_unpacked(c, m, h, run, events);
    for (uint32_t i = 0; i < h->count; i++) {
        if (events[i])
            perdure__v1__event__free_unpacked(events[i], NULL);
    }
    free(events);
}
