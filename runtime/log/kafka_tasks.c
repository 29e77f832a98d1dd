/*
 * Queues of remote steps: NAMESPACE.tasks.QUEUE, filled by owners, emptied by step workers.
 *
 * They have a producer of their own, made with the first task: a queue whose topic is missing, forbidden or without a
 * leader must not disturb the one that writes journals. A topic that is missing is made by the owner that needs it,
 * where the brokers allow that; else the error names the command that makes it.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/kafka_internal.h"

/* One queue may have so much in flight; more waits with its owner. */
#define QUEUE_IN_FLIGHT 10000
#define QUEUE_IN_FLIGHT_BYTES (INT64_C(32) * 1024 * 1024)
/* A queue that took nothing is tried again after this. */
#define QUEUE_AGAIN_MS 5000

struct kafka_queue {
    struct kafka_queue *next;
    char topic[KAFKA_TOPIC_NAME_BYTES];
    const char *name; /* the end of `topic` */
    rd_kafka_topic_t *handle;
    size_t count;
    int64_t bytes;
    bool creating;       /* a CreateTopics call is under way */
    char refusal[256];   /* why its topic could not be made; empty: it was, or is there */
    char trouble[900];   /* why it takes nothing; empty: it does */
    int64_t again_ms;    /* monotonic: it is tried again from then on */
};

/* One task between put_task() and delivered(). */
struct kafka_task {
    struct kafka_task *next, **link;
    struct kafka_queue *queue;
    uint64_t cookie;
    size_t size;
    uint32_t lane;
};

struct kafka_tasks {
    rd_kafka_t *producer;
    struct kafka_source produced;
    struct kafka_queue *queues;
    struct kafka_task *in_flight;
    bool failed; /* the producer is fatal: replaced with the next chores */
};

static void kafka_tasks_destroy_producer(struct kafka_log *log);

bool kafka_queue_name_valid(const char *queue)
{
    size_t length = strlen(queue);
    for (const char *c = queue; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
            return false;
    return length > 0 && length <= KAFKA_QUEUE_NAME_LIMIT;
}

/* ---- the queues --------------------------------------------------------------------------------------------------- */

/* On librdkafka's threads, perhaps several times for one task. */
static int32_t kafka_queue_partition(const rd_kafka_topic_t *handle, const void *key, size_t key_size, int32_t partitions,
                                     void *topic_opaque, void *opaque)
{
    const struct kafka_task *task = opaque;
    (void)handle, (void)key, (void)key_size, (void)topic_opaque;
    return (int32_t)(task->lane % (uint32_t)partitions);
}

static bool kafka_queue_open(struct kafka_tasks *tasks, struct kafka_queue *queue)
{
    rd_kafka_topic_conf_t *conf = rd_kafka_topic_conf_new();
    rd_kafka_topic_conf_set_partitioner_cb(conf, kafka_queue_partition);
    queue->handle = rd_kafka_topic_new(tasks->producer, queue->topic, conf);
    if (!queue->handle)
        rd_kafka_topic_conf_destroy(conf);
    return queue->handle;
}

static bool kafka_tasks_producer(struct kafka_log *log, char *error, size_t error_size)
{
    static const struct kafka_setting settings[] = {
        { "enable.idempotence", "true" }, /* a retry of the client doubles no task */
        { "acks", "all" },
        { "linger.ms", "0" },
        { "message.timeout.ms", "300000" },
        { "topic.metadata.propagation.max.ms", "10000" }, /* a topic that is not there is told after so long */
        { "topic.metadata.refresh.interval.ms", "30000" }, /* rights and partitions that were given meanwhile are seen */
        { "message.max.bytes", "1048588" },
        { "batch.size", "1000000" },
        { NULL, NULL },
    };
    struct kafka_tasks *tasks = log->tasks;
    char name[160];
    snprintf(name, sizeof name, "%s-tasks", log->client_name);
    tasks->producer = kafka_client_new(&log->uri, RD_KAFKA_PRODUCER, name, settings, &log->notes,
                                       RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR, error, error_size);
    if (!tasks->producer)
        return false;
    tasks->produced.serve = kafka_tasks_serve;
    bool good = kafka_source_open(log, &tasks->produced, rd_kafka_queue_get_main(tasks->producer));
    for (struct kafka_queue *queue = tasks->queues; queue && good; queue = queue->next)
        good = kafka_queue_open(tasks, queue);
    if (!good)
        snprintf(error, error_size, "out of memory");
    return good;
}

/* Its topic may be there already, and often is: the brokers say so, and nothing is changed. */
static void kafka_queue_make(struct kafka_log *log, struct kafka_queue *queue)
{
    char error[256];
    bool dev = log->uri.dev || log->replicas < 2;
    rd_kafka_NewTopic_t *wanted = kafka_topics_plan_queue(queue->topic, KAFKA_QUEUE_PARTITIONS, log->replicas, dev, error,
                                                          sizeof error);
    if (!wanted)
        return;
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(log->tasks->producer, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_operation_timeout(options, KAFKA_OPEN_TIMEOUT_MS, error, sizeof error);
    rd_kafka_AdminOptions_set_opaque(options, queue);
    rd_kafka_CreateTopics(log->tasks->producer, &wanted, 1, options, log->tasks->produced.queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_NewTopic_destroy(wanted);
    queue->creating = true;
}

static void kafka_queue_made(rd_kafka_event_t *event)
{
    struct kafka_queue *queue = rd_kafka_event_opaque(event);
    size_t count = 0;
    const rd_kafka_topic_result_t **results = NULL;
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    const char *text = rd_kafka_event_error_string(event);
    if (!code)
        results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    if (count > 0) {
        code = rd_kafka_topic_result_error(results[0]);
        text = rd_kafka_topic_result_error_string(results[0]);
    }
    queue->creating = false;
    queue->refusal[0] = '\0';
    if (code && code != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        snprintf(queue->refusal, sizeof queue->refusal, "%s", text ? text : rd_kafka_err2str(code));
}

static struct kafka_queue *kafka_queue_of(struct kafka_log *log, const char *name)
{
    for (struct kafka_queue *queue = log->tasks->queues; queue; queue = queue->next)
        if (strcmp(queue->name, name) == 0)
            return queue;
    struct kafka_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return NULL;
    kafka_queue_topic(&log->uri, name, queue->topic, sizeof queue->topic);
    queue->name = queue->topic + strlen(queue->topic) - strlen(name);
    if (!kafka_queue_open(log->tasks, queue)) {
        free(queue);
        return NULL;
    }
    queue->next = log->tasks->queues;
    log->tasks->queues = queue;
    kafka_queue_make(log, queue);
    return queue;
}

/* What people read about it in the status of a job that waits. */
static void kafka_queue_trouble(struct kafka_queue *queue, rd_kafka_resp_err_t code)
{
    queue->again_ms = kafka_monotonic_ms() + QUEUE_AGAIN_MS;
    switch (code) {
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        snprintf(queue->trouble, sizeof queue->trouble, "queue %s has no topic %s: make it with perdure namespace queue create "
                 "%s%s%s%s", queue->name, queue->topic, queue->name, *queue->refusal ? " (making it on demand was refused: " : "",
                 queue->refusal, *queue->refusal ? ")" : "");
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        snprintf(queue->trouble, sizeof queue->trouble, "queue %s: this worker's Kafka user may not write topic %s; it needs "
                 "the rights Describe and Write there", queue->name, queue->topic);
        break;
    default:
        snprintf(queue->trouble, sizeof queue->trouble, "queue %s: topic %s takes no tasks: %s", queue->name, queue->topic,
                 rd_kafka_err2str(code));
    }
}

/* ---- putting ------------------------------------------------------------------------------------------------------- */

static void kafka_task_link(struct kafka_tasks *tasks, struct kafka_task *task)
{
    task->link = &tasks->in_flight;
    task->next = tasks->in_flight;
    if (task->next)
        task->next->link = &task->next;
    tasks->in_flight = task;
    task->queue->count++;
    task->queue->bytes += (int64_t)task->size;
}

static void kafka_task_free(struct kafka_task *task)
{
    task->queue->count--;
    task->queue->bytes -= (int64_t)task->size;
    *task->link = task->next;
    if (task->next)
        task->next->link = task->link;
    free(task);
}

static rd_kafka_resp_err_t kafka_task_send(struct kafka_log *log, struct kafka_task *task, const struct log_message *message)
{
    rd_kafka_headers_t *headers = message->header ? kafka_headers(message->header) : NULL;
    rd_kafka_vu_t fields[] = {
        { .vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = task->queue->handle },
        { .vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = RD_KAFKA_PARTITION_UA },
        { .vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY },
        { .vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = { .ptr = (void *)(uintptr_t)message->data, .size = message->size } },
        { .vtype = RD_KAFKA_VTYPE_KEY,
          .u.mem = { .ptr = (void *)(uintptr_t)message->key, .size = message->key ? strlen(message->key) : 0 } },
        { .vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = task },
        { .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers },
    };
    rd_kafka_error_t *error =
        rd_kafka_produceva(log->tasks->producer, fields, sizeof fields / sizeof *fields - (headers ? 0 : 1));
    if (!error)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    if (headers)
        rd_kafka_headers_destroy(headers);
    return code;
}

static int kafka_task_refused(struct kafka_log *log, struct kafka_queue *queue, rd_kafka_resp_err_t code)
{
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        return LOG_FULL;
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        log->tasks->failed = true;
        return LOG_FULL;
    }
    kafka_queue_trouble(queue, code);
    return kafka_fail(log, "%s", queue->trouble);
}

static bool kafka_tasks_ready(struct kafka_log *log)
{
    char error[256];
    if (log->tasks)
        return true;
    log->tasks = calloc(1, sizeof *log->tasks);
    if (log->tasks && kafka_tasks_producer(log, error, sizeof error))
        return true;
    kafka_fail(log, "no producer for tasks: %s", log->tasks ? error : "out of memory");
    if (log->tasks) {
        kafka_tasks_destroy_producer(log);
        log->tasks->failed = true;
    }
    return false;
}

int kafka_put_task(struct log *base, const char *name, uint32_t lane, const struct log_message *message, uint64_t cookie)
{
    struct kafka_log *log = kafka_log_of(base);
    if (log->read_only)
        return kafka_fail(log, "the log was opened to read only");
    if (!kafka_queue_name_valid(name))
        return kafka_fail(log, "'%s' is no name of a queue: letters, digits, '.', '_' and '-', at most %d", name,
                          KAFKA_QUEUE_NAME_LIMIT);
    if (message->size > RECORD_LIMIT_BYTES)
        return kafka_fail(log, "a task of %zu bytes is above the limit of %d", message->size, RECORD_LIMIT_BYTES);
    if (!kafka_tasks_ready(log))
        return LOG_FAILED;
    if (log->tasks->failed)
        return LOG_FULL;
    struct kafka_queue *queue = kafka_queue_of(log, name);
    struct kafka_task *task = queue ? malloc(sizeof *task) : NULL;
    if (!task)
        return kafka_fail(log, "out of memory");
    int result = LOG_OK;
    if (*queue->trouble && kafka_monotonic_ms() < queue->again_ms)
        result = kafka_fail(log, "%s", queue->trouble);
    else if (queue->count >= QUEUE_IN_FLIGHT ||
             queue->bytes + (int64_t)message->size > QUEUE_IN_FLIGHT_BYTES)
        result = LOG_FULL;
    if (result == LOG_OK && *queue->trouble && !queue->creating)
        kafka_queue_make(log, queue);
    if (result == LOG_OK) {
        *task = (struct kafka_task){ .queue = queue, .cookie = cookie, .size = message->size, .lane = lane };
        rd_kafka_resp_err_t code = kafka_task_send(log, task, message);
        if (!code) {
            kafka_task_link(log->tasks, task);
            return LOG_OK;
        }
        result = kafka_task_refused(log, queue, code);
    }
    free(task);
    return result;
}

/* ---- reports -------------------------------------------------------------------------------------------------------- */

static void kafka_task_report(struct kafka_log *log, const rd_kafka_message_t *message)
{
    struct kafka_task *task = message->_private;
    struct kafka_queue *queue = task->queue;
    uint64_t cookie = task->cookie;
    enum log_delivery delivery = LOG_POSSIBLY_PERSISTED;
    if (rd_kafka_message_status(message) == RD_KAFKA_MSG_STATUS_PERSISTED)
        delivery = LOG_PERSISTED;
    else if (rd_kafka_message_status(message) == RD_KAFKA_MSG_STATUS_NOT_PERSISTED)
        delivery = LOG_NOT_PERSISTED;
    if (message->err) {
        kafka_queue_trouble(queue, message->err);
        kafka_fail(log, "%s", queue->trouble); /* the handler may show it */
    } else {
        queue->trouble[0] = '\0';
        kafka_reachable(log);
    }
    int64_t offset = delivery == LOG_PERSISTED && message->offset >= 0 ? message->offset : -1;
    kafka_task_free(task);
    if (log->base.handler.delivered)
        log->base.handler.delivered(log->base.handler.context, cookie, delivery, offset);
}

static void kafka_tasks_error(struct kafka_log *log, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    if (rd_kafka_event_error_is_fatal(event))
        log->tasks->failed = true;
    else if (code != RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED && code != RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
        kafka_on_error(log, log->tasks->producer, event); /* the rights on one queue are that queue's trouble */
}

void kafka_tasks_serve(struct kafka_log *log, struct kafka_source *source)
{
    size_t count = 0;
    while (count < KAFKA_TURN_MESSAGES && source->queue && rd_kafka_queue_length(source->queue) > 0) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(source->queue, 0);
        const rd_kafka_message_t *message;
        count++;
        switch (event ? rd_kafka_event_type(event) : RD_KAFKA_EVENT_NONE) {
        case RD_KAFKA_EVENT_DR:
            for (; (message = rd_kafka_event_message_next(event)); count++)
                kafka_task_report(log, message);
            break;
        case RD_KAFKA_EVENT_CREATETOPICS_RESULT:
            kafka_queue_made(event);
            break;
        case RD_KAFKA_EVENT_ERROR:
            kafka_tasks_error(log, event);
            break;
        default:
            break;
        }
        rd_kafka_event_destroy(event);
    }
    if (count >= KAFKA_TURN_MESSAGES)
        atomic_store(&source->ready, true);
}

/* ---- replacing and closing ------------------------------------------------------------------------------------------- */

static void kafka_tasks_destroy_producer(struct kafka_log *log)
{
    struct kafka_tasks *tasks = log->tasks;
    kafka_source_close(&tasks->produced);
    for (struct kafka_queue *queue = tasks->queues; queue; queue = queue->next) {
        if (queue->handle)
            rd_kafka_topic_destroy(queue->handle);
        queue->handle = NULL;
        queue->creating = false;
    }
    if (log->unreachable == tasks->producer)
        log->unreachable = NULL;
    if (tasks->producer)
        rd_kafka_destroy(tasks->producer);
    tasks->producer = NULL;
}

/* What was in flight may or may not be in its queue. Its owner sends it again: a task that is there twice does no harm. */
static void kafka_tasks_replace(struct kafka_log *log)
{
    struct kafka_tasks *tasks = log->tasks;
    char error[256];
    while (tasks->produced.queue && rd_kafka_queue_length(tasks->produced.queue) > 0)
        kafka_tasks_serve(log, &tasks->produced);
    kafka_tasks_destroy_producer(log);
    if (!kafka_tasks_producer(log, error, sizeof error)) {
        kafka_tasks_destroy_producer(log);
        kafka_fault(log, LOG_UNREACHABLE, LOG_ALL, "the producer of tasks for %s cannot be replaced: %s", log->uri.brokers,
                    error);
        return; /* tried again with the next chores */
    }
    tasks->failed = false;
    struct kafka_task *lost = tasks->in_flight;
    tasks->in_flight = NULL;
    if (lost)
        lost->link = &lost;
    while (lost) {
        uint64_t cookie = lost->cookie;
        kafka_task_free(lost);
        if (log->base.handler.delivered)
            log->base.handler.delivered(log->base.handler.context, cookie, LOG_POSSIBLY_PERSISTED, -1);
    }
}

void kafka_tasks_chores(struct kafka_log *log)
{
    if (log->tasks && log->tasks->failed)
        kafka_tasks_replace(log);
}

void kafka_tasks_stop(struct kafka_log *log)
{
    struct kafka_tasks *tasks = log->tasks;
    if (!tasks)
        return;
    kafka_tasks_destroy_producer(log);
    while (tasks->in_flight)
        kafka_task_free(tasks->in_flight);
    while (tasks->queues) {
        struct kafka_queue *next = tasks->queues->next;
        free(tasks->queues);
        tasks->queues = next;
    }
    free(tasks);
    log->tasks = NULL;
}
