/*
 * Clocks, samples, and what /proc says of a process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void sleep_ms(int64_t ms)
{
    struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&pause, NULL);
}

void samples_add(struct samples *samples, double value)
{
    if (samples->count == samples->space) {
        samples->space = samples->space ? 2 * samples->space : 1024;
        samples->values = realloc(samples->values, samples->space * sizeof *samples->values);
        if (!samples->values)
            bench_fail("out of memory");
    }
    samples->values[samples->count++] = value;
}

static int compare_values(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double samples_percentile(struct samples *samples, double percent)
{
    if (samples->count == 0)
        return 0;
    qsort(samples->values, samples->count, sizeof *samples->values, compare_values);
    return samples->values[(size_t)((double)(samples->count - 1) * percent / 100)];
}

void samples_free(struct samples *samples)
{
    free(samples->values);
    *samples = (struct samples){ 0 };
}

double process_cpu_seconds(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)(pid ? pid : getpid()));
    FILE *file = fopen(path, "r");
    size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    unsigned long user, kernel;
    if (file)
        fclose(file);
    text[size] = '\0';
    const char *rest = strrchr(text, ')'); /* the name before it may hold anything */
    if (!rest || sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2)
        return -1;
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

int64_t process_rss_bytes(pid_t pid)
{
    char path[64];
    long long size = 0, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)(pid ? pid : getpid()));
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%lld %lld", &size, &resident) != 2)
        resident = -1;
    if (file)
        fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
}
