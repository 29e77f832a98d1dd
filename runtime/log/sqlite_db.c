/*
 * Opening, creating, checking and closing the database of an embedded log.
 */
#define _GNU_SOURCE
#include "log/sqlite_db.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "constants.h"

#define APPLICATION_ID 0x50445231 /* "PDR1" */

int64_t sqlite_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t sqlite_monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void sqlite_db_set_error(struct sqlite_db *db, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(db->error, sizeof db->error, format, arguments);
    va_end(arguments);
}

void sqlite_db_fail(struct sqlite_db *db, const char *what)
{
    int code = sqlite3_errcode(db->handle) & 0xff;
    const char *hint = "";
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        hint = ": the file is damaged; keep a copy, see what `perdure verify` can read, restore a backup";
    sqlite_db_set_error(db, "sqlite:%.200s: %s: %s%s", db->paths.database, what, sqlite3_errmsg(db->handle), hint);
}

/* errno of the last failed call on the database or its WAL. sqlite3_system_errno() gives errno as it stands after the
 * rollback: often another one. */
static int db_last_errno(struct sqlite_db *db, int which)
{
    sqlite3_file *file = NULL;
    int reason = 0;
    if (sqlite3_file_control(db->handle, "main", which, &file) == SQLITE_OK && file != NULL && file->pMethods != NULL)
        file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &reason);
    return reason;
}

static bool means_full(int reason) { return reason == EFBIG || reason == EDQUOT || reason == ENOSPC; }

bool sqlite_db_is_full(struct sqlite_db *db, int rc)
{
    if ((rc & 0xff) == SQLITE_FULL)
        return true;
    /* A write() refused by a limit on the file's size or by a quota is no damage: as good as a full disk. */
    int of_file = db_last_errno(db, SQLITE_FCNTL_FILE_POINTER), of_wal = db_last_errno(db, SQLITE_FCNTL_JOURNAL_POINTER);
    if (rc == SQLITE_IOERR_WRITE && (means_full(of_file) || means_full(of_wal)) && of_file != EIO && of_wal != EIO)
        return true;
    db->dead = true; /* rule 29: after a failed fsync nothing in this file is tried again */
    return false;
}

/* ---- statements ---- */

static const char *const statement_text[SQLITE_STATEMENTS] = {
    [SQLITE_STMT_BEGIN] = "BEGIN IMMEDIATE",
    [SQLITE_STMT_COMMIT] = "COMMIT",
    [SQLITE_STMT_ROLLBACK] = "ROLLBACK",
    [SQLITE_STMT_JOURNAL] = "INSERT INTO journal VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [SQLITE_STMT_INBOX] = "INSERT INTO inbox VALUES(?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT(request) DO NOTHING",
    [SQLITE_STMT_ASKED_AGAIN] = "UPDATE inbox SET request = NULL WHERE offset = ?1",
    [SQLITE_STMT_REQUEST] = "SELECT offset, append_ms FROM inbox WHERE request = ?1",
    [SQLITE_STMT_STATUS] = "INSERT OR REPLACE INTO status VALUES(?1, ?2)",
    [SQLITE_STMT_STATUS_DROP] = "DELETE FROM status WHERE key = ?1",
    [SQLITE_STMT_DEAD] = "INSERT INTO dead VALUES(NULL, ?1, ?2, ?3, ?4, ?5)",
    [SQLITE_STMT_TRIM_JOURNAL] = "DELETE FROM journal WHERE offset IN (SELECT offset FROM journal"
                                 " WHERE partition = ?1 AND offset < ?2 ORDER BY offset LIMIT ?3)",
    [SQLITE_STMT_TRIM_RUNS] = "DELETE FROM journal_runs WHERE (run, offset) IN (SELECT run, offset FROM journal"
                              " WHERE partition = ?1 AND offset < ?2 ORDER BY offset LIMIT ?3)",
    [SQLITE_STMT_TRIM_INBOX] = "DELETE FROM inbox WHERE offset IN (SELECT offset FROM inbox"
                               " WHERE partition = ?1 AND offset < ?2 ORDER BY offset LIMIT ?3)",
    [SQLITE_STMT_META] = "INSERT OR REPLACE INTO meta VALUES(?1, ?2)",
    [SQLITE_STMT_INDEX] = "INSERT OR IGNORE INTO journal_runs VALUES(?1, ?2)",
    [SQLITE_STMT_READ_JOURNAL] = "SELECT offset, append_ms, record FROM journal"
                                 " WHERE offset >= ?1 AND offset < ?2 AND partition = ?3 ORDER BY offset",
    [SQLITE_STMT_READ_INBOX] = "SELECT offset, append_ms, record FROM inbox"
                               " WHERE offset >= ?1 AND offset < ?2 AND partition = ?3 ORDER BY offset",
    [SQLITE_STMT_HISTORY] = "SELECT j.offset, j.append_ms, j.record FROM journal_runs r CROSS JOIN journal j"
                            " ON j.offset = r.offset WHERE r.run = ?1 AND r.offset >= ?2 AND j.partition = ?3"
                            " AND j.job = ?4 ORDER BY r.offset",
    [SQLITE_STMT_GET_STATUS] = "SELECT key, row FROM status WHERE key = ?1",
    [SQLITE_STMT_EACH_STATUS] = "SELECT key, row FROM status WHERE key > ?1 AND key >= ?2 ORDER BY key",
    [SQLITE_STMT_ONE_JOURNAL] = "SELECT offset, append_ms, record FROM journal"
                                " WHERE offset = ?1 AND partition = ?2 AND job = ?3",
};

static int db_after_commit(void *context, sqlite3 *handle, const char *name, int frames)
{
    (void)handle;
    (void)name;
    ((struct sqlite_db *)context)->wal_frames = frames;
    return SQLITE_OK;
}

static int db_prepare(struct sqlite_db *db)
{
    sqlite3_wal_hook(db->handle, db_after_commit, db);
    for (int i = 0; i < SQLITE_STATEMENTS; i++)
        if (sqlite3_prepare_v3(db->handle, statement_text[i], -1, SQLITE_PREPARE_PERSISTENT, &db->statements[i],
                               NULL) != SQLITE_OK) {
            sqlite_db_fail(db, "its tables");
            return -1;
        }
    if (store_rows_open(&db->store, db->handle) != SQLITE_OK) {
        sqlite_db_fail(db, "its tables");
        return -1;
    }
    return 0;
}

/* ---- small questions ---- */

static int db_exec(struct sqlite_db *db, const char *sql, const char *what)
{
    if (sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    sqlite_db_fail(db, what);
    return -1;
}

/* One integer; `absent` when there is no row or it is NULL. */
static int db_integer(struct sqlite_db *db, const char *sql, int64_t absent, int64_t *out)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(statement);
    *out = absent;
    if (rc == SQLITE_ROW && sqlite3_column_type(statement, 0) != SQLITE_NULL)
        *out = sqlite3_column_int64(statement, 0);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        sqlite_db_fail(db, "cannot be read");
    sqlite3_finalize(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : -1;
}

static int db_put_meta(struct sqlite_db *db, const char *name, const void *data, size_t size)
{
    sqlite3_stmt *statement = db->statements[SQLITE_STMT_META];
    sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_blob64(statement, 2, data, size, SQLITE_STATIC);
    int rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return rc == SQLITE_DONE ? 0 : -1;
}

/* ---- creating ---- */

static const char schema[] =
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE journal(offset INTEGER PRIMARY KEY, partition INTEGER NOT NULL, append_ms INTEGER NOT NULL,"
    " run INTEGER NOT NULL, seq INTEGER NOT NULL, job TEXT, record BLOB NOT NULL);"
    "CREATE TABLE journal_runs(run INTEGER NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY(run, offset)) WITHOUT ROWID;"
    "CREATE TABLE inbox(offset INTEGER PRIMARY KEY, partition INTEGER NOT NULL, append_ms INTEGER NOT NULL,"
    " request TEXT UNIQUE, job TEXT, record BLOB NOT NULL);"
    "CREATE TABLE status(key TEXT PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE dead(id INTEGER PRIMARY KEY AUTOINCREMENT, partition INTEGER NOT NULL, offset INTEGER NOT NULL,"
    " append_ms INTEGER NOT NULL, reason TEXT, record BLOB NOT NULL);";

/* The first record of each partition's journal. */
static int db_write_genesis(struct sqlite_db *db, uint64_t log_id, uint32_t partitions)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", db->paths.database);
    for (uint32_t p = 0; p < partitions; p++) {
        Genesis genesis = PERDURE__V1__GENESIS__INIT;
        genesis.log_id = log_id;
        genesis.namespace_ = basename(path);
        genesis.partitions = partitions;
        genesis.map_version = 1;
        genesis.format = FORMAT_VERSION;
        genesis.rule_level = RULE_LEVEL_NEW;
        genesis.partition = p;
        Header header = PERDURE__V1__HEADER__INIT;
        header.format = FORMAT_VERSION;
        header.rule_level = RULE_LEVEL_NEW;
        header.min_reader = RULE_LEVEL_LOWEST;
        header.log = (uint32_t)log_id;
        header.kind = PERDURE__V1__KIND__KIND_GENESIS;
        header.map_version = 1;
        header.t = sqlite_wall_ms();
        Record record = PERDURE__V1__RECORD__INIT;
        record.header = &header;
        record.genesis = &genesis;
        size_t size;
        void *data = record_encode(&record, &size);
        if (data == NULL)
            return -1;
        sqlite3_stmt *insert = db->statements[SQLITE_STMT_JOURNAL];
        sqlite3_bind_int64(insert, 1, p);
        sqlite3_bind_int64(insert, 2, p);
        sqlite3_bind_int64(insert, 3, header.t);
        sqlite3_bind_int64(insert, 4, 0);
        sqlite3_bind_int64(insert, 5, 0);
        sqlite3_bind_blob64(insert, 7, data, size, SQLITE_STATIC);
        int rc = sqlite3_step(insert);
        sqlite3_reset(insert);
        sqlite3_clear_bindings(insert);
        if (rc != SQLITE_DONE || (p == 0 && db_put_meta(db, "genesis", data, size) != 0)) {
            sqlite_db_fail(db, "cannot be created");
            free(data);
            return -1;
        }
        free(data);
    }
    return 0;
}

/* The name of a new file must outlive a power cut as its content does. */
static void db_sync_folder(struct sqlite_db *db)
{
    int fd = open(db->paths.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static int db_create(struct sqlite_db *db, uint32_t partitions)
{
    if (partitions == 0)
        partitions = 1;
    if ((partitions & (partitions - 1)) != 0 || partitions > SLOT_COUNT) {
        sqlite_db_set_error(db, "sqlite:%.200s: %u partitions: a power of two up to %d is wanted", db->paths.database,
                            partitions, SLOT_COUNT);
        return -1;
    }
    uint64_t log_id = 0;
    while (log_id == 0)
        if (getrandom(&log_id, sizeof log_id, 0) != sizeof log_id)
            log_id = 0;
    char pragmas[96];
    snprintf(pragmas, sizeof pragmas, "PRAGMA application_id=%d;PRAGMA user_version=%d", APPLICATION_ID,
             FORMAT_VERSION);
    if (db_exec(db, "BEGIN IMMEDIATE", "cannot be created") != 0 || db_exec(db, schema, "cannot be created") != 0)
        return -1;
    if (store_rows_create(db->handle) != SQLITE_OK) {
        sqlite_db_fail(db, "cannot be created");
        return -1;
    }
    if (db_exec(db, pragmas, "cannot be created") != 0 || db_prepare(db) != 0 ||
        db_write_genesis(db, log_id, partitions) != 0 || db_exec(db, "COMMIT", "cannot be created") != 0)
        return -1;
    db_sync_folder(db);
    return 0;
}

/* ---- opening ---- */

/* Whose file is it? 1: ours, 0: empty, -1: not for us. */
static int db_identify(struct sqlite_db *db)
{
    int64_t tables, application, version;
    if (db_integer(db, "SELECT count(*) FROM sqlite_master", 0, &tables) != 0 ||
        db_integer(db, "PRAGMA application_id", 0, &application) != 0 ||
        db_integer(db, "PRAGMA user_version", 0, &version) != 0)
        return -1;
    if (tables == 0 && application == 0)
        return 0;
    if (application != APPLICATION_ID) {
        sqlite_db_set_error(db, "sqlite:%.200s: is a database of another program, not a log of Perdure",
                            db->paths.database);
        return -1;
    }
    if (version != FORMAT_VERSION) { /* rule 32 */
        sqlite_db_set_error(db, "sqlite:%.200s: has format %" PRId64 "; this version of Perdure reads format %d: "
                            "use a newer version", db->paths.database, version, FORMAT_VERSION);
        return -1;
    }
    return 1;
}

static Record *db_genesis_of(struct sqlite_db *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    Record *record = NULL;
    if (sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        const void *data = sqlite3_column_blob(statement, 0);
        if (data == NULL ||
            record_decode(data, (size_t)sqlite3_column_bytes(statement, 0), &record) != WIRE_OK)
            record = NULL;
    }
    sqlite3_finalize(statement);
    if (record != NULL && record->genesis == NULL) {
        record_free(record);
        record = NULL;
    }
    return record;
}

static int db_load_genesis(struct sqlite_db *db)
{
    db->genesis_record = db_genesis_of(db, "SELECT value FROM meta WHERE name = 'genesis'");
    if (db->genesis_record == NULL)
        db->genesis_record = db_genesis_of(db, "SELECT record FROM journal ORDER BY offset LIMIT 1");
    if (db->genesis_record == NULL) {
        sqlite_db_set_error(db, "sqlite:%.200s: its genesis cannot be read: the file is damaged", db->paths.database);
        return -1;
    }
    db->genesis = db->genesis_record->genesis;
    const Genesis *genesis = db->genesis;
    if (genesis->format > FORMAT_VERSION || genesis->rule_level > RULE_LEVEL) { /* rule 32 */
        sqlite_db_set_error(db, "sqlite:%.200s: has format %u and rule level %u, above what this version of Perdure "
                            "knows (%d, %d)", db->paths.database, genesis->format, genesis->rule_level,
                            FORMAT_VERSION, RULE_LEVEL);
        return -1;
    }
    if (genesis->partitions == 0 || genesis->partitions > SLOT_COUNT ||
        (genesis->partitions & (genesis->partitions - 1)) != 0) {
        sqlite_db_set_error(db, "sqlite:%.200s: its genesis names %u partitions: the file is damaged",
                            db->paths.database, genesis->partitions);
        return -1;
    }
    return 0;
}

static int db_load_starts(struct sqlite_db *db)
{
    for (int stream = 0; stream < 2; stream++)
        if ((db->starts[stream] = calloc(db->genesis->partitions, sizeof(int64_t))) == NULL)
            return -1;
    if ((db->purge = calloc(2 * (size_t)db->genesis->partitions, sizeof(bool))) == NULL)
        return -1;
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(db->handle, "SELECT name, value FROM meta WHERE name LIKE 'start:%'", -1, &statement,
                                NULL);
    while (rc == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW) {
        unsigned stream, partition;
        if (sscanf((const char *)sqlite3_column_text(statement, 0), "start:%u:%u", &stream, &partition) == 2 &&
            stream < 2 && partition < db->genesis->partitions) {
            db->starts[stream][partition] = sqlite3_column_int64(statement, 1);
            db->purge[2 * partition + stream] = true;
            db->purges++;
        }
    }
    sqlite3_finalize(statement);
    return 0;
}

/* Offsets are never reused: a trim that deletes the last row leaves its end in meta, and what an earlier owner
 * acknowledged lies below the end even if a damaged WAL lost it. */
static int db_load_ends(struct sqlite_db *db)
{
    static const char *const rows[2] = {"SELECT max(offset) + 1 FROM journal", "SELECT max(offset) + 1 FROM inbox"};
    static const char *const kept[2] = {"SELECT value FROM meta WHERE name = 'end:0'",
                                        "SELECT value FROM meta WHERE name = 'end:1'"};
    int64_t noted, journal_ms, inbox_ms;
    for (int stream = 0; stream < 2; stream++) {
        if (db_integer(db, rows[stream], 0, &db->ends[stream]) != 0 || db_integer(db, kept[stream], 0, &noted) != 0)
            return -1;
        if (noted > db->ends[stream])
            db->ends[stream] = noted;
    }
    if (db_integer(db, "SELECT append_ms FROM journal ORDER BY offset DESC LIMIT 1", 0, &journal_ms) != 0 ||
        db_integer(db, "SELECT append_ms FROM inbox ORDER BY offset DESC LIMIT 1", 0, &inbox_ms) != 0)
        return -1;
    db->last_ms = journal_ms > inbox_ms ? journal_ms : inbox_ms;
    struct sqlite_note note;
    if (!sqlite_lock_read_note(&db->lock, &note) || note.log_id != db->genesis->log_id)
        return 0;
    int64_t journal_lost = note.journal_end - db->ends[LOG_JOURNAL], inbox_lost = note.inbox_end - db->ends[LOG_INBOX];
    if (journal_lost <= 0 && inbox_lost <= 0)
        return 0;
    snprintf(db->loss, sizeof db->loss,
             "sqlite:%.200s: %" PRId64 " journal and %" PRId64 " inbox records that were acknowledged are missing at "
             "its end (journal ends at %" PRId64 ", inbox at %" PRId64 "): was -wal damaged, or an older copy put back?",
             db->paths.database, journal_lost > 0 ? journal_lost : 0, inbox_lost > 0 ? inbox_lost : 0,
             db->ends[LOG_JOURNAL], db->ends[LOG_INBOX]);
    if (journal_lost > 0)
        db->ends[LOG_JOURNAL] = note.journal_end;
    if (inbox_lost > 0)
        db->ends[LOG_INBOX] = note.inbox_end;
    return 0;
}

/* locking_mode before the first access: then SQLite keeps the wal-index in memory and makes no -shm file. */
static const char pragmas_at_open[] =
    "PRAGMA locking_mode=EXCLUSIVE;PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA wal_autocheckpoint=0;"
    "PRAGMA cache_size=-65536;PRAGMA secure_delete=OFF;PRAGMA cell_size_check=ON;PRAGMA temp_store=MEMORY;";

static enum sqlite_open_result db_open_handle(struct sqlite_db *db, bool create)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | (create ? SQLITE_OPEN_CREATE : 0);
    if (sqlite3_open_v2(db->paths.database, &db->handle, flags, NULL) != SQLITE_OK) {
        sqlite_db_fail(db, "cannot be opened");
        return SQLITE_OPEN_REFUSED;
    }
    sqlite3_busy_timeout(db->handle, 1000);
    enum sqlite_lock_result locked = sqlite_lock_database(&db->lock, &db->paths);
    if (locked == SQLITE_LOCK_ERROR) {
        sqlite_db_set_error(db, "sqlite:%.200s: cannot be written: %s; give this user the right to write the file and its folder",
                            db->paths.database, strerror(errno));
        return SQLITE_OPEN_REFUSED;
    }
    if (locked != SQLITE_LOCK_HELD) {
        sqlite_db_set_error(db, "sqlite:%.200s: is open under another name in another process", db->paths.database);
        return SQLITE_OPEN_BUSY;
    }
    if (db_exec(db, pragmas_at_open, "cannot be opened") != 0) {
        if ((sqlite3_errcode(db->handle) & 0xff) == SQLITE_BUSY) {
            sqlite_db_set_error(db, "sqlite:%.200s: another program (the sqlite3 shell?) has the file open",
                                db->paths.database);
            return SQLITE_OPEN_BUSY;
        }
        return SQLITE_OPEN_REFUSED;
    }
    return SQLITE_OPENED;
}

static enum sqlite_open_result db_set_up(struct sqlite_db *db, const struct sqlite_open *how)
{
    enum sqlite_open_result result = db_open_handle(db, how->create);
    if (result != SQLITE_OPENED)
        return result;
    int whose = db_identify(db);
    if (whose < 0)
        return SQLITE_OPEN_REFUSED;
    if (whose == 0 && !how->create) {
        sqlite_db_set_error(db, "sqlite:%.200s: is empty, no log was begun in it", db->paths.database);
        return SQLITE_OPEN_MISSING;
    }
    if ((whose == 0 ? db_create(db, how->partitions) : db_prepare(db)) != 0 || db_load_genesis(db) != 0 ||
        db_load_starts(db) != 0 || db_load_ends(db) != 0)
        return SQLITE_OPEN_REFUSED;
    return SQLITE_OPENED;
}

static enum sqlite_open_result db_take_lock(struct sqlite_db *db, const struct sqlite_open *how)
{
    char holder[160];
    switch (sqlite_lock_try(&db->lock, &db->paths, how->role, how->name)) {
    case SQLITE_LOCK_HELD:
        return SQLITE_OPENED;
    case SQLITE_LOCK_BUSY:
        sqlite_lock_holder(&db->paths, holder, sizeof holder);
        sqlite_db_set_error(db, "sqlite:%.200s: is owned by %s", db->paths.database, holder);
        return SQLITE_OPEN_BUSY;
    default:
        sqlite_db_set_error(db, "sqlite:%.200s: its lock file %.200s: %s", db->paths.database, db->paths.lock,
                            strerror(errno));
        return SQLITE_OPEN_REFUSED;
    }
}

enum sqlite_open_result sqlite_db_open(const struct sqlite_paths *paths, const struct sqlite_open *how,
                                       struct sqlite_db **out, char *error, size_t error_size)
{
    *out = NULL;
    /* Not even a lock file beside a log that is not there. */
    if (!how->create && access(paths->database, F_OK) != 0) {
        snprintf(error, error_size, "sqlite:%s: %s", paths->database, strerror(errno));
        return errno == ENOENT ? SQLITE_OPEN_MISSING : SQLITE_OPEN_REFUSED;
    }
    struct sqlite_db *db = calloc(1, sizeof *db);
    if (db == NULL) {
        snprintf(error, error_size, "sqlite:%s: out of memory", paths->database);
        return SQLITE_OPEN_REFUSED;
    }
    db->paths = *paths;
    sqlite_lock_init(&db->lock);
    enum sqlite_open_result result = db_take_lock(db, how);
    if (result == SQLITE_OPENED)
        result = db_set_up(db, how);
    if (result != SQLITE_OPENED) {
        snprintf(error, error_size, "%s", db->error);
        sqlite_db_close(db);
        return result;
    }
    *out = db;
    return SQLITE_OPENED;
}

void sqlite_db_close(struct sqlite_db *db)
{
    if (db == NULL)
        return;
    for (int i = 0; i < SQLITE_STATEMENTS; i++)
        sqlite3_finalize(db->statements[i]);
    store_rows_close(&db->store);
    /* Pages that a failed fsync left in doubt must not be copied into the file. */
    if (db->dead && db->handle != NULL)
        sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(db->handle);
    sqlite_lock_release(&db->lock);
    record_free(db->genesis_record);
    free(db->starts[0]);
    free(db->starts[1]);
    free(db->purge);
    free(db->entries);
    free(db);
}

/* ---- while it is open ---- */

bool sqlite_db_in_place(struct sqlite_db *db)
{
    if (db->dead)
        return false;
    int moved = 0;
    sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    struct stat wal;
    const char *what = moved ? "" : !sqlite_lock_in_place(&db->lock) ? ".lock" : NULL;
    if (what == NULL && stat(db->paths.wal, &wal) == 0) {
        if (db->wal_inode != 0 && db->wal_inode != wal.st_ino)
            what = "-wal";
        db->wal_inode = wal.st_ino;
    } else if (what == NULL && db->wal_inode != 0) {
        what = "-wal";
    }
    if (what == NULL)
        return true;
    sqlite_db_set_error(db, "sqlite:%.200s: %.200s%s was replaced or deleted while process %d owned the log: what came "
                        "since is not in the file now at this path", db->paths.database, db->paths.database, what,
                        (int)getpid());
    db->dead = true;
    return false;
}

/* SQLite takes zeros behind the WAL's last frame, as any bytes left there by an earlier round, for its end. They are
 * written, not just allocated: an extent that is converted at its first write costs the file system's journal again. */
void sqlite_db_prepare_wal(struct sqlite_db *db, int frames)
{
    static const char zeros[64 * 1024];
    struct stat wal;
    int fd = open(db->paths.wal, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &wal) == 0)
        for (off_t at = wal.st_size, end = (off_t)frames * (4096 + 24); at < end; at += (off_t)sizeof zeros)
            if (pwrite(fd, zeros, sizeof zeros, at) != (ssize_t)sizeof zeros)
                break; /* a full disk: nothing depends on it */
    fsync(fd);
    close(fd);
}

void sqlite_db_checkpoint(struct sqlite_db *db, int frames)
{
    if (db->dead || db->wal_frames < frames)
        return;
    int in_log = 0, copied = 0;
    int rc = sqlite3_wal_checkpoint_v2(db->handle, "main", SQLITE_CHECKPOINT_PASSIVE, &in_log, &copied);
    if (rc == SQLITE_OK) {
        db->wal_frames = in_log - copied;
    } else if ((rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_LOCKED) {
        sqlite_db_fail(db, "checkpoint");
        if (sqlite_db_is_full(db, rc))
            db->wal_frames = frames / 2; /* again after as many pages more */
    }
}
