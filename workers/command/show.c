#include "command/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool show_print(struct buffer *out)
{
    buffer_byte(out, '\n');
    bool done = !out->failed && fwrite(out->data, 1, out->size, stdout) == out->size;
    out->size = 0;
    return done;
}

void show_plain(struct buffer *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f)
            buffer_format(out, "\\x%02x", c);
        else if (c == 0xc2 && ((unsigned char)text[1] & 0xe0) == 0x80) /* U+0080 to U+009F */
            buffer_format(out, "\\x%02x", (unsigned char)*++text);
        else
            buffer_byte(out, (char)c);
    }
}

/* ---- JSON ------------------------------------------------------------------------------------- */

void show_key(struct buffer *out, const char *name)
{
    if (out->size > 0 && out->data[out->size - 1] != '{')
        buffer_byte(out, ',');
    buffer_json_string(out, name, strlen(name));
    buffer_byte(out, ':');
}

void show_string(struct buffer *out, const char *name, const char *value)
{
    show_key(out, name);
    buffer_json_string(out, value, strlen(value));
}

void show_strings(struct buffer *out, const char *name, char *const *values, size_t count)
{
    show_key(out, name);
    buffer_byte(out, '[');
    for (size_t i = 0; i < count; i++) {
        buffer_text(out, i > 0 ? "," : "");
        buffer_json_string(out, values[i], strlen(values[i]));
    }
    buffer_byte(out, ']');
}

void show_int(struct buffer *out, const char *name, int64_t value)
{
    show_key(out, name);
    buffer_json_int64(out, value);
}

void show_uint(struct buffer *out, const char *name, uint64_t value)
{
    show_key(out, name);
    buffer_json_uint64(out, value);
}

void show_bool(struct buffer *out, const char *name, bool value)
{
    show_key(out, name);
    buffer_text(out, value ? "true" : "false");
}

void show_site(struct buffer *out, const char *name, const Site *site)
{
    show_key(out, name);
    if (!site) {
        buffer_text(out, "null");
        return;
    }
    buffer_byte(out, '{');
    show_string(out, "file", site->file);
    show_uint(out, "line", site->line);
    show_string(out, "function", site->function);
    buffer_byte(out, '}');
}

#define SHOW_CAUSES 16

static void show_error_object(struct buffer *out, const Error *error, int depth)
{
    buffer_byte(out, '{');
    show_string(out, "type", error->type);
    show_string(out, "message", error->message);
    show_int(out, "code", error->code);
    show_bool(out, "final", error->final);
    show_site(out, "site", error->site);
    show_key(out, "cause");
    if (error->cause && depth < SHOW_CAUSES)
        show_error_object(out, error->cause, depth + 1);
    else
        buffer_text(out, "null");
    buffer_byte(out, '}');
}

void show_error(struct buffer *out, const char *name, const Error *error)
{
    show_key(out, name);
    if (error)
        show_error_object(out, error, 0);
    else
        buffer_text(out, "null");
}

void show_payload(struct buffer *out, const char *name, const struct catalog *catalog, const char *job_type,
                  const char *build, const Payload *payload)
{
    show_key(out, name);
    catalog_show(catalog, job_type, build, payload, out);
}

/* Of a step that is executed outside. */
static void show_outside(struct buffer *out, const struct catalog *catalog, const Status *status, const Waiting *waiting)
{
    show_string(out, "queue", waiting->queue);
    show_string(out, "token", waiting->token);
    show_string(out, "phase", waiting->phase);
    show_string(out, "executor", waiting->executor);
    show_string(out, "declined", waiting->declined);
    show_key(out, "heard");
    if (waiting->heard)
        buffer_json_int64(out, waiting->heard);
    else
        buffer_text(out, "null");
    show_payload(out, "progress", catalog, status->type, status->build, waiting->progress);
}

static void show_waiting(struct buffer *out, const struct catalog *catalog, const Status *status, const Waiting *waiting)
{
    buffer_byte(out, '{');
    show_string(out, "kind", waiting->kind);
    show_string(out, "name", waiting->name);
    show_int(out, "since", waiting->since);
    show_key(out, "until");
    if (waiting->until)
        buffer_json_int64(out, waiting->until);
    else
        buffer_text(out, "null");
    show_uint(out, "attempt", waiting->attempt);
    show_error(out, "last_error", waiting->last_error);
    show_site(out, "site", waiting->site);
    show_string(out, "label", waiting->label);
    show_uint(out, "op", waiting->op);
    if (*waiting->limit)
        show_string(out, "limit", waiting->limit);
    if (*waiting->token)
        show_outside(out, catalog, status, waiting);
    buffer_byte(out, '}');
}

static void show_run(struct buffer *out, uint64_t run)
{
    char text[20];
    snprintf(text, sizeof text, "%016" PRIx64, run);
    show_string(out, "run", text);
}

void show_status(struct buffer *out, const struct catalog *catalog, const Status *status)
{
    buffer_byte(out, '{');
    show_string(out, "id", status->id);
    show_string(out, "type", status->type);
    show_string(out, "state", status->state);
    show_run(out, status->run);
    show_int(out, "created", status->created);
    show_int(out, "updated", status->updated);
    show_uint(out, "events", status->events);
    show_string(out, "worker", status->worker);
    show_string(out, "build", status->build);
    show_payload(out, "input", catalog, status->type, status->build, status->input);
    if (status->input_left_out)
        show_bool(out, "input_left_out", true);
    show_key(out, "waiting");
    buffer_byte(out, '[');
    for (size_t i = 0; i < status->n_waiting; i++) {
        buffer_text(out, i ? "," : "");
        show_waiting(out, catalog, status, status->waiting[i]);
    }
    buffer_byte(out, ']');
    if (strcmp(status->state, "completed") == 0)
        show_payload(out, "result", catalog, status->type, status->build, status->result);
    if (status->error)
        show_error(out, "error", status->error);
    if (*status->report)
        show_string(out, "report", status->report);
    buffer_byte(out, '}');
}

void show_result(struct buffer *out, const struct catalog *catalog, const Status *status)
{
    buffer_byte(out, '{');
    show_string(out, "id", status->id);
    show_string(out, "type", status->type);
    show_string(out, "state", status->state);
    if (strcmp(status->state, "completed") == 0)
        show_payload(out, "result", catalog, status->type, status->build, status->result);
    else if (client_state_is_terminal(status->state) || status->error)
        show_error(out, "error", status->error);
    buffer_byte(out, '}');
}

/* ---- text ------------------------------------------------------------------------------------- */

void show_error_text(struct buffer *out, const Error *error)
{
    for (int depth = 0; error && depth < SHOW_CAUSES; error = error->cause, depth++) {
        buffer_text(out, depth ? "; because of " : "");
        show_plain(out, error->type);
        if (*error->message) {
            buffer_text(out, *error->type ? ": " : "");
            show_plain(out, error->message);
        }
        if (error->site && *error->site->file) {
            buffer_text(out, " at ");
            show_site_text(out, error->site);
        }
    }
}

void show_site_text(struct buffer *out, const Site *site)
{
    if (!site || !*site->file)
        return;
    show_plain(out, site->file);
    buffer_format(out, ":%" PRIu32, site->line);
}
