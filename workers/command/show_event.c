/*
 * One event as JSON and as a line of a timeline.
 */
#include <inttypes.h>
#include <string.h>

#include "command/duration.h"
#include "command/show.h"

struct event_view {
    struct buffer *out;
    const struct catalog *catalog;
    const char *job_type;
    const char *build;
};

static void event_payload(const struct event_view *view, const char *name, const Payload *payload)
{
    show_payload(view->out, name, view->catalog, view->job_type, view->build, payload);
}

static void event_ending(const struct event_view *view, const Perdure__V1__Ending *ending)
{
    show_int(view->out, "keep_until", ending ? ending->keep_until : 0);
    show_key(view->out, "unconsumed");
    buffer_byte(view->out, '[');
    for (size_t i = 0; ending && i < ending->n_unconsumed; i++)
        buffer_format(view->out, i ? ",%" PRIu64 : "%" PRIu64, ending->unconsumed[i]);
    buffer_byte(view->out, ']');
}

static void event_started(const struct event_view *view, const Perdure__V1__Started *started)
{
    show_string(view->out, "job_type", started->type);
    show_string(view->out, "build", started->build);
    event_payload(view, "input", started->input);
    show_string(view->out, "request", started->request);
    if (*started->parent_job)
        show_string(view->out, "parent", started->parent_job);
}

/* Of steps: what the three kinds share. */
static void event_step(const struct event_view *view, uint32_t attempt, int64_t started, const Error *error)
{
    show_uint(view->out, "attempt", attempt);
    show_int(view->out, "started", started);
    if (error)
        show_error(view->out, "error", error);
}

static void event_signal(const struct event_view *view, const Event *event)
{
    if (event->kind_case == PERDURE__V1__EVENT__KIND_SIGNAL_SENT) {
        show_string(view->out, "target", event->signal_sent->target);
        event_payload(view, "payload", event->signal_sent->payload);
        return;
    }
    show_string(view->out, "request", event->signal_received->request);
    show_string(view->out, "sender", event->signal_received->sender_job);
    event_payload(view, "payload", event->signal_received->payload);
}

static void event_child(const struct event_view *view, const Event *event)
{
    if (event->kind_case == PERDURE__V1__EVENT__KIND_CHILD_REQUESTED) {
        show_string(view->out, "job", event->child_requested->job);
        show_string(view->out, "job_type", event->child_requested->type);
        event_payload(view, "input", event->child_requested->input);
        return;
    }
    show_string(view->out, "state", event->child_ended->state);
    event_payload(view, "result", event->child_ended->result);
    show_error(view->out, "error", event->child_ended->error);
}

static void event_end(const struct event_view *view, const Event *event)
{
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_COMPLETED:
        event_payload(view, "result", event->completed->result);
        event_ending(view, event->completed->ending);
        break;
    case PERDURE__V1__EVENT__KIND_FAILED:
        show_error(view->out, "error", event->failed->error);
        event_ending(view, event->failed->ending);
        break;
    case PERDURE__V1__EVENT__KIND_CANCELLED:
        show_string(view->out, "reason", event->cancelled->reason);
        event_ending(view, event->cancelled->ending);
        break;
    default:
        show_string(view->out, "reason", event->terminated->reason);
        show_string(view->out, "request", event->terminated->request);
        event_ending(view, event->terminated->ending);
        break;
    }
}

static void event_crash(struct buffer *out, const Perdure__V1__JobCrashed *crash)
{
    show_string(out, "reason", crash->reason);
    show_int(out, "signal", crash->signal);
    show_uint(out, "attempt", crash->attempt);
    show_uint(out, "count", crash->count);
    show_bool(out, "quarantined", crash->quarantined);
    show_string(out, "worker", crash->worker);
    show_string(out, "build", crash->build);
    show_int(out, "at", crash->at);
    show_strings(out, "trace", crash->trace, crash->n_trace);
}

static void event_scheduled(const struct event_view *view, const Perdure__V1__StepScheduled *step)
{
    show_string(view->out, "queue", step->queue);
    event_payload(view, "input", step->input);
    show_bool(view->out, "held", step->held);
    show_uint(view->out, "priority", step->priority);
    show_uint(view->out, "max_attempts", step->max_attempts);
    show_int(view->out, "timeout_ms", step->timeout_ms);
    show_int(view->out, "schedule_to_start_ms", step->schedule_to_start_ms);
    show_int(view->out, "deadline_ms", step->deadline_ms);
    show_int(view->out, "heartbeat_ms", step->heartbeat_ms);
}

static void event_fields(const struct event_view *view, const Event *event)
{
    struct buffer *out = view->out;
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_STARTED:
        event_started(view, event->started);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_COMPLETED:
        event_step(view, event->step_completed->attempt, event->step_completed->started, NULL);
        event_payload(view, "result", event->step_completed->result);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_FAILED:
        event_step(view, event->step_failed->attempt, event->step_failed->started, event->step_failed->error);
        break;
    case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
        event_step(view, event->attempt_failed->attempt, event->attempt_failed->started, event->attempt_failed->error);
        show_int(out, "next", event->attempt_failed->next);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_SCHEDULED:
        event_scheduled(view, event->step_scheduled);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_PROGRESS:
        show_uint(out, "attempt", event->step_progress->attempt);
        show_string(out, "worker", event->step_progress->worker);
        show_int(out, "started", event->step_progress->started);
        event_payload(view, "detail", event->step_progress->detail);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_DISPATCHED:
        show_uint(out, "attempt", event->step_dispatched->attempt);
        show_uint(out, "dispatch", event->step_dispatched->dispatch);
        show_string(out, "reason", event->step_dispatched->reason);
        show_string(out, "declined", event->step_dispatched->declined);
        break;
    case PERDURE__V1__EVENT__KIND_TIMER_STARTED:
        show_string(out, "purpose", event->timer_started->purpose);
        show_int(out, "duration_ms", event->timer_started->duration_ms);
        show_int(out, "fire_at", event->timer_started->fire_at);
        break;
    case PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED:
    case PERDURE__V1__EVENT__KIND_SIGNAL_SENT:
        event_signal(view, event);
        break;
    case PERDURE__V1__EVENT__KIND_SEND_REFUSED:
        show_error(out, "error", event->send_refused->error);
        break;
    case PERDURE__V1__EVENT__KIND_CHILD_REQUESTED:
    case PERDURE__V1__EVENT__KIND_CHILD_ENDED:
        event_child(view, event);
        break;
    case PERDURE__V1__EVENT__KIND_CANCEL_REQUESTED:
        show_string(out, "reason", event->cancel_requested->reason);
        show_string(out, "request", event->cancel_requested->request);
        break;
    case PERDURE__V1__EVENT__KIND_JOB_CRASHED:
        event_crash(out, event->job_crashed);
        break;
    case PERDURE__V1__EVENT__KIND_RESUMED:
        show_string(out, "reason", event->resumed->reason);
        show_string(out, "request", event->resumed->request);
        break;
    case PERDURE__V1__EVENT__KIND_COMPLETED:
    case PERDURE__V1__EVENT__KIND_FAILED:
    case PERDURE__V1__EVENT__KIND_CANCELLED:
    case PERDURE__V1__EVENT__KIND_TERMINATED:
        event_end(view, event);
        break;
    default:
        break; /* no fields, or a kind of a later version */
    }
}

void show_event(struct buffer *out, const struct catalog *catalog, const char *job_type, const char *build,
                const Event *event)
{
    struct event_view view = {out, catalog, job_type, build};
    buffer_byte(out, '{');
    show_uint(out, "seq", event->seq);
    show_int(out, "time", event->t);
    show_string(out, "type", event_kind_name(event));
    show_string(out, "name", event_name(event));
    show_site(out, "site", event->site);
    show_uint(out, "op", event->op);
    if (*event->label)
        show_string(out, "label", event->label);
    event_fields(&view, event);
    buffer_byte(out, '}');
}

/* ---- a line of a timeline ----------------------------------------------------------------------- */

static void text_step(struct buffer *out, uint32_t attempt, int64_t started, int64_t ended)
{
    char took[40];
    if (attempt > 1)
        buffer_format(out, "attempt %" PRIu32 "  ", attempt);
    if (started > 0 && ended >= started)
        buffer_format(out, "%s  ", duration_text(ended - started, took, sizeof took));
}

static void text_attempt_failed(const struct event_view *view, const Event *event)
{
    const Perdure__V1__AttemptFailed *failed = event->attempt_failed;
    char wait[40];
    text_step(view->out, failed->attempt, failed->started, event->t);
    show_error_text(view->out, failed->error);
    if (failed->next > event->t)
        buffer_format(view->out, "; again after %s", duration_text(failed->next - event->t, wait, sizeof wait));
}

static void text_value(const struct event_view *view, const Payload *payload)
{
    catalog_show(view->catalog, view->job_type, view->build, payload, view->out);
}

static void text_plain(const struct event_view *view, const char *lead, const char *text)
{
    if (!*text)
        return;
    buffer_text(view->out, lead);
    show_plain(view->out, text);
}

static void text_child(const struct event_view *view, const Event *event)
{
    bool requested = event->kind_case == PERDURE__V1__EVENT__KIND_CHILD_REQUESTED;
    text_plain(view, "", requested ? event->child_requested->job : event->child_ended->state);
    buffer_text(view->out, "  ");
    if (!requested && event->child_ended->error)
        show_error_text(view->out, event->child_ended->error);
    else
        text_value(view, requested ? event->child_requested->input : event->child_ended->result);
}

/* The innermost frame that is the module's own: what a system library did is seldom the point. */
static const char *crash_place(const Perdure__V1__JobCrashed *crash)
{
    for (size_t i = 0; i < crash->n_trace; i++)
        if (!strstr(crash->trace[i], "libc.so") && !strstr(crash->trace[i], "libpthread"))
            return crash->trace[i];
    return crash->trace[0];
}

static void text_remote(const struct event_view *view, const Event *event)
{
    if (event->kind_case == PERDURE__V1__EVENT__KIND_STEP_SCHEDULED) {
        text_plain(view, "queue ", event->step_scheduled->queue);
        buffer_text(view->out, event->step_scheduled->held ? " (held back)  " : "  ");
        text_value(view, event->step_scheduled->input);
    } else if (event->kind_case == PERDURE__V1__EVENT__KIND_STEP_PROGRESS) {
        text_plain(view, "", event->step_progress->worker);
        buffer_text(view->out, "  ");
        if (event->step_progress->detail)
            text_value(view, event->step_progress->detail);
    } else {
        if (event->step_dispatched->attempt > 1)
            buffer_format(view->out, "attempt %" PRIu32 "  ", event->step_dispatched->attempt);
        text_plain(view, "", event->step_dispatched->reason);
        text_plain(view, " by ", event->step_dispatched->declined);
    }
}

void show_event_text(struct buffer *out, const struct catalog *catalog, const char *job_type, const char *build,
                     const Event *event)
{
    struct event_view view = {out, catalog, job_type, build};
    char text[40];
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_STARTED:
        text_value(&view, event->started->input);
        text_plain(&view, "  child of ", event->started->parent_job);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_COMPLETED:
        text_step(out, event->step_completed->attempt, event->step_completed->started, event->t);
        text_value(&view, event->step_completed->result);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_FAILED:
        text_step(out, event->step_failed->attempt, event->step_failed->started, event->t);
        show_error_text(out, event->step_failed->error);
        break;
    case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
        text_attempt_failed(&view, event);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_SCHEDULED:
    case PERDURE__V1__EVENT__KIND_STEP_PROGRESS:
    case PERDURE__V1__EVENT__KIND_STEP_DISPATCHED:
        text_remote(&view, event);
        break;
    case PERDURE__V1__EVENT__KIND_TIMER_STARTED:
        text_plain(&view, "", event->timer_started->purpose);
        buffer_format(out, " %s", duration_text(event->timer_started->duration_ms, text, sizeof text));
        break;
    case PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED:
        text_value(&view, event->signal_received->payload);
        text_plain(&view, "  from job ", event->signal_received->sender_job);
        break;
    case PERDURE__V1__EVENT__KIND_SIGNAL_SENT:
        text_plain(&view, "to ", event->signal_sent->target);
        buffer_text(out, "  ");
        text_value(&view, event->signal_sent->payload);
        break;
    case PERDURE__V1__EVENT__KIND_SEND_REFUSED:
        show_error_text(out, event->send_refused->error);
        break;
    case PERDURE__V1__EVENT__KIND_CHILD_REQUESTED:
    case PERDURE__V1__EVENT__KIND_CHILD_ENDED:
        text_child(&view, event);
        break;
    case PERDURE__V1__EVENT__KIND_CANCEL_REQUESTED:
        text_plain(&view, "", event->cancel_requested->reason);
        break;
    case PERDURE__V1__EVENT__KIND_JOB_CRASHED:
        text_plain(&view, "", event->job_crashed->reason);
        if (event->job_crashed->count > 1)
            buffer_format(out, ", %u in a row", event->job_crashed->count);
        buffer_text(out, event->job_crashed->quarantined ? ": quarantined" : "");
        if (event->job_crashed->n_trace > 0)
            text_plain(&view, "  in ", crash_place(event->job_crashed));
        break;
    case PERDURE__V1__EVENT__KIND_RESUMED:
        text_plain(&view, "", event->resumed->reason);
        break;
    case PERDURE__V1__EVENT__KIND_COMPLETED:
        text_value(&view, event->completed->result);
        break;
    case PERDURE__V1__EVENT__KIND_FAILED:
        show_error_text(out, event->failed->error);
        break;
    case PERDURE__V1__EVENT__KIND_CANCELLED:
        text_plain(&view, "", event->cancelled->reason);
        break;
    case PERDURE__V1__EVENT__KIND_TERMINATED:
        text_plain(&view, "", event->terminated->reason);
        break;
    default:
        break;
    }
}
