/* The client against a log that is made up here: answers lost, late, refused; appends that fail; histories judged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/internal.h"
#include "constants.h"
#include "history_file.h"

/* ---- a log that does as told ---------------------------------------------------------------------- */

struct answer { /* to the n-th append, on the next poll */
    const char *answer;
    bool final;
    Status *status;
    Error *error;
};

struct fake {
    struct log log;
    size_t appends;
    char requests[16][64];
    Record *last;
    uint64_t cookies[16];
    bool undelivered;
    enum log_delivery delivery;
    bool nowhere; /* acknowledged without a place */
    struct answer answers[16];
    size_t answered;
    Status *status; /* what get_status gives */
    struct {
        void *data;
        size_t size;
    } journal[16];
    size_t journal_count;
    bool following;
    bool fatal;
};

static struct fake fake;

static int fake_append(struct log *log, enum log_stream stream, uint32_t partition, const struct log_message *message,
                       uint64_t cookie)
{
    (void)log;
    assert_int_equal(stream, LOG_INBOX);
    assert_int_equal(partition, 0);
    record_free(fake.last);
    fake.last = NULL;
    assert_int_equal(record_decode(message->data, message->size, &fake.last), WIRE_OK);
    snprintf(fake.requests[fake.appends], sizeof *fake.requests, "%s", fake.last->command->request);
    fake.cookies[fake.appends++] = cookie;
    fake.undelivered = true;
    return LOG_OK;
}

static int fake_flush(struct log *log)
{
    (void)log;
    return LOG_OK;
}

static void fake_answer(const struct answer *answer, uint64_t cookie)
{
    Reply reply = PERDURE__V1__REPLY__INIT;
    reply.client = fake.last->command->reply_to->client;
    reply.correlation = cookie;
    reply.answer = (char *)answer->answer;
    reply.final = answer->final;
    reply.status = answer->status;
    reply.error = answer->error;
    fake.log.handler.reply(fake.log.handler.context, &reply);
}

static int fake_poll(struct log *log, int timeout_ms)
{
    (void)timeout_ms; /* no waiting: time goes by itself */
    struct log_handler *handler = &log->handler;
    if (fake.fatal)
        handler->fault(handler->context, LOG_FATAL, LOG_ALL, "the disk is full");
    if (fake.undelivered) {
        fake.undelivered = false;
        handler->delivered(handler->context, fake.cookies[fake.appends - 1], fake.delivery, fake.nowhere ? -1 : 7);
    }
    for (; fake.answered < fake.appends; fake.answered++)
        if (fake.answers[fake.answered].answer)
            fake_answer(&fake.answers[fake.answered], fake.cookies[fake.answered]);
    if (fake.following) {
        for (size_t i = 0; i < fake.journal_count; i++) {
            struct log_record record = {LOG_JOURNAL, 0, (int64_t)i, 100, -1, fake.journal[i].data, fake.journal[i].size};
            handler->record(handler->context, &record);
        }
        fake.following = false;
        handler->end(handler->context, LOG_JOURNAL, 0, (int64_t)fake.journal_count);
    }
    return 0;
}

static int fake_follow(struct log *log, enum log_stream stream, uint32_t partition, int64_t from)
{
    (void)log, (void)partition, (void)from;
    fake.following = stream == LOG_JOURNAL;
    return LOG_OK;
}

static int fake_unfollow(struct log *log, enum log_stream stream, uint32_t partition)
{
    (void)log, (void)stream, (void)partition;
    return LOG_OK;
}

static int fake_bounds(struct log *log, enum log_stream stream, uint32_t partition, int64_t *start, int64_t *end)
{
    (void)log, (void)partition;
    *start = 0;
    *end = stream == LOG_JOURNAL ? (int64_t)fake.journal_count : 0;
    return LOG_OK;
}

static int fake_get_status(struct log *log, const char *key, void **data, size_t *size)
{
    (void)log;
    if (!fake.status || strcmp(key, fake.status->id) != 0)
        return LOG_NOT_FOUND;
    *size = perdure__v1__status__get_packed_size(fake.status);
    *data = malloc(*size);
    perdure__v1__status__pack(fake.status, *data);
    return LOG_OK;
}

static int fake_reply_address(struct log *log, ReplyTo *to)
{
    (void)log;
    to->client = 99;
    to->partition = 3;
    return LOG_OK;
}

static void fake_close(struct log *log)
{
    (void)log;
    record_free(fake.last);
    for (size_t i = 0; i < fake.journal_count; i++)
        free(fake.journal[i].data);
}

static const struct log_operations fake_operations = {
    .reply_address = fake_reply_address,
    .append = fake_append,         .flush = fake_flush,   .poll = fake_poll,   .follow = fake_follow,
    .unfollow = fake_unfollow,     .bounds = fake_bounds, .close = fake_close, .get_status = fake_get_status,
};

static struct client *begin(void)
{
    struct client *client;
    memset(&fake, 0, sizeof fake);
    fake.log.operations = &fake_operations;
    perdure__v1__genesis__init(&fake.log.genesis);
    fake.log.genesis.log_id = 0x1234567890;
    fake.log.genesis.partitions = 1;
    fake.log.genesis.map_version = 1;
    fake.log.genesis.format = 1;
    fake.log.genesis.rule_level = 1;
    assert_int_equal(client_use(&fake.log, &client), EXIT_OK);
    return client;
}

static struct question *ask_to_cancel(struct client *client, const char *job)
{
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Cancel cancel = PERDURE__V1__CANCEL__INIT;
    command.kind_case = PERDURE__V1__COMMAND__KIND_CANCEL;
    command.cancel = &cancel;
    return client_ask(client, job, &command);
}

/* ---- questions ------------------------------------------------------------------------------------ */

static void test_answered(void **state)
{
    (void)state;
    struct client *client = begin();
    fake.answers[0] = (struct answer){.answer = "accepted", .final = true};
    struct question *question = ask_to_cancel(client, "job-1");
    assert_non_null(question);
    assert_int_equal(client_wait(client, question, 1000, 1000), CLIENT_ANSWERED);
    assert_string_equal(question->answer->answer, "accepted");
    const Header *header = fake.last->header;
    assert_int_equal(header->kind, PERDURE__V1__KIND__KIND_COMMAND);
    assert_int_equal(header->slot, slot_of("job-1"));
    assert_int_equal(header->log, 0x34567890);
    assert_int_equal(header->map_version, 1);
    assert_int_equal(header->format, 1);
    assert_int_equal(fake.last->command->reply_to->client, 99);
    assert_int_equal(fake.last->command->reply_to->partition, 3);
    assert_string_equal(header->job, "job-1");
    assert_true(header->born > 0 && client_wall_ms() - header->born < 10000);
    client_close(client);
}

/* An answer that is lost: the same request goes out again (rules 13, 28). */
static void test_same_request_again(void **state)
{
    (void)state;
    struct client *client = begin();
    fake.answers[1] = (struct answer){.answer = "accepted", .final = true};
    struct question *question = ask_to_cancel(client, "j");
    question->resend_at = client_monotonic_ms() + 20;
    assert_int_equal(client_wait(client, question, 5000, 5000), CLIENT_ANSWERED);
    assert_int_equal(fake.appends, 2);
    assert_string_equal(fake.requests[0], fake.requests[1]);
    struct question *other = ask_to_cancel(client, "j");
    assert_string_not_equal(fake.requests[1], other->request);
    client_close(client);
}

static void is_repeated(struct client *client)
{
    struct question *question = ask_to_cancel(client, "j");
    assert_int_equal(client_wait(client, question, 250, 5000), CLIENT_SENT_NOWHERE);
    assert_true(fake.appends >= 2);
    assert_string_equal(fake.requests[0], fake.requests[1]);
    client_close(client);
}

static void test_failed_append_is_repeated(void **state)
{
    (void)state;
    struct client *client = begin();
    fake.delivery = LOG_POSSIBLY_PERSISTED;
    is_repeated(client);
}

/* H35: it may be nowhere. */
static void test_acknowledged_without_a_place(void **state)
{
    (void)state;
    struct client *client = begin();
    fake.nowhere = true;
    is_repeated(client);
}

static void test_nobody_answers(void **state)
{
    (void)state;
    struct client *client = begin();
    struct question *question = ask_to_cancel(client, "j");
    assert_int_equal(client_wait(client, question, 5000, 50), CLIENT_QUEUED);
    assert_int_equal(fake.appends, 1);
    client_close(client);
}

static void test_fatal_log(void **state)
{
    (void)state;
    struct client *client = begin();
    struct question *question = ask_to_cancel(client, "j");
    fake.fatal = true;
    assert_int_equal(client_wait(client, question, 5000, 5000), CLIENT_BROKEN);
    assert_string_equal(client_error(client), "the disk is full");
    assert_int_equal(client_error_exit(client), EXIT_UNREACHABLE);
    client_close(client);
}

static void test_job_ids(void **state)
{
    (void)state;
    char id[300];
    memset(id, 'x', sizeof id);
    id[255] = '\0';
    assert_null(client_job_id_error(id));
    id[255] = 'x';
    id[256] = '\0';
    assert_non_null(client_job_id_error(id));
    assert_non_null(client_job_id_error(""));
    assert_non_null(client_job_id_error("a\nb"));
    assert_non_null(client_job_id_error("type:shop"));
    assert_null(client_job_id_error("order 17/\xc3\xa9"));
    assert_string_equal(client_job_id_error("\xff\xfe"), "a job id must be UTF-8");
    assert_non_null(client_job_id_error("cut \xc3"));
    struct client *client = begin();
    assert_null(ask_to_cancel(client, ""));
    assert_int_equal(client_error_exit(client), EXIT_USAGE);
    client_close(client);
}

/* What no other reader of the log could decode is not written. */
static void test_texts(void **state)
{
    (void)state;
    struct client *client = begin();
    char name[SIGNAL_NAME_LIMIT_BYTES + 2], reason[REASON_LIMIT_BYTES + 2];
    const char *const bad[] = {"", "a\nb", "\xff", "cut \xe2\x82", name};
    Perdure__V1__Signal signal = PERDURE__V1__SIGNAL__INIT;
    Perdure__V1__Terminate terminate = PERDURE__V1__TERMINATE__INIT;
    Perdure__V1__TaskReport report = PERDURE__V1__TASK_REPORT__INIT;
    Error error = PERDURE__V1__ERROR__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    command.kind_case = PERDURE__V1__COMMAND__KIND_SIGNAL;
    command.signal = &signal;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        signal.name = (char *)bad[i];
        assert_null(client_ask(client, "j", &command));
        assert_non_null(strstr(client_error(client), "1 to 255 bytes of UTF-8 without control characters"));
    }
    signal.name = name + 1;
    assert_non_null(client_ask(client, "j", &command));
    command.request = (char *)"\xc0\x80";
    assert_null(client_ask(client, "j", &command));
    assert_string_equal(client_error(client), "the request id is not UTF-8");
    command.request = (char *)"";
    command.kind_case = PERDURE__V1__COMMAND__KIND_TERMINATE;
    command.terminate = &terminate;
    terminate.reason = (char *)"\xed\xa0\x80";
    assert_null(client_ask(client, "j", &command));
    assert_string_equal(client_error(client), "the reason is not UTF-8");
    memset(reason, 'r', sizeof reason - 1);
    reason[sizeof reason - 1] = '\0';
    terminate.reason = reason;
    assert_null(client_ask(client, "j", &command));
    assert_non_null(strstr(client_error(client), "the reason has 16385 bytes, at most 16384"));
    terminate.reason = reason + 1;
    assert_non_null(client_ask(client, "j", &command));
    command.kind_case = PERDURE__V1__COMMAND__KIND_TASK_REPORT;
    command.task_report = &report;
    report.kind_case = PERDURE__V1__TASK_REPORT__KIND_FAILED;
    report.failed = &error;
    error.message = (char *)"\xff";
    assert_null(client_ask(client, "j", &command));
    assert_string_equal(client_error(client), "the message of the error is not UTF-8");
    client_close(client);
}

static void test_too_large(void **state)
{
    (void)state;
    struct client *client = begin();
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Signal signal = PERDURE__V1__SIGNAL__INIT;
    Payload payload = PERDURE__V1__PAYLOAD__INIT;
    payload.data.len = PAYLOAD_LIMIT_BYTES + 1;
    payload.data.data = calloc(1, payload.data.len);
    signal.name = (char *)"s";
    signal.payload = &payload;
    command.kind_case = PERDURE__V1__COMMAND__KIND_SIGNAL;
    command.signal = &signal;
    assert_null(client_ask(client, "j", &command));
    assert_non_null(strstr(client_error(client), "934465 bytes, at most 934464 fit"));
    payload.data.len--;
    assert_non_null(client_ask(client, "j", &command));
    free(payload.data.data);
    client_close(client);
}

/* ---- results -------------------------------------------------------------------------------------- */

static Status status_of(const char *state)
{
    Status status = PERDURE__V1__STATUS__INIT;
    status.id = (char *)"j";
    status.state = (char *)state;
    return status;
}

static void test_result_from_the_owner(void **state)
{
    (void)state;
    struct client *client = begin();
    Status ended = status_of("completed"), *out;
    fake.answers[0] = (struct answer){.answer = "ended", .final = true, .status = &ended};
    assert_int_equal(client_result(client, "j", 1000, NULL, &out), EXIT_OK);
    assert_string_equal(out->state, "completed");
    status_free(out);
    client_close(client);
}

static void test_result_from_the_status(void **state)
{
    (void)state;
    struct client *client = begin();
    Status ended = status_of("failed"), *out;
    fake.status = &ended;
    assert_int_equal(client_result(client, "j", 0, NULL, &out), EXIT_OK);
    assert_string_equal(out->state, "failed");
    status_free(out);
    client_close(client);
}

static void test_result_in_time(void **state)
{
    (void)state;
    struct client *client = begin();
    Status open = status_of("waiting"), *out;
    fake.status = &open;
    assert_int_equal(client_result(client, "j", 100, NULL, &out), EXIT_TIMED_OUT);
    assert_string_equal(out->state, "waiting");
    status_free(out);
    client_close(client);
}

static void test_result_of_no_job(void **state)
{
    (void)state;
    struct client *client = begin();
    Status *out;
    fake.answers[0] = (struct answer){.answer = "unknown", .final = true};
    assert_int_equal(client_result(client, "j", 1000, NULL, &out), EXIT_NOT_FOUND);
    assert_null(out);
    assert_int_equal(client_result(client, "j", 0, NULL, &out), EXIT_NOT_FOUND);
    client_close(client);
}

/* ---- histories ------------------------------------------------------------------------------------ */

static void journal_add(const Record *record)
{
    fake.journal[fake.journal_count].data = record_encode(record, &fake.journal[fake.journal_count].size);
    fake.journal_count++;
}

static void journal_header(Header *header, uint32_t kind)
{
    perdure__v1__header__init(header);
    header->format = header->rule_level = header->min_reader = header->map_version = 1;
    header->log = (uint32_t)fake.log.genesis.log_id;
    header->kind = kind;
}

static void journal_claim(uint64_t nonce)
{
    Record record = PERDURE__V1__RECORD__INIT;
    Header header;
    Claim claim = PERDURE__V1__CLAIM__INIT;
    Genesis genesis = fake.log.genesis;
    journal_header(&header, PERDURE__V1__KIND__KIND_CLAIM);
    header.nonce = claim.nonce = nonce;
    record.header = &header;
    record.claim = &claim;
    record.genesis = &genesis;
    journal_add(&record);
}

struct chain {
    uint64_t run;
    uint64_t seq;
    digest digest;
    int64_t claim;
    uint64_t nonce;
};

/* A Started or Completed event of job "j" that continues the chain. */
static void journal_event(struct chain *chain, bool starts)
{
    Record record = PERDURE__V1__RECORD__INIT;
    Header header;
    Event event = PERDURE__V1__EVENT__INIT;
    Perdure__V1__Started started = PERDURE__V1__STARTED__INIT;
    Perdure__V1__Completed completed = PERDURE__V1__COMPLETED__INIT;
    ProtobufCBinaryData stored;
    uint8_t packed[256];
    started.type = (char *)"m/j";
    started.request = (char *)"r";
    event.seq = chain->seq + 1;
    event.t = 50;
    event.kind_case = starts ? PERDURE__V1__EVENT__KIND_STARTED : PERDURE__V1__EVENT__KIND_COMPLETED;
    if (starts)
        event.started = &started;
    else
        event.completed = &completed;
    stored.len = perdure__v1__event__pack(&event, packed);
    stored.data = packed;
    journal_header(&header, PERDURE__V1__KIND__KIND_EVENT);
    digest before = chain->digest;
    chain->digest = digest_next(before, packed, stored.len);
    header.claim = chain->claim;
    header.nonce = chain->nonce;
    header.n = chain->seq + 1;
    header.slot = slot_of("j");
    header.job = (char *)"j";
    header.run = chain->run;
    header.seq = ++chain->seq;
    header.count = 1;
    header.type = (char *)"m/j";
    header.prev = (ProtobufCBinaryData){sizeof before, before.bytes};
    header.digest = (ProtobufCBinaryData){sizeof chain->digest, chain->digest.bytes};
    header.first = starts ? -1 : 1;
    record.header = &header;
    record.events = &stored;
    record.n_events = 1;
    journal_add(&record);
}

static struct chain two_events(void)
{
    struct chain chain = {.run = 77, .claim = 0, .nonce = 5, .digest = digest_of_run(77)};
    journal_claim(5);
    journal_event(&chain, true);
    struct chain fenced = chain;
    journal_event(&chain, false);
    fenced.nonce = 6; /* of an owner that was never: it does not count */
    journal_event(&fenced, false);
    return chain;
}

static void test_history_is_judged(void **state)
{
    (void)state;
    struct client *client = begin();
    struct history *history;
    char error[200];
    two_events();
    assert_int_equal(client_history(client, "j", &history), EXIT_OK);
    assert_int_equal(history->count, 2);
    assert_int_equal(history->run, 77);
    assert_int_equal(history->records[1].events[0]->seq, 2);
    assert_true(history_is_whole(history, error, sizeof error));
    history_free(history);
    assert_int_equal(client_history(client, "other", &history), EXIT_NOT_FOUND);
    client_close(client);
}

static void test_history_file(void **state)
{
    (void)state;
    struct client *client = begin();
    struct history *history;
    struct history_file file;
    struct registrations registrations = {0};
    char error[300];
    size_t size;
    two_events();
    assert_int_equal(client_history(client, "j", &history), EXIT_OK);
    uint8_t *data = history_file_write(history, &registrations, "kafka://me:secret@host:1/ns?sasl.password=x", &size);
    assert_non_null(data);
    assert_null(memmem(data, size, "secret", 6));
    assert_null(memmem(data, size, "password", 8));
    assert_int_equal(history_file_read(data, size, &file, error, sizeof error), EXIT_OK);
    assert_int_equal(file.history->count, 2);
    assert_string_equal(file.history->job, "j");
    assert_memory_equal(file.history->records[1].data, history->records[1].data, history->records[1].size);
    history_file_free(&file);
    for (size_t i = 0; i < size; i++) { /* no byte may change, none may be missing */
        data[i] ^= 1;
        assert_int_equal(history_file_read(data, size, &file, error, sizeof error), EXIT_USAGE);
        data[i] ^= 1;
        assert_int_equal(history_file_read(data, i, &file, error, sizeof error), EXIT_USAGE);
    }
    free(data);
    history->count = 1; /* a head of a history is one too, a tail is none */
    assert_true(history_is_whole(history, error, sizeof error));
    history->records++;
    assert_false(history_is_whole(history, error, sizeof error));
    assert_string_equal(error, "the events after number 0 are missing or changed");
    history->records--;
    history->count = 2;
    history_free(history);
    client_close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answered),
        cmocka_unit_test(test_same_request_again),
        cmocka_unit_test(test_failed_append_is_repeated),
        cmocka_unit_test(test_acknowledged_without_a_place),
        cmocka_unit_test(test_nobody_answers),
        cmocka_unit_test(test_fatal_log),
        cmocka_unit_test(test_job_ids),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_result_from_the_owner),
        cmocka_unit_test(test_result_from_the_status),
        cmocka_unit_test(test_result_in_time),
        cmocka_unit_test(test_result_of_no_job),
        cmocka_unit_test(test_history_is_judged),
        cmocka_unit_test(test_history_file),
    };
    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
