/*
 * Records: what is encoded comes back; what is damaged, cut, or not what its header says is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "constants.h"
#include "wire_samples.h"

static void *sample_encode(const struct wire_sample *sample, size_t *size)
{
    void *bytes = record_encode(&sample->record, size);
    assert_non_null(bytes);
    return bytes;
}

static void assert_refused(const struct wire_sample *sample, enum wire_error expected)
{
    size_t size;
    void *bytes = sample_encode(sample, &size);
    Record *record = NULL;
    const char *why;
    assert_int_equal(record_decode_why(bytes, size, &record, &why), expected);
    assert_null(record);
    assert_true(why[0] != '\0');
    free(bytes);
}

static void assert_accepted(const struct wire_sample *sample)
{
    size_t size;
    void *bytes = sample_encode(sample, &size);
    Record *record = NULL;
    const char *why;
    assert_int_equal(record_decode_why(bytes, size, &record, &why), WIRE_OK);
    assert_string_equal(why, "");
    record_free(record);
    free(bytes);
}

static void assert_body_refused(const void *body, size_t body_size, enum wire_error expected)
{
    size_t size;
    void *frame = wire_frame(body, body_size, &size);
    Record *record = NULL;
    assert_int_equal(record_decode(frame, size, &record), expected);
    assert_null(record);
    free(frame);
}

/* ---- what is good ---------------------------------------------------------------------------- */

static void assert_is_sample(const Record *record)
{
    const Header *header = record->header;
    assert_int_equal(header->kind, PERDURE__V1__KIND__KIND_EVENT);
    assert_true(header->run == UINT64_C(0x0123456789abcdef));
    assert_true(header->nonce == UINT64_C(0xfedcba9876543210));
    assert_int_equal(header->claim, 1234);
    assert_int_equal(header->first, -1);
    assert_int_equal(header->in_pos->offset, 777);
    assert_int_equal(header->n_inputs, 1);
    assert_int_equal(header->inputs[0]->leader_epoch, -1);
    assert_string_equal(header->inputs[0]->request, "req-1");
    assert_string_equal(header->job, "order-17");
    assert_int_equal(header->slot, slot_of("order-17"));
    assert_string_equal(header->type, "shop/checkout");
    assert_true(header->more);
    assert_int_equal(record->n_events, 2);
    digest chain = digest_from_bytes(header->prev);
    for (size_t i = 0; i < record->n_events; i++)
        chain = digest_next(chain, record->events[i].data, record->events[i].len);
    assert_true(digest_equal(chain, digest_from_bytes(header->digest)));
    Event *event = event_decode(record->events[1].data, record->events[1].len);
    assert_non_null(event);
    assert_string_equal(event_kind_name(event), "step_completed");
    assert_string_equal(event_name(event), "shop/reserve");
    assert_int_equal(event->step_completed->attempt, 2);
    assert_string_equal(event->site->function, "checkout");
    assert_string_equal(event->step_completed->result->type, "shop.Reservation");
    event_free(event);
}

static void what_is_encoded_comes_back(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_events(&sample);
    size_t size;
    void *bytes = sample_encode(&sample, &size);
    Record *record;
    assert_int_equal(record_decode(bytes, size, &record), WIRE_OK);
    assert_is_sample(record);
    record_free(record);
    free(bytes);
    wire_sample_claim(&sample);
    assert_accepted(&sample);
    wire_sample_mark(&sample);
    assert_accepted(&sample);
    wire_sample_start(&sample);
    assert_accepted(&sample);
    record_free(NULL);
}

static void arenas_are_used_again(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_events(&sample);
    size_t size;
    void *bytes = sample_encode(&sample, &size);
    struct wire_arena arena;
    wire_arena_init(&arena, 64);
    for (int round = 0; round < 3; round++) {
        Record *records[20];
        for (int i = 0; i < 20; i++)
            assert_int_equal(record_decode_in(&arena, bytes, size, &records[i], NULL), WIRE_OK);
        for (int i = 0; i < 20; i++) {
            assert_is_sample(records[i]);
            Event *event = event_decode_in(&arena, records[i]->events[0].data, records[i]->events[0].len);
            assert_string_equal(event_name(event), "shop/checkout");
        }
        wire_arena_reset(&arena);
    }
    assert_null(wire_arena_alloc(&arena, SIZE_MAX));
    wire_arena_release(&arena);
    wire_arena_release(&arena);
    free(bytes);
}

/* Unknown kinds and unknown fields are for the judge (rule 32), not for the decoder. */
static void unknown_kinds_and_fields_pass(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_claim(&sample);
    sample.header.kind = 4711;
    sample.header.rule_level = RULE_LEVEL + 5;
    assert_accepted(&sample);
    wire_sample_events(&sample);
    size_t body = perdure__v1__record__get_packed_size(&sample.record), size;
    uint8_t *bytes = malloc(body + 4);
    assert_non_null(bytes);
    perdure__v1__record__pack(&sample.record, bytes);
    memcpy(bytes + body, "\xaa\x3e\x01x", 4); /* field 997: "x" */
    void *frame = wire_frame(bytes, body + 4, &size);
    Record *record;
    assert_int_equal(record_decode(frame, size, &record), WIRE_OK);
    assert_int_equal(record->base.n_unknown_fields, 1);
    void *again = record_encode(record, &body);
    assert_int_equal(body, size);
    assert_memory_equal(again, frame, size);
    record_free(record);
    free(again);
    free(frame);
    free(bytes);
}

static void golden_bytes(const char *name, uint8_t *bytes, size_t limit, size_t *size)
{
    const char *source = getenv("PERDURE_SOURCE");
    char path[4096];
    snprintf(path, sizeof(path), "%s/tests/unit/golden/%s", source != NULL ? source : ".", name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail_msg("cannot open %s: run from the source directory or set PERDURE_SOURCE", path);
    unsigned byte;
    for (*size = 0; *size < limit && fscanf(file, "%2x", &byte) == 1; (*size)++)
        bytes[*size] = (uint8_t)byte;
    fclose(file);
}

/* Written by the first version: every later one must read it. Never change the file; add new ones beside it. */
static void golden_record_decodes_for_ever(void **state)
{
    (void)state;
    uint8_t bytes[4096];
    size_t size;
    golden_bytes("event_record_1.hex", bytes, sizeof(bytes), &size);
    Record *record;
    assert_int_equal(record_decode(bytes, size, &record), WIRE_OK);
    assert_is_sample(record);
    record_free(record);
    golden_bytes("start_record_1.hex", bytes, sizeof(bytes), &size);
    assert_int_equal(record_decode(bytes, size, &record), WIRE_OK);
    assert_string_equal(record->command->request, "req-1");
    assert_string_equal(record->command->start->type, "shop/checkout");
    assert_int_equal(record->header->born, INT64_C(1790000000123));
    record_free(record);
}

/* ---- what is damaged ------------------------------------------------------------------------- */

static void sweep(const uint8_t *good, size_t size)
{
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    Record *record;
    for (size_t bit = 0; bit < 8 * size; bit++) {
        memcpy(bytes, good, size);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_not_equal(record_decode(bytes, size, &record), WIRE_OK);
        assert_null(record);
    }
    free(bytes);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *head = malloc(cut + 1); /* of that very size, so that a read beyond it is seen */
        assert_non_null(head);
        memcpy(head, good, cut);
        assert_int_not_equal(record_decode(head, cut, &record), WIRE_OK);
        assert_null(record);
        free(head);
    }
}

static void every_bit_flip_and_cut_is_refused(void **state)
{
    (void)state;
    struct wire_sample sample;
    void (*const kinds[])(struct wire_sample *) = {wire_sample_events, wire_sample_claim, wire_sample_mark,
                                                   wire_sample_start};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t size;
        kinds[i](&sample);
        void *bytes = sample_encode(&sample, &size);
        sweep(bytes, size);
        free(bytes);
    }
}

/* The same damage with a checksum that holds, as a faulty writer would make: never a crash. */
static void damage_under_a_good_checksum_never_crashes(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_events(&sample);
    size_t size, framed;
    uint8_t *bytes = sample_encode(&sample, &size);
    for (size_t bit = 8 * FRAME_BYTES; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        void *frame = wire_frame(bytes + FRAME_BYTES, size - FRAME_BYTES, &framed);
        Record *record;
        if (record_decode(frame, framed, &record) == WIRE_OK) {
            assert_int_equal(record->n_events, 2);
            for (size_t i = 0; i < record->n_events; i++)
                event_free(event_decode(record->events[i].data, record->events[i].len));
        }
        record_free(record);
        free(frame);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (size_t cut = FRAME_BYTES; cut < size; cut++) {
        void *frame = wire_frame(bytes + FRAME_BYTES, cut - FRAME_BYTES, &framed);
        Record *record;
        record_decode(frame, framed, &record);
        record_free(record);
        free(frame);
    }
    free(bytes);
}

static void frames(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_events(&sample);
    size_t size;
    uint8_t *bytes = sample_encode(&sample, &size);
    Record *record;
    assert_memory_equal(bytes, "PDR\x01", 4);
    uint8_t *longer = malloc(size + 1);
    assert_non_null(longer);
    memcpy(longer, bytes, size);
    longer[size] = 0;
    assert_int_equal(record_decode(longer, size + 1, &record), WIRE_CORRUPT); /* something behind it */
    bytes[3] = FORMAT_VERSION + 1;
    assert_int_equal(record_decode(bytes, size, &record), WIRE_NEWER_FORMAT);
    bytes[3] = 0;
    assert_int_equal(record_decode(bytes, size, &record), WIRE_CORRUPT);
    bytes[0] = 'p';
    assert_int_equal(record_decode(bytes, size, &record), WIRE_NOT_PERDURE);
    assert_int_equal(record_decode(NULL, 0, &record), WIRE_NOT_PERDURE);
    assert_int_equal(record_decode("PDR\x01\0\0\0", 7, &record), WIRE_NOT_PERDURE);
    assert_body_refused("", 0, WIRE_CORRUPT);
    assert_body_refused("\x0a\x00", 2, WIRE_CORRUPT);     /* an empty header: no format */
    assert_body_refused("\x0b\x0c", 2, WIRE_CORRUPT);     /* groups */
    assert_body_refused("\x0a\xff\xff\xff\xff\x0f", 6, WIRE_CORRUPT);
    free(longer);
    free(bytes);
    for (int error = WIRE_OK; error <= WIRE_NO_MEMORY; error++)
        assert_string_not_equal(wire_error_text((enum wire_error)error), "unknown error");
}

static void oversized_records_are_refused_before_they_are_read(void **state)
{
    (void)state;
    size_t size = WIRE_SIZE_LIMIT_BYTES + 1;
    uint8_t *bytes = calloc(1, size);
    assert_non_null(bytes);
    memcpy(bytes, "PDR\x01", 4);
    Record *record;
    assert_int_equal(record_decode(bytes, size, &record), WIRE_CORRUPT);
    free(bytes);
}

/* An oversized command must be read, so that its sender can be told (rule 12). */
static void a_command_above_the_record_limit_is_read(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_start(&sample);
    size_t size = 2 * RECORD_LIMIT_BYTES;
    sample.payload.data.data = calloc(1, size);
    assert_non_null(sample.payload.data.data);
    sample.payload.data.len = size;
    assert_accepted(&sample);
    free(sample.payload.data.data);
}

/* ---- what is not as its header says ----------------------------------------------------------- */

static void newer_rules(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_events(&sample);
    sample.header.min_reader = RULE_LEVEL + 1;
    assert_refused(&sample, WIRE_NEWER_RULES);
    sample.header.count = 77; /* what a newer level means by its fields is not ours to judge */
    assert_refused(&sample, WIRE_NEWER_RULES);
    wire_sample_events(&sample);
    sample.header.format = FORMAT_VERSION + 1;
    assert_refused(&sample, WIRE_NEWER_FORMAT);
    sample.header.format = 0;
    assert_refused(&sample, WIRE_CORRUPT);
}

static void event_records(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_events(&sample);
    sample.header.count = 1;
    assert_refused(&sample, WIRE_CORRUPT);
    sample.header.count = 0;
    sample.record.n_events = 0;
    assert_refused(&sample, WIRE_CORRUPT);
    wire_sample_events(&sample);
    sample.header.prev.len = 15;
    assert_refused(&sample, WIRE_CORRUPT);
    wire_sample_events(&sample);
    sample.header.digest.len = 0;
    assert_refused(&sample, WIRE_CORRUPT);
    wire_sample_events(&sample);
    sample.header.seq = 0;
    assert_refused(&sample, WIRE_CORRUPT);
    sample.header.seq = UINT64_MAX;
    assert_refused(&sample, WIRE_CORRUPT);
    wire_sample_events(&sample);
    sample.header.job = (char *)(uintptr_t)"";
    assert_refused(&sample, WIRE_CORRUPT);
}

static void parts_that_are_missing(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_claim(&sample);
    sample.record.genesis = NULL;
    assert_refused(&sample, WIRE_CORRUPT);
    sample.header.kind = PERDURE__V1__KIND__KIND_GENESIS;
    assert_refused(&sample, WIRE_CORRUPT);
    wire_sample_claim(&sample);
    sample.record.claim = NULL;
    assert_refused(&sample, WIRE_CORRUPT);
    wire_sample_mark(&sample);
    sample.record.mark = NULL;
    assert_refused(&sample, WIRE_CORRUPT);
    wire_sample_mark(&sample);
    sample.mark.live_hash.len = 8;
    assert_refused(&sample, WIRE_CORRUPT);
    wire_sample_start(&sample);
    sample.record.command = NULL;
    assert_refused(&sample, WIRE_CORRUPT);
    wire_sample_start(&sample);
    sample.header.job = (char *)(uintptr_t)"";
    assert_refused(&sample, WIRE_CORRUPT);
    wire_sample_start(&sample);
    sample.record.header = NULL;
    assert_refused(&sample, WIRE_CORRUPT);
}

static void job_ids(void **state)
{
    (void)state;
    struct wire_sample sample;
    char job[JOB_ID_LIMIT_BYTES + 2];
    memset(job, 'x', sizeof(job));
    job[JOB_ID_LIMIT_BYTES + 1] = '\0';
    wire_sample_start(&sample);
    sample.header.job = job;
    assert_refused(&sample, WIRE_CORRUPT);
    job[JOB_ID_LIMIT_BYTES] = '\0';
    assert_accepted(&sample);
    sample.header.job = (char *)(uintptr_t)"\xc3(";
    assert_refused(&sample, WIRE_CORRUPT);
    /* A NUL inside: as bytes, for no C string holds one. */
    wire_sample_start(&sample);
    size_t body = perdure__v1__record__get_packed_size(&sample.record);
    uint8_t bytes[1024];
    assert_true(body < sizeof(bytes));
    perdure__v1__record__pack(&sample.record, bytes);
    uint8_t *id = memmem(bytes, body, "order-17", 8);
    assert_non_null(id);
    id[3] = '\0';
    assert_body_refused(bytes, body, WIRE_CORRUPT);
}

static void a_second_header_is_refused(void **state)
{
    (void)state;
    struct wire_sample sample;
    wire_sample_start(&sample);
    uint8_t bytes[1024];
    size_t body = perdure__v1__record__pack(&sample.record, bytes);
    memcpy(bytes + body, "\x0a\x02\x28\x05", 4); /* header { kind: 5 } */
    assert_body_refused(bytes, body + 4, WIRE_CORRUPT);
}

/* ---- nesting ---------------------------------------------------------------------------------- */

#define DEEP 100000

/* An error with `depth` causes below it, encoded from the inside out. Caller frees `*memory`. */
static uint8_t *nested_error(size_t depth, uint8_t **memory, size_t *size)
{
    size_t limit = 16 + 8 * depth;
    uint8_t *bytes = malloc(limit);
    assert_non_null(bytes);
    size_t at = limit;
    for (size_t i = 0; i < depth; i++) {
        size_t inner = limit - at, count = 0;
        uint8_t length[8];
        do {
            length[count] = (uint8_t)((inner & 0x7f) | (inner > 0x7f ? 0x80 : 0));
            inner >>= 7;
        } while (length[count++] & 0x80);
        at -= count;
        memcpy(bytes + at, length, count);
        bytes[--at] = 5 << 3 | 2; /* cause */
    }
    *memory = bytes;
    *size = limit - at;
    return bytes + at;
}

/* Wraps `inner` as a length-delimited field. */
static uint8_t *wrap(uint32_t number, uint8_t *inner, size_t *size)
{
    uint8_t *bytes = malloc(*size + 12);
    assert_non_null(bytes);
    size_t at = 0, length = *size;
    for (uint32_t tag = number << 3 | 2; tag > 0; tag >>= 7)
        bytes[at++] = (uint8_t)((tag & 0x7f) | (tag > 0x7f ? 0x80 : 0));
    do {
        bytes[at++] = (uint8_t)((length & 0x7f) | (length > 0x7f ? 0x80 : 0));
        length >>= 7;
    } while (bytes[at - 1] & 0x80);
    memcpy(bytes + at, inner, *size);
    *size += at;
    return bytes;
}

static void events_with_nested_errors(void **state)
{
    (void)state;
    static const size_t depths[] = {0, ERROR_CAUSES_LIMIT, ERROR_CAUSES_LIMIT + 1, DEEP};
    for (size_t i = 0; i < 4; i++) {
        uint8_t *memory;
        size_t size;
        uint8_t *error = nested_error(depths[i], &memory, &size);
        uint8_t *failed = wrap(1, error, &size), *bytes = wrap(29, failed, &size);
        Event *event = event_decode(bytes, size);
        assert_int_equal(event != NULL, depths[i] <= ERROR_CAUSES_LIMIT);
        if (event != NULL)
            assert_string_equal(event_kind_name(event), "failed");
        event_free(event);
        struct wire_arena arena;
        wire_arena_init(&arena, 0);
        assert_int_equal(event_decode_in(&arena, bytes, size) != NULL, depths[i] <= ERROR_CAUSES_LIMIT);
        wire_arena_release(&arena);
        free(bytes);
        free(failed);
        free(memory);
    }
}

static void commands_with_nested_errors(void **state)
{
    (void)state;
    static const size_t depths[] = {ERROR_CAUSES_LIMIT, ERROR_CAUSES_LIMIT + 1, DEEP};
    for (size_t i = 0; i < 3; i++) {
        uint8_t *memory;
        size_t size;
        struct wire_sample sample;
        wire_sample_start(&sample);
        sample.record.command = NULL;
        uint8_t *error = nested_error(depths[i], &memory, &size);
        uint8_t *result = wrap(5, error, &size), *command = wrap(21, result, &size), *field = wrap(6, command, &size);
        size_t head = perdure__v1__record__get_packed_size(&sample.record), framed;
        uint8_t *body = malloc(head + size);
        assert_non_null(body);
        perdure__v1__record__pack(&sample.record, body);
        memcpy(body + head, field, size);
        void *frame = wire_frame(body, head + size, &framed);
        Record *record;
        assert_int_equal(record_decode(frame, framed, &record),
                         depths[i] <= ERROR_CAUSES_LIMIT ? WIRE_OK : WIRE_CORRUPT);
        record_free(record);
        free(frame);
        free(body);
        free(field);
        free(command);
        free(result);
        free(memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_encoded_comes_back),
        cmocka_unit_test(arenas_are_used_again),
        cmocka_unit_test(unknown_kinds_and_fields_pass),
        cmocka_unit_test(golden_record_decodes_for_ever),
        cmocka_unit_test(every_bit_flip_and_cut_is_refused),
        cmocka_unit_test(damage_under_a_good_checksum_never_crashes),
        cmocka_unit_test(frames),
        cmocka_unit_test(oversized_records_are_refused_before_they_are_read),
        cmocka_unit_test(a_command_above_the_record_limit_is_read),
        cmocka_unit_test(newer_rules),
        cmocka_unit_test(event_records),
        cmocka_unit_test(parts_that_are_missing),
        cmocka_unit_test(job_ids),
        cmocka_unit_test(a_second_header_is_refused),
        cmocka_unit_test(events_with_nested_errors),
        cmocka_unit_test(commands_with_nested_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
