/*
 * perdure describe
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/duration.h"
#include "command/session.h"
#include "command/show.h"

static void describe_line(struct buffer *out, const char *name, const char *value)
{
    if (!*value)
        return;
    buffer_format(out, "%-9s ", name);
    show_plain(out, value);
    buffer_byte(out, '\n');
}

/* "step shop/charge at shop.c:41" and under it since when, until when, which attempt, the last error. */
static void describe_outside(struct buffer *out, const struct catalog *catalog, const Status *status,
                             const Waiting *waiting, int64_t now)
{
    char text[100];
    if (*waiting->queue) {
        buffer_text(out, "\n      queue ");
        show_plain(out, waiting->queue);
        buffer_text(out, *waiting->phase ? ", " : "");
        show_plain(out, waiting->phase);
    }
    if (*waiting->executor) {
        buffer_text(out, " by ");
        show_plain(out, waiting->executor);
    }
    if (*waiting->declined) {
        buffer_text(out, "\n      declined by ");
        show_plain(out, waiting->declined);
    }
    if (waiting->heard)
        buffer_format(out, "\n      last heard of %s", time_text(waiting->heard, now, text, sizeof text));
    if (waiting->progress) {
        buffer_text(out, "\n      progress ");
        catalog_show(catalog, status->type, status->build, waiting->progress, out);
    }
    buffer_text(out, "\n      token ");
    show_plain(out, waiting->token);
}

static void describe_waiting(struct buffer *out, const struct catalog *catalog, const Status *status,
                             const Waiting *waiting, int64_t now)
{
    char text[100];
    buffer_text(out, "  ");
    show_plain(out, waiting->kind);
    buffer_text(out, *waiting->name ? " " : "");
    show_plain(out, waiting->name);
    if (*waiting->label) {
        buffer_text(out, " \"");
        show_plain(out, waiting->label);
        buffer_text(out, "\"");
    }
    if (waiting->site && *waiting->site->file) {
        buffer_text(out, " at ");
        show_site_text(out, waiting->site);
        buffer_text(out, *waiting->site->function ? " in " : "");
        show_plain(out, waiting->site->function);
    }
    if (strcmp(waiting->kind, "resume") == 0)
        buffer_text(out, ": it stands still until `perdure resume`");
    buffer_format(out, "\n      since %s", time_text(waiting->since, now, text, sizeof text));
    if (waiting->until)
        buffer_format(out, "\n      until %s", time_text(waiting->until, now, text, sizeof text));
    if (waiting->attempt > 1 || waiting->last_error)
        buffer_format(out, "\n      attempt %" PRIu32, waiting->attempt);
    if (waiting->last_error) {
        buffer_text(out, "\n      last error: ");
        show_error_text(out, waiting->last_error);
    }
    if (*waiting->limit) {
        buffer_text(out, "\n      not begun: no room in ");
        show_plain(out, waiting->limit);
    }
    if (*waiting->token)
        describe_outside(out, catalog, status, waiting, now);
    buffer_byte(out, '\n');
}

static void describe_value(struct buffer *out, const struct catalog *catalog, const Status *status, const char *name,
                           const Payload *payload)
{
    buffer_format(out, "%-9s ", name);
    catalog_show(catalog, status->type, status->build, payload, out);
    buffer_byte(out, '\n');
}

static void describe_text(struct buffer *out, const struct catalog *catalog, const Status *status)
{
    char text[120];
    int64_t now = client_wall_ms();
    describe_line(out, "id", status->id);
    describe_line(out, "type", status->type);
    describe_line(out, "state", strcmp(status->state, "queued") == 0 ? "queued (in the log; no worker has taken it yet)"
                                                                      : status->state);
    describe_line(out, "created", time_text(status->created, now, text, sizeof text));
    describe_line(out, "updated", time_text(status->updated, now, text, sizeof text));
    snprintf(text, sizeof text, "%" PRIu64, status->events);
    describe_line(out, "events", text);
    describe_line(out, "worker", status->worker);
    describe_line(out, "build", status->build);
    if (status->input_left_out)
        describe_line(out, "input", "too large to stand beside the rest: see `perdure history`");
    else
        describe_value(out, catalog, status, "input", status->input);
    if (strcmp(status->state, "completed") == 0)
        describe_value(out, catalog, status, "result", status->result);
    if (status->error) {
        buffer_format(out, "%-9s ", "error");
        show_error_text(out, status->error);
        buffer_byte(out, '\n');
    }
    if (status->n_waiting > 0)
        buffer_text(out, "waiting\n");
    for (size_t i = 0; i < status->n_waiting; i++)
        describe_waiting(out, catalog, status, status->waiting[i], now);
    if (*status->report) {
        buffer_text(out, "report\n");
        for (const char *line = status->report; *line;) { /* several lines, ours: only their ends are kept */
            char copy[1000];
            size_t length = strcspn(line, "\n");
            snprintf(copy, sizeof copy, "%.*s", (int)(length < 900 ? length : 900), line);
            buffer_text(out, "  ");
            show_plain(out, copy);
            buffer_byte(out, '\n');
            line += length + (line[length] == '\n');
        }
    }
    if (out->size > 0)
        out->size--; /* the last line end is printed */
}

static int describe_run(struct arguments *arguments)
{
    struct session session;
    Status *status = NULL;
    struct buffer out = {0};
    int code = session_open(arguments, SESSION_READS, &session);
    if (code != EXIT_OK)
        return code;
    code = client_describe(session.client, arguments->positional[0], &status);
    if (code != EXIT_OK) {
        code = session_client_failed(&session);
    } else if ((code = session_catalog(&session)) == EXIT_OK) {
        if (arguments->json)
            show_status(&out, &session.catalog, status);
        else
            describe_text(&out, &session.catalog, status);
        code = session_print(arguments, &out);
    }
    status_free(status);
    session_close(&session);
    return code;
}

const struct verb verb_describe = {
    .name = "describe",
    .synopsis = "ID [--json]",
    .summary = "show a job: state, what it waits for, input, result",
    .help = "Shows what is known of the job ID, also with no worker alive: it is read from the log.\n\n"
            "--json prints one object: id type state run created updated events worker build input waiting, and result,\n"
            "error or report where there is one. waiting is a list of\n"
            "{kind,name,since,until,attempt,last_error,site:{file,line,function},label,op}, of a step or job that a limit of\n"
            "its worker keeps from beginning also limit, of a step that is executed outside also queue token phase executor\n"
            "declined heard progress. Times are milliseconds since 1970.",
    .least = 1,
    .most = 1,
    .run = describe_run,
};
