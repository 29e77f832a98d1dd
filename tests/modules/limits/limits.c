/* A step that takes a while and writes down when it begins and ends, so that a test sees how many of it run at once. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <perdure/perdure.h>

PDR_STEP(busy, pdr_text, pdr_none)
PDR_JOB(caller, pdr_text, pdr_none)

static void note(const char *what, const char *key)
{
    char line[100];
    const char *path = getenv("LIMITS_FILE");
    int file = open(path ? path : "/dev/null", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    int size = snprintf(line, sizeof line, "%s %s\n", what, key);
    if (file < 0 || write(file, line, (size_t)size) != size)
        abort();
    close(file);
}

int busy(pdr_attempt *attempt, const pdr_text *key, pdr_none *out)
{
    (void)attempt;
    (void)out;
    note("begin", key->chars);
    nanosleep(&(struct timespec){ .tv_nsec = 300 * 1000 * 1000 }, NULL);
    note("end", key->chars);
    return PDR_OK;
}

/* "KEY": one at a time. "KEY:N": so many at a time. "-": no key. */
int caller(pdr_job *job, const pdr_text *in, pdr_none *out)
{
    const char *colon = strchr(in->chars, ':');
    const char *key = pdr_format(job, "%.*s", (int)(colon ? colon - in->chars : (long)strlen(in->chars)), in->chars);
    (void)out;
    return pdr_await(job, busy, in, NULL, .concurrency_key = strcmp(key, "-") == 0 ? NULL : key,
                     .concurrency_limit = colon ? atoi(colon + 1) : 0);
}

PDR_MODULE(limits, PDR_RUNS(busy), PDR_RUNS(caller));
