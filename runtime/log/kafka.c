/*
 * The Kafka backend as a whole: opening, the one wait, closing.
 *
 * librdkafka has threads of its own. Each queue that has something for us says so by a callback on such a thread, which
 * sets a flag and, when our thread sleeps, wakes it through one eventfd. kafka_poll() empties the queues that said so.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "log/kafka_internal.h"

static int64_t kafka_clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

int64_t kafka_monotonic_ms(void)
{
    return kafka_clock_ms(CLOCK_MONOTONIC);
}

int64_t kafka_wall_ms(void)
{
    return kafka_clock_ms(CLOCK_REALTIME);
}

uint64_t kafka_random(void)
{
    uint64_t random = 0;
    while (getrandom(&random, sizeof random, 0) != sizeof random)
        ;
    return random;
}

int kafka_fail(struct kafka_log *log, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(log->base.error, sizeof log->base.error, format, arguments);
    va_end(arguments);
    log->base.error_exit = 2;
    return LOG_FAILED;
}

static void kafka_tell(struct kafka_log *log, enum log_fault fault, uint32_t partition, int exit_code, const char *message)
{
    if (fault == LOG_FATAL)
        log->base.error_exit = exit_code;
    if (log->base.handler.fault)
        log->base.handler.fault(log->base.handler.context, fault, partition, message);
}

void kafka_fault(struct kafka_log *log, enum log_fault fault, uint32_t partition, const char *format, ...)
{
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    kafka_tell(log, fault, partition, 5, message);
}

/* ---- sources ------------------------------------------------------------------------------------------------------ */

/* On librdkafka's threads, with the queue locked: something came into an empty queue. */
static void kafka_source_ready(rd_kafka_t *client, void *opaque)
{
    struct kafka_source *source = opaque;
    (void)client;
    atomic_store(&source->ready, true);
    if (atomic_exchange(&source->log->sleeping, false)) {
        uint64_t one = 1;
        ssize_t written = write(source->log->wake_fd, &one, sizeof one);
        (void)written; /* it can only fail when the counter is far above zero: then it wakes anyway */
    }
}

bool kafka_source_open(struct kafka_log *log, struct kafka_source *source, rd_kafka_queue_t *queue)
{
    if (!queue)
        return false;
    if (!source->listed) {
        if (log->source_count == log->source_space) {
            size_t space = log->source_space ? 2 * log->source_space : 16;
            struct kafka_source **sources = realloc(log->sources, space * sizeof *sources);
            if (!sources)
                return false;
            log->sources = sources;
            log->source_space = space;
        }
        log->sources[log->source_count++] = source;
        source->listed = true;
    }
    source->log = log;
    source->queue = queue;
    rd_kafka_queue_cb_event_enable(queue, kafka_source_ready, source);
    atomic_store(&source->ready, true); /* what came before the callback was there */
    return true;
}

void kafka_source_close(struct kafka_source *source)
{
    if (!source->queue)
        return;
    rd_kafka_queue_cb_event_enable(source->queue, NULL, NULL);
    rd_kafka_queue_destroy(source->queue);
    source->queue = NULL;
}

/* ---- polling ------------------------------------------------------------------------------------------------------ */

static bool kafka_serve(struct kafka_log *log)
{
    bool any = false;
    for (size_t i = 0; i < log->source_count; i++) {
        struct kafka_source *source = log->sources[i];
        if (!source->queue || !atomic_load_explicit(&source->ready, memory_order_relaxed))
            continue;
        any = true;
        atomic_store(&source->ready, false); /* before it is emptied: what comes later sets it again */
        source->serve(log, source);
    }
    return any;
}

static bool kafka_any_ready(struct kafka_log *log)
{
    for (size_t i = 0; i < log->source_count; i++)
        if (log->sources[i]->queue && atomic_load(&log->sources[i]->ready))
            return true;
    return atomic_load(&log->woken);
}

static void kafka_sleep(struct kafka_log *log, int64_t timeout_ms)
{
    atomic_store(&log->sleeping, true);
    if (!kafka_any_ready(log)) { /* looked at after `sleeping` is set: no wake-up falls between */
        struct pollfd wait = { .fd = log->wake_fd, .events = POLLIN };
        /* Whoever took the flag may write only later: then the next sleep is short. */
        if (poll(&wait, 1, (int)timeout_ms) > 0) {
            uint64_t count;
            ssize_t got = read(log->wake_fd, &count, sizeof count);
            (void)got;
        }
    }
    atomic_store(&log->sleeping, false);
}

static void kafka_chores(struct kafka_log *log, int64_t now)
{
    char refusal[512];
    log->chore_ms = now + KAFKA_CHORE_MS;
    if (!log->refusal_told && kafka_notes_refusal(&log->notes, refusal, sizeof refusal)) { /* a broker that joined later */
        log->refusal_told = true;
        kafka_tell(log, LOG_FATAL, LOG_ALL, 2, refusal);
    }
    kafka_tasks_chores(log);
    kafka_consume_chores(log);
    kafka_members_chores(log);
    kafka_take_chores(log);
    kafka_trim_chores(log);
}

static int kafka_poll(struct log *base, int timeout_ms)
{
    struct kafka_log *log = kafka_log_of(base);
    int64_t now = kafka_monotonic_ms();
    int64_t deadline = timeout_ms < 0 ? INT64_MAX : now + timeout_ms;
    for (;;) {
        bool any = kafka_serve(log);
        any = kafka_produce_mend(log) || any;
        if (now >= log->chore_ms)
            kafka_chores(log, now);
        if (atomic_exchange(&log->woken, false) || any || now >= deadline)
            return LOG_OK;
        int64_t until = deadline < log->chore_ms ? deadline : log->chore_ms;
        kafka_sleep(log, until - now);
        now = kafka_monotonic_ms();
    }
}

static void kafka_wake(struct log *base)
{
    struct kafka_log *log = kafka_log_of(base);
    atomic_store(&log->woken, true);
    if (atomic_exchange(&log->sleeping, false)) {
        uint64_t one = 1;
        ssize_t written = write(log->wake_fd, &one, sizeof one);
        (void)written;
    }
}

/* ---- errors of clients ---------------------------------------------------------------------------------------------- */

void kafka_reachable(struct kafka_log *log)
{
    log->unreachable = NULL;
}

/* librdkafka tells once in an outage, but each client of ours does. */
static void kafka_unreachable(struct kafka_log *log, rd_kafka_t *client, const char *reason)
{
    char said[256];
    if (log->unreachable && log->unreachable != client)
        return;
    log->unreachable = client;
    kafka_notes_get(&log->notes, said, sizeof said);
    kafka_fault(log, LOG_UNREACHABLE, LOG_ALL, "no Kafka broker of %s answers (%s). Work waits and goes on by itself when one "
                "is back. Is Kafka running, is the network up?", log->uri.brokers, *said ? said : reason);
}

void kafka_fault_unauthorised(struct kafka_log *log, const char *what, const char *resource)
{
    char text[640];
    kafka_unauthorised(&log->uri, what, resource, text, sizeof text);
    kafka_tell(log, LOG_FATAL, LOG_ALL, 2, text);
}

int kafka_fail_asking(struct kafka_log *log, rd_kafka_resp_err_t code, const char *what, const char *resource)
{
    if (kafka_is_unauthorised(code)) {
        kafka_unauthorised(&log->uri, what, resource, log->base.error, sizeof log->base.error);
        log->base.error_exit = 2;
        return LOG_FAILED;
    }
    kafka_fail(log, "cannot %s %s at %s: %s", what, resource, log->uri.brokers, rd_kafka_err2str(code));
    log->base.error_exit = 5;
    return LOG_FAILED;
}

/*
 * TLS or SASL failed while the log is open: a broker that just starts or stops does that too, so it is told, and tried
 * again by librdkafka. What was wrong from the beginning was found at open.
 */
static void kafka_on_refusal(struct kafka_log *log, rd_kafka_t *client, const char *reason)
{
    char text[900];
    if (log->unreachable && log->unreachable != client)
        return;
    log->unreachable = client;
    kafka_refused(&log->uri, reason, text, sizeof text);
    kafka_fault(log, LOG_UNREACHABLE, LOG_ALL, "%s. It is tried again; a changed password or certificate is read at the next "
                "start", text);
}

void kafka_on_error(struct kafka_log *log, rd_kafka_t *client, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    const char *text = rd_kafka_event_error_string(event);
    char refusal[900];
    switch (code) {
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        kafka_unreachable(log, client, text);
        break;
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__SSL:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
        kafka_on_refusal(log, client, text);
        break;
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        if (client == log->membership) /* the others ask nothing of the group, though they must name one */
            kafka_fault_unauthorised(log, "join (Read) the group", log->uri.name);
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED: /* each partition, each append tells its own */
        if (client == log->membership)
            kafka_fault_unauthorised(log, "look at (Describe)", log->topics[KAFKA_INBOX]);
        break;
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        kafka_fault_unauthorised(log, "use", log->uri.name);
        break;
    case RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT:
        snprintf(refusal, sizeof refusal, "the brokers at %s take no session timeout of %lld ms: theirs are from "
                 "group.min.session.timeout.ms (6 s unless told otherwise) to group.max.session.timeout.ms (30 min); set "
                 "--session-timeout", log->uri.brokers, (long long)log->session_timeout_ms);
        kafka_tell(log, LOG_FATAL, LOG_ALL, 2, refusal);
        break;
    case RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL:
        kafka_fault(log, LOG_FATAL, LOG_ALL, "the group %s at %s has members with another assignment strategy: its workers "
                    "run with librdkafka below and above 2.10.1, or a foreign consumer uses the group", log->uri.name,
                    log->uri.brokers);
        break;
    default:
        break; /* connections that come and go: librdkafka tries again by itself */
    }
}

/* ---- open and close ------------------------------------------------------------------------------------------------- */

static int kafka_flush(struct log *base)
{
    (void)base; /* appends are on their way already */
    return LOG_OK;
}

static void kafka_close(struct log *base)
{
    struct kafka_log *log = kafka_log_of(base);
    memset(&log->base.handler, 0, sizeof log->base.handler);
    kafka_members_stop(log);
    kafka_take_stop(&log->base);
    free(log->taking);
    log->taking = NULL;
    kafka_tasks_stop(log);
    kafka_produce_stop(log);
    kafka_consume_stop(log);
    if (log->wake_fd >= 0)
        close(log->wake_fd);
    free(log->sources);
    free(log->lanes);
    free(log->followings);
    free(log->assigned);
    free(log->member);
    kafka_uri_free(&log->uri);
    if (log->dead)
        return; /* a reader that cannot be ended still writes its notes: see kafka_consume_stop() */
    kafka_notes_free(&log->notes);
    free(log);
}

static const struct log_operations kafka_operations = {
    .name = "kafka",
    .append = kafka_append,
    .flush = kafka_flush,
    .follow = kafka_follow,
    .unfollow = kafka_unfollow,
    .bounds = kafka_bounds,
    .trim = kafka_trim,
    .join = kafka_join,
    .leave = kafka_leave,
    .put_status = kafka_put_status,
    .unshown = kafka_unshown,
    .get_status = kafka_get_status,
    .each_status = kafka_each_status,
    .reply = kafka_reply,
    .dead = kafka_dead,
    .history = NULL,
    .poll = kafka_poll,
    .wake = kafka_wake,
    .close = kafka_close,
    .reply_address = kafka_reply_address,
    .put_task = kafka_put_task,
    .take_tasks = kafka_take_tasks,
    .take_commit = kafka_take_commit,
    .take_resume = kafka_take_resume,
    .take_stop = kafka_take_stop,
};

/* Each partition of a stream has a share of what librdkafka can queue, so that one without a leader cannot take the
 * room of the others (H28). */
static void kafka_set_budgets(struct kafka_log *log)
{
    int64_t lanes = (int64_t)log->partitions * 2;
    int64_t messages = (KAFKA_QUEUE_MESSAGES_MAX - KAFKA_TOPICS * KAFKA_ASIDE_MESSAGES) / lanes;
    log->lane_count_max = (size_t)(messages < APPENDS_IN_FLIGHT_LIMIT ? messages : APPENDS_IN_FLIGHT_LIMIT);
    log->lane_bytes_max = KAFKA_IN_FLIGHT_BYTES / lanes;
    if (log->lane_bytes_max < KAFKA_LANE_BYTES_MIN)
        log->lane_bytes_max = KAFKA_LANE_BYTES_MIN;
}

static bool kafka_log_allocate(struct kafka_log *log, const struct log_options *options)
{
    log->lanes = calloc(log->partitions * 2, sizeof *log->lanes);
    log->followings = calloc(log->partitions * 2, sizeof *log->followings);
    log->assigned = calloc(log->partitions, sizeof *log->assigned);
    log->member = options->member ? strdup(options->member) : NULL;
    if (!log->lanes || !log->followings || !log->assigned || (options->member && !log->member))
        return false;
    for (uint32_t i = 0; i < log->partitions * 2; i++) {
        log->followings[i].topic = i < log->partitions ? KAFKA_JOURNAL : KAFKA_INBOX;
        log->followings[i].partition = i % log->partitions;
        log->followings[i].trim_below = -1;
    }
    return true;
}

int kafka_log_open_as(const struct kafka_uri *uri, const struct log_options *options, const Genesis *genesis,
                      const struct kafka_shape *shape, struct kafka_log **out, char *error, size_t error_size)
{
    struct kafka_log *log = calloc(1, sizeof *log);
    *out = NULL;
    if (!log) {
        snprintf(error, error_size, "out of memory");
        return 2;
    }
    log->base.operations = &kafka_operations;
    log->base.genesis = *genesis;
    log->base.deals_rows = kafka_deals_rows();
    kafka_uri_copy(&log->uri, uri);
    log->base.genesis.namespace_ = log->uri.name;
    kafka_notes_init(&log->notes);
    snprintf(log->client_name, sizeof log->client_name, "%s", options->client_name ? options->client_name : "perdure");
    log->session_timeout_ms = options->session_timeout_ms;
    log->read_only = options->read_only;
    log->partitions = genesis->partitions;
    log->jobs_partitions = shape->partitions[KAFKA_JOBS] > 0 ? (uint32_t)shape->partitions[KAFKA_JOBS] : log->partitions;
    log->replicas = shape->replicas[KAFKA_JOURNAL];
    log->replies_partitions = shape->partitions[KAFKA_REPLIES];
    log->client_id = kafka_random() | 1;
    for (int topic = 0; topic < KAFKA_TOPICS; topic++)
        kafka_topic_name(&log->uri, (enum kafka_topic)topic, log->topics[topic], sizeof log->topics[topic]);
    log->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    kafka_set_budgets(log);
    int code = 0;
    if (log->wake_fd < 0 || !kafka_log_allocate(log, options)) {
        snprintf(error, error_size, "cannot open: %s", strerror(errno));
        code = 2;
    }
    if (!code)
        code = kafka_produce_start(log, error, error_size);
    if (code) {
        kafka_close(&log->base);
        return code;
    }
    *out = log;
    return 0;
}
