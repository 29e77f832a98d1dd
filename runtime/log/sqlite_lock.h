/*
 * Who may touch an embedded log's file: paths, the lock, and what a forked child must let go of.
 *
 * The lock is an OFD lock on PATH.lock (rule 27): a POSIX lock falls when anything in the process opens and closes the
 * file. A second OFD lock lies on the database's inode itself, far outside SQLite's own lock bytes: it also holds when
 * two processes see the file under different names (hard link, one file mounted into a container).
 */
#ifndef PERDURE_SQLITE_LOCK_H
#define PERDURE_SQLITE_LOCK_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Names of one log, absolute and without symbolic links. */
struct sqlite_paths {
    char database[PATH_MAX];
    char wal[PATH_MAX + 8];
    char lock[PATH_MAX + 8];
    char folder[PATH_MAX];
    char socket_name[NAME_MAX + 1]; /* in `folder` */
    char socket_elsewhere[108];     /* where the folder's file system has no sockets */
};

/* 0; 3: its folder is not there; -1: anything else. `error` says what. */
int sqlite_paths_resolve(struct sqlite_paths *paths, const char *path, char *error, size_t error_size);
/* Locks of network file systems are not to be trusted: NFS and SMB are refused (rule 29). Everything else is not asked:
 * containers use overlay, 9p and virtiofs. */
int sqlite_paths_check_filesystem(const struct sqlite_paths *paths, char *error, size_t error_size);

struct sqlite_lock {
    int fd;          /* -1: not held */
    int database_fd; /* -1: not held */
    dev_t device;
    ino_t inode;
    char path[PATH_MAX + 8];
    char holder[128];
};

enum sqlite_lock_result { SQLITE_LOCK_HELD, SQLITE_LOCK_BUSY, SQLITE_LOCK_ERROR /* errno */ };

void sqlite_lock_init(struct sqlite_lock *lock);
/* A worker that waits for the lock holds this one meanwhile: clients, who hold the lock for one operation after the
 * other, let it go first. -1: not to be had, which harms nobody. Given back by sqlite_lock_stop_waiting(). */
int sqlite_lock_announce(const struct sqlite_paths *paths);
void sqlite_lock_stop_waiting(int fd);
/* `role` is "worker" or "client". */
enum sqlite_lock_result sqlite_lock_try(struct sqlite_lock *lock, const struct sqlite_paths *paths, const char *role,
                                        const char *name);
/* Once the database file exists. */
enum sqlite_lock_result sqlite_lock_database(struct sqlite_lock *lock, const struct sqlite_paths *paths);
/* The lock file is still the one at its path. */
bool sqlite_lock_in_place(const struct sqlite_lock *lock);
void sqlite_lock_release(struct sqlite_lock *lock);
/* "process 4711 (worker alpha)": who holds it, for messages. */
void sqlite_lock_holder(const struct sqlite_paths *paths, char *text, size_t size);

/* What was acknowledged last, kept beside the pid without any sync: after a crash an end below it names a loss. */
struct sqlite_note {
    uint64_t log_id;
    int64_t journal_end;
    int64_t inbox_end;
};
void sqlite_lock_write_note(struct sqlite_lock *lock, const struct sqlite_note *note);
bool sqlite_lock_read_note(const struct sqlite_lock *lock, struct sqlite_note *note);

#endif
