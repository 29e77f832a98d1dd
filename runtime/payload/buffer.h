/*
 * A growing run of bytes. After a failed allocation it stays as it was and says so once, at the end.
 */
#ifndef PERDURE_BUFFER_H
#define PERDURE_BUFFER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    char *data; /* NULL while nothing was added */
    size_t size;
    size_t capacity;
    bool failed; /* out of memory: what followed was dropped */
};

void buffer_add(struct buffer *buffer, const void *data, size_t size);
void buffer_text(struct buffer *buffer, const char *text);
void buffer_byte(struct buffer *buffer, char byte);
void buffer_format(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_format_list(struct buffer *buffer, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
/* Ends the text with NUL and hands it over, to be freed with free(). NULL: out of memory. */
char *buffer_take(struct buffer *buffer);
void buffer_free(struct buffer *buffer);

/* Protobuf's variable-length integer. */
void buffer_varint(struct buffer *buffer, uint64_t value);
/* Quoted and escaped for JSON. What is no UTF-8 becomes U+FFFD; control characters, also those a terminal would obey,
 * are escaped. */
void buffer_json_string(struct buffer *buffer, const char *text, size_t size);
/* Shortest decimal form that reads back as the same number; "NaN", "Infinity" and "-Infinity" in quotes. */
void buffer_json_double(struct buffer *buffer, double value);
void buffer_json_float(struct buffer *buffer, float value);
/* A number up to 2^53 - 1, which every JSON reader holds exactly, and a string beyond. */
void buffer_json_int64(struct buffer *buffer, int64_t value);
void buffer_json_uint64(struct buffer *buffer, uint64_t value);
/* JSON text without the white space between its tokens. `text` must be valid. */
void buffer_json_compact(struct buffer *buffer, const char *text, size_t size);

#endif
