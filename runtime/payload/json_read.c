/*
 * JSON to the protobuf encoding of a message that a Schema describes, byte for byte what protobuf-c would write: fields
 * in order of their numbers, proto3 zeros left out. So a start by JSON and a start by a C program have equal digests.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "payload/base64.h"
#include "payload/buffer.h"
#include "payload/find.h"
#include "payload/schema.h"

/* Where in the value we are, for errors: a chain of names and indexes on the stack. */
struct json_place {
    const struct json_place *up;
    const char *name; /* NULL: `index` */
    size_t index;
};

struct json_reader {
    const Schema *schema;
    const char *type;
    char *error;
    size_t error_size;
};

static int json_read_message(struct json_reader *reader, const struct json_place *place, int depth,
                             const MessageSchema *message, const json_t *value, struct buffer *out);

/* ---- errors --------------------------------------------------------------------------------- */

static void json_read_path(struct buffer *path, const struct json_place *place)
{
    if (!place)
        return;
    json_read_path(path, place->up);
    if (place->name)
        buffer_format(path, path->size ? ".%s" : "%s", place->name);
    else
        buffer_format(path, "[%zu]", place->index);
}

__attribute__((format(printf, 3, 4))) static int json_read_fail(struct json_reader *reader,
                                                                const struct json_place *place, const char *format, ...)
{
    struct buffer text = {0};
    json_read_path(&text, place);
    if (text.size == 0)
        buffer_text(&text, reader->type);
    buffer_text(&text, ": ");
    va_list arguments;
    va_start(arguments, format);
    buffer_format_list(&text, format, arguments);
    va_end(arguments);
    char *taken = buffer_take(&text);
    if (!taken)
        return PDR_NO_MEMORY;
    snprintf(reader->error, reader->error_size, "%s", taken);
    free(taken);
    return PDR_FAILED;
}

static const char *json_read_kind(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "a number";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    default:
        return "null";
    }
}

/* ---- scalars -------------------------------------------------------------------------------- */

struct json_range {
    const char *name;
    bool is_signed;
    int64_t lowest;
    uint64_t highest;
};

static struct json_range json_read_range(uint32_t type)
{
    switch (type) {
    case FIELD_INT32:
    case FIELD_SINT32:
    case FIELD_SFIXED32:
    case FIELD_ENUM:
        return (struct json_range){"-2147483648 to 2147483647", true, INT32_MIN, INT32_MAX};
    case FIELD_UINT32:
    case FIELD_FIXED32:
        return (struct json_range){"0 to 4294967295", false, 0, UINT32_MAX};
    case FIELD_UINT64:
    case FIELD_FIXED64:
        return (struct json_range){"0 to 18446744073709551615", false, 0, UINT64_MAX};
    default:
        return (struct json_range){"-9223372036854775808 to 9223372036854775807", true, INT64_MIN, INT64_MAX};
    }
}

enum json_number { NUMBER_OK, NUMBER_NONE, NUMBER_RANGE };

static enum json_number json_read_digits(const char *text, const struct json_range *range, uint64_t *out)
{
    bool negative = text[0] == '-';
    const char *digits = text + negative;
    if (!*digits || strspn(digits, "0123456789") != strlen(digits))
        return NUMBER_NONE;
    errno = 0;
    uint64_t magnitude = strtoull(digits, NULL, 10);
    if (errno == ERANGE)
        return NUMBER_RANGE;
    if (negative && magnitude != 0) {
        uint64_t lowest = range->is_signed ? (uint64_t)0 - (uint64_t)range->lowest : 0;
        *out = (uint64_t)0 - magnitude;
        return magnitude > lowest ? NUMBER_RANGE : NUMBER_OK;
    }
    *out = magnitude;
    return magnitude > range->highest ? NUMBER_RANGE : NUMBER_OK;
}

/* A whole number as number or string, two's complement in `*out`. */
static int json_read_integer(struct json_reader *reader, const struct json_place *place, uint32_t type,
                             const json_t *value, uint64_t *out)
{
    struct json_range range = json_read_range(type);
    char text[32];
    const char *digits = text;
    if (json_is_integer(value)) {
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_real(value)) { /* 3.0 and 1e3 are whole numbers too, as far as a double is exact */
        double real = json_real_value(value);
        if (real != trunc(real) || fabs(real) > 9007199254740992.0)
            return json_read_fail(reader, place, "expected a whole number");
        snprintf(text, sizeof text, "%.0f", real == 0 ? 0.0 : real);
    } else if (json_is_string(value)) {
        digits = json_string_value(value);
    } else {
        return json_read_fail(reader, place, "expected a whole number, not %s", json_read_kind(value));
    }
    switch (json_read_digits(digits, &range, out)) {
    case NUMBER_OK:
        return PDR_OK;
    case NUMBER_RANGE:
        return json_read_fail(reader, place, "%.40s is out of range (%s)", digits, range.name);
    default:
        return json_read_fail(reader, place, "expected a whole number, not \"%.40s\"", digits);
    }
}

static int json_read_real(struct json_reader *reader, const struct json_place *place, const json_t *value, double *out)
{
    if (json_is_number(value)) {
        *out = json_number_value(value);
        return PDR_OK;
    }
    const char *text = json_string_value(value);
    if (!text)
        return json_read_fail(reader, place, "expected a number, not %s", json_read_kind(value));
    char *end;
    bool named = strcmp(text, "NaN") == 0 || strcmp(text, "Infinity") == 0 || strcmp(text, "-Infinity") == 0;
    bool decimal = *text && strspn(text, "0123456789+-.eE") == strlen(text);
    *out = strtod(text, &end);
    if ((!named && !decimal) || *end || end == text)
        return json_read_fail(reader, place, "expected a number, not \"%.40s\"", text);
    if (!named && isinf(*out))
        return json_read_fail(reader, place, "%.40s is out of range of a double", text);
    return PDR_OK;
}

static int json_read_enum(struct json_reader *reader, const struct json_place *place, const FieldSchema *field,
                          const json_t *value, uint64_t *out)
{
    const char *name = json_string_value(value);
    if (!name)
        return json_read_integer(reader, place, FIELD_ENUM, value, out);
    const EnumSchema *known = schema_enum(reader->schema, field->type_name);
    struct buffer names = {0};
    for (size_t i = 0; known && i < known->n_values; i++) {
        if (strcmp(known->values[i]->name, name) == 0) {
            *out = (uint64_t)(int64_t)known->values[i]->number;
            buffer_free(&names);
            return PDR_OK;
        }
        buffer_format(&names, i ? ", %s" : "%s", known->values[i]->name);
    }
    char *list = buffer_take(&names);
    int code = json_read_fail(reader, place, "%s has no value \"%.60s\"; it has: %s", field->type_name, name,
                              list ? list : "");
    free(list);
    return code;
}

static int json_read_bytes(struct json_reader *reader, const struct json_place *place, const json_t *value,
                           struct buffer *out)
{
    size_t at = 0;
    if (!json_is_string(value))
        return json_read_fail(reader, place, "expected a base64 string, not %s", json_read_kind(value));
    if (!base64_read(out, json_string_value(value), json_string_length(value), &at))
        return json_read_fail(reader, place, "not valid base64 at character %zu", at + 1);
    return PDR_OK;
}

/* ---- the wire ------------------------------------------------------------------------------- */

static void json_write_fixed(struct buffer *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buffer_byte(out, (char)(value >> (8 * i)));
}

/* `bits`: two's complement for integers, the bit pattern for reals. */
static void json_write_number(struct buffer *out, uint32_t type, uint64_t bits)
{
    enum wire_type wire = schema_wire_type(type);
    if (type == FIELD_SINT32 || type == FIELD_SINT64)
        bits = bits << 1 ^ (uint64_t)((int64_t)bits >> 63);
    if (wire == WIRE_VARINT)
        buffer_varint(out, bits);
    else
        json_write_fixed(out, bits, wire == WIRE_64BIT ? 8 : 4);
}

static int json_read_number(struct json_reader *reader, const struct json_place *place, const FieldSchema *field,
                            const json_t *value, uint64_t *bits)
{
    double real = 0;
    int code;
    *bits = 0;
    switch (field->type) {
    case FIELD_BOOL:
        *bits = json_is_true(value);
        return json_is_boolean(value)
                   ? PDR_OK
                   : json_read_fail(reader, place, "expected true or false, not %s", json_read_kind(value));
    case FIELD_ENUM:
        return json_read_enum(reader, place, field, value, bits);
    case FIELD_DOUBLE:
        code = json_read_real(reader, place, value, &real);
        memcpy(bits, &real, sizeof real);
        return code;
    case FIELD_FLOAT: {
        code = json_read_real(reader, place, value, &real);
        float narrow = (float)real;
        if (code == PDR_OK && isinf(narrow) && !isinf(real))
            return json_read_fail(reader, place, "%g is out of range of a float", real);
        uint32_t pattern;
        memcpy(&pattern, &narrow, sizeof pattern);
        *bits = pattern;
        return code;
    }
    default:
        return json_read_integer(reader, place, field->type, value, bits);
    }
}

/* The content of one value of a length-delimited field. */
static int json_read_content(struct json_reader *reader, const struct json_place *place, int depth,
                             const FieldSchema *field, const json_t *value, struct buffer *out)
{
    if (field->type == FIELD_BYTES)
        return json_read_bytes(reader, place, value, out);
    if (field->type == FIELD_STRING) {
        if (!json_is_string(value))
            return json_read_fail(reader, place, "expected a string, not %s", json_read_kind(value));
        buffer_add(out, json_string_value(value), json_string_length(value));
        return PDR_OK;
    }
    const MessageSchema *message = schema_message(reader->schema, field->type_name);
    if (!message)
        return json_read_fail(reader, place, "its message type %s is not in the schema", field->type_name);
    return json_read_message(reader, place, depth + 1, message, value, out);
}

static void json_write_tag(struct buffer *out, const FieldSchema *field, enum wire_type wire)
{
    buffer_varint(out, (uint64_t)field->number << 3 | wire);
}

/* One value with its tag; an implicit zero is left out. */
static int json_read_value(struct json_reader *reader, const struct json_place *place, int depth,
                           const FieldSchema *field, const json_t *value, struct buffer *out)
{
    enum wire_type wire = schema_wire_type(field->type);
    if (wire != WIRE_BYTES) {
        uint64_t bits;
        int code = json_read_number(reader, place, field, value, &bits);
        if (code != PDR_OK || (field->label == LABEL_IMPLICIT && bits == 0))
            return code;
        json_write_tag(out, field, wire);
        json_write_number(out, field->type, bits);
        return PDR_OK;
    }
    struct buffer content = {0};
    int code = json_read_content(reader, place, depth, field, value, &content);
    out->failed |= content.failed;
    if (code == PDR_OK && (content.size > 0 || field->label != LABEL_IMPLICIT)) {
        json_write_tag(out, field, wire);
        buffer_varint(out, content.size);
        buffer_add(out, content.data, content.size);
    }
    buffer_free(&content);
    return code;
}

static int json_read_packed(struct json_reader *reader, const struct json_place *place, const FieldSchema *field,
                            const json_t *list, struct buffer *out)
{
    struct buffer content = {0};
    int code = PDR_OK;
    for (size_t i = 0; i < json_array_size(list) && code == PDR_OK; i++) {
        struct json_place item = {place, NULL, i};
        uint64_t bits;
        code = json_read_number(reader, &item, field, json_array_get(list, i), &bits);
        if (code == PDR_OK)
            json_write_number(&content, field->type, bits);
    }
    out->failed |= content.failed;
    if (code == PDR_OK && content.size > 0) {
        json_write_tag(out, field, WIRE_BYTES);
        buffer_varint(out, content.size);
        buffer_add(out, content.data, content.size);
    }
    buffer_free(&content);
    return code;
}

static int json_read_repeated(struct json_reader *reader, const struct json_place *place, int depth,
                              const FieldSchema *field, const json_t *list, struct buffer *out)
{
    if (!json_is_array(list))
        return json_read_fail(reader, place, "expected a list, not %s", json_read_kind(list));
    if (field->packed && schema_wire_type(field->type) != WIRE_BYTES)
        return json_read_packed(reader, place, field, list, out);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct json_place item = {place, NULL, i};
        int code = json_read_value(reader, &item, depth, field, json_array_get(list, i), out);
        if (code != PDR_OK)
            return code;
    }
    return PDR_OK;
}

/* ---- messages ------------------------------------------------------------------------------- */

/* "unit_price" to "unitPrice", the name that protobuf's JSON mapping gives a field. False: it does not fit. */
static bool json_camel_name(const char *name, char *camel, size_t size)
{
    bool upper = false;
    size_t length = 0;
    for (; *name; name++) {
        if (*name == '_') {
            upper = true;
            continue;
        }
        if (length + 1 >= size)
            return false;
        camel[length++] = (char)(upper ? toupper((unsigned char)*name) : *name);
        upper = false;
    }
    camel[length] = '\0';
    return true;
}

static bool json_read_is_field(const FieldSchema *field, const char *key)
{
    char camel[256];
    return strcmp(field->name, key) == 0 || (json_camel_name(field->name, camel, sizeof camel) && strcmp(camel, key) == 0);
}

static int json_read_unknown(struct json_reader *reader, const struct json_place *place, const MessageSchema *message)
{
    struct buffer names = {0};
    for (size_t i = 0; i < message->n_fields; i++)
        buffer_format(&names, i ? ", %s" : "%s", message->fields[i]->name);
    char *list = buffer_take(&names);
    int code = list && *list ? json_read_fail(reader, place, "%s has no such field; it has: %s", message->name, list)
                             : json_read_fail(reader, place, "%s has no fields", message->name);
    free(list);
    return code;
}

/* Each key is a field, no field is named twice (in both spellings), no oneof is set twice. */
static int json_read_check_keys(struct json_reader *reader, const struct json_place *place,
                                const MessageSchema *message, const json_t *value)
{
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)value, key, item) {
        struct json_place at = {place, key, 0};
        const FieldSchema *field = NULL;
        for (size_t i = 0; i < message->n_fields && !field; i++)
            if (json_read_is_field(message->fields[i], key))
                field = message->fields[i];
        if (!field)
            return json_read_unknown(reader, &at, message);
        if (strcmp(key, field->name) != 0 && json_object_get(value, field->name))
            return json_read_fail(reader, &at, "the same field as %s", field->name);
        for (size_t i = 0; i < message->n_fields && field->oneof && !json_is_null(item); i++) {
            const FieldSchema *other = message->fields[i];
            const json_t *rival = json_object_get(value, other->name);
            if (other != field && other->oneof == field->oneof && rival && !json_is_null(rival))
                return json_read_fail(reader, &at, "only one of %s and %s may be set", field->name, other->name);
        }
    }
    return PDR_OK;
}

static const json_t *json_read_get(const json_t *object, const FieldSchema *field)
{
    char camel[256];
    const json_t *value = json_object_get(object, field->name);
    if (!value && json_camel_name(field->name, camel, sizeof camel))
        value = json_object_get(object, camel);
    return value && !json_is_null(value) ? value : NULL; /* null: the default, as in protobuf's mapping */
}

static int json_read_message(struct json_reader *reader, const struct json_place *place, int depth,
                             const MessageSchema *message, const json_t *value, struct buffer *out)
{
    if (depth > SCHEMA_DEPTH_LIMIT)
        return json_read_fail(reader, place, "nested more than %d deep", SCHEMA_DEPTH_LIMIT);
    if (!json_is_object(value))
        return json_read_fail(reader, place, "expected an object, not %s", json_read_kind(value));
    int code = json_read_check_keys(reader, place, message, value);
    for (size_t i = 0; i < message->n_fields && code == PDR_OK; i++) {
        const FieldSchema *field = message->fields[i];
        const json_t *item = json_read_get(value, field);
        struct json_place at = {place, field->name, 0};
        if (item && field->label == LABEL_REPEATED)
            code = json_read_repeated(reader, &at, depth, field, item, out);
        else if (item)
            code = json_read_value(reader, &at, depth, field, item, out);
        else if (field->label == LABEL_REQUIRED)
            code = json_read_fail(reader, &at, "is missing");
    }
    return code;
}

/* ---- payloads ------------------------------------------------------------------------------- */

static int json_read_builtin(struct json_reader *reader, enum builtin builtin, const json_t *value, const char *json,
                             struct buffer *out)
{
    switch (builtin) {
    case BUILTIN_NONE:
        if (value && !json_is_null(value) && !(json_is_object(value) && json_object_size(value) == 0))
            return json_read_fail(reader, NULL, "takes no input: expected null, not %s", json_read_kind(value));
        return PDR_OK;
    case BUILTIN_TEXT:
        if (!json_is_string(value))
            return json_read_fail(reader, NULL, "expected a string in quotes, not %s", json_read_kind(value));
        buffer_add(out, json_string_value(value), json_string_length(value));
        return PDR_OK;
    case BUILTIN_BYTES:
        return json_read_bytes(reader, NULL, value, out);
    default:
        buffer_json_compact(out, json, strlen(json)); /* numbers stay as they are written */
        return PDR_OK;
    }
}

/* In words of the user's, not of the parser's options. */
static const char *json_read_why(const json_error_t *where)
{
    switch (json_error_code(where)) {
    case json_error_invalid_utf8:
        return "there are bytes here that are not UTF-8";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "\\u0000 is not allowed: texts end at a zero";
    default:
        return where->text;
    }
}

/* `*out` NULL with PDR_OK: there is no text at all. */
static int json_read_text(struct json_reader *reader, const char *json, bool any_number, json_t **out)
{
    json_error_t where;
    size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | (any_number ? JSON_DECODE_INT_AS_REAL : 0);
    *out = NULL;
    if (json[strspn(json, " \t\r\n")] == '\0')
        return PDR_OK;
    *out = json_loads(json, flags, &where);
    if (*out)
        return PDR_OK;
    if (json_error_code(&where) == json_error_out_of_memory)
        return PDR_NO_MEMORY;
    bool large = json_error_code(&where) == json_error_numeric_overflow;
    snprintf(reader->error, reader->error_size, "line %d, column %d: %s%s", where.line, where.column, json_read_why(&where),
             large ? "; write a number above 9223372036854775807 as a string" : "");
    return PDR_FAILED;
}

int json_to_payload(const Schema *schema, const char *type, const char *json, void **data, size_t *size, char *error,
                    size_t error_size)
{
    struct json_reader reader = {schema, type, error, error_size};
    enum builtin builtin = schema_builtin(type);
    const MessageSchema *message = builtin ? NULL : schema_message(schema, type);
    struct buffer out = {0};
    json_t *value;
    *data = NULL;
    *size = 0;
    if (!builtin && !message)
        return json_read_fail(&reader, NULL, "this message type is not in the schema");
    int code = json_read_text(&reader, json, builtin == BUILTIN_JSON, &value);
    if (code != PDR_OK)
        return code;
    if (!value && builtin != BUILTIN_NONE)
        code = json_read_fail(&reader, NULL, "expected JSON, but there is no text");
    else
        code = message ? json_read_message(&reader, NULL, 1, message, value, &out)
                       : json_read_builtin(&reader, builtin, value, json, &out);
    json_decref(value);
    size_t length = out.size;
    char *taken = buffer_take(&out); /* one NUL behind the end: text is read as a C string */
    if (code == PDR_OK && !taken)
        code = PDR_NO_MEMORY;
    if (code != PDR_OK) {
        free(taken);
        return code;
    }
    *data = taken;
    *size = length;
    return PDR_OK;
}
