/*
 * The wire's own unpack against protobuf-c's: what it accepts, the library reads in the same way; what writers make, it
 * accepts. And its own pack: byte for byte what the library's gives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/pack.h"
#include "wire/unpack.h"
#include "wire_samples.h"

static size_t packed(const ProtobufCMessage *message, uint8_t **bytes)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    *bytes = malloc(size + 1);
    assert_non_null(*bytes);
    assert_int_equal(protobuf_c_message_pack(message, *bytes), size);
    size_t ours_size;
    uint8_t *ours = wire_pack(message, 3, &ours_size);
    assert_non_null(ours);
    assert_int_equal(ours_size, 3 + size);
    assert_memory_equal(ours + 3, *bytes, size);
    free(ours);
    return size;
}

/* Whether it was accepted. */
static bool compare(const ProtobufCMessageDescriptor *type, const void *data, size_t size)
{
    struct wire_arena arena;
    wire_arena_init(&arena, 64);
    struct unpack by_arena = {.arena = &arena}, by_malloc = {0};
    ProtobufCMessage *ours = unpack_message(&by_malloc, type, data, size);
    ProtobufCMessage *in_arena = unpack_message(&by_arena, type, data, size);
    assert_int_equal(ours != NULL, in_arena != NULL);
    assert_false(by_malloc.no_memory || by_arena.no_memory);
    if (ours != NULL) {
        ProtobufCMessage *theirs = protobuf_c_message_unpack(type, NULL, size, data);
        assert_non_null(theirs);
        uint8_t *a, *b, *c;
        size_t a_size = packed(ours, &a), b_size = packed(theirs, &b), c_size = packed(in_arena, &c);
        assert_int_equal(a_size, b_size);
        assert_memory_equal(a, b, a_size);
        assert_int_equal(a_size, c_size);
        assert_memory_equal(a, c, a_size);
        free(a);
        free(b);
        free(c);
        protobuf_c_message_free_unpacked(theirs, NULL);
        protobuf_c_message_free_unpacked(ours, NULL);
    }
    wire_arena_release(&arena);
    return ours != NULL;
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* A few bytes changed, cut out or doubled, many times over. */
static void compare_mutations(const ProtobufCMessageDescriptor *type, const uint8_t *good, size_t size, uint64_t seed)
{
    uint64_t state = seed;
    size_t accepted = 0;
    assert_true(compare(type, good, size));
    for (int round = 0; round < 4000; round++) {
        uint8_t *bytes = malloc(size);
        assert_non_null(bytes);
        memcpy(bytes, good, size);
        size_t length = size;
        for (uint64_t i = random_next(&state) % 4; i < 4 && length > 1; i++) {
            size_t at = random_next(&state) % length;
            switch (random_next(&state) % 4) {
            case 0:
                bytes[at] = (uint8_t)random_next(&state);
                break;
            case 1:
                bytes[at] ^= (uint8_t)(1u << (random_next(&state) % 8));
                break;
            case 2:
                memmove(bytes + at, bytes + at + 1, --length - at);
                break;
            default:
                memcpy(bytes + at, bytes, length - at < at ? length - at : at);
                break;
            }
        }
        accepted += compare(type, bytes, length);
        free(bytes);
    }
    assert_true(accepted > 10); /* else the comparison shows nothing */
}

static void records_are_read_as_the_library_reads_them(void **state)
{
    (void)state;
    struct wire_sample sample;
    void (*const kinds[])(struct wire_sample *) = {wire_sample_events, wire_sample_claim, wire_sample_mark,
                                                   wire_sample_start};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        uint8_t *bytes;
        kinds[i](&sample);
        size_t size = packed(&sample.record.base, &bytes);
        compare_mutations(&perdure__v1__record__descriptor, bytes, size, 1 + i);
        free(bytes);
    }
}

static void events_are_read_as_the_library_reads_them(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_events(&sample);
    for (size_t i = 0; i < 2; i++)
        compare_mutations(&perdure__v1__event__descriptor, sample.events[i].data, sample.events[i].len, 77 + i);
}

/* Arrays of each sort, packed and not, with unknown fields between. */
static void arrays(void **state)
{
    (void)state;
    static const uint8_t ending[] = "\x08\x02"             /* keep_until */
                                    "\x12\x01"
                                    "a"                    /* requests */
                                    "\x12\x00"
                                    "\x12\x02"
                                    "bc"
                                    "\xa0\x06\x01"         /* unknown 100: 1 */
                                    "\x1a\x05\x01\x02\x80\x01\x03" /* unconsumed, packed */
                                    "\x18\x07"             /* and one by itself */
                                    "\x1a\x00"
                                    "\xa2\x06\x01z";       /* unknown 100: "z" */
    assert_true(compare(&perdure__v1__ending__descriptor, ending, sizeof(ending) - 1));
    struct unpack unpack = {0};
    Perdure__V1__Ending *message =
        (Perdure__V1__Ending *)unpack_message(&unpack, &perdure__v1__ending__descriptor, ending, sizeof(ending) - 1);
    assert_non_null(message);
    assert_int_equal(message->keep_until, 1);
    assert_int_equal(message->n_requests, 3);
    assert_string_equal(message->requests[2], "bc");
    assert_int_equal(message->n_unconsumed, 5);
    assert_int_equal(message->unconsumed[2], 128);
    assert_int_equal(message->unconsumed[4], 7);
    assert_int_equal(message->base.n_unknown_fields, 2);
    perdure__v1__ending__free_unpacked(message, NULL);
    compare_mutations(&perdure__v1__ending__descriptor, ending, sizeof(ending) - 1, 5);
}

static void what_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } payloads[] = {
        {"\x0a\x01", 2},                     /* a string beyond the end */
        {"\x0a\x03x\0y", 5},                 /* a NUL in it */
        {"\x0a\x01x\x0a\x01y", 6},           /* set twice */
        {"\x12\x01x\x12\x01y", 6},           /* bytes set twice */
        {"\x08\x01", 2},                     /* a number where a string belongs */
        {"\x18", 1},                         /* no value */
        {"\x18\x80", 2},                     /* half a value */
        {"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11}, /* 65 bits */
        {"\x02\x01x", 3},                    /* field 0 */
        {"\x0b\x0c", 2},                     /* a group */
        {"\x8a\x80\x80\x80\x80\x00\x01x", 8}, /* a tag of six bytes */
        {"\xfd\x01\x01\x02\x03", 5},         /* unknown, fixed 32 bits, three bytes of it */
        {"\xf9\x01\x01", 3},                 /* unknown, fixed 64 bits */
    };
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++)
        assert_false(compare(&perdure__v1__payload__descriptor, payloads[i].bytes, payloads[i].size));
    assert_true(compare(&perdure__v1__payload__descriptor, "", 0));
    assert_true(compare(&perdure__v1__payload__descriptor, "\x0a\x01x\x12\x01y\x18\x01", 8));
    /* A oneof set twice: the same kind again, and another. */
    assert_false(compare(&perdure__v1__event__descriptor, "\xaa\x01\x00\xaa\x01\x00", 6));
    assert_false(compare(&perdure__v1__event__descriptor, "\xaa\x01\x00\xb2\x01\x00", 6));
    assert_null(status_decode("\x0a\x05x", 3));
    assert_null(reply_decode("\x0a\x05x", 3));
    Status *status = status_decode("\x0a\x01x", 3);
    assert_string_equal(status->id, "x");
    status_free(status);
}

/* Chunks of an arena are found again after a reset, small and large ones. */
static void arena_chunks(void **state)
{
    (void)state;
    struct wire_arena arena;
    wire_arena_init(&arena, 32);
    for (int round = 0; round < 4; round++) {
        uint8_t *last = NULL;
        for (size_t size = 0; size < 3000; size += 97) {
            uint8_t *memory = wire_arena_alloc(&arena, size);
            assert_non_null(memory);
            assert_true((uintptr_t)memory % 8 == 0);
            assert_true(memory != last || size == 0);
            memset(memory, round, size);
            last = size > 0 ? memory : NULL;
        }
        wire_arena_reset(&arena);
    }
    assert_null(wire_arena_alloc(&arena, SIZE_MAX - 3));
    assert_true(arena.failed);
    wire_arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_read_as_the_library_reads_them),
        cmocka_unit_test(events_are_read_as_the_library_reads_them),
        cmocka_unit_test(arrays),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(arena_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
