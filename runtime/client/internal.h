/* What the files of the client share. */
#ifndef PERDURE_CLIENT_INTERNAL_H
#define PERDURE_CLIENT_INTERNAL_H

#include "client/client.h"

/* Reading a stream of one partition from `from` to its end. */
struct client_reader {
    enum log_stream stream;
    uint32_t partition;
    void (*record)(void *context, const struct log_record *record);
    void *context;
    bool done;         /* set by the end of the stream, or by `record` when it has seen enough */
    bool out_of_range;
    int64_t end;
};

#define CLIENT_BUCKETS 4096 /* a client with very many questions at once is a program that measures */

struct client {
    struct log *log;
    uint64_t id;
    uint64_t correlation;
    struct question *questions;
    struct question *buckets[CLIENT_BUCKETS]; /* by correlation */
    int64_t next_resend; /* no question is due before */
    struct client_reader *reader; /* NULL: nothing is being read */
    bool fatal;
    char trouble[256]; /* why the log could not be reached, the last time */
    char error[600];
    int error_exit;
};

int client_fail(struct client *client, int exit_code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int client_log_failed(struct client *client);
/* Polls until the reader is done, at most `timeout_ms`. EXIT_OK or another. */
int client_read(struct client *client, struct client_reader *reader, int64_t from, int64_t timeout_ms);
/* All that the journal says of `job`, which may be no event at all: `count` is 0 then. */
int client_journal(struct client *client, const char *job, struct history **out);

#endif
