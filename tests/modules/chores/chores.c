/*
 * Jobs for the end-to-end tests: steps that leave a line in a ledger outside the log, a job that collects signals,
 * payloads of any size.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <perdure/perdure.h>

PDR_STEP(effect, pdr_text, pdr_text, .backoff_ms = 100)
PDR_STEP(inflate, pdr_text, pdr_text, .max_attempts = 3, .backoff_ms = 10)
PDR_SIGNAL(item, pdr_text)
PDR_JOB(chain, pdr_text, pdr_text)
PDR_JOB(collect, pdr_text, pdr_text)
PDR_JOB(grow, pdr_text, pdr_text)
PDR_JOB(doze, pdr_text, pdr_none)
PDR_JOB(haul, pdr_text, pdr_text)

/* A step after another, as many as the input says. */
int chain(pdr_job *job, const pdr_text *count, pdr_text *out)
{
    long steps = strtol(count->chars, NULL, 10);
    for (long i = 0; i < steps; i++) {
        pdr_text text = {pdr_format(job, "%ld", i)};
        PDR_TRY(pdr_await(job, effect, &text, NULL));
    }
    out->chars = pdr_format(job, "%ld steps", steps);
    return PDR_OK;
}

/* As many signals as the input says, in the order of their arrival; each passes through a step. */
int collect(pdr_job *job, const pdr_text *count, pdr_text *out)
{
    long items = strtol(count->chars, NULL, 10);
    const char *all = "";
    for (long i = 0; i < items; i++) {
        pdr_text *got;
        PDR_TRY(pdr_receive(job, item, &got));
        PDR_TRY(pdr_await(job, effect, got, NULL));
        all = pdr_format(job, "%s%s%s", all, i > 0 ? " " : "", got->chars);
    }
    out->chars = all;
    return PDR_OK;
}

/* The result of a step, and then that of the job, has as many bytes as the input says. */
int grow(pdr_job *job, const pdr_text *bytes, pdr_text *out)
{
    pdr_text *big;
    PDR_TRY(pdr_await(job, inflate, bytes, &big));
    out->chars = big->chars;
    return PDR_OK;
}

/* "STEPS BYTES": so many steps whose results are so long. "STEPS BYTES open": then it waits for an item. */
int haul(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    char *rest;
    long steps = strtol(in->chars, &rest, 10);
    pdr_text bytes = {pdr_format(job, "%ld", strtol(rest, &rest, 10))};
    for (long i = 0; i < steps; i++)
        PDR_TRY(pdr_await(job, inflate, &bytes, NULL));
    if (strcmp(rest, " open") == 0)
        PDR_TRY(pdr_receive(job, item, NULL));
    out->chars = pdr_format(job, "%ld steps", steps);
    return PDR_OK;
}

int doze(pdr_job *job, const pdr_text *ms, pdr_none *out)
{
    (void)out;
    return pdr_sleep(job, strtol(ms->chars, NULL, 10));
}

/* "KEY JOB PID MILLISECONDS INPUT", in one write, so that lines of many processes never mix. */
static int note(pdr_attempt *attempt, const char *input)
{
    const char *file = getenv("PERDURE_EFFECT_LEDGER");
    if (file == NULL || *file == '\0')
        return 0;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char *line = pdr_attempt_format(attempt, "%s %s %d %lld %s\n", pdr_attempt_key(attempt), pdr_attempt_job_id(attempt),
                                    (int)getpid(), (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000, input);
    int descriptor = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    ssize_t wrote = descriptor >= 0 && line != NULL ? write(descriptor, line, strlen(line)) : -1;
    if (descriptor >= 0)
        close(descriptor);
    return wrote < 0 ? -1 : 0;
}

/* Its result is the process that did it. */
int effect(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    if (note(attempt, in->chars) != 0)
        return pdr_attempt_fail(attempt, "Ledger", "the ledger cannot be written");
    const char *delay = getenv("PERDURE_STEP_DELAY_MS");
    long ms = delay != NULL ? strtol(delay, NULL, 10) : 0;
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
    out->chars = pdr_attempt_format(attempt, "%d", (int)getpid());
    return out->chars != NULL ? PDR_OK : PDR_NO_MEMORY;
}

int inflate(pdr_attempt *attempt, const pdr_text *bytes, pdr_text *out)
{
    size_t size = strtoul(bytes->chars, NULL, 10);
    char *text = pdr_attempt_alloc(attempt, size + 1);
    if (text == NULL)
        return PDR_NO_MEMORY;
    memset(text, 'x', size);
    out->chars = text;
    return PDR_OK;
}

PDR_MODULE(chores, PDR_RUNS(chain), PDR_RUNS(collect), PDR_RUNS(grow), PDR_RUNS(doze), PDR_RUNS(haul),
           PDR_RUNS(effect), PDR_RUNS(inflate));
