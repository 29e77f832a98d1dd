/*
 * Rates and limits of queues: how they are written, and what a rate lets through.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "worker/queue_options.h"
#include "worker/queue_worker.h"

static struct queue_options *read_options(const char *rates, const char *limits)
{
    struct queue_options *options;
    char error[200];
    assert_true(queue_options_read(rates, limits, &options, error, sizeof error));
    return options;
}

static void written(void **state)
{
    struct queue_options *options = read_options("gpu=5/s,mail=0.5/s", "gpu=100,post.office=1");
    int64_t again;
    (void)state;
    assert_int_equal(queue_options_limit(options, "gpu"), 100);
    assert_int_equal(queue_options_limit(options, "post.office"), 1);
    assert_int_equal(queue_options_limit(options, "mail"), 0);
    assert_int_equal(queue_options_limit(options, "other"), 0);
    assert_true(queue_options_take(options, "other", 1, &again));
    assert_true(queue_options_take(options, "post.office", 1, &again));
    queue_options_free(options);
    assert_null(read_options(NULL, NULL));
    assert_null(read_options("", ""));
}

static void written_wrong(void **state)
{
    static const char *const rates[] = { "gpu", "gpu=", "=5/s", "gpu=5", "gpu=x/s", "gpu=0/s", "gpu=-1/s", "a=1/s,,b=2/s",
                                         "gpu=5/sec", "gpu=nan/s", "gpu=1e99/s" };
    static const char *const limits[] = { "gpu", "gpu=0", "gpu=1.5", "gpu=5/s", "gpu=2000000" };
    struct queue_options *options;
    char error[200];
    (void)state;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        assert_false(queue_options_read(rates[i], NULL, &options, error, sizeof error));
        assert_null(options);
        assert_non_null(strstr(error, "QUEUE=N/s"));
    }
    assert_false(queue_options_read("gpu=5/s,mail=1/s,gpu=6/s", NULL, &options, error, sizeof error));
    assert_string_equal(error, "queue rate of \"gpu\" is given twice");
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        assert_false(queue_options_read("gpu=5/s", limits[i], &options, error, sizeof error));
        assert_null(options);
    }
}

/* Whoever asks as often as it may gets N a second, in the long run and after a pause. */
static void taken(void **state)
{
    static const double rates[] = { 0.5, 1, 5, 300, 5000 };
    (void)state;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        char text[64];
        int64_t again = 0, begin = 12345;
        double taken = 0;
        snprintf(text, sizeof text, "q=%g/s", rates[i]);
        struct queue_options *options = read_options(text, NULL);
        for (int64_t now = begin; now < begin + 20000;) {
            while (queue_options_take(options, "q", now, &again))
                taken++;
            assert_true(again > now);
            now = again;
        }
        assert_true(taken <= rates[i] * 20 + 1 && taken >= rates[i] * 20 * 0.98 - 1);
        double burst = 0;
        while (queue_options_take(options, "q", begin + 10 * 3600 * 1000, &again))
            burst++;
        assert_true(burst <= (rates[i] > 1 ? rates[i] : 1));
        queue_options_free(options);
    }
}

/* A step worker whose rate has room at once looks again at once for what it holds, but not when all its slots are taken. */
static void looked_again(void **state)
{
    struct pdr_worker worker = { .limits = limits_new() };
    struct queue_worker queue = { .worker = &worker, .slot_count = 2, .running = 1, .held = 1, .again_ms = 1 };
    (void)state;
    assert_int_equal(queue_limits_timeout(&queue, 100), 0);
    queue.running = 2;
    assert_int_equal(queue_limits_timeout(&queue, 100), 100);
    limits_free(worker.limits);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(written), cmocka_unit_test(written_wrong), cmocka_unit_test(taken),
                                        cmocka_unit_test(looked_again) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
