/*
 * Jobs without an engine: one process starts them and hears of their end, the other chains their records, each after the
 * one before was read back. Same records, same topics, same processes; nothing is decoded, judged, kept or run.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "floor_kafka.h"

#define BARE_ROWS 8
#define BARE_TURN 4096
#define BARE_WAIT_MS 60000

/* At the end of each record, in place of bytes that nobody here reads: which job, which record of it. */
struct bare_mark {
    uint64_t job;
    uint32_t stage;
    uint32_t pad;
};

struct bare_files {
    size_t count;
    struct row rows[BARE_ROWS];
};

static void bare_topics(const char *name, char topics[3][300])
{
    static const char *const suffixes[] = { "inbox", "journal", "replies" };
    for (int i = 0; i < 3; i++)
        snprintf(topics[i], 300, "%s.%s", name, suffixes[i]);
}

static void bare_send(rd_kafka_t *producer, rd_kafka_topic_t *topic, int32_t partition, struct row *row, uint64_t job,
                      uint32_t stage)
{
    struct bare_mark mark = { job, stage, 0 };
    memcpy(row->data + row->size - sizeof mark, &mark, sizeof mark);
    floor_produce(producer, topic, partition, row, row->data, NULL);
}

static void bare_reports(rd_kafka_queue_t *reports)
{
    while (rd_kafka_queue_length(reports) > 0)
        rd_kafka_event_destroy(rd_kafka_queue_poll(reports, 0));
}

/* ---- the loop in the place of the worker ------------------------------------------------------------------------------ */

static void bare_chain(rd_kafka_t *producer, rd_kafka_topic_t **topics, struct bare_files *files,
                       const rd_kafka_message_t *message)
{
    struct bare_mark mark;
    memcpy(&mark, (const char *)message->payload + message->len - sizeof mark, sizeof mark);
    if (mark.stage < files->count)
        bare_send(producer, topics[1], message->partition, &files->rows[mark.stage], mark.job, mark.stage + 1);
    else
        bare_send(producer, topics[2], message->partition, &files->rows[files->count], mark.job, mark.stage + 1);
}

/* bare BROKERS NAME PARTITIONS LINGER SHARED-FILE ROWS SIZE... */
int kafka_bare_main(int count, char **arguments)
{
    if (count < 8)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const char *brokers = arguments[2];
    int partitions = atoi(arguments[4]);
    struct bare_files *files = mmap(NULL, sizeof *files, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(arguments[6]), 0);
    if (files == MAP_FAILED)
        return 2;
    for (size_t i = 0; i <= files->count; i++)
        files->rows[i].data = calloc(1, files->rows[i].size);
    char names[3][300];
    bare_topics(arguments[3], names);
    rd_kafka_t *producer = floor_producer(brokers, arguments[5]), *consumer = floor_consumer(brokers);
    rd_kafka_topic_t *topics[3];
    for (int i = 0; i < 3; i++)
        topics[i] = rd_kafka_topic_new(producer, names[i], NULL);
    const char *read[] = { names[0], names[1] };
    int each[] = { partitions, partitions };
    floor_assign(consumer, read, each, 2);
    rd_kafka_queue_t *records = rd_kafka_queue_get_consumer(consumer), *reports = rd_kafka_queue_get_main(producer);
    static rd_kafka_message_t *messages[BARE_TURN];
    for (;;) {
        ssize_t got = rd_kafka_consume_batch_queue(records, 100, messages, 1);
        if (got > 0) {
            ssize_t more = rd_kafka_consume_batch_queue(records, 0, messages + 1, BARE_TURN - 1);
            got += more > 0 ? more : 0;
        }
        for (ssize_t i = 0; i < got; i++) {
            if (!messages[i]->err)
                bare_chain(producer, topics, files, messages[i]);
            rd_kafka_message_destroy(messages[i]);
        }
        bare_reports(reports);
    }
}

/* ---- the client --------------------------------------------------------------------------------------------------------- */

struct bare {
    rd_kafka_t *producer, *consumer;
    rd_kafka_topic_t *inbox;
    rd_kafka_queue_t *reports;
    struct row start;
    uint32_t partitions;
    uint64_t started, ended;
};

static void bare_start(struct bare *bare)
{
    uint64_t job = bare->started++;
    bare_send(bare->producer, bare->inbox, (int32_t)(job % bare->partitions), &bare->start, job, 0);
}

static void bare_until(struct bare *bare, int64_t until_ns, uint64_t ended, uint64_t limit)
{
    while (now_ns() < until_ns && bare->ended < ended) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(bare->consumer, BARE_WAIT_MS);
        if (!message)
            bench_fail("floor: the bare loop stands still");
        if (!message->err) {
            bare->ended++;
            if (bare->started < limit)
                bare_start(bare);
        }
        rd_kafka_message_destroy(message);
        bare_reports(bare->reports);
    }
}

static pid_t bare_fork(struct bench *bench, const char *brokers, const char *name, int linger_ms, int file)
{
    char partitions[16], linger[16], number[16];
    snprintf(partitions, sizeof partitions, "%u", bench->partitions);
    snprintf(linger, sizeof linger, "%d", linger_ms);
    snprintf(number, sizeof number, "%d", file);
    pid_t pid = fork();
    if (pid < 0)
        bench_fail("fork: %s", strerror(errno));
    if (pid == 0) {
        execl(bench->program, "perdure-bench", "bare", brokers, name, partitions, linger, number, "", NULL);
        _exit(127);
    }
    return pid;
}

/* The records for the other process: sizes and headers in shared memory; their bytes do not matter there. */
static int bare_share(const struct row *rows, size_t count, size_t reply_size)
{
    int file = memfd_create("perdure-bench-rows", 0);
    struct bare_files *files = NULL;
    if (file < 0 || ftruncate(file, sizeof *files) != 0 ||
        (files = mmap(NULL, sizeof *files, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)) == MAP_FAILED)
        bench_fail("no shared memory: %s", strerror(errno));
    files->count = count;
    for (size_t i = 0; i < count; i++)
        files->rows[i] = rows[i];
    files->rows[count] = (struct row){ .size = reply_size };
    munmap(files, sizeof *files);
    return file;
}

double kafka_bare_jobs(struct bench *bench, const struct row *inbox, const struct row *rows, size_t count, size_t open,
                       int linger_ms, double seconds, struct load_result *result)
{
    static int number;
    char brokers[256], what[32], name[256], names[3][300];
    struct bare bare = { .partitions = bench->partitions, .start = *inbox };
    bench_brokers(bench, brokers, sizeof brokers);
    snprintf(what, sizeof what, "bare%d", ++number);
    bench_topic(bench, what, name, sizeof name);
    bare_topics(name, names);
    bare.start.data = malloc(inbox->size);
    memcpy(bare.start.data, inbox->data, inbox->size);
    char linger[16];
    snprintf(linger, sizeof linger, "%d", linger_ms);
    bare.producer = floor_producer(brokers, linger);
    bare.consumer = floor_consumer(brokers);
    for (int i = 0; i < 3; i++)
        floor_create_topic(bare.producer, names[i], (int)bench->partitions);
    sleep_ms(500); /* until every partition has its leader */
    bare.inbox = rd_kafka_topic_new(bare.producer, names[0], NULL);
    bare.reports = rd_kafka_queue_get_main(bare.producer);
    const char *read[] = { names[2] };
    int each[] = { (int)bench->partitions };
    floor_assign(bare.consumer, read, each, 1);
    int file = bare_share(rows, count, 120);
    pid_t pid = bare_fork(bench, brokers, name, linger_ms, file);
    while (bare.started < open)
        bare_start(&bare);
    bare_until(&bare, INT64_MAX, open, UINT64_MAX);
    double worker_cpu = process_cpu_seconds(pid), client_cpu = process_cpu_seconds(0);
    double broker_cpu = bench->broker ? process_cpu_seconds(bench->broker) : 0;
    int64_t begin = now_ns();
    uint64_t before = bare.ended;
    bare_until(&bare, begin + (int64_t)(seconds * 1e9), UINT64_MAX, UINT64_MAX);
    result->seconds = (double)(now_ns() - begin) / 1e9;
    result->jobs = bare.ended - before;
    result->worker_cpu = process_cpu_seconds(pid) - worker_cpu;
    result->client_cpu = process_cpu_seconds(0) - client_cpu;
    result->broker_cpu = bench->broker ? process_cpu_seconds(bench->broker) - broker_cpu : 0;
    bare_until(&bare, INT64_MAX, bare.started, 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(file);
    rd_kafka_queue_destroy(bare.reports);
    rd_kafka_topic_destroy(bare.inbox);
    rd_kafka_consumer_close(bare.consumer);
    rd_kafka_destroy(bare.consumer);
    rd_kafka_destroy(bare.producer);
    const char *all[] = { names[0], names[1], names[2] };
    floor_delete_topics(brokers, all, 3);
    free(bare.start.data);
    return (double)result->jobs / result->seconds;
}
