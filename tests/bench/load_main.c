/*
 * perdure-bench load: a load for workers that somebody else runs, as tests/bench/scaling does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* Jobs that go on waiting. */
static int start_main(char **arguments)
{
    int64_t begin = now_ns();
    uint64_t count = strtoull(arguments[6], NULL, 10);
    load_start(arguments[2], arguments[3], arguments[5], arguments[7], (size_t)count);
    printf("{\"jobs\":%llu,\"seconds\":%.3f}\n", (unsigned long long)count, (double)(now_ns() - begin) / 1e9);
    return 0;
}

/* One job at a time: how long each takes. */
static int probe_main(char **arguments)
{
    struct samples ms = { 0 };
    load_probe(arguments[2], arguments[3], (size_t)strtoull(arguments[5], NULL, 10), strtoll(arguments[6], NULL, 10), &ms);
    double first = ms.values[0];
    printf("{\"jobs\":%zu,\"first_ms\":%.1f,\"p50_ms\":%.1f,\"max_ms\":%.1f}\n", ms.count, first,
           samples_percentile(&ms, 50), samples_percentile(&ms, 100));
    samples_free(&ms);
    return 0;
}

int load_main(int count, char **arguments)
{
    if (count == 8 && strcmp(arguments[4], "start") == 0)
        return start_main(arguments);
    if (count == 7 && strcmp(arguments[4], "probe") == 0 && strtoull(arguments[5], NULL, 10) > 0)
        return probe_main(arguments);
    struct bench bench = { 0 };
    struct load_result result = { 0 };
    double number = count == 7 ? strtod(arguments[5], NULL) : 0, seconds = count == 7 ? strtod(arguments[6], NULL) : 0;
    bool paced = count == 7 && strcmp(arguments[4], "rate") == 0;
    if (number <= 0 || seconds <= 0 || (!paced && strcmp(arguments[4], "open") != 0)) {
        fprintf(stderr, "usage: perdure-bench load URI TYPE rate JOBS-A-SECOND SECONDS\n"
                        "       perdure-bench load URI TYPE open JOBS-AT-ONCE SECONDS\n"
                        "       perdure-bench load URI TYPE start PREFIX COUNT INPUT\n"
                        "       perdure-bench load URI TYPE probe COUNT PAUSE-MS\n"
                        "print one object of figures\n");
        return 2;
    }
    if (paced)
        load_paced(&bench, arguments[2], arguments[3], number, seconds, &result);
    else
        load_run(&bench, arguments[2], 0, arguments[3], (size_t)number, seconds, &result);
    printf("{\"jobs\":%llu,\"seconds\":%.3f,\"client_cpu\":%.3f}\n", (unsigned long long)result.jobs, result.seconds,
           result.client_cpu);
    return 0;
}
