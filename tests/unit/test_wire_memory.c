/*
 * Every allocation of the wire fails once: nothing crashes, nothing leaks, and memory is what is blamed. The program
 * brings its own malloc; sanitizers do so too, therefore not under them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire_samples.h"

#if defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED
#endif
#endif
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED
#endif

static long fail_at = -1; /* the allocation that fails, counted down; below 0: none */
static long live;         /* blocks allocated and not freed */

#ifndef SANITIZED
extern void *__libc_malloc(size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void __libc_free(void *memory);
#define EXPORTED __attribute__((visibility("default"))) /* for the libraries, too */
EXPORTED void *malloc(size_t size);
EXPORTED void *realloc(void *memory, size_t size);
EXPORTED void free(void *memory);

static bool fails(void)
{
    return fail_at >= 0 && fail_at-- == 0;
}

void *malloc(size_t size)
{
    void *memory = fails() ? NULL : __libc_malloc(size);
    live += memory != NULL;
    return memory;
}

void *realloc(void *memory, size_t size)
{
    void *grown = fails() ? NULL : __libc_realloc(memory, size);
    live += memory == NULL && grown != NULL;
    return grown;
}

void free(void *memory)
{
    live -= memory != NULL;
    __libc_free(memory);
}
#endif

/* What is tried: true when it succeeded. It must leave nothing behind, either way. */
typedef bool (*attempt)(const void *data, size_t size);

static void sweep(attempt attempt, const void *data, size_t size)
{
    bool done = false;
    long count = 0;
    for (; !done; count++) {
        assert_true(count < 1000);
        long before = live;
        fail_at = count;
        done = attempt(data, size);
        bool failed = fail_at < 0;
        fail_at = -1;
        assert_int_equal(live, before);
        assert_true(done != failed); /* it succeeds exactly when no allocation failed */
    }
    assert_true(count > 1);
}

static bool try_record_decode(const void *data, size_t size)
{
    Record *record;
    enum wire_error error = record_decode(data, size, &record);
    bool blamed = error == WIRE_OK || (error == WIRE_NO_MEMORY && record == NULL);
    record_free(record);
    if (!blamed)
        abort();
    return error == WIRE_OK;
}

static bool try_record_decode_in(const void *data, size_t size)
{
    struct wire_arena arena;
    Record *record;
    wire_arena_init(&arena, 64);
    enum wire_error error = record_decode_in(&arena, data, size, &record, NULL);
    wire_arena_release(&arena);
    return error == WIRE_OK;
}

static bool try_record_encode(const void *data, size_t size)
{
    (void)data;
    (void)size;
    struct wire_sample sample;
    wire_sample_events(&sample);
    void *bytes = record_encode(&sample.record, &size);
    free(bytes);
    return bytes != NULL;
}

static bool try_event_decode(const void *data, size_t size)
{
    Event *event = event_decode(data, size);
    event_free(event);
    return event != NULL;
}

static bool try_event_copy(const void *data, size_t size)
{
    (void)size;
    Event *copy = event_copy(data);
    event_free(copy);
    return copy != NULL;
}

static bool try_payload_copy(const void *data, size_t size)
{
    (void)size;
    Payload *copy = payload_copy(data);
    payload_free(copy);
    return copy != NULL;
}

static bool try_error_copy(const void *data, size_t size)
{
    (void)size;
    Error *copy = error_copy(data);
    error_free(copy);
    return copy != NULL;
}

static bool try_ending(const void *data, size_t size)
{
    Perdure__V1__Ending *ending =
        (Perdure__V1__Ending *)wire_decode(&perdure__v1__ending__descriptor, data, size);
    perdure__v1__ending__free_unpacked(ending, NULL);
    return ending != NULL;
}

static void records(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_mark(&sample);
    size_t size;
    void *bytes = record_encode(&sample.record, &size);
    assert_non_null(bytes);
    sweep(try_record_decode, bytes, size);
    sweep(try_record_decode_in, bytes, size);
    sweep(try_record_encode, NULL, 0);
    free(bytes);
}

static void events(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_events(&sample);
    sweep(try_event_decode, sample.events[0].data, sample.events[0].len);
    sweep(try_event_decode, sample.events[1].data, sample.events[1].len);
    Event *event = event_decode(sample.events[1].data, sample.events[1].len);
    assert_non_null(event);
    sweep(try_event_copy, event, 0);
    sweep(try_payload_copy, event->step_completed->result, 0);
    event_free(event);
}

/* Strings, packed numbers, unknown fields. */
static void arrays(void **state)
{
    (void)state;
    static const char ending[] = "\x12\x01"
                                 "a\x12\x02"
                                 "bc\x12\x01"
                                 "d\x1a\x05\x01\x02\x03\x04\x05\xa0\x06\x01\xa2\x06\x01z";
    sweep(try_ending, ending, sizeof(ending) - 1);
}

static void errors(void **state)
{
    (void)state;
    static const char failed[] = "\xea\x01\x1a\x0a\x18\x0a\x01T\x12\x02no\x2a\x06\x0a\x01U\x12\x01x\x32\x07\x0a\x03"
                                 "a.c\x18\x01";
    Event *event = event_decode(failed, sizeof(failed) - 1);
    assert_non_null(event);
    assert_string_equal(event->failed->error->cause->type, "U");
    sweep(try_event_decode, failed, sizeof(failed) - 1);
    sweep(try_error_copy, event->failed->error, 0);
    event_free(event);
}

int main(void)
{
#ifdef SANITIZED
    return 77; /* skipped */
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records),
        cmocka_unit_test(events),
        cmocka_unit_test(arrays),
        cmocka_unit_test(errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
