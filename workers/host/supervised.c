/*
 * From `perdure worker` to its supervisor: the process becomes it.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/crash_handler.h"

#define SUPERVISOR "perdure-supervisor"

/* Beside this program, as it is built; else in libexec, as it is installed. */
static bool supervisor_find(const char *self, char *path, size_t size)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", self);
    const char *at = dirname(folder);
    snprintf(path, size, "%s/%s", at, SUPERVISOR);
    if (access(path, X_OK) == 0)
        return true;
    snprintf(path, size, "%s/../%s/perdure/%s", at, PERDURE_LIBEXEC, SUPERVISOR);
    return access(path, X_OK) == 0;
}

int supervisor_execute(int argc, char **argv, long long watchdog_ms, bool json, bool quiet, char *why, unsigned size)
{
    char self[PATH_MAX], path[PATH_MAX + 64], number[24];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    const char **command = calloc((size_t)argc + 10, sizeof *command);
    size_t count = 0;
    if (length <= 0 || !command) {
        snprintf(why, size, "cannot find its own program: %s", strerror(errno));
        free(command);
        return -1;
    }
    self[length] = '\0';
    if (!supervisor_find(self, path, sizeof path)) {
        snprintf(why, size, "%s is not there; install it beside this program, or use --no-supervisor", path);
        free(command);
        return -1;
    }
    snprintf(number, sizeof number, "%lld", watchdog_ms);
    command[count++] = SUPERVISOR;
    command[count++] = "--watchdog-ms";
    command[count++] = number;
    if (json)
        command[count++] = "--json";
    if (quiet)
        command[count++] = "--quiet";
    command[count++] = "--";
    command[count++] = self;
    for (int i = 0; i < argc; i++)
        command[count++] = argv[i];
    fflush(NULL);
    execv(path, (char *const *)command);
    snprintf(why, size, "%s cannot be executed: %s", path, strerror(errno));
    free(command);
    return -1;
}
