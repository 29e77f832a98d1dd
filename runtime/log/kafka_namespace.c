/*
 * `perdure namespace create` and `perdure check`, and what every start checks.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log/kafka_internal.h"

int kafka_namespace_open(struct kafka_namespace *ns, const char *uri, bool dev, bool writes, char *text,
                         size_t text_size)
{
    memset(ns, 0, sizeof *ns);
    kafka_notes_init(&ns->notes);
    if (!kafka_uri_parse(&ns->uri, uri, text, text_size))
        return 2;
    ns->uri.dev = ns->uri.dev || dev;
    ns->client = writes ? kafka_producer_new(&ns->uri, "perdure-namespace", &ns->notes, text, text_size)
                        : kafka_asker_new(&ns->uri, "perdure-namespace", &ns->notes, text, text_size);
    if (!ns->client)
        return 2;
    for (int topic = 0; topic < KAFKA_TOPICS; topic++) { /* librdkafka asks for the topics that it knows of */
        char name[KAFKA_TOPIC_NAME_BYTES];
        kafka_topic_name(&ns->uri, (enum kafka_topic)topic, name, sizeof name);
        ns->handles[topic] = rd_kafka_topic_new(ns->client, name, NULL);
    }
    return kafka_topics_shape(ns->client, &ns->uri, &ns->notes, KAFKA_OPEN_TIMEOUT_MS, &ns->shape, text, text_size);
}

void kafka_namespace_close(struct kafka_namespace *ns)
{
    for (int topic = 0; topic < KAFKA_TOPICS; topic++)
        if (ns->handles[topic])
            rd_kafka_topic_destroy(ns->handles[topic]);
    if (ns->client)
        rd_kafka_destroy(ns->client);
    kafka_uri_free(&ns->uri);
    kafka_notes_free(&ns->notes);
}

static int kafka_namespace_verify(struct kafka_namespace *ns, struct kafka_genesis **found, char *text, size_t text_size)
{
    int code = kafka_topics_check_partitions(&ns->uri, &ns->shape, text, text_size);
    if (!code)
        code = kafka_topics_check_settings(ns->client, &ns->uri, &ns->shape, text, text_size);
    if (code)
        return code;
    uint32_t partitions = (uint32_t)ns->shape.partitions[KAFKA_JOURNAL];
    *found = calloc(partitions, sizeof **found);
    if (!*found) {
        snprintf(text, text_size, "out of memory");
        return 2;
    }
    return kafka_genesis_read(&ns->uri, 0, partitions, *found, text, text_size);
}

int kafka_namespace_check(const char *uri, bool dev, char *text, size_t text_size)
{
    struct kafka_namespace ns;
    struct kafka_genesis *found = NULL;
    int code = kafka_namespace_open(&ns, uri, dev, false, text, text_size);
    if (!code)
        code = kafka_namespace_verify(&ns, &found, text, text_size);
    if (!code) {
        uint32_t partitions = (uint32_t)ns.shape.partitions[KAFKA_JOURNAL];
        code = kafka_genesis_check(&ns.uri, found, partitions, partitions, text, text_size);
        if (!code)
            snprintf(text, text_size, "namespace %s: %u partitions, log id %016" PRIx64 ", all settings are right",
                     ns.uri.name, partitions, found[0].genesis.log_id);
    }
    free(found);
    kafka_namespace_close(&ns);
    return code;
}

/* Metadata spreads over the brokers a moment after the topics are made. */
static int kafka_namespace_settle(struct kafka_namespace *ns, char *text, size_t text_size)
{
    int64_t deadline = kafka_monotonic_ms() + KAFKA_OPEN_TIMEOUT_MS;
    for (;;) {
        int code = kafka_topics_shape(ns->client, &ns->uri, &ns->notes, KAFKA_OPEN_TIMEOUT_MS, &ns->shape, text, text_size);
        if (code)
            return code;
        bool whole = !ns->shape.leaderless;
        for (int topic = 0; topic < KAFKA_TOPICS; topic++)
            whole = whole && ns->shape.partitions[topic] > 0;
        if (whole || kafka_monotonic_ms() > deadline)
            return 0;
        nanosleep(&(struct timespec){ .tv_nsec = 50 * 1000 * 1000 }, NULL);
    }
}

static int kafka_namespace_refuse(const struct kafka_namespace *ns, uint32_t partitions, char *text, size_t text_size)
{
    if (partitions > SLOT_COUNT || (partitions & (partitions - 1))) {
        snprintf(text, text_size, "%u partitions: must be a power of two from 1 to %d", partitions, SLOT_COUNT);
        return 2;
    }
    if (!ns->uri.dev && ns->shape.brokers < 2) {
        snprintf(text, text_size, "the cluster at %s has one broker, and what it alone keeps is lost with it: two are needed, "
                 "three are better. For a trial: --dev", ns->uri.brokers);
        return 2;
    }
    int there = ns->shape.partitions[KAFKA_JOURNAL];
    if (there > 0 && partitions > 0 && there != (int)partitions) {
        snprintf(text, text_size, "namespace %s is there already, with %d partitions instead of %u: name no number to take it "
                 "as it is, or add to them with `perdure namespace grow`", ns->uri.name, there, partitions);
        return 2;
    }
    return 0;
}

/* As many as asked for, as are there, or the default. */
static uint32_t kafka_namespace_count(const struct kafka_namespace *ns, uint32_t asked)
{
    static const enum kafka_topic topics[] = { KAFKA_JOURNAL, KAFKA_INBOX, KAFKA_JOBS, KAFKA_REPLIES };
    for (size_t i = 0; i < sizeof topics / sizeof topics[0] && asked == 0; i++)
        asked = (uint32_t)ns->shape.partitions[topics[i]];
    return asked ? asked : NAMESPACE_PARTITIONS;
}

static int kafka_namespace_write(struct kafka_namespace *ns, struct kafka_genesis **found, uint32_t *written, char *text,
                                 size_t text_size)
{
    uint32_t partitions = (uint32_t)ns->shape.partitions[KAFKA_JOURNAL];
    int code = kafka_namespace_verify(ns, found, text, text_size);
    Genesis like = PERDURE__V1__GENESIS__INIT;
    like.partitions = partitions;
    like.map_version = 1;
    like.rule_level = RULE_LEVEL_NEW;
    for (uint32_t i = 0; i < partitions && !code; i++)
        *written += !(*found)[i].found;
    for (uint32_t i = 0; i < partitions && !code && *written > 0; i++)
        if ((*found)[i].found && (*found)[i].genesis.partitions != partitions) {
            snprintf(text, text_size, "a growth of namespace %s to %u partitions was begun and not finished: run `perdure "
                     "namespace grow --partitions %u` again", ns->uri.name, partitions, partitions);
            code = 2;
        }
    if (!code && *written > 0)
        code = kafka_genesis_write(ns->client, &ns->uri, *found, &like, text, text_size);
    if (!code && *written > 0) /* two that ran at once would show here */
        code = kafka_genesis_read(&ns->uri, 0, partitions, *found, text, text_size);
    return code ? code : kafka_genesis_check(&ns->uri, *found, partitions, partitions, text, text_size);
}

int kafka_namespace_create(const char *uri, uint32_t partitions, bool dev, char *text, size_t text_size)
{
    struct kafka_namespace ns;
    struct kafka_genesis *found = NULL;
    bool created = false;
    uint32_t written = 0;
    int code = kafka_namespace_open(&ns, uri, dev, true, text, text_size);
    if (!code)
        code = kafka_namespace_refuse(&ns, partitions, text, text_size);
    if (!code)
        code = kafka_topics_create(ns.client, &ns.uri, &ns.shape, kafka_namespace_count(&ns, partitions), &created, text,
                                   text_size);
    if (!code)
        code = kafka_namespace_settle(&ns, text, text_size);
    if (!code)
        code = kafka_namespace_write(&ns, &found, &written, text, text_size);
    if (!code && !created && written == 0)
        snprintf(text, text_size, "namespace %s is there already: %u partitions, log id %016" PRIx64 ", all settings are "
                 "right; nothing was changed", ns.uri.name, (unsigned)ns.shape.partitions[KAFKA_JOURNAL],
                 found[0].genesis.log_id);
    else if (!code)
        snprintf(text, text_size, "namespace %s is made: %u partitions, log id %016" PRIx64, ns.uri.name,
                 (unsigned)ns.shape.partitions[KAFKA_JOURNAL], found[0].genesis.log_id);
    free(found);
    kafka_namespace_close(&ns);
    return code;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

/* A namespace that grows looks torn for a moment: topics and Genesis records follow one another. */
static int kafka_namespace_open_whole(struct kafka_namespace *ns, const char *uri, const struct log_options *options,
                                      struct kafka_genesis **found, uint32_t *count, char *error, size_t error_size)
{
    *found = NULL;
    bool member = options->member != NULL;
    int code = kafka_namespace_open(ns, uri, false, false, error, error_size);
    ns->uri.dev = ns->uri.dev || ns->shape.brokers == 1; /* who made the namespace there has said so */
    if (!member) /* what a client, or one that only reads, does without */
        ns->shape.needless = 1u << KAFKA_DEAD | (options->read_only ? 1u << KAFKA_REPLIES : 0);
    if (!code)
        code = kafka_topics_check_partitions(&ns->uri, &ns->shape, error, error_size);
    uint32_t partitions = (uint32_t)ns->shape.partitions[KAFKA_JOURNAL];
    *count = member ? partitions : 1;
    if (!code && member) {
        code = kafka_namespace_verify(ns, found, error, error_size);
    } else if (!code) {
        *found = calloc(1, sizeof **found); /* the last one's: it knows the newest map */
        code = *found ? kafka_genesis_read(&ns->uri, partitions - 1, 1, *found, error, error_size) : 2;
    }
    if (!code)
        code = kafka_genesis_check(&ns->uri, *found, *count, partitions, error, error_size);
    return code;
}

#define GROWING_PATIENCE_MS 10000

/* Journals first, then a Genesis in each, then the inboxes; and a broker may not have heard of partitions that a Genesis names. */
static bool kafka_namespace_grows(const struct kafka_namespace *ns, const struct kafka_genesis *found, uint32_t count)
{
    int journals = ns->shape.partitions[KAFKA_JOURNAL], jobs = ns->shape.partitions[KAFKA_JOBS];
    const struct kafka_genesis *last = found && count > 0 ? &found[count - 1] : NULL;
    return (jobs > 0 && journals > jobs) || (last && last->found && last->genesis.partitions > (uint32_t)journals);
}

int kafka_log_open(const char *uri, const struct log_options *options, struct log **out, char *error, size_t error_size)
{
    struct kafka_namespace ns;
    struct kafka_genesis *found = NULL;
    uint32_t count = 0;
    *out = NULL;
    int64_t deadline = kafka_monotonic_ms() + GROWING_PATIENCE_MS;
    int code = kafka_namespace_open_whole(&ns, uri, options, &found, &count, error, error_size);
    while (code == 2 && kafka_namespace_grows(&ns, found, count) && kafka_monotonic_ms() < deadline) {
        free(found);
        kafka_namespace_close(&ns);
        nanosleep(&(struct timespec){ .tv_nsec = 200 * 1000 * 1000 }, NULL);
        code = kafka_namespace_open_whole(&ns, uri, options, &found, &count, error, error_size);
    }
    if (!code) {
        struct kafka_log *log = NULL;
        Genesis *newest = &found[count - 1].genesis;
        newest->partition = 0;
        newest->settled = 0;
        code = kafka_log_open_as(&ns.uri, options, newest, &ns.shape, &log, error, error_size);
        *out = log ? &log->base : NULL;
    }
    free(found);
    kafka_namespace_close(&ns);
    return code;
}
