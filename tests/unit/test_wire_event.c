/*
 * Events: names of every kind, unknown kinds, copies, and the end of messages built by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire_samples.h"

#define TEXT(literal) ((char *)(uintptr_t)(literal))

/* One empty message of kind `number`: a length-delimited field of no bytes. */
static Event *event_of(unsigned number)
{
    uint8_t bytes[3] = {(uint8_t)(((number << 3 | 2) & 0x7f) | 0x80), (uint8_t)((number << 3 | 2) >> 7), 0};
    return event_decode(bytes, sizeof(bytes));
}

static void names_of_kinds(void **state)
{
    (void)state;
    static const char *const names[] = {
        "started",         "step_completed", "step_failed",     "attempt_failed", "timer_started", "timer_fired",
        "signal_received", "signal_sent",    "send_refused",    "child_requested", "child_ended",
        "cancel_requested", "completed",     "failed",          "cancelled",      "terminated",
    };
    for (unsigned i = 0; i < 16; i++) {
        Event *event = event_of(16 + i);
        assert_non_null(event);
        assert_string_equal(event_kind_name(event), names[i]);
        assert_string_equal(event_name(event), "");
        event_free(event);
    }
    Event *event = event_of(2000); /* a later version's (rule 32) */
    assert_non_null(event);
    assert_int_equal(event->kind_case, PERDURE__V1__EVENT__KIND__NOT_SET);
    assert_string_equal(event_kind_name(event), "unknown");
    assert_string_equal(event_name(event), "");
    event_free(event);
    assert_null(event_decode("\x08", 1));
    event_free(NULL);
}

static void names_of_events(void **state)
{
    (void)state;
    Event event;
    perdure__v1__event__init(&event);
    Perdure__V1__TimerStarted timer;
    perdure__v1__timer_started__init(&timer);
    timer.purpose = TEXT("sleep");
    event.kind_case = PERDURE__V1__EVENT__KIND_TIMER_STARTED;
    event.timer_started = &timer;
    assert_string_equal(event_name(&event), "sleep");
    Perdure__V1__ChildRequested child;
    perdure__v1__child_requested__init(&child);
    child.type = TEXT("shop/ship");
    event.kind_case = PERDURE__V1__EVENT__KIND_CHILD_REQUESTED;
    event.child_requested = &child;
    assert_string_equal(event_name(&event), "shop/ship");
    Perdure__V1__SignalReceived received;
    perdure__v1__signal_received__init(&received);
    received.name = TEXT("approved");
    event.kind_case = PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED;
    event.signal_received = &received;
    assert_string_equal(event_name(&event), "approved");
}

static void events_built_by_hand_are_freed(void **state)
{
    (void)state;
    Event *event = malloc(sizeof(*event));
    Perdure__V1__Failed *failed = malloc(sizeof(*failed));
    Error *error = malloc(sizeof(*error));
    assert_true(event != NULL && failed != NULL && error != NULL);
    perdure__v1__event__init(event);
    perdure__v1__failed__init(failed);
    perdure__v1__error__init(error);
    error->type = strdup("BadAmount"); /* message stays as init made it */
    failed->error = error;
    event->kind_case = PERDURE__V1__EVENT__KIND_FAILED;
    event->failed = failed;
    Event *copy = event_copy(event);
    event_free(event);
    assert_string_equal(copy->failed->error->type, "BadAmount");
    event_free(copy);
}

static void payloads(void **state)
{
    (void)state;
    Payload payload;
    perdure__v1__payload__init(&payload);
    Payload *copy = payload_copy(&payload);
    assert_string_equal(copy->type, "");
    assert_int_equal(copy->data.len, 0);
    payload_free(copy);
    payload.type = TEXT("bytes");
    payload.json = true;
    payload.data = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)TEXT("a\0b")};
    copy = payload_copy(&payload);
    assert_string_equal(copy->type, "bytes");
    assert_true(copy->json);
    assert_memory_equal(copy->data.data, "a\0b", 3);
    payload_free(copy);
    assert_null(payload_copy(NULL));
    payload_free(NULL);
}

static void errors(void **state)
{
    (void)state;
    Error chain[ERROR_CAUSES_LIMIT + 4];
    Site site;
    perdure__v1__site__init(&site);
    site.file = TEXT("a.c");
    site.line = 3;
    size_t count = sizeof(chain) / sizeof(chain[0]);
    for (size_t i = 0; i < count; i++) {
        perdure__v1__error__init(&chain[i]);
        chain[i].type = TEXT("T");
        chain[i].code = -(int32_t)i;
        chain[i].final = i % 2 == 0;
        chain[i].site = i == 0 ? &site : NULL;
        chain[i].cause = i + 1 < count ? &chain[i + 1] : NULL;
    }
    Error *copy = error_copy(&chain[0]);
    assert_string_equal(copy->site->file, "a.c");
    assert_string_equal(copy->site->function, "");
    assert_int_equal(copy->site->line, 3);
    size_t causes = 0;
    for (const Error *at = copy; at->cause != NULL; at = at->cause)
        causes++;
    assert_int_equal(causes, ERROR_CAUSES_LIMIT); /* the rest is cut: else nobody could decode it */
    assert_int_equal(copy->cause->code, -1);
    assert_true(copy->final && !copy->cause->final);
    error_free(copy);
    assert_null(error_copy(NULL));
    error_free(NULL);
}

static void the_rest_accepts_null(void **state)
{
    (void)state;
    status_free(NULL);
    reply_free(NULL);
    registration_free(NULL);
    schema_free(NULL);
    stored_partition_free(NULL);
    stored_run_free(NULL);
    stored_output_free(NULL);
    assert_null(event_copy(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_kinds),
        cmocka_unit_test(names_of_events),
        cmocka_unit_test(events_built_by_hand_are_freed),
        cmocka_unit_test(payloads),
        cmocka_unit_test(errors),
        cmocka_unit_test(the_rest_accepts_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
