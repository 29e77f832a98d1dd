/*
 * perdure export
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command/session.h"
#include "command/show.h"
#include "history_file.h"

static const struct flag export_flags[] = {
    {"output", "FILE", "where to write it; also -o FILE; - is standard output", false},
    {NULL, NULL, NULL, false},
};

static bool export_write(int file, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t done = write(file, data, size);
        if (done < 0 && errno != EINTR)
            return false;
        if (done > 0) {
            data += done;
            size -= (size_t)done;
        }
    }
    return true;
}

/* Written beside its place, then moved there: a file of that name is whole or the old one. */
static int export_save(const struct arguments *arguments, const char *path, const void *data, size_t size)
{
    char temporary[4200];
    if (strcmp(path, "-") == 0)
        return export_write(STDOUT_FILENO, data, size) ? EXIT_OK : session_output_failed(arguments);
    snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
    int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    bool done = file >= 0 && export_write(file, data, size) && fsync(file) == 0;
    if (file >= 0)
        done = close(file) == 0 && done;
    if (done && rename(temporary, path) == 0)
        return EXIT_OK;
    int code = session_fail(arguments, EXIT_USAGE, "cannot write %s: %s", path, strerror(errno));
    if (file >= 0)
        unlink(temporary);
    return code;
}

static int export_print(const struct session *session, const struct history *history, const char *path, size_t size)
{
    struct buffer out = {0};
    uint64_t events = 0;
    for (size_t i = 0; i < history->count; i++)
        events += history->records[i].record->n_events;
    if (strcmp(path, "-") == 0)
        return EXIT_OK;
    if (session->arguments->json) {
        buffer_byte(&out, '{');
        show_string(&out, "id", history->job);
        show_string(&out, "file", path);
        show_uint(&out, "events", events);
        show_uint(&out, "bytes", size);
        buffer_byte(&out, '}');
    } else {
        show_plain(&out, history->job);
        buffer_format(&out, ": %llu events in %s", (unsigned long long)events, path);
    }
    return session_print(session->arguments, &out);
}

static int export_run(struct arguments *arguments)
{
    const char *path = arguments_get(arguments, "output");
    struct session session;
    struct history *history = NULL;
    char error[300];
    size_t size = 0;
    if (!path)
        return arguments_wrong(arguments, "-o FILE is missing: where should the history go?");
    int code = session_open(arguments, SESSION_READS, &session);
    if (code != EXIT_OK)
        return code;
    code = client_history(session.client, arguments->positional[0], &history);
    if (code != EXIT_OK) {
        code = session_client_failed(&session);
    } else if ((code = session_catalog(&session)) != EXIT_OK) {
        /* said why */
    } else if (!history_is_whole(history, error, sizeof error)) {
        code = session_fail(arguments, EXIT_UNREACHABLE, "the log's history of \"%s\" is damaged: %s", history->job, error);
    } else {
        void *data = history_file_write(history, &session.catalog.registrations, arguments->log, &size);
        code = data ? export_save(arguments, path, data, size) : session_fail(arguments, EXIT_UNREACHABLE, "out of memory, or the history is above 1 GiB");
        free(data);
    }
    if (code == EXIT_OK)
        code = export_print(&session, history, path, size);
    history_free(history);
    session_close(&session);
    return code;
}

const struct verb verb_export = {
    .name = "export",
    .synopsis = "ID -o FILE [--json]",
    .summary = "write a job's history to a file",
    .help = "Writes the history of the job ID to a file that needs no log: its records as they stand in the journal, and\n"
            "the descriptions of its messages. `perdure replay` runs it.",
    .flags = export_flags,
    .least = 1,
    .most = 1,
    .run = export_run,
};
