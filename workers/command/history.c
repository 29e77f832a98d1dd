/*
 * perdure history
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/duration.h"
#include "command/session.h"
#include "command/show.h"

/* Type and build of the run, from its first event. */
static void history_names(const struct history *history, const char **type, const char **build)
{
    const Header *header = history->records[0].record->header;
    const Event *first = history->records[0].events[0];
    *type = header->type;
    *build = header->build;
    if (first && first->kind_case == PERDURE__V1__EVENT__KIND_STARTED) {
        *type = first->started->type;
        *build = first->started->build;
    }
}

static void history_row(struct table *table, const struct session *session, const char *type, const char *build,
                        const Event *event)
{
    char seq[30], clock[40];
    struct buffer site = {0}, detail = {0};
    snprintf(seq, sizeof seq, "%" PRIu64, event->seq);
    show_site_text(&site, event->site);
    show_event_text(&detail, &session->catalog, type, build, event);
    char *where = buffer_take(&site), *what = buffer_take(&detail);
    table_cell(table, seq);
    table_cell(table, time_clock(event->t, clock, sizeof clock));
    table_cell(table, event_kind_name(event));
    table_cell(table, event_name(event));
    table_cell(table, where ? where : "");
    table_cell(table, what ? what : "");
    free(where);
    free(what);
}

static bool history_print(const struct session *session, const struct history *history)
{
    static const char *const heading[] = {"SEQ", "TIME", "EVENT", "NAME", "SITE", "VALUE"};
    struct table table = {.columns = sizeof heading / sizeof *heading};
    struct buffer out = {0};
    const char *type, *build;
    bool done = true, json = session->arguments->json;
    history_names(history, &type, &build);
    for (size_t i = 0; i < table.columns && !json; i++)
        table_cell(&table, heading[i]);
    for (size_t i = 0; i < history->count && done; i++)
        for (size_t j = 0; j < history->records[i].record->n_events && done; j++) {
            const Event *event = history->records[i].events[j];
            if (!event)
                continue;
            if (!json) {
                history_row(&table, session, type, build, event);
                continue;
            }
            show_event(&out, &session->catalog, type, build, event);
            done = show_print(&out);
        }
    if (!json) {
        table_print(&table, &out);
        out.size -= out.size > 0;
        done = show_print(&out);
    }
    buffer_free(&out);
    return done;
}

static int history_run(struct arguments *arguments)
{
    struct session session;
    struct history *history = NULL;
    int code = session_open(arguments, SESSION_READS, &session);
    if (code != EXIT_OK)
        return code;
    code = client_history(session.client, arguments->positional[0], &history);
    if (code != EXIT_OK)
        code = session_client_failed(&session);
    else if ((code = session_catalog(&session)) == EXIT_OK && !history_print(&session, history))
        code = session_output_failed(arguments);
    history_free(history);
    session_close(&session);
    return code;
}

const struct verb verb_history = {
    .name = "history",
    .synopsis = "ID [--json]",
    .summary = "print a job's events",
    .help = "Prints the events of the job's newest run as they count in the journal, in order.\n\n"
            "--json prints one event a line: seq time type name site op, and the fields of its kind, as\n"
            "docs/command.md lists them. Times are milliseconds since 1970.",
    .least = 1,
    .most = 1,
    .run = history_run,
};
