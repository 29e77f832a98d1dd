/*
 * perdure queues
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/session.h"
#include "command/show.h"
#include "log/kafka.h"

struct queues {
    struct table table;
    struct buffer out;
    bool json, printed;
};

static void queues_show_json(struct queues *queues, const struct kafka_queue_state *state)
{
    struct buffer *out = &queues->out;
    buffer_byte(out, '{');
    show_string(out, "queue", state->queue);
    show_int(out, "partitions", state->partitions);
    show_int(out, "waiting", state->waiting);
    show_strings(out, "workers", state->workers, state->worker_count);
    buffer_byte(out, '}');
    queues->printed = queues->printed && show_print(out);
}

static void queues_show_row(struct queues *queues, const struct kafka_queue_state *state)
{
    struct buffer names = {0};
    char text[30];
    table_cell(&queues->table, state->queue);
    snprintf(text, sizeof text, "%" PRId64, state->waiting);
    table_cell(&queues->table, text);
    snprintf(text, sizeof text, "%d", state->partitions);
    table_cell(&queues->table, text);
    for (size_t i = 0; i < state->worker_count; i++) {
        buffer_text(&names, i > 0 ? ", " : "");
        buffer_text(&names, state->workers[i]);
    }
    char *whole = buffer_take(&names);
    table_cell(&queues->table, whole && *whole ? whole : "nobody");
    free(whole);
}

static bool queues_visit(void *context, const struct kafka_queue_state *state)
{
    struct queues *queues = context;
    (queues->json ? queues_show_json : queues_show_row)(queues, state);
    return queues->printed;
}

static int queues_run(struct arguments *arguments)
{
    static const char *const heading[] = {"QUEUE", "WAITING", "PARTITIONS", "WORKERS"};
    struct queues queues = {
        .table = {.columns = sizeof heading / sizeof *heading}, .json = arguments->json, .printed = true,
    };
    char text[2000] = "";
    if (strncmp(arguments->log, "kafka:", 6) != 0)
        return arguments_wrong(arguments, "an embedded log has no queues; steps of a queue run in its worker");
    for (size_t i = 0; i < queues.table.columns && !arguments->json; i++)
        table_cell(&queues.table, heading[i]);
    int code = kafka_queues_each(arguments->log, queues_visit, &queues, text, sizeof text);
    if (code != EXIT_OK)
        code = session_fail(arguments, code, "%s", text);
    return session_finish_rows(arguments, code, queues.printed, &queues.table, &queues.out);
}

const struct verb verb_queues = {
    .name = "queues",
    .synopsis = "[--json]",
    .summary = "show the queues of remote steps, and who serves them",
    .help = "Shows of each queue how many of its tasks are not reported yet, those that run and those that nobody has taken, and\n"
            "the step workers in its group. Jobs hold back what is more than --queue-limit allows: that is not counted here;\n"
            "`perdure describe` shows it. Kafka only.\n\n"
            "--json prints one object a line: queue partitions waiting workers.",
    .run = queues_run,
};
