/* A log on Kafka: every partition of NAMESPACE.journal and NAMESPACE.inbox from its start, while workers may go on.
 *
 * No moment is common to all partitions, so what is judged is the log as of the journals' ends that are asked for first. Then
 * the inboxes' bounds are asked for, then the journals' again, and up to these all is read: what lies below the first ends
 * must find its cause, or its command, and each was there when the later bounds were asked for. Of each topic the starts are
 * asked for before the ends: the Mark that says why a head is gone then lies below the end.
 *
 * A head may be cut away while it is read. A partition of which nothing has been read yet is asked for its bounds again, an
 * inbox goes on where it begins now. A journal that was read in part makes the whole check begin again, and this time with a
 * spool: all is read before anything is judged, so that one journal can begin anew without the others.
 *
 * The number of partitions is asked for before all ends, and it may grow. Who meets a map of more than were read begins again, too. */
#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "verify.h"

enum { PATIENCE_MS = 15000, SILENCE_S = 60, CUTS_MOST = 20, GROWTH_TRIES = 10 };

struct topic {
    char *name;
    enum stream stream;
    int32_t partitions;
    int64_t *low, *high; /* what is to be read: [low, high) */
    int64_t *next;
    int *cuts;   /* how often its head was cut away */
    bool *gone; /* the head was cut away below what was to be read next */
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

static bool count_partitions(rd_kafka_t *kafka, const char *name, int32_t *count)
{
    const struct rd_kafka_metadata *all;
    if (!ask_metadata(kafka, name, &all))
        return false;
    rd_kafka_resp_err_t error = all->topic_cnt == 1 ? all->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    bool none = error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    *count = none ? -1 : error ? 0 : all->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(all);
    return !error || complain(name, rd_kafka_err2str(error));
}

static bool find_topic(rd_kafka_t *kafka, struct topic *t)
{
    if (!count_partitions(kafka, t->name, &t->partitions))
        return false;
    size_t count = (size_t)t->partitions;
    t->low = pv_must_alloc(count * sizeof *t->low);
    t->high = pv_must_alloc(count * sizeof *t->high);
    t->next = pv_must_alloc(count * sizeof *t->next);
    t->cuts = pv_must_alloc(count * sizeof *t->cuts);
    t->gone = pv_must_alloc(count * sizeof *t->gone);
    return true;
}

/* A partition that was added a moment ago, or whose leader has just changed, is asked again. */
static rd_kafka_resp_err_t ask_until(rd_kafka_t *kafka, rd_kafka_topic_partition_list_t *list)
{
    int64_t which = list->elems[0].offset;
    time_t end = time(NULL) + PATIENCE_MS / 1000;
    for (;;) {
        rd_kafka_resp_err_t error = rd_kafka_offsets_for_times(kafka, list, PATIENCE_MS);
        for (int i = 0; i < list->cnt && !error; i++)
            error = list->elems[i].err;
        bool passing = error == RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION ||
                       error == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE || error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
                       error == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION || error == RD_KAFKA_RESP_ERR__TRANSPORT;
        if (!passing || time(NULL) >= end)
            return error;
        nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
        for (int i = 0; i < list->cnt; i++)
            list->elems[i].offset = which;
    }
}

/* Starts (RD_KAFKA_OFFSET_BEGINNING) or ends (…_END) of the marked partitions, or of all. */
static bool ask_offsets(rd_kafka_t *kafka, const struct topic *t, int64_t which, const bool *marked, int64_t *offsets)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(t->partitions);
    for (int32_t i = 0; i < t->partitions; i++) {
        if (!marked || marked[i])
            rd_kafka_topic_partition_list_add(list, t->name, i)->offset = which;
    }
    rd_kafka_resp_err_t error = list->cnt ? ask_until(kafka, list) : 0;
    for (int i = 0; i < list->cnt && !error; i++)
        offsets[list->elems[i].partition] = list->elems[i].offset;
    rd_kafka_topic_partition_list_destroy(list);
    return !error || complain(t->name, rd_kafka_err2str(error));
}

static bool ask_bounds(rd_kafka_t *kafka, const struct topic *t, const bool *marked)
{
    return ask_offsets(kafka, t, RD_KAFKA_OFFSET_BEGINNING, marked, t->low) &&
           ask_offsets(kafka, t, RD_KAFKA_OFFSET_END, marked, t->high);
}

/* Partitions [from, to) that are not read to their end yet. */
static bool assign(rd_kafka_t *kafka, const struct topic *t, int32_t from, int32_t to, int32_t *left)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(t->partitions);
    for (int32_t i = from; i < to; i++) {
        if (t->next[i] < t->high[i])
            rd_kafka_topic_partition_list_add(list, t->name, i)->offset = t->next[i];
    }
    *left = list->cnt;
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
    if (c->spool)
        pv_save_to(c->spool, &m);
    else
        pv_check_record(c, &m);
}

/* What comes below the end is judged; the partition is done with when the next offset is not below it. */
static void take(struct check *c, const struct topic *t, const rd_kafka_message_t *got, int32_t *left)
{
    int32_t i = got->partition;
    if (i < 0 || i >= t->partitions || t->next[i] >= t->high[i] || got->offset < t->next[i])
        return;
    if (got->offset < t->high[i])
        hand_over(c, t->stream, got);
    t->next[i] = got->offset + 1;
    if (t->next[i] >= t->high[i])
        (*left)--;
}

static bool is_cut_away(const struct topic *t, const rd_kafka_message_t *got)
{
    return (got->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET || got->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE) &&
           got->partition >= 0 && got->partition < t->partitions;
}

/* False: the topic cannot be read. */
static bool take_error(const struct topic *t, const rd_kafka_message_t *got, int32_t *left)
{
    if (got->err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
        return true; /* nothing is asked of the group that assign() wants a name of */
    if (is_cut_away(t, got)) {
        bool open = t->next[got->partition] < t->high[got->partition] && !t->gone[got->partition];
        t->gone[got->partition] |= open;
        *left -= open;
        return true;
    }
    complain(t->name, rd_kafka_message_errstr(got));
    return got->err == RD_KAFKA_RESP_ERR__TRANSPORT || got->err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
}

/* What is assigned, to its end or to where it is gone. */
static bool read_assigned(struct check *c, rd_kafka_t *kafka, const struct topic *t, int32_t left)
{
    time_t heard = time(NULL);
    while (left > 0) {
        rd_kafka_message_t *got = rd_kafka_consumer_poll(kafka, 1000);
        bool ok = true;
        if (got && got->err) {
            ok = take_error(t, got, &left);
        } else if (got) {
            heard = time(NULL);
            take(c, t, got, &left);
        }
        if (got)
            rd_kafka_message_destroy(got);
        if (!ok)
            return false;
        if (time(NULL) - heard > SILENCE_S)
            return complain(t->name, "nothing came for 60 s");
    }
    return true;
}

static enum read_end begin_again(const char *what, const char *why)
{
    fprintf(stderr, "perdure-verify: %s: %s; begins again\n", what, why);
    return READ_AGAIN;
}

/* New bounds for those whose head is gone. Of an inbox only the start: its end stands with those of the other inboxes. */
static enum read_end go_on(struct check *c, rd_kafka_t *kafka, struct topic *t)
{
    for (int32_t i = 0; i < t->partitions; i++) {
        bool half_judged = t->stream == JOURNAL && t->gone[i] && t->next[i] > t->low[i] && !c->spool;
        if (half_judged)
            return begin_again(t->name, "a head was cut away while it was read");
        if (t->gone[i] && ++t->cuts[i] > CUTS_MOST) {
            complain(t->name, "heads are cut away faster than they can be read");
            return READ_FAILED;
        }
    }
    if (!(t->stream == JOURNAL ? ask_bounds(kafka, t, t->gone)
                               : ask_offsets(kafka, t, RD_KAFKA_OFFSET_BEGINNING, t->gone, t->low)))
        return READ_FAILED;
    for (int32_t i = 0; i < t->partitions; i++) {
        if (!t->gone[i])
            continue;
        t->next[i] = t->low[i];
        t->gone[i] = false;
        c->totals.heads_cut++;
        pv_check_begins(c, t->stream, (uint32_t)i, t->low[i]);
    }
    return READ_ALL;
}

/* In waves: what a partition got when it was made was in one below the last power of two (rule 24). */
static enum read_end read_topic(struct check *c, rd_kafka_t *kafka, struct topic *t)
{
    for (int32_t i = 0; i < t->partitions; i++)
        t->next[i] = t->low[i];
    for (int32_t from = 0, to = 1; from < t->partitions; from = to, to *= 2) {
        int32_t most = to < t->partitions ? to : t->partitions, left;
        for (;;) {
            if (!assign(kafka, t, from, most, &left))
                return READ_FAILED;
            if (left == 0)
                break;
            if (!read_assigned(c, kafka, t, left))
                return READ_FAILED;
            enum read_end end = go_on(c, kafka, t);
            if (end != READ_ALL)
                return end;
        }
    }
    return READ_ALL;
}

static enum read_end read_both(struct check *c, rd_kafka_t *kafka, struct topic *journal, struct topic *inbox)
{
    if (!find_topic(kafka, journal) || !find_topic(kafka, inbox) ||
        !ask_offsets(kafka, journal, RD_KAFKA_OFFSET_END, NULL, journal->high))
        return READ_FAILED;
    c->as_of = time(NULL);
    pv_check_partitions(c, (uint32_t)journal->partitions);
    for (int32_t i = 0; i < journal->partitions; i++)
        pv_check_horizon(c, JOURNAL, (uint32_t)i, journal->high[i]);
    if (!ask_bounds(kafka, inbox, NULL))
        return READ_FAILED;
    for (int32_t i = 0; i < inbox->partitions; i++) {
        pv_check_horizon(c, INBOX, (uint32_t)i, inbox->high[i]);
        pv_check_begins(c, INBOX, (uint32_t)i, inbox->low[i]);
    }
    if (!ask_bounds(kafka, journal, NULL))
        return READ_FAILED;
    enum read_end end = read_topic(c, kafka, journal);
    return end == READ_ALL ? read_topic(c, kafka, inbox) : end;
}

/* Partitions that were added after we asked for their number, and before the ends. Brokers hear of them one after the other. */
static enum read_end look_for_growth(const struct check *c, rd_kafka_t *kafka, const struct topic *journal,
                                     const struct topic *inbox)
{
    bool wanting = pv_check_map(c) > (uint32_t)journal->partitions || inbox->partitions > journal->partitions;
    for (int tries = 0; wanting && tries < GROWTH_TRIES; tries++) {
        int32_t now;
        if (!count_partitions(kafka, journal->name, &now))
            return READ_FAILED;
        if (now > journal->partitions)
            return begin_again(journal->name, "partitions were added while it was read");
        nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
    }
    return READ_ALL;
}

static enum read_end judge_spool(struct check *c, const char *name)
{
    FILE *spool = c->spool;
    c->spool = NULL;
    bool ok = fflush(spool) == 0 && !ferror(spool);
    if (!ok)
        complain(name, "what was read could not be kept in a temporary file");
    ok = ok && pv_read_dump(c, spool, name);
    fclose(spool);
    return ok ? READ_ALL : READ_FAILED;
}

static void free_topic(struct topic *t)
{
    free(t->name);
    free(t->low);
    free(t->high);
    free(t->next);
    free(t->cuts);
    free(t->gone);
}

static char *topic_name(const char *namespace, const char *which)
{
    char *name = pv_must_alloc(strlen(namespace) + strlen(which) + 2);
    sprintf(name, "%s.%s", namespace, which);
    return name;
}

enum read_end pv_read_kafka(struct check *c, const char *place, bool spool)
{
    struct trouble trouble = {0};
    char *brokers = pv_must_copy(place), *options = strchr(brokers, '?');
    if (options)
        *options++ = '\0';
    char *slash = strrchr(brokers, '/');
    if (!slash || slash == brokers || !slash[1] || strchr(brokers, '@')) {
        free(brokers);
        complain("--log", "expected kafka://BROKERS/NAMESPACE, without a user or password in it");
        return READ_FAILED;
    }
    *slash = '\0';
    struct topic journal = {.name = topic_name(slash + 1, "journal"), .stream = JOURNAL};
    struct topic inbox = {.name = topic_name(slash + 1, "inbox"), .stream = INBOX};
    rd_kafka_t *kafka = connect_to(brokers, options, &trouble);
    c->spool = spool ? tmpfile() : NULL;
    enum read_end end = kafka && (c->spool || !spool) ? read_both(c, kafka, &journal, &inbox) : READ_FAILED;
    if (end == READ_FAILED && journal.partitions < 0)
        end = READ_NONE;
    if (spool && !c->spool)
        complain("temporary file", strerror(errno));
    else if (spool && end == READ_ALL)
        end = judge_spool(c, journal.name);
    else if (spool)
        fclose(c->spool);
    if (end == READ_ALL)
        end = look_for_growth(c, kafka, &journal, &inbox);
    if (kafka) {
        rd_kafka_consumer_close(kafka);
        rd_kafka_destroy(kafka);
    }
    free(brokers);
    free_topic(&journal);
    free_topic(&inbox);
    return end;
}
