/*
 * The embedded log when things die, break or fill up (H29, H31; hazards 52 to 57).
 */
#define _GNU_SOURCE
#include "sqlite_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- kill -9 under load (H31) ---- */

#define CLIENTS 3
#define SUBMITS 150

struct shared {
    volatile int64_t acknowledged[CLIENTS][SUBMITS]; /* offset + 1; 0: not acknowledged */
    volatile int done;
};

static void submit_all(const struct fixture *fixture, struct shared *shared, int c)
{
    struct log *log = open_client(fixture);
    struct seen *seen = seen_new(log);
    char request[32];
    for (int i = 0; i < SUBMITS; i++) {
        snprintf(request, sizeof request, "request-%d-%d", c, i);
        append_command(log, "job", request, (uint64_t)i);
        size_t before = seen->delivered_count;
        for (int k = 0; k < 3000 && seen->delivered_count == before; k++)
            log->operations->poll(log, 10);
        if (seen->delivered_count == before || seen->delivered[before].delivery != LOG_PERSISTED)
            break;
        shared->acknowledged[c][i] = seen->delivered[before].offset + 1;
        if (i % 5 == 0) { /* and once more, as a client that missed the answer would */
            append_command(log, "job", request, (uint64_t)i);
            for (int k = 0; k < 3000 && seen->delivered_count == before + 1; k++)
                log->operations->poll(log, 10);
            if (seen->delivered[before + 1].offset != seen->delivered[before].offset)
                _exit(2);
        }
    }
    log->operations->close(log);
    __atomic_add_fetch(&shared->done, 1, __ATOMIC_SEQ_CST);
    _exit(0);
}

static void kills_lose_and_double_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    stop_owner(start_owner(fixture), SIGTERM);
    pid_t clients[CLIENTS];
    for (int c = 0; c < CLIENTS; c++)
        if ((clients[c] = fork()) == 0)
            submit_all(fixture, shared, c);
    srand(7);
    int kills = 0;
    while (shared->done < CLIENTS && kills < 200) {
        pid_t owner = start_owner(fixture);
        usleep((useconds_t)(rand() % 30000));
        stop_owner(owner, SIGKILL);
        kills++;
        usleep((useconds_t)(rand() % 10000)); /* now and then nobody owns it */
    }
    for (int c = 0; c < CLIENTS; c++) {
        int status;
        waitpid(clients[c], &status, 0);
        assert_int_equal(status, 0);
    }
    assert_true(kills >= 3);
    assert_int_equal(ask_database(fixture, "SELECT count(*) FROM inbox"), CLIENTS * SUBMITS);
    for (int c = 0; c < CLIENTS; c++)
        for (int i = 0; i < SUBMITS; i += 37) {
            char sql[128];
            snprintf(sql, sizeof sql, "SELECT offset FROM inbox WHERE request LIKE 'request-%d-%d' || char(10) || '%%'", c, i);
            assert_int_equal(ask_database(fixture, sql), shared->acknowledged[c][i] - 1);
        }
    munmap(shared, sizeof *shared);
}

/* ---- children of the owner that outlive it (H29) ---- */

static void orphan_holds_nothing(const struct fixture *fixture, bool exec)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t owner = fork();
    if (owner == 0) {
        struct log *log = open_worker(fixture);
        log->operations->poll(log, 0);
        pid_t child = fork();
        if (child == 0) {
            if (exec)
                execl("/bin/sleep", "sleep", "30", (char *)NULL);
            for (;;)
                pause();
        }
        if (write(ready[1], &child, sizeof child) != sizeof child)
            _exit(1);
        for (;;)
            log->operations->poll(log, 100);
    }
    pid_t child;
    assert_int_equal(read(ready[0], &child, sizeof child), sizeof child);
    usleep(20000);
    struct log *client = open_client(fixture); /* connected when the owner dies: it must see that at once */
    struct seen *seen = seen_new(client);
    stop_owner(owner, SIGKILL);
    assert_int_equal(kill(child, 0), 0);
    append_command(client, "job", exec ? "exec" : "fork", 1);
    poll_until(client, &seen->delivered_count, 1);
    struct log *log = open_worker(fixture);
    log->operations->close(log);
    client->operations->close(client);
    kill(child, SIGKILL);
    free(seen);
    close(ready[0]);
    close(ready[1]);
}

static void orphans_hold_nothing(void **state)
{
    orphan_holds_nothing(*state, false);
    orphan_holds_nothing(*state, true);
}

/* A forked child that closes the log, as an exit handler would, leaves its parent's alone. */
static void child_leaves_the_log_alone(void **state)
{
    struct log *log = open_worker(*state);
    struct seen *seen = seen_new(log);
    append_event(log, 0, "job", 1, 1, 1);
    pid_t child = fork();
    if (child == 0) {
        int failed = log->operations->flush(log) == LOG_FAILED;
        log->operations->close(log);
        _exit(failed ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(log->operations->flush(log), LOG_OK);
    assert_int_equal(seen->delivered_count, 1);
    struct log *client_side;
    int result;
    char error[512];
    client_side = try_open(((struct fixture *)*state)->uri, "second", false, &result, error);
    assert_null(client_side);
    log->operations->close(log);
    free(seen);
}

/* ---- a step that reads every file of the log's folder (rule 27) ---- */

static void read_folder(const char *folder)
{
    DIR *directory = opendir(folder);
    struct dirent *entry;
    char path[400], bytes[4096];
    while ((entry = readdir(directory)) != NULL) {
        snprintf(path, sizeof path, "%s/%.200s", folder, entry->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
            continue;
        while (read(fd, bytes, sizeof bytes) > 0)
            ;
        close(fd); /* SQLite's own locks have fallen now */
    }
    closedir(directory);
}

static void reading_the_folder_frees_no_lock(void **state)
{
    struct fixture *fixture = *state;
    struct log *log = open_worker(fixture);
    struct seen *seen = seen_new(log);
    pid_t clients[2];
    for (int c = 0; c < 2; c++)
        if ((clients[c] = fork()) == 0) {
            struct log *client = open_client(fixture);
            struct seen *theirs = seen_new(client);
            for (int i = 0; i < 50; i++) {
                char request[32];
                snprintf(request, sizeof request, "request-%d-%d", c, i);
                append_command(client, "job", request, 1);
                for (int k = 0; k < 500 && theirs->delivered_count <= (size_t)i; k++)
                    client->operations->poll(client, 10);
                int64_t start, end;
                if (client->operations->bounds(client, LOG_INBOX, 0, &start, &end) != LOG_OK || end <= i)
                    _exit(1);
            }
            _exit(theirs->delivered_count == 50 ? 0 : 2);
        }
    int status, left = 2;
    for (int i = 0; left > 0 && i < 2000; i++) {
        read_folder(fixture->folder);
        append_event(log, 0, "job", 1, (uint64_t)i, 1);
        assert_int_equal(log->operations->poll(log, 5), LOG_OK);
        for (int c = 0; c < 2; c++)
            if (clients[c] > 0 && waitpid(clients[c], &status, WNOHANG) == clients[c]) {
                assert_int_equal(status, 0);
                clients[c] = 0;
                left--;
            }
    }
    assert_int_equal(left, 0);
    int result;
    char error[512];
    assert_null(try_open(fixture->uri, "second", false, &result, error));
    assert_int_equal(result, LOG_BUSY);
    log->operations->close(log);
    free(seen);
    assert_int_equal(ask_database(fixture, "SELECT count(*) FROM inbox"), 100);
    assert_int_equal(ask_database(fixture, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"),
                     1);
}

/* ---- a torn WAL (hazard 52) ---- */

static void *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    void *data = malloc(*size + 1);
    assert_int_equal(fread(data, 1, *size, file), *size);
    fclose(file);
    return data;
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
}

#define COMMITS 6

/* An owner that commits one record after another and is killed; what it acknowledged, and where the WAL stood. */
static void commit_and_die(const struct fixture *fixture, size_t wal_sizes[COMMITS])
{
    int result[2];
    assert_int_equal(pipe(result), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct log *log = open_worker(fixture);
        for (int i = 0; i < COMMITS; i++) {
            append_event(log, 0, "job", 1, (uint64_t)i, 1);
            log->operations->flush(log);
            /* The end of the last frame that is not zero: the file itself was laid out in advance. */
            char path[128];
            snprintf(path, sizeof path, "%s-wal", fixture->path);
            size_t size;
            char *wal = read_file(path, &size);
            while (size > 0 && wal[size - 1] == 0)
                size--;
            free(wal);
            if (write(result[1], &size, sizeof size) != sizeof size)
                _exit(1);
        }
        raise(SIGKILL);
    }
    for (int i = 0; i < COMMITS; i++)
        assert_int_equal(read(result[0], &wal_sizes[i], sizeof wal_sizes[i]), sizeof wal_sizes[i]);
    int status;
    waitpid(pid, &status, 0);
    close(result[0]);
    close(result[1]);
}

static void restore(const struct fixture *fixture, const char *suffix, const void *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s%s", fixture->path, suffix);
    write_file(path, data, size);
}

/* Opens; returns the end of the journal as it can be read, and whether a loss was named. */
static int64_t open_and_look(const struct fixture *fixture, size_t *named)
{
    struct log *log = open_worker(fixture);
    struct seen *seen = seen_new(log);
    log->operations->follow(log, LOG_JOURNAL, 0, 0);
    log->operations->poll(log, 0);
    int64_t readable = (int64_t)seen->record_count;
    *named = seen->truncated;
    /* What was acknowledged before keeps its offset for ever. */
    append_event(log, 0, "job", 1, 99, 1);
    log->operations->flush(log);
    assert_int_equal(seen->delivered[0].offset, 1 + COMMITS);
    log->operations->close(log);
    free(seen);
    return readable;
}

static void torn_wal_is_named(void **state)
{
    struct fixture *fixture = *state;
    size_t sizes[COMMITS], database_size, wal_size, lock_size;
    commit_and_die(fixture, sizes);
    char wal_path[128], lock_path[128];
    snprintf(wal_path, sizeof wal_path, "%s-wal", fixture->path);
    snprintf(lock_path, sizeof lock_path, "%s.lock", fixture->path);
    void *database = read_file(fixture->path, &database_size), *wal = read_file(wal_path, &wal_size);
    void *lock = read_file(lock_path, &lock_size);
    size_t from = sizes[COMMITS - 4], to = sizes[COMMITS - 1], named, cuts = 0;
    /* Each byte near the ends of frames, every 61st in between; PERDURE_THOROUGH: each byte. */
    bool thorough = getenv("PERDURE_THOROUGH") != NULL;
    for (size_t cut = from; cut <= to + 1; cut += thorough || cut % 4120 < 64 || cut > to - 40 ? 1 : 61) {
        restore(fixture, "", database, database_size);
        restore(fixture, "-wal", wal, cut);
        restore(fixture, ".lock", lock, lock_size);
        int64_t readable = open_and_look(fixture, &named);
        int64_t expected = 1; /* genesis */
        for (int i = 0; i < COMMITS; i++)
            expected += cut >= ((sizes[i] + 4119 - 32) / 4120) * 4120 + 32 || cut >= sizes[i];
        /* The zeros that end a page may be cut without a loss only if SQLite would not miss them: it does. */
        assert_true(readable >= expected - 1 && readable <= expected);
        assert_int_equal(named, readable < 1 + COMMITS);
        cuts++;
    }
    assert_true(cuts > 100);
    restore(fixture, "", database, database_size);
    restore(fixture, "-wal", wal, wal_size);
    restore(fixture, ".lock", lock, lock_size);
    assert_int_equal(open_and_look(fixture, &named), 1 + COMMITS);
    assert_int_equal(named, 0);
    free(database);
    free(wal);
    free(lock);
}

/* ---- flipped bits (hazard 53) ---- */

static void flipped_bits_are_seen(void **state)
{
    struct fixture *fixture = *state;
    struct log *log = open_worker(fixture);
    for (uint64_t i = 0; i < 50; i++) {
        char request[32];
        snprintf(request, sizeof request, "request-%d", (int)i);
        append_command(log, "job", request, i);
    }
    log->operations->flush(log);
    log->operations->close(log);
    size_t size, failed = 0, caught = 0, same = 0;
    uint8_t *good = read_file(fixture->path, &size), *bad = malloc(size);
    srand(11);
    for (int round = 0; round < 150; round++) {
        memcpy(bad, good, size);
        bad[(size_t)rand() % size] ^= (uint8_t)(1 << rand() % 8);
        restore(fixture, "", bad, size);
        int result;
        char error[512] = "";
        log = try_open(fixture->uri, "alpha", true, &result, error);
        if (log == NULL) {
            assert_non_null(strstr(error, fixture->path)); /* it names the file */
            failed++;
            continue;
        }
        struct seen *seen = seen_new(log);
        log->operations->follow(log, LOG_INBOX, 0, 0);
        for (int i = 0; i < 3; i++)
            log->operations->poll(log, 0);
        caught += seen->fatals > 0;
        same += seen->record_count == 50;
        if (seen->fatals > 0)
            assert_non_null(strstr(seen->message, fixture->path));
        log->operations->close(log);
        free(seen);
    }
    assert_true(same > 0);
    print_message("  %zu not opened, %zu found damaged when read, %zu read whole (the record's checksum judges)\n", failed,
                  caught, same);
    free(good);
    free(bad);
}

/* ---- full disks (hazard 54) ---- */

/* Appends until nothing is acknowledged any more; makes room; then all of it must be there, once. */
static void full_then_free(struct log *log, struct seen *seen, void (*make_room)(void *), void *argument)
{
    uint64_t sent = 0;
    char big[4000];
    memset(big, 'x', sizeof big);
    Header header = PERDURE__V1__HEADER__INIT;
    header.job = "job";
    header.run = 1;
    while (seen->unreachable == 0 && sent < 5000) {
        header.seq = sent;
        struct log_message message = {.key = "job", .data = big, .size = sizeof big, .header = &header};
        assert_int_equal(log->operations->append(log, LOG_JOURNAL, 0, &message, sent++), LOG_OK);
        if (log->operations->flush(log) != LOG_OK)
            fail_msg("%s", seen->message);
    }
    assert_true(seen->unreachable > 0);
    assert_int_equal(seen->fatals, 0);
    assert_int_equal(seen->delivered_count, sent - 1); /* the last one was not acknowledged */
    append_event(log, 0, "job", 1, sent, sent);
    sent++;
    make_room(argument);
    poll_until(log, &seen->delivered_count, sent);
    assert_int_equal(seen->fatals, 0);
    for (size_t i = 0; i < sent; i++) {
        assert_int_equal(seen->delivered[i].cookie, i);
        assert_int_equal(seen->delivered[i].offset, (int64_t)i + 1);
    }
}

static void remove_file(void *path) { assert_int_equal(unlink(path), 0); }

static void full_disk_is_survived(void **state)
{
    struct fixture *fixture = *state;
    struct fixture small = *fixture;
    snprintf(small.folder, sizeof small.folder, "%.50s/small", fixture->folder);
    assert_int_equal(mkdir(small.folder, 0700), 0);
    if (mount("tmpfs", small.folder, "tmpfs", 0, "size=16m") != 0) {
        print_message("  skipped: no right to mount a small tmpfs (%s)\n", strerror(errno));
        skip();
    }
    snprintf(small.path, sizeof small.path, "%s/log.db", small.folder);
    snprintf(small.uri, sizeof small.uri, "sqlite:%s", small.path);
    char ballast[100];
    snprintf(ballast, sizeof ballast, "%s/ballast", small.folder);
    int fd = open(ballast, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(posix_fallocate(fd, 0, 4 * 1024 * 1024), 0);
    close(fd);
    struct log *log = open_worker(&small);
    struct seen *seen = seen_new(log);
    full_then_free(log, seen, remove_file, ballast);
    log->operations->close(log);
    size_t count = seen->delivered_count;
    assert_int_equal(ask_database(&small, "SELECT count(*) FROM journal"), count + 1);
    free(seen);
    assert_int_equal(umount2(small.folder, MNT_DETACH), 0);
}

static void raise_limit(void *limit) { assert_int_equal(setrlimit(RLIMIT_FSIZE, limit), 0); }

static void file_size_limit_is_survived(void **state)
{
    struct rlimit old, low;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    low = old;
    low.rlim_cur = 2 * 1024 * 1024;
    struct log *log = open_worker(*state);
    struct seen *seen = seen_new(log);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    full_then_free(log, seen, raise_limit, &old);
    log->operations->close(log);
    size_t count = seen->delivered_count;
    assert_int_equal(ask_database(*state, "SELECT count(*) FROM journal"), count + 1);
    free(seen);
}

/* ---- a failed fsync (hazard 55) ---- */

static sqlite3_vfs shim;
static sqlite3_vfs *real;
static sqlite3_io_methods shim_methods;
static const sqlite3_io_methods *real_methods;
static bool sync_fails;
static int syncs_after_failure;

static int shim_sync(sqlite3_file *file, int flags)
{
    if (!sync_fails)
        return real_methods->xSync(file, flags);
    syncs_after_failure++;
    return SQLITE_IOERR_FSYNC;
}

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    int rc = real->xOpen(real, name, file, flags, out);
    if (rc == SQLITE_OK && (flags & SQLITE_OPEN_WAL)) {
        real_methods = file->pMethods;
        shim_methods = *real_methods;
        shim_methods.xSync = shim_sync;
        file->pMethods = &shim_methods;
    }
    return rc;
}

static void failed_fsync_is_the_end(void **state)
{
    real = sqlite3_vfs_find(NULL);
    shim = *real;
    shim.zName = "shim";
    shim.xOpen = shim_open;
    assert_int_equal(sqlite3_vfs_register(&shim, 1), SQLITE_OK);
    struct log *log = open_worker(*state);
    struct seen *seen = seen_new(log);
    append_event(log, 0, "job", 1, 1, 1);
    assert_int_equal(log->operations->flush(log), LOG_OK);
    sync_fails = true;
    append_event(log, 0, "job", 1, 2, 2);
    assert_int_equal(log->operations->flush(log), LOG_FAILED);
    sync_fails = false;
    int failed = syncs_after_failure;
    assert_int_equal(seen->fatals, 1);
    assert_int_equal(seen->delivered_count, 1);
    /* Rule 29: not tried again, though it would work now. */
    assert_int_equal(log->operations->flush(log), LOG_FAILED);
    assert_int_equal(append_event(log, 0, "job", 1, 3, 3), LOG_FAILED);
    log->operations->close(log);
    assert_int_equal(syncs_after_failure, failed);
    assert_int_equal(seen->delivered_count, 1);
    sqlite3_vfs_unregister(&shim);
    sqlite3_vfs_register(real, 1);
    free(seen);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
#define TEST_IN_MEMORY(name) cmocka_unit_test_setup_teardown(name, fixture_setup_in_memory, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(kills_lose_and_double_nothing), TEST(orphans_hold_nothing), TEST(child_leaves_the_log_alone),
        TEST(reading_the_folder_frees_no_lock), TEST_IN_MEMORY(torn_wal_is_named),
        TEST_IN_MEMORY(flipped_bits_are_seen),
        TEST(full_disk_is_survived), TEST(file_size_limit_is_survived), TEST(failed_fsync_is_the_end),
    };
    cmocka_set_test_filter(getenv("PERDURE_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
