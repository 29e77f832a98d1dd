/*
 * Jobs for the chaos test: steps here and remote ones, timers, signals and children, whose right answer follows from the
 * input alone (tests/kafka/chaos_jobs.py computes it again). Each attempt of a step leaves a line in a ledger outside the
 * log:
 *
 *     RUN-OP ATTEMPT EFFECT WORKER JOB MILLISECONDS
 *
 * EFFECT names this one execution; it stands in the step's recorded result too, or in the error of an attempt that
 * fails, so that it is known which of several executions has counted.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <perdure/perdure.h>

PDR_STEP(act, pdr_text, pdr_text, .max_attempts = 50, .backoff_ms = 50, .backoff_max_ms = 400)
/* Python executes it: tests/kafka/chaos_far.py. */
PDR_STEP(far, pdr_text, pdr_text, .queue = "chaos", .heartbeat_ms = 5000, .max_attempts = 50, .backoff_ms = 50,
         .backoff_max_ms = 400)
PDR_SIGNAL(note, pdr_text)
PDR_SIGNAL(report, pdr_text)
PDR_JOB(plan, pdr_text, pdr_text)
PDR_JOB(leaf, pdr_text, pdr_text)

enum { CHILDREN = 2, WIDTH = 3, NOTES = 2 };

/* 32 bits in, 32 bits out, nothing of the input seen in the output. */
static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= UINT32_C(0x7feb352d);
    x ^= x >> 15;
    x *= UINT32_C(0x846ca68b);
    return x ^ x >> 16;
}

static uint32_t number(const char *text) { return (uint32_t)strtoul(text, NULL, 10); }

/* ---- the step ------------------------------------------------------------------------------------------------------ */

/* In one write, so that lines of many processes never mix. */
static int ledger_add(pdr_attempt *attempt, const char *effect)
{
    const char *file = getenv("PERDURE_EFFECT_LEDGER"), *worker = getenv("PERDURE_CHAOS_WORKER");
    if (file == NULL || *file == '\0')
        return 0;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char *line = pdr_attempt_format(attempt, "%s %d %s %s %s %lld\n", pdr_attempt_key(attempt),
                                    pdr_attempt_number(attempt), effect, worker != NULL ? worker : "-",
                                    pdr_attempt_job_id(attempt), (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    int descriptor = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    ssize_t wrote = descriptor >= 0 && line != NULL ? write(descriptor, line, strlen(line)) : -1;
    if (descriptor >= 0)
        close(descriptor);
    return wrote < 0 ? -1 : 0;
}

/* Most take some milliseconds, some a second: so that each kill finds a few in flight. */
static void act_for_a_while(uint32_t value)
{
    long ms = value % 61 == 0 ? 1200 : (long)(value % 40) + 2;
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* "VALUE" gives "MIXED EFFECT"; every seventh fails at first, after its effect. */
int act(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    static atomic_uint made;
    char effect[64];
    uint32_t value = number(in->chars);
    snprintf(effect, sizeof effect, "e%d.%u", (int)getpid(), atomic_fetch_add(&made, 1));
    if (ledger_add(attempt, effect) != 0)
        return pdr_attempt_fail(attempt, "Ledger", "%s", effect);
    act_for_a_while(value);
    if (value % 7 == 0 && pdr_attempt_number(attempt) == 1)
        return pdr_attempt_fail(attempt, "Flaky", "%s", effect);
    out->chars = pdr_attempt_format(attempt, "%" PRIu32 " %s", mix(value), effect);
    return out->chars != NULL ? PDR_OK : PDR_NO_MEMORY;
}

/* ---- the jobs ------------------------------------------------------------------------------------------------------ */

static const pdr_text *text_of(pdr_job *job, uint32_t value)
{
    pdr_text *text = pdr_alloc(job, sizeof *text);
    text->chars = pdr_format(job, "%" PRIu32, value);
    return text;
}

static int act_on(pdr_job *job, uint32_t *value)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, act, text_of(job, *value), &got));
    *value = number(got->chars);
    return PDR_OK;
}

/* "VALUE PARENT": two steps and a timer between; what came out goes to the parent twice, as signal and as result. */
int leaf(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    char *parent;
    uint32_t value = (uint32_t)strtoul(in->chars, &parent, 10);
    PDR_TRY(act_on(job, &value));
    PDR_TRY(pdr_sleep(job, value % 1000));
    PDR_TRY(act_on(job, &value));
    PDR_TRY(pdr_send(job, report, parent + 1, text_of(job, value)));
    out->chars = text_of(job, value)->chars;
    return PDR_OK;
}

/* Several steps at once. */
static int fan_out(pdr_job *job, uint32_t *value)
{
    pdr_future(act) acting[WIDTH];
    for (uint32_t i = 0; i < WIDTH; i++)
        acting[i] = pdr_start(job, act, text_of(job, *value + i));
    PDR_TRY(pdr_all(job, acting[0].any, acting[1].any, acting[2].any));
    uint32_t sum = 0;
    for (int i = 0; i < WIDTH; i++) {
        pdr_text *got;
        PDR_TRY(pdr_join(job, act, acting[i], &got));
        sum += number(got->chars);
    }
    *value = mix(sum);
    return PDR_OK;
}

/* Children, what they report, and what they return: a report that is lost or comes twice makes the sums differ. */
static int raise_children(pdr_job *job, uint32_t *value)
{
    pdr_future(leaf) children[CHILDREN];
    for (uint32_t i = 0; i < CHILDREN; i++) {
        pdr_text input = {pdr_format(job, "%" PRIu32 " %s", *value + i, pdr_job_id(job))};
        children[i] = pdr_start(job, leaf, &input, .id = pdr_format(job, "%s-%" PRIu32, pdr_job_id(job), i));
    }
    uint32_t reported = 0, returned = 0;
    for (int i = 0; i < CHILDREN; i++) {
        pdr_text *got;
        PDR_TRY(pdr_receive(job, report, &got));
        reported += number(got->chars);
        PDR_TRY(pdr_join(job, leaf, children[i], &got));
        returned += number(got->chars);
    }
    if (reported != returned)
        return pdr_fail(job, "Reports", "children reported %" PRIu32 " and returned %" PRIu32, reported, returned);
    *value = mix(*value + returned);
    return PDR_OK;
}

/* The client's signals, in any order, with a timer that runs beside and is started again whenever it fires. */
static int take_notes(pdr_job *job, uint32_t *value)
{
    uint32_t sum = 0;
    for (int i = 0; i < NOTES; i++) {
        pdr_future(note) next = pdr_expect(job, note);
        while (!pdr_ready(job, next.any))
            PDR_TRY(pdr_any(job, next.any, pdr_timer(job, 1500)));
        pdr_text *got;
        PDR_TRY(pdr_join(job, note, next, &got));
        sum += number(got->chars);
    }
    *value = mix(*value + sum);
    return PDR_OK;
}

/* "NUMBER" */
int plan(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    uint32_t value = mix(number(in->chars)), chain = 2 + value % 3;
    for (uint32_t i = 0; i < chain; i++)
        PDR_TRY(act_on(job, &value));
    PDR_TRY(pdr_sleep(job, 200 + value % 3000));
    PDR_TRY(fan_out(job, &value));
    PDR_TRY(raise_children(job, &value));
    PDR_TRY(take_notes(job, &value));
    pdr_text *got;
    PDR_TRY(pdr_await(job, far, text_of(job, value), &got));
    value = number(got->chars);
    PDR_TRY(act_on(job, &value));
    out->chars = text_of(job, value)->chars;
    return PDR_OK;
}

PDR_MODULE(chaos, PDR_RUNS(plan), PDR_RUNS(leaf), PDR_RUNS(act));
