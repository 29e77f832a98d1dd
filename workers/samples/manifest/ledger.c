#include "ledger.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* One write() with O_APPEND: lines of many threads and processes never mix. */
static int ledger_append(const char *file, const char *key, const char *path)
{
    char *line = NULL;
    int length = asprintf(&line, "%s %s\n", key, path);
    if (length < 0)
        return -1;
    for (int i = 0; i < length - 1; i++) {
        if (line[i] == '\n')
            line[i] = '?'; /* in the name of a file */
    }
    int descriptor = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    ssize_t wrote = descriptor >= 0 ? write(descriptor, line, (size_t)length) : -1;
    if (descriptor >= 0)
        close(descriptor);
    free(line);
    return wrote == length ? 0 : -1;
}

int ledger_note(const char *key, const char *path)
{
    const char *file = getenv("PERDURE_EFFECT_LEDGER");
    if (file != NULL && file[0] != '\0' && ledger_append(file, key, path) != 0)
        return -1;
    const char *delay = getenv("PERDURE_STEP_DELAY_MS");
    long ms = delay != NULL ? strtol(delay, NULL, 10) : 0;
    if (ms > 0) {
        struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
        nanosleep(&time, NULL);
    }
    return 0;
}
