/*
 * perdure-supervisor: starts a worker and starts it again when it crashes. `perdure worker` executes it.
 *
 *   perdure-supervisor [--watchdog-ms N] [--json] [--quiet] -- PROGRAM ARGUMENT...
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "supervisor.h"

#define STARTING_MS 120000 /* one that starts again has so much time before it must serve; brokers that are away end it sooner */

int64_t supervisor_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- what it says ------------------------------------------------------------------------------------- */

static void say_json(int64_t ms, const char *level, const char *text)
{
    char line[8192];
    size_t used = (size_t)snprintf(line, sizeof line, "{\"time\":%" PRId64 ",\"level\":\"%s\",\"text\":\"supervisor: ", ms,
                                   level);
    for (const char *at = text; *at && used + 16 < sizeof line; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte == '"' || byte == '\\' || byte < 0x20)
            used += (size_t)snprintf(line + used, sizeof line - used, "\\u%04x", byte);
        else
            line[used++] = *at;
    }
    fprintf(stderr, "%.*s\"}\n", (int)used, line);
}

void say(const struct supervisor *supervisor, int level, const char *format, ...)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    char text[8000], clock[16];
    struct timespec now;
    struct tm parts;
    va_list arguments;
    if (supervisor->quiet && level < SAY_WARNING)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    clock_gettime(CLOCK_REALTIME, &now);
    if (supervisor->json) {
        say_json((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, names[level], text);
        return;
    }
    localtime_r(&now.tv_sec, &parts);
    strftime(clock, sizeof clock, "%H:%M:%S", &parts);
    fprintf(stderr, "%s.%03ld %s%ssupervisor: %s\n", clock, now.tv_nsec / 1000000, level >= SAY_WARNING ? names[level] : "",
            level >= SAY_WARNING ? ": " : "", text);
}

/* ---- the command line ---------------------------------------------------------------------------------- */

static int usage(void)
{
    fputs("usage: perdure-supervisor [--watchdog-ms N] [--json] [--quiet] -- PROGRAM ARGUMENT...\n"
          "`perdure worker` runs this program; it is of no use by itself.\n",
          stderr);
    return 2;
}

static bool parse(struct supervisor *supervisor, int argc, char **argv)
{
    int at = 1;
    for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
        char *end = NULL;
        if (strcmp(argv[at], "--json") == 0)
            supervisor->json = true;
        else if (strcmp(argv[at], "--quiet") == 0)
            supervisor->quiet = true;
        else if (strcmp(argv[at], "--watchdog-ms") == 0 && at + 1 < argc)
            supervisor->watchdog_ms = strtoll(argv[++at], &end, 10);
        else
            return false;
        if (end != NULL && (*end != '\0' || supervisor->watchdog_ms < 0))
            return false;
    }
    supervisor->command = argv + at + 1;
    return at + 1 < argc;
}

/* ---- the memory shared with the worker -------------------------------------------------------------------- */

static bool share_memory(struct supervisor *supervisor)
{
    char number[16];
    supervisor->record_file = memfd_create("perdure-crash-record", MFD_CLOEXEC);
    if (supervisor->record_file < 0 || ftruncate(supervisor->record_file, sizeof *supervisor->record) != 0)
        return false;
    void *memory = mmap(NULL, sizeof *supervisor->record, PROT_READ | PROT_WRITE, MAP_SHARED, supervisor->record_file, 0);
    supervisor->watched = calloc(CRASH_THREADS, sizeof *supervisor->watched);
    if (memory == MAP_FAILED || supervisor->watched == NULL)
        return false;
    supervisor->record = memory;
    supervisor->record->magic = CRASH_RECORD_MAGIC;
    supervisor->record->size = sizeof *supervisor->record;
    supervisor->record->supervisor = getpid();
    if (getrandom(&supervisor->record->place, sizeof supervisor->record->place, 0) != sizeof supervisor->record->place)
        supervisor->record->place = 0;
    snprintf(number, sizeof number, "%d", supervisor->record_file);
    return setenv(CRASH_RECORD_ENVIRONMENT, number, 1) == 0;
}

/* ---- signals ------------------------------------------------------------------------------------------------- */

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1); /* leave for good */
    sigaddset(&set, SIGTSTP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* ignored by who started us, nothing would be told of a child's end */
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Exit code, or -1: go on. */
static int on_stop(struct supervisor *supervisor, int number)
{
    if (!supervisor->stopping)
        notify("STOPPING=1");
    supervisor->stopping = true;
    supervisor->stop_signal = number;
    if (supervisor->child <= 0)
        return 0; /* it waited to start it again */
    kill(supervisor->child, number);
    return -1;
}

static int on_child(struct supervisor *supervisor)
{
    int status, code = -1;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        if (pid == supervisor->child)
            code = child_ended(supervisor, status);
    return code;
}

static int on_signals(struct supervisor *supervisor, int file)
{
    struct signalfd_siginfo info;
    int code = -1;
    while (code < 0 && read(file, &info, sizeof info) == sizeof info) {
        switch (info.ssi_signo) {
        case SIGCHLD:
            code = on_child(supervisor);
            break;
        case SIGTSTP: /* Ctrl-Z: the worker is in a process group of its own */
            if (supervisor->child > 0)
                kill(supervisor->child, SIGSTOP);
            raise(SIGSTOP);
            if (supervisor->child > 0)
                kill(supervisor->child, SIGCONT);
            break;
        default:
            code = on_stop(supervisor, (int)info.ssi_signo);
        }
    }
    return code;
}

/* ---- the service manager -------------------------------------------------------------------------------------- */

static void tell_manager(struct supervisor *supervisor)
{
    int64_t now = supervisor_now_ms();
    uint64_t heartbeat = atomic_load(&supervisor->record->heartbeat);
    supervisor->served = supervisor->served || atomic_load(&supervisor->record->child) == CRASH_CHILD_SERVES;
    supervisor->ever_served = supervisor->ever_served || supervisor->served;
    if (supervisor->served && !supervisor->ready_told) {
        supervisor->ready_told = true;
        notify("READY=1");
    }
    bool starts = supervisor->restart_ms > 0 || (!supervisor->served && now - supervisor->begun_ms < STARTING_MS);
    if (heartbeat != supervisor->heartbeat || starts) {
        supervisor->heartbeat = heartbeat;
        supervisor->heartbeat_ms = now;
    }
    if (supervisor->ready_told && supervisor->heartbeat_ms == now && now - supervisor->health_ms >= 1000) {
        supervisor->health_ms = now;
        health_touch();
    }
    bool lives = now - supervisor->heartbeat_ms < 2 * supervisor->notify_every_ms + 2000;
    if (supervisor->notify_every_ms > 0 && supervisor->ready_told && lives &&
        now - supervisor->notified_ms >= supervisor->notify_every_ms) {
        supervisor->notified_ms = now;
        notify("WATCHDOG=1");
    }
}

/* ---- the loop ------------------------------------------------------------------------------------------------------ */

static int wait_ms(const struct supervisor *supervisor)
{
    int64_t now = supervisor_now_ms();
    int timeout = watch_timeout(supervisor);
    if (supervisor->restart_ms > 0)
        timeout = supervisor->restart_ms > now ? (int)(supervisor->restart_ms - now) : 0;
    if (!supervisor->ready_told && timeout > 50)
        timeout = 50;
    if (supervisor->notify_every_ms > 0 && supervisor->notify_every_ms < timeout)
        timeout = (int)supervisor->notify_every_ms;
    return timeout;
}

static int supervise(struct supervisor *supervisor, int signals)
{
    child_start(supervisor);
    for (int code = -1;;) {
        struct pollfd wait = {.fd = signals, .events = POLLIN};
        poll(&wait, 1, wait_ms(supervisor));
        if (wait.revents != 0)
            code = on_signals(supervisor, signals);
        if (code >= 0)
            return code;
        if (supervisor->restart_ms > 0 && supervisor_now_ms() >= supervisor->restart_ms)
            child_start(supervisor);
        watch_look(supervisor);
        memory_look(supervisor);
        tell_manager(supervisor);
    }
}

int main(int argc, char **argv)
{
    struct supervisor supervisor = {0};
    if (!parse(&supervisor, argc, argv))
        return usage();
    int signals = open_signals();
    if (signals < 0 || !share_memory(&supervisor)) {
        fprintf(stderr, "perdure-supervisor: cannot share memory with the worker: %s; `perdure worker --no-supervisor` "
                        "does without\n", strerror(errno));
        return 2;
    }
    supervisor.notify_every_ms = notify_interval_ms();
    int code = supervise(&supervisor, signals);
    free(supervisor.watched);
    return code;
}
