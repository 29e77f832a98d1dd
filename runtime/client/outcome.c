/*
 * How a job ended: asked from its owner, and read from its status record when nobody answers.
 */
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

bool client_state_is_terminal(const char *state)
{
    static const char *const terminal[] = {"completed", "failed", "cancelled", "terminated"};
    for (size_t i = 0; i < sizeof terminal / sizeof *terminal; i++)
        if (strcmp(state, terminal[i]) == 0)
            return true;
    return false;
}

int client_refusal_exit(const Error *error)
{
    return error && strcmp(error->type, "NotFound") == 0 ? EXIT_NOT_FOUND : EXIT_USAGE;
}

static struct question *outcome_watch(struct client *client, const char *job)
{
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Watch watch = PERDURE__V1__WATCH__INIT;
    command.kind_case = PERDURE__V1__COMMAND__KIND_WATCH;
    command.watch = &watch;
    struct question *question = client_ask(client, job, &command);
    if (question) /* a question of its own each time: a request id is absorbed once */
        question->resend_at = INT64_MAX;
    return question;
}

enum outcome_seen { SEEN_NOTHING, SEEN_OPEN, SEEN_END, SEEN_NO_JOB };

/* What a question has brought so far. */
static enum outcome_seen outcome_of(const struct question *question)
{
    const Reply *reply = question->ended ? question->ended : question->answer;
    if (!reply)
        return SEEN_NOTHING;
    if (strcmp(reply->answer, "unknown") == 0)
        return SEEN_NO_JOB;
    if (reply->status && client_state_is_terminal(reply->status->state))
        return SEEN_END;
    return SEEN_OPEN;
}

static int outcome_take(struct client *client, const struct question *question, Status **out)
{
    const Reply *reply = question->ended ? question->ended : question->answer;
    if (!reply->status)
        return client_fail(client, EXIT_UNREACHABLE, "the worker's answer \"%s\" names no status", reply->answer);
    *out = status_copy(reply->status);
    return *out ? EXIT_OK : client_fail(client, EXIT_UNREACHABLE, "out of memory");
}

/* Polls until `question` shows an end, or until `until`. */
static enum outcome_seen outcome_poll(struct client *client, struct question *question, int64_t until, bool look_only)
{
    for (;;) {
        enum outcome_seen seen = outcome_of(question);
        int64_t now = client_monotonic_ms();
        if (seen == SEEN_END || seen == SEEN_NO_JOB || (look_only && seen == SEEN_OPEN) || now >= until)
            return seen;
        if (!client_poll(client, until - now))
            return SEEN_NOTHING;
    }
}

/* One question and its wait. EXIT_OK with `*out` when the end is known or is not waited for; -1: not yet. */
static int outcome_round(struct client *client, const char *job, struct question *question, int64_t deadline,
                         bool look_only, Status **out)
{
    int64_t now = client_monotonic_ms();
    int64_t until = look_only ? now + CLIENT_LOOK_MS : now + CLIENT_WATCH_MS;
    if (!look_only && until > deadline)
        until = deadline;
    enum outcome_seen seen = outcome_poll(client, question, until, look_only);
    if (client->fatal)
        return client->error_exit;
    if (seen == SEEN_END || (look_only && seen == SEEN_OPEN && question->answer->status))
        return outcome_take(client, question, out);
    if (seen == SEEN_NO_JOB)
        return client_fail(client, EXIT_NOT_FOUND, "there is no job \"%s\"", job);
    Status *status = NULL; /* nobody answered, or the answer was lost */
    int code = look_only ? client_describe(client, job, &status) : client_status(client, job, &status);
    if (code == EXIT_OK && (look_only || client_state_is_terminal(status->state))) {
        *out = status;
        return EXIT_OK;
    }
    status_free(status);
    return code == EXIT_OK || (code == EXIT_NOT_FOUND && !look_only) ? -1 : code;
}

int client_result(struct client *client, const char *job, int64_t timeout_ms, struct question *started, Status **out)
{
    int64_t now = client_monotonic_ms();
    int64_t deadline = timeout_ms > INT64_MAX - now ? INT64_MAX : now + timeout_ms;
    struct question *question = started;
    int code;
    *out = NULL;
    do {
        if (!question && !(question = outcome_watch(client, job)))
            return client->error_exit;
        code = outcome_round(client, job, question, deadline, timeout_ms == 0, out);
        if (question != started)
            client_forget(client, question);
        question = NULL;
    } while (code < 0 && client_monotonic_ms() < deadline);
    if (code >= 0)
        return code;
    code = client_describe(client, job, out);
    if (code != EXIT_OK)
        return code;
    return client_state_is_terminal((*out)->state) ? EXIT_OK : EXIT_TIMED_OUT;
}
