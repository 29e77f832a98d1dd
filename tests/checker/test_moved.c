/* The checker on a namespace that has grown: nothing is wrong with a good one, and what is wrong in a bad one is found under
 * its rule, where it stands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "log_maker.h"
#include "moved.h"

static char path[] = "/tmp/test_moved.XXXXXX";

typedef struct moved_place write_fn(FILE *out, enum moved_fault fault);

/* The report as JSON. */
static json_t *verify(write_fn *write, enum moved_fault fault, struct moved_place *place, const char *acked,
                      const char *ledger)
{
    FILE *dump = fopen(path, "w");
    assert_non_null(dump);
    struct moved_place bad = write(dump, fault);
    if (place)
        *place = bad;
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    struct check c;
    struct report *report = pv_report_new(true, out);
    pv_check_start(&c, report);
    assert_true(!acked || pv_lists_acked(&c, acked));
    assert_true(!ledger || pv_lists_ledger(&c, ledger));
    assert_true(pv_read_file(&c, path));
    pv_check_finish(&c);
    pv_report_end(&c, "dump", true);
    pv_report_free(report);
    pv_check_free(&c);
    fclose(out);
    json_t *all = json_loads(text, 0, NULL);
    assert_non_null(all);
    free(text);
    return all;
}

static void assert_sound(const json_t *all)
{
    if (!json_is_true(json_object_get(all, "ok")))
        json_dumpf(json_object_get(all, "violations"), stderr, JSON_INDENT(2));
    assert_true(json_is_true(json_object_get(all, "ok")));
}

static int64_t growth(const json_t *all, const char *field)
{
    const json_t *growths = json_object_get(all, "growths");
    assert_int_equal(json_array_size(growths), 1);
    const json_t *value = json_object_get(json_array_get(growths, 0), field);
    return json_is_boolean(value) ? json_is_true(value) : json_integer_value(value);
}

static void test_good(void **state)
{
    (void)state;
    json_t *all = verify(moved_write, MOVED_GOOD, NULL, NULL, NULL);
    assert_sound(all);
    assert_int_equal(growth(all, "map_version"), 2);
    assert_int_equal(growth(all, "settled"), 1);
    assert_int_equal(growth(all, "moves_in"), 2);
    assert_int_equal(growth(all, "open_moved"), 2);
    assert_int_equal(growth(all, "closed_moved"), 2);
    assert_int_equal(json_integer_value(json_object_get(all, "unchecked_count")), 0);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(all, "inbox"), "forwarded")), 3);
    json_decref(all);
    all = verify(moved_write, COPIED_TWICE, NULL, NULL, NULL);
    assert_sound(all);
    json_decref(all);
}

/* Slots that have left and are nowhere yet are no violation, and are told. */
static void test_half_done(void **state)
{
    (void)state;
    json_t *all = verify(moved_write, HALF_DONE, NULL, NULL, NULL);
    assert_sound(all);
    assert_int_equal(growth(all, "settled"), 0);
    assert_int_equal(growth(all, "handed_over"), 2);
    assert_int_equal(growth(all, "moves_in"), 0);
    json_decref(all);
}

/* What its source has cut away since cannot be compared: said, and no violation. What is left can. */
static void test_source_cut(void **state)
{
    (void)state;
    struct moved_place place;
    json_t *all = verify(moved_cut, MOVED_GOOD, &place, NULL, NULL);
    assert_sound(all);
    assert_true(json_integer_value(json_object_get(all, "unchecked_count")) > 0);
    const json_t *first = json_array_get(json_object_get(all, "unchecked"), 0);
    assert_int_equal(json_integer_value(json_object_get(first, "partition")), 2);
    assert_non_null(strstr(json_string_value(json_object_get(first, "text")), "compared with nothing"));
    json_decref(all);
    all = verify(moved_cut, COPIED_TWICE, NULL, NULL, NULL);
    assert_sound(all);
    json_decref(all);
}

/* Where slots came from their runs are known to the SlotOut, and what they did then lies below the cut of where they are. */
static void test_target_cut(void **state)
{
    (void)state;
    json_t *all = verify(moved_target_cut, MOVED_GOOD, NULL, NULL, NULL);
    assert_sound(all);
    json_decref(all);
}

static const struct {
    enum moved_fault fault;
    const char *name;
    int rule;
    const char *text;
} cases[] = {
    {MAP_SKIPS, "map skips", 24, "does not follow map 1"},
    {MAP_OTHER, "another map", 24, "partitions here, and"},
    {MAP_HEADER, "map of a header", 24, "map 2, its partition's journal has made none above 1"},
    {CLAIM_AHEAD, "claim ahead", 24, "it names map 2, its partition's journal has made none above 1"},
    {SETTLED_EARLY, "settled early", 25, "it says that the moves of map 2 are over"},
    {GROWS_AGAIN, "grows again", 25, "it grows again before"},
    {READER_OLD, "min_reader", 32, "may read that slots move"},
    {OUT_TWICE, "SlotOut twice", 25, "a second SlotOut of map 2"},
    {OUT_AFTER_OUT, "counts after SlotOut", 25, "its slot left for partition 2"},
    {SHARE_WRONG, "share", 25, "its share for partition 2"},
    {SHARE_MISSING, "no share", 25, "it has no share for partition 2"},
    {OUTPUT_LEFT, "output left behind", 25, "before its output to"},
    {COPY_DIFFERS, "copy differs", 18, "a copy of what never counted"},
    {COPY_SHORT, "copy too short", 18, "a whole copy ends at seq 3, its run at 4"},
    {COPY_PLACE, "copy's original", 18, "where it did not"},
    {COPY_ALIEN, "copy of nothing", 18, "a copy of a run that never was"},
    {COPY_MISSING, "no copy", 25, "it left partition 0 open, and is not here"},
    {CLOSED_MISSING, "no copy of a closed run", 20, "it left partition 0 closed"},
    {STUB_OTHER, "stub", 20, "a stub that tells of another end"},
    {IN_EARLY, "SlotIn before a copy", 25, "it left partition 0 open, and is not here"},
    {IN_HASH, "hash of SlotIn", 25, "copies of 1 are here"},
    {IN_COUNT_OTHER, "SlotIn against SlotOut", 25, "it names 0 open runs, the SlotOut 1"},
    {IN_CLOSED, "closed runs of SlotIn", 25, "it names 2 closed runs, 2 are here, or their hash"},
    {IN_OFFSET, "offset in SlotIn", 25, "it answers a SlotOut at"},
    {IN_TWICE, "SlotIn twice", 25, "a second SlotIn"},
    {IN_WITHOUT_OUT, "SlotIn alone", 25, "no SlotOut of map 2 counts in partition 0"},
    {COUNTS_BEFORE_IN, "counts before SlotIn", 25, "it stands before the SlotIn"},
    {IN_POS_BEFORE_IN, "in_pos before SlotIn", 25, "before the slots of its partition were in"},
    {FORWARD_LOST, "signal lost", 25, "lost"},
    {START_LOST, "start lost", 25, "lost"},
    {LATE_LOST, "late signal lost", 25, "lost"},
    {FORWARD_CHANGED, "forwarded otherwise", 25, "another content or born"},
    {SIGNAL_BOTH, "signal in both", 13, "request 'g1' is absorbed twice in one run"},
    {START_BOTH, "start in both", 2, "nothing follows a terminal event"},
    {ARRIVED_EARLY, "arrived early", 25, "partition 2 has no SlotIn of them"},
    {TOLD_FALSE, "told of no SlotOut", 8, "are to be taken: no such record counts"},
    {TOLD_IN_FALSE, "told of no SlotIn", 8, "have arrived: no such record counts"},
    {CUT_EARLY, "cut early", 25, "a cut before the slots that left have arrived"},
    {CUT_UNTOLD, "cut untold", 19, "nothing tells of map 2"},
    {ORPHAN_MOVED, "orphan", 8, "a child without its parent's request"},
    {CHILD_STATE_MOVED, "child's state", 8, "by its own history it is completed"},
    {RESULT_LOST, "result lost", 10, "no inbox has it"},
};

static bool is_told(const json_t *all, int rule, const char *text, const struct moved_place *place)
{
    const json_t *v;
    size_t i;
    json_array_foreach(json_object_get(all, "violations"), i, v)
    {
        const char *job = json_string_value(json_object_get(v, "job"));
        bool journal = !strcmp(json_string_value(json_object_get(v, "stream")), "journal");
        if (json_integer_value(json_object_get(v, "rule")) == rule &&
            strstr(json_string_value(json_object_get(v, "text")), text) && journal == (place->stream == JOURNAL) &&
            json_integer_value(json_object_get(v, "partition")) == place->partition &&
            json_integer_value(json_object_get(v, "offset")) == place->offset && !strcmp(job ? job : "", place->job))
            return true;
    }
    return false;
}

static bool found(write_fn *write, enum moved_fault fault, const char *name, int rule, const char *text)
{
    struct moved_place place;
    json_t *all = verify(write, fault, &place, NULL, NULL);
    bool told = is_told(all, rule, text, &place);
    if (!told) {
        print_error("%s: not told as rule %d, '%s', %s %u at %d, job '%s', but as:\n", name, rule, text,
                    place.stream ? "inbox" : "journal", place.partition, (int)place.offset, place.job);
        json_dumpf(json_object_get(all, "violations"), stderr, JSON_INDENT(2));
    }
    if (getenv("TEST_VERIFY_SHOW"))
        print_message("%s: %zu told\n", name, json_array_size(json_object_get(all, "violations")));
    json_decref(all);
    return told;
}

static void test_bad(void **state)
{
    (void)state;
    int missed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        missed += !found(moved_write, cases[i].fault, cases[i].name, cases[i].rule, cases[i].text);
    missed += !found(moved_cut, CUT_HASH, "hash of SlotIn, source cut", 25, "copies of 1 are here");
    missed += !found(moved_cut, IN_CLOSED, "closed runs, source cut", 25, "it names 2 closed runs");
    missed += !found(moved_cut, SIGNAL_BOTH, "signal in both, source cut", 13, "is absorbed twice in one run");
    assert_int_equal(missed, 0);
}

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Acknowledged commands and effects are found on whichever side of the move. */
static void test_lists(void **state)
{
    (void)state;
    char acked[512], ledger[512], names[2][64];
    snprintf(names[0], sizeof names[0], "%s.acked", path);
    snprintf(names[1], sizeof names[1], "%s.ledger", path);
    moved_lists(acked, ledger, sizeof acked);
    write_text(names[0], acked);
    write_text(names[1], ledger);
    json_t *all = verify(moved_write, MOVED_GOOD, NULL, names[0], names[1]);
    assert_sound(all);
    json_decref(all);
    struct moved_place place = {.stream = INBOX, .partition = 2, .offset = -1};
    sscanf(strstr(acked, "signal g2 "), "signal g2 %31s", place.job);
    all = verify(moved_write, FORWARD_LOST, NULL, names[0], NULL);
    assert_true(is_told(all, 13, "the signal 'g2' was acknowledged, and is absorbed 0 times", &place));
    json_decref(all);
    *strchr(ledger, '\n') = '\0'; /* without the effect after the move */
    write_text(names[1], ledger);
    all = verify(moved_write, MOVED_GOOD, NULL, NULL, names[1]);
    assert_int_equal(json_integer_value(json_object_get(all, "violation_count")), 1);
    json_decref(all);
    unlink(names[0]);
    unlink(names[1]);
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good), cmocka_unit_test(test_half_done), cmocka_unit_test(test_source_cut),
        cmocka_unit_test(test_target_cut),
        cmocka_unit_test(test_bad),  cmocka_unit_test(test_lists),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
