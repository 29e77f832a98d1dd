/* What most verbs begin with: a client on the log and the catalog of its types. */
#ifndef PERDURE_COMMAND_SESSION_H
#define PERDURE_COMMAND_SESSION_H

#include "client/client.h"
#include "command/arguments.h"
#include "command/catalog.h"

struct session {
    const struct arguments *arguments;
    struct client *client;
    struct catalog catalog;
};

enum session_access { SESSION_READS, SESSION_WRITES };

/* EXIT_OK, or said why not. The catalog is empty until it is asked for: in Kafka it costs a read of all statuses. */
int session_open(const struct arguments *arguments, enum session_access access, struct session *session);
int session_catalog(struct session *session);
void session_close(struct session *session);
/* Says what the client could not do; returns its exit code. */
int session_client_failed(const struct session *session);
/* Says it, returns `exit_code`. */
int session_fail(const struct arguments *arguments, int exit_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Says that the output could not be written; returns the exit code. */
int session_output_failed(const struct arguments *arguments);
/* Prints the text and a line end, and frees it. EXIT_OK, or said why not. */
int session_print(const struct arguments *arguments, struct buffer *out);
struct table;
/* The end of a verb that prints rows: with --json each when it came, `printed` all of them; else the table. Frees table and text;
 * the exit code, which is `code` unless printing fails. */
int session_finish_rows(const struct arguments *arguments, int code, bool printed, struct table *table, struct buffer *out);
/* Waits for the owner's answer to a command, and prints it: `done` when it was accepted. The exit code. */
int session_settle(const struct session *session, const char *id, struct question *question, const char *done);
/* What `result` exits with: EXIT_OK, EXIT_JOB_FAILED, or EXIT_TIMED_OUT when the job has not ended. */
int session_outcome(const Status *status);

/* ---- verbs, each in its file -------------------------------------------------------------------- */

extern const struct verb verb_start, verb_signal, verb_cancel, verb_terminate, verb_resume, verb_result, verb_describe, verb_list,
    verb_history, verb_worker, verb_dev, verb_namespace, verb_check, verb_export, verb_replay, verb_complete,
    verb_workers, verb_queues;

#endif
