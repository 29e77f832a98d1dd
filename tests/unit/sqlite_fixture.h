/*
 * What the tests of the embedded log share: a folder of their own, records, a handler that remembers.
 */
#ifndef PERDURE_TEST_SQLITE_FIXTURE_H
#define PERDURE_TEST_SQLITE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/types.h>

#include "log/log.h"

struct fixture {
    char folder[64];
    char path[96];
    char uri[128];
};

int fixture_setup(void **state);
int fixture_setup_in_memory(void **state); /* for tests that open a file thousands of times: fsync costs nothing */
int fixture_teardown(void **state);

/* A handler that remembers. */
#define SEEN_LIMIT 20000
struct seen {
    struct { uint64_t cookie; enum log_delivery delivery; int64_t offset; } delivered[SEEN_LIMIT];
    size_t delivered_count;
    struct { enum log_stream stream; uint32_t partition; int64_t offset; int64_t append_ms; uint64_t hash; }
        records[SEEN_LIMIT];
    size_t record_count;
    int64_t end[2];
    size_t ends;
    size_t assigned, revoked, replies, faults, fatals, unreachable, truncated, out_of_range;
    uint64_t correlation;
    char message[1024];
    char order[256]; /* d, j, i, e, f in the order told */
};
struct seen *seen_new(struct log *log); /* installed as the log's handler; free() */

struct log *open_worker(const struct fixture *fixture);
struct log *open_client(const struct fixture *fixture);
struct log *try_open(const char *uri, const char *member, bool create, int *result, char error[512]);

/* A command, encoded; free(). */
void *make_command(const char *job, const char *request, uint64_t client, size_t *size);
int append_command(struct log *log, const char *job, const char *request, uint64_t cookie);
int append_event(struct log *log, uint32_t partition, const char *job, uint64_t run, uint64_t seq, uint64_t cookie);
/* Polls until the counter reaches `wanted`, at most 5 s. */
void poll_until(struct log *log, const size_t *counter, size_t wanted);

/* An owner in a process of its own, polling until it is killed or told to end. */
pid_t start_owner(const struct fixture *fixture);
void stop_owner(pid_t pid, int signal_number);

/* Rows by a plain reader, when nobody owns the file. */
int64_t ask_database(const struct fixture *fixture, const char *sql);

#endif
