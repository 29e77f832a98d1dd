/*
 * The worker process: started so that it dies with its supervisor, ended, started again.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "supervisor.h"

#define OOM_SCORE 300           /* when memory ends, the child goes before the supervisor and before most others */
#define RESTART_FIRST_MS 1000   /* after the second crash in a row; the first is answered at once */
#define RESTART_MOST_MS 30000
#define EXIT_LOG_UNREACHABLE 5
#define HEALTHY_MS 2000          /* a worker that ran so long is in no loop */

static void child_raise_oom_score(void)
{
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    char text[16];
    int length = snprintf(text, sizeof text, "%d", OOM_SCORE);
    if (file < 0)
        return;
    ssize_t ignored = write(file, text, (size_t)length);
    (void)ignored;
    close(file);
}

/* In the new process: only what may be called between fork and exec. */
static void child_run(const struct supervisor *supervisor, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* a terminal's Ctrl-C reaches it through its supervisor, once */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    child_raise_oom_score();
    unsetenv("NOTIFY_SOCKET"); /* the supervisor speaks for both */
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    fcntl(supervisor->record_file, F_SETFD, 0);
    execv(supervisor->command[0], supervisor->command);
    static const char text[] = "perdure-supervisor: the worker's program cannot be executed\n";
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    _exit(2);
}

static void record_renew(struct supervisor *supervisor)
{
    struct crash_record *record = supervisor->record;
    atomic_store(&record->child, CRASH_CHILD_STARTS);
    atomic_store(&record->watchdog, 0);
    atomic_store(&record->slots, 0);
    atomic_store(&record->modules, 0);
    memset(&record->now, 0, sizeof record->now);
    record->now.slot = -1;
    memset(record->slot, 0, sizeof record->slot);
}

bool child_start(struct supervisor *supervisor)
{
    pid_t parent = getpid();
    record_renew(supervisor);
    watch_begin(supervisor);
    memory_begin(supervisor);
    supervisor->restart_ms = 0;
    supervisor->served = false;
    supervisor->begun_ms = supervisor_now_ms();
    pid_t pid = fork();
    if (pid == 0)
        child_run(supervisor, parent);
    if (pid < 0) {
        say(supervisor, SAY_ERROR, "the worker cannot be started: %s", strerror(errno));
        supervisor->restart_ms = supervisor_now_ms() + RESTART_FIRST_MS;
        return false;
    }
    supervisor->child = pid;
    return true;
}

static int64_t child_delay(const struct supervisor *supervisor)
{
    int64_t delay = RESTART_FIRST_MS;
    for (unsigned i = 2; i < supervisor->crashes && delay < RESTART_MOST_MS; i++)
        delay *= 2;
    return supervisor->crashes < 2 ? 0 : delay < RESTART_MOST_MS ? delay : RESTART_MOST_MS;
}

static void child_plan_restart(struct supervisor *supervisor)
{
    int64_t now = supervisor_now_ms();
    unsigned logged = reports_done(supervisor);
    /* One crash that was journaled, or told to its owner, and counts is a step towards quarantine: such a row ends by itself. */
    if (logged > 0 || now - supervisor->begun_ms >= HEALTHY_MS)
        supervisor->crashes = 0;
    supervisor->crashes++;
    int64_t delay = child_delay(supervisor);
    if (delay > 0)
        say(supervisor, SAY_WARNING, "%u crashes in a row; the worker is started again in %" PRId64 " s",
            supervisor->crashes, delay / 1000);
    else
        say(supervisor, SAY_WARNING, "the worker is started again");
    supervisor->restart_ms = now + delay;
}

static void child_say_end(const struct supervisor *supervisor, pid_t pid, int status)
{
    const char *name = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : NULL;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !supervisor->verdict)
        say(supervisor, SAY_ERROR, "worker process %d was killed by SIGKILL: %s", (int)pid,
            supervisor->out_of_memory ? "by the kernel, for want of memory" : "`kill -9`");
    else if (WIFSIGNALED(status))
        say(supervisor, SAY_ERROR, "worker process %d was ended by SIG%s%s", (int)pid, name ? name : "?",
            WCOREDUMP(status) ? ", core dumped" : "");
    else
        say(supervisor, SAY_ERROR, "worker process %d ended with exit code %d in the middle of its work", (int)pid,
            WEXITSTATUS(status));
}

int child_ended(struct supervisor *supervisor, int status)
{
    bool leaves = WIFEXITED(status) && atomic_load(&supervisor->record->child) == CRASH_CHILD_LEAVES;
    bool never_ran = WIFEXITED(status) && atomic_load(&supervisor->record->child) == CRASH_CHILD_STARTS &&
                     atomic_load(&supervisor->record->now.state) == CRASH_NONE;
    pid_t pid = supervisor->child;
    supervisor->child = 0;
    /* Wrong usage, wrong settings, another has its membership, told to stop: that is no crash (rule 4). A log that cannot
     * be reached any more is worth another try. */
    bool log_is_away = supervisor->ever_served && !supervisor->stopping && WIFEXITED(status) &&
                       WEXITSTATUS(status) == EXIT_LOG_UNREACHABLE;
    if ((leaves || never_ran) && !log_is_away)
        return WEXITSTATUS(status);
    if (leaves || never_ran) {
        child_plan_restart(supervisor);
        return -1;
    }
    bool asked = supervisor->stopping && WIFSIGNALED(status) && WTERMSIG(status) == supervisor->stop_signal;
    if (asked && atomic_load(&supervisor->record->child) == CRASH_CHILD_STARTS)
        return 0; /* it owned nothing yet, and did not catch the signal */
    if (!asked) {
        supervisor->out_of_memory = memory_was_short(supervisor, status);
        child_say_end(supervisor, pid, status);
        report_crash(supervisor, status);
    }
    if (supervisor->stopping)
        return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    child_plan_restart(supervisor);
    return -1;
}
