/*
 * Jobs and events, as JSON and as text for people.
 */
#ifndef PERDURE_COMMAND_SHOW_H
#define PERDURE_COMMAND_SHOW_H

#include "command/catalog.h"

/* `"name":` with a comma before it unless an object has just begun. */
void show_key(struct buffer *out, const char *name);
void show_string(struct buffer *out, const char *name, const char *value);
void show_int(struct buffer *out, const char *name, int64_t value);
void show_uint(struct buffer *out, const char *name, uint64_t value);
void show_strings(struct buffer *out, const char *name, char *const *values, size_t count);
void show_bool(struct buffer *out, const char *name, bool value);
/* null for NULL */
void show_error(struct buffer *out, const char *name, const Error *error);
void show_site(struct buffer *out, const char *name, const Site *site);
void show_payload(struct buffer *out, const char *name, const struct catalog *catalog, const char *job_type,
                  const char *build, const Payload *payload);

/* The object that `describe --json` and `list --json` print. */
void show_status(struct buffer *out, const struct catalog *catalog, const Status *status);
/* The object that `result --json` prints. */
void show_result(struct buffer *out, const struct catalog *catalog, const Status *status);
/* The object that `history --json` prints for one event. */
void show_event(struct buffer *out, const struct catalog *catalog, const char *job_type, const char *build,
                const Event *event);
/* What an event carries, on one line for people: values as JSON, errors as sentences. */
void show_event_text(struct buffer *out, const struct catalog *catalog, const char *job_type, const char *build,
                     const Event *event);
/* "BadAmount: -5 cents" with its causes. */
void show_error_text(struct buffer *out, const Error *error);
void show_site_text(struct buffer *out, const Site *site);

/* Text with the control characters taken out that a terminal would obey. */
void show_plain(struct buffer *out, const char *text);

/* Prints the text and a line end, and empties it. False: standard output cannot be written, or out of memory. */
bool show_print(struct buffer *out);

/* ---- tables ----------------------------------------------------------------------------------- */

#define TABLE_COLUMNS 8
struct table {
    size_t columns;
    size_t count; /* cells, row by row; the first row is the heading */
    size_t capacity;
    char **cells;
    bool failed;
};
void table_cell(struct table *table, const char *text);
/* Columns as wide as their widest cell; the last one is not padded, nor has the last row a line end: show_print() makes it. Frees
 * the table. */
void table_print(struct table *table, struct buffer *out);

/* The heading of a timeline, and one event of it; `mark` stands before its number. */
void timeline_begin(struct table *table);
void timeline_event(struct table *table, const struct catalog *catalog, const char *job_type, const char *build,
                    const Event *event, const char *mark);

#endif
