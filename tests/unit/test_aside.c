/*
 * What is sent beside the log's streams, over a log that has no room for a while, or refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker.h"

/* A log that answers as told, and remembers the order of what it took. */
static int answer;
static bool no_letters;
static char took[512];
static char notices[2048];
static struct pdr_worker *worker;

static int take(const char *text)
{
    if (answer == LOG_OK)
        snprintf(took + strlen(took), sizeof took - strlen(took), "%s ", text);
    return answer;
}

static int put_status(struct log *log, const char *key, const void *data, size_t size, const struct log_place *of)
{
    char text[64];
    (void)log, (void)of;
    snprintf(text, sizeof text, "%s=%.*s", key, data ? (int)size : 4, data ? (const char *)data : "gone");
    return take(text);
}

static int dead(struct log *log, const struct log_record *record, const char *reason)
{
    char text[64];
    (void)log;
    snprintf(text, sizeof text, "dead%lld:%.*s:%s", (long long)record->offset, (int)record->size, (const char *)record->data,
             reason);
    return no_letters ? LOG_FULL : take(text);
}

static int reply(struct log *log, const ReplyTo *to, const Reply *reply)
{
    (void)log, (void)to, (void)reply;
    return take("reply");
}

static int trim(struct log *log, enum log_stream stream, uint32_t partition, int64_t below)
{
    (void)log, (void)stream, (void)partition, (void)below;
    return take("trim");
}

static const struct log_operations operations = { .put_status = put_status, .dead = dead, .reply = reply, .trim = trim };
static struct log fake = { .operations = &operations, .error = "the log says no" };

static void on_notice(void *context, int level, const char *text)
{
    (void)context, (void)level;
    snprintf(notices + strlen(notices), sizeof notices - strlen(notices), "%s\n", text);
}

static int setup(void **state)
{
    (void)state;
    answer = LOG_OK;
    *took = *notices = '\0';
    worker = calloc(1, sizeof *worker);
    worker->log = &fake;
    worker->options.notice = on_notice;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    worker_aside_release(worker);
    assert_false(worker->failed);
    free(worker);
    return 0;
}

static void status(const char *key, const char *value)
{
    worker_put_status(worker, key, value, value ? strlen(value) : 0,
                      value ? &(struct log_place){ 0, atoi(value) } : NULL);
}

static void letter(int64_t offset, const char *text)
{
    struct engine_output out = { .kind = ENGINE_OUT_DEAD, .offset = offset, .data = text, .size = strlen(text), .text = "why" };
    worker_dead_letter(worker, 0, &out);
}

static void only_the_newest_status_waits(void **state)
{
    (void)state;
    status("a", "1");
    answer = LOG_FULL;
    status("a", "2");
    status("b", "1");
    status("a", "3");
    status("c", "1");
    status("c", NULL);
    worker_send_aside(worker);
    assert_true(worker->aside_waits);
    assert_int_equal(worker_unshown(worker, 0), 1); /* of `b`; of `a` since its 2 */
    assert_int_equal(worker_unshown(worker, 1), INT64_MAX);
    answer = LOG_OK;
    status("a", "4"); /* there is room, but an older one of the same key waits: never an older one after a newer one */
    status("d", "1"); /* nothing of this key waits */
    worker_send_aside(worker);
    assert_false(worker->aside_waits);
    assert_string_equal(took, "a=1 d=1 a=4 b=1 c=gone ");
    worker_send_aside(worker);
    status("a", "5");
    assert_string_equal(took, "a=1 d=1 a=4 b=1 c=gone a=5 ");
}

static void room_for_some(void **state)
{
    (void)state;
    answer = LOG_FULL;
    for (int i = 0; i < 300; i++) {
        char key[16];
        snprintf(key, sizeof key, "%03d", i);
        status(key, "x");
    }
    letter(7, "bytes");
    letter(8, "more");
    worker_send_aside(worker);
    assert_string_equal(took, "");
    answer = LOG_OK;
    worker_send_aside(worker);
    assert_memory_equal(took, "dead7:bytes:why dead8:more:why 000=x 001=x ", 43);
    assert_false(worker->aside_waits);
}

/* What waits in one topic keeps nothing back that goes to another; a letter that was lost goes again. */
static void full_letters_and_lost_ones(void **state)
{
    const struct log_record lost = { .stream = LOG_INBOX, .partition = 2, .offset = 9, .data = "bytes", .size = 5 };
    (void)state;
    answer = LOG_FULL;
    worker_dead_lost(worker, &lost, "why");
    status("a", "1");
    answer = LOG_OK;
    no_letters = true;
    worker_send_aside(worker);
    assert_string_equal(took, "a=1 ");
    assert_true(worker->aside_waits);
    no_letters = false;
    worker_send_aside(worker);
    assert_string_equal(took, "a=1 dead9:bytes:why ");
}

/* A dead letter is told when it is found, and again when it is lost for good. */
static void a_log_that_refuses(void **state)
{
    (void)state;
    answer = LOG_FAILED;
    letter(3, "bytes");
    assert_non_null(strstr(notices, "inbox record 0/3 is a dead letter: why"));
    assert_non_null(strstr(notices, "inbox record 0/3 is not among the dead letters: the log says no"));
    *notices = '\0';
    for (int i = 0; i < 5; i++)
        status("a", "1");
    assert_string_equal(notices, "a status is not written: the log says no\n"); /* once for all */
    answer = LOG_OK;
    worker_send_aside(worker);
    assert_string_equal(took, ""); /* what was refused does not wait */
}

static void replies_are_counted(void **state)
{
    (void)state;
    ReplyTo to = PERDURE__V1__REPLY_TO__INIT;
    Reply what = PERDURE__V1__REPLY__INIT;
    answer = LOG_FULL;
    for (int i = 0; i < 3; i++)
        worker_reply(worker, &to, &what);
    assert_string_equal(notices, "");
    worker_send_aside(worker);
    assert_string_equal(notices, "3 replies were dropped while the log had no room; their clients ask again\n");
    worker_send_aside(worker);
    assert_null(strstr(notices + 1, "\n3"));
    worker_trim(worker, LOG_INBOX, 0, 5);
    answer = LOG_OK;
    worker_reply(worker, &to, &what);
    assert_string_equal(took, "reply ");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = { TEST(only_the_newest_status_waits), TEST(room_for_some), TEST(full_letters_and_lost_ones), TEST(a_log_that_refuses),
                                        TEST(replies_are_counted) };
    cmocka_set_test_filter(getenv("PERDURE_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
