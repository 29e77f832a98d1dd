#include "worker/data_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log/fork_guard.h"

#define LOCK_PATIENCE_MS 2000
#define LOCK_LOOK_MS 20

/* Says what to do about it, too. Uses errno. */
static void data_dir_fail(char *error, size_t size, const char *what, const char *path)
{
    int code = errno;
    int used = snprintf(error, size, "cannot %s %s: %s", what, path, strerror(code));
    if (used < 0 || (size_t)used >= size)
        return;
    error += used;
    size -= (size_t)used;
    if (code == EACCES || code == EPERM)
        snprintf(error, size, ". The worker is user %u, group %u: give it the data directory (chown -R %u:%u), or name another with --data",
                 (unsigned)geteuid(), (unsigned)getegid(), (unsigned)geteuid(), (unsigned)getegid());
    else if (code == EROFS)
        snprintf(error, size, ". Name a data directory on a disk or volume that can be written with --data");
}

static int make_directories(const char *path, char *error, size_t error_size)
{
    char partial[3072];
    snprintf(partial, sizeof partial, "%s", path);
    for (char *slash = partial + 1; ; slash++) {
        if (*slash != '/' && *slash != '\0')
            continue;
        char kept = *slash;
        *slash = '\0';
        if (mkdir(partial, 0700) != 0 && errno != EEXIST) {
            data_dir_fail(error, error_size, "make directory", partial);
            return -1;
        }
        *slash = kept;
        if (kept == '\0')
            return 0;
    }
}

static void make_name(char *name, size_t size)
{
    char host[64] = "worker";
    uint32_t random = 0;
    gethostname(host, sizeof host - 1);
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        random = (uint32_t)getpid();
    snprintf(name, size, "%s-%08x", host, random);
}

static int read_or_make_name(struct data_dir *dir, char *error, size_t error_size)
{
    char path[3200];
    snprintf(path, sizeof path, "%s/worker-id", dir->path);
    FILE *file = fopen(path, "re");
    if (file) {
        char *line = fgets(dir->worker, sizeof dir->worker, file);
        fclose(file);
        if (line) {
            dir->worker[strcspn(dir->worker, "\n")] = '\0';
            if (dir->worker[0])
                return 0;
        }
    }
    if (!dir->worker[0])
        make_name(dir->worker, sizeof dir->worker);
    file = fopen(path, "we");
    if (!file || fprintf(file, "%s\n", dir->worker) < 0 || fclose(file) != 0) {
        data_dir_fail(error, error_size, "write", path);
        return -1;
    }
    return 0;
}

/* A worker whose supervisor was killed dies with it, and holds its lock until the kernel has taken it down. */
static bool lock_taken(int file, int patience_ms)
{
    struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    for (int waited = 0;; waited += LOCK_LOOK_MS) {
        if (fcntl(file, F_OFD_SETLK, &all) == 0)
            return true;
        if (waited >= patience_ms)
            return false;
        nanosleep(&(struct timespec){ .tv_nsec = LOCK_LOOK_MS * 1000000 }, NULL);
    }
}

static int data_dir_take(struct data_dir *dir, const char *path, const char *name, int patience_ms, char *error,
                         size_t error_size)
{
    char lock_path[3200];
    memset(dir, 0, sizeof *dir);
    dir->lock = -1;
    if (strlen(path) >= sizeof dir->path) {
        snprintf(error, error_size, "the path of the data directory is too long");
        return -1;
    }
    if (name && strlen(name) >= sizeof dir->worker) { /* cut short it could be another one's */
        snprintf(error, error_size, "the name of a worker has at most %d bytes, this one has %zu", WORKER_NAME_LIMIT_BYTES, strlen(name));
        return -1;
    }
    strcpy(dir->path, path);
    if (make_directories(path, error, error_size) != 0)
        return -1;
    snprintf(lock_path, sizeof lock_path, "%s/lock", path);
    dir->lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (dir->lock < 0) {
        data_dir_fail(error, error_size, "open", lock_path);
        return -1;
    }
    fork_guard(dir->lock);
    if (!lock_taken(dir->lock, patience_ms)) {
        snprintf(error, error_size, "%s is in use by another worker; give each worker a --data directory of its own",
                 path);
        data_dir_close(dir);
        return -1;
    }
    if (name) {
        snprintf(dir->worker, sizeof dir->worker, "%s", name);
        return 0;
    }
    dir->id_is_kept = true;
    if (read_or_make_name(dir, error, error_size) != 0) {
        data_dir_close(dir);
        return -1;
    }
    return 0;
}

int data_dir_open(struct data_dir *dir, const char *path, const char *name, char *error, size_t error_size)
{
    return data_dir_take(dir, path, name, LOCK_PATIENCE_MS, error, error_size);
}

static bool lock_is_in_place(const struct data_dir *dir)
{
    char path[3200];
    struct stat ours, found;
    snprintf(path, sizeof path, "%s/lock", dir->path);
    return fstat(dir->lock, &ours) == 0 && stat(path, &found) == 0 && ours.st_ino == found.st_ino &&
           ours.st_dev == found.st_dev;
}

int data_dir_renew(struct data_dir *dir, char *error, size_t error_size)
{
    struct data_dir fresh;
    if (lock_is_in_place(dir))
        return 0;
    if (data_dir_take(&fresh, dir->path, dir->worker, 0, error, error_size) != 0)
        return -1;
    data_dir_close(dir);
    dir->lock = fresh.lock;
    return dir->id_is_kept ? read_or_make_name(dir, error, error_size) : 0;
}

void data_dir_close(struct data_dir *dir)
{
    if (dir->lock >= 0) {
        fork_release(dir->lock);
        close(dir->lock);
    }
    dir->lock = -1;
}
