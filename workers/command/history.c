/*
 * perdure history
 */
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

static bool history_print(const struct session *session, const struct history *history)
{
    struct table table;
    struct buffer out = {0};
    const char *type, *build;
    bool done = true, json = session->arguments->json;
    history_names(history, &type, &build);
    if (!json)
        timeline_begin(&table);
    for (size_t i = 0; i < history->count && done; i++)
        for (size_t j = 0; j < history->records[i].record->n_events && done; j++) {
            const Event *event = history->records[i].events[j];
            if (!event)
                continue;
            if (!json) {
                timeline_event(&table, &session->catalog, type, build, event, "");
                continue;
            }
            show_event(&out, &session->catalog, type, build, event);
            done = show_print(&out);
        }
    if (!json) {
        table_print(&table, &out);
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
