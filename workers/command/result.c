/*
 * perdure result
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/session.h"
#include "command/show.h"

static const struct flag result_flags[] = {
    {"wait", "DURATION", "wait so long for the end (default: do not wait)", false},
    {NULL, NULL, NULL, false},
};

static void result_text(struct buffer *out, const struct session *session, const Status *status)
{
    if (strcmp(status->state, "completed") == 0) {
        catalog_show(&session->catalog, status->type, status->build, status->result, out);
        return;
    }
    show_plain(out, status->id);
    buffer_format(out, " (");
    show_plain(out, status->type);
    buffer_format(out, "): %s%s", status->state, client_state_is_terminal(status->state) ? "" : ", it has not ended");
    if (status->error) {
        buffer_text(out, ": ");
        show_error_text(out, status->error);
    }
}

static int result_run(struct arguments *arguments)
{
    int64_t wait_ms;
    struct session session;
    Status *status = NULL;
    struct buffer out = {0};
    if (!arguments_duration(arguments, "wait", 0, &wait_ms))
        return EXIT_USAGE;
    int code = session_open(arguments, SESSION_WRITES, &session);
    if (code != EXIT_OK)
        return code;
    code = client_result(session.client, arguments->positional[0], wait_ms, NULL, &status);
    if (code != EXIT_OK && code != EXIT_TIMED_OUT) {
        code = session_client_failed(&session);
    } else if (session_catalog(&session) != EXIT_OK) {
        code = client_error_exit(session.client);
    } else {
        if (arguments->json)
            show_result(&out, &session.catalog, status);
        else
            result_text(&out, &session, status);
        code = session_print(arguments, &out);
        if (code == EXIT_OK)
            code = session_outcome(status);
    }
    status_free(status);
    session_close(&session);
    return code;
}

const struct verb verb_result = {
    .name = "result",
    .synopsis = "ID [--wait DURATION] [--json]",
    .summary = "print a job's result, or wait for it",
    .help = "Prints the result of the job ID as JSON. If the job did not end well, says how, and exits with 1; if it\n"
            "has not ended (yet), exits with 4. Without --wait it does not wait.\n\n"
            "--json prints {\"id\",\"type\",\"state\",\"result\"|\"error\"}, while the job has not ended without the last.",
    .flags = result_flags,
    .least = 1,
    .most = 1,
    .run = result_run,
};
