/*
 * Jobs and steps that misbehave: a step that hangs, one that ends its process, a job that never awaits, one that uses up
 * its stack.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <perdure/perdure.h>

PDR_STEP(hang, pdr_text, pdr_text, .max_attempts = 2, .timeout_ms = 300, .backoff_ms = 50)
PDR_STEP(crash, pdr_text, pdr_text)
PDR_STEP(echo, pdr_text, pdr_text)
PDR_JOB(hanging, pdr_text, pdr_text)
PDR_JOB(crashing, pdr_text, pdr_text)
PDR_JOB(spinning, pdr_text, pdr_text)
PDR_JOB(overflowing, pdr_text, pdr_text)
PDR_JOB(good, pdr_text, pdr_text)

static bool exists(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0;
}

/* Until the file of its input is there, or for ever. */
int hang(pdr_attempt *attempt, const pdr_text *file, pdr_text *out)
{
    (void)attempt;
    while (!exists(file->chars))
        usleep(20000);
    out->chars = "at last";
    return PDR_OK;
}

int hanging(pdr_job *job, const pdr_text *file, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, hang, file, &got));
    out->chars = got->chars;
    return PDR_OK;
}

/* Ends the process, by a signal that nobody handles, unless the file of its input is there. */
int crash(pdr_attempt *attempt, const pdr_text *file, pdr_text *out)
{
    if (!exists(file->chars))
        raise(SIGSEGV);
    out->chars = pdr_attempt_format(attempt, "survived");
    return PDR_OK;
}

int crashing(pdr_job *job, const pdr_text *file, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, echo, file, NULL));
    PDR_TRY(pdr_await(job, crash, file, &got));
    out->chars = got->chars;
    return PDR_OK;
}

/* Computes without an await until the file of its input is there: what a job must not do. */
int spinning(pdr_job *job, const pdr_text *file, pdr_text *out)
{
    PDR_TRY(pdr_await(job, echo, file, NULL));
    while (!exists(file->chars))
        usleep(1000);
    out->chars = "stopped";
    return PDR_OK;
}

static int deeper(const char *file, int depth)
{
    volatile char frame[4096];
    memset((char *)frame, depth & 0xff, sizeof frame);
    return exists(file) ? frame[depth % 4096] : deeper(file, depth + 1) + frame[0];
}

/* Uses up its stack, unless the file of its input is there. */
int overflowing(pdr_job *job, const pdr_text *file, pdr_text *out)
{
    PDR_TRY(pdr_await(job, echo, file, NULL));
    out->chars = deeper(file->chars, 1) == 1 ? "shallow" : "deep";
    return PDR_OK;
}

int echo(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "%s", in->chars);
    return PDR_OK;
}

int good(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, echo, in, &got));
    out->chars = got->chars;
    return PDR_OK;
}

PDR_MODULE(trouble, PDR_RUNS(hanging), PDR_RUNS(crashing), PDR_RUNS(spinning), PDR_RUNS(overflowing), PDR_RUNS(good),
           PDR_RUNS(hang), PDR_RUNS(crash), PDR_RUNS(echo));
