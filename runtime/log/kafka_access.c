/*
 * What a broker, or we, refuse: certificates, passwords, rights. A refusal must be told at once and by name: who wanted to
 * do what to what.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "log/kafka_internal.h"

/* Another broker of the list may take what one refused, and one that is just starting may refuse what it takes later. */
#define KAFKA_REFUSAL_GRACE_MS 2000
#define SECURITY_PROTOCOL_GUESS "incorrect security.protocol" /* librdkafka's, when a plain connection is hung up */
#define KAFKA_METADATA_FIRST_MS 250

bool kafka_is_unauthorised(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
           code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
}

bool kafka_is_refused(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED ||
           code == RD_KAFKA_RESP_ERR__SSL || code == RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM;
}

void kafka_unauthorised(const struct kafka_uri *uri, const char *what, const char *resource, char *text, size_t size)
{
    snprintf(text, size,
             "not authorised to %s %s as %s. The ACLs of Kafka at %s decide; docs/security.md lists those that "
             "each role needs",
             what, resource, kafka_settings_principal(uri->settings), uri->brokers);
}

/* What librdkafka says of TLS is exact, but in OpenSSL's words. */
static const char *kafka_refusal_hint(const char *reason)
{
#define HINT_AUTHORITY "the broker's certificate is not signed by an authority that ssl.ca.location names"
#define HINT_OURS "the broker does not take our certificate: look at ssl.certificate.location and ssl.key.location"
#define HINT_PASSWORD "sasl.username or sasl.password is wrong"
    static const struct {
        const char *word, *hint;
    } hints[] = {
        { "has expired", "the broker's certificate has expired, or the clock of this machine is wrong" },
        { "not yet valid", "the broker's certificate is not valid yet, or the clock of this machine is wrong" },
        { "is for another", "the broker's certificate is for another name than the address has" },
        { "certificate verify failed", HINT_AUTHORITY },
        { "alert certificate expired", "our certificate (ssl.certificate.location) has expired" },
        { "certificate required",
          "the broker wants a certificate of ours: set ssl.certificate.location and ssl.key.location" },
        { "bad certificate", HINT_OURS " (are they set?)" },
        { "alert certificate", HINT_OURS },
        { "unknown ca", "the broker does not know who signed our certificate (ssl.certificate.location)" },
        { "wrong version number", "the broker does not speak TLS on this port: look at security.protocol" },
        { "unexpected eof",
          "the broker does not speak TLS on this port, or no version that we know: look at security.protocol" },
        { SECURITY_PROTOCOL_GUESS,
          "it hung up: it starts or stops just now, or it wants TLS or SASL on this port, which security.protocol does not say" },
        { "nsupported SASL mechanism", "the broker does not offer this sasl.mechanism" },
#if RD_KAFKA_VERSION < 0x020601ff
        { "mechanism SCRAM",
          HINT_PASSWORD "; or it is this librdkafka, which cannot do SCRAM with Kafka 4 (its bug "
                        "4895, gone in 2.6.1): then use PLAIN over TLS, a certificate, or a newer librdkafka" },
#endif
        { "uthentication failed", HINT_PASSWORD },
        { NULL, NULL },
    };
    for (size_t i = 0; hints[i].word; i++)
        if (strstr(reason, hints[i].word))
            return hints[i].hint;
    return "look at security.protocol, sasl.* and ssl.*";
}

void kafka_refused(const struct kafka_uri *uri, const char *reason, char *text, size_t size)
{
    snprintf(text, size, "no connection to Kafka at %s as %s: %s. librdkafka says: %s", uri->brokers,
             kafka_settings_principal(uri->settings), kafka_refusal_hint(reason), reason);
}

/* Takes the errors that wait in the client's queue; the first refusal among them stays. Some are told in words only. */
static void kafka_refusal_take(rd_kafka_queue_t *queue, struct kafka_notes *notes, char *reason, size_t size)
{
    char said[256];
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(queue, 0))) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR && kafka_is_refused(rd_kafka_event_error(event)) &&
            !*reason)
            snprintf(reason, size, "%s", rd_kafka_event_error_string(event));
        rd_kafka_event_destroy(event);
    }
    kafka_notes_get(notes, said, sizeof said);
    if (!*reason && (strstr(said, "SSL alert number") || strstr(said, SECURITY_PROTOCOL_GUESS)))
        snprintf(reason, size, "%s", said);
    kafka_notes_certificate(notes, said, sizeof said); /* more exact than what an error says */
    if (*reason && *said && !strstr(reason, said)) {
        size_t length = strlen(reason);
        snprintf(reason + length, size - length, " (%s)", said);
    }
}

static void kafka_metadata_failed(const struct kafka_uri *uri, struct kafka_notes *notes, int64_t waited_ms,
                                  rd_kafka_resp_err_t code, char *error, size_t error_size)
{
    char said[256];
    kafka_notes_get(notes, said, sizeof said);
    snprintf(error, error_size,
             "no Kafka broker at %s answered within %d s (%s). Is Kafka running there, is the address "
             "right, may this machine connect to it?",
             uri->brokers, (int)((waited_ms + 500) / 1000), *said ? said : rd_kafka_err2str(code));
}

/* On librdkafka's threads, for each certificate of a broker's chain; we change no verdict, only remember why. The numbers
 * are OpenSSL's X509_V_ERR_*. */
int kafka_certificate_judged(rd_kafka_t *client, const char *broker, int32_t broker_id, int *error, int depth,
                             const char *certificate, size_t size, char *text, size_t text_size, void *opaque)
{
    static const struct {
        int code;
        const char *text;
    } reasons[] = {
        { 9, "is not yet valid" },
        { 10, "has expired" },
        { 18, "is self-signed" },
        { 19, "comes with an authority of its own that is not in ssl.ca.location" },
        { 20, "has an issuer that is not in ssl.ca.location" },
        { 21, "has an issuer that is not in ssl.ca.location" },
        { 23, "was revoked" },
        { 62, "is for another host name" },
        { 64, "is for another IP address" },
    };
    struct kafka_notes *notes = opaque;
    const char *reason = "is not valid";
    (void)client, (void)broker_id, (void)certificate, (void)size;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].code == *error)
            reason = reasons[i].text;
    if (*error == 0)
        return 1;
    snprintf(text, text_size, "OpenSSL error %d", *error);
    if (notes) {
        pthread_mutex_lock(&notes->lock);
        snprintf(notes->certificate, sizeof notes->certificate, "the certificate of %.80s%s %s", broker,
                 depth > 0 ? ", or one above it," : "", reason);
        pthread_mutex_unlock(&notes->lock);
    }
    return 0;
}

/*
 * rd_kafka_metadata() waits for a broker until its time is over, also when each has refused us. So it is asked for a short
 * while first, then for longer ones, and refusals are looked for in between.
 */
int kafka_metadata(rd_kafka_t *client, const struct kafka_uri *uri, struct kafka_notes *notes, int timeout_ms,
                   const struct rd_kafka_metadata **out, char *error, size_t error_size)
{
    char reason[512] = "";
    int64_t begin = kafka_monotonic_ms(), deadline = begin + timeout_ms, refused_ms = 0;
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(client);
    int code = 0;
    for (int slice = KAFKA_METADATA_FIRST_MS; !code; slice *= 2) {
        int64_t now = kafka_monotonic_ms(), left = (*reason ? refused_ms + KAFKA_REFUSAL_GRACE_MS : deadline) - now;
        int ask = left < slice ? (int)left : slice;
        rd_kafka_resp_err_t result = rd_kafka_metadata(client, 0, NULL, out, ask > 1 ? ask : 1);
        if (!result)
            break;
        now = kafka_monotonic_ms();
        bool known = *reason;
        kafka_refusal_take(queue, notes, reason, sizeof reason);
        if (*reason && !known) {
            refused_ms = now;
            slice = KAFKA_METADATA_FIRST_MS / 2;
        }
        if (kafka_notes_refusal(notes, error, error_size)) {
            code = 2;
        } else if (*reason && now >= refused_ms + KAFKA_REFUSAL_GRACE_MS) {
            kafka_refused(uri, reason, error, error_size);
            code = strstr(reason, SECURITY_PROTOCOL_GUESS) ? 5 : 2; /* a broker that just starts or stops hangs up too */
        } else if (now >= deadline) {
            kafka_metadata_failed(uri, notes, now - begin, result, error, error_size);
            code = 5;
        }
    }
    rd_kafka_queue_destroy(queue);
    for (int i = 0; !code && i < (*out)->broker_cnt; i++)
        if (kafka_plaintext_refuses(uri, (*out)->brokers[i].host, error, error_size)) {
            rd_kafka_metadata_destroy(*out);
            code = 2;
        }
    return code;
}
