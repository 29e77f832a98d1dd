/*
 * Jobs of odd shape: whatever C does between two awaits survives being thrown away and run again after every event.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job_trial.h"

PDR_STEP(echo, pdr_text, pdr_text)
PDR_STEP(number, pdr_text, pdr_text)
PDR_SIGNAL(word, pdr_text)

int echo(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "<%s>", in->chars);
    return PDR_OK;
}

/* A number that the text decides, but not in order. */
int number(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    unsigned long n = strtoul(in->chars, NULL, 10);
    out->chars = pdr_attempt_format(attempt, "%lu", n * 7919 % 101);
    return PDR_OK;
}

static int ask(pdr_job *job, long n, long *out)
{
    pdr_text in = {pdr_format(job, "%ld", n)}, *result;
    PDR_TRY(pdr_await(job, number, &in, &result));
    *out = strtol(result->chars, NULL, 10);
    return PDR_OK;
}

/* 1: recursion, an await at every depth. */
PDR_JOB(recursion, pdr_text, pdr_text)
static int descend(pdr_job *job, int depth, long *sum)
{
    long here;
    PDR_TRY(ask(job, depth, &here));
    if (depth > 0)
        PDR_TRY(descend(job, depth - 1, sum));
    *sum += here * (depth + 1);
    return PDR_OK;
}
int recursion(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    long sum = 0;
    PDR_TRY(descend(job, 12, &sum));
    out->chars = pdr_format(job, "%s %ld", in->chars, sum);
    return PDR_OK;
}

/* 2: locals that point at each other, a list across frames of the stack. */
PDR_JOB(pointers, pdr_text, pdr_text)
struct link {
    struct link *next;
    long value;
};
static int chain(pdr_job *job, struct link *before, int left, struct link **head)
{
    struct link mine = {before, 0};
    PDR_TRY(ask(job, left, &mine.value));
    if (left > 0)
        return chain(job, &mine, left - 1, head);
    long sum = 0;
    for (struct link *at = &mine; at != NULL; at = at->next)
        sum = sum * 3 + at->value;
    long *where = &sum, **whose = &where;
    PDR_TRY(ask(job, 77, *whose));
    for (struct link *at = &mine; at != NULL; at = at->next)
        sum = sum * 3 % 100003 + at->value;
    struct link *kept = pdr_new(job, pdr_none) != NULL ? pdr_alloc(job, sizeof(*kept)) : NULL;
    *kept = (struct link){NULL, sum};
    *head = kept;
    return PDR_OK;
}
int pointers(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    struct link *head;
    (void)in;
    PDR_TRY(chain(job, NULL, 9, &head));
    out->chars = pdr_format(job, "%ld", head->value);
    return PDR_OK;
}

/* 3: awaits in nested loops, left by break and continue, and a goto. */
PDR_JOB(loops, pdr_text, pdr_text)
int loops(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    long sum = 0, n;
    (void)in;
    for (int i = 0; i < 5; i++) {
        for (int k = 0;; k++) {
            PDR_TRY(ask(job, i * 10 + k, &n));
            if (n % 5 == 0)
                break;
            if (n % 3 == 0)
                continue;
            sum += n;
            if (k > 6)
                goto enough;
        }
        int k = 3;
        do {
            PDR_TRY(ask(job, 1000 + k, &n));
            sum ^= n << k;
        } while (k-- > 1);
    }
enough:
    out->chars = pdr_format(job, "%ld", sum);
    return PDR_OK;
}

/* 4: early returns, by what a step said. */
PDR_JOB(early, pdr_text, pdr_text)
int early(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    long n;
    for (int i = atoi(in->chars);; i++) {
        PDR_TRY(ask(job, i, &n));
        switch (n % 4) {
        case 0:
            out->chars = pdr_format(job, "out at %d", i);
            return PDR_OK;
        case 1:
            PDR_TRY(pdr_sleep(job, 10 * n));
            break;
        default:
            PDR_TRY(ask(job, n, &n));
            if (n > 90)
                return pdr_fail(job, "High", "%ld", n);
        }
    }
}

/* 5: qsort with awaits before and after. */
PDR_JOB(sorting, pdr_text, pdr_text)
static int by_value(const void *a, const void *b)
{
    return (*(const long *)a > *(const long *)b) - (*(const long *)a < *(const long *)b);
}
int sorting(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    long values[24];
    (void)in;
    for (int i = 0; i < 24; i++)
        PDR_TRY(ask(job, i, &values[i]));
    qsort(values, 24, sizeof(values[0]), by_value);
    long sum = 0, n;
    for (int i = 0; i < 24; i += 5) {
        PDR_TRY(ask(job, values[i], &n));
        sum = sum * 31 + n + values[i];
    }
    out->chars = pdr_format(job, "%ld", sum);
    return PDR_OK;
}

/* 6: big arrays on the stack, of which each await changes a little. */
PDR_JOB(arrays, pdr_text, pdr_text)
int arrays(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    unsigned char board[96 * 1024];
    memset(board, 1, sizeof(board));
    long n;
    (void)in;
    for (int i = 0; i < 10; i++) {
        PDR_TRY(ask(job, i, &n));
        for (size_t at = (size_t)n; at < sizeof(board); at += (size_t)n + 1)
            board[at] = (unsigned char)(board[at] * 5 + n);
    }
    unsigned long sum = 0;
    for (size_t i = 0; i < sizeof(board); i++)
        sum = sum * 31 + board[i];
    out->chars = pdr_format(job, "%lu", sum);
    return PDR_OK;
}

/* 7: fan-out under a limit, joined backwards. */
PDR_JOB(fans, pdr_text, pdr_text)
int fans(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    enum { COUNT = 20 };
    pdr_future(number) futures[COUNT];
    pdr_limit *three = pdr_limit_new(job, 3);
    (void)in;
    for (int i = 0; i < COUNT; i++) {
        pdr_text n = {pdr_format(job, "%d", i)};
        futures[i] = pdr_start(job, number, &n, .limit = three);
    }
    unsigned long sum = 0;
    for (int i = COUNT; i-- > 0;) {
        pdr_text *n;
        PDR_TRY(pdr_join(job, number, futures[i], &n));
        sum = sum * 131 + strtoul(n->chars, NULL, 10);
    }
    pdr_text *again;
    PDR_TRY(pdr_join(job, number, futures[3], &again)); /* as often as one likes */
    out->chars = pdr_format(job, "%lu %s", sum, again->chars);
    return PDR_OK;
}

/* 8: a function pointer table and a union, awaits behind them. */
PDR_JOB(tables, pdr_text, pdr_text)
typedef int verb(pdr_job *job, long *value);
static int twice(pdr_job *job, long *value)
{
    return ask(job, *value * 2, value);
}
static int nap(pdr_job *job, long *value)
{
    *value += 1;
    return pdr_sleep(job, *value * 1000);
}
int tables(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    verb *const verbs[] = {twice, nap, twice};
    union {
        long n;
        unsigned char bytes[sizeof(long)];
    } value = {5};
    (void)in;
    for (int i = 0; i < 9; i++) {
        PDR_TRY(verbs[(value.bytes[0] + i) % 3](job, &value.n));
    }
    out->chars = pdr_format(job, "%ld", value.n);
    return PDR_OK;
}

/* 9: variable-length array, static const data, varargs, string building between awaits. */
PDR_JOB(strings, pdr_text, pdr_text)
static int joined(pdr_job *job, char *to, size_t size, int count, ...)
{
    va_list words;
    va_start(words, count);
    int code = PDR_OK;
    for (int i = 0; i < count && code == PDR_OK; i++) {
        pdr_text word_in = {va_arg(words, const char *)}, *word_out;
        code = pdr_await(job, echo, &word_in, &word_out);
        if (code == PDR_OK)
            strncat(to, word_out->chars, size - strlen(to) - 1);
    }
    va_end(words);
    return code;
}
int strings(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    static const char *const days[] = {"mon", "tue", "wed"};
    size_t size = strlen(in->chars) + 200;
    char text[size];
    text[0] = '\0';
    for (size_t i = 0; i < 3; i++)
        PDR_TRY(joined(job, text, size, 3, days[i], in->chars, days[2 - i]));
    out->chars = pdr_format(job, "%s", text);
    return PDR_OK;
}

/* 10: any, all, timers and signals, time and chance. */
PDR_JOB(races, pdr_text, pdr_text)
int races(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    char log[512] = "";
    int64_t begin = pdr_now(job);
    for (int round = 0; round < 4; round++) {
        pdr_future(word) next = pdr_expect(job, word);
        pdr_future(echo) step = pdr_start(job, echo, in);
        pdr_future late = pdr_timer(job, 50 + (int64_t)(pdr_random(job) % 50));
        PDR_TRY(pdr_any(job, next.any, step.any, late));
        char *tail = log + strlen(log);
        sprintf(tail, "%d%d%d ", pdr_ready(job, next.any), pdr_ready(job, step.any), pdr_ready(job, late));
        PDR_TRY(pdr_all(job, step.any, late));
        pdr_text *said;
        int code = pdr_join(job, word, next, &said, .timeout_ms = 5);
        if (code == PDR_OK)
            strcat(log, said->chars);
        else if (code != PDR_TIMED_OUT)
            return code;
    }
    pdr_text *kept;
    int code = pdr_receive(job, word, &kept, .timeout_ms = -1);
    out->chars = pdr_format(job, "%s %d %lld %s", log, code, (long long)(pdr_now(job) - begin), pdr_uuid(job));
    return PDR_OK;
}

PDR_MODULE(shapes, PDR_RUNS(echo), PDR_RUNS(number), PDR_RUNS(recursion), PDR_RUNS(pointers), PDR_RUNS(loops),
           PDR_RUNS(early), PDR_RUNS(sorting), PDR_RUNS(arrays), PDR_RUNS(fans), PDR_RUNS(tables), PDR_RUNS(strings),
           PDR_RUNS(races));

static void signals_between(struct job_trial *trial)
{
    for (int i = 0; job_state_of(trial->job) == JOB_WAITING; i++) {
        if (i == 1)
            job_trial_signal(trial, "word", "one ");
        else if (i == 6)
            job_trial_signal(trial, "word", "two ");
        else if (!job_trial_next(trial))
            break;
    }
}

/* The same events, byte for byte, whether it ran through or was rebuilt after each of them. */
static void same_both_ways(const char *job, const char *input)
{
    struct job_trial *through = job_trial_new(&pdr_module_shapes, NULL, job, false);
    struct job_trial *again = job_trial_new(&pdr_module_shapes, NULL, job, true);
    struct job_trial *trials[] = {through, again};
    again->one_thread_more = true;
    for (int i = 0; i < 2; i++) {
        job_trial_start(trials[i], input);
        if (strcmp(job, "races") == 0)
            signals_between(trials[i]);
        assert_int_equal(job_trial_run(trials[i]), JOB_ENDED);
        assert_string_equal(trials[i]->complaint, "");
    }
    assert_true(again->replays >= 4);
    assert_int_equal(through->count, again->count);
    for (size_t i = 0; i < through->count; i++) {
        size_t size = perdure__v1__event__get_packed_size(through->events[i]);
        assert_int_equal(size, perdure__v1__event__get_packed_size(again->events[i]));
        uint8_t *left = malloc(size), *right = malloc(size);
        perdure__v1__event__pack(through->events[i], left);
        perdure__v1__event__pack(again->events[i], right);
        assert_memory_equal(left, right, size);
        free(left);
        free(right);
    }
    const char *result = job_trial_result(through);
    print_message("%s: %zu events, %s\n", job, through->count,
                  result != NULL ? result : job_trial_error(through)->type);
    /* Every prefix of the history can be replayed. */
    for (size_t count = 1; count <= through->count; count++) {
        pdr_job *part = job_trial_replay(through, count);
        assert_int_equal(job_state_of(part), count == through->count ? JOB_ENDED : job_state_of(part));
        assert_null(job_report(part));
        job_free(part);
    }
    job_trial_free(through);
    job_trial_free(again);
}

#define SHAPE(name, input)                                                                                             \
    static void shape_##name(void **state)                                                                             \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        same_both_ways(#name, input);                                                                                  \
    }
SHAPE(recursion, "deep")
SHAPE(pointers, "x")
SHAPE(loops, "x")
SHAPE(early, "2")
SHAPE(sorting, "x")
SHAPE(arrays, "x")
SHAPE(fans, "x")
SHAPE(tables, "x")
SHAPE(strings, "day by day")
SHAPE(races, "go")

static void early_fails_too(void **state)
{
    (void)state;
    struct job_trial *trial = NULL;
    for (int from = 0; from < 200; from++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", from);
        trial = job_trial_new(&pdr_module_shapes, NULL, "early", true);
        job_trial_start(trial, text);
        assert_int_equal(job_trial_run(trial), JOB_ENDED);
        assert_string_equal(trial->complaint, "");
        bool failed = job_trial_error(trial) != NULL;
        if (failed)
            assert_string_equal(job_trial_error(trial)->type, "High");
        job_trial_free(trial);
        if (failed)
            return;
    }
    fail_msg("no start made it fail");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shape_recursion), cmocka_unit_test(shape_pointers),  cmocka_unit_test(shape_loops),
        cmocka_unit_test(shape_early),     cmocka_unit_test(shape_sorting),   cmocka_unit_test(shape_arrays),
        cmocka_unit_test(shape_fans),      cmocka_unit_test(shape_tables),    cmocka_unit_test(shape_strings),
        cmocka_unit_test(shape_races),     cmocka_unit_test(early_fails_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
