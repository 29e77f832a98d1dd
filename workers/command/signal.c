/*
 * perdure signal, cancel, terminate, resume: commands to a job that is there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/session.h"
#include "command/show.h"
#include "payload/schema.h"

static int signal_print(const struct session *session, const char *id, const char *state, const char *note)
{
    struct buffer out = {0};
    if (session->arguments->json) {
        buffer_byte(&out, '{');
        show_string(&out, "id", id);
        show_string(&out, "answer", state);
        buffer_byte(&out, '}');
    } else {
        show_plain(&out, id);
        buffer_format(&out, ": %s", note);
    }
    return session_print(session->arguments, &out);
}

int session_settle(const struct session *session, const char *id, struct question *question, const char *done)
{
    switch (client_wait(session->client, question, CLIENT_TIMEOUT_MS, CLIENT_PATIENCE_MS)) {
    case CLIENT_ANSWERED:
        if (strcmp(question->answer->answer, "refused") == 0)
            return session_fail(session->arguments, client_refusal_exit(question->answer->error), "%s",
                                question->answer->error ? question->answer->error->message : "refused");
        return signal_print(session, id, "accepted", done);
    case CLIENT_QUEUED:
        return signal_print(session, id, "queued", "the command is in the log and waits for a worker: none has answered yet");
    case CLIENT_SENT_NOWHERE:
        return session_fail(session->arguments, EXIT_UNREACHABLE, "the log did not take the command within %d s",
                            (int)(CLIENT_TIMEOUT_MS / 1000));
    default:
        return session_client_failed(session);
    }
}

/* Asks and waits for the owner's answer. */
static int signal_send(const struct session *session, const char *id, Command *command, const char *done)
{
    if (arguments_get(session->arguments, "request"))
        command->request = (char *)arguments_get(session->arguments, "request");
    struct question *question = client_ask(session->client, id, command);
    return question ? session_settle(session, id, question, done) : session_client_failed(session);
}

/* ---- signal ------------------------------------------------------------------------------------- */

static const struct flag signal_flags[] = {
    {"input", "JSON|@FILE", "what the signal carries: a JSON value, or the file that holds it", false},
    {"request", "NAME", "name of this request; repeated under the same name it is done once", false},
    {NULL, NULL, NULL, false},
};

/* JSON; whether it fits, the job finds out when it receives it. */
static int signal_payload(const struct arguments *arguments, char **text, Payload *payload)
{
    char error[1000];
    perdure__v1__payload__init(payload);
    int code = catalog_unchecked(text, payload, error, sizeof error);
    return code == PDR_OK ? EXIT_OK
                          : session_fail(arguments, EXIT_USAGE, "--input: %s", code == PDR_FAILED ? error : "out of memory");
}

static int signal_run(struct arguments *arguments)
{
    const char *id = arguments->positional[0];
    char *name = arguments->positional[1];
    struct session session;
    Perdure__V1__Signal signal = PERDURE__V1__SIGNAL__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    Payload payload;
    char *text = arguments_input(arguments, "input");
    if (!text)
        return EXIT_USAGE;
    int code = session_open(arguments, SESSION_WRITES, &session);
    if (code != EXIT_OK) {
        free(text);
        return code;
    }
    code = signal_payload(arguments, &text, &payload);
    if (code == EXIT_OK) {
        signal.name = name;
        signal.payload = &payload;
        command.kind_case = PERDURE__V1__COMMAND__KIND_SIGNAL;
        command.signal = &signal;
        code = signal_send(&session, id, &command, "signalled");
        free(payload.data.data);
    }
    free(text);
    session_close(&session);
    return code;
}

const struct verb verb_signal = {
    .name = "signal",
    .synopsis = "ID NAME [--input JSON|@FILE] [--json]",
    .summary = "send a signal to a job",
    .help = "Sends the signal NAME to the job ID. It is kept in order until the job receives it. That it is JSON is checked;\n"
            "whether it fits the signal's message, the job finds out: its receive fails (BadPayload) if it does not.\n\n"
            "--json prints {\"id\",\"answer\"}; the answer is \"accepted\", or \"queued\" while no worker is there.",
    .flags = signal_flags,
    .least = 2,
    .most = 2,
    .run = signal_run,
};

/* ---- cancel, terminate, resume -------------------------------------------------------------------------- */

static const struct flag reason_flags[] = {
    {"reason", "TEXT", "why; stands in the job's history", false},
    {"request", "NAME", "name of this request; repeated under the same name it is done once", false},
    {NULL, NULL, NULL, false},
};

static int cancel_run(struct arguments *arguments)
{
    Perdure__V1__Cancel cancel = PERDURE__V1__CANCEL__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    struct session session;
    if (arguments_get(arguments, "reason"))
        cancel.reason = (char *)arguments_get(arguments, "reason");
    command.kind_case = PERDURE__V1__COMMAND__KIND_CANCEL;
    command.cancel = &cancel;
    int code = session_open(arguments, SESSION_WRITES, &session);
    if (code != EXIT_OK)
        return code;
    code = signal_send(&session, arguments->positional[0], &command, "asked to stop");
    session_close(&session);
    return code;
}

static int terminate_run(struct arguments *arguments)
{
    Perdure__V1__Terminate terminate = PERDURE__V1__TERMINATE__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    struct session session;
    if (arguments_get(arguments, "reason"))
        terminate.reason = (char *)arguments_get(arguments, "reason");
    command.kind_case = PERDURE__V1__COMMAND__KIND_TERMINATE;
    command.terminate = &terminate;
    int code = session_open(arguments, SESSION_WRITES, &session);
    if (code != EXIT_OK)
        return code;
    code = signal_send(&session, arguments->positional[0], &command, "terminated");
    session_close(&session);
    return code;
}

static int resume_run(struct arguments *arguments)
{
    Perdure__V1__Resume resume = PERDURE__V1__RESUME__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    struct session session;
    if (arguments_get(arguments, "reason"))
        resume.reason = (char *)arguments_get(arguments, "reason");
    command.kind_case = PERDURE__V1__COMMAND__KIND_RESUME;
    command.resume = &resume;
    int code = session_open(arguments, SESSION_WRITES, &session);
    if (code != EXIT_OK)
        return code;
    code = signal_send(&session, arguments->positional[0], &command, "tries again");
    session_close(&session);
    return code;
}

const struct verb verb_resume = {
    .name = "resume",
    .synopsis = "ID [--reason TEXT] [--json]",
    .summary = "let a job try again that is quarantined or diverged",
    .help = "Lets the job ID go on from where its history ends: after its crashes, when its code is repaired or what it\n"
            "met is gone; after a divergence, when a worker has code that agrees with its history. Its crashes are counted\n"
            "anew. A job that is neither quarantined nor diverged is refused.\n\n"
            "--json prints {\"id\",\"answer\"}; the answer is \"accepted\", or \"queued\" while no worker is there.",
    .flags = reason_flags,
    .least = 1,
    .most = 1,
    .run = resume_run,
};

const struct verb verb_cancel = {
    .name = "cancel",
    .synopsis = "ID [--reason TEXT] [--json]",
    .summary = "ask a job to stop",
    .help = "Asks the job ID to stop: its awaits return that it is cancelled, its compensations run, then it ends.\n\n"
            "--json prints {\"id\",\"answer\"}; the answer is \"accepted\", or \"queued\" while no worker is there.",
    .flags = reason_flags,
    .least = 1,
    .most = 1,
    .run = cancel_run,
};

const struct verb verb_terminate = {
    .name = "terminate",
    .synopsis = "ID [--reason TEXT] [--json]",
    .summary = "end a job where it stands",
    .help = "Ends the job ID at once: none of its code runs any more, nothing is compensated. For jobs that\n"
            "`cancel` does not stop.\n\n"
            "--json prints {\"id\",\"answer\"}; the answer is \"accepted\", or \"queued\" while no worker is there.",
    .flags = reason_flags,
    .least = 1,
    .most = 1,
    .run = terminate_run,
};
