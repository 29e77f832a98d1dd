/*
 * The steps of tests/e2e/python_steps.py in C, for `perdure worker --queue`, and a job that awaits them.
 */
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <perdure/perdure.h>

PDR_STEP(upper, pdr_text, pdr_text, .queue = "courier", .heartbeat_ms = 3000, .backoff_ms = 50)
PDR_STEP(slow, pdr_text, pdr_text, .queue = "courier")
PDR_STEP(patient, pdr_text, pdr_text, .queue = "courier", .timeout_ms = 600000, .backoff_ms = 50)
PDR_STEP(fail, pdr_text, pdr_text, .queue = "courier")
PDR_STEP(poison, pdr_text, pdr_text, .queue = "courier", .max_attempts = 3, .backoff_ms = 50)
PDR_STEP(reverse, pdr_bytes, pdr_bytes)
PDR_STEP(echo_json, pdr_json, pdr_json)
PDR_JOB(relay, pdr_text, pdr_text)
PDR_JOB(drinks, pdr_text, pdr_text)
PDR_JOB(drinks_on, pdr_text, pdr_text)

static void note(pdr_attempt *attempt, const char *what)
{
    const char *path = getenv("PERDURE_EFFECT_LEDGER");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (file < 0)
        return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    dprintf(file, "%s %s %s %d %lld.%03ld\n", what, pdr_attempt_key(attempt), pdr_attempt_job_id(attempt), (int)getpid(),
            (long long)now.tv_sec, now.tv_nsec / 1000000);
    close(file);
}

int upper(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    note(attempt, "begin");
    char *text = pdr_attempt_format(attempt, "%s", in->chars);
    for (char *c = text; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    out->chars = text;
    note(attempt, "end");
    return PDR_OK;
}

int slow(pdr_attempt *attempt, const pdr_text *seconds, pdr_text *out)
{
    note(attempt, "begin");
    usleep((useconds_t)(strtod(seconds->chars, NULL) * 1e6));
    note(attempt, "end");
    out->chars = "slept";
    return PDR_OK;
}

/* Counts, from where an earlier attempt was, until nobody waits or the file of its input is there; "far": it fails at once. */
int patient(pdr_attempt *attempt, const pdr_text *path, pdr_text *out)
{
    const char *before = pdr_attempt_progress(attempt);
    long i = before ? strtol(before, NULL, 10) : 0;
    note(attempt, "begin");
    for (; !pdr_attempt_cancelled(attempt) && access(path->chars, F_OK) != 0; i++) {
        pdr_attempt_heartbeat(attempt, "%ld done", i);
        if (strcmp(path->chars, "far") == 0)
            return pdr_attempt_fail(attempt, "Far", "too far");
        usleep(20000);
    }
    note(attempt, pdr_attempt_cancelled(attempt) ? "cancelled" : "end");
    out->chars = pdr_attempt_format(attempt, "%s after %ld, from %s", pdr_attempt_cancelled(attempt) ? "cancelled" : "ended", i,
                                    before ? before : "nothing");
    return PDR_OK;
}

int fail(pdr_attempt *attempt, const pdr_text *how, pdr_text *out)
{
    if (strcmp(how->chars, "final") == 0)
        return pdr_attempt_give_up(attempt, "NoUse", "never again");
    if (strcmp(how->chars, "later") == 0)
        return PDR_LATER;
    if (strcmp(how->chars, "once") == 0 && pdr_attempt_number(attempt) > 1) {
        out->chars = pdr_attempt_format(attempt, "attempt %d", pdr_attempt_number(attempt));
        return PDR_OK;
    }
    return pdr_attempt_fail(attempt, "RuntimeError", "try again");
}

/* Ends its process, after so many seconds; "SECONDS FILE": not if that file is there. */
int poison(pdr_attempt *attempt, const pdr_text *dose, pdr_text *out)
{
    char *antidote;
    note(attempt, "begin");
    usleep((useconds_t)(strtod(dose->chars, &antidote) * 1e6));
    if (*antidote != ' ' || access(antidote + 1, F_OK) != 0)
        raise(SIGSEGV);
    out->chars = "survived";
    return PDR_OK;
}

int drinks(pdr_job *job, const pdr_text *dose, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, poison, dose, &got));
    out->chars = got->chars;
    return PDR_OK;
}

/* As long as it is let. */
int drinks_on(pdr_job *job, const pdr_text *dose, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, poison, dose, &got, .max_attempts = 100));
    out->chars = got->chars;
    return PDR_OK;
}

/* As many, one after the other, as its input says. */
int relay(pdr_job *job, const pdr_text *count, pdr_text *out)
{
    long steps = strtol(count->chars, NULL, 10);
    for (long i = 0; i < steps; i++) {
        pdr_text text = { pdr_format(job, "parcel %ld", i) };
        pdr_text *got;
        PDR_TRY(pdr_await(job, upper, &text, &got));
        if (strcmp(got->chars, pdr_format(job, "PARCEL %ld", i)) != 0)
            return pdr_fail(job, "Mixed", "%s came for %s", got->chars, text.chars);
    }
    out->chars = pdr_format(job, "%ld steps", steps);
    return PDR_OK;
}

int reverse(pdr_attempt *attempt, const pdr_bytes *in, pdr_bytes *out)
{
    char *data = pdr_attempt_alloc(attempt, in->size);
    for (size_t i = 0; i < in->size; i++)
        data[i] = ((const char *)in->data)[in->size - 1 - i];
    out->data = data;
    out->size = in->size;
    return PDR_OK;
}

int echo_json(pdr_attempt *attempt, const pdr_json *in, pdr_json *out)
{
    (void)attempt;
    *out = *in;
    return PDR_OK;
}

PDR_MODULE(courier, PDR_RUNS(relay), PDR_RUNS(drinks), PDR_RUNS(drinks_on), PDR_RUNS(poison),
           PDR_RUNS(upper), PDR_RUNS(slow), PDR_RUNS(patient), PDR_RUNS(fail), PDR_RUNS(reverse), PDR_RUNS(echo_json));
