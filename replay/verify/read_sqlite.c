/* An SQLite log, read while nobody writes it: the lock of rule 27 is held, the database opened read-only. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "verify.h"

/* Offsets rise over all partitions of a file, so the table's own order serves each of them. */
#define JOURNAL_QUERY "SELECT partition, offset, append_ms, record FROM journal ORDER BY offset"
#define INBOX_QUERY "SELECT partition, offset, append_ms, record FROM inbox ORDER BY offset"

static bool complain(const char *path, const char *what)
{
    fprintf(stderr, "perdure-verify: %s: %s\n", path, what);
    return false;
}

/* rule 27: after locking, the file under the path must still be the locked one. */
static bool same_file(int fd, const char *path)
{
    struct stat locked, named;
    return fstat(fd, &locked) == 0 && stat(path, &named) == 0 && locked.st_dev == named.st_dev &&
           locked.st_ino == named.st_ino;
}

/* A shared lock: it keeps workers out, and lets other readers in. -1: not locked, and said why. */
static int lock_log(const char *path)
{
    char *name = pv_must_alloc(strlen(path) + sizeof ".lock");
    sprintf(name, "%s.lock", path);
    int fd = -1;
    for (int tries = 0; fd < 0 && tries < 10; tries++) {
        fd = open(name, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
        struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
        if (fd < 0) {
            complain(name, strerror(errno));
            break;
        }
        if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
            if (errno == EAGAIN || errno == EACCES)
                complain(path, "a worker has this log open; the check needs it stopped");
            else
                complain(name, strerror(errno));
            close(fd);
            fd = -1;
            break;
        }
        if (!same_file(fd, name)) {
            close(fd);
            fd = -1;
        }
    }
    free(name);
    return fd;
}

/* rule 29: read-only, no checkpoint at the end. */
static sqlite3 *open_database(const char *path)
{
    sqlite3 *db = NULL;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK) {
        complain(path, db ? sqlite3_errmsg(db) : "out of memory");
        sqlite3_close(db);
        return NULL;
    }
    sqlite3_busy_timeout(db, 2000);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return db;
}

static bool step_rows(struct check *c, sqlite3_stmt *rows, enum stream stream, int *result)
{
    while ((*result = sqlite3_step(rows)) == SQLITE_ROW) {
        struct message m = {.stream = stream,
                            .partition = (uint32_t)sqlite3_column_int64(rows, 0),
                            .offset = sqlite3_column_int64(rows, 1),
                            .append_ms = sqlite3_column_int64(rows, 2),
                            .data = sqlite3_column_blob(rows, 3),
                            .size = (size_t)sqlite3_column_bytes(rows, 3)};
        pv_check_record(c, &m);
    }
    return *result == SQLITE_DONE;
}

static bool read_table(struct check *c, sqlite3 *db, const char *path, enum stream stream, const char *query)
{
    sqlite3_stmt *rows = NULL;
    int result = sqlite3_prepare_v2(db, query, -1, &rows, NULL);
    bool ok = result == SQLITE_OK && step_rows(c, rows, stream, &result);
    if (!ok)
        complain(path, sqlite3_errmsg(db));
    sqlite3_finalize(rows);
    return ok;
}

bool pv_read_sqlite(struct check *c, const char *path)
{
    if (access(path, R_OK) != 0)
        return complain(path, strerror(errno));
    int lock = lock_log(path);
    if (lock < 0)
        return false;
    sqlite3 *db = open_database(path);
    bool ok = db && read_table(c, db, path, JOURNAL, JOURNAL_QUERY) && read_table(c, db, path, INBOX, INBOX_QUERY);
    sqlite3_close(db);
    close(lock);
    return ok;
}
