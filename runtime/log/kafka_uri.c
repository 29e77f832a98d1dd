/*
 * Where a namespace is, and the configuration that every Kafka client of ours begins with.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "log/kafka_internal.h"

static const char *const kafka_topic_suffixes[KAFKA_TOPICS] = { "inbox", "journal", "jobs", "replies", "dead" };

void kafka_topic_name(const struct kafka_uri *uri, enum kafka_topic topic, char *name, size_t size)
{
    snprintf(name, size, "%s.%s", uri->name, kafka_topic_suffixes[topic]);
}

void kafka_queue_topic(const struct kafka_uri *uri, const char *queue, char *name, size_t size)
{
    snprintf(name, size, "%s.tasks.%s", uri->name, queue);
}

static bool kafka_uri_name_valid(const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length >= sizeof ((struct kafka_uri *)0)->name)
        return false;
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
            return false;
    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* librdkafka takes a port of any size, cut to 16 bits. */
static bool kafka_uri_ports_valid(const char *brokers)
{
    for (const char *broker = brokers; *broker;) {
        size_t length = strcspn(broker, ",");
        const char *colon = memrchr(broker, ':', length);
        size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
        long port = colon ? strtol(colon + 1, NULL, 10) : 9092;
        if (colon && (port < 1 || port > 65535 || colon + 1 + digits != broker + length) && broker[length - 1] != ']')
            return false;
        broker += length + (broker[length] == ',');
    }
    return true;
}

/* "kafka://BROKERS/NAMESPACE" without what may be a secret: options, and a user before '@'. */
static void kafka_uri_shown(const char *text, char *shown, size_t size)
{
    size_t length = strcspn(text, "?");
    const char *at = memrchr(text, '@', length);
    snprintf(shown, size, "%s%.*s", at ? "kafka://***" : "", (int)(length - (at ? (size_t)(at - text) : 0)), at ? at : text);
}

static bool kafka_uri_parse_place(struct kafka_uri *uri, const char *text, char *error, size_t error_size)
{
    char shown[800], name[sizeof uri->name + 1];
    const char *brokers = strncmp(text, "kafka://", 8) == 0 ? text + 8 : NULL;
    const char *slash = brokers ? brokers + strcspn(brokers, "/?") : NULL;
    kafka_uri_shown(text, shown, sizeof shown);
    if (!slash || *slash != '/' || slash == brokers || (size_t)(slash - brokers) >= sizeof uri->brokers) {
        snprintf(error, error_size, "'%s' is no address of a log in Kafka: kafka://host:port[,host:port]/NAMESPACE", shown);
        return false;
    }
    if (memchr(brokers, '@', (size_t)(slash - brokers))) {
        snprintf(error, error_size, "'%s': no user or password stands in the address of a log, where process lists and logs "
                 "keep it: put sasl.username and sasl.password into a file, and name that with --kafka-config or "
                 KAFKA_CONFIG_VARIABLE, shown);
        return false;
    }
    memcpy(uri->brokers, brokers, (size_t)(slash - brokers));
    if (!kafka_uri_ports_valid(uri->brokers)) {
        snprintf(error, error_size, "'%s': a port is a number from 1 to 65535", uri->brokers);
        return false;
    }
    size_t length = strcspn(slash + 1, "?");
    snprintf(name, sizeof name, "%.*s", (int)(length < sizeof uri->name ? length : sizeof uri->name), slash + 1);
    if (!kafka_uri_name_valid(name)) {
        snprintf(error, error_size, "'%s' names no namespace after the last '/': letters, digits, '.', '_' and '-', at most "
                 "%zu", shown, sizeof uri->name - 1);
        return false;
    }
    strcpy(uri->name, name);
    return true;
}

bool kafka_uri_parse(struct kafka_uri *uri, const char *text, char *error, size_t error_size)
{
    memset(uri, 0, sizeof *uri);
    if (!kafka_uri_parse_place(uri, text, error, error_size))
        return false;
    const char *options = strchr(text, '?');
    uri->settings = kafka_settings_read(options ? options + 1 : NULL, &uri->dev, error, error_size);
    if (uri->settings && !kafka_plaintext_refuses_all(uri, error, error_size))
        return true;
    kafka_uri_free(uri);
    return false;
}

void kafka_uri_copy(struct kafka_uri *to, const struct kafka_uri *from)
{
    *to = *from;
    kafka_settings_share(to->settings);
}

void kafka_uri_free(struct kafka_uri *uri)
{
    kafka_settings_release(uri->settings);
    uri->settings = NULL;
}

/* ---- what librdkafka says ------------------------------------------------------------------------------------ */

void kafka_notes_init(struct kafka_notes *notes)
{
    pthread_mutex_init(&notes->lock, NULL);
    notes->last[0] = notes->certificate[0] = notes->refused[0] = '\0';
}

void kafka_notes_free(struct kafka_notes *notes)
{
    pthread_mutex_destroy(&notes->lock);
}

void kafka_notes_get(struct kafka_notes *notes, char *text, size_t size)
{
    pthread_mutex_lock(&notes->lock);
    snprintf(text, size, "%s", notes->last);
    pthread_mutex_unlock(&notes->lock);
}

void kafka_notes_certificate(struct kafka_notes *notes, char *text, size_t size)
{
    pthread_mutex_lock(&notes->lock);
    snprintf(text, size, "%s", notes->certificate);
    pthread_mutex_unlock(&notes->lock);
}

bool kafka_notes_refusal(struct kafka_notes *notes, char *text, size_t size)
{
    pthread_mutex_lock(&notes->lock);
    bool refused = notes->refused[0];
    if (refused)
        snprintf(text, size, "%s", notes->refused);
    pthread_mutex_unlock(&notes->lock);
    return refused;
}

/* On librdkafka's threads. The last error explains best what is wrong. */
static void kafka_notes_take(const rd_kafka_t *client, int level, const char *facility, const char *text)
{
    struct kafka_notes *notes = rd_kafka_opaque(client);
    (void)facility;
    if (!notes || (level > 3 && !strstr(text, "incorrect security.protocol"))) /* which it takes for no error */
        return;
    const char *start = strstr(text, "]: ");
    pthread_mutex_lock(&notes->lock);
    snprintf(notes->last, sizeof notes->last, "%s", start ? start + 3 : text);
    pthread_mutex_unlock(&notes->lock);
}

/* ---- clients --------------------------------------------------------------------------------------------------- */

static bool kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, char *error, size_t error_size)
{
    char reason[256];
    if (rd_kafka_conf_set(conf, name, value, reason, sizeof reason) == RD_KAFKA_CONF_OK)
        return true;
    snprintf(error, error_size, "Kafka setting %s=%s: %s", name, value, reason);
    return false;
}

rd_kafka_t *kafka_client_new(const struct kafka_uri *uri, rd_kafka_type_t type, const char *client_name,
                             const struct kafka_setting *settings, struct kafka_notes *notes, int events,
                             char *error, size_t error_size)
{
    static const struct kafka_setting common[] = {
        { "socket.nagle.disable", "true" },     /* on by default in 2.0.2: 40 ms for small requests */
        { "socket.keepalive.enable", "true" },
        { "reconnect.backoff.ms", "50" },
        { "reconnect.backoff.max.ms", "1000" }, /* back within a second of the broker's return, not ten */
        { "allow.auto.create.topics", "false" },/* a topic that somebody deleted must not come back by itself */
        { NULL, NULL },
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    bool good = kafka_conf_set(conf, "bootstrap.servers", uri->brokers, error, error_size) &&
                kafka_conf_set(conf, "client.id", client_name, error, error_size);
    for (const struct kafka_setting *s = common; good && s->name; s++)
        good = kafka_conf_set(conf, s->name, s->value, error, error_size);
    for (const struct kafka_setting *s = settings; good && s->name; s++)
        good = kafka_conf_set(conf, s->name, s->value, error, error_size);
    good = good && kafka_settings_apply(uri->settings, conf, error, error_size);
    if (!good) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_conf_set_opaque(conf, notes);
    rd_kafka_conf_set_log_cb(conf, kafka_notes_take);
    rd_kafka_conf_set_events(conf, events);
    if (kafka_plaintext_guarded(uri))
        rd_kafka_conf_set_connect_cb(conf, kafka_plaintext_connect);
    if (!kafka_settings_plaintext(uri->settings))
        rd_kafka_conf_set_ssl_cert_verify_cb(conf, kafka_certificate_judged);
    const char *mechanism = kafka_settings_get(uri->settings, "sasl.mechanism");
    bool tokens = mechanism && strcasecmp(mechanism, "OAUTHBEARER") == 0;
    rd_kafka_conf_enable_sasl_queue(conf, tokens);
    char reason[512];
    rd_kafka_t *client = rd_kafka_new(type, conf, reason, sizeof reason);
    if (!client) {
        rd_kafka_conf_destroy(conf);
        snprintf(error, error_size, "cannot make a Kafka client: %s", reason);
        return NULL;
    }
    if (tokens) /* they are renewed whether or not we poll */
        rd_kafka_error_destroy(rd_kafka_sasl_background_callbacks_enable(client));
    return client;
}

rd_kafka_t *kafka_asker_new(const struct kafka_uri *uri, const char *client_name, struct kafka_notes *notes, char *error,
                            size_t error_size)
{
    static const struct kafka_setting settings[] = { { NULL, NULL } };
    return kafka_client_new(uri, RD_KAFKA_PRODUCER, client_name, settings, notes, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR,
                            error, error_size);
}

rd_kafka_t *kafka_producer_new(const struct kafka_uri *uri, const char *client_name, struct kafka_notes *notes,
                               char *error, size_t error_size)
{
    static const struct kafka_setting settings[] = {
        { "enable.idempotence", "true" },
        { "acks", "all" },
        { "linger.ms", "0" },
        { "message.timeout.ms", "300000" }, /* rule 5 */
        { "queue.buffering.max.messages", "10000000" },
        { "queue.buffering.max.kbytes", "1048576" },
        /* H20: a batch that the topic would refuse must not be built. */
        { "message.max.bytes", "1048588" },
        { "batch.size", "1000000" },
        { "batch.num.messages", "10000" },
        { NULL, NULL },
    };
    return kafka_client_new(uri, RD_KAFKA_PRODUCER, client_name, settings, notes, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR,
                            error, error_size);
}
