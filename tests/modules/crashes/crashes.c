/*
 * Jobs and steps that crash their process, each in its way, for as long as the file of their input is not there.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <perdure/perdure.h>

PDR_STEP(echo, pdr_text, pdr_text)
PDR_STEP(step_segfault, pdr_text, pdr_text, .backoff_ms = 20)
PDR_STEP(step_twice, pdr_text, pdr_text, .max_attempts = 2, .backoff_ms = 20)
PDR_STEP(step_exit, pdr_text, pdr_text, .backoff_ms = 20)
PDR_STEP(step_overflow, pdr_text, pdr_text, .backoff_ms = 20)
PDR_STEP(step_forks, pdr_text, pdr_text)
PDR_STEP(step_hang, pdr_text, pdr_text, .max_attempts = 3, .timeout_ms = 300, .backoff_ms = 20)
PDR_SIGNAL(poison, pdr_text)
PDR_JOB(segfault, pdr_text, pdr_text)
PDR_JOB(at_start, pdr_text, pdr_text)
PDR_JOB(aborts, pdr_text, pdr_text)
PDR_JOB(divides, pdr_text, pdr_text)
PDR_JOB(recurses, pdr_text, pdr_text)
PDR_JOB(loops, pdr_text, pdr_text)
PDR_JOB(exits, pdr_text, pdr_text)
PDR_JOB(quits, pdr_text, pdr_text)
PDR_JOB(traps, pdr_text, pdr_text)
PDR_JOB(forks, pdr_text, pdr_text)
PDR_JOB(on_signal, pdr_text, pdr_text)
PDR_JOB(in_step, pdr_text, pdr_text)
PDR_JOB(in_step_twice, pdr_text, pdr_text)
PDR_JOB(in_step_exit, pdr_text, pdr_text)
PDR_JOB(in_step_overflow, pdr_text, pdr_text)
PDR_JOB(hangs, pdr_text, pdr_text)
PDR_JOB(good, pdr_text, pdr_text)

static bool repaired(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0;
}

/* ---- ways to crash ------------------------------------------------------------------------------------ */

#define AS_IT_IS __attribute__((noinline, no_sanitize("undefined", "address"))) /* no sanitizer ends it in its own way */

AS_IT_IS static int null_pointer(const char *path)
{
    volatile int *volatile nowhere = NULL;
    return repaired(path) ? 0 : *nowhere;
}

/* Where the processor has such an instruction its signal comes behind it: who returns from that goes on. */
AS_IT_IS static void trap(const char *path)
{
    if (repaired(path))
        return;
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("int3");
#else
    raise(SIGTRAP);
#endif
}

AS_IT_IS static int no_number(const char *path)
{
    volatile int zero = repaired(path) ? 1 : 0, one = 1, result = one / zero;
    return result;
}

AS_IT_IS static int deeper(const char *path, int depth)
{
    volatile char frame[512];
    memset((char *)frame, depth & 0xff, sizeof frame);
    return repaired(path) ? frame[depth % 512] : deeper(path, depth + 1) + frame[0];
}

/* ---- jobs ------------------------------------------------------------------------------------------------ */

static int done(pdr_job *job, const char *path, pdr_text *out)
{
    out->chars = pdr_format(job, "survived %s", path);
    return PDR_OK;
}

#define CRASHING_JOB(name, crash)                                     \
    int name(pdr_job *job, const pdr_text *path, pdr_text *out)       \
    {                                                                 \
        PDR_TRY(pdr_await(job, echo, path, NULL));                    \
        crash;                                                        \
        return done(job, path->chars, out);                           \
    }

CRASHING_JOB(segfault, null_pointer(path->chars))
CRASHING_JOB(aborts, if (!repaired(path->chars)) abort())
CRASHING_JOB(divides, no_number(path->chars))
CRASHING_JOB(recurses, deeper(path->chars, 0))
CRASHING_JOB(exits, if (!repaired(path->chars)) exit(3))
CRASHING_JOB(quits, if (!repaired(path->chars)) _exit(4))
CRASHING_JOB(traps, trap(path->chars))
CRASHING_JOB(good, )

/* Before anything of it is logged. */
int at_start(pdr_job *job, const pdr_text *path, pdr_text *out)
{
    null_pointer(path->chars);
    return done(job, path->chars, out);
}

int loops(pdr_job *job, const pdr_text *path, pdr_text *out)
{
    PDR_TRY(pdr_await(job, echo, path, NULL));
    for (volatile unsigned long turns = 0; !repaired(path->chars); turns++)
        ;
    return done(job, path->chars, out);
}

/* While it handles a signal, so before that is logged. */
int on_signal(pdr_job *job, const pdr_text *path, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_receive(job, poison, &got));
    null_pointer(path->chars);
    out->chars = got->chars;
    return PDR_OK;
}

#define JOB_OF_STEP(name, step)                                       \
    int name(pdr_job *job, const pdr_text *path, pdr_text *out)       \
    {                                                                 \
        pdr_text *got;                                                \
        PDR_TRY(pdr_await(job, step, path, &got));                    \
        out->chars = got->chars;                                      \
        return PDR_OK;                                                \
    }

JOB_OF_STEP(in_step, step_segfault)
JOB_OF_STEP(in_step_twice, step_twice)
JOB_OF_STEP(in_step_exit, step_exit)
JOB_OF_STEP(in_step_overflow, step_overflow)
JOB_OF_STEP(forks, step_forks)
JOB_OF_STEP(hangs, step_hang)

/* ---- steps ------------------------------------------------------------------------------------------------- */

static int ended(pdr_attempt *attempt, const char *path, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "survived %s, attempt %d", path, pdr_attempt_number(attempt));
    return out->chars != NULL ? PDR_OK : PDR_NO_MEMORY;
}

int echo(pdr_attempt *attempt, const pdr_text *path, pdr_text *out) { return ended(attempt, path->chars, out); }

int step_segfault(pdr_attempt *attempt, const pdr_text *path, pdr_text *out)
{
    null_pointer(path->chars);
    return ended(attempt, path->chars, out);
}

int step_twice(pdr_attempt *attempt, const pdr_text *path, pdr_text *out)
{
    return step_segfault(attempt, path, out);
}

int step_exit(pdr_attempt *attempt, const pdr_text *path, pdr_text *out)
{
    if (!repaired(path->chars))
        exit(0);
    return ended(attempt, path->chars, out);
}

int step_overflow(pdr_attempt *attempt, const pdr_text *path, pdr_text *out)
{
    deeper(path->chars, 0);
    return ended(attempt, path->chars, out);
}

/* Leaves a process behind that is no program of its own. */
int step_forks(pdr_attempt *attempt, const pdr_text *path, pdr_text *out)
{
    if (fork() == 0) {
        for (int i = 0; i < 6000 && !repaired(path->chars); i++) /* a test that failed releases nobody */
            usleep(10000);
        _exit(0);
    }
    return ended(attempt, path->chars, out);
}

int step_hang(pdr_attempt *attempt, const pdr_text *path, pdr_text *out)
{
    while (!repaired(path->chars))
        usleep(10000);
    return ended(attempt, path->chars, out);
}

PDR_MODULE(crashes, PDR_RUNS(segfault), PDR_RUNS(at_start), PDR_RUNS(aborts), PDR_RUNS(divides), PDR_RUNS(recurses),
           PDR_RUNS(loops), PDR_RUNS(exits), PDR_RUNS(on_signal), PDR_RUNS(in_step), PDR_RUNS(in_step_twice),
           PDR_RUNS(in_step_exit), PDR_RUNS(in_step_overflow), PDR_RUNS(quits), PDR_RUNS(traps), PDR_RUNS(forks), PDR_RUNS(hangs), PDR_RUNS(good), PDR_RUNS(echo),
           PDR_RUNS(step_segfault), PDR_RUNS(step_twice), PDR_RUNS(step_exit), PDR_RUNS(step_overflow),
           PDR_RUNS(step_forks), PDR_RUNS(step_hang));
