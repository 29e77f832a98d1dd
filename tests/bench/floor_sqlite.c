/*
 * The least that the embedded log could cost: SQLite with the same settings, the same rows, and nothing else.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define CHECKPOINT_FRAMES 1000

struct sqlite_floor {
    sqlite3 *db;
    sqlite3_stmt *begin, *commit, *journal, *inbox;
    int64_t offset, inbox_offset;
    int frames;
};

static void floor_check(struct sqlite_floor *floor, int code, int wanted)
{
    if (code != wanted)
        bench_fail("floor: %s", sqlite3_errmsg(floor->db));
}

static sqlite3_stmt *floor_prepare(struct sqlite_floor *floor, const char *text)
{
    sqlite3_stmt *statement = NULL;
    floor_check(floor, sqlite3_prepare_v3(floor->db, text, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL), SQLITE_OK);
    return statement;
}

static int floor_on_commit(void *context, sqlite3 *db, const char *name, int frames)
{
    (void)db;
    (void)name;
    ((struct sqlite_floor *)context)->frames = frames;
    return SQLITE_OK;
}

struct sqlite_floor *sqlite_floor_open(struct bench *bench, const char *name)
{
    struct sqlite_floor *floor = calloc(1, sizeof *floor);
    char path[400];
    snprintf(path, sizeof path, "%s/%s-floor.db", bench->directory, name);
    if (!floor || sqlite3_open(path, &floor->db) != SQLITE_OK)
        bench_fail("%s cannot be opened", path);
    floor_check(floor, sqlite3_exec(floor->db,
        "PRAGMA locking_mode=EXCLUSIVE;PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA wal_autocheckpoint=0;"
        "PRAGMA cache_size=-65536;"
        "CREATE TABLE journal(offset INTEGER PRIMARY KEY, partition INTEGER NOT NULL, append_ms INTEGER NOT NULL,"
        " run INTEGER NOT NULL, seq INTEGER NOT NULL, job TEXT, record BLOB NOT NULL);"
        "CREATE TABLE inbox(offset INTEGER PRIMARY KEY, partition INTEGER NOT NULL, append_ms INTEGER NOT NULL,"
        " request TEXT UNIQUE, job TEXT, record BLOB NOT NULL);", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_wal_hook(floor->db, floor_on_commit, floor);
    floor->begin = floor_prepare(floor, "BEGIN IMMEDIATE");
    floor->commit = floor_prepare(floor, "COMMIT");
    floor->journal = floor_prepare(floor, "INSERT INTO journal VALUES(?,?,?,?,?,?,?)");
    floor->inbox = floor_prepare(floor, "INSERT INTO inbox VALUES(?,?,?,?,?,?)");
    return floor;
}

void sqlite_floor_close(struct sqlite_floor *floor)
{
    sqlite3_finalize(floor->begin);
    sqlite3_finalize(floor->commit);
    sqlite3_finalize(floor->journal);
    sqlite3_finalize(floor->inbox);
    sqlite3_close(floor->db);
    free(floor);
}

static void floor_run(struct sqlite_floor *floor, sqlite3_stmt *statement)
{
    floor_check(floor, sqlite3_step(statement), SQLITE_DONE);
    sqlite3_reset(statement);
}

static void floor_journal(struct sqlite_floor *floor, const struct row *row)
{
    sqlite3_stmt *statement = floor->journal;
    sqlite3_bind_int64(statement, 1, ++floor->offset);
    sqlite3_bind_int(statement, 2, 0);
    sqlite3_bind_int64(statement, 3, now_ns() / 1000000);
    sqlite3_bind_int64(statement, 4, (sqlite3_int64)row->run);
    sqlite3_bind_int64(statement, 5, (sqlite3_int64)row->seq);
    sqlite3_bind_text(statement, 6, row->job, -1, SQLITE_STATIC);
    sqlite3_bind_blob(statement, 7, row->data, (int)row->size, SQLITE_STATIC);
    floor_run(floor, statement);
}

static void floor_inbox(struct sqlite_floor *floor, const struct row *row)
{
    sqlite3_stmt *statement = floor->inbox;
    sqlite3_bind_int64(statement, 1, ++floor->inbox_offset);
    sqlite3_bind_int(statement, 2, 0);
    sqlite3_bind_int64(statement, 3, now_ns() / 1000000);
    char request[64];
    int length = snprintf(request, sizeof request, "c-%016llx%016llx", (unsigned long long)floor->inbox_offset * 0x9E3779B97F4A7C15U,
                          (unsigned long long)floor->inbox_offset);
    sqlite3_bind_text(statement, 4, request, length, SQLITE_TRANSIENT);
    sqlite3_bind_text(statement, 5, row->job, -1, SQLITE_STATIC);
    sqlite3_bind_blob(statement, 6, row->data, (int)row->size, SQLITE_STATIC);
    floor_run(floor, statement);
}

static void floor_checkpoint(struct sqlite_floor *floor)
{
    if (floor->frames < CHECKPOINT_FRAMES)
        return;
    sqlite3_wal_checkpoint_v2(floor->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    floor->frames = 0;
}

double sqlite_floor_commit(struct sqlite_floor *floor, const struct row *row)
{
    int64_t begin = now_ns();
    floor_run(floor, floor->begin);
    floor_journal(floor, row);
    floor_run(floor, floor->commit);
    double us = (double)(now_ns() - begin) / 1000;
    floor_checkpoint(floor); /* not measured: the floor is the commit */
    return us;
}

/* Each commit holds one row of each open job: all jobs in the same stage, so nothing is smaller or larger than it must. */
double sqlite_floor_jobs(struct sqlite_floor *floor, const struct row *inbox, const struct row *rows, size_t count,
                         size_t open, double seconds)
{
    int64_t begin = now_ns();
    uint64_t jobs = 0;
    while ((double)(now_ns() - begin) < seconds * 1e9) {
        for (size_t stage = 0; stage <= count; stage++) {
            floor_run(floor, floor->begin);
            for (size_t i = 0; i < open; i++)
                if (stage == 0)
                    floor_inbox(floor, inbox);
                else
                    floor_journal(floor, &rows[stage - 1]);
            floor_run(floor, floor->commit);
            floor_checkpoint(floor);
        }
        jobs += open;
    }
    return (double)jobs / ((double)(now_ns() - begin) / 1e9);
}
