/*
 * perdure worker: a worker under its supervisor; perdure dev: the same on an embedded log, for trying.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "constants.h"
#include "command/duration.h"
#include "command/retention_flags.h"
#include "command/session.h"
#include "command/show.h"
#include "crash/slot.h"
#include "host/crash_handler.h"

#define WATCHDOG_MS 10000 /* a job that has not awaited for so long will not */

static pdr_worker *volatile worker_running; /* for the signal handler */
static volatile sig_atomic_t worker_stops;

static void worker_on_signal(int number)
{
    pdr_worker *worker = worker_running;
    if (worker_stops++ > 0 || !worker) {
        static const char text[] = "\nperdure: stopped at once; what was not confirmed is done again\n";
        ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
        (void)ignored;
        crash_handler_leave(); /* nobody's crash */
        _exit(128 + number);
    }
    if (number == SIGUSR1)
        pdr_worker_leave(worker);
    else
        pdr_worker_stop(worker);
}

static void worker_catch_signals(void)
{
    struct sigaction action = {.sa_handler = worker_on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    action.sa_handler = SIG_IGN; /* a reader that goes away must not end the worker */
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL); /* a limit on file sizes is a full disk: appends wait until there is room */
}

/* ---- what it has to say ------------------------------------------------------------------------- */

struct worker_output {
    pthread_mutex_t lock;
    FILE *file;
    bool json;
    int least; /* enum pdr_level */
};

static void worker_notice(void *context, int level, const char *text)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    struct worker_output *output = context;
    struct buffer line = {0};
    char clock[40];
    int64_t now = client_wall_ms();
    if (level < output->least)
        return;
    const char *name = names[level < 0 ? 0 : level > 3 ? 3 : level];
    if (output->json) {
        buffer_byte(&line, '{');
        show_int(&line, "time", now);
        show_string(&line, "level", name);
        show_string(&line, "text", text);
        buffer_byte(&line, '}');
    } else {
        buffer_format(&line, "%s %s", time_clock(now, clock, sizeof clock), level >= PDR_WARNING ? name : "");
        buffer_text(&line, level >= PDR_WARNING ? ": " : "");
        show_plain(&line, text);
    }
    buffer_byte(&line, '\n');
    pthread_mutex_lock(&output->lock); /* whole lines, whichever thread speaks */
    if (!line.failed)
        fwrite(line.data, 1, line.size, output->file);
    fflush(output->file);
    pthread_mutex_unlock(&output->lock);
    buffer_free(&line);
}

/* With --json, beside the line for people. */
static void worker_takeover(void *context, const pdr_takeover *takeover)
{
    struct worker_output *output = context;
    struct buffer line = {0};
    if (!output->json || output->least > PDR_INFO)
        return;
    buffer_byte(&line, '{');
    show_int(&line, "time", client_wall_ms());
    show_string(&line, "level", "info");
    show_key(&line, "takeover");
    buffer_byte(&line, '{');
    show_int(&line, "partition", takeover->partition);
    show_string(&line, "cause", takeover->cause);
    show_string(&line, "previous", takeover->previous);
    show_int(&line, "silent_ms", takeover->silent_ms);
    show_bool(&line, "followed", takeover->followed);
    show_int(&line, "records", (int64_t)takeover->records);
    show_int(&line, "bytes", (int64_t)takeover->bytes);
    show_int(&line, "read_us", takeover->read_us);
    show_int(&line, "wait_us", takeover->wait_us);
    show_int(&line, "claim_us", takeover->claim_us);
    show_int(&line, "progress_us", takeover->progress_us);
    buffer_text(&line, "}}\n");
    pthread_mutex_lock(&output->lock);
    if (!line.failed)
        fwrite(line.data, 1, line.size, output->file);
    fflush(output->file);
    pthread_mutex_unlock(&output->lock);
    buffer_free(&line);
}

/* ---- running ------------------------------------------------------------------------------------ */

#define FLAGS_OF_BOTH \
    {"module", "FILE.so", "a module of jobs and steps", true}, \
    {"data", "DIR", "directory of the worker's own files (default: by the log's name)", false}, \
    {"name", "NAME", "name of the worker: shown, and its member id on Kafka (default: kept in the data directory)", false}, \
    {"threads", "N", "threads that run steps (default: 16)", false}, \
    {"step-rate", "STEP=N/s,...", "attempts of a step that begin in a second, in this worker, at most", false}, \
    {"step-limit", "STEP=N,...", "attempts of a step that run at the same time, in this worker, at most", false}, \
    {"job-rate", "TYPE=N/s,...", "jobs of a type that begin in a second, in this worker, at most; others wait in line", false}, \
    {"drain-timeout", "DURATION", "how long running steps may end before a partition is given up (default: 10s; with --queue 30s)", false}, \
    {"accept-lost-commands", NULL, "go on though the log has lost commands that no job has taken", false}, \
    RETENTION_FLAGS, \
    {"memory", "SIZE", "what jobs may take in memory, 256M, 2G: beyond, idle ones leave it, then others wait (default: half of " \
     "the control group's limit, or a quarter of the machine's)", false}, \
    {"quiet", NULL, "print warnings and errors only", false}

#define FLAGS_OF_SUPERVISION \
    {"watchdog", "DURATION", "a job that runs so long without an await ends its worker (default: 10s; 0s: never)", false}, \
    {"crash-limit", "N", "a job that crashed the worker so often in a row is quarantined (default: 3)", false}, \
    {"no-supervisor", NULL, "run in this process: a crash ends it, and no job is told apart for it", false}

static const struct flag worker_flags[] = {
    FLAGS_OF_BOTH,
    {"queue", "NAME", "a step worker: runs no jobs, but the steps that wait in this queue, --threads at a time (Kafka only)",
     false},
    {"queue-rate", "QUEUE=N/s,...", "remote steps that this worker dispatches, or with --queue begins, at most", false},
    {"queue-limit", "QUEUE=N,...", "tasks of a partition that wait for their workers at most (default: 1000)", false},
    {"session-timeout", "DURATION", "Kafka: a worker silent for so long loses its partitions (default: 10s)", false},
    {"standby", "N", "Kafka: follow N partitions of other workers, so that taking them over is quick (default: 0)", false},
    {"leave", NULL, "Kafka: SIGTERM and SIGINT leave for good: others take over at once (SIGUSR1 does so always)", false},
    FLAGS_OF_SUPERVISION,
    {NULL, NULL, NULL, false},
};

static int worker_exit(int code)
{
    switch (code) {
    case PDR_OK:
        return EXIT_OK;
    case PDR_NOT_FOUND:
        return EXIT_NOT_FOUND;
    case PDR_UNREACHABLE:
    case PDR_NO_MEMORY:
        return EXIT_UNREACHABLE;
    case PDR_MEMBER_TAKEN:
        return EXIT_MEMBER_TAKEN;
    case PDR_PARTITION_STOPPED:
        return EXIT_PARTITION_STOPPED;
    default:
        return EXIT_USAGE;
    }
}

/* Paths are taken as they are given: a bare name is a file here, not in the loader's path. */
static int worker_load(pdr_worker *worker, const char *path)
{
    char here[4200];
    snprintf(here, sizeof here, "%s%s", strchr(path, '/') ? "" : "./", path);
    return pdr_worker_load(worker, here);
}

static int worker_serve(const struct arguments *arguments, pdr_worker *worker)
{
    int code = PDR_OK;
    for (size_t i = 0; i < arguments->repeat_count && code == PDR_OK; i++)
        code = worker_load(worker, arguments->repeats[i]);
    if (code == PDR_OK) {
        worker_running = worker;
        worker_catch_signals();
        crash_handler_note_modules();
        code = pdr_worker_run(worker);
        worker_stops = 1; /* from here a signal ends the process */
        worker_running = NULL;
    }
    return code == PDR_OK ? EXIT_OK : session_fail(arguments, worker_exit(code), "%s", pdr_worker_error(worker));
}

static bool worker_on_file(const struct arguments *arguments)
{
    return strncmp(arguments->log, "sqlite:", 7) == 0;
}

/* An option that would do nothing is refused: whoever gives it believes that it protects something. */
static bool flags_fit_queue(const struct arguments *arguments)
{
    static const char *const of_jobs[] = { "job-rate", "queue-limit", "standby", "accept-lost-commands", "memory", "keep", "life",
                                           "retention", "retention-age", "session-timeout", "crash-limit",
                                           "watchdog" };
    if (!arguments_get(arguments, "queue"))
        return true;
    for (size_t i = 0; i < sizeof of_jobs / sizeof *of_jobs; i++)
        if (arguments_get(arguments, of_jobs[i])) {
            (void)arguments_wrong(arguments, "--%s is for a worker that runs jobs; with --queue it runs none: leave it out",
                                  of_jobs[i]);
            return false;
        }
    return true;
}

/* The same of what an embedded log has not: other workers, their sessions, queues. */
static bool flags_fit_file(const struct arguments *arguments)
{
    static const char *const of_kafka[] = { "session-timeout", "standby", "leave", "queue-rate", "queue-limit" };
    if (!worker_on_file(arguments))
        return true;
    for (size_t i = 0; i < sizeof of_kafka / sizeof *of_kafka; i++)
        if (arguments_get(arguments, of_kafka[i])) {
            (void)arguments_wrong(arguments, "--%s is for a worker on Kafka; on an embedded log it means nothing: leave it out",
                                  of_kafka[i]);
            return false;
        }
    return true;
}

/* Cut short it could be another worker's. */
static bool name_flag(const struct arguments *arguments, pdr_worker_options *options)
{
    const char *name = options->name = arguments_get(arguments, "name");
    if (!name || name_valid(name, strlen(name), WORKER_NAME_LIMIT_BYTES))
        return true;
    (void)arguments_wrong(arguments, "--name: the name of a worker has 1 to %d bytes of UTF-8 without control characters",
                          WORKER_NAME_LIMIT_BYTES);
    return false;
}

/* False: said what is wrong. The bounds of a session timeout are those of any broker. */
static bool worker_options(const struct arguments *arguments, pdr_worker_options *options)
{
    int64_t threads, standby;
    if (!flags_fit_queue(arguments) || !flags_fit_file(arguments) || !name_flag(arguments, options) ||
        !arguments_duration_within(arguments, "session-timeout", "1s", "1h", 0, &options->session_timeout_ms) ||
        !arguments_duration_within(arguments, "drain-timeout", "0s", "30d", 0, &options->drain_timeout_ms) ||
        !arguments_number(arguments, "standby", 0, 4096, 0, &standby) ||
        !arguments_number(arguments, "threads", 1, 1024, 0, &threads) || !retention_flags(arguments, options) ||
        !memory_flag(arguments, options))
        return false;
    options->log = arguments->log;
    options->data = arguments_get(arguments, "data");
    options->queue = arguments_get(arguments, "queue");
    options->step_threads = (int)threads;
    options->standby = (int)standby;
    if (options->drain_timeout_ms == 0 && arguments_get(arguments, "drain-timeout"))
        options->drain_timeout_ms = -1;
    options->leave = arguments_get(arguments, "leave") != NULL;
    options->accept_lost_commands = arguments_get(arguments, "accept-lost-commands") != NULL;
    options->step_rates = arguments_get(arguments, "step-rate");
    options->step_limits = arguments_get(arguments, "step-limit");
    options->job_rates = arguments_get(arguments, "job-rate");
    options->queue_rates = arguments_get(arguments, "queue-rate");
    options->queue_limits = arguments_get(arguments, "queue-limit");
    return true;
}

static int worker_start(struct arguments *arguments, FILE *file)
{
    struct worker_output output = {.lock = PTHREAD_MUTEX_INITIALIZER, .file = file, .json = arguments->json};
    pdr_worker_options options = {.size = sizeof options};
    pdr_worker *worker = NULL;
    if (arguments->repeat_count == 0)
        return arguments_wrong(arguments, "--module is missing: which jobs should it run?");
    if (!worker_options(arguments, &options))
        return EXIT_USAGE;
    output.least = arguments_get(arguments, "quiet") ? PDR_WARNING : PDR_INFO;
    options.notice = worker_notice;
    options.notice_context = &output;
    options.takeover = worker_takeover;
    if (options.data && worker_on_file(arguments))
        worker_notice(&output, PDR_INFO, "--data means nothing on an embedded log: all that its worker keeps is in the file");
    int code = pdr_worker_open(&options, &worker);
    if (code != PDR_OK)
        code = session_fail(arguments, worker_exit(code), "%s", worker ? pdr_worker_error(worker) : "out of memory");
    else
        code = worker_serve(arguments, worker);
    pdr_worker_close(worker);
    return code;
}

/* 0: never. A job that runs for some moments without an await, on a machine that is busy, is no job that hangs. */
static bool watchdog_flag(const struct arguments *arguments, int64_t *ms)
{
    return (arguments_duration(arguments, "watchdog", WATCHDOG_MS, ms) && *ms == 0) ||
           arguments_duration_within(arguments, "watchdog", "500ms", "30d", WATCHDOG_MS, ms);
}

/* What is wrong is said before there is a supervisor. Returns only to run in this process, or with what is wrong. */
static int worker_supervise(struct arguments *arguments)
{
    char why[1000];
    int64_t watchdog_ms, number;
    pdr_worker_options options;
    if (!watchdog_flag(arguments, &watchdog_ms) || !arguments_number(arguments, "crash-limit", 1, 1000, 0, &number) ||
        !worker_options(arguments, &options))
        return EXIT_USAGE;
    if (arguments->repeat_count == 0)
        return worker_start(arguments, stderr); /* it says what is missing */
    supervisor_execute(arguments->argc, arguments->argv, watchdog_ms, arguments->json,
                       arguments_get(arguments, "quiet") != NULL, why, sizeof why);
    return session_fail(arguments, EXIT_USAGE, "%s", why);
}

static int worker_run_in(struct arguments *arguments, bool supervised, FILE *file)
{
    int64_t limit;
    if (!supervised && !arguments_get(arguments, "no-supervisor"))
        return worker_supervise(arguments);
    if (!arguments_number(arguments, "crash-limit", 1, 1000, 0, &limit))
        return EXIT_USAGE;
    crash_limit_set((uint32_t)limit);
    int code = worker_start(arguments, file);
    crash_handler_leave();
    return code;
}

static int worker_run(struct arguments *arguments)
{
    return worker_run_in(arguments, crash_handler_begin(), stderr);
}

static const struct flag dev_flags[] = {
    FLAGS_OF_BOTH,
    FLAGS_OF_SUPERVISION,
    {NULL, NULL, NULL, false},
};

const struct verb verb_worker = {
    .name = "worker",
    .synopsis = "--module FILE.so [--module FILE.so ...] [options]",
    .summary = "run jobs",
    .help = "Runs the jobs and steps of the modules until it is told to stop: SIGTERM or SIGINT once, and it lets what\n"
            "it has begun be confirmed; a second time, and it ends at once, which is safe too. On Kafka it stays a member\n"
            "and gets its partitions back when it is started again before its session timeout; told to leave (--leave,\n"
            "or SIGUSR1) it releases them, so that others go on at once. What happens is printed to standard error, with\n"
            "--json as one object a line: {\"time\",\"level\",\"text\"}. Exit codes of its own: 6 another worker has its\n"
            "name, do not start it again; 7 a partition could not be worked on.\n\n"
            "The process that runs them is a child of a small supervisor: when a job or step crashes it, when it is\n"
            "killed, or when a job does not await for --watchdog, the supervisor starts it again, under the same name, at\n"
            "once; a job that has crashed it --crash-limit times in a row is quarantined until `perdure resume`.\n\n"
            "With --queue it is a step worker: it runs no jobs, only those steps of its modules that wait in the queue.",
    .flags = worker_flags,
    .run = worker_run,
};

/* ---- dev ---------------------------------------------------------------------------------------- */

static int dev_run(struct arguments *arguments)
{
    if (strncmp(arguments->log, "sqlite:", 7) != 0)
        return arguments_wrong(arguments, "works on an embedded log, sqlite:PATH, not on %s; there, use `perdure worker`",
                               arguments->log);
    bool supervised = crash_handler_begin();
    if (!supervised && !arguments->json)
        printf("log %s; start a job from another terminal: perdure start TYPE --id ID --input JSON --log %s\n"
               "Ctrl-C ends it; what was begun goes on with the next start.\n",
               arguments->log, arguments->log);
    fflush(stdout);
    return worker_run_in(arguments, supervised, stdout);
}

const struct verb verb_dev = {
    .name = "dev",
    .synopsis = "--module FILE.so [--module FILE.so ...] [options]",
    .summary = "try jobs out: an embedded log and its worker",
    .help = "Creates the embedded log if it is not there, runs a worker on it and prints to standard output what happens.\n"
            "Start, signal and watch jobs from another terminal. A job that crashes it again and again is quarantined, as by\n"
            "`perdure worker`; --no-supervisor runs it in this process, for a debugger.",
    .flags = dev_flags,
    .run = dev_run,
};
