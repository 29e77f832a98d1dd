/*
 * A remote step: from one call of the step function, in a step worker, to the next in a job of one remote step after the
 * other. Between lie the report, one record of the journal (the step's end, and the next step), and the task. The floor is
 * what a request and its answer through a broker cost: produced, read, produced, read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "floor_kafka.h"

#define WARM_STEPS 20
#define TASK_BYTES 320 /* as they are for steps of this size */
#define REPORT_BYTES 260

static void row_blank(struct row *row, size_t size, const char *kind)
{
    *row = (struct row){ .size = size, .run = 1, .seq = 1, .data = calloc(1, size) };
    if (!row->data)
        bench_fail("out of memory");
    snprintf(row->job, sizeof row->job, "remote");
    snprintf(row->kind, sizeof row->kind, "%s", kind);
    snprintf(row->name, sizeof row->name, "far_tick");
}

struct remote_floor {
    struct kafka_floor *there, *back;
    struct row task, report;
};

static void floor_sample(struct remote_floor *floor, long count, struct samples *samples)
{
    for (long i = -WARM_STEPS; i < count; i++) {
        double us = kafka_floor_round_trip(floor->there, &floor->task);
        us += kafka_floor_round_trip(floor->back, &floor->report);
        if (i >= 0)
            samples_add(samples, us);
    }
}

static void chain_sample(struct bench *bench, pdr_client *client, int round, long count, struct samples *samples)
{
    char id[32], input[32];
    pdr_text in = { input };
    snprintf(id, sizeof id, "remote-%03d", round);
    snprintf(input, sizeof input, "%ld", count + WARM_STEPS + 1);
    uint64_t first = atomic_load(&bench->shared->ticks);
    if (pdr_client_start(client, far_chain, id, &in) != PDR_OK || pdr_client_result(client, far_chain, id, NULL) != PDR_OK)
        bench_fail("%s", pdr_client_error(client));
    for (uint64_t i = first + WARM_STEPS; i < first + WARM_STEPS + (uint64_t)count; i++)
        samples_add(samples, (double)(atomic_load(&bench->shared->stamps[(i + 1) % SHARED_STAMPS]) -
                                      atomic_load(&bench->shared->stamps[i % SHARED_STAMPS])) / 1000);
}

static void measure(struct bench *bench, const char *uri, struct samples *measured, struct samples *least)
{
    struct remote_floor floor;
    pdr_client *client;
    floor.there = kafka_floor_open(bench, "remote-there");
    floor.back = kafka_floor_open(bench, "remote-back");
    row_blank(&floor.task, TASK_BYTES, "task");
    row_blank(&floor.report, REPORT_BYTES, "command");
    if (pdr_client_open(uri, &client) != PDR_OK)
        bench_fail("%s", client ? pdr_client_error(client) : "out of memory");
    struct samples warm = { 0 };
    chain_sample(bench, client, 999, 1, &warm); /* the queue's topic is made, its workers find it */
    samples_free(&warm);
    long count = bench->quick ? 50 : 100;
    for (int round = 0; round < (bench->quick ? 12 : 60); round++) {
        floor_sample(&floor, count, least);
        chain_sample(bench, client, round, count, measured);
    }
    pdr_client_close(client);
    kafka_floor_close(floor.there);
    kafka_floor_close(floor.back);
    row_free(&floor.task);
    row_free(&floor.report);
}

void figure_remote(struct bench *bench)
{
    char uri[512], brokers[256], topic[320];
    struct host owner, steps;
    struct samples measured = { 0 }, least = { 0 };
    if (!bench->kafka) {
        bench_note(bench, "remote: an embedded log has no queues");
        return;
    }
    bench_log_new(bench, "remote", uri, sizeof uri);
    host_start(bench, uri, NULL, &owner);
    host_start_queue(bench, uri, "bench", &steps);
    measure(bench, uri, &measured, &least);
    host_stop(&steps);
    host_stop(&owner);
    for (int percent = 50; percent < 100; percent += 49) {
        double value = samples_percentile(&measured, percent), base = samples_percentile(&least, percent);
        bench_figure(bench, percent == 50 ? "remote.p50" : "remote.p99", value, "us", base, value / base);
    }
    samples_free(&measured);
    samples_free(&least);
    bench_log_drop(bench, uri);
    const char *names[] = { topic };
    bench_brokers(bench, brokers, sizeof brokers);
    snprintf(topic, sizeof topic, "%s.tasks.bench", strrchr(uri, '/') + 1);
    floor_delete_topics(brokers, names, 1);
}
