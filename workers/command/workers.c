/*
 * perdure workers
 */
#include <inttypes.h>
#include <stdio.h>

#include "command/duration.h"
#include "command/session.h"
#include "command/show.h"

struct workers {
    struct table table;
    struct buffer out;
    bool json, printed;
};

static void workers_show_json(struct workers *workers, const struct owner *owner, int64_t waiting)
{
    struct buffer *out = &workers->out;
    buffer_byte(out, '{');
    show_uint(out, "partition", owner->partition);
    show_bool(out, "owned", owner->owned);
    show_string(out, "worker", owner->worker ? owner->worker : "");
    show_string(out, "version", owner->version ? owner->version : "");
    show_int(out, "since", owner->since);
    show_int(out, "last", owner->last);
    show_int(out, "journal", owner->journal_end - owner->journal_start);
    show_int(out, "commands_waiting", waiting);
    buffer_byte(out, '}');
    workers->printed = workers->printed && show_print(out);
}

/* By the log's clock, which may be a little ahead. */
static const char *workers_age(int64_t time, char *text, size_t size)
{
    int64_t now = client_wall_ms();
    return time ? time_relative(time, time > now ? time : now, text, size) : "-";
}

static void workers_show_row(struct workers *workers, const struct owner *owner, int64_t waiting)
{
    char partition[20], text[300], journal[30], commands[30];
    snprintf(partition, sizeof partition, "%u", owner->partition);
    snprintf(journal, sizeof journal, "%" PRId64, owner->journal_end - owner->journal_start);
    snprintf(commands, sizeof commands, "%" PRId64, waiting);
    snprintf(text, sizeof text, "%s%.200s%s", owner->owned ? "" : "nobody", owner->owned ? owner->worker : "",
             owner->owned || !owner->worker ? "" : " (given back)");
    table_cell(&workers->table, partition);
    table_cell(&workers->table, text);
    table_cell(&workers->table, workers_age(owner->since, text, sizeof text));
    table_cell(&workers->table, workers_age(owner->last, text, sizeof text));
    table_cell(&workers->table, journal);
    table_cell(&workers->table, commands);
}

static bool workers_visit(void *context, const struct owner *owner)
{
    struct workers *workers = context;
    int64_t waiting = owner->inbox_end > owner->inbox_done ? owner->inbox_end - owner->inbox_done : 0;
    (workers->json ? workers_show_json : workers_show_row)(workers, owner, waiting);
    return workers->printed;
}

static int workers_run(struct arguments *arguments)
{
    static const char *const heading[] = {"PARTITION", "WORKER", "SINCE", "WROTE", "JOURNAL", "COMMANDS WAITING"};
    struct session session;
    struct workers workers = {
        .table = {.columns = sizeof heading / sizeof *heading}, .json = arguments->json, .printed = true,
    };
    int code = session_open(arguments, SESSION_READS, &session);
    if (code != EXIT_OK)
        return code;
    for (size_t i = 0; i < workers.table.columns && !arguments->json; i++)
        table_cell(&workers.table, heading[i]);
    if (client_owners(session.client, workers_visit, &workers) != EXIT_OK)
        code = session_client_failed(&session);
    code = session_finish_rows(arguments, code, workers.printed, &workers.table, &workers.out);
    session_close(&session);
    return code;
}

const struct verb verb_workers = {
    .name = "workers",
    .synopsis = "[--json]",
    .summary = "show who owns which partition",
    .help = "Shows of each partition the worker that owns it, since when, when that wrote last, how many records its journal\n"
            "has, and how many commands lie in its inbox that were not taken yet. It is read from the log: one that has died a\n"
            "moment ago is shown until another has claimed its partition, and one with nothing to do writes nothing.\n\n"
            "--json prints one object a line: partition owned worker version since last journal commands_waiting. Times are\n"
            "milliseconds since 1970, 0: never.",
    .run = workers_run,
};
