/*
 * Limits on attempts: lines in order of arrival, a key that holds up nobody else's, rates, and what is given back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/limits.h"

struct attempt {
    struct limit_waiter waiter;
};

static bool enter(struct limits *limits, struct attempt *attempt, struct limit_line *ready, const char *step,
                  const char *key, size_t key_limit, int64_t now)
{
    struct limit_waiter *waiter = &attempt->waiter;
    waiter->gates[LIMIT_STAGE_KEY] = key ? limits_key(limits, key) : NULL;
    waiter->gates[LIMIT_STAGE_COUNT] = limits_find(limits, LIMIT_STEP_COUNT, step);
    waiter->gates[LIMIT_STAGE_RATE] = limits_find(limits, LIMIT_STEP_RATE, step);
    waiter->key_limit = key_limit;
    waiter->ready = ready;
    return limit_enter(waiter, now);
}

static void test_count_in_order(void **state)
{
    struct limits *limits = limits_new();
    struct limit_line here = { 0 }, there = { 0 };
    struct attempt a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };
    char text[LIMIT_TEXT_BYTES];
    (void)state;
    assert_true(limits_set(limits, LIMIT_STEP_COUNT, "charge", 1));
    assert_true(enter(limits, &a, &here, "shop/charge", NULL, 0, 1));
    assert_false(enter(limits, &b, &there, "shop/charge", NULL, 0, 1));
    assert_false(enter(limits, &c, &here, "charge", NULL, 0, 1));
    assert_true(enter(limits, &d, &here, "shop/ship", NULL, 0, 1));
    assert_string_equal(limit_text(&b.waiter, text, sizeof text), "step-limit charge=1");
    assert_null(limit_text(&a.waiter, text, sizeof text));
    limit_leave(limits, &a.waiter, 2);
    assert_null(limit_take_ready(&here)); /* the other partition's came first */
    assert_ptr_equal(limit_take_ready(&there), &b.waiter);
    assert_true(limit_enter(&b.waiter, 2));
    limit_leave(limits, &b.waiter, 3);
    assert_ptr_equal(limit_take_ready(&here), &c.waiter);
    limit_leave(limits, &c.waiter, 4);
    limit_leave(limits, &d.waiter, 4);
    assert_true(enter(limits, &a, &here, "shop/charge", NULL, 0, 5));
    limits_free(limits);
}

/* Who goes while it waits leaves the line; who goes when its turn had come gives its room to the next. */
static void test_given_up(void **state)
{
    struct limits *limits = limits_new();
    struct limit_line ready = { 0 };
    struct attempt a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };
    (void)state;
    assert_true(limits_set(limits, LIMIT_STEP_COUNT, "charge", 1));
    assert_true(enter(limits, &a, &ready, "charge", NULL, 0, 1));
    assert_false(enter(limits, &b, &ready, "charge", NULL, 0, 1));
    assert_false(enter(limits, &c, &ready, "charge", NULL, 0, 1));
    assert_false(enter(limits, &d, &ready, "charge", NULL, 0, 1));
    limit_leave(limits, &b.waiter, 1);
    limit_leave(limits, &a.waiter, 1); /* c is ready, and not taken yet */
    limit_leave(limits, &c.waiter, 1);
    assert_ptr_equal(limit_take_ready(&ready), &d.waiter);
    assert_null(limit_take_ready(&ready));
    limits_free(limits);
}

static void test_key_holds_up_its_own_only(void **state)
{
    struct limits *limits = limits_new();
    struct limit_line ready = { 0 };
    struct attempt a = { 0 }, b = { 0 }, c = { 0 }, other = { 0 };
    char text[LIMIT_TEXT_BYTES];
    (void)state;
    assert_true(limits_set(limits, LIMIT_STEP_COUNT, "charge", 2));
    assert_true(enter(limits, &a, &ready, "charge", "tenant-7", 1, 1));
    assert_false(enter(limits, &b, &ready, "charge", "tenant-7", 1, 1));
    assert_false(enter(limits, &c, &ready, "ship", "tenant-7", 1, 1)); /* of whatever step */
    assert_string_equal(limit_text(&c.waiter, text, sizeof text), "concurrency key tenant-7=1");
    assert_true(enter(limits, &other, &ready, "charge", "tenant-8", 1, 1)); /* those in line hold no room of `charge` */
    limit_leave(limits, &a.waiter, 2);
    assert_ptr_equal(limit_take_ready(&ready), &b.waiter);
    assert_null(limit_take_ready(&ready));
    limit_leave(limits, &b.waiter, 2);
    assert_ptr_equal(limit_take_ready(&ready), &c.waiter);
    limit_leave(limits, &c.waiter, 2);
    limit_leave(limits, &other.waiter, 2);
    assert_true(enter(limits, &a, &ready, "charge", "tenant-7", 1, 3)); /* a key that nobody had is made anew */
    limit_leave(limits, &a.waiter, 3);
    limits_free(limits);
}

static void test_rate(void **state)
{
    struct limits *limits = limits_new();
    struct limit_line ready = { 0 };
    struct attempt attempts[5] = { 0 };
    size_t begun = 0;
    (void)state;
    assert_true(limits_set(limits, LIMIT_STEP_RATE, "mail", 2));
    for (size_t i = 0; i < 5; i++)
        begun += enter(limits, &attempts[i], &ready, "mail", NULL, 0, 1000);
    assert_int_equal(begun, 1);
    assert_int_equal(limits_next(limits), 1500);
    limits_pump(limits, 1499);
    assert_null(limit_take_ready(&ready));
    for (int64_t now = 1500; now <= 3000; now += 500) {
        limits_pump(limits, now);
        assert_ptr_equal(limit_take_ready(&ready), &attempts[begun].waiter);
        assert_null(limit_take_ready(&ready));
        begun++;
    }
    assert_int_equal(limits_next(limits), INT64_MAX);
    for (size_t i = 0; i < 5; i++)
        limit_leave(limits, &attempts[i].waiter, 4000);
    limits_free(limits);
}

/* Those let through and kept from beginning by something else hold no more than a second's worth. */
static void test_job_rate(void **state)
{
    struct limits *limits = limits_new();
    struct limit_line ready = { 0 };
    struct attempt attempts[6] = { 0 };
    char text[LIMIT_TEXT_BYTES];
    (void)state;
    assert_true(limits_set(limits, LIMIT_JOB_RATE, "order", 2));
    assert_string_equal(limits_name(limits, LIMIT_JOB_RATE, 0), "order");
    assert_null(limits_name(limits, LIMIT_JOB_RATE, 1));
    for (size_t i = 0; i < 6; i++) {
        attempts[i].waiter.gates[LIMIT_STAGE_RATE] = limits_find(limits, LIMIT_JOB_RATE, "shop/order");
        attempts[i].waiter.ready = &ready;
        assert_int_equal(limit_enter(&attempts[i].waiter, 1000), i == 0);
    }
    assert_string_equal(limit_text(&attempts[1].waiter, text, sizeof text), "job-rate order=2/s");
    limits_pump(limits, 9000); /* attempts[0] has not begun either: room for one */
    assert_ptr_equal(limit_take_ready(&ready), &attempts[1].waiter);
    assert_null(limit_take_ready(&ready));
    assert_int_equal(limits_next(limits), INT64_MAX); /* no time brings more */
    limit_leave(limits, &attempts[0].waiter, 9500);
    assert_ptr_equal(limit_take_ready(&ready), &attempts[2].waiter);
    limit_leave(limits, &attempts[1].waiter, 9500);
    limit_leave(limits, &attempts[2].waiter, 9500);
    assert_null(limit_take_ready(&ready)); /* while it was full nothing was saved up */
    assert_int_equal(limits_next(limits), 10000);
    limits_pump(limits, 10000);
    assert_ptr_equal(limit_take_ready(&ready), &attempts[3].waiter);
    assert_null(limit_take_ready(&ready));
    for (size_t i = 3; i < 6; i++)
        limit_leave(limits, &attempts[i].waiter, 9500);
    limits_free(limits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_count_in_order),
        cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_key_holds_up_its_own_only),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_job_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
