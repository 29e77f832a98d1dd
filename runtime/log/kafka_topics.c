/*
 * The settings that the topics of a namespace need: one table, used when they are made and at every check.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log/kafka_internal.h"

enum kafka_need { CREATED, EXACTLY, AT_LEAST, AT_MOST }; /* CREATED: a good value, but any other is safe too */

struct kafka_need_row {
    const char *name;
    const char *value;
    const char *dev; /* NULL: as `value` */
    enum kafka_need need;
    const char *why; /* what happens with another value */
};

/* The same for all topics. */
#define EVERYWHERE                                                                                                        \
    { "message.timestamp.type", "LogAppendTime", NULL, EXACTLY, "the age of commands is judged by the broker's clock" },  \
    { "max.message.bytes", "1048588", NULL, AT_LEAST, "the largest records would be refused" },                           \
    { "min.insync.replicas", "2", "1", AT_LEAST, "a record kept by one broker alone is lost with it" },                   \
    { "unclean.leader.election.enable", "false", NULL, EXACTLY, "a broker that lags would cut off acknowledged records" }

#define KEPT                                                                                                              \
    { "cleanup.policy", "delete", NULL, EXACTLY, "compaction would remove records that histories stand on" },             \
    { "retention.ms", "-1", NULL, EXACTLY, "records of live jobs would be deleted by age" },                              \
    { "retention.bytes", "-1", NULL, EXACTLY, "records of live jobs would be deleted by size" },                          \
    { "segment.bytes", "67108864", NULL, AT_MOST, "whole segments are freed only: larger ones keep what was cut" }

#define ROWS_MAX 12
static const struct kafka_topic_plan {
    uint32_t partitions; /* 0: as many as the namespace has */
    struct kafka_need_row rows[ROWS_MAX];
} kafka_plans[KAFKA_TASKS + 1] = {
    [KAFKA_INBOX] = { 0, { KEPT, EVERYWHERE } },
    [KAFKA_JOURNAL] = { 0, { KEPT, EVERYWHERE } },
    [KAFKA_JOBS] = { 0, {
        { "cleanup.policy", "compact", NULL, EXACTLY, "statuses of old jobs would be deleted, or none ever" },
        { "segment.bytes", "67108864", NULL, AT_MOST, "the open segment is never compacted" },
        { "segment.ms", "3600000", NULL, CREATED, NULL },
        { "min.cleanable.dirty.ratio", "0.2", NULL, CREATED, NULL },
        EVERYWHERE } },
    [KAFKA_REPLIES] = { 0, {
        { "cleanup.policy", "delete", NULL, EXACTLY, "answers have no key to compact by" },
        { "retention.ms", "3600000", NULL, AT_LEAST, "answers would be gone before they are read" },
        { "retention.bytes", "-1", NULL, EXACTLY, "answers would be gone before they are read" },
        { "segment.bytes", "67108864", NULL, AT_MOST, "the open segment is never deleted" },
        { "segment.ms", "600000", NULL, CREATED, NULL },
        EVERYWHERE } },
    [KAFKA_DEAD] = { 1, { KEPT, EVERYWHERE } },
    /* A queue: what nobody took for a week is sent again by its owner, or its time is over. */
    [KAFKA_TASKS] = { KAFKA_QUEUE_PARTITIONS, {
        { "cleanup.policy", "delete", NULL, EXACTLY, "compaction would remove tasks that nobody took" },
        { "retention.ms", "604800000", NULL, CREATED, NULL },
        { "segment.ms", "86400000", NULL, CREATED, NULL },
        EVERYWHERE } },
};

static const char *kafka_need_value(const struct kafka_need_row *row, bool dev)
{
    return dev && row->dev ? row->dev : row->value;
}

rd_kafka_resp_err_t kafka_topic_count(rd_kafka_t *client, const char *topic, int timeout_ms, int *count)
{
    const struct rd_kafka_metadata *found = NULL;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
    rd_kafka_resp_err_t code = rd_kafka_metadata(client, 0, handle, &found, timeout_ms);
    if (!code && found->topic_cnt == 1)
        code = found->topics[0].err;
    *count = !code && found->topic_cnt == 1 ? found->topics[0].partition_cnt : 0;
    if (found)
        rd_kafka_metadata_destroy(found);
    rd_kafka_topic_destroy(handle);
    return code;
}

/* ---- the shape of a namespace -------------------------------------------------------------------------------- */

int kafka_topics_shape(rd_kafka_t *client, const struct kafka_uri *uri, struct kafka_notes *notes, int timeout_ms,
                       struct kafka_shape *shape, char *error, size_t error_size)
{
    const struct rd_kafka_metadata *all = NULL;
    memset(shape, 0, sizeof *shape);
    int code = kafka_metadata(client, uri, notes, timeout_ms, &all, error, error_size);
    if (code)
        return code;
    shape->brokers = all->broker_cnt;
    for (int i = 0; i < all->topic_cnt; i++) {
        const rd_kafka_metadata_topic_t *found = &all->topics[i];
        for (int topic = 0; topic < KAFKA_TOPICS; topic++) {
            char name[KAFKA_TOPIC_NAME_BYTES];
            kafka_topic_name(uri, (enum kafka_topic)topic, name, sizeof name);
            if (strcmp(found->topic, name) != 0 || found->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
                continue;
            shape->hidden[topic] = found->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
            shape->partitions[topic] = found->partition_cnt;
            for (int p = 0; p < found->partition_cnt; p++) {
                if (found->partitions[p].leader < 0)
                    shape->leaderless = true;
                if (found->partitions[p].id == 0)
                    shape->replicas[topic] = found->partitions[p].replica_cnt;
            }
        }
    }
    rd_kafka_metadata_destroy(all);
    return 0;
}

bool kafka_topic_count_is_right(enum kafka_topic topic, int count, int of_journal)
{
    if (kafka_plans[topic].partitions != 0 || count == of_journal)
        return true;
    bool aside = topic == KAFKA_JOBS || topic == KAFKA_REPLIES; /* these do not grow (rule 24) */
    return aside && count > 0 && count < of_journal && of_journal % count == 0;
}

const char *kafka_topic_count_is_wrong(enum kafka_topic topic, int count, int of_journal)
{
    bool half = topic == KAFKA_INBOX && count > 0 && count < of_journal && of_journal % count == 0;
    return half ? "`perdure namespace grow` was interrupted; run it again" : "jobs would be looked for in the wrong partition";
}

int kafka_topics_check_partitions(const struct kafka_uri *uri, const struct kafka_shape *shape, char *error,
                                  size_t error_size)
{
    char name[KAFKA_TOPIC_NAME_BYTES], journal[KAFKA_TOPIC_NAME_BYTES];
    int wanted = shape->partitions[KAFKA_JOURNAL];
    bool any = false;
    for (int topic = 0; topic < KAFKA_TOPICS; topic++) {
        any = any || shape->partitions[topic] > 0;
        if (shape->hidden[topic] && !(shape->needless & 1u << topic)) {
            kafka_topic_name(uri, (enum kafka_topic)topic, name, sizeof name);
            kafka_unauthorised(uri, "look at (Describe)", name, error, error_size);
            return 2;
        }
    }
    if (!any) {
        snprintf(error, error_size, "there is no namespace '%s' in Kafka at %s: make it with "
                 "perdure namespace create --log kafka://%s/%s", uri->name, uri->brokers, uri->brokers, uri->name);
        return 3;
    }
    kafka_topic_name(uri, KAFKA_JOURNAL, journal, sizeof journal);
    for (int topic = 0; topic < KAFKA_TOPICS; topic++) {
        kafka_topic_name(uri, (enum kafka_topic)topic, name, sizeof name);
        int found = shape->partitions[topic];
        if (found == 0 && shape->hidden[topic])
            continue; /* needless */
        if (found == 0) {
            snprintf(error, error_size, "topic %s is missing while others of the namespace are there: it was deleted, or "
                     "`perdure namespace create` was interrupted; in that case run it again", name);
            return 2;
        }
        if (!kafka_topic_count_is_right((enum kafka_topic)topic, found, wanted)) {
            snprintf(error, error_size, "topic %s: partitions is %d, must be %d as in %s: %s", name, found, wanted, journal,
                     kafka_topic_count_is_wrong((enum kafka_topic)topic, found, wanted));
            return 2;
        }
    }
    if (wanted > SLOT_COUNT || (wanted & (wanted - 1))) {
        snprintf(error, error_size, "topic %s: partitions is %d, must be a power of two, at most %d", journal, wanted,
                 SLOT_COUNT);
        return 2;
    }
    return 0;
}

/* ---- settings --------------------------------------------------------------------------------------------------- */

static rd_kafka_event_t *kafka_topics_await(rd_kafka_queue_t *queue, int timeout_ms, const char *what, int *code,
                                            char *error, size_t error_size)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, timeout_ms);
    if (event && !rd_kafka_event_error(event))
        return event;
    rd_kafka_resp_err_t reason = event ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    snprintf(error, error_size, "%s: %s", what, event ? rd_kafka_event_error_string(event) : rd_kafka_err2str(reason));
    *code = reason == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED ? 2 : 5;
    if (event)
        rd_kafka_event_destroy(event);
    return NULL;
}

static bool kafka_need_met(const struct kafka_need_row *row, const char *needed, const char *found)
{
    if (row->need == CREATED)
        return true;
    if (row->need == EXACTLY)
        return strcmp(needed, found) == 0;
    /* Sizes and times: -1 is "without limit". */
    int64_t have = strtoll(found, NULL, 10), want = strtoll(needed, NULL, 10);
    if (have < 0)
        have = INT64_MAX;
    return row->need == AT_LEAST ? have >= want : have <= want;
}

void kafka_topics_judge(const rd_kafka_ConfigResource_t *resource, int plan, bool dev,
                        void (*visit)(void *context, const struct kafka_verdict *verdict), void *context)
{
    static const char *const words[] = { "", "", "at least ", "at most " };
    size_t count;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);
    for (const struct kafka_need_row *row = kafka_plans[plan].rows; row->name; row++) {
        struct kafka_verdict verdict = { .name = row->name, .needed = kafka_need_value(row, dev), .words = words[row->need],
                                         .why = row->why };
        for (size_t i = 0; i < count && !verdict.found; i++)
            if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), row->name) == 0)
                verdict.found = rd_kafka_ConfigEntry_value(entries[i]);
        verdict.right = verdict.found && kafka_need_met(row, verdict.needed, verdict.found);
        if (row->need != CREATED)
            visit(context, &verdict);
    }
}

struct kafka_first_wrong {
    bool any;
    struct kafka_verdict verdict;
};

static void kafka_take_first_wrong(void *context, const struct kafka_verdict *verdict)
{
    struct kafka_first_wrong *first = context;
    if (!verdict->right && !first->any)
        *first = (struct kafka_first_wrong){ true, *verdict };
}

static int kafka_topics_compare(const struct kafka_uri *uri, const rd_kafka_ConfigResource_t *resource,
                                enum kafka_topic topic, bool dev, char *error, size_t error_size)
{
    const char *name = rd_kafka_ConfigResource_name(resource);
    if (kafka_is_unauthorised(rd_kafka_ConfigResource_error(resource))) {
        kafka_unauthorised(uri, "read the settings (DescribeConfigs) of", name, error, error_size);
        return 2;
    }
    if (rd_kafka_ConfigResource_error(resource)) {
        snprintf(error, error_size, "topic %s: its settings cannot be read: %s", name,
                 rd_kafka_ConfigResource_error_string(resource));
        return 2;
    }
    struct kafka_first_wrong first = { 0 };
    kafka_topics_judge(resource, (int)topic, dev, kafka_take_first_wrong, &first);
    const struct kafka_verdict *wrong = &first.verdict;
    if (first.any)
        snprintf(error, error_size, "topic %s: %s is %s, must be %s%s: %s. Set it with kafka-configs.sh --alter "
                 "--entity-type topics --entity-name %s --add-config %s=%s", name, wrong->name,
                 wrong->found ? wrong->found : "not told", wrong->words, wrong->needed, wrong->why, name, wrong->name,
                 wrong->needed);
    return first.any ? 2 : 0;
}

static int kafka_topics_check_replicas(const struct kafka_uri *uri, const struct kafka_shape *shape, char *error,
                                       size_t error_size)
{
    for (int topic = 0; topic < KAFKA_TOPICS; topic++) {
        if (shape->replicas[topic] >= 2)
            continue;
        char name[KAFKA_TOPIC_NAME_BYTES];
        kafka_topic_name(uri, (enum kafka_topic)topic, name, sizeof name);
        snprintf(error, error_size, "topic %s: replication factor is %d, must be at least 2: what one broker alone keeps is "
                 "lost with it (for a trial: --dev, for a worker ?dev=1 in the address)", name, shape->replicas[topic]);
        return 2;
    }
    return 0;
}

/* Asks one broker. `*again`: it has not heard of a topic that others know; a moment after the topics were made, or the
 * broker started, that is no answer. */
static int kafka_topics_read_settings(rd_kafka_t *client, const struct kafka_uri *uri, bool dev, bool *again, char *error,
                                      size_t error_size)
{
    int code = 0;
    rd_kafka_ConfigResource_t *resources[KAFKA_TOPICS];
    *again = false;
    for (int topic = 0; topic < KAFKA_TOPICS; topic++) {
        char name[KAFKA_TOPIC_NAME_BYTES];
        kafka_topic_name(uri, (enum kafka_topic)topic, name, sizeof name);
        resources[topic] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name);
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_DescribeConfigs(client, resources, KAFKA_TOPICS, NULL, queue);
    rd_kafka_ConfigResource_destroy_array(resources, KAFKA_TOPICS);
    rd_kafka_event_t *event = kafka_topics_await(queue, KAFKA_OPEN_TIMEOUT_MS, "reading the settings of the topics", &code,
                                                 error, error_size);
    if (event) {
        size_t count;
        const rd_kafka_ConfigResource_t **found =
            rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &count);
        for (size_t i = 0; i < count && !code; i++)
            for (int topic = 0; topic < KAFKA_TOPICS && !code; topic++) {
                char name[KAFKA_TOPIC_NAME_BYTES];
                kafka_topic_name(uri, (enum kafka_topic)topic, name, sizeof name);
                if (strcmp(name, rd_kafka_ConfigResource_name(found[i])) != 0)
                    continue;
                code = kafka_topics_compare(uri, found[i], (enum kafka_topic)topic, dev, error, error_size);
                *again = rd_kafka_ConfigResource_error(found[i]) == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
            }
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    return code;
}

int kafka_topics_check_settings(rd_kafka_t *client, const struct kafka_uri *uri, const struct kafka_shape *shape,
                                char *error, size_t error_size)
{
    bool again = true;
    int code = uri->dev ? 0 : kafka_topics_check_replicas(uri, shape, error, error_size);
    if (code)
        return code;
    for (int64_t deadline = kafka_monotonic_ms() + KAFKA_OPEN_TIMEOUT_MS; again;) {
        code = kafka_topics_read_settings(client, uri, uri->dev, &again, error, error_size);
        if (kafka_monotonic_ms() > deadline)
            break;
        if (again)
            nanosleep(&(struct timespec){ .tv_nsec = 50 * 1000 * 1000 }, NULL);
    }
    return code;
}

/* ---- creating --------------------------------------------------------------------------------------------------- */

static rd_kafka_NewTopic_t *kafka_topics_plan(const struct kafka_uri *uri, enum kafka_topic topic, uint32_t partitions,
                                              int replicas, char *error, size_t error_size)
{
    char name[KAFKA_TOPIC_NAME_BYTES], reason[256];
    const struct kafka_topic_plan *plan = &kafka_plans[topic];
    kafka_topic_name(uri, topic, name, sizeof name);
    int count = (int)(plan->partitions ? plan->partitions : partitions);
    rd_kafka_NewTopic_t *wanted = rd_kafka_NewTopic_new(name, count, replicas, reason, sizeof reason);
    if (!wanted) {
        snprintf(error, error_size, "topic %s: %s", name, reason);
        return NULL;
    }
    for (const struct kafka_need_row *row = plan->rows; row->name; row++)
        rd_kafka_NewTopic_set_config(wanted, row->name, kafka_need_value(row, uri->dev));
    return wanted;
}

rd_kafka_NewTopic_t *kafka_topics_plan_queue(const char *topic, int partitions, int replicas, bool dev, char *error,
                                             size_t error_size)
{
    rd_kafka_NewTopic_t *wanted = rd_kafka_NewTopic_new(topic, partitions, replicas, error, error_size);
    for (const struct kafka_need_row *row = kafka_plans[KAFKA_TASKS].rows; wanted && row->name; row++)
        rd_kafka_NewTopic_set_config(wanted, row->name, kafka_need_value(row, dev));
    return wanted;
}

int kafka_topics_create(rd_kafka_t *client, const struct kafka_uri *uri, const struct kafka_shape *shape,
                        uint32_t partitions, bool *created, char *error, size_t error_size)
{
    rd_kafka_NewTopic_t *wanted[KAFKA_TOPICS];
    size_t count = 0;
    int replicas = uri->dev ? 1 : shape->brokers < 3 ? shape->brokers : 3;
    int code = 0;
    for (int topic = 0; topic < KAFKA_TOPICS && !code; topic++) {
        if (shape->partitions[topic] > 0)
            continue;
        wanted[count] = kafka_topics_plan(uri, (enum kafka_topic)topic, partitions, replicas, error, error_size);
        code = wanted[count++] ? 0 : 2;
    }
    if (code || count == 0) {
        if (code)
            count--;
        rd_kafka_NewTopic_destroy_array(wanted, count);
        return code;
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    char reason[128];
    rd_kafka_AdminOptions_set_operation_timeout(options, KAFKA_OPEN_TIMEOUT_MS, reason, sizeof reason);
    rd_kafka_CreateTopics(client, wanted, count, options, queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_NewTopic_destroy_array(wanted, count);
    rd_kafka_event_t *event = kafka_topics_await(queue, 2 * KAFKA_OPEN_TIMEOUT_MS, "creating topics", &code, error,
                                                 error_size);
    if (event) {
        const rd_kafka_topic_result_t **results =
            rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
        for (size_t i = 0; i < count && !code; i++) {
            rd_kafka_resp_err_t result = rd_kafka_topic_result_error(results[i]);
            /* Somebody else runs the same command: whoever writes Genesis first wins, see kafka_genesis.c. */
            if (result == RD_KAFKA_RESP_ERR_NO_ERROR || result == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
                continue;
            const char *text = rd_kafka_topic_result_error_string(results[i]);
            code = 2;
            if (kafka_is_unauthorised(result)) {
                kafka_unauthorised(uri, "create", rd_kafka_topic_result_name(results[i]), error, error_size);
                continue;
            }
            snprintf(error, error_size, "topic %s cannot be created: %s", rd_kafka_topic_result_name(results[i]),
                     text ? text : rd_kafka_err2str(result));
        }
        *created = !code;
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    return code;
}
