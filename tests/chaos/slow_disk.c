/*
 * A disk that stands still or is full, for one process: preloaded, it looks at the folder that $PERDURE_SLOW_DISK names. While
 * a file `still` is there, nothing that is to be made durable is; while `full` is there, nothing is written to an embedded log.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool told(const char *what)
{
    const char *folder = getenv("PERDURE_SLOW_DISK");
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "", what);
    return folder && access(path, F_OK) == 0;
}

static void wait_until_it_moves(void)
{
    while (told("still"))
        usleep(5000);
}

static bool is_full_for(int file)
{
    char link[64], path[4096];
    if (!told("full"))
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    return strstr(path, ".db") != NULL;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int file)
{
    wait_until_it_moves();
    return NEXT(fsync)(file);
}

int fdatasync(int file)
{
    wait_until_it_moves();
    return NEXT(fdatasync)(file);
}

static ssize_t no_room(void)
{
    errno = ENOSPC;
    return -1;
}

ssize_t write(int file, const void *data, size_t size)
{
    return is_full_for(file) ? no_room() : NEXT(write)(file, data, size);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at)
{
    return is_full_for(file) ? no_room() : NEXT(pwrite)(file, data, size, at);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at)
{
    return is_full_for(file) ? no_room() : NEXT(pwrite64)(file, data, size, at);
}
