#include "log/findings.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define DISK_LOW_BYTES (UINT64_C(1024) * 1024 * 1024)

void finding_tell(struct findings *findings, enum finding_level level, const char *subject, const char *repair,
                  const char *format, ...)
{
    char text[1200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    findings->counts[level]++;
    findings->tell(findings->context, level, subject, text, repair);
}

/* sqlite.org/wal.html, "the WAL-reset bug": two connections that write and checkpoint at the same moment. */
void findings_of_sqlite_library(struct findings *findings)
{
    int version = sqlite3_libversion_number();
    if (version < 3051003)
        finding_tell(
            findings, FINDING_NOTE, "SQLite", NULL,
            "%s can lose commits when two connections write and checkpoint at "
            "the same moment (the WAL-reset bug, gone in 3.51.3). Perdure is not touched by it: one connection of one "
            "process does all writes and checkpoints, under a lock",
            sqlite3_libversion());
    else
        finding_tell(findings, FINDING_RIGHT, "SQLite", NULL, "%s", sqlite3_libversion());
}

void findings_of_disk(struct findings *findings, const char *subject, const char *path)
{
    struct statvfs disk;
    if (statvfs(path, &disk) != 0) {
        finding_tell(findings, FINDING_LOSS, subject, "make the folder, or name another", "%s: %s", path,
                     strerror(errno));
        return;
    }
    uint64_t free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize, all = (uint64_t)disk.f_blocks * disk.f_frsize;
    bool low = free_bytes < DISK_LOW_BYTES || free_bytes < all / 20;
    if (disk.f_flag & ST_RDONLY)
        finding_tell(findings, FINDING_LOSS, subject, "mount it for writing", "%s: its file system is read-only", path);
    else
        finding_tell(findings, low ? FINDING_LOSS : FINDING_RIGHT, subject,
                     low ? "make room: when the disk is full, work "
                           "stops until there is some"
                         : NULL,
                     "%s: %.1f GiB of %.1f GiB are free", path, (double)free_bytes / (1 << 30),
                     (double)all / (1 << 30));
}

static void findings_of_mode(struct findings *findings, const char *subject, const char *path)
{
    struct stat status;
    char repair[4200];
    snprintf(repair, sizeof repair, "chmod o= %s*", path);
    if (stat(path, &status) == 0 && status.st_mode & S_IWOTH)
        finding_tell(findings, FINDING_LOSS, subject, repair, "everybody on this machine can write it (mode %04o)",
                     (unsigned)status.st_mode & 07777);
    else if (stat(path, &status) == 0 && status.st_mode & S_IROTH)
        finding_tell(findings, FINDING_NOTE, subject, repair,
                     "everybody on this machine can read it (mode %04o), with all "
                     "inputs and results",
                     (unsigned)status.st_mode & 07777);
}

void findings_of_database(struct findings *findings, const char *subject, const char *path, const char *repair)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    char first[300] = "";
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &statement, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(statement)) == SQLITE_ROW)
        snprintf(first, sizeof first, "%s", (const char *)sqlite3_column_text(statement, 0));
    if (strcmp(first, "ok") == 0)
        finding_tell(findings, FINDING_RIGHT, subject, NULL, "%s: the file is whole (quick_check)", path);
    else if (rc == SQLITE_BUSY || rc == SQLITE_LOCKED)
        finding_tell(findings, FINDING_NOTE, subject, "ask again when its worker does not run",
                     "%s: is in use, its content "
                     "was not looked at",
                     path);
    else
        finding_tell(findings, FINDING_LOSS, subject, repair, "%s: is damaged: %s", path,
                     *first ? first : sqlite3_errmsg(db));
    sqlite3_finalize(statement);
    sqlite3_close(db);
    findings_of_mode(findings, subject, path);
}
