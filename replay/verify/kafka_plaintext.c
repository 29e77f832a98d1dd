/* Unencrypted connections: to this machine only, unless they are allowed. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

#include "verify.h"

enum { REFUSED_SIZE = 256 };
#define REFUSAL                                                                                           \
    "%s is another machine, and the connection would not be encrypted: set security.protocol, or allow it " \
    "with --allow-plaintext or PERDURE_ALLOW_PLAINTEXT=1"

/* librdkafka has a thread for each broker: the first that is refused writes the text. */
static atomic_bool taken, written;

static bool is_here(const struct sockaddr *address)
{
    const struct sockaddr_in *four = (const void *)address;
    const struct sockaddr_in6 *six = (const void *)address;
    if (address->sa_family == AF_INET)
        return ntohl(four->sin_addr.s_addr) >> 24 == 127;
    return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

static bool guarded;

void pv_kafka_guard(void)
{
    guarded = true;
}

const char *pv_kafka_foreign(const char *host)
{
    static char text[512];
    struct addrinfo *all = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    bool here = true;
    if (!guarded || getaddrinfo(host, NULL, &hints, &all))
        return NULL; /* what has no address is not connected to */
    for (const struct addrinfo *one = all; one; one = one->ai_next)
        here = here && is_here(one->ai_addr);
    freeaddrinfo(all);
    snprintf(text, sizeof text, REFUSAL, host);
    return here ? NULL : text;
}

int pv_kafka_connect(int socket, const struct sockaddr *address, int size, const char *broker, void *refused)
{
    if (is_here(address))
        return connect(socket, address, (socklen_t)size) == 0 || errno == EINPROGRESS ? 0 : errno;
    if (atomic_exchange(&taken, true))
        return EACCES;
    snprintf(refused, REFUSED_SIZE, REFUSAL, broker);
    atomic_store(&written, true);
    return EACCES;
}

const char *pv_kafka_refusal(const void *refused)
{
    return atomic_load(&written) ? refused : NULL;
}
