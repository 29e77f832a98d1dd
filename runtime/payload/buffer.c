#include "payload/buffer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool buffer_reserve(struct buffer *buffer, size_t more)
{
    if (buffer->failed)
        return false;
    if (buffer->capacity - buffer->size >= more)
        return true;
    if (more > SIZE_MAX / 2 - buffer->size) {
        buffer->failed = true;
        return false;
    }
    size_t capacity = buffer->capacity ? buffer->capacity * 2 : 64;
    while (capacity < buffer->size + more)
        capacity *= 2;
    char *data = realloc(buffer->data, capacity);
    if (!data) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void buffer_add(struct buffer *buffer, const void *data, size_t size)
{
    if (size == 0 || !buffer_reserve(buffer, size))
        return;
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

void buffer_text(struct buffer *buffer, const char *text)
{
    buffer_add(buffer, text, strlen(text));
}

void buffer_byte(struct buffer *buffer, char byte)
{
    buffer_add(buffer, &byte, 1);
}

void buffer_format_list(struct buffer *buffer, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    if (length >= 0 && buffer_reserve(buffer, (size_t)length + 1)) {
        vsnprintf(buffer->data + buffer->size, (size_t)length + 1, format, again);
        buffer->size += (size_t)length;
    } else {
        buffer->failed = true;
    }
    va_end(again);
}

void buffer_format(struct buffer *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    buffer_format_list(buffer, format, arguments);
    va_end(arguments);
}

char *buffer_take(struct buffer *buffer)
{
    buffer_byte(buffer, '\0');
    char *data = buffer->data;
    if (buffer->failed) {
        free(data);
        data = NULL;
    }
    *buffer = (struct buffer){0};
    return data;
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

void buffer_varint(struct buffer *buffer, uint64_t value)
{
    while (value >= 0x80) {
        buffer_byte(buffer, (char)(value | 0x80));
        value >>= 7;
    }
    buffer_byte(buffer, (char)value);
}

/* Length of the UTF-8 sequence at `text`, 0 when it is none; its code point in `*code`. */
static size_t buffer_utf8(const unsigned char *text, size_t size, uint32_t *code)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = text[0] < 0x80 ? 1 : text[0] < 0xc0 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : text[0] < 0xf8 ? 4 : 0;
    if (length == 0 || length > size)
        return 0;
    uint32_t value = length == 1 ? text[0] : text[0] & (0xffU >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (text[i] & 0x3f);
    }
    if (value < smallest[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    *code = value;
    return length;
}

static void buffer_json_code(struct buffer *buffer, uint32_t code)
{
    static const char *const named[] = {['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r"};
    if (code < sizeof named / sizeof *named && named[code])
        buffer_text(buffer, named[code]);
    else
        buffer_format(buffer, "\\u%04" PRIx32, code);
}

void buffer_json_string(struct buffer *buffer, const char *text, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)text;
    buffer_byte(buffer, '"');
    for (size_t i = 0; i < size;) {
        uint32_t code = 0;
        size_t length = buffer_utf8(bytes + i, size - i, &code);
        if (length == 0) {
            buffer_text(buffer, "\xef\xbf\xbd");
            length = 1;
        } else if (code == '"' || code == '\\') {
            buffer_byte(buffer, '\\');
            buffer_byte(buffer, (char)code);
        } else if (code < 0x20 || (code >= 0x7f && code < 0xa0)) {
            buffer_json_code(buffer, code);
        } else {
            buffer_add(buffer, text + i, length);
        }
        i += length;
    }
    buffer_byte(buffer, '"');
}

static bool buffer_json_special(struct buffer *buffer, double value)
{
    if (isnan(value))
        buffer_text(buffer, "\"NaN\"");
    else if (isinf(value))
        buffer_text(buffer, value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    else
        return false;
    return true;
}

void buffer_json_double(struct buffer *buffer, double value)
{
    char text[40];
    if (buffer_json_special(buffer, value))
        return;
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (memcmp(&back, &value, sizeof value) == 0)
            break;
    }
    buffer_text(buffer, text);
}

void buffer_json_float(struct buffer *buffer, float value)
{
    char text[40];
    if (buffer_json_special(buffer, (double)value))
        return;
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        float back = strtof(text, NULL);
        if (memcmp(&back, &value, sizeof value) == 0)
            break;
    }
    buffer_text(buffer, text);
}

#define BUFFER_EXACT_LIMIT (INT64_C(1) << 53)

void buffer_json_int64(struct buffer *buffer, int64_t value)
{
    bool exact = value > -BUFFER_EXACT_LIMIT && value < BUFFER_EXACT_LIMIT;
    buffer_format(buffer, exact ? "%" PRId64 : "\"%" PRId64 "\"", value);
}

void buffer_json_uint64(struct buffer *buffer, uint64_t value)
{
    bool exact = value < (uint64_t)BUFFER_EXACT_LIMIT;
    buffer_format(buffer, exact ? "%" PRIu64 : "\"%" PRIu64 "\"", value);
}

void buffer_json_compact(struct buffer *buffer, const char *text, size_t size)
{
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (quoted && c == '\\' && i + 1 < size) {
            buffer_add(buffer, text + i++, 2);
            continue;
        }
        if (c == '"')
            quoted = !quoted;
        if (quoted || (c != ' ' && c != '\t' && c != '\n' && c != '\r'))
            buffer_byte(buffer, c);
    }
}
