/*
 * Paths and lock of an embedded log (rules 27, 29; H29, H30).
 */
#define _GNU_SOURCE
#include "log/sqlite_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "log/fork_guard.h"
#include "wire/wire.h"

#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xFF534D42
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xFE534D42
#endif

/* ---- paths ---- */

static int paths_name_socket(struct sqlite_paths *paths, const char *name, char *error, size_t error_size)
{
    /* The socket is reached through /proc/self/fd/N/NAME, so that only the name has to fit into sun_path. */
    if (strlen(name) + strlen(".sock") <= 72)
        snprintf(paths->socket_name, sizeof paths->socket_name, "%.72s.sock", name);
    else
        snprintf(paths->socket_name, sizeof paths->socket_name, ".perdure-%016" PRIx64 ".sock",
                 hash64(name, strlen(name)));
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime == NULL || strlen(runtime) > 70)
        runtime = "/tmp";
    snprintf(paths->socket_elsewhere, sizeof paths->socket_elsewhere, "%.70s/perdure-%016" PRIx64 ".sock", runtime,
             hash64(paths->database, strlen(paths->database)));
    if ((size_t)snprintf(paths->wal, sizeof paths->wal, "%s-wal", paths->database) >= PATH_MAX ||
        (size_t)snprintf(paths->lock, sizeof paths->lock, "%s.lock", paths->database) >= PATH_MAX) {
        snprintf(error, error_size, "sqlite:%s: the path is too long", paths->database);
        return -1;
    }
    return 0;
}

int sqlite_paths_resolve(struct sqlite_paths *paths, const char *path, char *error, size_t error_size)
{
    memset(paths, 0, sizeof *paths);
    if (path[0] == '\0' || strlen(path) >= PATH_MAX || path[strlen(path) - 1] == '/') {
        snprintf(error, error_size, "sqlite:%s: name a file, as sqlite:perdure.db", path);
        return -1;
    }
    char copy[PATH_MAX], name[PATH_MAX];
    /* A symbolic link to the file must lead to the same lock. */
    if (realpath(path, paths->database) == NULL) {
        snprintf(copy, sizeof copy, "%s", path);
        snprintf(name, sizeof name, "%s", basename(copy));
        snprintf(copy, sizeof copy, "%s", path);
        if (realpath(dirname(copy), paths->folder) == NULL) {
            int missing = errno == ENOENT || errno == ENOTDIR;
            snprintf(error, error_size, "sqlite:%s: the folder %s: %s", path, copy, strerror(errno));
            return missing ? 3 : -1;
        }
        size_t length = strlen(paths->folder);
        if (length + strlen(name) + 2 > PATH_MAX) {
            snprintf(error, error_size, "sqlite:%s: the path is too long", path);
            return -1;
        }
        memcpy(paths->database, paths->folder, length);
        paths->database[length] = '/';
        strcpy(paths->database + length + (length > 1), name);
    } else {
        char *slash = strrchr(paths->database, '/');
        memcpy(name, slash + 1, strlen(slash));
        size_t length = slash == paths->database ? 1 : (size_t)(slash - paths->database);
        memcpy(paths->folder, paths->database, length);
        paths->folder[length] = '\0';
    }
    return paths_name_socket(paths, name, error, error_size);
}

int sqlite_paths_check_filesystem(const struct sqlite_paths *paths, char *error, size_t error_size)
{
    struct statfs system;
    if (statfs(paths->folder, &system) != 0) {
        snprintf(error, error_size, "sqlite:%s: %s", paths->folder, strerror(errno));
        return -1;
    }
    const char *name = NULL;
    switch ((unsigned long)system.f_type & 0xFFFFFFFFUL) {
    case NFS_SUPER_MAGIC: name = "NFS"; break;
    case SMB_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC: name = "SMB"; break;
    default: return 0;
    }
    snprintf(error, error_size,
             "sqlite:%s lies on a network file system (%s), whose locks cannot keep two owners apart: use a local disk, "
             "or a Kafka log for several machines", paths->database, name);
    return -1;
}

/* ---- the lock ---- */

void sqlite_lock_init(struct sqlite_lock *lock)
{
    memset(lock, 0, sizeof *lock);
    lock->fd = lock->database_fd = -1;
}

static void lock_close(int *fd)
{
    if (*fd < 0)
        return;
    fork_release(*fd);
    close(*fd);
    *fd = -1;
}

static enum sqlite_lock_result lock_range(int fd, off_t start, off_t length)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    if (fcntl(fd, F_OFD_SETLK, &range) == 0)
        return SQLITE_LOCK_HELD;
    return errno == EAGAIN || errno == EACCES ? SQLITE_LOCK_BUSY : SQLITE_LOCK_ERROR;
}

#define LOCK_BYTE 0
#define WAITING_BYTE 1

int sqlite_lock_announce(const struct sqlite_paths *paths)
{
    int fd = open(paths->lock, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -1;
    fork_guard(fd);
    lock_range(fd, WAITING_BYTE, 1);
    return fd;
}

void sqlite_lock_stop_waiting(int fd) { lock_close(&fd); }

static bool lock_is_wanted(int fd)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = WAITING_BYTE, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

bool sqlite_lock_in_place(const struct sqlite_lock *lock)
{
    struct stat there;
    return stat(lock->path, &there) == 0 && there.st_ino == lock->inode && there.st_dev == lock->device;
}

enum sqlite_lock_result sqlite_lock_try(struct sqlite_lock *lock, const struct sqlite_paths *paths, const char *role,
                                        const char *name)
{
    sqlite_lock_init(lock);
    snprintf(lock->path, sizeof lock->path, "%s", paths->lock);
    for (int round = 0; round < 100; round++) {
        lock->fd = open(paths->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (lock->fd < 0)
            return SQLITE_LOCK_ERROR;
        fork_guard(lock->fd);
        enum sqlite_lock_result result = SQLITE_LOCK_BUSY;
        if (strcmp(role, "client") != 0 || !lock_is_wanted(lock->fd))
            result = lock_range(lock->fd, LOCK_BYTE, 1);
        struct stat here;
        if (result == SQLITE_LOCK_HELD && fstat(lock->fd, &here) != 0)
            result = SQLITE_LOCK_ERROR;
        if (result != SQLITE_LOCK_HELD) {
            int saved = errno;
            lock_close(&lock->fd);
            errno = saved;
            return result;
        }
        lock->inode = here.st_ino;
        lock->device = here.st_dev;
        if (sqlite_lock_in_place(lock)) {
            snprintf(lock->holder, sizeof lock->holder, "%d %s %.90s\n", (int)getpid(), role, name ? name : "-");
            if (pwrite(lock->fd, lock->holder, strlen(lock->holder), 0) < 0)
                lock->holder[0] = '\0'; /* only a name for messages: the lock itself is held */
            return SQLITE_LOCK_HELD;
        }
        lock_close(&lock->fd); /* somebody replaced it between open and lock */
    }
    return SQLITE_LOCK_BUSY;
}

enum sqlite_lock_result sqlite_lock_database(struct sqlite_lock *lock, const struct sqlite_paths *paths)
{
    lock->database_fd = open(paths->database, O_RDWR | O_CLOEXEC);
    if (lock->database_fd < 0)
        return SQLITE_LOCK_ERROR;
    fork_guard(lock->database_fd);
    return lock_range(lock->database_fd, INT64_C(1) << 60, 1);
}

void sqlite_lock_release(struct sqlite_lock *lock)
{
    lock_close(&lock->database_fd);
    lock_close(&lock->fd);
}

void sqlite_lock_holder(const struct sqlite_paths *paths, char *text, size_t size)
{
    char line[160] = "";
    int fd = open(paths->lock, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got = pread(fd, line, sizeof line - 1, 0);
        line[got > 0 ? got : 0] = '\0';
        close(fd);
    }
    int pid = 0;
    char role[16] = "", name[96] = "";
    if (sscanf(line, "%d %15s %95[^\n]", &pid, role, name) < 2)
        snprintf(text, size, "another process");
    else
        snprintf(text, size, "process %d (%s %s)", pid, role, name);
}

#define NOTE_OFFSET 256 /* behind the holder's line */

void sqlite_lock_write_note(struct sqlite_lock *lock, const struct sqlite_note *note)
{
    char text[128];
    int length = snprintf(text, sizeof text, "log %016" PRIx64 " journal %020" PRId64 " inbox %020" PRId64 "\n",
                          note->log_id, note->journal_end, note->inbox_end);
    /* Best effort: without it a loss would be silent, nothing else depends on it. */
    if (pwrite(lock->fd, text, (size_t)length, NOTE_OFFSET) < 0)
        return;
}

bool sqlite_lock_read_note(const struct sqlite_lock *lock, struct sqlite_note *note)
{
    char text[128] = "";
    ssize_t got = pread(lock->fd, text, sizeof text - 1, NOTE_OFFSET);
    return got > 0 && sscanf(text, "log %" SCNx64 " journal %" SCNd64 " inbox %" SCNd64, &note->log_id,
                             &note->journal_end, &note->inbox_end) == 3;
}
