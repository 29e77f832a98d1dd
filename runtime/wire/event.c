/*
 * Events inside a record, and the other messages that stand by themselves.
 */
#include "wire/unpack.h"

static Event *event_decode_with(struct wire_arena *arena, const void *data, size_t size)
{
    struct unpack unpack = {.arena = arena};
    return (Event *)unpack_message(&unpack, &perdure__v1__event__descriptor, data, size);
}

Event *event_decode(const void *data, size_t size)
{
    return event_decode_with(NULL, data, size);
}

Event *event_decode_in(struct wire_arena *arena, const void *data, size_t size)
{
    return event_decode_with(arena, data, size);
}

ProtobufCMessage *wire_decode(const ProtobufCMessageDescriptor *type, const void *data, size_t size)
{
    struct unpack unpack = {0};
    return unpack_message(&unpack, type, data, size);
}

Status *status_decode(const void *data, size_t size)
{
    return (Status *)wire_decode(&perdure__v1__status__descriptor, data, size);
}

Reply *reply_decode(const void *data, size_t size)
{
    return (Reply *)wire_decode(&perdure__v1__reply__descriptor, data, size);
}

void event_free(Event *event)
{
    perdure__v1__event__free_unpacked(event, NULL);
}

const char *event_kind_name(const Event *event)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&perdure__v1__event__descriptor, (unsigned)event->kind_case);
    return field != NULL ? field->name : "unknown";
}

int64_t event_dispatched_ms(const Event *event)
{
    int64_t not_before = event->step_dispatched->not_before;
    return not_before > event->t ? not_before : event->t;
}

const char *event_name(const Event *event)
{
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_STARTED:
        return event->started->type;
    case PERDURE__V1__EVENT__KIND_STEP_COMPLETED:
        return event->step_completed->name;
    case PERDURE__V1__EVENT__KIND_STEP_FAILED:
        return event->step_failed->name;
    case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
        return event->attempt_failed->name;
    case PERDURE__V1__EVENT__KIND_STEP_SCHEDULED:
        return event->step_scheduled->name;
    case PERDURE__V1__EVENT__KIND_STEP_PROGRESS:
        return event->step_progress->name;
    case PERDURE__V1__EVENT__KIND_STEP_DISPATCHED:
        return event->step_dispatched->name;
    case PERDURE__V1__EVENT__KIND_TIMER_STARTED:
        return event->timer_started->purpose;
    case PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED:
        return event->signal_received->name;
    case PERDURE__V1__EVENT__KIND_SIGNAL_SENT:
        return event->signal_sent->name;
    case PERDURE__V1__EVENT__KIND_CHILD_REQUESTED:
        return event->child_requested->type;
    case PERDURE__V1__EVENT__KIND_JOB_CRASHED:
        return event->job_crashed->name;
    default:
        return "";
    }
}
