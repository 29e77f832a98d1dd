#include "command/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "command/show.h"

int session_fail(const struct arguments *arguments, int exit_code, const char *format, ...)
{
    va_list list;
    fflush(stdout);
    fprintf(stderr, "perdure %s: ", arguments->verb->name);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    return exit_code;
}

int session_output_failed(const struct arguments *arguments)
{
    return session_fail(arguments, EXIT_UNREACHABLE, "cannot write the output: %s", strerror(errno));
}

int session_print(const struct arguments *arguments, struct buffer *out)
{
    bool done = show_print(out);
    buffer_free(out);
    return done ? EXIT_OK : session_output_failed(arguments);
}

int session_finish_rows(const struct arguments *arguments, int code, bool printed, struct table *table, struct buffer *out)
{
    if (!arguments->json) {
        table_print(table, out);
        printed = code != EXIT_OK || show_print(out);
    }
    buffer_free(out);
    return code == EXIT_OK && !printed ? session_output_failed(arguments) : code;
}

int session_outcome(const Status *status)
{
    if (!client_state_is_terminal(status->state))
        return EXIT_TIMED_OUT;
    return strcmp(status->state, "completed") == 0 ? EXIT_OK : EXIT_JOB_FAILED;
}

int session_client_failed(const struct session *session)
{
    return session_fail(session->arguments, client_error_exit(session->client), "%s", client_error(session->client));
}

int session_open(const struct arguments *arguments, enum session_access access, struct session *session)
{
    char error[600];
    struct client_options options = {.name = "perdure", .read_only = access == SESSION_READS};
    *session = (struct session){.arguments = arguments};
    int code = client_open(arguments->log, &options, &session->client, error, sizeof error);
    if (code != EXIT_OK)
        return session_fail(arguments, code, "%s", error);
    return EXIT_OK;
}

int session_catalog(struct session *session)
{
    return catalog_open(session->client, &session->catalog) == EXIT_OK ? EXIT_OK : session_client_failed(session);
}

void session_close(struct session *session)
{
    catalog_close(&session->catalog);
    client_close(session->client);
}
