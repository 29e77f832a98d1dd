/*
 * How many jobs of three steps a second, and what they cost in CPU time.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#define HELLO_ROWS 4

static void tell_cpu(struct bench *bench, const char *name, double mine, double floor)
{
    bench_figure(bench, name, mine, "s/1000 jobs", floor, floor > 0 ? mine / floor : 0);
}

static double per_1000(double seconds, const struct load_result *result)
{
    return result->jobs ? seconds * 1000 / (double)result->jobs : 0;
}

static double rate(const struct load_result *result)
{
    return (double)result->jobs / result->seconds;
}

struct hello {
    struct bench *bench;
    const char *uri;
    struct host host;
    struct row inbox, rows[HELLO_ROWS];
    struct sqlite_floor *sqlite;
    double seconds;
    struct load_result best, best_floor;
    size_t open, open_floor;
    int linger;
};

static void hello_floor(struct hello *hello, size_t open)
{
    struct load_result result = { 0 };
    for (int linger = 0; linger <= (hello->bench->kafka ? 5 : 0); linger += 5) {
        if (hello->bench->kafka) {
            kafka_bare_jobs(hello->bench, &hello->inbox, hello->rows, HELLO_ROWS, open, linger, hello->seconds, &result);
        } else {
            double before = process_cpu_seconds(0);
            double jobs = sqlite_floor_jobs(hello->sqlite, &hello->inbox, hello->rows, HELLO_ROWS, open, hello->seconds);
            result = (struct load_result){ .seconds = hello->seconds, .jobs = (uint64_t)(jobs * hello->seconds),
                                           .worker_cpu = process_cpu_seconds(0) - before };
        }
        bench_note(hello->bench, "bare loop, %zu open, linger %d: %.0f jobs/s", open, linger, rate(&result));
        if (rate(&result) > (hello->best_floor.jobs ? rate(&hello->best_floor) : 0)) {
            hello->best_floor = result;
            hello->open_floor = open;
            hello->linger = linger;
        }
    }
}

static void hello_engine(struct hello *hello, size_t open)
{
    struct load_result result = { 0 };
    load_run(hello->bench, hello->uri, hello->host.pid, "bench/hello", open, hello->seconds, &result);
    bench_note(hello->bench, "perdure, %zu open: %.0f jobs/s; CPU s/1000 jobs: worker %.3f, client %.3f, broker %.3f", open,
               rate(&result), per_1000(result.worker_cpu, &result), per_1000(result.client_cpu, &result),
               per_1000(result.broker_cpu, &result));
    if (rate(&result) > (hello->best.jobs ? rate(&hello->best) : 0)) {
        hello->best = result;
        hello->open = open;
    }
}

void figure_hello(struct bench *bench)
{
    static const size_t opens[] = { 64, 256, 1024, 4096, 16384 };
    char uri[512];
    struct hello hello = { .bench = bench, .uri = uri, .seconds = bench->quick ? 1 : 4 };
    bench_log_new(bench, "hello", uri, sizeof uri);
    host_start(bench, uri, NULL, &hello.host);
    if (rows_of_job(uri, "bench/hello", "hello-row", "Ada", &hello.inbox, hello.rows, HELLO_ROWS) != HELLO_ROWS)
        bench_fail("hello does not leave four records");
    if (!bench->kafka)
        hello.sqlite = sqlite_floor_open(bench, "hello");
    if (bench->open) {
        hello_floor(&hello, bench->open);
        hello_engine(&hello, bench->open);
    }
    for (size_t i = bench->quick ? 1 : 0; !bench->open && i < sizeof opens / sizeof *opens - (bench->quick ? 2 : 0); i++) {
        hello_floor(&hello, opens[i]);
        hello_engine(&hello, opens[i]);
    }
    host_stop(&hello.host);
    if (hello.sqlite)
        sqlite_floor_close(hello.sqlite);
    bench_note(bench, "best with %zu open jobs; the bare loop with %zu, linger %d ms", hello.open, hello.open_floor, hello.linger);
    const struct load_result *best = &hello.best, *least = &hello.best_floor;
    bench_figure(bench, "hello.rate", rate(best), "jobs/s", rate(least), rate(best) / rate(least));
    tell_cpu(bench, "hello.cpu.worker", per_1000(best->worker_cpu, best), per_1000(least->worker_cpu, least));
    tell_cpu(bench, "hello.cpu.client", per_1000(best->client_cpu, best), per_1000(least->client_cpu, least));
    if (bench->broker)
        tell_cpu(bench, "hello.cpu.broker", per_1000(best->broker_cpu, best), per_1000(least->broker_cpu, least));
    row_free(&hello.inbox);
    for (int i = 0; i < HELLO_ROWS; i++)
        row_free(&hello.rows[i]);
    bench_log_drop(bench, uri);
}
