/*
 * Many jobs at once, from one client.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "client/internal.h"

#define LOAD_PATIENCE_NS (INT64_C(30) * 1000000000)

struct load {
    struct bench *bench;
    struct client *client;
    const char *type, *prefix, *input;
    uint64_t started, ended, limit;
    bool accepted_is_enough;
    struct question **answered; /* forgotten after the poll: not from inside its own call */
    size_t answered_count;
};

void load_command(Command *command, Perdure__V1__Start *start, Payload *payload, const char *type, const char *input)
{
    payload->type = (char *)"text";
    payload->data.data = (uint8_t *)(uintptr_t)input;
    payload->data.len = strlen(input);
    start->type = (char *)(uintptr_t)type;
    start->input = payload;
    start->watch = true;
    command->kind_case = PERDURE__V1__COMMAND__KIND_START;
    command->start = start;
}

static void load_on_answer(void *context, struct question *question)
{
    struct load *load = context;
    const char *answer = question->answer->answer;
    /* "exists": an impatient client sent it twice. */
    if (strcmp(answer, "accepted") != 0 && strcmp(answer, "exists") != 0 && !question->ended)
        bench_fail("job %s: %s (%s)", question->job, answer, question->answer->error ? question->answer->error->message : "");
    if (load->accepted_is_enough || question->ended)
        load->answered[load->answered_count++] = question;
}

static void load_start_one(struct load *load)
{
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Start start = PERDURE__V1__START__INIT;
    Payload payload = PERDURE__V1__PAYLOAD__INIT;
    char id[64];
    snprintf(id, sizeof id, "%s-%07llu", load->prefix, (unsigned long long)load->started++);
    load_command(&command, &start, &payload, load->type, load->input ? load->input : "Ada");
    start.watch = !load->accepted_is_enough;
    struct question *question = client_ask(load->client, id, &command);
    if (!question)
        bench_fail("%s", client_error(load->client));
    question->on_answer = load_on_answer;
    question->context = load;
    if (question->answer) /* sending it may have brought its answers already */
        load_on_answer(load, question);
}

static void load_turn(struct load *load, int64_t timeout_ms)
{
    if (!client_poll(load->client, timeout_ms))
        bench_fail("%s", client_error(load->client));
    size_t count = load->answered_count;
    load->answered_count = 0;
    load->ended += count;
    for (size_t i = 0; i < count; i++)
        client_forget(load->client, load->answered[i]);
    for (size_t i = 0; i < count && load->started < load->limit; i++)
        load_start_one(load);
}

static void load_open(struct load *load, const char *uri, size_t open)
{
    struct client_options options = { .name = "perdure-bench" };
    char error[600];
    if (client_open(uri, &options, &load->client, error, sizeof error) != EXIT_OK)
        bench_fail("%s", error);
    load->answered = calloc(open, sizeof(void *));
    if (!load->answered)
        bench_fail("out of memory");
    while (load->started < open && load->started < load->limit)
        load_start_one(load);
}

static void load_close(struct load *load)
{
    free(load->answered);
    client_close(load->client);
}

static void load_stuck(struct load *load)
{
    Status *status = NULL;
    const struct question *question = load->client->questions;
    if (question && client_status(load->client, question->job, &status) == EXIT_OK)
        fprintf(stderr, "perdure-bench: job %s: answer %s, end %s, status %s, %llu events\n", question->job,
                question->answer ? question->answer->answer : "none", question->ended ? "told" : "not told", status->state,
                (unsigned long long)status->events);
    status_free(status);
    bench_fail("%llu jobs of type %s do not end", (unsigned long long)(load->started - load->ended), load->type);
}

static void load_until(struct load *load, int64_t until_ns, uint64_t ended)
{
    int64_t moved = now_ns();
    while (now_ns() < until_ns && load->ended < ended) {
        uint64_t before = load->ended;
        load_turn(load, 1000);
        if (load->ended != before)
            moved = now_ns();
        else if (now_ns() - moved > LOAD_PATIENCE_NS)
            load_stuck(load);
    }
}

void load_run(struct bench *bench, const char *uri, pid_t worker, const char *type, size_t open, double seconds,
              struct load_result *result)
{
    static int runs;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "%s-%d", type, ++runs);
    struct load load = { .bench = bench, .type = type, .prefix = prefix, .limit = UINT64_MAX };
    load_open(&load, uri, open);
    load_until(&load, INT64_MAX, open); /* warm: each place was taken once */
    double worker_cpu = process_cpu_seconds(worker), client_cpu = process_cpu_seconds(0);
    double broker_cpu = bench->broker ? process_cpu_seconds(bench->broker) : 0;
    int64_t begin = now_ns();
    uint64_t before = load.ended;
    load_until(&load, begin + (int64_t)(seconds * 1e9), UINT64_MAX);
    result->seconds = (double)(now_ns() - begin) / 1e9;
    result->jobs = load.ended - before;
    result->worker_cpu = process_cpu_seconds(worker) - worker_cpu;
    result->client_cpu = process_cpu_seconds(0) - client_cpu;
    result->broker_cpu = bench->broker ? process_cpu_seconds(bench->broker) - broker_cpu : 0;
    load.limit = load.started; /* and the rest comes to its end */
    load_until(&load, INT64_MAX, load.started);
    load_close(&load);
}

void load_paced(struct bench *bench, const char *uri, const char *type, double rate, double seconds,
                struct load_result *result)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "paced-%lld", (long long)now_ns());
    size_t most = (size_t)(rate * seconds) + 1;
    struct load load = { .bench = bench, .type = type, .prefix = prefix, .limit = 0 };
    load_open(&load, uri, most);
    int64_t begin = now_ns();
    double client_cpu = process_cpu_seconds(0), passed;
    while ((passed = (double)(now_ns() - begin) / 1e9) < seconds) {
        while ((double)load.started < passed * rate && load.started < most)
            load_start_one(&load);
        load_turn(&load, 5);
    }
    result->seconds = passed;
    result->jobs = load.started;
    load_until(&load, INT64_MAX, load.started);
    result->client_cpu = process_cpu_seconds(0) - client_cpu;
    load_close(&load);
}

void load_start(const char *uri, const char *type, const char *prefix, const char *input, size_t count)
{
    struct load load = { .type = type, .prefix = prefix, .input = input, .limit = count, .accepted_is_enough = true };
    load_open(&load, uri, count < 4096 ? count : 4096);
    load_until(&load, INT64_MAX, count);
    load_close(&load);
}

void load_probe(const char *uri, const char *type, size_t count, int64_t pause_ms, struct samples *ms)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "probe-%lld", (long long)now_ns());
    struct load load = { .type = type, .prefix = prefix, .input = "x", .limit = 0 };
    load_open(&load, uri, 1);
    for (size_t i = 0; i < count; i++) {
        int64_t begin = now_ns();
        load_start_one(&load);
        while (load.ended < load.started) {
            load_turn(&load, 1000);
            if (now_ns() - begin > 4 * LOAD_PATIENCE_NS)
                load_stuck(&load);
        }
        samples_add(ms, (double)(now_ns() - begin) / 1e6);
        sleep_ms(pause_ms);
    }
    load_close(&load);
}
