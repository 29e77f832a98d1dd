/*
 * Real records, for the floors: what one job really left in its log.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "client/client.h"

static void row_fill(struct row *row, const void *data, size_t size, const Header *header, const char *job)
{
    static const char *const kinds[] = { [1] = "genesis", [2] = "claim", [3] = "release", [4] = "mark", [5] = "event" };
    *row = (struct row){ .size = size, .run = header->run, .seq = header->seq };
    row->data = malloc(size);
    if (!row->data)
        bench_fail("out of memory");
    memcpy(row->data, data, size);
    snprintf(row->job, sizeof row->job, "%s", job);
    snprintf(row->kind, sizeof row->kind, "%s", header->kind < 6 && header->kind ? kinds[header->kind] : "command");
    snprintf(row->name, sizeof row->name, "%s", header->name ? header->name : "");
}

void row_free(struct row *row)
{
    free(row->data);
    row->data = NULL;
}

size_t rows_of_job(const char *uri, const char *type, const char *job, const char *input, struct row *inbox,
                   struct row *rows, size_t limit)
{
    struct client_options options = { .name = "perdure-bench" };
    struct client *client;
    struct history *history;
    char error[600];
    if (client_open(uri, &options, &client, error, sizeof error) != EXIT_OK)
        bench_fail("%s", error);
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Start start = PERDURE__V1__START__INIT;
    Payload payload = PERDURE__V1__PAYLOAD__INIT;
    load_command(&command, &start, &payload, type, input);
    struct question *question = client_ask(client, job, &command);
    Status *status = NULL;
    if (!question || client_result(client, job, 30000, question, &status) != EXIT_OK)
        bench_fail("job %s: %s", job, client_error(client));
    row_fill(inbox, question->record, question->size, &question->header, job);
    status_free(status);
    client_forget(client, question);
    if (client_history(client, job, &history) != EXIT_OK)
        bench_fail("the history of %s: %s", job, client_error(client));
    size_t count = history->count < limit ? history->count : limit;
    for (size_t i = 0; i < count; i++)
        row_fill(&rows[i], history->records[i].data, history->records[i].size, history->records[i].record->header, job);
    history_free(history);
    client_close(client);
    return count;
}
