/*
 * Jobs that sleep by the thousand, and one that is to be served meanwhile. Their step leaves a line in a ledger, if there
 * is one.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <perdure/perdure.h>

PDR_STEP(blink, pdr_text, pdr_text)
PDR_JOB(nap, pdr_text, pdr_text)
PDR_JOB(until, pdr_text, pdr_text)
PDR_JOB(wink, pdr_text, pdr_text)

int blink(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    const char *ledger = getenv("PERDURE_EFFECT_LEDGER");
    int file = ledger ? open(ledger, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (file >= 0) {
        const char *line = pdr_attempt_format(attempt, "%s %s\n", pdr_attempt_job_id(attempt), in->chars);
        ssize_t written = write(file, line, strlen(line));
        close(file);
        if (written < 0)
            return pdr_attempt_fail(attempt, "Ledger", "cannot write");
    }
    out->chars = in->chars;
    return PDR_OK;
}

static int sleep_and_blink(pdr_job *job, int64_t ms, const pdr_text *in, pdr_text *out)
{
    pdr_text *done;
    PDR_TRY(pdr_sleep(job, ms > 0 ? ms : 0));
    PDR_TRY(pdr_await(job, blink, in, &done));
    out->chars = done->chars;
    return PDR_OK;
}

/* Sleeps as many milliseconds as its input says. */
int nap(pdr_job *job, const pdr_text *ms, pdr_text *out)
{
    return sleep_and_blink(job, strtoll(ms->chars, NULL, 10), ms, out);
}

/* Until a time, in milliseconds since 1970. */
int until(pdr_job *job, const pdr_text *time, pdr_text *out)
{
    return sleep_and_blink(job, strtoll(time->chars, NULL, 10) - pdr_now(job), time, out);
}

int wink(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *done;
    PDR_TRY(pdr_await(job, blink, in, &done));
    out->chars = done->chars;
    return PDR_OK;
}

PDR_MODULE(sleepers, PDR_RUNS(blink), PDR_RUNS(nap), PDR_RUNS(until), PDR_RUNS(wink));
