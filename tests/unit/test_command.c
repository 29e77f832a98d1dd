/* What the command line is made of: durations, times, tables, arguments, events as JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "command/arguments.h"
#include "command/duration.h"
#include "command/show.h"

static void test_durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"500ms", 500},      {"10s", 10000},        {"5m", 300000}, {"2h", 7200000}, {"3d", 259200000},
                {"1h30m", 5400000},  {"1d2h3m4s5ms", 93784005}, {"0", 0},       {"0s", 0}};
    static const char *const bad[] = {"",     "10",   "s",      "10x",  "-5s",  "1.5s", " 10s", "10 s",
                                      "10s ", "5s1m", "5s5s",   "10sec", "9999999999999s", "999999999999d", "ms"};
    int64_t ms;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(duration_parse(good[i].text, &ms));
        assert_true(ms == good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (duration_parse(bad[i], &ms))
            fail_msg("\"%s\" was taken for a duration", bad[i]);
}

static void test_times_for_people(void **state)
{
    (void)state;
    char text[100];
    assert_string_equal(duration_text(850, text, sizeof text), "850 ms");
    assert_string_equal(duration_text(12345, text, sizeof text), "12.3 s");
    assert_string_equal(duration_text(245000, text, sizeof text), "4 min 5 s");
    assert_string_equal(duration_text(12000000, text, sizeof text), "3 h 20 min");
    assert_string_equal(duration_text(187200000, text, sizeof text), "2 d 4 h");
    assert_string_equal(time_relative(1000, 3500, text, sizeof text), "2.5 s ago");
    assert_string_equal(time_relative(7201000, 1000, text, sizeof text), "in 2 h 0 min");
    setenv("TZ", "UTC", 1);
    assert_string_equal(time_text(1795403772744, 1795403773744, text, sizeof text), "2026-11-23 03:16:12 (1.0 s ago)");
    assert_string_equal(time_text(0, 1795403773744, text, sizeof text), "-");
    assert_string_equal(time_clock(1795403772744, text, sizeof text), "03:16:12.744");
}

static void test_table(void **state)
{
    (void)state;
    struct table table = {.columns = 3};
    struct buffer out = {0};
    static const char *const cells[] = {"ID", "TYPE", "WHY", "\xc3\xa9", "a\x1b[2J", "x\ny", "longer", "", ""};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        table_cell(&table, cells[i]);
    table_print(&table, &out);
    char *text = buffer_take(&out);
    assert_string_equal(text, "ID      TYPE      WHY\n"
                              "\xc3\xa9       a\\x1b[2J  x\\x0ay\n"
                              "longer            ");
    free(text);
}

/* ---- arguments ---------------------------------------------------------------------------------- */

static struct arguments seen;
static char *seen_first;

static int remember(struct arguments *arguments)
{
    seen = *arguments;
    seen_first = arguments->count ? arguments->positional[0] : NULL;
    return 0;
}

static const struct flag flags[] = {
    {"id", "ID", "an id", false}, {"again", NULL, "a switch", false}, {"module", "FILE", "many", true}, {NULL, NULL, NULL, false}};
static const struct verb verb = {
    .name = "try", .synopsis = "X", .help = "Help.", .flags = flags, .least = 1, .most = 1, .run = remember};

static int run(const char *a, const char *b, const char *c, const char *d, const char *e)
{
    char *argv[] = {(char *)"try", (char *)a, (char *)b, (char *)c, (char *)d, (char *)e, NULL};
    int argc = 0;
    while (argv[argc])
        argc++;
    seen_first = NULL;
    return arguments_run(&verb, argc, argv);
}

static void test_arguments(void **state)
{
    (void)state;
    unsetenv("PERDURE_LOG");
    assert_int_equal(run("x", "--id", "a b", "--again", "--json"), 0);
    assert_string_equal(seen_first, "x");
    assert_string_equal(arguments_get(&seen, "id"), "a b");
    assert_non_null(arguments_get(&seen, "again"));
    assert_true(seen.json);
    assert_string_equal(seen.log, "sqlite:perdure.db");
    assert_int_equal(run("--module=a", "x", "--module", "b", NULL), 0);
    assert_int_equal(seen.repeat_count, 2);
    assert_string_equal(seen.repeats[0], "a");
    assert_string_equal(seen.repeats[1], "b");
    assert_null(arguments_get(&seen, "id"));
    setenv("PERDURE_LOG", "sqlite:other.db", 1);
    assert_int_equal(run("x", NULL, NULL, NULL, NULL), 0);
    assert_string_equal(seen.log, "sqlite:other.db");
    assert_int_equal(run("x", "--log", "sqlite:third.db", NULL, NULL), 0);
    assert_string_equal(seen.log, "sqlite:third.db");
    assert_int_equal(run("--", "--id", NULL, NULL, NULL), 0);
    assert_string_equal(seen_first, "--id");
}

static void test_wrong_arguments(void **state)
{
    (void)state;
    assert_int_equal(run(NULL, NULL, NULL, NULL, NULL), 2);
    assert_int_equal(run("x", "y", NULL, NULL, NULL), 2);
    assert_int_equal(run("x", "--id", NULL, NULL, NULL), 2);
    assert_int_equal(run("x", "--id", "1", "--id", "2"), 2);
    assert_int_equal(run("x", "--nope", NULL, NULL, NULL), 2);
    assert_int_equal(run("x", "--again=1", NULL, NULL, NULL), 2);
    assert_int_equal(run("x", "-o", "f", NULL, NULL), 2);
    assert_null(seen_first);
}

/* ---- what is shown ------------------------------------------------------------------------------ */

static const struct catalog no_catalog;

static void test_event_as_json(void **state)
{
    (void)state;
    Event event = PERDURE__V1__EVENT__INIT;
    Perdure__V1__AttemptFailed failed = PERDURE__V1__ATTEMPT_FAILED__INIT;
    Error error = PERDURE__V1__ERROR__INIT, cause = PERDURE__V1__ERROR__INIT;
    Site site = PERDURE__V1__SITE__INIT;
    site.file = (char *)"shop.c";
    site.function = (char *)"checkout";
    site.line = 41;
    cause.type = (char *)"Network";
    error.type = (char *)"Bank";
    error.message = (char *)"says \"no\"";
    error.code = -1;
    error.cause = &cause;
    failed.name = (char *)"shop/charge";
    failed.attempt = 2;
    failed.started = 900;
    failed.next = 3000;
    failed.error = &error;
    event.seq = 4;
    event.t = 1000;
    event.op = 2;
    event.site = &site;
    event.kind_case = PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED;
    event.attempt_failed = &failed;
    struct buffer out = {0};
    show_event(&out, &no_catalog, "shop/checkout", "", &event);
    char *text = buffer_take(&out);
    assert_string_equal(text, "{\"seq\":4,\"time\":1000,\"type\":\"attempt_failed\",\"name\":\"shop/charge\","
                              "\"site\":{\"file\":\"shop.c\",\"line\":41,\"function\":\"checkout\"},\"op\":2,\"attempt\":2,"
                              "\"started\":900,\"error\":{\"type\":\"Bank\",\"message\":\"says \\\"no\\\"\",\"code\":-1,"
                              "\"final\":false,\"site\":null,\"cause\":{\"type\":\"Network\",\"message\":\"\",\"code\":0,"
                              "\"final\":false,\"site\":null,\"cause\":null}},\"next\":3000}");
    free(text);
    show_event_text(&out, &no_catalog, "shop/checkout", "", &event);
    text = buffer_take(&out);
    assert_string_equal(text, "attempt 2  100 ms  Bank: says \"no\"; because of Network; again after 2.0 s");
    free(text);
}

static void test_status_as_json(void **state)
{
    (void)state;
    Status status = PERDURE__V1__STATUS__INIT;
    Waiting waiting = PERDURE__V1__WAITING__INIT, *list[] = {&waiting};
    Payload input = PERDURE__V1__PAYLOAD__INIT;
    status.id = (char *)"j";
    status.type = (char *)"a/b";
    status.state = (char *)"waiting";
    status.run = 255;
    status.created = 1;
    status.updated = 2;
    status.events = 3;
    status.input = &input;
    input.type = (char *)"text";
    input.data.data = (uint8_t *)"hi";
    input.data.len = 2;
    waiting.kind = (char *)"signal";
    waiting.name = (char *)"approved";
    waiting.since = 5;
    status.waiting = list;
    status.n_waiting = 1;
    struct buffer out = {0};
    show_status(&out, &no_catalog, &status);
    char *text = buffer_take(&out);
    assert_string_equal(text, "{\"id\":\"j\",\"type\":\"a/b\",\"state\":\"waiting\",\"run\":\"00000000000000ff\",\"created\":1,"
                              "\"updated\":2,\"events\":3,\"worker\":\"\",\"build\":\"\",\"input\":\"hi\",\"waiting\":["
                              "{\"kind\":\"signal\",\"name\":\"approved\",\"since\":5,\"until\":null,\"attempt\":0,"
                              "\"last_error\":null,\"site\":null,\"label\":\"\",\"op\":0}]}");
    free(text);
    status.state = (char *)"completed";
    show_result(&out, &no_catalog, &status);
    text = buffer_take(&out);
    assert_string_equal(text, "{\"id\":\"j\",\"type\":\"a/b\",\"state\":\"completed\",\"result\":null}");
    free(text);
    status.state = (char *)"terminated";
    show_result(&out, &no_catalog, &status);
    text = buffer_take(&out);
    assert_string_equal(text, "{\"id\":\"j\",\"type\":\"a/b\",\"state\":\"terminated\",\"error\":null}");
    free(text);
}

/* ---- types -------------------------------------------------------------------------------------- */

static Callable callables[4];
static Callable *callable_lists[3][2];
static Registration modules[3];
static Registration *module_list[] = {&modules[0], &modules[1], &modules[2]};

/* Two builds of `shop`, the newer first, and `files`, which has a job of the same name. */
static struct catalog two_modules(void)
{
    static const char *const names[] = {"checkout", "refund", "checkout", "manifest"};
    for (int i = 0; i < 4; i++) {
        perdure__v1__callable__init(&callables[i]);
        callables[i].name = (char *)names[i];
        callables[i].kind = (char *)"job";
    }
    for (int i = 0; i < 3; i++)
        perdure__v1__registration__init(&modules[i]);
    modules[0].module = (char *)"files";
    modules[1].module = modules[2].module = (char *)"shop";
    modules[1].build = (char *)"new";
    modules[2].build = (char *)"old";
    callable_lists[0][0] = &callables[2];
    callable_lists[0][1] = &callables[3];
    callable_lists[1][0] = &callables[0];
    callable_lists[1][1] = &callables[1];
    callable_lists[2][0] = &callables[0];
    for (int i = 0; i < 3; i++) {
        modules[i].callables = callable_lists[i];
        modules[i].n_callables = i == 2 ? 1 : 2;
    }
    return (struct catalog){{3, module_list}};
}

static void test_types(void **state)
{
    (void)state;
    struct catalog catalog = two_modules();
    struct catalog_job job;
    char error[300];
    assert_true(catalog_job(&catalog, "shop/checkout", &job, error, sizeof error));
    assert_string_equal(job.registration->build, "new");
    assert_true(catalog_job(&catalog, "refund", &job, error, sizeof error));
    assert_string_equal(job.type, "shop/refund");
    assert_false(catalog_job(&catalog, "checkout", &job, error, sizeof error));
    assert_string_equal(error, "\"checkout\" is in several modules: write files/checkout or shop/checkout");
    assert_false(catalog_job(&catalog, "sho/checkout", &job, error, sizeof error));
    assert_string_equal(error, "there is no job type \"sho/checkout\"; known: files/checkout, files/manifest, "
                               "shop/checkout, shop/refund");
    struct catalog none = {0};
    assert_false(catalog_job(&none, "x", &job, error, sizeof error));
    assert_string_equal(error, "there is no job type \"x\"; known: none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations),       cmocka_unit_test(test_times_for_people), cmocka_unit_test(test_table),
        cmocka_unit_test(test_arguments),       cmocka_unit_test(test_wrong_arguments),  cmocka_unit_test(test_event_as_json),
        cmocka_unit_test(test_status_as_json),  cmocka_unit_test(test_types),
    };
    return cmocka_run_group_tests_name("command", tests, NULL, NULL);
}
