/* A log on Kafka: every partition of NAMESPACE.journal and NAMESPACE.inbox from its start, while workers may go on.
 *
 * No moment is common to all partitions. So the ends are asked for first, then everything is read, the journals up to
 * ends asked for later: what lies below the first ends must find its cause, and each cause was there by the later. */
#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "verify.h"

enum { PATIENCE_MS = 15000, SILENCE_S = 60 };

struct topic {
    char *name;
    int32_t partitions;
    int64_t *low, *high; /* what is to be read: [low, high) */
    int64_t *next;
};

static bool complain(const char *what, const char *why)
{
    fprintf(stderr, "perdure-verify: %s: %s\n", what, why);
    return false;
}

static bool set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char error[256];
    return rd_kafka_conf_set(conf, name, value, error, sizeof error) == RD_KAFKA_CONF_OK || complain(name, error);
}

/* Why brokers and we do not come together: what we refused, and what TLS or SASL did. */
struct trouble {
    char refused[256]; /* first: pv_kafka_connect() gets the whole */
    char reason[512];
};

/* On our thread, from the polls. */
static void on_error(rd_kafka_t *kafka, int error, const char *reason, void *opaque)
{
    struct trouble *trouble = opaque;
    (void)kafka;
    if (error == RD_KAFKA_RESP_ERR__AUTHENTICATION || error == RD_KAFKA_RESP_ERR__SSL ||
        error == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED)
        snprintf(trouble->reason, sizeof trouble->reason, "%s", reason);
}

static rd_kafka_t *connect_to(const char *brokers, const char *options, struct trouble *trouble)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_opaque(conf, trouble);
    rd_kafka_conf_set_error_cb(conf, on_error);
    bool ok = pv_kafka_settings(conf, options) && set(conf, "bootstrap.servers", brokers) && set(conf, "group.id", "perdure-verify") &&
              set(conf, "enable.auto.commit", "false") && set(conf, "enable.auto.offset.store", "false") &&
              set(conf, "auto.offset.reset", "error") && set(conf, "check.crcs", "true") &&
              set(conf, "enable.partition.eof", "false") && set(conf, "isolation.level", "read_uncommitted") &&
              set(conf, "allow.auto.create.topics", "false") && set(conf, "log_level", "0") &&
              set(conf, "queued.max.messages.kbytes", "16384") && set(conf, "client.id", "perdure-verify");
    char error[256];
    rd_kafka_t *kafka = ok ? rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error) : NULL;
    if (!kafka) {
        if (ok)
            complain(brokers, error);
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_poll_set_consumer(kafka);
    return kafka;
}

/* In longer and longer pieces: rd_kafka_metadata() does not come back early when brokers refuse us. */
static bool ask_metadata(rd_kafka_t *kafka, const char *name, const struct rd_kafka_metadata **all)
{
    const struct trouble *trouble = rd_kafka_opaque(kafka);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(kafka, name, NULL);
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR__TRANSPORT;
    const char *refusal = NULL;
    for (int piece = 500; piece < PATIENCE_MS && error && !refusal && !*trouble->reason; piece *= 2) {
        error = rd_kafka_metadata(kafka, 0, handle, all, piece);
        rd_kafka_message_t *none = error ? rd_kafka_consumer_poll(kafka, 0) : NULL; /* errors are told there */
        if (none)
            rd_kafka_message_destroy(none);
        refusal = error ? pv_kafka_refusal(trouble->refused) : NULL;
    }
    rd_kafka_topic_destroy(handle);
    for (int i = 0; !error && i < (*all)->broker_cnt && !refusal; i++)
        refusal = pv_kafka_foreign((*all)->brokers[i].host);
    if (!error && !refusal)
        return true;
    if (!error)
        rd_kafka_metadata_destroy(*all);
    return complain(name, refusal ? refusal : *trouble->reason ? trouble->reason : rd_kafka_err2str(error));
}

static bool find_topic(rd_kafka_t *kafka, struct topic *t)
{
    const struct rd_kafka_metadata *all;
    if (!ask_metadata(kafka, t->name, &all))
        return false;
    rd_kafka_resp_err_t error = all->topic_cnt == 1 ? all->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    t->partitions = error ? 0 : all->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(all);
    if (error)
        return complain(t->name, rd_kafka_err2str(error));
    size_t count = (size_t)t->partitions;
    t->low = pv_must_alloc(count * sizeof *t->low);
    t->high = pv_must_alloc(count * sizeof *t->high);
    t->next = pv_must_alloc(count * sizeof *t->next);
    return true;
}

static bool ask_ends(rd_kafka_t *kafka, struct topic *t)
{
    for (int32_t i = 0; i < t->partitions; i++) {
        rd_kafka_resp_err_t error =
            rd_kafka_query_watermark_offsets(kafka, t->name, i, &t->low[i], &t->high[i], PATIENCE_MS);
        if (error)
            return complain(t->name, rd_kafka_err2str(error));
    }
    return true;
}

static bool assign(rd_kafka_t *kafka, const struct topic *t, int32_t *left)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(t->partitions);
    *left = 0;
    for (int32_t i = 0; i < t->partitions; i++) {
        t->next[i] = t->low[i];
        if (t->low[i] >= t->high[i])
            continue;
        rd_kafka_topic_partition_list_add(list, t->name, i)->offset = t->low[i];
        (*left)++;
    }
    rd_kafka_resp_err_t error = rd_kafka_assign(kafka, list);
    rd_kafka_topic_partition_list_destroy(list);
    return !error || complain(t->name, rd_kafka_err2str(error));
}

static void hand_over(struct check *c, enum stream stream, const rd_kafka_message_t *got)
{
    rd_kafka_timestamp_type_t type;
    int64_t when = rd_kafka_message_timestamp(got, &type);
    struct message m = {.stream = stream,
                        .partition = (uint32_t)got->partition,
                        .offset = got->offset,
                        .append_ms = type == RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME ? when : 0,
                        .data = got->payload,
                        .size = got->len,
                        .key = got->key,
                        .key_size = got->key_len};
    pv_check_record(c, &m);
}

/* What comes below the end is judged; the partition is done with when the next offset is not below it. */
static void take(struct check *c, enum stream stream, const struct topic *t, const rd_kafka_message_t *got,
                 int32_t *left)
{
    int32_t i = got->partition;
    if (i < 0 || i >= t->partitions || t->next[i] >= t->high[i])
        return;
    if (got->offset < t->high[i])
        hand_over(c, stream, got);
    t->next[i] = got->offset + 1;
    if (t->next[i] >= t->high[i])
        (*left)--;
}

static bool read_topic(struct check *c, rd_kafka_t *kafka, const struct topic *t, enum stream stream)
{
    int32_t left;
    if (!assign(kafka, t, &left))
        return false;
    time_t heard = time(NULL);
    while (left > 0) {
        rd_kafka_message_t *got = rd_kafka_consumer_poll(kafka, 1000);
        if (got && got->err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED) {
            rd_kafka_message_destroy(got); /* nothing is asked of the group that assign() wants a name of */
        } else if (got && got->err) {
            complain(t->name, rd_kafka_message_errstr(got));
            bool passing = got->err == RD_KAFKA_RESP_ERR__TRANSPORT || got->err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
            rd_kafka_message_destroy(got);
            if (!passing)
                return false;
        } else if (got) {
            heard = time(NULL);
            take(c, stream, t, got, &left);
            rd_kafka_message_destroy(got);
        }
        if (time(NULL) - heard > SILENCE_S)
            return complain(t->name, "nothing came for 60 s");
    }
    return true;
}

static void tell_horizons(struct check *c, const struct topic *t, enum stream stream)
{
    pv_check_partitions(c, (uint32_t)t->partitions);
    for (int32_t i = 0; i < t->partitions; i++)
        pv_check_horizon(c, stream, (uint32_t)i, t->high[i]);
}

static bool read_both(struct check *c, rd_kafka_t *kafka, struct topic *journal, struct topic *inbox)
{
    if (!find_topic(kafka, journal) || !find_topic(kafka, inbox) || !ask_ends(kafka, journal) ||
        !ask_ends(kafka, inbox))
        return false;
    tell_horizons(c, journal, JOURNAL);
    tell_horizons(c, inbox, INBOX);
    return ask_ends(kafka, journal) && read_topic(c, kafka, journal, JOURNAL) && read_topic(c, kafka, inbox, INBOX);
}

static void free_topic(struct topic *t)
{
    free(t->name);
    free(t->low);
    free(t->high);
    free(t->next);
}

static char *topic_name(const char *namespace, const char *which)
{
    char *name = pv_must_alloc(strlen(namespace) + strlen(which) + 2);
    sprintf(name, "%s.%s", namespace, which);
    return name;
}

bool pv_read_kafka(struct check *c, const char *place)
{
    struct trouble trouble = {0};
    char *brokers = pv_must_copy(place), *options = strchr(brokers, '?');
    if (options)
        *options++ = '\0';
    char *slash = strrchr(brokers, '/');
    if (!slash || slash == brokers || !slash[1] || strchr(brokers, '@')) {
        free(brokers);
        return complain("--log", "expected kafka://BROKERS/NAMESPACE, without a user or password in it");
    }
    *slash = '\0';
    struct topic journal = {.name = topic_name(slash + 1, "journal")}, inbox = {.name = topic_name(slash + 1, "inbox")};
    rd_kafka_t *kafka = connect_to(brokers, options, &trouble);
    bool ok = kafka && read_both(c, kafka, &journal, &inbox);
    if (kafka) {
        rd_kafka_consumer_close(kafka);
        rd_kafka_destroy(kafka);
    }
    free(brokers);
    free_topic(&journal);
    free_topic(&inbox);
    return ok;
}
