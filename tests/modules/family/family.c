/*
 * Jobs that start, await and signal each other, for tests with many partitions and many kills: a tree of jobs that
 * computes a number, a ring of signals, timers and retries on the way. The results depend on the inputs only.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <perdure/perdure.h>

PDR_JOB(tree, pdr_text, pdr_text)
PDR_JOB(listener, pdr_text, pdr_text)
PDR_JOB(gathering, pdr_text, pdr_text)
PDR_STEP(work, pdr_text, pdr_text, .max_attempts = 6, .backoff_ms = 50, .backoff_max_ms = 200)
PDR_SIGNAL(token, pdr_text)
PDR_SIGNAL(report, pdr_text)

/* Fails at its first attempt, in two of three cases. */
int work(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    usleep(10000);
    if (strlen(in->chars) % 3 != 0 && pdr_attempt_number(attempt) == 1)
        return pdr_attempt_fail(attempt, "Flaky", "not at the first attempt");
    out->chars = pdr_attempt_format(attempt, "<%s>", in->chars);
    return out->chars != NULL ? PDR_OK : PDR_NO_MEMORY;
}

/* "DEPTH NAME": what the three children of depth-1 say, joined; alternately awaited one by one, all at once, or as they
 * come. Depth 0 works. */
int tree(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    char *name;
    long depth = strtol(in->chars, &name, 10);
    pdr_text input = {name};
    pdr_text *got;
    if (depth == 0) {
        PDR_TRY(pdr_await(job, work, &input, &got));
        out->chars = got->chars;
        return PDR_OK;
    }
    pdr_future(tree) children[3];
    for (int i = 0; i < 3; i++) {
        input.chars = pdr_format(job, "%ld%s.%d", depth - 1, name, i);
        children[i] = pdr_start(job, tree, &input, .id = pdr_format(job, "%s.%d", pdr_job_id(job), i));
    }
    if (depth % 2 == 0)
        PDR_TRY(pdr_all(job, children[0].any, children[1].any, children[2].any));
    PDR_TRY(pdr_sleep(job, 30));
    const char *all = "";
    for (int i = 0; i < 3; i++) {
        PDR_TRY(pdr_join(job, tree, children[i], &got));
        all = pdr_format(job, "%s%s", all, got->chars);
    }
    out->chars = pdr_format(job, "(%s)", all);
    return PDR_OK;
}

/* "ROUNDS NEXT PARENT": takes a token, works on it, passes it to the next, ROUNDS times; what it saw goes to PARENT. */
int listener(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    char *save, *copy = pdr_format(job, "%s", in->chars);
    long rounds = strtol(strtok_r(copy, " ", &save), NULL, 10);
    const char *next = strtok_r(NULL, " ", &save), *parent = strtok_r(NULL, " ", &save);
    const char *seen = "";
    for (long i = 0; i < rounds; i++) {
        pdr_text *got;
        PDR_TRY(pdr_receive(job, token, &got, .timeout_ms = 10 * PDR_MINUTE));
        seen = pdr_format(job, "%s%s", seen, got->chars);
        pdr_text passed = {pdr_format(job, "%ld%s", strtol(got->chars, NULL, 10) + 1, ",")};
        PDR_TRY(pdr_send(job, token, next, &passed));
    }
    pdr_text message = {pdr_format(job, "%s:%s", pdr_job_id(job), seen)};
    PDR_TRY(pdr_send(job, report, parent, &message));
    out->chars = seen;
    return PDR_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

#define RING 4

/* "ROUNDS": starts a ring of listeners, sends a token into it, and gathers their reports; a timer runs beside. */
int gathering(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    long rounds = strtol(in->chars, NULL, 10);
    pdr_future(listener) ring[RING];
    const char *reports[RING];
    const char *me = pdr_job_id(job);
    for (int i = 0; i < RING; i++) {
        pdr_text input = {pdr_format(job, "%ld %s-%d %s", rounds, me, (i + 1) % RING, me)};
        ring[i] = pdr_start(job, listener, &input, .id = pdr_format(job, "%s-%d", me, i));
    }
    pdr_text first = {"1,"};
    PDR_TRY(pdr_send(job, token, pdr_format(job, "%s-0", me), &first));

    int got = 0, ticks = 0;
    while (got < RING) {
        pdr_future(report) next = pdr_expect(job, report);
        while (!pdr_ready(job, next.any)) {
            PDR_TRY(pdr_any(job, next.any, pdr_timer(job, 500)));
            ticks++;
        }
        pdr_text *message;
        PDR_TRY(pdr_join(job, report, next, &message));
        reports[got++] = message->chars;
    }
    qsort(reports, RING, sizeof *reports, by_text);
    const char *all = "";
    for (int i = 0; i < RING; i++) {
        PDR_TRY(pdr_join(job, listener, ring[i], NULL));
        all = pdr_format(job, "%s%s;", all, reports[i]);
    }
    out->chars = all;
    return ticks > 0 ? PDR_OK : pdr_fail(job, "NoTick", "it never waited");
}

PDR_MODULE(family, PDR_RUNS(tree), PDR_RUNS(listener), PDR_RUNS(gathering), PDR_RUNS(work));
