/*
 * sqlite:PATH: takes the name apart; a worker owns the file, a client asks its owner.
 */
#include "log/sqlite.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/sqlite_lock.h"

#define PARTITIONS_OPTION "?partitions="

int sqlite_log_open(const char *path, const struct log_options *options, struct log **out, char *error,
                    size_t error_size)
{
    char name[PATH_MAX];
    uint32_t partitions = 0;
    *out = NULL;
    snprintf(name, sizeof name, "%s", path);
    char *option = strstr(name, PARTITIONS_OPTION);
    if (option != NULL) {
        char *end;
        unsigned long number = strtoul(option + strlen(PARTITIONS_OPTION), &end, 10);
        if (*end != '\0' || end == option + strlen(PARTITIONS_OPTION) || number == 0 || number > UINT32_MAX) {
            snprintf(error, error_size, "sqlite:%s: %s wants a number", path, PARTITIONS_OPTION);
            return 2;
        }
        partitions = (uint32_t)number;
        *option = '\0';
    }
    struct sqlite_paths paths;
    int code = sqlite_paths_resolve(&paths, name, error, error_size);
    if (code != 0)
        return code == 3 ? 3 : 2;
    if (sqlite_paths_check_filesystem(&paths, error, error_size) != 0)
        return 2;
    if (options->member != NULL)
        return sqlite_worker_open(&paths, options, partitions, out, error, error_size);
    return sqlite_client_open(&paths, options, partitions, out, error, error_size);
}
