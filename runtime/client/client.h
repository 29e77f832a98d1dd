/*
 * Asking a namespace from outside: commands go into a job's inbox and are answered by the owner of its partition; what
 * needs no owner is read from the status records and from the journal. Under the pdr_client_ functions and the command.
 *
 * A command carries a request id; it is appended again, with the same id, until an answer comes (rules 13, 15, 28):
 * answers may be lost, commands are absorbed once.
 */
#ifndef PERDURE_CLIENT_H
#define PERDURE_CLIENT_H

#include <perdure/perdure.h>

#include "constants.h"
#include "log/log.h"
#include "wire/wire.h"

/* How a program ends: documented in docs/command.md. */
enum client_exit {
    EXIT_OK = 0,
    EXIT_JOB_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
    EXIT_TIMED_OUT = 4,
    EXIT_UNREACHABLE = 5,
    EXIT_MEMBER_TAKEN = 6,      /* worker: not to be started again */
    EXIT_PARTITION_STOPPED = 7, /* worker */
};

/* An append without an answer is repeated after this long, then after twice that ... */
#define CLIENT_RESEND_MS INT64_C(2000)
#define CLIENT_RESEND_MAX_MS INT64_C(30000)
/* Waiting for a result: the question is asked again this often, for its answer may have been lost. */
#define CLIENT_WATCH_MS INT64_C(4000)
/* Just looking: a live owner answers by then, else the status record is read. */
#define CLIENT_LOOK_MS INT64_C(500)
/* So long a live owner may take to answer before we look whether anybody is there at all. */
#define CLIENT_PATIENCE_MS INT64_C(2000)
#define CLIENT_TIMEOUT_MS INT64_C(30000)

struct client;

struct client_options {
    const char *name;
    bool create;    /* SQLite: create the file */
    bool read_only; /* never appends */
};

/* $PERDURE_LOG, else "sqlite:perdure.db". */
const char *client_default_log(void);
/* EXIT_OK, or the exit code that fits, with `error`. */
int client_open(const char *uri, const struct client_options *options, struct client **out, char *error,
                size_t error_size);
/* Over a log that is open already; client_close() closes it. EXIT_OK, or out of memory. */
int client_use(struct log *log, struct client **out);
void client_close(struct client *client);
const Genesis *client_genesis(const struct client *client);
/* Of the last call that failed: what, where, what to do; and the exit code that fits. */
const char *client_error(const struct client *client);
int client_error_exit(const struct client *client);

/* ---- questions ------------------------------------------------------------------------------- */

/* One command, and what came back. */
struct question {
    struct question *next, **link; /* all of the client */
    struct question *next_in_bucket;
    uint64_t correlation;
    char *job;
    char request[REQUEST_ID_LIMIT_BYTES + 1];
    uint32_t partition;
    void *record; /* as appended, each time */
    size_t size;
    Header header;        /* for display; `job` is ours */
    bool appending;       /* handed to the log, its delivery not yet told */
    bool in_log;          /* certainly */
    int64_t resend_at;    /* monotonic */
    int64_t resend_after; /* ms; doubles */
    Reply *answer;        /* first one: accepted exists refused ended unknown. NULL: none yet */
    Reply *ended;         /* the one that is final; may be `answer` itself */
    /* Called from client_poll() when an answer came; it must not forget the question. NULL: nobody. */
    void (*on_answer)(void *context, struct question *question);
    void *context;
};

/* Why a job id cannot be one; NULL: it can. Static. */
const char *client_job_id_error(const char *id);
/* Appends `command` to the inbox of `job`. An empty `request` gets a random one. NULL: client_error(). */
struct question *client_ask(struct client *client, const char *job, Command *command);
/* Completes an attempt of a step from outside; fills in what its token says. NULL: client_error(): no token, of another
 * namespace, or as client_ask(). */
struct question *client_complete(struct client *client, const char *token, Perdure__V1__TaskReport *report);
/* The same for a partition. */
struct question *client_ask_partition(struct client *client, uint32_t partition, Command *command);
/* Lets the log work, for at most so long; appends again what is due. False: it cannot go on, client_error(). */
bool client_poll(struct client *client, int64_t timeout_ms);
void client_forget(struct client *client, struct question *question);

enum client_outcome {
    CLIENT_ANSWERED,    /* question->answer */
    CLIENT_QUEUED,      /* it is in the log, nobody answered: no worker owns the partition now */
    CLIENT_SENT_NOWHERE,/* it did not get into the log before the deadline */
    CLIENT_BROKEN,      /* client_error() */
};
/* Waits for the first answer: at most `timeout_ms`, and `patience_ms` from when the command was in the log. */
enum client_outcome client_wait(struct client *client, struct question *question, int64_t timeout_ms,
                                int64_t patience_ms);
/* The exit code of a refusal. */
int client_refusal_exit(const Error *error);

/* The end of the job, or its state when it is not reached in time (0: just look). `*out` is freed by status_free():
 * an EXIT_OK whose state is not terminal means that time is up (EXIT_TIMED_OUT if `timeout_ms` was not 0).
 * `started` (may be NULL) is a question of a Start with `watch`: its answers are used first. */
int client_result(struct client *client, const char *job, int64_t timeout_ms, struct question *started, Status **out);
bool client_state_is_terminal(const char *state);

/* ---- reading --------------------------------------------------------------------------------- */

/* The status record. EXIT_OK, EXIT_NOT_FOUND, or another with client_error(). */
int client_status(struct client *client, const char *job, Status **out);
/* Like client_status(), but a start that no worker has taken yet is found too: state "queued". EXIT_NOT_FOUND says so when
 * a worker has refused it. */
int client_describe(struct client *client, const char *job, Status **out);
/* All of them, in no order; `visit` returns false to stop. */
int client_list(struct client *client, bool (*visit)(void *context, const Status *status), void *context);

/* A partition, as its journal and inbox stand. */
struct owner {
    uint32_t partition;
    bool owned;               /* by `worker`; else that one was the last, and gave it up. It need not live */
    char *worker, *version;   /* NULL: nobody has ever owned it */
    int64_t since, last;      /* the log's time of its claim, and of what it wrote last: at rest it writes nothing; 0: never */
    int64_t journal_start, journal_end; /* offsets */
    int64_t inbox_start, inbox_end, inbox_done; /* `inbox_done`: what is below was taken, as far as was told */
};
/* All partitions, in order; `visit` returns false to stop. EXIT_OK, or another with client_error(). */
int client_owners(struct client *client, bool (*visit)(void *context, const struct owner *owner), void *context);

struct registrations {
    size_t count;
    Registration **items;
};
int client_registrations(struct client *client, struct registrations *out);
void registrations_free(struct registrations *registrations);

struct history_record {
    int64_t offset;
    int64_t append_ms; /* 0: unknown */
    void *data;        /* the record as stored, with its frame */
    size_t size;
    Record *record;
    Event **events; /* decoded; NULL elements: events this version does not know how to decode */
};

/* One run of a job as counted in its journal. */
struct history {
    char *job;
    uint64_t run;
    Genesis genesis;       /* namespace "" */
    size_t count;
    struct history_record *records;
    bool unowned;          /* the journal ends without an owner */
    int64_t end;           /* as of this journal offset */
    int64_t in_pos;        /* client_journal(): owners have dealt with every inbox record below */
};

/* The newest run of `job`. EXIT_NOT_FOUND when nothing of it counted. */
int client_history(struct client *client, const char *job, struct history **out);
void history_free(struct history *history);
/* For the reader and for import: appends a copy of a stored record. EXIT_OK, or EXIT_USAGE with `error`. */
int history_add(struct history *history, int64_t offset, int64_t append_ms, const void *data, size_t size, char *error,
                size_t error_size);

int64_t client_wall_ms(void);
int64_t client_monotonic_ms(void);

#endif
