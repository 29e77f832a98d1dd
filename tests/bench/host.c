/*
 * The worker runs in a process of its own: this program again, with the jobs of module.c linked in.
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

#define HOST_START_MS 60000

void shared_new(struct bench *bench)
{
    bench->shared_file = memfd_create("perdure-bench", 0); /* the worker inherits it */
    if (bench->shared_file < 0 || ftruncate(bench->shared_file, sizeof *bench->shared) != 0)
        bench_fail("no shared memory: %s", strerror(errno));
    bench->shared = mmap(NULL, sizeof *bench->shared, PROT_READ | PROT_WRITE, MAP_SHARED, bench->shared_file, 0);
    if (bench->shared == MAP_FAILED)
        bench_fail("no shared memory: %s", strerror(errno));
}

/* ---- in the worker's process --------------------------------------------------------------------------------------- */

static pdr_worker *host_worker;

static void host_on_signal(int number)
{
    (void)number;
    pdr_worker_stop(host_worker);
}

static void host_notice(void *context, int level, const char *text)
{
    struct shared *shared = context;
    unsigned partition, count;
    double ms;
    const char *replayed = strstr(text, ": replayed ");
    unsigned long long events;
    if (sscanf(text, "partition %u is ours after %u", &partition, &count) == 2 && partition < SHARED_PARTITIONS) {
        atomic_store(&shared->owned_ns[partition], now_ns());
        atomic_fetch_add(&shared->owned, 1);
    } else if (replayed && sscanf(replayed, ": replayed %llu events in %lf ms", &events, &ms) == 2) {
        atomic_store(&shared->replayed_us, (uint64_t)(ms * 1000));
        atomic_store(&shared->replayed_events, events);
    } else if (level >= PDR_WARNING || getenv("PERDURE_BENCH_NOTICES")) {
        fprintf(stderr, "worker: %s\n", text);
    }
}

/* worker URI DATA SHARED-FILE LIVE-JOBS LIVE-BYTES [QUEUE] */
int host_main(int count, char **arguments)
{
    if (count != 7 && count != 8)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(arguments[4]), 0);
    if (shared == MAP_FAILED)
        return 2;
    bench_shared = shared;
    pdr_worker_options options = { .size = sizeof options,
                                   .log = arguments[2],
                                   .data = arguments[3],
                                   .name = "bench",
                                   .live_jobs = strtoull(arguments[5], NULL, 10),
                                   .live_bytes = strtoull(arguments[6], NULL, 10),
                                   .notice = host_notice,
                                   .notice_context = shared,
                                   .queue = count == 8 ? arguments[7] : NULL };
    int code = pdr_worker_open(&options, &host_worker);
    if (code == PDR_OK)
        code = pdr_worker_add(host_worker, &pdr_module_bench);
    signal(SIGTERM, host_on_signal);
    if (code == PDR_OK)
        code = pdr_worker_run(host_worker);
    if (code != PDR_OK)
        fprintf(stderr, "worker: %s\n", pdr_worker_error(host_worker));
    pdr_worker_close(host_worker);
    return code == PDR_OK ? 0 : 1;
}

/* ---- in ours ---------------------------------------------------------------------------------------------------------- */

void host_start_only(struct bench *bench, const char *uri, const struct host_limits *limits, struct host *host)
{
    char data[300], file[16], jobs[24], bytes[24];
    snprintf(data, sizeof data, "%s/data-%d", bench->directory, bench->logs);
    snprintf(file, sizeof file, "%d", bench->shared_file);
    snprintf(jobs, sizeof jobs, "%zu", limits ? limits->live_jobs : 0);
    snprintf(bytes, sizeof bytes, "%zu", limits ? limits->live_bytes : 0);
    atomic_store(&bench->shared->owned, 0);
    memset(bench->shared->owned_ns, 0, sizeof bench->shared->owned_ns);
    host->pid = fork();
    if (host->pid < 0)
        bench_fail("fork: %s", strerror(errno));
    if (host->pid == 0) {
        const char *wrap = getenv("PERDURE_BENCH_WRAP"); /* a profiler: a program that runs its arguments */
        if (wrap)
            execlp(wrap, wrap, bench->program, "worker", uri, data, file, jobs, bytes, NULL);
        execl(bench->program, "perdure-bench", "worker", uri, data, file, jobs, bytes, NULL);
        _exit(127);
    }
}

void host_start(struct bench *bench, const char *uri, const struct host_limits *limits, struct host *host)
{
    host_start_only(bench, uri, limits, host);
    uint32_t wanted = bench->kafka ? bench->partitions : 1;
    for (int64_t waited = 0; atomic_load(&bench->shared->owned) < wanted; waited += 10) {
        if (waited > HOST_START_MS || waitpid(host->pid, NULL, WNOHANG) != 0)
            bench_fail("the worker on %s does not come up", uri);
        sleep_ms(10);
    }
}

void host_start_queue(struct bench *bench, const char *uri, const char *queue, struct host *host)
{
    char file[16];
    snprintf(file, sizeof file, "%d", bench->shared_file);
    host->pid = fork();
    if (host->pid < 0)
        bench_fail("fork: %s", strerror(errno));
    if (host->pid == 0) {
        execl(bench->program, "perdure-bench", "worker", uri, bench->directory, file, "0", "0", queue, NULL);
        _exit(127);
    }
}

void host_stop(struct host *host)
{
    kill(host->pid, SIGTERM);
    waitpid(host->pid, NULL, 0);
}

void host_kill(struct host *host)
{
    kill(host->pid, SIGKILL);
    waitpid(host->pid, NULL, 0);
}
