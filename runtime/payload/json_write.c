/*
 * The protobuf encoding of a message that a Schema describes to JSON, on one line. Fields have the names of the .proto.
 * Fields without presence and lists are always shown, zero or not, so that a script finds them. Fields that the schema
 * lacks (written by a newer build) are kept as bytes under "@unknown".
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "payload/base64.h"
#include "payload/buffer.h"
#include "payload/find.h"
#include "payload/schema.h"

struct json_bytes {
    const uint8_t *at;
    const uint8_t *end;
};

struct json_field { /* one field as it stands on the wire */
    uint32_t number;
    uint32_t wire;
    uint64_t bits;          /* numbers */
    struct json_bytes body; /* length-delimited */
    struct json_bytes whole;
};

static bool json_write_message(const Schema *schema, const MessageSchema *message, struct json_bytes bytes, int depth,
                               struct buffer *out);

/* ---- reading the wire ----------------------------------------------------------------------- */

static bool json_next_varint(struct json_bytes *bytes, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 70 && bytes->at < bytes->end; shift += 7) {
        uint8_t byte = *bytes->at++;
        if (shift == 63 && byte > 1)
            return false;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static bool json_next_fixed(struct json_bytes *bytes, int size, uint64_t *value)
{
    if (bytes->end - bytes->at < size)
        return false;
    *value = 0;
    for (int i = 0; i < size; i++)
        *value |= (uint64_t)*bytes->at++ << (8 * i);
    return true;
}

static bool json_next_number(struct json_bytes *bytes, uint32_t wire, uint64_t *value)
{
    switch (wire) {
    case WIRE_VARINT:
        return json_next_varint(bytes, value);
    case WIRE_64BIT:
        return json_next_fixed(bytes, 8, value);
    case WIRE_32BIT:
        return json_next_fixed(bytes, 4, value);
    default:
        return false; /* groups: no field of a schema is one */
    }
}

static bool json_next_field(struct json_bytes *bytes, struct json_field *field)
{
    uint64_t tag, length;
    field->whole.at = bytes->at;
    if (!json_next_varint(bytes, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
        return false;
    field->number = (uint32_t)(tag >> 3);
    field->wire = tag & 7;
    if (field->wire == WIRE_BYTES) {
        if (!json_next_varint(bytes, &length) || length > (uint64_t)(bytes->end - bytes->at))
            return false;
        field->body = (struct json_bytes){bytes->at, bytes->at + length};
        bytes->at += length;
    } else if (!json_next_number(bytes, field->wire, &field->bits)) {
        return false;
    }
    field->whole.end = bytes->at;
    return true;
}

/* ---- values --------------------------------------------------------------------------------- */

static void json_write_enum(const Schema *schema, const FieldSchema *field, int32_t number, struct buffer *out)
{
    const EnumSchema *known = schema_enum(schema, field->type_name);
    for (size_t i = 0; known && i < known->n_values; i++)
        if (known->values[i]->number == number) {
            buffer_json_string(out, known->values[i]->name, strlen(known->values[i]->name));
            return;
        }
    buffer_format(out, "%" PRId32, number); /* a value of a newer build */
}

static void json_write_number(const Schema *schema, const FieldSchema *field, uint64_t bits, struct buffer *out)
{
    uint32_t low = (uint32_t)bits;
    double real;
    float narrow;
    switch (field->type) {
    case FIELD_DOUBLE:
        memcpy(&real, &bits, sizeof real);
        buffer_json_double(out, real);
        break;
    case FIELD_FLOAT:
        memcpy(&narrow, &low, sizeof narrow);
        buffer_json_float(out, narrow);
        break;
    case FIELD_BOOL:
        buffer_text(out, bits ? "true" : "false");
        break;
    case FIELD_ENUM:
        json_write_enum(schema, field, (int32_t)low, out);
        break;
    case FIELD_INT32:
    case FIELD_SFIXED32:
        buffer_json_int64(out, (int32_t)low);
        break;
    case FIELD_SINT32:
        buffer_json_int64(out, (int32_t)(low >> 1 ^ (0 - (low & 1))));
        break;
    case FIELD_UINT32:
    case FIELD_FIXED32:
        buffer_json_uint64(out, low);
        break;
    case FIELD_SINT64:
        buffer_json_int64(out, (int64_t)(bits >> 1 ^ (0 - (bits & 1))));
        break;
    case FIELD_INT64:
    case FIELD_SFIXED64:
        buffer_json_int64(out, (int64_t)bits);
        break;
    default:
        buffer_json_uint64(out, bits);
        break;
    }
}

static bool json_write_content(const Schema *schema, const FieldSchema *field, struct json_bytes body, int depth,
                               struct buffer *out)
{
    size_t size = (size_t)(body.end - body.at);
    if (field->type == FIELD_STRING) {
        buffer_json_string(out, (const char *)body.at, size);
        return true;
    }
    if (field->type == FIELD_BYTES) {
        buffer_byte(out, '"');
        base64_write(out, body.at, size);
        buffer_byte(out, '"');
        return true;
    }
    const MessageSchema *message = schema_message(schema, field->type_name);
    return message && json_write_message(schema, message, body, depth + 1, out);
}

static void json_write_default(const FieldSchema *field, const Schema *schema, struct buffer *out)
{
    if (field->label == LABEL_REPEATED)
        buffer_text(out, "[]");
    else if (schema_wire_type(field->type) == WIRE_BYTES)
        buffer_text(out, "\"\"");
    else
        json_write_number(schema, field, 0, out);
}

/* ---- messages ------------------------------------------------------------------------------- */

/* Elements of a repeated field that this occurrence carries: one, or a packed run of them. */
static bool json_write_elements(const Schema *schema, const FieldSchema *field, const struct json_field *found,
                                int depth, struct buffer *out, size_t *count)
{
    uint32_t wire = schema_wire_type(field->type);
    if (found->wire == WIRE_BYTES && wire != WIRE_BYTES) {
        struct json_bytes packed = found->body;
        while (packed.at < packed.end) {
            uint64_t bits;
            if (!json_next_number(&packed, wire, &bits))
                return false;
            buffer_text(out, (*count)++ ? "," : "");
            json_write_number(schema, field, bits, out);
        }
        return true;
    }
    if (found->wire != wire)
        return false;
    buffer_text(out, (*count)++ ? "," : "");
    if (wire == WIRE_BYTES)
        return json_write_content(schema, field, found->body, depth, out);
    json_write_number(schema, field, found->bits, out);
    return true;
}

static bool json_write_list(const Schema *schema, const FieldSchema *field, struct json_bytes bytes, int depth,
                            struct buffer *out)
{
    struct json_field found;
    size_t count = 0;
    buffer_byte(out, '[');
    while (bytes.at < bytes.end) {
        if (!json_next_field(&bytes, &found))
            return false;
        if (found.number == field->number && !json_write_elements(schema, field, &found, depth, out, &count))
            return false;
    }
    buffer_byte(out, ']');
    return true;
}

/* A field that may come several times though it is single: the last number counts, messages are merged, which their
 * bytes one behind the other do. */
static bool json_write_single(const Schema *schema, const FieldSchema *field, struct json_bytes bytes, int depth,
                              struct buffer *out)
{
    struct json_field found, last = {0};
    struct buffer merged = {0};
    while (bytes.at < bytes.end && json_next_field(&bytes, &found)) {
        if (found.number != field->number)
            continue;
        last = found;
        if (found.wire == WIRE_BYTES) {
            if (field->type != FIELD_MESSAGE)
                merged.size = 0;
            buffer_add(&merged, found.body.at, (size_t)(found.body.end - found.body.at));
        }
    }
    bool done = last.wire == schema_wire_type(field->type) && !merged.failed;
    out->failed |= merged.failed;
    if (done && last.wire == WIRE_BYTES) {
        const uint8_t *data = (const uint8_t *)(merged.data ? merged.data : "");
        done = json_write_content(schema, field, (struct json_bytes){data, data + merged.size}, depth, out);
    } else if (done) {
        json_write_number(schema, field, last.bits, out);
    }
    buffer_free(&merged);
    return done;
}

static bool json_is_present(uint32_t number, struct json_bytes bytes)
{
    struct json_field found;
    while (bytes.at < bytes.end && json_next_field(&bytes, &found))
        if (found.number == number)
            return true;
    return false;
}

static bool json_write_unknown(const MessageSchema *message, struct json_bytes bytes, struct buffer *out, bool first)
{
    struct json_field found;
    struct buffer unknown = {0};
    while (bytes.at < bytes.end) {
        bool known = false;
        if (!json_next_field(&bytes, &found)) {
            buffer_free(&unknown);
            return false;
        }
        for (size_t i = 0; i < message->n_fields && !known; i++)
            known = message->fields[i]->number == found.number;
        if (!known)
            buffer_add(&unknown, found.whole.at, (size_t)(found.whole.end - found.whole.at));
    }
    if (unknown.size > 0) {
        buffer_text(out, first ? "\"@unknown\":\"" : ",\"@unknown\":\"");
        base64_write(out, unknown.data, unknown.size);
        buffer_byte(out, '"');
    }
    out->failed |= unknown.failed;
    buffer_free(&unknown);
    return true;
}

/* False: the bytes are no such message. */
static bool json_write_message(const Schema *schema, const MessageSchema *message, struct json_bytes bytes, int depth,
                               struct buffer *out)
{
    bool first = true;
    if (depth > SCHEMA_DEPTH_LIMIT)
        return false;
    buffer_byte(out, '{');
    for (size_t i = 0; i < message->n_fields; i++) {
        const FieldSchema *field = message->fields[i];
        bool present = json_is_present(field->number, bytes);
        if (!present && (field->label == LABEL_OPTIONAL || field->label == LABEL_REQUIRED))
            continue;
        buffer_text(out, first ? "" : ",");
        first = false;
        buffer_json_string(out, field->name, strlen(field->name));
        buffer_byte(out, ':');
        if (!present)
            json_write_default(field, schema, out);
        else if (field->label == LABEL_REPEATED ? !json_write_list(schema, field, bytes, depth, out)
                                                : !json_write_single(schema, field, bytes, depth, out))
            return false;
    }
    if (!json_write_unknown(message, bytes, out, first))
        return false;
    buffer_byte(out, '}');
    return true;
}

/* ---- payloads ------------------------------------------------------------------------------- */

/* JSON that somebody sent: shown as it is if it is JSON. */
static bool json_write_json(const char *text, size_t size, struct buffer *out)
{
    json_t *value = json_loadb(text, size, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, NULL);
    if (!value)
        return false;
    json_decref(value);
    buffer_json_compact(out, text, size);
    return true;
}

static bool json_write_payload(const Schema *schema, const Payload *payload, struct buffer *out)
{
    const uint8_t *data = payload->data.data ? payload->data.data : (const uint8_t *)"";
    size_t size = payload->data.len;
    enum builtin builtin = schema_builtin(payload->type);
    const MessageSchema *message = builtin ? NULL : schema_message(schema, payload->type);
    if (payload->json || builtin == BUILTIN_JSON)
        return json_write_json((const char *)data, size, out);
    if (builtin == BUILTIN_TEXT) {
        buffer_json_string(out, (const char *)data, size);
    } else if (builtin == BUILTIN_BYTES) {
        buffer_byte(out, '"');
        base64_write(out, data, size);
        buffer_byte(out, '"');
    } else if (size == 0 && (builtin == BUILTIN_NONE || !*payload->type)) {
        buffer_text(out, "null");
    } else {
        return message && json_write_message(schema, message, (struct json_bytes){data, data + size}, 1, out);
    }
    return true;
}

char *payload_to_json(const Schema *schema, const Payload *payload)
{
    struct buffer out = {0};
    if (!payload) {
        buffer_text(&out, "null");
    } else if (!json_write_payload(schema, payload, &out)) {
        out.size = 0;
        buffer_text(&out, "{\"base64\":\"");
        base64_write(&out, payload->data.data, payload->data.len);
        buffer_text(&out, "\"}");
    }
    return buffer_take(&out);
}
