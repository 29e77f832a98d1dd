/*
 * Everything the owner reads: one bounded chunk at a time, copied, so that no statement stays open between calls.
 */
#include "log/sqlite_db.h"

#include <stdlib.h>
#include <string.h>

void sqlite_rows_clear(struct sqlite_rows *rows)
{
    rows->count = 0;
    rows->bytes = 0;
    rows->next = 0;
    rows->more = false;
}

void sqlite_rows_free(struct sqlite_rows *rows)
{
    free(rows->rows);
    free(rows->memory);
    memset(rows, 0, sizeof *rows);
}

/* Data and key are offsets into `memory` until rows_finish(): it may move. */
static char *rows_room(struct sqlite_rows *rows, size_t size)
{
    if (rows->count == rows->room) {
        size_t room = rows->room ? rows->room * 2 : 64;
        struct sqlite_row *grown = realloc(rows->rows, room * sizeof *grown);
        if (grown == NULL)
            return NULL;
        rows->rows = grown;
        rows->room = room;
    }
    if (rows->bytes + size > rows->memory_room) {
        size_t room = rows->memory_room ? rows->memory_room * 2 : 16384;
        while (room < rows->bytes + size)
            room *= 2;
        char *grown = realloc(rows->memory, room);
        if (grown == NULL)
            return NULL;
        rows->memory = grown;
        rows->memory_room = room;
    }
    return rows->memory + rows->bytes;
}

static bool rows_add(struct sqlite_rows *rows, sqlite3_stmt *statement, bool keyed)
{
    int column = keyed ? 1 : 2;
    const void *data = sqlite3_column_blob(statement, column);
    size_t size = (size_t)sqlite3_column_bytes(statement, column);
    const char *key = keyed ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    size_t key_size = key != NULL ? (size_t)sqlite3_column_bytes(statement, 0) + 1 : 0;
    char *room = rows_room(rows, size + key_size + 1);
    if (room == NULL)
        return false;
    if (size > 0)
        memcpy(room, data, size);
    if (key_size > 0)
        memcpy(room + size, key, key_size);
    struct sqlite_row *row = &rows->rows[rows->count++];
    memset(row, 0, sizeof *row);
    row->size = size;
    row->data = (const void *)rows->bytes;
    row->keyed = key != NULL;
    row->key = key != NULL ? (const char *)(rows->bytes + size) : NULL;
    if (!keyed) {
        row->offset = sqlite3_column_int64(statement, 0);
        row->append_ms = sqlite3_column_int64(statement, 1);
    }
    rows->bytes += size + key_size + 1;
    return true;
}

static void rows_finish(struct sqlite_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        struct sqlite_row *row = &rows->rows[i];
        row->data = rows->memory + (size_t)row->data;
        if (row->keyed)
            row->key = rows->memory + (size_t)row->key;
    }
}

static bool rows_full(const struct sqlite_rows *rows, size_t max_rows)
{
    return rows->count >= max_rows || rows->bytes >= SQLITE_CHUNK_BYTES;
}

/* Steps until the chunk is full. Leaves rows->more and, after a full chunk, rows->next. */
static int rows_collect(struct sqlite_db *db, sqlite3_stmt *statement, bool keyed, size_t max_rows,
                        struct sqlite_rows *rows)
{
    int rc;
    rows->more = false;
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
        if (rows_full(rows, max_rows)) {
            rows->more = true;
            break;
        }
        if (!rows_add(rows, statement, keyed)) {
            rc = SQLITE_NOMEM;
            break;
        }
    }
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        sqlite_db_fail(db, "cannot be read");
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    if (rows->count > 0 && !keyed)
        rows->next = rows->rows[rows->count - 1].offset + 1;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? LOG_OK : LOG_FAILED;
}

int sqlite_read(struct sqlite_db *db, enum log_stream stream, uint32_t partition, int64_t from, size_t max_rows,
                struct sqlite_rows *out)
{
    sqlite3_stmt *statement =
        db->statements[stream == LOG_JOURNAL ? SQLITE_STMT_READ_JOURNAL : SQLITE_STMT_READ_INBOX];
    sqlite_rows_clear(out);
    if (max_rows == 0 || max_rows > SQLITE_CHUNK_ROWS)
        max_rows = SQLITE_CHUNK_ROWS;
    sqlite3_bind_int64(statement, 1, from);
    sqlite3_bind_int64(statement, 2, db->ends[stream]);
    sqlite3_bind_int64(statement, 3, partition);
    int result = rows_collect(db, statement, false, max_rows, out);
    rows_finish(out);
    if (!out->more)
        out->next = from > db->ends[stream] ? from : db->ends[stream];
    return result;
}

int sqlite_read_history(struct sqlite_db *db, uint32_t partition, const char *job, uint64_t run, int64_t from,
                        struct sqlite_rows *out)
{
    sqlite_rows_clear(out);
    if (!db->entries_loaded && sqlite_load_entries(db) != LOG_OK)
        return LOG_FAILED;
    sqlite3_stmt *statement = db->statements[SQLITE_STMT_HISTORY];
    sqlite3_bind_int64(statement, 1, (int64_t)run);
    sqlite3_bind_int64(statement, 2, from);
    sqlite3_bind_int64(statement, 3, partition);
    sqlite3_bind_text(statement, 4, job, -1, SQLITE_STATIC);
    int result = rows_collect(db, statement, false, SQLITE_CHUNK_ROWS, out);
    statement = db->statements[SQLITE_STMT_ONE_JOURNAL];
    for (size_t i = 0; i < db->entry_count && result == LOG_OK && !out->more; i++) {
        const struct sqlite_run_entry *entry = &db->entries[i];
        if (entry->run != (int64_t)run || entry->offset < from)
            continue;
        sqlite3_bind_int64(statement, 1, entry->offset);
        sqlite3_bind_int64(statement, 2, partition);
        sqlite3_bind_text(statement, 3, job, -1, SQLITE_STATIC);
        result = rows_collect(db, statement, false, SQLITE_CHUNK_ROWS, out);
    }
    rows_finish(out);
    return result;
}

int sqlite_read_statuses(struct sqlite_db *db, const char *prefix, const char *after, struct sqlite_rows *out)
{
    sqlite_rows_clear(out);
    sqlite3_stmt *statement = db->statements[SQLITE_STMT_EACH_STATUS];
    sqlite3_bind_text(statement, 1, after, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 2, prefix, -1, SQLITE_STATIC);
    int result = rows_collect(db, statement, true, SQLITE_CHUNK_ROWS, out);
    rows_finish(out);
    /* Keys are in order: the first without the prefix ends it. */
    for (size_t i = 0; i < out->count; i++)
        if (strncmp(out->rows[i].key, prefix, strlen(prefix)) != 0) {
            out->count = i;
            out->more = false;
        }
    return result;
}

int sqlite_read_status(struct sqlite_db *db, const char *key, struct sqlite_rows *out)
{
    sqlite_rows_clear(out);
    sqlite3_stmt *statement = db->statements[SQLITE_STMT_GET_STATUS];
    sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    int result = rows_collect(db, statement, true, 1, out);
    rows_finish(out);
    return result;
}

/* ---- entries behind the index of runs ---- */

bool sqlite_add_entry(struct sqlite_db *db, int64_t run, int64_t offset)
{
    if (db->entry_count == db->entry_room) {
        size_t room = db->entry_room ? db->entry_room * 2 : 2048;
        struct sqlite_run_entry *grown = realloc(db->entries, room * sizeof *grown);
        if (grown == NULL) {
            db->entries_loaded = false; /* read again from the journal when next needed */
            db->entry_count = 0;
            return false;
        }
        db->entries = grown;
        db->entry_room = room;
    }
    db->entries[db->entry_count++] = (struct sqlite_run_entry){run, offset};
    return true;
}

int sqlite_load_entries(struct sqlite_db *db)
{
    sqlite3_stmt *statement = NULL;
    db->entry_count = 0;
    int rc = sqlite3_prepare_v2(db->handle,
                                "SELECT run, offset FROM journal WHERE run <> 0 AND offset >="
                                " coalesce((SELECT value FROM meta WHERE name = 'indexed'), 0) ORDER BY offset",
                                -1, &statement, NULL);
    bool added = true;
    while (rc == SQLITE_OK && added && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        added = sqlite_add_entry(db, sqlite3_column_int64(statement, 0), sqlite3_column_int64(statement, 1));
        rc = SQLITE_OK;
    }
    if (rc != SQLITE_DONE)
        sqlite_db_fail(db, "cannot be read");
    sqlite3_finalize(statement);
    db->entries_loaded = rc == SQLITE_DONE;
    return db->entries_loaded ? LOG_OK : LOG_FAILED;
}
