#include "engine/copy.h"

#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

/* ---- the records of a run ----------------------------------------------------------------------------------------- */

static bool kind_has_events(uint32_t kind)
{
    return kind == PERDURE__V1__KIND__KIND_EVENT || kind == PERDURE__V1__KIND__KIND_COPY;
}

static int copy_run_keep(struct copy_run *copy, const struct copy_part *record)
{
    if (copy->count == copy->capacity) {
        size_t capacity = copy->capacity ? copy->capacity * 2 : 8;
        struct copy_part *parts = realloc(copy->parts, capacity * sizeof *parts);
        if (!parts)
            return PDR_NO_MEMORY;
        copy->parts = parts;
        copy->capacity = capacity;
    }
    struct copy_part *part = &copy->parts[copy->count];
    *part = *record;
    void *data = malloc(record->size);
    if (!data)
        return PDR_NO_MEMORY;
    part->data = memcpy(data, record->data, record->size);
    copy->count++;
    copy->bytes += record->size;
    return PDR_OK;
}

int copy_run_add(struct copy_run *copy, uint64_t run, const struct copy_part *record)
{
    Record *decoded = NULL;
    enum wire_error error = record_decode(record->data, record->size, &decoded);
    if (error != WIRE_OK)
        return error == WIRE_NO_MEMORY ? PDR_NO_MEMORY : PDR_OK;
    const Header *header = decoded->header;
    if (copy->count == 0)
        copy->digest = digest_of_run(run);
    int code = PDR_OK;
    if (kind_has_events(header->kind) && header->run == run && header->seq == copy->seq + 1 &&
        digest_equal(digest_from_bytes(header->prev), copy->digest)) {
        struct copy_part part = *record;
        if (header->copy) { /* where it stood first */
            part.offset = header->copy->offset;
            part.partition = header->copy->partition;
        }
        code = copy_run_keep(copy, &part);
        copy->seq = header->seq + header->count - 1;
        copy->digest = digest_from_bytes(header->digest);
    }
    record_free(decoded);
    return code;
}

void copy_run_clear(struct copy_run *copy)
{
    for (size_t i = 0; i < copy->count; i++)
        free((void *)(uintptr_t)copy->parts[i].data);
    free(copy->parts);
    memset(copy, 0, sizeof *copy);
}

/* ---- appending ----------------------------------------------------------------------------------------------------- */

/* Rule 33: stored event bytes and digests stay; the envelope is this epoch's. */
struct append *copy_append(struct engine *engine, const struct copy_run *copy, size_t number,
                           const struct request_set *requests)
{
    const struct copy_part *part = &copy->parts[number - 1];
    Record *original = NULL;
    if (record_decode(part->data, part->size, &original) != WIRE_OK) {
        engine_stop(engine, "out of memory");
        return NULL;
    }
    Record record = PERDURE__V1__RECORD__INIT;
    Header header = *original->header;
    CopyOf copy_of = PERDURE__V1__COPY_OF__INIT;
    copy_of.part = (uint32_t)number;
    copy_of.parts = (uint32_t)copy->count;
    copy_of.partition = part->partition;
    copy_of.offset = part->offset;
    if (number == 1 && requests) {
        copy_of.requests = requests->recent;
        copy_of.n_requests = requests->recent_count;
    }
    header.rule_level = engine->config.genesis.rule_level;
    header.min_reader = RULE_LEVEL_RETENTION;
    header.map_version = engine->config.genesis.map_version;
    header.kind = PERDURE__V1__KIND__KIND_COPY;
    header.copy = &copy_of;
    header.in_pos = NULL;
    header.out_pos = 0;
    header.first = -1;
    record.header = &header;
    record.events = original->events;
    record.n_events = original->n_events;
    struct append *append = engine_append(engine, &record);
    record_free(original);
    return append;
}

static void stub_fill(Stub *stub, Position *last_input, const struct run *run)
{
    last_input->generation = run->last_generation;
    last_input->offset = run->last_input;
    stub->state = (char *)(uintptr_t)run_end_name(run->end);
    stub->created = run->created;
    stub->keep_until = run->keep_until;
    stub->keep_ms = run->keep_ms;
    stub->requests = run->requests.recent;
    stub->n_requests = run->requests.recent_count;
    stub->last_input = run->last_input >= 0 ? last_input : NULL;
    stub->input_digest = run->input_digest;
    if (run->parent) {
        stub->parent_job = run->parent->job;
        stub->parent_run = run->parent->run;
        stub->parent_op = run->parent->op;
    }
    stub->result = run->outcome ? run->outcome->result : NULL;
    stub->error = run->outcome ? run->outcome->error : NULL;
}

struct append *stub_append(struct engine *engine, const struct run *run)
{
    Record record = PERDURE__V1__RECORD__INIT;
    Header header;
    Stub stub = PERDURE__V1__STUB__INIT;
    Position last_input = PERDURE__V1__POSITION__INIT;
    digest after = run->digest;
    header_init(engine, &header, PERDURE__V1__KIND__KIND_STUB);
    header.min_reader = RULE_LEVEL_RETENTION;
    header.slot = slot_of(run->job);
    header.job = run->job;
    header.run = run->run;
    header.seq = run->seq;
    header.digest = (ProtobufCBinaryData){ .len = sizeof after.bytes, .data = after.bytes };
    header.first = -1;
    header.t = run->t;
    header.type = (char *)(uintptr_t)(run->type ? run->type : "");
    header.build = (char *)(uintptr_t)(run->build ? run->build : "");
    header.name = (char *)(uintptr_t)run_end_name(run->end);
    stub_fill(&stub, &last_input, run);
    record.header = &header;
    record.stub = &stub;
    return engine_append(engine, &record);
}
