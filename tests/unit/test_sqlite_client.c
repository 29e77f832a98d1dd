/*
 * Clients of the embedded log: by the owner's socket, and without an owner (rule 28; H30, H31).
 */
#include "sqlite_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- an owner on a thread of its own: acts on each inbox record as a worker would ---- */

struct owner {
    struct log *log;
    pthread_t thread;
    atomic_bool ends;
    volatile int result;
    atomic_size_t polls;
    size_t commands;
};

static void owner_record(void *context, const struct log_record *record)
{
    struct owner *owner = context;
    Record *decoded;
    if (record->stream != LOG_INBOX || record_decode(record->data, record->size, &decoded) != WIRE_OK)
        return;
    owner->commands++;
    const Command *command = decoded->command;
    append_event(owner->log, 0, decoded->header->job, 7, owner->commands, 0);
    owner->log->operations->put_status(owner->log, decoded->header->job, "state", 5, NULL);
    if (command->reply_to != NULL) {
        Reply reply = PERDURE__V1__REPLY__INIT;
        reply.client = command->reply_to->client;
        reply.correlation = 42;
        reply.request = command->request;
        owner->log->operations->reply(owner->log, command->reply_to, &reply);
    }
    record_free(decoded);
}

static void *owner_run(void *argument)
{
    struct owner *owner = argument;
    while (!owner->ends && (owner->result = owner->log->operations->poll(owner->log, 100)) == LOG_OK) {
        owner->result = owner->log->operations->flush(owner->log);
        owner->polls++;
    }
    return NULL;
}

static struct owner *owner_start(const struct fixture *fixture)
{
    struct owner *owner = calloc(1, sizeof *owner);
    owner->log = open_worker(fixture);
    struct log_handler handler = {.context = owner, .record = owner_record};
    log_set_handler(owner->log, &handler);
    int64_t start, end;
    owner->log->operations->bounds(owner->log, LOG_INBOX, 0, &start, &end);
    owner->log->operations->follow(owner->log, LOG_INBOX, 0, end);
    assert_int_equal(pthread_create(&owner->thread, NULL, owner_run, owner), 0);
    return owner;
}

static void owner_stop(struct owner *owner)
{
    owner->ends = true;
    owner->log->operations->wake(owner->log);
    pthread_join(owner->thread, NULL);
    owner->log->operations->close(owner->log);
    free(owner);
}

/* ---- tests ---- */

static bool count_status(void *context, const char *key, const void *data, size_t size)
{
    (void)key;
    (void)data;
    (void)size;
    ++*(size_t *)context;
    return true;
}

static bool count_record(void *context, int64_t offset, const void *record, size_t size)
{
    (void)offset;
    (void)record;
    (void)size;
    ++*(size_t *)context;
    return true;
}

/* All questions, whoever answers. */
static void ask_everything(struct log *log, struct seen *seen, size_t commands)
{
    int64_t start, end;
    assert_int_equal(log->operations->bounds(log, LOG_INBOX, 0, &start, &end), LOG_OK);
    assert_true(start == 0 && end == (int64_t)commands);
    void *data;
    size_t size, count = 0;
    assert_int_equal(log->operations->get_status(log, "job-0", &data, &size), LOG_OK);
    assert_int_equal(size, 5);
    free(data);
    assert_int_equal(log->operations->get_status(log, "nobody", &data, &size), LOG_NOT_FOUND);
    assert_int_equal(log->operations->each_status(log, "job-", count_status, &count), LOG_OK);
    assert_int_equal(count, commands);
    count = 0;
    assert_int_equal(log->operations->history(log, 0, "job-0", 7, count_record, &count), LOG_OK);
    assert_int_equal(count, 1);
    seen->record_count = seen->ends = 0;
    log->operations->follow(log, LOG_JOURNAL, 0, 0);
    log->operations->follow(log, LOG_INBOX, 0, 0);
    poll_until(log, &seen->ends, 2);
    assert_int_equal(seen->record_count, 1 + 2 * commands);
    assert_int_equal(seen->end[LOG_INBOX], commands);
}

static void asks_the_owner(void **state)
{
    struct owner *owner = owner_start(*state);
    struct log *log = open_client(*state);
    struct seen *seen = seen_new(log);
    char job[32], request[32];
    for (int i = 0; i < 100; i++) {
        snprintf(job, sizeof job, "job-%d", i);
        snprintf(request, sizeof request, "request-%d", i);
        assert_int_equal(append_command(log, job, request, (uint64_t)i), LOG_OK);
    }
    poll_until(log, &seen->delivered_count, 100);
    poll_until(log, &seen->replies, 100);
    assert_true(seen->correlation == 42);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(seen->delivered[i].delivery, LOG_PERSISTED);
        assert_int_equal(seen->delivered[i].offset, (int64_t)seen->delivered[i].cookie);
    }
    ask_everything(log, seen, 100);
    /* What comes while a client follows. */
    seen->record_count = 0;
    append_command(log, "job-100", "request-100", 100);
    poll_until(log, &seen->record_count, 2);
    /* Only the owner writes elsewhere. */
    assert_int_equal(append_event(log, 0, "job", 1, 1, 1), LOG_FAILED);
    assert_int_equal(log->operations->trim(log, LOG_INBOX, 0, 1), LOG_FAILED);
    assert_int_equal(log->operations->put_status(log, "k", "v", 1, NULL), LOG_FAILED);
    log->operations->close(log);
    free(seen);
    owner_stop(owner);
}

static void does_without_an_owner(void **state)
{
    struct owner *owner = owner_start(*state);
    struct log *log = open_client(*state);
    struct seen *seen = seen_new(log);
    append_command(log, "job-0", "request-0", 0);
    poll_until(log, &seen->replies, 1);
    owner_stop(owner);
    ask_everything(log, seen, 1); /* of the same struct log: the owner is gone */
    append_command(log, "job-1", "request-1", 1);
    append_command(log, "job-0", "request-0", 2); /* a repetition */
    poll_until(log, &seen->delivered_count, 3);
    assert_int_equal(seen->delivered[1].offset, 1);
    assert_int_equal(seen->delivered[2].offset, 0);
    log->operations->close(log);
    /* One that never saw an owner. */
    log = open_client(*state);
    free(seen);
    seen = seen_new(log);
    append_command(log, "job-2", "request-2", 3);
    poll_until(log, &seen->delivered_count, 1);
    assert_int_equal(seen->delivered[0].offset, 2);
    /* And an owner that comes later serves the same client. */
    owner = owner_start(*state);
    append_command(log, "job-3", "request-3", 4);
    poll_until(log, &seen->replies, 1);
    log->operations->close(log);
    free(seen);
    owner_stop(owner);
}

static void client_creates_when_told(void **state)
{
    struct fixture *fixture = *state;
    int result;
    char error[512];
    struct log *log = try_open(fixture->uri, NULL, true, &result, error);
    assert_non_null(log);
    uint64_t id = log->genesis.log_id;
    log->operations->close(log);
    log = open_worker(fixture);
    assert_true(log->genesis.log_id == id);
    log->operations->close(log);
}

/* A socket that nobody listens at any more; and a plain file in its place. */
static void passes_a_stale_socket(void **state)
{
    struct fixture *fixture = *state;
    pid_t pid = start_owner(fixture);
    struct log *log = open_client(fixture);
    struct seen *seen = seen_new(log);
    stop_owner(pid, SIGKILL);
    char path[160];
    snprintf(path, sizeof path, "%s.sock", fixture->path);
    assert_int_equal(access(path, F_OK), 0);
    append_command(log, "job", "request", 1);
    poll_until(log, &seen->delivered_count, 1);
    unlink(path);
    FILE *file = fopen(path, "w");
    fclose(file);
    append_command(log, "job", "request-2", 2);
    poll_until(log, &seen->delivered_count, 2);
    pid = start_owner(fixture); /* unlinks what is there and binds */
    append_command(log, "job", "request-3", 3);
    poll_until(log, &seen->delivered_count, 3);
    stop_owner(pid, SIGTERM);
    assert_int_equal(access(path, F_OK), -1);
    log->operations->close(log);
    free(seen);
}

/* Whoever asks again has had no answer: the owner reads it again. Two commands under one request id are not one. */
static void a_repetition_is_read_again(void **state)
{
    struct owner *owner = owner_start(*state);
    struct log *log = open_client(*state);
    struct seen *seen = seen_new(log);
    append_command(log, "job", "request", 1);
    poll_until(log, &seen->replies, 1);
    append_command(log, "job", "request", 2);
    poll_until(log, &seen->replies, 2);
    assert_int_equal(seen->delivered[1].delivery, LOG_PERSISTED);
    assert_true(seen->delivered[1].offset > seen->delivered[0].offset);
    append_command(log, "another", "request", 3);
    poll_until(log, &seen->replies, 3);
    assert_int_equal(seen->delivered[2].delivery, LOG_PERSISTED);
    assert_int_equal(owner->commands, 3);
    log->operations->close(log);
    free(seen);
    owner_stop(owner);
}

/* Whoever may write the file may connect, and nobody else. */
static void the_socket_is_of_the_files_group(void **state)
{
    struct fixture *fixture = *state;
    char path[160];
    struct stat file;
    if (geteuid() != 0)
        skip();
    owner_stop(owner_start(fixture)); /* it makes the file */
    assert_int_equal(chown(fixture->path, (uid_t)-1, 12345), 0);
    assert_int_equal(chmod(fixture->path, 0660), 0);
    struct owner *owner = owner_start(fixture);
    snprintf(path, sizeof path, "%s.sock", fixture->path);
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_gid, 12345);
    assert_int_equal(file.st_mode & 0777, 0660);
    owner_stop(owner);
}

/* A path of any length has its socket beside it. */
static void long_paths_have_sockets_too(void **state)
{
    struct fixture *fixture = *state;
    char folder[300], uri[600], error[512];
    snprintf(folder, sizeof folder, "%s/%0100d", fixture->folder, 1);
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(uri, sizeof uri, "sqlite:%s/%0120d.db", folder, 2);
    int result;
    struct log *worker = try_open(uri, "alpha", true, &result, error);
    assert_non_null(worker);
    pid_t pid = fork();
    if (pid == 0) { /* needs an answer from the socket: the file is locked */
        struct log *client = try_open(uri, NULL, false, &result, error);
        _exit(client != NULL ? 0 : 1);
    }
    int status = -1;
    for (int i = 0; i < 300 && waitpid(pid, &status, WNOHANG) != pid; i++)
        worker->operations->poll(worker, 10);
    assert_int_equal(status, 0);
    worker->operations->close(worker);
}

static void raw_connect_by(const struct fixture *fixture, int fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.90s.sock", fixture->path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
}

static int raw_connect(const struct fixture *fixture)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    raw_connect_by(fixture, fd);
    return fd;
}

static int64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Silent, half a frame, an absurd length, garbage, one that asks and never reads: the owner goes on. */
static void bad_clients_hold_up_nobody(void **state)
{
    struct fixture *fixture = *state;
    struct owner *owner = owner_start(fixture);
    struct log *log = open_client(fixture);
    struct seen *seen = seen_new(log);
    for (int i = 0; i < 3000; i++) {
        char request[32];
        snprintf(request, sizeof request, "request-%d", i);
        append_command(log, "job", request, (uint64_t)i);
    }
    poll_until(log, &seen->delivered_count, 3000);
    int silent = raw_connect(fixture), half = raw_connect(fixture), absurd = raw_connect(fixture);
    int garbage = raw_connect(fixture), unasked = raw_connect(fixture);
    assert_int_equal(write(half, "\x20\0\0\0abc", 7), 7);
    assert_int_equal(write(absurd, "\xff\xff\xff\xff", 4), 4);
    assert_int_equal(write(garbage, "\x04\0\0\0\xff\xff\xff\xff", 8), 8);
    assert_int_equal(write(unasked, "\x02\0\0\0\x08\x01", 6), 6); /* a frame before the greeting */
    char byte;
    assert_int_equal(read(absurd, &byte, 1), 0);
    assert_int_equal(read(garbage, &byte, 1), 0);
    assert_int_equal(read(unasked, &byte, 1), 0);
    /* Asks for the whole log 200 times and reads nothing. */
    pid_t greedy = fork();
    if (greedy == 0) {
        struct log *other = open_client(fixture);
        for (int i = 0; i < 200; i++) {
            other->operations->follow(other, LOG_INBOX, 0, 0);
            other->operations->poll(other, 0);
        }
        pause();
        _exit(0);
    }
    int64_t before = milliseconds();
    append_command(log, "job", "afterwards", 3000);
    poll_until(log, &seen->delivered_count, 3001);
    assert_true(milliseconds() - before < 2000);
    stop_owner(greedy, SIGKILL);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    assert_true(usage.ru_maxrss < 400 * 1024);
    int fds[] = {silent, half, absurd, garbage, unasked};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        close(fds[i]);
    log->operations->close(log);
    free(seen);
    owner_stop(owner);
}

/* Whoever wants to connect waits until the owner has a descriptor for it; the owner does not turn in the meantime. */
static void no_descriptor_is_left(void **state)
{
    struct fixture *fixture = *state;
    struct owner *owner = owner_start(fixture);
    struct rlimit before, few;
    int waiting = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); /* takes the last one */
    getrlimit(RLIMIT_NOFILE, &before);
    few = before;
    few.rlim_cur = (rlim_t)waiting + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    raw_connect_by(fixture, waiting);
    size_t polls = owner->polls;
    usleep(1000000);
    assert_true(owner->polls - polls < 100);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(write(waiting, "\xff\xff\xff\xff", 4), 4);
    char byte;
    assert_int_equal(read(waiting, &byte, 1), 0); /* heard, and dropped */
    close(waiting);
    owner_stop(owner);
}

/* A stopped owner: the client's deadline holds, its message names the process. */
static void names_an_owner_that_does_not_answer(void **state)
{
    struct fixture *fixture = *state;
    pid_t pid = start_owner(fixture);
    struct log *log = open_client(fixture);
    struct seen *seen = seen_new(log);
    kill(pid, SIGSTOP);
    append_command(log, "job", "request", 1);
    for (int i = 0; i < 10; i++)
        log->operations->poll(log, 20);
    assert_int_equal(seen->delivered_count, 0);
    kill(pid, SIGCONT);
    poll_until(log, &seen->delivered_count, 1);
    assert_int_equal(seen->delivered[0].delivery, LOG_PERSISTED);
    log->operations->close(log);
    free(seen);
    stop_owner(pid, SIGKILL);
}

/* H30: the file is replaced or deleted while its owner lives. */
static void notices_a_replaced_file(void **state)
{
    struct fixture *fixture = *state;
    const char *const suffixes[] = {"", ".lock", "-wal"};
    for (size_t i = 0; i < 3; i++) {
        struct log *log = open_worker(fixture);
        struct seen *seen = seen_new(log);
        append_event(log, 0, "job", 1, 1, 1);
        assert_int_equal(log->operations->flush(log), LOG_OK);
        assert_int_equal(seen->delivered_count, 1);
        char path[128], aside[140];
        snprintf(path, sizeof path, "%s%s", fixture->path, suffixes[i]);
        snprintf(aside, sizeof aside, "%s.aside", path);
        assert_int_equal(rename(path, aside), 0);
        append_event(log, 0, "job", 1, 2, 2);
        assert_int_equal(log->operations->flush(log), LOG_FAILED);
        assert_int_equal(seen->fatals, 1);
        assert_int_equal(seen->delivered_count, 1);
        assert_non_null(strstr(seen->message, "replaced or deleted"));
        assert_int_equal(append_event(log, 0, "job", 1, 3, 3), LOG_FAILED);
        assert_int_equal(log->operations->poll(log, 0), LOG_FAILED);
        log->operations->close(log);
        rename(aside, path);
        free(seen);
    }
}

/* H30: an owner whose files were deleted leaves the next owner its socket: without it nobody could reach that one. */
static void leaves_the_next_owner_its_socket(void **state)
{
    struct fixture *fixture = *state;
    const char *const suffixes[] = {"", "-wal", ".lock"};
    struct log *old = open_worker(fixture);
    char path[128];
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", fixture->path, suffixes[i]);
        assert_int_equal(unlink(path), 0);
    }
    struct log *next = open_worker(fixture);
    append_event(old, 0, "job", 1, 1, 1);
    assert_int_equal(old->operations->flush(old), LOG_FAILED);
    old->operations->close(old);
    snprintf(path, sizeof path, "%s.sock", fixture->path);
    assert_int_equal(access(path, F_OK), 0);
    next->operations->close(next);
    assert_int_equal(access(path, F_OK), -1);
}

/* Its client sees it too, by the inode or by the log id. */
static void client_notices_another_log(void **state)
{
    struct fixture *fixture = *state;
    struct owner *owner = owner_start(fixture);
    struct log *log = open_client(fixture);
    struct seen *seen = seen_new(log);
    owner_stop(owner);
    unlink(fixture->path);
    struct log *other = open_worker(fixture);
    other->operations->close(other);
    append_command(log, "job", "request", 1);
    for (int i = 0; i < 5; i++)
        log->operations->poll(log, 20);
    assert_int_equal(seen->delivered_count, 0);
    assert_int_equal(seen->fatals, 1);
    log->operations->close(log);
    free(seen);
    assert_int_equal(ask_database(fixture, "SELECT count(*) FROM inbox"), 0);
}

/* Several clients and no owner: each takes the lock for its operation. */
static void clients_share_without_an_owner(void **state)
{
    struct fixture *fixture = *state;
    struct log *log = open_worker(fixture);
    log->operations->close(log);
    pid_t pids[4];
    for (int c = 0; c < 4; c++)
        if ((pids[c] = fork()) == 0) {
            struct log *client = open_client(fixture);
            struct seen *seen = seen_new(client);
            for (int i = 0; i < 10; i++) {
                char request[32];
                snprintf(request, sizeof request, "request-%d-%d", c, i);
                append_command(client, "job", request, 1);
                for (int k = 0; k < 500 && seen->delivered_count <= (size_t)i; k++)
                    client->operations->poll(client, 10);
            }
            client->operations->close(client);
            _exit(seen->delivered_count == 10 ? 0 : 1);
        }
    for (int c = 0; c < 4; c++) {
        int status;
        waitpid(pids[c], &status, 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(ask_database(fixture, "SELECT count(DISTINCT request) FROM inbox"), 40);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(asks_the_owner), TEST(does_without_an_owner), TEST(client_creates_when_told),
        TEST(a_repetition_is_read_again), TEST(the_socket_is_of_the_files_group),
        TEST(passes_a_stale_socket), TEST(long_paths_have_sockets_too), TEST(bad_clients_hold_up_nobody), TEST(no_descriptor_is_left),
        TEST(names_an_owner_that_does_not_answer), TEST(notices_a_replaced_file),
        TEST(leaves_the_next_owner_its_socket), TEST(client_notices_another_log),
        TEST(clients_share_without_an_owner),
    };
    cmocka_set_test_filter(getenv("PERDURE_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
