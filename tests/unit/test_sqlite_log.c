/*
 * The embedded log as its owner has it: order, offsets, what is told when, what is refused (rules 26, 27, 32).
 */
#include "sqlite_fixture.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void creates_genesis(void **state)
{
    struct fixture *fixture = *state;
    char uri[160], error[512];
    int result;
    snprintf(uri, sizeof uri, "%s?partitions=4", fixture->uri);
    struct log *log = try_open(uri, "alpha", true, &result, error);
    assert_non_null(log);
    assert_int_equal(log->genesis.partitions, 4);
    assert_string_equal(log->genesis.namespace_, "log.db");
    uint64_t id = log->genesis.log_id;
    assert_true(id != 0);
    struct seen *seen = seen_new(log);
    for (uint32_t p = 0; p < 4; p++)
        log->operations->follow(log, LOG_JOURNAL, p, 0);
    log->operations->poll(log, 0);
    assert_int_equal(seen->record_count, 4);
    for (uint32_t p = 0; p < 4; p++) {
        assert_int_equal(seen->records[p].partition, p);
        assert_int_equal(seen->records[p].offset, p);
    }
    assert_int_equal(seen->ends, 4);
    log->operations->close(log);
    free(seen);
    log = open_worker(fixture); /* the option counts at creation only */
    assert_int_equal(log->genesis.partitions, 4);
    assert_true(log->genesis.log_id == id);
    log->operations->close(log);
    snprintf(uri, sizeof uri, "sqlite:%s/other.db?partitions=3", fixture->folder);
    assert_null(try_open(uri, "alpha", true, &result, error));
    assert_non_null(strstr(error, "power of two"));
}

/* Rule 26: told after the commit, deliveries first, journal before inbox, in the order of offsets. */
static void tells_in_order(void **state)
{
    struct log *log = open_worker(*state);
    struct seen *seen = seen_new(log);
    log->operations->follow(log, LOG_JOURNAL, 0, 0);
    log->operations->follow(log, LOG_INBOX, 0, 0);
    log->operations->poll(log, 0);
    assert_string_equal(seen->order, "jee"); /* genesis, both ends */
    memset(seen->order, 0, sizeof seen->order);
    assert_int_equal(append_command(log, "job", "request-1", 1), LOG_OK);
    assert_int_equal(append_event(log, 0, "job", 7, 1, 2), LOG_OK);
    assert_int_equal(append_event(log, 0, "job", 7, 2, 3), LOG_OK);
    assert_string_equal(seen->order, "");
    assert_int_equal(log->operations->flush(log), LOG_OK);
    assert_string_equal(seen->order, "dddjjeie");
    assert_int_equal(seen->delivered[0].cookie, 1);
    assert_int_equal(seen->delivered[0].offset, 0);
    assert_int_equal(seen->delivered[1].offset, 1);
    assert_int_equal(seen->delivered[2].offset, 2);
    assert_int_equal(seen->end[LOG_JOURNAL], 3);
    assert_int_equal(seen->end[LOG_INBOX], 1);
    for (size_t i = 1; i < seen->record_count; i++)
        assert_true(seen->records[i].append_ms >= seen->records[i - 1].append_ms);
    int64_t start, end;
    assert_int_equal(log->operations->bounds(log, LOG_JOURNAL, 0, &start, &end), LOG_OK);
    assert_true(start == 0 && end == 3);
    log->operations->close(log);
    free(seen);
}

static void reads_back_what_was_written(void **state)
{
    struct log *log = open_worker(*state);
    struct seen *live = seen_new(log);
    log->operations->follow(log, LOG_JOURNAL, 0, 0);
    log->operations->poll(log, 0);
    for (uint64_t i = 0; i < 5000; i++) {
        assert_int_equal(append_event(log, 0, "job", 1 + i % 7, i / 7, i), LOG_OK);
        if (i % 100 == 99)
            log->operations->flush(log);
    }
    log->operations->close(log);
    log = open_worker(*state);
    struct seen *again = seen_new(log);
    log->operations->follow(log, LOG_JOURNAL, 0, 0);
    for (int i = 0; i < 10; i++)
        log->operations->poll(log, 0);
    assert_int_equal(live->record_count, 5001);
    assert_int_equal(again->record_count, 5001);
    assert_memory_equal(live->records, again->records, 5001 * sizeof live->records[0]);
    assert_int_equal(again->ends, 1);
    log->operations->close(log);
    free(live);
    free(again);
}

static void refuses_to_follow_what_is_not_there(void **state)
{
    struct log *log = open_worker(*state);
    struct seen *seen = seen_new(log);
    for (uint64_t i = 0; i < 10; i++)
        append_event(log, 0, "job", 1, i, i);
    log->operations->flush(log);
    log->operations->trim(log, LOG_JOURNAL, 0, 5);
    log->operations->flush(log);
    log->operations->follow(log, LOG_JOURNAL, 0, 4);
    log->operations->poll(log, 0);
    assert_int_equal(seen->out_of_range, 1);
    log->operations->follow(log, LOG_JOURNAL, 0, 12);
    log->operations->poll(log, 0);
    assert_int_equal(seen->truncated, 1);
    log->operations->follow(log, LOG_JOURNAL, 0, 5);
    log->operations->poll(log, 0);
    assert_int_equal(seen->record_count, 6);
    log->operations->close(log);
    free(seen);
}

/* Rule 26: not even when all rows are trimmed and the file is opened anew. */
static void never_reuses_offsets(void **state)
{
    struct log *log = open_worker(*state);
    struct seen *seen = seen_new(log);
    append_command(log, "job", "a", 1);
    append_command(log, "job", "b", 2);
    log->operations->flush(log);
    log->operations->trim(log, LOG_INBOX, 0, 2);
    log->operations->flush(log);
    log->operations->flush(log);
    for (int i = 0; i < 3; i++)
        log->operations->poll(log, 30); /* idle: the rows go */
    log->operations->close(log);
    assert_int_equal(ask_database(*state, "SELECT count(*) FROM inbox"), 0);
    log = open_worker(*state);
    free(seen);
    seen = seen_new(log);
    append_command(log, "job", "c", 3);
    log->operations->flush(log);
    assert_int_equal(seen->delivered[0].offset, 2);
    int64_t start, end;
    log->operations->bounds(log, LOG_INBOX, 0, &start, &end);
    assert_true(start == 2 && end == 3);
    log->operations->close(log);
    free(seen);
}

/* Rule 28: one row per job and request id; another job's command under the same id is no repetition. */
static void knows_request_ids(void **state)
{
    struct log *log = open_worker(*state);
    struct seen *seen = seen_new(log);
    append_command(log, "job", "a", 1);
    append_command(log, "job", "a", 2);
    log->operations->flush(log);
    append_command(log, "job", "a", 3);
    append_command(log, "other", "a", 4);
    append_command(log, "job", "b", 5);
    log->operations->flush(log);
    assert_int_equal(seen->delivered_count, 5);
    assert_int_equal(seen->delivered[1].offset, 0);
    assert_int_equal(seen->delivered[2].offset, 0);
    assert_int_equal(seen->delivered[3].delivery, LOG_PERSISTED);
    assert_int_equal(seen->delivered[3].offset, 1);
    assert_int_equal(seen->delivered[4].offset, 2);
    log->operations->close(log);
    free(seen);
    assert_int_equal(ask_database(*state, "SELECT count(*) FROM inbox"), 3);
}

struct visited {
    size_t count;
    int64_t last;
};

static bool visit_record(void *context, int64_t offset, const void *record, size_t size)
{
    struct visited *visited = context;
    assert_true(size > 0 && record != NULL && offset > visited->last);
    visited->last = offset;
    visited->count++;
    return true;
}

/* The index lags behind the journal: both parts must show, across closing too. */
static void finds_histories(void **state)
{
    struct log *log = open_worker(*state);
    for (uint64_t i = 0; i < 40000; i++) {
        append_event(log, 0, i % 2 ? "odd" : "even", 1 + i % 1000, i / 1000, i);
        if (i % 500 == 499)
            log->operations->flush(log);
    }
    for (int round = 0; round < 2; round++) {
        for (uint64_t run = 1; run <= 1000; run += 111) {
            struct visited visited = {.last = -1};
            const char *job = run % 2 ? "even" : "odd";
            assert_int_equal(log->operations->history(log, 0, job, run, visit_record, &visited), LOG_OK);
            assert_int_equal(visited.count, 40);
        }
        struct visited none = {.last = -1};
        assert_int_equal(log->operations->history(log, 0, "odd", 1, visit_record, &none), LOG_OK);
        assert_int_equal(none.count, 0);
        log->operations->close(log);
        log = open_worker(*state);
    }
    for (uint64_t i = 0; i < 5000; i++)
        append_event(log, 0, "long", 5000, i, i);
    log->operations->flush(log);
    struct visited visited = {.last = -1};
    assert_int_equal(log->operations->history(log, 0, "long", 5000, visit_record, &visited), LOG_OK);
    assert_int_equal(visited.count, 5000);
    log->operations->close(log);
}

static bool visit_status(void *context, const char *key, const void *data, size_t size)
{
    struct visited *visited = context;
    assert_memory_equal(key, "job-", 4);
    assert_true(size == strlen(key) && memcmp(data, key, size) == 0);
    visited->count++;
    return true;
}

static void keeps_statuses(void **state)
{
    struct log *log = open_worker(*state);
    char key[32];
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "job-%d", i);
        assert_int_equal(log->operations->put_status(log, key, key, strlen(key), NULL), LOG_OK);
    }
    log->operations->put_status(log, "zebra", "z", 1, NULL);
    log->operations->put_status(log, "job-17", NULL, 0, NULL);
    log->operations->flush(log);
    struct visited visited = {0};
    assert_int_equal(log->operations->each_status(log, "job-", visit_status, &visited), LOG_OK);
    assert_int_equal(visited.count, 4999);
    void *data;
    size_t size;
    assert_int_equal(log->operations->get_status(log, "zebra", &data, &size), LOG_OK);
    assert_int_equal(size, 1);
    free(data);
    assert_int_equal(log->operations->get_status(log, "job-17", &data, &size), LOG_NOT_FOUND);
    log->operations->close(log);
}

static void keeps_dead_letters(void **state)
{
    struct log *log = open_worker(*state);
    struct log_record record = {.stream = LOG_INBOX, .offset = 5, .data = "bytes", .size = 5};
    assert_int_equal(log->operations->dead(log, &record, "unreadable"), LOG_OK);
    log->operations->close(log); /* closing writes what waits */
    assert_int_equal(ask_database(*state, "SELECT count(*) FROM dead WHERE offset = 5 AND reason = 'unreadable'"), 1);
}

static void assigns_all_partitions(void **state)
{
    struct log *log = open_worker(*state);
    struct seen *seen = seen_new(log);
    log->operations->join(log);
    assert_int_equal(seen->assigned, 0);
    log->operations->poll(log, 0);
    assert_int_equal(seen->assigned, 1);
    log->operations->leave(log, true);
    log->operations->poll(log, 0);
    assert_int_equal(seen->revoked, 1);
    log->operations->close(log);
    free(seen);
}

/* H57 */
static void has_one_owner(void **state)
{
    struct fixture *fixture = *state;
    pid_t owner = start_owner(fixture);
    int result;
    char error[512], pid[32];
    assert_null(try_open(fixture->uri, "second", true, &result, error));
    assert_int_equal(result, LOG_BUSY);
    snprintf(pid, sizeof pid, "process %d (worker", (int)owner);
    assert_non_null(strstr(error, pid));
    stop_owner(owner, SIGKILL);
    struct log *log = open_worker(fixture);
    /* By another name of the same file too. */
    char other[128], uri[160];
    snprintf(other, sizeof other, "%s/hard.db", fixture->folder);
    assert_int_equal(link(fixture->path, other), 0);
    snprintf(uri, sizeof uri, "sqlite:%s", other);
    assert_null(try_open(uri, "second", true, &result, error));
    assert_int_equal(result, LOG_BUSY);
    unlink(other);
    assert_int_equal(symlink(fixture->path, other), 0);
    assert_null(try_open(uri, "second", true, &result, error));
    assert_int_equal(result, LOG_BUSY);
    log->operations->close(log);
}

static void refuses_foreign_files(void **state)
{
    struct fixture *fixture = *state;
    int result;
    char error[512];
    sqlite3 *database;
    assert_int_equal(sqlite3_open(fixture->path, &database), SQLITE_OK);
    sqlite3_exec(database, "CREATE TABLE t(x)", NULL, NULL, NULL);
    sqlite3_close(database);
    assert_null(try_open(fixture->uri, "alpha", true, &result, error));
    assert_non_null(strstr(error, "another program"));
    unlink(fixture->path);
    FILE *file = fopen(fixture->path, "w");
    for (int i = 0; i < 2000; i++)
        fputs("no database at all\n", file);
    fclose(file);
    assert_null(try_open(fixture->uri, "alpha", true, &result, error));
    assert_non_null(strstr(error, fixture->path));
    unlink(fixture->path);
    /* Rule 32: a newer format. */
    struct log *log = open_worker(fixture);
    log->operations->close(log);
    assert_int_equal(sqlite3_open(fixture->path, &database), SQLITE_OK);
    sqlite3_exec(database, "PRAGMA user_version=2", NULL, NULL, NULL);
    sqlite3_close(database);
    assert_null(try_open(fixture->uri, "alpha", true, &result, error));
    assert_non_null(strstr(error, "newer version"));
}

static void creates_nothing_unasked(void **state)
{
    struct fixture *fixture = *state;
    int result;
    char error[512];
    assert_null(try_open(fixture->uri, NULL, false, &result, error));
    assert_int_equal(result, 3);
    assert_null(try_open(fixture->uri, "alpha", false, &result, error));
    assert_int_equal(result, 3);
    assert_int_equal(rmdir(fixture->folder), 0); /* empty: not even a lock file */
    assert_int_equal(mkdir(fixture->folder, 0700), 0);
    assert_null(try_open("sqlite:", NULL, false, &result, error));
    assert_int_equal(result, 2);
    assert_null(try_open("ftp://x", NULL, false, &result, error));
    assert_int_equal(result, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(creates_genesis), TEST(tells_in_order), TEST(reads_back_what_was_written),
        TEST(refuses_to_follow_what_is_not_there), TEST(never_reuses_offsets), TEST(knows_request_ids),
        TEST(finds_histories), TEST(keeps_statuses), TEST(keeps_dead_letters), TEST(assigns_all_partitions),
        TEST(has_one_owner), TEST(refuses_foreign_files), TEST(creates_nothing_unasked),
    };
    cmocka_set_test_filter(getenv("PERDURE_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
