/*
 * perdure-bench load: a load for workers that somebody else runs, as tests/bench/scaling does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

int load_main(int count, char **arguments)
{
    struct bench bench = { 0 };
    struct load_result result = { 0 };
    double number = count == 7 ? strtod(arguments[5], NULL) : 0, seconds = count == 7 ? strtod(arguments[6], NULL) : 0;
    bool paced = count == 7 && strcmp(arguments[4], "rate") == 0;
    if (number <= 0 || seconds <= 0 || (!paced && strcmp(arguments[4], "open") != 0)) {
        fprintf(stderr, "usage: perdure-bench load URI TYPE rate JOBS-A-SECOND SECONDS\n"
                        "       perdure-bench load URI TYPE open JOBS-AT-ONCE SECONDS\n"
                        "prints {\"jobs\",\"seconds\",\"client_cpu\"}\n");
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
