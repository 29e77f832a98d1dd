/*
 * Fuzzing of the decoder (libFuzzer). Not part of the usual build:
 *
 *     cmake -S . -B build-fuzz -DCMAKE_C_COMPILER=clang -DPERDURE_FUZZ=ON -DPERDURE_SANITIZE=address,undefined
 *     cmake --build build-fuzz --target fuzz_record && build-fuzz/fuzz_record -max_total_time=60
 *
 * The input is tried as it stands, as the body of a frame whose checksum holds, and as an event.
 * tests/unit/golden has records to begin from.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted must say the same when it is written again. */
static void record_round_trip(const Record *record)
{
    size_t size;
    void *bytes = record_encode(record, &size);
    Record *again;
    if (bytes == NULL || record_decode(bytes, size, &again) != WIRE_OK || again->n_events != record->n_events ||
        strcmp(again->header->job, record->header->job) != 0)
        abort();
    record_free(again);
    free(bytes);
}

static void try_record(const void *data, size_t size)
{
    Record *record;
    if (record_decode(data, size, &record) != WIRE_OK)
        return;
    record_round_trip(record);
    for (size_t i = 0; i < record->n_events; i++)
        event_free(event_decode(record->events[i].data, record->events[i].len));
    record_free(record);
}

static void try_framed(const uint8_t *data, size_t size)
{
    uint8_t *frame = malloc(FRAME_BYTES + size);
    if (frame == NULL)
        return;
    uint32_t crc = crc32c(data, size);
    memcpy(frame, "PDR\x01", 4);
    for (int i = 0; i < 4; i++)
        frame[4 + i] = (uint8_t)(crc >> (8 * i));
    if (size > 0)
        memcpy(frame + FRAME_BYTES, data, size);
    try_record(frame, FRAME_BYTES + size);
    free(frame);
}

/* What the wire reads, protobuf-c reads in the same way. */
static void event_against_library(const Event *event, const uint8_t *data, size_t size)
{
    Event *theirs = perdure__v1__event__unpack(NULL, size, data);
    if (theirs == NULL)
        abort();
    size_t length = perdure__v1__event__get_packed_size(event);
    uint8_t *a = malloc(length + 1), *b = malloc(length + 1);
    if (a == NULL || b == NULL || perdure__v1__event__get_packed_size(theirs) != length)
        abort();
    perdure__v1__event__pack(event, a);
    perdure__v1__event__pack(theirs, b);
    if (memcmp(a, b, length) != 0)
        abort();
    free(a);
    free(b);
    event_free(theirs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_record(data, size);
    try_framed(data, size);
    Event *event = event_decode(data, size);
    if (event != NULL) {
        (void)event_name(event);
        Event *copy = event_copy(event);
        if (copy == NULL || strcmp(event_kind_name(copy), event_kind_name(event)) != 0)
            abort();
        event_free(copy);
        event_against_library(event, data, size);
    }
    event_free(event);
    return 0;
}
