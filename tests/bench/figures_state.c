/*
 * What a job's history costs: to run through, to come back from, to keep.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "job/job.h"

#define LONG_EVENTS 100000

/* ---- replay from memory -------------------------------------------------------------------------------------------- */

struct history {
    struct registry *registry;
    const struct callable *callable;
    Event **events;
    void **encoded;
    size_t *sizes;
    size_t count;
};

static void history_add(struct history *history, Event *event)
{
    size_t i = history->count++;
    event->seq = i + 1;
    event->t = 1700000000000 + (int64_t)i;
    history->events[i] = event;
    history->sizes[i] = perdure__v1__event__get_packed_size(event);
    history->encoded[i] = malloc(history->sizes[i]);
    perdure__v1__event__pack(event, history->encoded[i]);
}

static Event *event_new(void)
{
    Event *event = malloc(sizeof *event);
    perdure__v1__event__init(event);
    return event;
}

static Event *event_started(const char *input)
{
    Event *event = event_new();
    event->kind_case = PERDURE__V1__EVENT__KIND_STARTED;
    event->started = malloc(sizeof *event->started);
    perdure__v1__started__init(event->started);
    event->started->type = strdup("bench/chain");
    event->started->input = malloc(sizeof(Payload));
    perdure__v1__payload__init(event->started->input);
    event->started->input->type = strdup("text");
    event->started->input->data.data = (uint8_t *)strdup(input);
    event->started->input->data.len = strlen(input);
    return event;
}

/* The job itself says what it wants: its steps are run, their results fed, and all that is kept. */
static void history_record(struct history *history, long steps)
{
    char input[32], error[600];
    struct job_options options = { 0 };
    snprintf(input, sizeof input, "%ld", steps);
    history->registry = registry_new();
    if (registry_add(history->registry, &pdr_module_bench, "bench", error, sizeof error) != PDR_OK)
        bench_fail("%s", error);
    history->callable = registry_job(history->registry, "bench/chain");
    history->events = calloc((size_t)steps + 2, sizeof(void *));
    history->encoded = calloc((size_t)steps + 2, sizeof(void *));
    history->sizes = calloc((size_t)steps + 2, sizeof(size_t));
    history_add(history, event_started(input));
    pdr_job *job = job_new(history->registry, history->callable, "long", 1, &options);
    enum job_state state = job_replay(job, (const Event *const *)history->events, 1);
    struct job_command command;
    while (state == JOB_WAITING && job_take(job, &command)) {
        if (command.kind != JOB_STEP)
            bench_fail("replay: the job asks for more than steps");
        struct attempt_request request = { .callable = registry_step(history->registry, command.step), .job = "long",
                                           .run = 1, .op = command.op, .attempt = 1, .input = command.input };
        struct attempt_outcome outcome = { 0 };
        attempt_run(&request, &outcome);
        Event *event = event_new();
        event->op = command.op;
        event->kind_case = PERDURE__V1__EVENT__KIND_STEP_COMPLETED;
        event->step_completed = malloc(sizeof *event->step_completed);
        perdure__v1__step_completed__init(event->step_completed);
        event->step_completed->name = strdup(command.step);
        event->step_completed->input_digest = command.input_digest;
        event->step_completed->attempt = 1;
        event->step_completed->result = outcome.result;
        history_add(history, event);
        state = job_feed(job, event);
    }
    if (state == JOB_DIVERGED || state == JOB_BROKEN)
        bench_fail("replay: %s", job_report(job));
    job_free(job);
}

static void history_free(struct history *history)
{
    for (size_t i = 0; i < history->count; i++) {
        event_free(history->events[i]);
        free(history->encoded[i]);
    }
    free(history->events);
    free(history->encoded);
    free(history->sizes);
    registry_free(history->registry);
}

/* Events a second. */
static double replay_once(const struct history *history, bool encoded)
{
    struct job_options options = { 0 };
    struct wire_arena arena;
    const Event *const *events = (const Event *const *)history->events;
    const Event **decoded = NULL;
    int64_t begin = now_ns();
    wire_arena_init(&arena, 0);
    if (encoded) {
        decoded = malloc(history->count * sizeof(void *));
        for (size_t i = 0; i < history->count; i++)
            decoded[i] = event_decode_in(&arena, history->encoded[i], history->sizes[i]);
        events = decoded;
    }
    pdr_job *job = job_new(history->registry, history->callable, "long", 1, &options);
    enum job_state state = job_replay(job, events, history->count);
    double seconds = (double)(now_ns() - begin) / 1e9;
    if (state == JOB_DIVERGED || state == JOB_BROKEN)
        bench_fail("replay: %s", job_report(job));
    job_free(job);
    wire_arena_release(&arena);
    free(decoded);
    return (double)history->count / seconds;
}

void figure_replay(struct bench *bench)
{
    struct history history = { 0 };
    struct samples rates[2] = { { 0 }, { 0 } };
    history_record(&history, bench->quick ? 20000 : LONG_EVENTS);
    for (int i = 0; i < (bench->quick ? 5 : 15); i++)
        for (int encoded = 0; encoded < 2; encoded++)
            samples_add(&rates[encoded], replay_once(&history, encoded));
    bench_figure(bench, "replay.decoded", samples_percentile(&rates[0], 50), "events/s", 0, 0);
    bench_figure(bench, "replay.encoded", samples_percentile(&rates[1], 50), "events/s", 0, 0);
    samples_free(&rates[0]);
    samples_free(&rates[1]);
    history_free(&history);
}

/* ---- a long job after kill -9 --------------------------------------------------------------------------------------- */

static void wait_ticks(struct bench *bench, uint64_t ticks, const char *what)
{
    for (int64_t waited = 0; atomic_load(&bench->shared->ticks) < ticks; waited++) {
        if (waited > 300000)
            bench_fail("%s", what);
        sleep_ms(1);
    }
}

void figure_restart(struct bench *bench)
{
    char uri[512], input[32];
    struct host host;
    struct samples back = { 0 }, rates = { 0 };
    long events = bench->quick ? 20000 : LONG_EVENTS;
    bench_log_new(bench, "restart", uri, sizeof uri);
    host_start(bench, uri, NULL, &host);
    pdr_client *client;
    if (pdr_client_open(uri, &client) != PDR_OK)
        bench_fail("%s", pdr_client_error(client));
    uint64_t ticks = atomic_load(&bench->shared->ticks);
    snprintf(input, sizeof input, "%ld", events);
    pdr_text in = { input };
    if (pdr_client_start(client, fill, "long", &in) != PDR_OK)
        bench_fail("%s", pdr_client_error(client));
    pdr_client_close(client);
    wait_ticks(bench, ticks + 50, "the long job does not get long");
    sleep_ms(1500); /* a save of the worker's store lies between */
    uint32_t partition = bench->kafka ? partition_of("long", bench->partitions) : 0;
    for (int round = 0; round < 5; round++) {
        host_kill(&host);
        ticks = atomic_load(&bench->shared->ticks);
        host_start_only(bench, uri, NULL, &host);
        wait_ticks(bench, ticks + 1, "the long job does not come back");
        int64_t first = atomic_load(&bench->shared->stamps[ticks % SHARED_STAMPS]);
        /* The worker says that it owns the partition in the turn that replays, after the replay: its time is added. */
        double us = (double)atomic_load(&bench->shared->replayed_us);
        samples_add(&back, (double)(first - atomic_load(&bench->shared->owned_ns[partition])) / 1e6 + us / 1000);
        samples_add(&rates, (double)atomic_load(&bench->shared->replayed_events) * 1e6 / (us > 0 ? us : 1));
        bench_note(bench, "back after %.1f ms, %llu events", back.values[back.count - 1],
                   (unsigned long long)atomic_load(&bench->shared->replayed_events));
        sleep_ms(1500);
    }
    host_kill(&host);
    bench_figure(bench, "replay.log", samples_percentile(&rates, 50), "events/s", 0, 0);
    bench_figure(bench, "restart.first_step", samples_percentile(&back, 50), "ms", 0, 0);
    samples_free(&back);
    samples_free(&rates);
    bench_log_drop(bench, uri);
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

/* `warm` jobs first: caches that are full have no part in what the next jobs take. */
static void memory_of(struct bench *bench, const char *name, const struct host_limits *limits, size_t warm, size_t count)
{
    char uri[512];
    struct host host;
    bench_log_new(bench, name, uri, sizeof uri);
    host_start(bench, uri, limits, &host);
    load_start(uri, "bench/pause_here", "warm", NULL, warm);
    sleep_ms(5000);
    int64_t before = process_rss_bytes(host.pid);
    load_start(uri, "bench/pause_here", name, NULL, count);
    sleep_ms(5000); /* a save, a Mark, an eviction */
    int64_t after = process_rss_bytes(host.pid);
    host_stop(&host);
    bench_note(bench, "%zu paused jobs: %.1f MiB before, %.1f MiB after", count, (double)before / 1048576,
               (double)after / 1048576);
    bench_figure(bench, name, (double)(after - before) / (double)count, "bytes/job", 0, 0);
    bench_log_drop(bench, uri);
}

void figure_memory(struct bench *bench)
{
    size_t count = bench->quick ? 20000 : 100000;
    struct host_limits live = { 10 * count, (size_t)64 << 30 }, few = { 100, (size_t)1 << 30 };
    memory_of(bench, "memory.live", &live, 2000, count);
    memory_of(bench, "memory.evicted", &few, count, count); /* the page cache of the log or store: 64 MiB at most */
}
