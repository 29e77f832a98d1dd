/*
 * What the files of the embedded log's client share.
 *
 *   sqlite_client.c          opens, appends, follows, polls; without an owner does one operation under the lock itself
 *   sqlite_client_connect.c  the connection to the owner: greeting, bytes both ways
 *   sqlite_client_ask.c      questions: asked until they are answered, by whichever way is open
 *   sqlite_client_tell.c     what came is told to the log's handler
 */
#ifndef PERDURE_SQLITE_CLIENT_H
#define PERDURE_SQLITE_CLIENT_H

#include "log/sqlite.h"
#include "log/sqlite_server.h"

#define SILENT_MS 3000     /* an owner that says nothing for so long is asked anew */
#define BACKOFF_FIRST_MS 5
#define BACKOFF_MAX_MS 200 /* somebody else holds the lock for one operation */
#define CALL_MS 15000      /* a question, from the first try to the last */

/* An append that is not yet answered. */
struct pending {
    struct pending *next;
    uint64_t frame, cookie;
    uint32_t partition;
    bool sent;       /* on the present connection */
    bool sent_once;  /* so it may be in the log */
    int64_t deadline;
    size_t size;
    char record[];
};

struct client_follower {
    bool active, told_end;
    uint32_t generation;
    int64_t next;
    uint64_t frame;  /* of the read under way; 0: none */
};

/* Frames that came while nobody polled. */
struct arrived {
    struct arrived *next;
    SocketFrame *frame;
};

struct sqlite_client {
    struct log log;
    struct sqlite_paths paths;
    char *name;
    bool read_only;
    pid_t pid;
    uint64_t id;             /* ReplyTo.client */
    int fd, wake_fd;
    bool welcome, wrong;     /* wrong: another log is in the file's place */
    uint64_t hello, last_frame;
    struct sqlite_buffer in, out;
    int64_t heard_at;        /* last byte from the owner, or since when we wait for one */
    int64_t retry_at, backoff;
    int64_t told_unreachable_at;
    struct pending *pending, **pending_last;
    size_t pending_count;
    struct client_follower *followers;
    struct arrived *arrived, **arrived_last;
};

static inline struct sqlite_client *sqlite_client_of(struct log *log) { return (struct sqlite_client *)log; }

/* sqlite_client.c */

/* Puts `message` into log.error; returns LOG_FAILED. */
int sqlite_client_fail(struct sqlite_client *client, const char *message);
/* The first genesis is kept, any other must be of the same log. */
bool sqlite_client_take_genesis(struct sqlite_client *client, const Genesis *genesis);
/* The file itself, under the lock, for one operation. */
enum sqlite_open_result sqlite_client_open_db(struct sqlite_client *client, bool create, uint32_t partitions,
                                              struct sqlite_db **db);

/* sqlite_client_connect.c */

/* Connects and greets. The answer comes later: client->welcome. */
bool sqlite_client_connect(struct sqlite_client *client);
void sqlite_client_disconnect(struct sqlite_client *client);
/* Moves bytes both ways. The frame `awaited` goes to `*answer`, all others wait for poll(). */
void sqlite_client_transfer(struct sqlite_client *client, uint64_t awaited, SocketFrame **answer);
/* Until bytes can be moved, or somebody wakes us. */
void sqlite_client_wait(struct sqlite_client *client, int64_t timeout_ms);
/* Takes a frame over until it is told. False: no memory; it is freed. */
bool sqlite_client_keep(struct sqlite_client *client, SocketFrame *frame);

/* sqlite_client_ask.c: of the log's operations */

int sqlite_client_bounds(struct log *log, enum log_stream stream, uint32_t partition, int64_t *start, int64_t *end);
int sqlite_client_get_status(struct log *log, const char *key, void **data, size_t *size);
int sqlite_client_each_status(struct log *log, const char *prefix,
                              bool (*visit)(void *context, const char *key, const void *data, size_t size),
                              void *context);
int sqlite_client_history(struct log *log, uint32_t partition, const char *job, uint64_t run,
                          bool (*visit)(void *context, int64_t offset, const void *record, size_t size), void *context);

/* sqlite_client_tell.c */

/* Tells what was kept. True: something was. */
bool sqlite_client_tell(struct sqlite_client *client);
/* Tells appends whose deadline has passed: in doubt if they were ever sent. */
bool sqlite_client_expire(struct sqlite_client *client, int64_t now);
void sqlite_client_drop_pending(struct sqlite_client *client, struct pending **at);

#endif
