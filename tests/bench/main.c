/*
 * perdure-bench [--only NAME] [--log URI] [--json] [--quick]
 */
#include <errno.h>
#include <ftw.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "floor_kafka.h"
#include "log/kafka.h"

static const struct figure {
    const char *name;
    void (*run)(struct bench *bench);
    const char *what;
} figures[] = {
    { "step", figure_step, "one step after the other in one job, against one record written and read back" },
    { "result", figure_result, "start to result of a job of one step, as a client sees it" },
    { "remote", figure_remote, "one remote step after the other in one job, against a request and an answer through Kafka" },
    { "hello", figure_hello, "jobs of three steps a second, against a loop without an engine" },
    { "replay", figure_replay, "events a second, from memory" },
    { "restart", figure_restart, "a job of 100,000 events after kill -9" },
    { "memory", figure_memory, "bytes of a paused job, in memory and evicted" },
};
#define FIGURES (sizeof figures / sizeof *figures)

void bench_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "perdure-bench: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

void bench_note(const struct bench *bench, const char *format, ...)
{
    va_list arguments;
    if (bench->json)
        return;
    va_start(arguments, format);
    fprintf(stderr, "  ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
}

void bench_figure(struct bench *bench, const char *name, double value, const char *unit, double floor, double ratio)
{
    if (!bench->json) {
        printf("%-28s %14.3f %-12s", name, value, unit);
        if (floor > 0)
            printf(" floor %12.3f  ratio %6.3f", floor, ratio);
        printf("\n");
        fflush(stdout);
        return;
    }
    json_t *object = json_pack("{s:s s:f s:s}", "name", name, "value", value, "unit", unit);
    json_object_set_new(object, "floor", floor > 0 ? json_real(floor) : json_null());
    json_object_set_new(object, "ratio", floor > 0 ? json_real(ratio) : json_null());
    json_object_set_new(object, "environment", json_loads(bench->environment, 0, NULL));
    char *text = json_dumps(object, JSON_REAL_PRECISION(6));
    printf("%s\n", text);
    fflush(stdout);
    free(text);
    json_decref(object);
}

/* ---- logs of our own --------------------------------------------------------------------------------------------------- */

void bench_brokers(const struct bench *bench, char *brokers, size_t size)
{
    const char *host = bench->log + strlen("kafka://");
    snprintf(brokers, size, "%.*s", (int)strcspn(host, "/"), host);
}

void bench_topic(const struct bench *bench, const char *what, char *name, size_t size)
{
    const char *slash = strrchr(bench->log, '/');
    snprintf(name, size, "%.*s-%d-%s", (int)strcspn(slash + 1, "?"), slash + 1, (int)getpid(), what);
}

void bench_log_new(struct bench *bench, const char *what, char *uri, size_t size)
{
    bench->logs++;
    if (!bench->kafka) {
        snprintf(uri, size, "sqlite:%s/%s-%d.db", bench->directory, what, bench->logs);
        return;
    }
    char brokers[256], name[256], text[1024];
    bench_brokers(bench, brokers, sizeof brokers);
    bench_topic(bench, what, name, sizeof name);
    snprintf(uri, size, "kafka://%s/%s", brokers, name);
    if (kafka_namespace_create(uri, bench->partitions, true, text, sizeof text) != 0)
        bench_fail("%s", text);
}

void bench_log_drop(struct bench *bench, const char *uri)
{
    static const char *const suffixes[] = { "inbox", "journal", "jobs", "replies", "dead" };
    char names[5][300], brokers[256];
    const char *pointers[5];
    if (!bench->kafka)
        return;
    for (int i = 0; i < 5; i++) {
        snprintf(names[i], sizeof names[i], "%s.%s", strrchr(uri, '/') + 1, suffixes[i]);
        pointers[i] = names[i];
    }
    bench_brokers(bench, brokers, sizeof brokers);
    floor_delete_topics(brokers, pointers, 5);
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------- */

static void usage(FILE *file)
{
    fprintf(file, "usage: perdure-bench [--only NAME] [--log URI] [--json] [--quick] [--broker-pid PID] [--partitions N]\n"
                  "       [--open N]\n"
                  "--log sqlite:DIRECTORY/ measures there (default: a temporary directory);\n"
                  "--log kafka://HOST:PORT/NAME makes namespaces NAME-... and removes them.\n"
                  "The broker's process is found by its port, or named (also $PERDURE_BROKER_PID): its CPU time is told.\n");
    for (size_t i = 0; i < FIGURES; i++)
        fprintf(file, "  %-8s %s\n", figures[i].name, figures[i].what);
}

static bool parse(struct bench *bench, int count, char **arguments)
{
    const char *pid = getenv("PERDURE_BROKER_PID");
    bench->broker = pid ? (pid_t)atoi(pid) : 0;
    for (int i = 1; i < count; i++) {
        const char *name = arguments[i], *value = i + 1 < count ? arguments[i + 1] : NULL;
        if (strcmp(name, "--json") == 0)
            bench->json = true;
        else if (strcmp(name, "--quick") == 0)
            bench->quick = true;
        else if (strcmp(name, "--only") == 0 && value)
            bench->only = arguments[++i];
        else if (strcmp(name, "--log") == 0 && value)
            bench->log = arguments[++i];
        else if (strcmp(name, "--broker-pid") == 0 && value)
            bench->broker = (pid_t)atoi(arguments[++i]);
        else if (strcmp(name, "--open") == 0 && value)
            bench->open = strtoull(arguments[++i], NULL, 10);
        else if (strcmp(name, "--partitions") == 0 && value)
            bench->partitions = (uint32_t)atoi(arguments[++i]);
        else
            return false;
    }
    bench->kafka = bench->log && strncmp(bench->log, "kafka://", 8) == 0;
    return bench->partitions > 0 && bench->partitions <= SHARED_PARTITIONS &&
           (!bench->log || bench->kafka || strncmp(bench->log, "sqlite:", 7) == 0);
}

static void make_directory(struct bench *bench)
{
    const char *base = getenv("TMPDIR");
    if (bench->log && !bench->kafka)
        base = bench->log + strlen("sqlite:");
    snprintf(bench->directory, sizeof bench->directory, "%s/perdure-bench-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(bench->directory))
        bench_fail("%s: %s", bench->directory, strerror(errno));
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static struct bench bench = { .partitions = 8 };

static void clean_up(void)
{
    if (bench.directory[0])
        nftw(bench.directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(int count, char **arguments)
{
    static char program[PATH_MAX];
    if (count > 1 && strcmp(arguments[1], "worker") == 0)
        return host_main(count, arguments);
    if (count > 1 && strcmp(arguments[1], "bare") == 0)
        return kafka_bare_main(count, arguments);
    if (count > 1 && strcmp(arguments[1], "load") == 0)
        return load_main(count, arguments);
    if (count > 1 && strcmp(arguments[1], "--help") == 0) {
        usage(stdout);
        return 0;
    }
    if (!parse(&bench, count, arguments)) {
        usage(stderr);
        return 2;
    }
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0)
        bench_fail("/proc/self/exe: %s", strerror(errno));
    bench.program = program;
    make_directory(&bench);
    atexit(clean_up);
    shared_new(&bench);
    if (bench.kafka && !bench.broker) {
        char brokers[256];
        bench_brokers(&bench, brokers, sizeof brokers);
        bench.broker = bench_find_broker(brokers);
    }
    bench.environment = bench_environment(&bench);
    if (!bench.json)
        printf("%s\n", bench.environment);
    bool any = false;
    for (size_t i = 0; i < FIGURES; i++) {
        if (bench.only && strcmp(bench.only, figures[i].name) != 0)
            continue;
        any = true;
        figures[i].run(&bench);
    }
    free(bench.environment);
    if (!any)
        usage(stderr);
    return any ? 0 : 2;
}
