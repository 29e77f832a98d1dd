/*
 * `perdure check` on an embedded log: its place, its lock, its content.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log/findings.h"
#include "log/sqlite_lock.h"

/* With the lock in hand nobody writes, so what is read is whole. */
static void sqlite_check_content(struct findings *findings, const struct sqlite_paths *paths)
{
    struct sqlite_lock lock;
    char holder[128] = "";
    sqlite_lock_init(&lock);
    enum sqlite_lock_result result = sqlite_lock_try(&lock, paths, "client", "perdure check");
    sqlite_lock_holder(paths, holder, sizeof holder);
    if (result == SQLITE_LOCK_HELD)
        result = sqlite_lock_database(&lock, paths);
    if (result == SQLITE_LOCK_HELD) {
        finding_tell(findings, FINDING_RIGHT, "lock", NULL, "free: no worker has the log open");
        findings_of_database(findings, "content", paths->database,
                             "keep a copy of all its files; `perdure verify` says which "
                             "histories are whole, `perdure export` saves them");
    } else if (result == SQLITE_LOCK_BUSY) {
        finding_tell(findings, FINDING_RIGHT, "lock", NULL,
                     "held by %s; the content is that process's, and was not looked at",
                     *holder ? holder : "another process");
    } else {
        finding_tell(findings, FINDING_LOSS, "lock", "may this user write the folder and the lock file?",
                     "%s cannot be had", paths->lock);
    }
    sqlite_lock_release(&lock);
}

int sqlite_check(const char *path, struct findings *findings, char *error, size_t error_size)
{
    struct sqlite_paths paths;
    char network[400];
    if (access(path, F_OK) != 0) {
        snprintf(error, error_size, "there is no log %s: `perdure dev` or `perdure namespace create` makes it", path);
        return 3;
    }
    if (sqlite_paths_resolve(&paths, path, error, error_size) != 0)
        return 5;
    if (sqlite_paths_check_filesystem(&paths, network, sizeof network) != 0)
        finding_tell(findings, FINDING_LOSS, "place", "move it to a disk of this machine", "%s", network);
    findings_of_disk(findings, "disk", paths.folder);
    sqlite_check_content(findings, &paths);
    findings_of_sqlite_library(findings);
    return 0;
}
