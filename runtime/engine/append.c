/*
 * Appends: a record is numbered in its epoch, encoded, sent, and kept in line until it is confirmed.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

void header_init(struct engine *engine, Header *header, uint32_t kind)
{
    perdure__v1__header__init(header);
    header->format = FORMAT_VERSION;
    header->rule_level = engine->config.genesis.rule_level;
    header->min_reader = RULE_LEVEL_LOWEST;
    header->log = (uint32_t)engine->config.genesis.log_id;
    header->kind = kind;
    header->map_version = engine->judge->map.version ? engine->judge->map.version : engine->config.genesis.map_version;
}

void append_free(struct append *append)
{
    if (!append)
        return;
    for (struct input *input = append->inputs.head; input; input = input->next)
        for (size_t i = 0; i < append->count; i++)
            if (append->events[i] == input->event)
                append->events[i] = NULL;
    inputs_clear(&append->inputs);
    for (size_t i = 0; i < append->count; i++)
        event_free(append->events[i]);
    free(append->events);
    free(append->header);
    free(append->data);
    free(append);
}

static void append_put_out(struct engine *engine, struct append *append)
{
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_APPEND);
    if (!queued)
        return;
    queued->output.cookie = append->cookie;
    queued->output.key = append->header->job[0] ? append->header->job : NULL;
    queued->output.data = append->data;
    queued->output.size = append->size;
    queued->output.header = append->header;
}

static char *block_text(char **at, const char *text)
{
    size_t size = strlen(text) + 1;
    if (size == 1)
        return (char *)""; /* as messages have it: never freed by itself */
    char *copy = memcpy(*at, text, size);
    *at += size;
    return copy;
}

static ProtobufCBinaryData block_bytes(char **at, ProtobufCBinaryData bytes)
{
    ProtobufCBinaryData copy = { .len = bytes.len, .data = (uint8_t *)*at };
    if (bytes.len > 0)
        memcpy(*at, bytes.data, bytes.len);
    *at += bytes.len;
    return copy;
}

/* A copy that outlives the caller's: the host shows it, and the own record is judged by it when it is read back. One
 * block, freed by free(): each record has one. Sender and copy are not for records of an owner. */
static Header *header_copy(const Header *header)
{
    struct block {
        Header header;
        Position in_pos;
        InputRef *pointers[];
    } *block;
    size_t texts = strlen(header->job) + strlen(header->type) + strlen(header->build) + strlen(header->codec) +
                   strlen(header->name) + 5 + header->prev.len + header->digest.len;
    for (size_t i = 0; i < header->n_inputs; i++)
        texts += strlen(header->inputs[i]->request) + 1;
    block = malloc(sizeof *block + header->n_inputs * (sizeof(InputRef *) + sizeof(InputRef)) + texts);
    if (!block)
        return NULL;
    InputRef *refs = (InputRef *)&block->pointers[header->n_inputs];
    char *at = (char *)&refs[header->n_inputs];
    block->header = *header;
    block->header.job = block_text(&at, header->job);
    block->header.type = block_text(&at, header->type);
    block->header.build = block_text(&at, header->build);
    block->header.codec = block_text(&at, header->codec);
    block->header.name = block_text(&at, header->name);
    block->header.prev = block_bytes(&at, header->prev);
    block->header.digest = block_bytes(&at, header->digest);
    block->header.inputs = header->n_inputs ? block->pointers : NULL;
    for (size_t i = 0; i < header->n_inputs; i++) {
        refs[i] = *header->inputs[i];
        refs[i].request = block_text(&at, header->inputs[i]->request);
        block->pointers[i] = &refs[i];
    }
    if (header->in_pos) {
        block->in_pos = *header->in_pos;
        block->header.in_pos = &block->in_pos;
    }
    block->header.sender = NULL;
    block->header.copy = NULL;
    return &block->header;
}

struct append *engine_append(struct engine *engine, Record *record)
{
    struct append *append = calloc(1, sizeof *append);
    if (!append)
        goto no_memory;
    Header *header = record->header;
    header->t = header->t ? header->t : engine->wall_ms;
    if (header->kind != PERDURE__V1__KIND__KIND_CLAIM) {
        header->claim = engine->own_claim;
        header->nonce = engine->nonce;
        header->n = ++engine->n;
    }
    append->kind = header->kind;
    append->n = header->n;
    append->cookie = ++engine->next_cookie;
    append->known_offset = -1;
    append->offset = -1;
    append->deadline = engine->monotonic_ms + engine->limits.append_deadline_ms;
    append->header = header_copy(header);
    append->data = record_encode(record, &append->size);
    if (!append->header || !append->data)
        goto no_memory;
    append_put_out(engine, append);
    if (append->kind == PERDURE__V1__KIND__KIND_CLAIM)
        return append;
    if (engine->appends_tail)
        engine->appends_tail->next = append;
    else
        engine->appends = append;
    engine->appends_tail = append;
    if (!engine->unread)
        engine->unread = append;
    if (!engine->unacked)
        engine->unacked = append;
    engine->append_count++;
    append->counted = MEMORY_OF_RECORD(append->size);
    memory_add(engine, append->counted);
    return append;

no_memory:
    append_free(append);
    engine_stop(engine, "out of memory");
    return NULL;
}

void engine_append_uncounted(struct engine *engine, Record *record)
{
    record->header->t = engine->wall_ms;
    Header *header = header_copy(record->header);
    size_t size = 0;
    void *data = record_encode(record, &size);
    struct queued_output *queued = header && data ? engine_put(engine, ENGINE_OUT_APPEND) : NULL;
    if (!queued) {
        free(header);
        free(data);
        engine_stop(engine, "out of memory");
        return;
    }
    queued->output.cookie = ++engine->next_cookie;
    queued->output.data = queued->owned[0] = data;
    queued->output.header = queued->owned[1] = header;
    queued->output.size = size;
}

void appends_forget(struct engine *engine)
{
    outputs_drop_appends(engine);
    while (engine->appends) {
        struct append *append = engine->appends;
        engine->appends = append->next;
        memory_subtract(engine, append->counted);
        append_free(append);
    }
    engine->appends_tail = engine->unread = engine->unacked = NULL;
    engine->append_count = 0;
    append_free(engine->claim);
    engine->claim = NULL;
}
