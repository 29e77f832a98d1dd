/*
 * Framing of records: "PDR", format byte, CRC32C, one perdure.v1.Record; and what a Record must hold to be judged.
 */
#include <isa-l/crc.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "wire/arena.h"
#include "wire/pack.h"
#include "wire/unpack.h"

#define FRAME_MAGIC "PDR"
#define DIGEST_BYTES sizeof(digest)

const char *wire_error_text(enum wire_error error)
{
    switch (error) {
    case WIRE_OK:
        return "ok";
    case WIRE_NOT_PERDURE:
        return "not a record of Perdure";
    case WIRE_NEWER_FORMAT:
        return "written in a newer format than this version reads";
    case WIRE_CORRUPT:
        return "corrupt record";
    case WIRE_NEWER_RULES:
        return "needs a newer rule level than this version has";
    case WIRE_NO_MEMORY:
        return "out of memory";
    }
    return "unknown error";
}

/* isa-l leaves both inversions of the standard to its caller. */
uint32_t crc32c(const void *data, size_t size)
{
    return ~crc32_iscsi((unsigned char *)(uintptr_t)data, (int)size, 0xffffffffu);
}

static void put_le32(uint8_t *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get_le32(const uint8_t *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

void *record_encode(const Record *record, size_t *size)
{
    uint8_t *frame = wire_pack(&record->base, FRAME_BYTES, size);
    if (frame == NULL)
        return NULL;
    memcpy(frame, FRAME_MAGIC, 3);
    frame[3] = FORMAT_VERSION;
    put_le32(frame + 4, crc32c(frame + FRAME_BYTES, *size - FRAME_BYTES));
    return frame;
}

static enum wire_error frame_check(const uint8_t *frame, size_t size, const char **why)
{
    if (size < FRAME_BYTES || memcmp(frame, FRAME_MAGIC, 3) != 0) {
        *why = "it does not begin with a frame of Perdure";
        return WIRE_NOT_PERDURE;
    }
    if (frame[3] > FORMAT_VERSION) { /* rule 32 */
        *why = "its frame names a newer format";
        return WIRE_NEWER_FORMAT;
    }
    if (frame[3] != FORMAT_VERSION)
        *why = "its frame names a format that never was";
    else if (size > WIRE_SIZE_LIMIT_BYTES)
        *why = "it is larger than any record may be";
    else if (get_le32(frame + 4) != crc32c(frame + FRAME_BYTES, size - FRAME_BYTES))
        *why = "its checksum does not hold";
    else
        return WIRE_OK;
    return WIRE_CORRUPT;
}

static const char *event_record_check(const Record *record)
{
    const Header *header = record->header;
    if (header->job[0] == '\0')
        return "it names no job";
    if (header->count == 0 || header->count != record->n_events)
        return "it holds another number of events than its header says";
    if (header->seq == 0 || header->seq > UINT64_MAX - header->count)
        return "its seq is out of range";
    if (header->prev.len != DIGEST_BYTES || header->digest.len != DIGEST_BYTES)
        return "a digest in its header is not 16 bytes long";
    return NULL;
}

static const char *copy_record_check(const Record *record)
{
    const CopyOf *copy = record->header->copy;
    if (copy == NULL || copy->part == 0 || copy->part > copy->parts)
        return "a copy that does not say which part of what it is";
    return event_record_check(record);
}

static const char *stub_record_check(const Record *record)
{
    const Header *header = record->header;
    if (record->stub == NULL || record->stub->state[0] == '\0')
        return "a stub without its message";
    if (header->job[0] == '\0' || header->seq == 0 || header->digest.len != DIGEST_BYTES)
        return "a stub that does not say of which run";
    return NULL;
}

static const char *slot_out_check(const SlotOut *out)
{
    if (out == NULL)
        return "a SlotOut without its message";
    for (size_t i = 0; i < out->n_shares; i++)
        if (out->shares[i]->live_hash.len != DIGEST_BYTES)
            return "a live hash that is not 16 bytes long";
    return NULL;
}

static const char *slot_in_check(const SlotIn *in)
{
    if (in == NULL)
        return "a SlotIn without its message";
    bool hashes = in->live_hash.len == DIGEST_BYTES && in->closed_hash.len == DIGEST_BYTES;
    return hashes ? NULL : "a hash that is not 16 bytes long";
}

/* Some commands are for a partition. */
static const char *command_check(const Record *record)
{
    if (record->command == NULL)
        return "a command without its message";
    bool to_partition = record->command->kind_case == PERDURE__V1__COMMAND__KIND_GROW ||
                        record->command->kind_case == PERDURE__V1__COMMAND__KIND_SLOTS_MOVED;
    return record->header->job[0] != '\0' || to_partition ? NULL : "it names no job";
}

/* The message of its kind must be there. Kinds that are not known pass: the judge stops at them (rule 32). */
static const char *kind_check(const Record *record)
{
    switch (record->header->kind) {
    case PERDURE__V1__KIND__KIND_GENESIS:
        return record->genesis != NULL ? NULL : "a genesis without its message";
    case PERDURE__V1__KIND__KIND_CLAIM:
        return record->claim != NULL && record->genesis != NULL ? NULL : "a claim without its messages";
    case PERDURE__V1__KIND__KIND_MARK:
        if (record->mark == NULL)
            return "a mark without its message";
        return record->mark->live_hash.len == DIGEST_BYTES ? NULL : "a live hash that is not 16 bytes long";
    case PERDURE__V1__KIND__KIND_EVENT:
        return event_record_check(record);
    case PERDURE__V1__KIND__KIND_COPY:
        return copy_record_check(record);
    case PERDURE__V1__KIND__KIND_STUB:
        return stub_record_check(record);
    case PERDURE__V1__KIND__KIND_COMMAND:
        return command_check(record);
    case PERDURE__V1__KIND__KIND_SLOT_OUT:
        return slot_out_check(record->slot_out);
    case PERDURE__V1__KIND__KIND_SLOT_IN:
        return slot_in_check(record->slot_in);
    default:
        return NULL;
    }
}

static enum wire_error record_check(const Record *record, const char **why)
{
    const Header *header = record->header;
    if (header == NULL) {
        *why = "it has no header";
        return WIRE_CORRUPT;
    }
    if (header->format > FORMAT_VERSION) { /* rule 32 */
        *why = "its header names a newer format";
        return WIRE_NEWER_FORMAT;
    }
    if (header->min_reader > RULE_LEVEL) { /* rule 32 */
        *why = "its header asks for a reader of a higher rule level";
        return WIRE_NEWER_RULES;
    }
    size_t job = strlen(header->job);
    if (header->format != FORMAT_VERSION)
        *why = "its header names no format";
    else if (job > 0 && !job_id_valid(header->job, job))
        *why = "its job id is too long, or no text";
    else
        *why = kind_check(record);
    if (*why != NULL)
        return WIRE_CORRUPT;
    *why = "";
    return WIRE_OK;
}

enum wire_error record_decode_in(struct wire_arena *arena, const void *data, size_t size, Record **out,
                                 const char **why)
{
    const char *ignored;
    if (why == NULL)
        why = &ignored;
    *why = "";
    *out = NULL;
    enum wire_error error = frame_check(data, size, why);
    if (error != WIRE_OK)
        return error;
    struct unpack unpack = {.arena = arena};
    Record *record = (Record *)unpack_message(&unpack, &perdure__v1__record__descriptor,
                                              (const uint8_t *)data + FRAME_BYTES, size - FRAME_BYTES);
    if (record == NULL) {
        *why = unpack.no_memory ? "no memory to decode it" : "its bytes are no Record";
        return unpack.no_memory ? WIRE_NO_MEMORY : WIRE_CORRUPT;
    }
    error = record_check(record, why);
    if (error == WIRE_OK)
        *out = record;
    return error;
}

/* The structs of a usual record; with its strings beside them it is one chunk, small enough for malloc's fast bins. */
#define RECORD_CHUNK_BYTES 640

enum wire_error record_decode_why(const void *data, size_t size, Record **out, const char **why)
{
    struct wire_arena arena;
    wire_arena_init(&arena, RECORD_CHUNK_BYTES + (size <= WIRE_SIZE_LIMIT_BYTES ? size : 0));
    enum wire_error error = record_decode_in(&arena, data, size, out, why);
    if (error != WIRE_OK)
        wire_arena_release(&arena);
    return error;
}

enum wire_error record_decode(const void *data, size_t size, Record **out)
{
    return record_decode_why(data, size, out, NULL);
}

/* The message itself is allocated before its parts: the record is what its first chunk begins with. */
void record_free(Record *record)
{
    if (record != NULL)
        wire_chunk_free((struct wire_chunk *)((unsigned char *)record - offsetof(struct wire_chunk, bytes)));
}
