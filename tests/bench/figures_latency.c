/*
 * One thing after the other: steps of one job, and jobs of one step. Figure and floor take turns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define WARM_STEPS 20

static int rounds(const struct bench *bench) { return bench->quick ? 12 : 60; }
static long steps(const struct bench *bench) { return bench->quick ? 50 : 100; }

struct floor {
    struct sqlite_floor *sqlite;
    struct kafka_floor *kafka;
};

static void floor_open(struct bench *bench, const char *name, struct floor *floor)
{
    *floor = (struct floor){ 0 };
    if (bench->kafka)
        floor->kafka = kafka_floor_open(bench, name);
    else
        floor->sqlite = sqlite_floor_open(bench, name);
}

static void floor_close(struct floor *floor)
{
    if (floor->kafka)
        kafka_floor_close(floor->kafka);
    else
        sqlite_floor_close(floor->sqlite);
}

static void floor_sample(struct floor *floor, const struct row *row, long count, struct samples *samples)
{
    for (long i = -WARM_STEPS; i < count; i++) {
        double us = floor->kafka ? kafka_floor_round_trip(floor->kafka, row) : sqlite_floor_commit(floor->sqlite, row);
        if (i >= 0)
            samples_add(samples, us);
    }
}

static pdr_client *open_client(const char *uri)
{
    pdr_client *client;
    if (pdr_client_open(uri, &client) != PDR_OK)
        bench_fail("%s", client ? pdr_client_error(client) : "out of memory");
    return client;
}

static void chain_sample(struct bench *bench, pdr_client *client, int round, long count, struct samples *samples)
{
    char id[32], input[32];
    pdr_text in = { input };
    snprintf(id, sizeof id, "chain-%03d", round);
    snprintf(input, sizeof input, "%ld", count + WARM_STEPS + 1);
    uint64_t first = atomic_load(&bench->shared->ticks);
    if (pdr_client_start(client, chain, id, &in) != PDR_OK || pdr_client_result(client, chain, id, NULL) != PDR_OK)
        bench_fail("%s", pdr_client_error(client));
    /* One step is from one call of the step function to the next: its result was logged and read back between. */
    for (uint64_t i = first + WARM_STEPS; i < first + WARM_STEPS + (uint64_t)count; i++)
        samples_add(samples, (double)(atomic_load(&bench->shared->stamps[(i + 1) % SHARED_STAMPS]) -
                                      atomic_load(&bench->shared->stamps[i % SHARED_STAMPS])) / 1000);
}

void figure_step(struct bench *bench)
{
    char uri[512];
    struct host host;
    struct row inbox, rows[3];
    struct floor floor;
    struct samples measured = { 0 }, least = { 0 };
    bench_log_new(bench, "step", uri, sizeof uri);
    host_start(bench, uri, NULL, &host);
    size_t count = rows_of_job(uri, "bench/chain", "chain-row", "3", &inbox, rows, 3);
    if (count < 2)
        bench_fail("no record of a step");
    floor_open(bench, "step-floor", &floor);
    pdr_client *client = open_client(uri);
    for (int round = 0; round < rounds(bench); round++) {
        floor_sample(&floor, &rows[1], steps(bench), &least);
        chain_sample(bench, client, round, steps(bench), &measured);
    }
    pdr_client_close(client);
    host_stop(&host);
    bench_note(bench, "one record of %zu bytes a step", rows[1].size);
    floor_close(&floor);
    for (int percent = 50; percent < 100; percent += 49) {
        double value = samples_percentile(&measured, percent), base = samples_percentile(&least, percent);
        bench_figure(bench, percent == 50 ? "step.p50" : "step.p99", value, "us", base, value / base);
    }
    samples_free(&measured);
    samples_free(&least);
    row_free(&inbox);
    for (size_t i = 0; i < count; i++)
        row_free(&rows[i]);
    bench_log_drop(bench, uri);
}

static void result_sample(pdr_client *client, int round, long count, struct samples *samples)
{
    pdr_text in = { "Ada" };
    for (long i = -WARM_STEPS; i < count; i++) {
        char id[48];
        pdr_text *out;
        snprintf(id, sizeof id, "single-%03d-%06ld", round, i + WARM_STEPS);
        int64_t begin = now_ns();
        if (pdr_client_start(client, single, id, &in) != PDR_OK || pdr_client_result(client, single, id, &out) != PDR_OK)
            bench_fail("%s", pdr_client_error(client));
        if (i >= 0)
            samples_add(samples, (double)(now_ns() - begin) / 1000);
        pdr_free(out);
    }
}

void figure_result(struct bench *bench)
{
    char uri[512];
    struct host host;
    struct row inbox, rows[3];
    struct floor floor;
    struct samples measured = { 0 }, least = { 0 };
    bench_log_new(bench, "result", uri, sizeof uri);
    host_start(bench, uri, NULL, &host);
    size_t count = rows_of_job(uri, "bench/single", "single-row", "Ada", &inbox, rows, 3);
    floor_open(bench, "result-floor", &floor);
    pdr_client *client = open_client(uri);
    for (int round = 0; round < rounds(bench); round++) {
        floor_sample(&floor, &rows[count - 1], steps(bench), &least);
        result_sample(client, round, steps(bench) / 2, &measured);
    }
    pdr_client_close(client);
    host_stop(&host);
    floor_close(&floor);
    for (int percent = 50; percent < 100; percent += 49) {
        double value = samples_percentile(&measured, percent), base = samples_percentile(&least, percent);
        bench_figure(bench, percent == 50 ? "result.p50" : "result.p99", value, "us", base, value / base);
    }
    samples_free(&measured);
    samples_free(&least);
    row_free(&inbox);
    for (size_t i = 0; i < count; i++)
        row_free(&rows[i]);
    bench_log_drop(bench, uri);
}
