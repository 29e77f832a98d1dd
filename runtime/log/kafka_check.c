/*
 * `perdure check` on a namespace: everything that could lose data or cost speed, in one go, where a start stops at the
 * first thing.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/findings.h"
#include "log/kafka_internal.h"

struct kafka_check {
    struct kafka_uri uri;
    struct kafka_notes notes;
    rd_kafka_t *client;
    const struct rd_kafka_metadata *metadata; /* of all topics */
    struct findings *findings;
    bool dev; /* one broker is enough */
    uint32_t partitions;
};

static const struct rd_kafka_metadata_topic *kafka_check_find(const struct kafka_check *check, const char *name)
{
    for (int i = 0; i < check->metadata->topic_cnt; i++)
        if (strcmp(check->metadata->topics[i].topic, name) == 0)
            return &check->metadata->topics[i];
    return NULL;
}

/* ---- client ------------------------------------------------------------------------------------------------------- */

static void kafka_check_setting(void *context, const char *name, const char *value, const char *origin)
{
    struct kafka_check *check = context;
    struct findings *findings = check->findings;
    char repair[400];
    snprintf(repair, sizeof repair, "take it out of %s", origin);
    bool off = strcmp(value, "false") == 0 || strcmp(value, "0") == 0;
    if (strcmp(name, "enable.ssl.certificate.verification") == 0 && off)
        finding_tell(findings, FINDING_LOSS, "client", repair, "%s=%s: anybody on the way can play the broker", name,
                     value);
    else if (strcmp(name, "ssl.endpoint.identification.algorithm") == 0 && strcmp(value, "none") == 0)
        finding_tell(findings, FINDING_LOSS, "client", repair,
                     "%s=none: any certificate of the authority passes for the broker's", name);
    else if ((strcmp(name, "linger.ms") == 0 || strcmp(name, "queue.buffering.max.ms") == 0) && strtod(value, NULL) > 1)
        finding_tell(findings, FINDING_SLOW, "client", repair,
                     "%s=%s: each event waits so many milliseconds before it is sent", name, value);
    else if (strcmp(name, "socket.nagle.disable") == 0 && off)
        finding_tell(findings, FINDING_SLOW, "client", repair,
                     "%s=%s: small requests wait for the answer to the one before", name, value);
    else if (strcmp(name, "fetch.wait.max.ms") == 0 && strtol(value, NULL, 10) > 100)
        finding_tell(findings, FINDING_SLOW, "client", repair, "%s=%s: a partition that is taken over waits so long",
                     name, value);
    else
        finding_tell(findings, FINDING_NOTE, "client", NULL, "%s=%s (%s)", name, value, origin);
}

static void kafka_check_client(struct kafka_check *check)
{
    kafka_settings_each(check->uri.settings, kafka_check_setting, check);
    if (kafka_settings_plaintext(check->uri.settings) && kafka_settings_plaintext_allowed(check->uri.settings))
        finding_tell(check->findings, FINDING_NOTE, "client",
                     "security.protocol=SSL or SASL_SSL, where it is not needed",
                     "unencrypted connections to other machines are allowed");
}

/* What its change log says, and what it means here. */
static void kafka_check_library(struct kafka_check *check)
{
    static const struct {
        int from, below; /* versions */
        enum finding_level level;
        const char *text;
    } bugs[] = {
        { 0, 0x02000200, FINDING_LOSS, "it is older than any that Perdure was tested with" },
        { 0x02020000, 0x02050000, FINDING_SLOW,
          "2.2 to 2.4 have consumer bugs that Perdure was not tested against: take 2.0.2 or "
          "2.6.1 and later" },
        { 0x02050000, 0x02050100, FINDING_SLOW, "2.5.0 is one to avoid: take 2.5.3 or later" },
        { 0x02060000, 0x02060100, FINDING_SLOW, "2.6.0 is one to avoid: take 2.6.1 or later" },
        { 0x020a0000, 0x020a0100, FINDING_SLOW, "2.10.0 is one to avoid: take 2.10.1 or later" },
        { 0, 0x02010000, FINDING_NOTE,
          "it does not see that a log was cut short (KIP-320): the digests in the journal do, and "
          "Perdure compares the ends" },
        { 0, 0x02010000, FINDING_NOTE,
          "batch reads after a pause can skip records (#4208): Perdure does not combine them" },
        { 0, 0x02030000, FINDING_NOTE,
          "a lost connection can end its idempotent producer (#4438): Perdure replaces it and claims "
          "anew" },
        { 0, 0x02060100, FINDING_NOTE, "SCRAM fails with Kafka 4 (#4895): use PLAIN over TLS or a certificate" },
        { 0, 0x020a0100, FINDING_NOTE,
          "cooperative-sticky hangs and picks wrong owners (#4252, #4381, #4636, #4908): Perdure uses "
          "range, so a worker that joins moves more partitions" },
        { 0, 0x020a0000, FINDING_NOTE, "a broker that is not reachable can delay joining the group" },
    };
    int version = rd_kafka_version() >> 8 << 8; /* without the last two digits, which tell candidates apart */
    finding_tell(check->findings, FINDING_RIGHT, "librdkafka", NULL, "%s", rd_kafka_version_str());
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++)
        if (version >= bugs[i].from && version < bugs[i].below)
            finding_tell(check->findings, bugs[i].level, "librdkafka", NULL, "%s", bugs[i].text);
}

/* ---- topics: partitions ------------------------------------------------------------------------------------------------ */

static void kafka_check_replication(struct kafka_check *check, const struct rd_kafka_metadata_topic *topic)
{
    int least = INT32_MAX, leaderless = 0, behind = 0, alone = 0;
    for (int p = 0; p < topic->partition_cnt; p++) {
        const struct rd_kafka_metadata_partition *partition = &topic->partitions[p];
        least = partition->replica_cnt < least ? partition->replica_cnt : least;
        leaderless += partition->leader < 0;
        behind += partition->isr_cnt < partition->replica_cnt;
        alone += partition->isr_cnt < 2;
    }
    if (least < 2 && !check->dev)
        finding_tell(check->findings, FINDING_LOSS, topic->topic,
                     "kafka-reassign-partitions.sh with three brokers for each "
                     "partition; for a trial, check --dev",
                     "replication factor is %d, must be at least 2: what one broker alone keeps is lost with it",
                     least);
    else if (least == 2)
        finding_tell(check->findings, FINDING_NOTE, topic->topic,
                     "kafka-reassign-partitions.sh with three brokers for each "
                     "partition",
                     "replication factor is 2: while one broker is down, appends wait");
    if (leaderless > 0)
        finding_tell(check->findings, FINDING_LOSS, topic->topic, "start the brokers that hold them",
                     "%d of %d partitions have no "
                     "leader now: their jobs stand still",
                     leaderless, topic->partition_cnt);
    if (behind > 0)
        finding_tell(check->findings, alone > 0 && !check->dev ? FINDING_LOSS : FINDING_NOTE, topic->topic,
                     "start the brokers that "
                     "lag, or see why they do",
                     "%d of %d partitions are under-replicated now%s", behind, topic->partition_cnt,
                     alone > 0 ? ", and appends to some of them wait" : "");
}

static void kafka_check_topic(struct kafka_check *check, enum kafka_topic topic)
{
    char name[KAFKA_TOPIC_NAME_BYTES], repair[800];
    kafka_topic_name(&check->uri, topic, name, sizeof name);
    const struct rd_kafka_metadata_topic *found = kafka_check_find(check, name);
    snprintf(repair, sizeof repair, "perdure namespace create --log kafka://%s/%s", check->uri.brokers,
             check->uri.name);
    if (!found || found->partition_cnt == 0) {
        finding_tell(check->findings, FINDING_LOSS, name, repair, "%s",
                     found && kafka_is_unauthorised(found->err)
                         ? "we have no right to see it"
                         : "the topic is missing, or we have no right to see it");
        return;
    }
    if (!kafka_topic_count_is_right(topic, found->partition_cnt, (int)check->partitions))
        finding_tell(check->findings, FINDING_LOSS, name, "partitions cannot be taken away: restore the topic as it was",
                     "partitions is %d, must be %u as in the journal: %s", found->partition_cnt, check->partitions,
                     kafka_topic_count_is_wrong(topic, found->partition_cnt, (int)check->partitions));
    else
        finding_tell(check->findings, FINDING_RIGHT, name, NULL, "%d partition%s, %d replica%s each", found->partition_cnt,
                     found->partition_cnt == 1 ? "" : "s", found->partitions[0].replica_cnt,
                     found->partitions[0].replica_cnt == 1 ? "" : "s");
    kafka_check_replication(check, found);
}

/* ---- topics: settings -------------------------------------------------------------------------------------------------- */

struct kafka_check_rows {
    struct kafka_check *check;
    const char *topic;
    int right;
};

static void kafka_check_row(void *context, const struct kafka_verdict *verdict)
{
    struct kafka_check_rows *rows = context;
    char repair[1400];
    if (verdict->right) {
        rows->right++;
        return;
    }
    snprintf(repair, sizeof repair,
             "kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s "
             "--add-config %s=%s",
             rows->check->uri.brokers, rows->topic, verdict->name, verdict->needed);
    finding_tell(rows->check->findings, FINDING_LOSS, rows->topic, repair, "%s is %s, must be %s%s: %s", verdict->name,
                 verdict->found ? verdict->found : "not told", verdict->words, verdict->needed, verdict->why);
}

static void kafka_check_resource(struct kafka_check *check, const rd_kafka_ConfigResource_t *resource, int plan)
{
    char text[700];
    struct kafka_check_rows rows = { check, rd_kafka_ConfigResource_name(resource), 0 };
    rd_kafka_resp_err_t code = rd_kafka_ConfigResource_error(resource);
    if (kafka_is_unauthorised(code)) {
        kafka_unauthorised(&check->uri, "read the settings (DescribeConfigs) of", rows.topic, text, sizeof text);
        finding_tell(check->findings, FINDING_LOSS, rows.topic, NULL, "%s", text);
    } else if (code && code != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) {
        finding_tell(check->findings, FINDING_LOSS, rows.topic, NULL, "its settings cannot be read: %s",
                     rd_kafka_err2str(code));
    } else if (!code) {
        kafka_topics_judge(resource, plan, check->dev, kafka_check_row, &rows);
        finding_tell(check->findings, FINDING_RIGHT, rows.topic, NULL, "%d settings are as they must be", rows.right);
    }
}

/* The five topics, and all queues of tasks. */
static size_t kafka_check_names(const struct kafka_check *check, const char **names, int *kinds, size_t limit)
{
    static char own[KAFKA_TOPICS][KAFKA_TOPIC_NAME_BYTES];
    char prefix[KAFKA_TOPIC_NAME_BYTES];
    size_t count = 0;
    for (int topic = 0; topic < KAFKA_TOPICS; topic++, count++) {
        kafka_topic_name(&check->uri, (enum kafka_topic)topic, own[topic], sizeof own[topic]);
        names[count] = own[topic];
        kinds[count] = topic;
    }
    snprintf(prefix, sizeof prefix, "%s.tasks.", check->uri.name);
    for (int i = 0; i < check->metadata->topic_cnt && count < limit; i++)
        if (strncmp(check->metadata->topics[i].topic, prefix, strlen(prefix)) == 0) {
            names[count] = check->metadata->topics[i].topic;
            kinds[count++] = KAFKA_TASKS;
        }
    return count;
}

#define CHECK_TOPICS_MAX 200
static void kafka_check_settings(struct kafka_check *check)
{
    const char *names[CHECK_TOPICS_MAX];
    int kinds[CHECK_TOPICS_MAX];
    rd_kafka_ConfigResource_t *resources[CHECK_TOPICS_MAX];
    size_t count = kafka_check_names(check, names, kinds, CHECK_TOPICS_MAX), found_count = 0;
    for (size_t i = 0; i < count; i++) {
        resources[i] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, names[i]);
        if (kinds[i] == KAFKA_TASKS)
            kafka_check_replication(check, kafka_check_find(check, names[i]));
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(check->client);
    rd_kafka_DescribeConfigs(check->client, resources, count, NULL, queue);
    rd_kafka_ConfigResource_destroy_array(resources, count);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, KAFKA_OPEN_TIMEOUT_MS);
    const rd_kafka_DescribeConfigs_result_t *result = event ? rd_kafka_event_DescribeConfigs_result(event) : NULL;
    const rd_kafka_ConfigResource_t **found =
        result ? rd_kafka_DescribeConfigs_result_resources(result, &found_count) : NULL;
    for (size_t i = 0; i < found_count; i++)
        for (size_t j = 0; j < count; j++)
            if (strcmp(rd_kafka_ConfigResource_name(found[i]), names[j]) == 0)
                kafka_check_resource(check, found[i], kinds[j]);
    if (found_count == 0)
        finding_tell(check->findings, FINDING_LOSS, check->uri.name, NULL,
                     "the settings of the topics cannot be read: %s",
                     event ? rd_kafka_event_error_string(event) : "no answer");
    if (event)
        rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
}

/* ---- genesis, clock ------------------------------------------------------------------------------------------------------ */

static void kafka_check_genesis(struct kafka_check *check)
{
    char text[700] = "";
    struct kafka_genesis *found = calloc(check->partitions ? check->partitions : 1, sizeof *found);
    int code = found && check->partitions
                   ? kafka_genesis_read(&check->uri, 0, check->partitions, found, text, sizeof text)
                   : 2;
    if (!code)
        code = kafka_genesis_check(&check->uri, found, check->partitions, check->partitions, text, sizeof text);
    if (!code)
        finding_tell(check->findings, FINDING_RIGHT, "genesis", NULL,
                     "all %u partitions begin with log %016" PRIx64 ", format %u, "
                     "rule level %u",
                     check->partitions, found[0].genesis.log_id, found[0].genesis.format, found[0].genesis.rule_level);
    else
        finding_tell(check->findings, FINDING_LOSS, "genesis", NULL, "%s", *text ? text : "out of memory");
    free(found);
}

/* The broker stamps an answer that nobody waits for; it is gone after an hour, like all of them. */
static void kafka_check_clock(struct kafka_check *check)
{
    char name[KAFKA_TOPIC_NAME_BYTES], said[256] = "no answer";
    Reply reply = PERDURE__V1__REPLY__INIT;
    uint8_t data[64];
    size_t size = perdure__v1__reply__pack(&reply, data);
    int64_t stamp = -1, before = kafka_wall_ms(), deadline = kafka_monotonic_ms() + KAFKA_ASK_TIMEOUT_MS,
            after = before;
    kafka_topic_name(&check->uri, KAFKA_REPLIES, name, sizeof name);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(check->client, name, NULL);
    bool waiting = rd_kafka_produce(handle, 0, RD_KAFKA_MSG_F_COPY, data, size, NULL, 0, NULL) == 0;
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(check->client);
    while (waiting && kafka_monotonic_ms() < deadline) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 100);
        const rd_kafka_message_t *message =
            event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR ? rd_kafka_event_message_next(event) : NULL;
        rd_kafka_timestamp_type_t type;
        after = kafka_wall_ms();
        if (message && message->err)
            snprintf(said, sizeof said, "%s", rd_kafka_err2str(message->err));
        if (message && !message->err)
            stamp = rd_kafka_message_timestamp(message, &type);
        waiting = !message;
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_destroy(handle);
    if (stamp < 0) {
        finding_tell(check->findings, FINDING_NOTE, "clock", NULL, "the broker's clock is not known: %s: %s", name,
                     said);
        return;
    }
    /* It was stamped at some moment between: what lies outside is certain. */
    int64_t ahead = stamp < before  ? before - stamp
                    : stamp > after ? after - stamp
                                    : 0,
            off = ahead < 0 ? -ahead : ahead;
    finding_tell(check->findings,
                 off > CLOCK_SKEW_LIMIT_MS  ? FINDING_LOSS
                 : off > CLOCK_SKEW_WARN_MS ? FINDING_NOTE
                                            : FINDING_RIGHT,
                 "clock", off > CLOCK_SKEW_WARN_MS ? "set both by NTP; workers refuse to run from 60 s on" : NULL,
                 "this machine is %" PRId64 " ms %s the broker (known to %" PRId64 " ms)", off,
                 ahead < 0 ? "behind" : "ahead of", after - before);
}

/* ---- as a whole ------------------------------------------------------------------------------------------------------------ */

static int kafka_check_connect(struct kafka_check *check, char *error, size_t error_size)
{
    const struct rd_kafka_metadata *first = NULL;
    check->client = kafka_asker_new(&check->uri, "perdure-check", &check->notes, error, error_size);
    if (!check->client)
        return 2;
    int code =
        kafka_metadata(check->client, &check->uri, &check->notes, KAFKA_OPEN_TIMEOUT_MS, &first, error, error_size);
    if (code)
        return code;
    rd_kafka_metadata_destroy(first);
    rd_kafka_resp_err_t result = rd_kafka_metadata(check->client, 1, NULL, &check->metadata, KAFKA_OPEN_TIMEOUT_MS);
    if (result)
        snprintf(error, error_size, "the topics of Kafka at %s are not told: %s", check->uri.brokers,
                 rd_kafka_err2str(result));
    return result ? 5 : 0;
}

static int kafka_check_there(struct kafka_check *check, char *error, size_t error_size)
{
    char name[KAFKA_TOPIC_NAME_BYTES];
    bool any = false;
    for (int topic = 0; topic < KAFKA_TOPICS; topic++) {
        kafka_topic_name(&check->uri, (enum kafka_topic)topic, name, sizeof name);
        const struct rd_kafka_metadata_topic *found = kafka_check_find(check, name);
        any = any || (found && found->partition_cnt > 0);
        if (topic == KAFKA_JOURNAL)
            check->partitions = found ? (uint32_t)found->partition_cnt : 0;
    }
    if (any)
        return 0;
    snprintf(error, error_size,
             "there is no namespace '%s' in Kafka at %s, or %s has no right to see it. It is made with "
             "perdure namespace create --log kafka://%s/%s",
             check->uri.name, check->uri.brokers, kafka_settings_principal(check->uri.settings), check->uri.brokers,
             check->uri.name);
    return 3;
}

static void kafka_check_all(struct kafka_check *check, bool write)
{
    finding_tell(check->findings, FINDING_RIGHT, "cluster", NULL,
                 "%d broker%s at %s, seen as %s; Kafka does not tell its version", check->metadata->broker_cnt,
                 check->metadata->broker_cnt == 1 ? "" : "s", check->uri.brokers,
                 kafka_settings_principal(check->uri.settings));
    if (check->dev)
        finding_tell(check->findings, FINDING_NOTE, "cluster", "three brokers, for anything but trials",
                     "nothing is replicated: "
                     "what the broker loses is lost");
    for (int topic = 0; topic < KAFKA_TOPICS; topic++)
        kafka_check_topic(check, (enum kafka_topic)topic);
    kafka_check_settings(check);
    kafka_check_genesis(check);
    if (write)
        kafka_check_clock(check);
    else
        finding_tell(check->findings, FINDING_NOTE, "clock", "perdure check --write",
                     "not compared with the brokers': that takes one "
                     "answer that nobody waits for, written into %s.replies",
                     check->uri.name);
    kafka_check_client(check);
    kafka_check_library(check);
}

int kafka_check(const char *uri, const struct check_options *options, struct findings *findings, char *error,
                size_t error_size)
{
    struct kafka_check check = { .findings = findings };
    kafka_notes_init(&check.notes);
    int code = kafka_uri_parse(&check.uri, uri, error, error_size) ? kafka_check_connect(&check, error, error_size) : 2;
    if (!code)
        code = kafka_check_there(&check, error, error_size);
    if (!code) {
        check.dev = options->dev || check.uri.dev;
        kafka_check_all(&check, options->write);
    }
    if (check.metadata)
        rd_kafka_metadata_destroy(check.metadata);
    if (check.client)
        rd_kafka_destroy(check.client);
    kafka_uri_free(&check.uri);
    kafka_notes_free(&check.notes);
    return code;
}
