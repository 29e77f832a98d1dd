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
PDR_STEP(bulk, pdr_text, pdr_text, .in_place = true)
PDR_JOB(hoard, pdr_text, pdr_text)
PDR_STEP(bulk_together, pdr_text, pdr_text)
PDR_JOB(heaver, pdr_text, pdr_text)
PDR_JOB(gatherer, pdr_text, pdr_text)
PDR_SIGNAL(go, pdr_text)
PDR_SIGNAL(drop, pdr_text)

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

static char *many_of(pdr_attempt *attempt, char letter, size_t size)
{
    char *text = pdr_attempt_alloc(attempt, size + 1);
    memset(text, letter, size);
    return text;
}

#define BULK 100000 /* bytes of a result */

int bulk(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    out->chars = many_of(attempt, in->chars[0], BULK);
    return PDR_OK;
}

/* Holds the large results of as many steps as its input has digits, waits for a signal, and looks at all of them. */
int hoard(pdr_job *job, const pdr_text *digits, pdr_text *out)
{
    size_t count = strlen(digits->chars);
    pdr_text **held = pdr_alloc(job, count * sizeof *held), *word;
    for (size_t i = 0; i < count; i++) {
        pdr_text digit = { digits->chars + i };
        PDR_TRY(pdr_await(job, bulk, &digit, &held[i]));
    }
    PDR_TRY(pdr_receive(job, go, &word));
    char *sum = pdr_alloc(job, count + 1);
    for (size_t i = 0; i < count; i++)
        sum[i] = strlen(held[i]->chars) == BULK ? held[i]->chars[BULK - 1] : '?';
    sum[count] = '\0';
    out->chars = pdr_format(job, "%s%s", sum, word->chars);
    return PDR_OK;
}

#define TOGETHER 900000

/* Near the limit of a payload; all that run return when $PERDURE_TOGETHER is a file. */
int bulk_together(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    const char *gate = getenv("PERDURE_TOGETHER");
    while (gate && access(gate, F_OK) != 0)
        usleep(5000);
    out->chars = many_of(attempt, in->chars[0], TOGETHER);
    return PDR_OK;
}

int heaver(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *held;
    PDR_TRY(pdr_await(job, bulk_together, in, &held));
    out->chars = pdr_format(job, "%zu %c", strlen(held->chars), held->chars[0]);
    return PDR_OK;
}

/* As many signals as its input says: the sum of their numbers. */
int gatherer(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    long count = strtol(in->chars, NULL, 10);
    long long sum = 0;
    for (long i = 0; i < count; i++) {
        pdr_text *number;
        PDR_TRY(pdr_receive(job, drop, &number));
        sum += strtoll(number->chars, NULL, 10);
    }
    out->chars = pdr_format(job, "%lld", sum);
    return PDR_OK;
}

PDR_MODULE(sleepers, PDR_RUNS(blink), PDR_RUNS(nap), PDR_RUNS(until), PDR_RUNS(wink), PDR_RUNS(bulk), PDR_RUNS(hoard),
           PDR_RUNS(bulk_together), PDR_RUNS(heaver), PDR_RUNS(gatherer));
