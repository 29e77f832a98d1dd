/*
 * The pool of threads that run steps: threads that are stuck are replaced, up to a limit; then no attempt begins until one
 * returns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <perdure/perdure.h>

#include "worker/step_pool.h"

PDR_STEP(hang, pdr_text, pdr_text)
PDR_STEP(heed, pdr_text, pdr_text)

static atomic_int begun;
static sem_t leave;

int hang(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    (void)in;
    atomic_fetch_add(&begun, 1);
    while (sem_wait(&leave) != 0)
        ;
    out->chars = pdr_attempt_format(attempt, "late");
    return PDR_OK;
}

/* Runs until nobody waits. */
int heed(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    const char *before = pdr_attempt_progress(attempt);
    (void)in;
    pdr_attempt_heartbeat(attempt, "%s", "an older one");
    pdr_attempt_heartbeat(attempt, "on from %s", before ? before : "nothing");
    atomic_fetch_add(&begun, 1);
    while (!pdr_attempt_cancelled(attempt))
        usleep(1000);
    pdr_attempt_heartbeat(attempt, "at its end");
    out->chars = "heeded";
    return PDR_OK;
}

PDR_MODULE(hanging, PDR_RUNS(hang), PDR_RUNS(heed));

static void wake(void *context) { (void)context; }

static struct registry *registry;

static void submit_step(struct step_pool *pool, const char *step, uint64_t op, const Payload *progress)
{
    Payload input = PERDURE__V1__PAYLOAD__INIT;
    input.type = (char *)"text";
    struct attempt_request request = { .callable = registry_step(registry, step), .job = "job", .run = 7, .op = op,
                                       .attempt = 1, .input = &input, .log_id = 1, .progress = progress };
    assert_non_null(request.callable);
    assert_int_equal(step_pool_submit(pool, 0, &request, 0, INT64_MAX), PDR_OK);
}

static void submit(struct step_pool *pool, uint64_t op) { submit_step(pool, "hang", op, NULL); }

/* At most 10 s for what must come; what must not come is given some time too. */
static bool begins(int count)
{
    for (int i = 0; i < 1000 && atomic_load(&begun) < count; i++)
        usleep(10000);
    return atomic_load(&begun) >= count;
}

static struct attempt_done *next_done(struct step_pool *pool)
{
    struct attempt_done *done = NULL;
    for (int i = 0; i < 1000 && !(done = step_pool_take(pool)); i++)
        usleep(10000);
    return done;
}

static int setup(void **state)
{
    char error[256];
    registry = registry_new();
    atomic_store(&begun, 0);
    sem_init(&leave, 0, 0);
    *state = step_pool_new(2, wake, NULL);
    return *state && registry_add(registry, &pdr_module_hanging, NULL, error, sizeof error) == PDR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    for (int i = 0; i < 100; i++)
        sem_post(&leave);
    assert_int_equal(step_pool_free(*state, 10000), 0);
    registry_free(registry);
    return 0;
}

static void at_the_limit_no_attempt_begins(void **state)
{
    struct step_pool *pool = *state;
    struct step_pool_load load = step_pool_load_of(pool);
    const int limit = (int)load.limit;
    assert_int_equal(load.stuck, 0);
    assert_int_equal(limit, 8);
    for (int i = 0; i < limit; i++) { /* each takes a thread for good, and another comes */
        submit(pool, (uint64_t)i + 1);
        assert_true(begins(i + 1));
        assert_true(step_pool_give_up(pool, "job", 7, (uint64_t)i + 1, 1, &load));
        assert_int_equal(load.stuck, i + 1);
    }
    submit(pool, 100);
    usleep(300000);
    assert_int_equal(atomic_load(&begun), limit);
    /* One that has not begun is dropped, and makes no thread stuck. */
    submit(pool, 101);
    assert_false(step_pool_give_up(pool, "job", 7, 101, 1, &load));
    assert_int_equal(load.stuck, limit);
    /* One returns: its result is marked as late, and the next begins. */
    sem_post(&leave);
    struct attempt_done *done = next_done(pool);
    assert_non_null(done);
    assert_true(done->was_stuck);
    attempt_done_free(done);
    assert_true(begins(limit + 1));
    assert_int_equal(step_pool_load_of(pool).stuck, limit - 1);
}

/* What has not begun can be had back, for the next owner; what runs cannot. */
static void what_has_not_begun_is_taken_back(void **state)
{
    struct step_pool *pool = *state;
    for (uint64_t op = 1; op <= 4; op++)
        submit(pool, op);
    assert_true(begins(2));
    for (int i = 0; i < 2; i++) {
        struct attempt_done *back = step_pool_take_back(pool, 0);
        assert_non_null(back);
        assert_true(back->op > 2);
        attempt_done_free(back);
    }
    assert_null(step_pool_take_back(pool, 0));
    assert_int_equal(atomic_load(&begun), 2);
}

/* Whoever drops, gives up or stops an attempt reaches the code that runs it. */
static void code_hears_that_nobody_waits(void **state)
{
    struct step_pool *pool = *state;
    struct step_pool_load load;
    Payload progress = PERDURE__V1__PAYLOAD__INIT;
    progress.data = (ProtobufCBinaryData){ 4, (uint8_t *)"half" };
    for (uint64_t op = 1; op <= 3; op++) {
        submit_step(pool, "heed", op, op == 1 ? &progress : NULL);
        assert_true(begins((int)op));
        char *detail = step_pool_take_detail(pool, "job", 7, op, 1);
        assert_string_equal(detail, op == 1 ? "on from half" : "on from nothing");
        free(detail);
        assert_null(step_pool_take_detail(pool, "job", 7, op, 1));
        assert_null(step_pool_take(pool));
        if (op == 1)
            step_pool_abandon(pool, "job", 7, op, 1);
        else if (op == 2)
            assert_true(step_pool_give_up(pool, "job", 7, op, 1, &load));
        else
            step_pool_tell_cancelled(pool, "job", 7, op, 1);
        struct attempt_done *done = next_done(pool);
        assert_non_null(done);
        assert_int_equal(done->outcome.code, PDR_OK);
        assert_string_equal(done->detail, "at its end");
        attempt_done_free(done);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = { TEST(at_the_limit_no_attempt_begins), TEST(what_has_not_begun_is_taken_back),
                                        TEST(code_hears_that_nobody_waits) };
    cmocka_set_test_filter(getenv("PERDURE_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
