/*
 * The codecs: none, bytes, text and JSON as they are, and protobuf-c messages.
 */
#include "job/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "job/job.h"

#define ALIGNMENT 16 /* _Alignof(max_align_t); all that goes through here keeps it */

void *codec_memory(struct wire_arena *arena, size_t size)
{
    size_t rounded = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (rounded < size)
        return NULL;
    void *memory = wire_arena_alloc(arena, rounded > 0 ? rounded : ALIGNMENT);
    return memory != NULL ? memset(memory, 0, size) : NULL;
}

/* ---- built in --------------------------------------------------------------------------------- */

static const char *builtin_type_name(const pdr_type *type)
{
    return type->name;
}

static const char *builtin_complaint(const pdr_type *type)
{
    (void)type;
    return NULL;
}

static void builtin_init(const pdr_type *type, void *message)
{
    memset(message, 0, type->message_size);
}

static size_t none_encoded_size(const pdr_type *type, const void *message)
{
    (void)type, (void)message;
    return 0;
}

static void none_encode(const pdr_type *type, const void *message, uint8_t *out)
{
    (void)type, (void)message, (void)out;
}

static int none_decode(const pdr_type *type, const uint8_t *data, size_t size, struct wire_arena *arena, void **out)
{
    (void)data, (void)size; /* a later version may put something there */
    *out = codec_new(type, arena);
    return *out != NULL ? PDR_OK : PDR_NO_MEMORY;
}

static size_t bytes_encoded_size(const pdr_type *type, const void *message)
{
    (void)type;
    return ((const pdr_bytes *)message)->size;
}

static void bytes_encode(const pdr_type *type, const void *message, uint8_t *out)
{
    (void)type;
    const pdr_bytes *bytes = message;
    if (bytes->size > 0)
        memcpy(out, bytes->data, bytes->size);
}

/* One NUL more than it holds, so that bytes that are a string may be used as one. */
static int bytes_decode(const pdr_type *type, const uint8_t *data, size_t size, struct wire_arena *arena, void **out)
{
    pdr_bytes *bytes = codec_new(type, arena);
    char *copy = bytes != NULL ? codec_memory(arena, size + 1) : NULL;
    if (copy == NULL)
        return PDR_NO_MEMORY;
    if (size > 0)
        memcpy(copy, data, size);
    bytes->data = copy;
    bytes->size = size;
    *out = bytes;
    return PDR_OK;
}

/* pdr_text and pdr_json are the same in memory. */
static size_t text_encoded_size(const pdr_type *type, const void *message)
{
    (void)type;
    const char *chars = ((const pdr_text *)message)->chars;
    return chars != NULL ? strlen(chars) : 0;
}

static void text_encode(const pdr_type *type, const void *message, uint8_t *out)
{
    size_t size = text_encoded_size(type, message);
    if (size > 0)
        memcpy(out, ((const pdr_text *)message)->chars, size);
}

static int text_decode(const pdr_type *type, const uint8_t *data, size_t size, struct wire_arena *arena, void **out)
{
    if (size > 0 && memchr(data, '\0', size) != NULL)
        return PDR_INVALID; /* would be cut short in silence */
    pdr_text *text = codec_new(type, arena);
    char *copy = text != NULL ? codec_memory(arena, size + 1) : NULL;
    if (copy == NULL)
        return PDR_NO_MEMORY;
    if (size > 0)
        memcpy(copy, data, size);
    text->chars = copy;
    *out = text;
    return PDR_OK;
}

const pdr_codec pdr_codec_none = {builtin_type_name, builtin_complaint, builtin_init,
                                  none_encoded_size, none_encode,       none_decode};
const pdr_codec pdr_codec_bytes = {builtin_type_name,  builtin_complaint, builtin_init,
                                   bytes_encoded_size, bytes_encode,      bytes_decode};
const pdr_codec pdr_codec_text = {builtin_type_name, builtin_complaint, builtin_init,
                                  text_encoded_size, text_encode,       text_decode};
const pdr_codec pdr_codec_json = {builtin_type_name, builtin_complaint, builtin_init,
                                  text_encoded_size, text_encode,       text_decode};

/* ---- protobuf-c --------------------------------------------------------------------------------- */

/* What one message may take in memory: protobuf-c itself knows no limit, and two bytes can ask for a whole submessage. */
#define MESSAGE_MEMORY_LIMIT ((size_t)64 * 1024 * 1024)
/* Messages in messages: protobuf-c recurses on both ways. */
#define MESSAGE_DEPTH_LIMIT 32

static const char *message_type_name(const pdr_type *type)
{
    return ((const ProtobufCMessageDescriptor *)type->descriptor)->name;
}

static const char *message_descriptor_complaint(const ProtobufCMessageDescriptor *descriptor, unsigned depth)
{
    if (descriptor == NULL || descriptor->magic != PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC)
        return "has no protobuf-c descriptor";
    if (depth > MESSAGE_DEPTH_LIMIT)
        return "contains itself, or nests messages more than 32 deep, which protobuf-c cannot read safely";
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        if (descriptor->fields[i].type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        const char *complaint = message_descriptor_complaint(descriptor->fields[i].descriptor, depth + 1);
        if (complaint != NULL)
            return complaint;
    }
    return NULL;
}

static const char *message_complaint(const pdr_type *type)
{
    const ProtobufCMessageDescriptor *descriptor = type->descriptor;
    const char *complaint = message_descriptor_complaint(descriptor, 0);
    if (complaint == NULL && descriptor->sizeof_message != type->message_size)
        return "has another size in its header than in its descriptor: was it compiled with an old .pb-c.h?";
    return complaint;
}

static void message_init(const pdr_type *type, void *message)
{
    protobuf_c_message_init(type->descriptor, message);
}

static size_t message_encoded_size(const pdr_type *type, const void *message)
{
    (void)type;
    return protobuf_c_message_get_packed_size(message);
}

static void message_encode(const pdr_type *type, const void *message, uint8_t *out)
{
    (void)type;
    protobuf_c_message_pack(message, out);
}

struct message_budget {
    struct wire_arena *arena;
    size_t left;
    bool failed; /* no memory, not the message's fault */
};

static void *message_alloc(void *data, size_t size)
{
    struct message_budget *budget = data;
    size_t rounded = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (rounded < size || rounded > budget->left)
        return NULL;
    budget->left -= rounded;
    void *memory = wire_arena_alloc(budget->arena, rounded);
    budget->failed |= memory == NULL;
    return memory;
}

static void message_dealloc(void *data, void *memory)
{
    (void)data, (void)memory; /* goes with the arena */
}

static int message_decode(const pdr_type *type, const uint8_t *data, size_t size, struct wire_arena *arena, void **out)
{
    struct message_budget budget = {.arena = arena, .left = MESSAGE_MEMORY_LIMIT};
    ProtobufCAllocator allocator = {.alloc = message_alloc, .free = message_dealloc, .allocator_data = &budget};
    *out = protobuf_c_message_unpack(type->descriptor, &allocator, size, data);
    if (*out != NULL)
        return PDR_OK;
    return budget.failed ? PDR_NO_MEMORY : PDR_INVALID;
}

const pdr_codec pdr_codec_protobuf_c = {message_type_name,    message_complaint, message_init,
                                        message_encoded_size, message_encode,    message_decode};

/* ---- any codec ------------------------------------------------------------------------------------ */

const char *codec_type_name(const pdr_type *type)
{
    return type->codec->type_name(type);
}

void *codec_new(const pdr_type *type, struct wire_arena *arena)
{
    void *message = codec_memory(arena, type->message_size);
    if (message != NULL)
        type->codec->init(type, message);
    return message;
}

int codec_encode(const pdr_type *type, const void *message, ProtobufCBinaryData *out)
{
    *out = (ProtobufCBinaryData){0};
    if (message == NULL)
        return type->codec == &pdr_codec_none ? PDR_OK : PDR_MISUSE;
    size_t size = type->codec->encoded_size(type, message);
    out->len = size;
    if (size > PAYLOAD_LIMIT_BYTES)
        return PDR_INVALID;
    if (size == 0)
        return PDR_OK;
    out->data = malloc(size);
    if (out->data == NULL)
        return PDR_NO_MEMORY;
    type->codec->encode(type, message, out->data);
    return PDR_OK;
}

static int codec_decode_json(const pdr_type *type, const Payload *payload, struct wire_arena *arena, void **out,
                             char *error, size_t error_size)
{
    Payload *copy = payload_copy(payload);
    if (copy == NULL)
        return PDR_NO_MEMORY;
    int code = payload_from_json(type, copy, error, error_size);
    if (code == PDR_OK)
        code = codec_decode(type, copy, arena, out, error, error_size);
    payload_free(copy);
    return code == PDR_FAILED ? PDR_INVALID : code;
}

int codec_decode(const pdr_type *type, const Payload *payload, struct wire_arena *arena, void **out, char *error,
                 size_t error_size)
{
    static const Payload nothing = PERDURE__V1__PAYLOAD__INIT;
    *out = NULL;
    if (payload == NULL)
        payload = &nothing;
    if (payload->json)
        return codec_decode_json(type, payload, arena, out, error, error_size);
    const char *wanted = codec_type_name(type);
    bool untyped = payload->type[0] == '\0' && type->codec == &pdr_codec_none;
    if (!untyped && strcmp(payload->type, wanted) != 0) {
        snprintf(error, error_size, "it is a '%s', not a '%s'", payload->type, wanted);
        return PDR_INVALID;
    }
    int code = type->codec->decode(type, payload->data.data, payload->data.len, arena, out);
    if (code == PDR_INVALID)
        snprintf(error, error_size, "%zu bytes that are no '%s'", payload->data.len, wanted);
    return code;
}
