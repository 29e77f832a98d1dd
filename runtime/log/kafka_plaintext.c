/*
 * Without encryption only this machine is spoken to, unless the user says that the network may be trusted. It is judged
 * twice: by name before anything is opened, for a clear error, and by address at each connection, so that a broker learned
 * from another, today or next week, is covered too.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "log/kafka_internal.h"

static bool plaintext_is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    if (address->sa_family == AF_INET6) {
        const struct in6_addr *in = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
        return IN6_IS_ADDR_LOOPBACK(in) || (IN6_IS_ADDR_V4MAPPED(in) && in->s6_addr[12] == 127);
    }
    return false;
}

/* A name that cannot be resolved is nobody's: librdkafka will say so. */
static bool plaintext_host_is_foreign(const char *host)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    bool foreign = false;
    if (strcmp(host, "localhost") == 0 || getaddrinfo(host, NULL, &hints, &found) != 0)
        return false;
    for (const struct addrinfo *one = found; one; one = one->ai_next)
        foreign = foreign || !plaintext_is_loopback(one->ai_addr);
    freeaddrinfo(found);
    return foreign;
}

static void plaintext_refusal(const char *broker, char *text, size_t size)
{
    snprintf(text, size, "the broker %s is on another machine, and without encryption all that is said to it, passwords too, "
             "can be read and changed on the way. Set security.protocol to SSL or SASL_SSL (docs/security.md); or, in a "
             "network that you trust, allow it: --allow-plaintext, " KAFKA_PLAINTEXT_VARIABLE "=1, or "
             "perdure.allow.plaintext=true in the file of --kafka-config", broker);
}

bool kafka_plaintext_guarded(const struct kafka_uri *uri)
{
    return kafka_settings_plaintext(uri->settings) && !kafka_settings_plaintext_allowed(uri->settings);
}

bool kafka_plaintext_refuses(const struct kafka_uri *uri, const char *host, char *error, size_t error_size)
{
    if (!kafka_plaintext_guarded(uri) || !plaintext_host_is_foreign(host))
        return false;
    plaintext_refusal(host, error, error_size);
    return true;
}

/* HOST:PORT[,...]; [ADDRESS]:PORT for IPv6. */
bool kafka_plaintext_refuses_all(const struct kafka_uri *uri, char *error, size_t error_size)
{
    for (const char *broker = uri->brokers; *broker;) {
        size_t length = strcspn(broker, ",");
        const char *colon = memrchr(broker, ':', length);
        size_t host_length = colon && broker[length - 1] != ']' ? (size_t)(colon - broker) : length;
        char host[256];
        bool bracketed = host_length > 2 && broker[0] == '[' && broker[host_length - 1] == ']';
        snprintf(host, sizeof host, "%.*s", (int)(bracketed ? host_length - 2 : host_length), broker + bracketed);
        if (kafka_plaintext_refuses(uri, host, error, error_size))
            return true;
        broker += length + (broker[length] == ',');
    }
    return false;
}

int kafka_plaintext_connect(int socket, const struct sockaddr *address, int size, const char *broker, void *opaque)
{
    struct kafka_notes *notes = opaque;
    if (plaintext_is_loopback(address))
        return connect(socket, address, (socklen_t)size) == 0 || errno == EINPROGRESS ? 0 : errno;
    if (notes) {
        pthread_mutex_lock(&notes->lock);
        plaintext_refusal(broker, notes->refused, sizeof notes->refused);
        pthread_mutex_unlock(&notes->lock);
    }
    return EACCES;
}
