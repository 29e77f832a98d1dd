/*
 * The store (rule 22): in a file of its own and inside an embedded log.
 */
#include "sqlite_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/store.h"

#define LOG_ID UINT64_C(0x1122334455667788)

static struct store *open_store(const struct fixture *fixture, uint64_t log_id)
{
    struct store *store;
    char error[512];
    if (store_open(fixture->path, log_id, &store, error, sizeof error) != LOG_OK)
        fail_msg("%s", error);
    return store;
}

/* A save as the engine makes it: all rows tell the same number. */
static int save(struct store *store, int64_t number, int runs)
{
    StoredPartition partition = PERDURE__V1__STORED_PARTITION__INIT;
    partition.log_id = LOG_ID;
    partition.position = number;
    if (store_begin(store) != LOG_OK || store_put_partition(store, 0, &partition) != LOG_OK)
        return LOG_FAILED;
    char job[32];
    for (int i = 0; i < runs; i++) {
        snprintf(job, sizeof job, "job-%d", i);
        StoredRun run = PERDURE__V1__STORED_RUN__INIT;
        run.job = job;
        run.run = (uint64_t)i + 1;
        run.seq = (uint64_t)number;
        run.open = true;
        store_put_run(store, 0, &run);
        store_put_record(store, 0, job, run.run, (uint64_t)number, number * 100 + i, job, strlen(job));
    }
    StoredOutput first = PERDURE__V1__STORED_OUTPUT__INIT, second = PERDURE__V1__STORED_OUTPUT__INIT;
    first.offset = number;
    second.offset = number + 1;
    const StoredOutput *outputs[] = {&first, &second};
    store_put_outputs(store, 0, outputs, 2);
    return store_commit(store);
}

static int64_t position_of(struct store *store)
{
    StoredPartition *partition;
    int result = store_partition(store, 0, &partition);
    if (result != LOG_OK)
        return result;
    int64_t position = partition->position;
    stored_partition_free(partition);
    return position;
}

struct counted {
    int64_t expected;
    size_t runs, outputs, records;
    int64_t last;
};

static void count_run(void *context, const StoredRun *run)
{
    struct counted *counted = context;
    assert_true((int64_t)run->seq == counted->expected);
    counted->runs++;
}

static void count_output(void *context, const StoredOutput *output)
{
    struct counted *counted = context;
    assert_true(output->offset == counted->expected + (int64_t)counted->outputs);
    counted->outputs++;
}

static bool count_record(void *context, int64_t offset, const void *record, size_t size)
{
    struct counted *counted = context;
    assert_true(offset > counted->last && size > 0 && record != NULL);
    counted->last = offset;
    counted->records++;
    return true;
}

static void check(struct store *store, int64_t number, size_t runs)
{
    struct counted counted = {.expected = number, .last = -1};
    assert_true(position_of(store) == number);
    assert_int_equal(store_each_run(store, 0, count_run, &counted), LOG_OK);
    assert_int_equal(counted.runs, runs);
    assert_int_equal(store_each_output(store, 0, count_output, &counted), LOG_OK);
    assert_int_equal(counted.outputs, 2);
}

static void keeps_rows(void **state)
{
    struct store *store = open_store(*state, LOG_ID);
    assert_int_equal(position_of(store), LOG_NOT_FOUND);
    for (int64_t n = 1; n <= 3; n++)
        assert_int_equal(save(store, n, 20), LOG_OK);
    store_close(store);
    store = open_store(*state, LOG_ID);
    check(store, 3, 20);
    StoredRun *run;
    assert_int_equal(store_run(store, 0, "job-7", &run), LOG_OK);
    assert_int_equal(run->run, 8);
    stored_run_free(run);
    assert_int_equal(store_run(store, 0, "nobody", &run), LOG_NOT_FOUND);
    struct counted counted = {.last = -1};
    assert_int_equal(store_history(store, 0, "job-7", 8, count_record, &counted), LOG_OK);
    assert_int_equal(counted.records, 3);
    store_begin(store);
    store_drop_records(store, 0, "job-7", 8);
    assert_int_equal(store_commit(store), LOG_OK);
    counted = (struct counted){.last = -1};
    assert_int_equal(store_history(store, 0, "job-7", 8, count_record, &counted), LOG_OK);
    assert_int_equal(counted.records, 0);
    /* What is rolled back was never there. */
    store_begin(store);
    store_drop_partition(store, 0);
    store_rollback(store);
    check(store, 3, 20);
    store_begin(store);
    store_drop_partition(store, 0);
    assert_int_equal(store_commit(store), LOG_OK);
    assert_int_equal(position_of(store), LOG_NOT_FOUND);
    store_close(store);
}

/* Rule 22: rows and position change in one transaction, wherever the process dies. */
static void changes_as_a_whole(void **state)
{
    for (int round = 0; round < 8; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct store *store = open_store(*state, LOG_ID);
            int64_t number = position_of(store);
            for (number = number < 0 ? 1 : number + 1;; number++)
                if (save(store, number, 50) != LOG_OK)
                    _exit(1);
        }
        usleep(10000 + (useconds_t)round * 7000);
        kill(pid, SIGKILL);
        int status;
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status));
        struct store *store = open_store(*state, LOG_ID);
        int64_t number = position_of(store);
        if (number >= 0)
            check(store, number, 50);
        store_close(store);
    }
}

static void begins_anew_for_another_log(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = open_store(fixture, LOG_ID);
    save(store, 5, 3);
    store_close(store);
    store = open_store(fixture, LOG_ID + 1);
    assert_int_equal(position_of(store), LOG_NOT_FOUND);
    store_close(store);
    char bad[128];
    snprintf(bad, sizeof bad, "%s.bad", fixture->path);
    assert_int_equal(access(bad, F_OK), 0);
}

/* Row 28: whatever is damaged, only time is lost: what is still told is right. */
static void damage_costs_only_time(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = open_store(fixture, LOG_ID);
    save(store, 9, 40);
    store_close(store);
    FILE *file = fopen(fixture->path, "r");
    static uint8_t good[256 * 1024], bad[256 * 1024];
    size_t size = fread(good, 1, sizeof good, file), whole = 0, dropped = 0;
    fclose(file);
    srand(5);
    for (int round = 0; round < 120; round++) {
        size_t length = round % 4 == 3 ? (size_t)rand() % size : size;
        memcpy(bad, good, size);
        bad[(size_t)rand() % size] ^= (uint8_t)(1 << rand() % 8);
        file = fopen(fixture->path, "w");
        fwrite(bad, 1, length, file);
        fclose(file);
        store = open_store(fixture, LOG_ID);
        int64_t position = position_of(store);
        if (position == 9) {
            struct counted counted = {.expected = 9, .last = -1};
            store_each_run(store, 0, count_run, &counted);
            whole++;
        } else {
            dropped++;
        }
        store_close(store);
    }
    file = fopen(fixture->path, "w");
    fputs("garbage, garbage, garbage", file);
    fclose(file);
    store = open_store(fixture, LOG_ID);
    assert_int_equal(position_of(store), LOG_NOT_FOUND);
    assert_int_equal(save(store, 10, 2), LOG_OK);
    check(store, 10, 2);
    store_close(store);
    assert_true(whole > 0 && dropped > 0);
}

static int64_t records_of(struct store *store, const char *job, uint64_t run)
{
    struct counted counted = {.last = -1};
    assert_int_equal(store_history(store, 0, job, run, count_record, &counted), LOG_OK);
    return (int64_t)counted.records;
}

/* What stands at the path and is no store is moved out of the way. */
static void begins_anew_beside_what_is_no_file(void **state)
{
    struct fixture *fixture = *state;
    char bad[128];
    assert_int_equal(mkdir(fixture->path, 0700), 0);
    struct store *store = open_store(fixture, LOG_ID);
    assert_int_equal(save(store, 1, 2), LOG_OK);
    store_close(store);
    snprintf(bad, sizeof bad, "%s.bad", fixture->path);
    assert_int_equal(rmdir(bad), 0);
    store = open_store(fixture, LOG_ID);
    check(store, 1, 2);
    store_close(store);
}

/* Nor where nothing can be made: an error, that the worker goes on with. */
static void an_error_where_there_is_no_directory(void **state)
{
    struct fixture *fixture = *state;
    char path[160], error[512] = "";
    struct store *store;
    snprintf(path, sizeof path, "%s/nowhere/store.db", fixture->folder);
    assert_int_equal(store_open(path, LOG_ID, &store, error, sizeof error), LOG_FAILED);
    assert_null(store);
    assert_non_null(strstr(error, "No such file"));
}

/* Taken away or replaced while it is open: a copy of what it holds is put where it was, and written from then on. */
static void put_back_where_it_was(void **state)
{
    struct fixture *fixture = *state;
    char elsewhere[128];
    struct store *store = open_store(fixture, LOG_ID);
    assert_int_equal(save(store, 1, 40), LOG_OK);
    assert_true(store_is_in_place(store));
    unlink(fixture->path);
    assert_false(store_is_in_place(store));
    assert_int_equal(save(store, 2, 40), LOG_OK);
    assert_int_equal(store_put_back(store, LOG_ID), LOG_OK);
    assert_true(store_is_in_place(store));
    check(store, 2, 40);
    snprintf(elsewhere, sizeof elsewhere, "%s.old", fixture->path);
    rename(fixture->path, elsewhere);
    FILE *file = fopen(fixture->path, "w");
    fputs("somebody else's", file);
    fclose(file);
    assert_int_equal(store_put_back(store, LOG_ID), LOG_OK);
    assert_int_equal(save(store, 3, 40), LOG_OK);
    store_close(store);
    store = open_store(fixture, LOG_ID);
    check(store, 3, 40);
    assert_int_equal(records_of(store, "job-7", 8), 3);
    store_close(store);
    unlink(elsewhere);
}

/* Overwritten while it is open: what SQLite has in memory goes over it in the end. The next one to open it finds all, or
 * begins anew. */
static void overwritten_in_use(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = open_store(fixture, LOG_ID);
    assert_int_equal(save(store, 1, 3000), LOG_OK);
    store_close(store);
    store = open_store(fixture, LOG_ID);
    int file = open(fixture->path, O_WRONLY | O_CLOEXEC);
    for (int i = 0; i < 64; i++)
        assert_int_equal(write(file, "noise, noise, noise", 19), 19);
    close(file);
    save(store, 2, 3000);
    store_close(store);
    store = open_store(fixture, LOG_ID);
    int64_t position = position_of(store);
    assert_true(position == LOG_NOT_FOUND || position == 2);
    assert_int_equal(save(store, 3, 2), LOG_OK);
    assert_true(position_of(store) == 3);
    store_close(store);
}

/* A file that gave what is wrong, and again after its rows were dropped: nothing of it is read or written any more. */
static void given_up_it_goes_as_a_whole(void **state)
{
    struct fixture *fixture = *state;
    char bad[512];
    struct store *store = open_store(fixture, LOG_ID);
    assert_int_equal(save(store, 1, 10), LOG_OK);
    store_give_up(store);
    assert_true(store_is_lost(store));
    assert_int_equal(position_of(store), LOG_FAILED);
    assert_int_equal(store_history(store, 0, "job-1", 1, NULL, NULL), LOG_FAILED);
    assert_int_equal(save(store, 2, 10), LOG_FAILED);
    store_close(store);
    snprintf(bad, sizeof bad, "%s.bad", fixture->path);
    assert_int_equal(access(bad, F_OK), 0);
    store = open_store(fixture, LOG_ID);
    assert_int_equal(position_of(store), LOG_NOT_FOUND);
    store_close(store);
}

/* A commit that fails is written with the next one: nothing between is missing. */
static void failed_commits_are_kept(void **state)
{
    struct fixture *fixture = *state;
    struct rlimit old, low;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    struct store *store = open_store(fixture, LOG_ID);
    assert_int_equal(save(store, 1, 100), LOG_OK);
    low = old;
    low.rlim_cur = 4096;
    setrlimit(RLIMIT_FSIZE, &low);
    assert_int_equal(save(store, 2, 100), LOG_FAILED);
    assert_int_equal(save(store, 3, 10), LOG_FAILED);
    if (!strstr(store_error(store), "disk I/O error"))
        fail_msg("%s", store_error(store));
    assert_false(store_is_lost(store));
    assert_int_equal(records_of(store, "job-9", 10), 3); /* two of them from memory */
    setrlimit(RLIMIT_FSIZE, &old);
    assert_true(position_of(store) == 1);
    assert_int_equal(save(store, 4, 1), LOG_OK);
    assert_true(position_of(store) == 4);
    StoredRun *run;
    const char *const jobs[] = {"job-0", "job-9", "job-99"};
    const uint64_t seqs[] = {4, 3, 2};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(store_run(store, 0, jobs[i], &run), LOG_OK);
        assert_true(run->seq == seqs[i]);
        stored_run_free(run);
    }
    store_close(store);
}

/* In the log's file: committed by the log's next flush, and seen before it. */
static void lives_in_the_log(void **state)
{
    struct fixture *fixture = *state;
    struct log *log = open_worker(fixture);
    struct store *store = store_of_log(log);
    assert_non_null(store);
    assert_int_equal(save(store, 1, 5), LOG_OK);
    check(store, 1, 5); /* reading settles it */
    assert_int_equal(save(store, 2, 5), LOG_OK);
    append_event(log, 0, "job-2", 3, 1, 1);
    assert_int_equal(log->operations->flush(log), LOG_OK);
    struct counted counted = {.last = -1};
    assert_int_equal(store_history(store, 0, "job-2", 3, count_record, &counted), LOG_OK);
    assert_int_equal(counted.records, 1); /* the journal's own */
    store_close(store);
    log->operations->close(log);
    assert_int_equal(ask_database(fixture, "SELECT count(*) FROM store_run"), 5);
    assert_int_equal(ask_database(fixture, "SELECT count(*) FROM store_record"), 0);
    /* A damaged row: the partition's rows go, the engine rebuilds. */
    sqlite3 *database;
    sqlite3_open(fixture->path, &database);
    assert_int_equal(sqlite3_exec(database, "UPDATE store_run SET row = x'00112233445566778899' WHERE job = 'job-3'",
                                  NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(database);
    log = open_worker(fixture);
    store = store_of_log(log);
    assert_int_equal(position_of(store), LOG_NOT_FOUND);
    store_close(store);
    log->operations->close(log);
    assert_int_equal(ask_database(fixture, "SELECT count(*) FROM store_run"), 0);
    log = open_client(fixture);
    assert_null(store_of_log(log));
    log->operations->close(log);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(keeps_rows), TEST(changes_as_a_whole), TEST(begins_anew_for_another_log), TEST(damage_costs_only_time),
        TEST(begins_anew_beside_what_is_no_file), TEST(an_error_where_there_is_no_directory), TEST(put_back_where_it_was),
        TEST(overwritten_in_use), TEST(given_up_it_goes_as_a_whole), TEST(failed_commits_are_kept), TEST(lives_in_the_log),
    };
    cmocka_set_test_filter(getenv("PERDURE_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
