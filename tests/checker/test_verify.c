/* The checker finds nothing in a good log, and in a bad one what is bad, under the right rule. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <sqlite3.h>

#include "log_maker.h"
#include "story.h"

static char folder[] = "/tmp/test_verify.XXXXXX";

static char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* The report as JSON. */
static json_t *verify(enum fault fault, const char *acked, const char *ledger)
{
    FILE *dump = fopen(path_of("dump"), "w");
    assert_non_null(dump);
    story_write(dump, fault);
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    struct check c;
    struct report *report = pv_report_new(true, out);
    pv_check_start(&c, report);
    if (acked) {
        write_text("acked", acked);
        assert_true(pv_lists_acked(&c, path_of("acked")));
    }
    if (ledger) {
        write_text("ledger", ledger);
        assert_true(pv_lists_ledger(&c, path_of("ledger")));
    }
    assert_true(pv_read_file(&c, path_of("dump")));
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

static int64_t number(const json_t *all, const char *object, const char *field)
{
    return json_integer_value(json_object_get(json_object_get(all, object), field));
}

static void assert_sound(const json_t *all)
{
    if (!json_is_true(json_object_get(all, "ok")))
        json_dumpf(json_object_get(all, "violations"), stderr, JSON_INDENT(2));
    assert_true(json_is_true(json_object_get(all, "ok")));
}

static void test_good(void **state)
{
    (void)state;
    json_t *all = verify(GOOD, NULL, NULL);
    assert_sound(all);
    assert_int_equal(json_integer_value(json_object_get(all, "partitions")), 2);
    assert_int_equal(number(all, "journal", "fenced"), 1);
    assert_int_equal(number(all, "journal", "duplicates"), 1);
    assert_int_equal(number(all, "journal", "rejected"), 0);
    assert_int_equal(number(all, "runs", "completed"), 2);
    assert_int_equal(number(all, "inbox", "waiting"), 1);
    assert_int_equal(number(all, "inbox", "expired"), 1);
    assert_int_equal(number(all, "inbox", "refused"), 1);
    assert_int_equal(number(all, "inbox", "unreadable"), 1);
    assert_int_equal(number(all, "inbox", "absorbed"), 7);
    assert_int_equal(json_array_size(json_object_get(all, "jobs")), 2);
    json_decref(all);
}

/* What looks bad and has its reason. */
static void test_outside(void **state)
{
    (void)state;
    json_t *all = verify(STEP_OUTSIDE, NULL, NULL);
    assert_sound(all);
    assert_int_equal(number(all, "inbox", "absorbed"), 8);
    json_decref(all);
}

static void test_explained(void **state)
{
    (void)state;
    json_t *all = verify(APPEND_LOST, NULL, NULL);
    assert_sound(all);
    assert_int_equal(number(all, "journal", "rejected"), 1);
    json_decref(all);
    all = verify(SECOND_RUN, NULL, NULL);
    assert_sound(all);
    assert_int_equal(number(all, "runs", "open"), 1);
    json_decref(all);
}

static const struct {
    enum fault fault;
    const char *name;
    int rule;
    const char *text;
} cases[] = {
    {DIGEST_WRONG, "digest", 33, "digest is not that of the stored events"},
    {SEQ_GAP, "seq", 2, "seq is not the next"},
    {COUNT_WRONG, "count", 33, "the header counts 3 events, there are 2"},
    {SLOT_WRONG, "slot", 24, "slot"},
    {LOG_WRONG, "log id", 1, "of another log"},
    {KIND_UNKNOWN, "kind", 32, "record kind 77"},
    {LEVEL_HIGH, "rule level", 32, "above what this checker knows"},
    {TIME_BACK, "time", 30, "t goes back"},
    {HEADER_TIME, "time of the header", 33, "is not that of its last event"},
    {SUM_WRONG, "checksum", 33, "CRC32C"},
    {INPUT_UNNAMED, "input not named", 13, "which the header's inputs do not name"},
    {PARTITION_WRONG, "partition", 24, "the job belongs to partition 1"},
    {OUT_POS_BACK, "out_pos", 10, "goes back"},
    {RUN_ID_WRONG, "run id", 6, "the run id is not made of"},
    {TIMER_EARLY, "timer early", 30, "the timer fired at"},
    {TIMER_TWICE, "timer twice", 30, "twice"},
    {STEP_TWICE, "step twice", 0, "has been completed before"},
    {ATTEMPT_BACK, "attempt", 0, "attempt 2 comes after attempt 2"},
    {STEP_CHANGED, "step changed", 0, "another name or input"},
    {TWO_ENDS, "two ends", 2, "after the terminal event"},
    {AFTER_END, "after the end", 2, "nothing follows a terminal event"},
    {ORPHAN, "orphan", 8, "a child without its parent's request"},
    {CHILD_STATE, "child's state", 8, "by its own history it is completed"},
    {SIGNAL_UNSENT, "signal unsent", 8, "1 signals from job"},
    {ABSORBED_TWICE, "input twice", 13, "is absorbed twice, first at"},
    {REQUEST_TWICE, "request twice", 13, "request 'g1' is absorbed twice"},
    {REQUEST_OTHER, "another request", 13, "under another request id"},
    {SIGNAL_SKIPPED, "signal skipped", 13, "passed this input to an open run"},
    {CANCEL_SKIPPED, "cancel skipped", 13, "passed this input to an open run"},
    {RESULT_SKIPPED, "result skipped", 13, "passed this input to an open run"},
    {LIVE_WRONG, "live hash", 9, "live hash"},
    {GENESIS_DIFFERS, "genesis", 24, "partitions here, and"},
    {GENESIS_MISSING, "no genesis", 1, "begins with neither"},
    {SECOND_VALUE, "second value", 5, "a second value"},
    {OUTPUT_UNSENT, "output unsent", 10, "no inbox has it"},
    {REFUSAL_UNSENT, "refusal unsent", 10, "no inbox has it"},
    {REFUSED_ABSORBED, "refused, absorbed", 15, "the refused command was absorbed"},
    {DEAD_ABSORBED, "dead absorbed", 14, "outlived its life"},
    {AHEAD_ABSORBED, "ahead absorbed", 14, "more than 60 s after"},
    {ENDING_LACKS, "ending", 20, "the ending lacks"},
    {EVENT_UNKNOWN, "unknown event", 32, "of an unknown kind"},
    {SEND_UNANSWERED, "no answer", 15, "neither absorbed nor refused"},
    {SENDER_UNKNOWN, "sender", 8, "no such record counts"},
    {REFUSAL_UNKNOWN, "refusal", 8, "a refusal that no Mark holds"},
    {MARK_NOT_FIRST, "mark", 9, "the first record of an epoch is not a Mark"},
    {LARGEST_WRONG, "largest_t", 9, "largest_t"},
    {OTHER_RUN_TAKES, "other run", 14, "it names another run"},
    {IN_POS_BACK, "in_pos back", 13, "in_pos goes back"},
    {IN_POS_AHEAD, "in_pos ahead", 13, "in_pos had reached"},
    {OP_MISSING, "op", 0, "names none"},
    {RUN_BESIDE, "run beside", 2, "the job's current run is another one, and open"},
    {RUN_AGAIN, "run again", 2, "the run has ended"},
    {FIRST_HINT, "first", 23, "its run begins at 1000"},
    {INPUT_INVENTED, "invented input", 12, "which the inbox does not have"},
    {COMMAND_OTHER, "another command", 12, "absorbed something else"},
    {PARTITIONS_ZERO, "no partitions", 24, "is no power of two: 0"},
    {ERROR_DEEP, "deep error", 32, "cannot be read"},
};

static bool is_told(const json_t *all, int rule, const char *text)
{
    const json_t *violation;
    size_t i;
    json_array_foreach(json_object_get(all, "violations"), i, violation)
    {
        if (json_integer_value(json_object_get(violation, "rule")) == rule &&
            strstr(json_string_value(json_object_get(violation, "text")), text))
            return true;
    }
    return false;
}

static void test_bad(void **state)
{
    (void)state;
    int missed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *all = verify(cases[i].fault, NULL, NULL);
        if (!is_told(all, cases[i].rule, cases[i].text)) {
            missed++;
            print_error("%s: not told as rule %d, '%s', but as:\n", cases[i].name, cases[i].rule, cases[i].text);
            json_dumpf(json_object_get(all, "violations"), stderr, JSON_INDENT(2));
        }
        if (getenv("TEST_VERIFY_SHOW"))
            print_message("%s: %zu told\n", cases[i].name, json_array_size(json_object_get(all, "violations")));
        json_decref(all);
    }
    assert_int_equal(missed, 0);
}

/* docs/format.md, "Test vectors" */
static void test_vectors(void **state)
{
    (void)state;
    static const uint8_t after_first[DIGEST] = {0x71, 0xb0, 0x18, 0x73, 0x48, 0xe8, 0x4b, 0x03,
                                                0xb0, 0xfd, 0x29, 0x95, 0x7a, 0x47, 0x26, 0x8c};
    uint8_t digest[DIGEST];
    pv_digest_first(0x0123456789abcdef, digest);
    assert_int_equal(digest[0], 0xef);
    pv_digest_next(digest, (const uint8_t *)"first", 5);
    assert_memory_equal(digest, after_first, DIGEST);
    assert_true(pv_digest_run(MAKER_LOG, "order-17", "req-1") == UINT64_C(0xc1008267bea057d2));
    unsigned __int128 live = pv_digest_live("order-17", 0x0123456789abcdef, 3, digest);
    pv_digest_next(digest, (const uint8_t *)"", 0);
    live += pv_digest_live("b", 2, 1, digest);
    static const uint8_t sum[DIGEST] = {0xeb, 0x34, 0xd7, 0xf3, 0x9a, 0x7d, 0xf9, 0x5a,
                                        0x99, 0x00, 0x07, 0x8f, 0xba, 0xb8, 0x9c, 0x0f};
    for (int i = 0; i < DIGEST; i++)
        assert_int_equal((uint8_t)(live >> (8 * i)), sum[i]);
    assert_int_equal(pv_digest_slot("foobar"), ((uint32_t)-790332482 & 0x7fffffff) % SLOTS);
}

static bool told_text(const char *acked, const char *ledger, int rule, const char *text)
{
    json_t *all = verify(GOOD, acked, ledger);
    bool told = text ? is_told(all, rule, text) : json_is_true(json_object_get(all, "ok"));
    json_decref(all);
    return told;
}

static void test_lists(void **state)
{
    (void)state;
    char parent[32], line[256];
    maker_job(parent, sizeof parent, "parent", 0);
    uint64_t run = pv_digest_run(MAKER_LOG, parent, "s-p");
    snprintf(line, sizeof line, "start s-p %s\nsignal g1 %s\n", parent, parent);
    assert_true(told_text(line, NULL, 0, NULL));
    snprintf(line, sizeof line, "start s-p %s\nsignal lost %s\n", parent, parent);
    assert_true(told_text(line, NULL, 13, "'lost' was acknowledged, and is absorbed 0 times"));
    snprintf(line, sizeof line, "%016" PRIx64 "-2 test/step\n%016" PRIx64 "-9 test/step\n", run, run);
    assert_true(told_text(NULL, line, 0, NULL));
    assert_true(told_text(NULL, "0000000000000001-2 test/step\n", 0, "that the ledger lacks"));
}

/* No bit of a journal may flip unseen. */
static void test_flipped(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size;
    story_write(open_memstream(&text, &size), GOOD);
    int unseen = 0;
    for (size_t at = 0; at < size;) {
        uint32_t bytes;
        memcpy(&bytes, text + at + 21, 4);
        for (size_t i = at + 25; text[at] == JOURNAL && i < at + 25 + bytes; i += 3) {
            record_pb *record;
            text[i] ^= 4;
            if (pv_frame_open((uint8_t *)text + at + 25, bytes, &record) == FRAME_GOOD) {
                unseen++;
                perdure__v1__record__free_unpacked(record, NULL);
            }
            text[i] ^= 4;
        }
        at += 25 + bytes;
    }
    free(text);
    assert_int_equal(unseen, 0);
}

/* The exit code of the program itself; -1: it is not built. */
static int run_program(const char *argument)
{
    const char *build = getenv("PERDURE_BUILD");
    char command[512];
    snprintf(command, sizeof command, "%s/perdure-verify", build ? build : ".");
    if (access(command, X_OK) != 0)
        return -1;
    snprintf(command, sizeof command, "%s/perdure-verify %s >%s/out 2>&1", build ? build : ".", argument, folder);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
}

static void copy_rows(sqlite3 *db, const char *text, size_t size)
{
    sqlite3_stmt *rows[2];
    int64_t offset = 0;
    assert_int_equal(sqlite3_exec(db,
                                  "CREATE TABLE journal(offset INTEGER PRIMARY KEY, partition INTEGER NOT NULL,"
                                  " append_ms INTEGER NOT NULL, record BLOB NOT NULL);"
                                  "CREATE TABLE inbox(offset INTEGER PRIMARY KEY, partition INTEGER NOT NULL,"
                                  " append_ms INTEGER NOT NULL, record BLOB NOT NULL);",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_prepare_v2(db, "INSERT INTO journal VALUES(?, ?, ?, ?)", -1, &rows[0], NULL);
    sqlite3_prepare_v2(db, "INSERT INTO inbox VALUES(?, ?, ?, ?)", -1, &rows[1], NULL);
    for (size_t at = 0; at < size;) {
        uint32_t bytes, partition;
        int64_t when;
        memcpy(&partition, text + at + 1, 4);
        memcpy(&offset, text + at + 5, 8);
        memcpy(&when, text + at + 13, 8);
        memcpy(&bytes, text + at + 21, 4);
        if (partition == 1) { /* alone it has offsets of its own, as a file of one partition has */
            sqlite3_stmt *row = rows[(unsigned char)text[at]];
            sqlite3_bind_int64(row, 1, offset);
            sqlite3_bind_int64(row, 2, partition);
            sqlite3_bind_int64(row, 3, when);
            sqlite3_bind_blob(row, 4, text + at + 25, (int)bytes, SQLITE_TRANSIENT);
            assert_int_equal(sqlite3_step(row), SQLITE_DONE);
            sqlite3_reset(row);
        }
        at += 25 + bytes;
    }
    sqlite3_finalize(rows[0]);
    sqlite3_finalize(rows[1]);
}

static void make_database(enum fault fault)
{
    char *text = NULL;
    size_t size;
    sqlite3 *db;
    story_write(open_memstream(&text, &size), fault);
    assert_int_equal(sqlite3_open(path_of("log.db"), &db), SQLITE_OK);
    copy_rows(db, text, size);
    sqlite3_close(db);
    free(text);
}

static void test_program(void **state)
{
    (void)state;
    char argument[256];
    json_decref(verify(GOOD, NULL, NULL));
    snprintf(argument, sizeof argument, "%s/dump", folder);
    int code = run_program(argument);
    if (code == -1)
        skip();
    assert_int_equal(code, 0);
    json_decref(verify(TIMER_TWICE, NULL, NULL));
    snprintf(argument, sizeof argument, "--jobs --log dump:%s/dump", folder);
    assert_int_equal(run_program(argument), 1);
    assert_int_equal(run_program("--nonsense"), 2);
    assert_int_equal(run_program("/dev/null"), 5); /* nothing is not sound */
    assert_int_equal(run_program("--acked /nowhere/at/all /dev/null"), 2);
    assert_int_equal(run_program("sqlite:/nowhere/at/all.db"), 3);
    assert_int_equal(truncate(path_of("dump"), 500), 0);
    snprintf(argument, sizeof argument, "%s/dump", folder);
    assert_int_equal(run_program(argument), 5);
}

static void test_database(void **state)
{
    (void)state;
    char argument[256];
    make_database(GOOD);
    snprintf(argument, sizeof argument, "--log sqlite:%s/log.db", folder);
    int code = run_program(argument);
    if (code == -1)
        skip();
    /* partition 0 is missing in it: the check says what its absence leaves open, and no more than that */
    assert_true(code == 0 || code == 1);
    snprintf(argument, sizeof argument, "%s/log.db.lock", folder);
    int fd = open(argument, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    snprintf(argument, sizeof argument, "%s/log.db", folder);
    assert_int_equal(run_program(argument), 5); /* rule 27: a worker has it open */
    close(fd);
    assert_int_equal(run_program(argument), code);
}

/* The dump's records in topics of librdkafka's own test cluster. */
static void fill_topics(rd_kafka_t *kafka, const char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        uint32_t bytes, partition;
        memcpy(&partition, text + at + 1, 4);
        memcpy(&bytes, text + at + 21, 4);
        const char *topic = text[at] ? "test.inbox" : "test.journal";
        rd_kafka_resp_err_t error =
            rd_kafka_producev(kafka, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION((int32_t)partition),
                              RD_KAFKA_V_VALUE((void *)(uintptr_t)(text + at + 25), bytes),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        assert_int_equal(error, 0);
        at += 25 + bytes;
    }
    assert_int_equal(rd_kafka_flush(kafka, 20000), 0);
}

static uint64_t verify_topics(enum fault fault, bool spool, uint64_t *counted)
{
    char *text = NULL, place[256], error[256];
    size_t size;
    story_write(open_memstream(&text, &size), fault);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "test.mock.num.brokers", "1", error, sizeof error);
    rd_kafka_conf_set(conf, "log_level", "0", error, sizeof error);
    rd_kafka_t *kafka = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    assert_non_null(kafka);
    rd_kafka_mock_cluster_t *cluster = rd_kafka_handle_mock_cluster(kafka);
    rd_kafka_mock_topic_create(cluster, "test.journal", 2, 1);
    rd_kafka_mock_topic_create(cluster, "test.inbox", 2, 1);
    fill_topics(kafka, text, size);
    FILE *out = fopen("/dev/null", "w");
    struct check c;
    struct report *report = pv_report_new(true, out);
    pv_check_start(&c, report);
    snprintf(place, sizeof place, "%s/test", rd_kafka_mock_cluster_bootstraps(cluster));
    assert_int_equal(pv_read_kafka(&c, place, spool), READ_ALL);
    pv_check_finish(&c);
    uint64_t violations = c.totals.violations;
    *counted = c.totals.verdicts[COUNTED];
    pv_report_free(report);
    pv_check_free(&c);
    fclose(out);
    rd_kafka_destroy(kafka);
    free(text);
    return violations;
}

static void test_topics(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* librdkafka's mock cluster, which is not built for it, crashes under ThreadSanitizer */
#endif
    uint64_t counted;
    json_t *all = verify(GOOD, NULL, NULL);
    for (int spool = 0; spool < 2; spool++) {
        assert_int_equal(verify_topics(GOOD, spool, &counted), 0);
        assert_int_equal(counted, number(all, "journal", "counted"));
        assert_true(verify_topics(TIMER_TWICE, spool, &counted) > 0);
    }
    json_decref(all);
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"dump", "acked", "ledger", "out", "log.db", "log.db.lock"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(path_of(names[i]));
    return rmdir(folder);
}

int main(void)
{
    if (!mkdtemp(folder))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_good),     cmocka_unit_test(test_outside), cmocka_unit_test(test_explained),
        cmocka_unit_test(test_bad),     cmocka_unit_test(test_lists),    cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_program), cmocka_unit_test(test_database), cmocka_unit_test(test_topics),
    };
    return cmocka_run_group_tests(tests, NULL, remove_folder);
}
