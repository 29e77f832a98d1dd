#include "sqlite_fixture.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int setup_in(void **state, const char *template)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    strcpy(fixture->folder, template);
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->path, sizeof fixture->path, "%s/log.db", fixture->folder);
    snprintf(fixture->uri, sizeof fixture->uri, "sqlite:%s", fixture->path);
    *state = fixture;
    return 0;
}

int fixture_setup(void **state) { return setup_in(state, "/tmp/perdure-test-XXXXXX"); }

int fixture_setup_in_memory(void **state)
{
    bool there = access("/dev/shm", W_OK) == 0;
    return setup_in(state, there ? "/dev/shm/perdure-test-XXXXXX" : "/tmp/perdure-test-XXXXXX");
}

int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", fixture->folder);
    int result = system(command);
    free(fixture);
    return result;
}

/* ---- handler ---- */

static void seen_order(struct seen *seen, char what)
{
    size_t length = strlen(seen->order);
    if (length + 1 < sizeof seen->order)
        seen->order[length] = what;
}

static void seen_record(void *context, const struct log_record *record)
{
    struct seen *seen = context;
    seen_order(seen, record->stream == LOG_JOURNAL ? 'j' : 'i');
    assert_true(seen->record_count < SEEN_LIMIT);
    size_t i = seen->record_count++;
    seen->records[i].stream = record->stream;
    seen->records[i].partition = record->partition;
    seen->records[i].offset = record->offset;
    seen->records[i].append_ms = record->append_ms;
    seen->records[i].hash = hash64(record->data, record->size);
}

static void seen_end(void *context, enum log_stream stream, uint32_t partition, int64_t end)
{
    (void)partition;
    struct seen *seen = context;
    seen_order(seen, 'e');
    seen->end[stream] = end;
    seen->ends++;
}

static void seen_delivered(void *context, uint64_t cookie, enum log_delivery delivery, int64_t offset)
{
    struct seen *seen = context;
    seen_order(seen, 'd');
    assert_true(seen->delivered_count < SEEN_LIMIT);
    size_t i = seen->delivered_count++;
    seen->delivered[i].cookie = cookie;
    seen->delivered[i].delivery = delivery;
    seen->delivered[i].offset = offset;
}

static void seen_assigned(void *context, uint32_t partition)
{
    (void)partition;
    ((struct seen *)context)->assigned++;
}

static void seen_revoked(void *context, uint32_t partition)
{
    (void)partition;
    ((struct seen *)context)->revoked++;
}

static void seen_fault(void *context, enum log_fault fault, uint32_t partition, const char *message)
{
    (void)partition;
    struct seen *seen = context;
    seen_order(seen, 'f');
    seen->faults++;
    seen->fatals += fault == LOG_FATAL;
    seen->unreachable += fault == LOG_UNREACHABLE;
    seen->truncated += fault == LOG_TRUNCATED;
    seen->out_of_range += fault == LOG_OUT_OF_RANGE;
    snprintf(seen->message, sizeof seen->message, "%s", message);
}

static void seen_reply(void *context, const Reply *reply)
{
    struct seen *seen = context;
    seen->replies++;
    seen->correlation = reply->correlation;
}

struct seen *seen_new(struct log *log)
{
    struct seen *seen = calloc(1, sizeof *seen);
    assert_non_null(seen);
    struct log_handler handler = {.context = seen, .record = seen_record, .end = seen_end, .delivered = seen_delivered,
                                  .assigned = seen_assigned, .revoked = seen_revoked, .fault = seen_fault,
                                  .reply = seen_reply};
    log_set_handler(log, &handler);
    return seen;
}

/* ---- opening ---- */

struct log *try_open(const char *uri, const char *member, bool create, int *result, char error[512])
{
    struct log_options options = {.member = member, .client_name = "test", .create = create};
    struct log *log = NULL;
    *result = log_open(uri, &options, &log, error, 512);
    return log;
}

struct log *open_worker(const struct fixture *fixture)
{
    int result;
    char error[512] = "";
    struct log *log = try_open(fixture->uri, "alpha", true, &result, error);
    if (log == NULL)
        fail_msg("%s", error);
    return log;
}

struct log *open_client(const struct fixture *fixture)
{
    int result;
    char error[512] = "";
    struct log *log = try_open(fixture->uri, NULL, false, &result, error);
    if (log == NULL)
        fail_msg("%s", error);
    return log;
}

/* ---- records ---- */

void *make_command(const char *job, const char *request, uint64_t client, size_t *size)
{
    ReplyTo to = PERDURE__V1__REPLY_TO__INIT;
    to.client = client;
    Command command = PERDURE__V1__COMMAND__INIT;
    command.request = (char *)(uintptr_t)request;
    command.reply_to = client != 0 ? &to : NULL;
    Perdure__V1__Watch watch = PERDURE__V1__WATCH__INIT;
    command.kind_case = PERDURE__V1__COMMAND__KIND_WATCH;
    command.watch = &watch;
    Header header = PERDURE__V1__HEADER__INIT;
    header.format = 1;
    header.rule_level = header.min_reader = 1;
    header.kind = PERDURE__V1__KIND__KIND_COMMAND;
    header.job = (char *)(uintptr_t)job;
    Record record = PERDURE__V1__RECORD__INIT;
    record.header = &header;
    record.command = &command;
    return record_encode(&record, size);
}

int append_command(struct log *log, const char *job, const char *request, uint64_t cookie)
{
    size_t size;
    ReplyTo to = PERDURE__V1__REPLY_TO__INIT;
    log->operations->reply_address(log, &to);
    void *data = make_command(job, request, to.client, &size);
    assert_non_null(data);
    struct log_message message = {.key = job, .data = data, .size = size};
    int result = log->operations->append(log, LOG_INBOX, 0, &message, cookie);
    free(data);
    return result;
}

int append_event(struct log *log, uint32_t partition, const char *job, uint64_t run, uint64_t seq, uint64_t cookie)
{
    char data[64];
    int size = snprintf(data, sizeof data, "event %s %llu %llu", job, (unsigned long long)run,
                        (unsigned long long)seq);
    Header header = PERDURE__V1__HEADER__INIT;
    header.job = (char *)(uintptr_t)job;
    header.run = run;
    header.seq = seq;
    struct log_message message = {.key = job, .data = data, .size = (size_t)size, .header = &header};
    return log->operations->append(log, LOG_JOURNAL, partition, &message, cookie);
}

void poll_until(struct log *log, const size_t *counter, size_t wanted)
{
    for (int i = 0; i < 500 && *counter < wanted; i++)
        log->operations->poll(log, 10);
    assert_true(*counter >= wanted);
}

/* ---- processes ---- */

static volatile sig_atomic_t owner_ends;
static void owner_end(int number)
{
    (void)number;
    owner_ends = 1;
}

pid_t start_owner(const struct fixture *fixture)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGTERM, owner_end);
        int result;
        char error[512];
        struct log *log = try_open(fixture->uri, "owner", true, &result, error);
        if (log == NULL)
            fprintf(stderr, "owner: %s\n", error);
        if (log == NULL || write(ready[1], "+", 1) != 1)
            _exit(1);
        while (!owner_ends && log->operations->poll(log, 100) == LOG_OK)
            ;
        log->operations->close(log);
        _exit(0);
    }
    close(ready[1]); /* else a failed owner would never be read as such */
    char answer = 0;
    assert_int_equal(read(ready[0], &answer, 1), 1);
    close(ready[0]);
    return pid;
}

void stop_owner(pid_t pid, int signal_number)
{
    int status;
    kill(pid, signal_number);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

int64_t ask_database(const struct fixture *fixture, const char *sql)
{
    sqlite3 *database;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(fixture->path, &database), SQLITE_OK);
    if (sqlite3_prepare_v2(database, sql, -1, &statement, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(database));
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t answer = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(database);
    return answer;
}
