/*
 * The one interface to a log: partitions, each with an inbox and a journal, and beside them statuses and replies.
 *
 * All operations are called on one thread, the one that polls, except wake(). Nothing blocks but poll(), flush() of the
 * embedded file (for the time of one commit) and what answers a question (bounds(), get_status(), each_status(),
 * history()). What happened is told through the handler, from inside poll() and flush() only.
 */
#ifndef PERDURE_LOG_H
#define PERDURE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

struct log;

enum log_stream { LOG_JOURNAL, LOG_INBOX };

struct log_record {
    enum log_stream stream;
    uint32_t partition;
    int64_t offset;
    int64_t append_ms;    /* the log's clock when it was appended (LogAppendTime) */
    int32_t leader_epoch; /* -1: unknown */
    const void *data;     /* valid during the call */
    size_t size;
};

enum log_delivery {
    LOG_PERSISTED,
    LOG_NOT_PERSISTED,      /* certainly not in the log */
    LOG_POSSIBLY_PERSISTED, /* doubt (rule 5) */
};

/*
 * Certainly in the log (rule 10, H35). LOG_PERSISTED alone says so to who reads the record back. An acknowledgement that
 * names no place may be librdkafka's own conclusion from that of a later batch: "R2 succeeded, so R1 was persisted"
 * (rd_kafka_dr_implicit_ack). A partition's new leader that has not heard of the producer yet takes R2 without R1, and so R1
 * is lost (confluent-kafka-go issue 921).
 */
static inline bool log_has(enum log_delivery delivery, int64_t offset)
{
    return delivery == LOG_PERSISTED && offset >= 0;
}

/* What went wrong with a partition or with the log as a whole (partition = LOG_ALL). */
#define LOG_ALL UINT32_MAX
enum log_fault {
    LOG_UNREACHABLE,       /* comes and goes; for people */
    LOG_PRODUCER_REPLACED, /* doubt: every owner claims anew (rule 5) */
    LOG_STATUS_LOST,       /* a status did not reach the log: the owner begins anew, and shows it again (rule 9) */
    LOG_TRUNCATED,         /* the end is below what was read (rule 5, hazard 25) */
    LOG_OUT_OF_RANGE,      /* asked for records that are gone below the log's start: rebuild */
    LOG_MEMBERSHIP_TAKEN,  /* another process has our member id: exit, not restarted (rule 4) */
    LOG_FATAL,             /* the log cannot go on: wrong settings, other log id, disk full with EIO ... */
};

struct log_handler {
    void *context;
    void (*record)(void *context, const struct log_record *record);
    /* Everything up to `end` (the high watermark seen) has been handed over. Told after follow() once caught up,
     * and again whenever a new end was reached after records. */
    void (*end)(void *context, enum log_stream stream, uint32_t partition, int64_t end);
    /* `offset` is -1 when it is not known: a duplicate after a retry, or what log_has() speaks of. */
    void (*delivered)(void *context, uint64_t cookie, enum log_delivery delivery, int64_t offset);
    void (*assigned)(void *context, uint32_t partition); /* we should own it: a hint */
    void (*revoked)(void *context, uint32_t partition);
    void (*fault)(void *context, enum log_fault fault, uint32_t partition, const char *message);
    void (*reply)(void *context, const Reply *reply); /* clients: an answer arrived */
    /* A row that tells of nothing (put_status() with `of` NULL), or a dead letter, did not reach the log. NULL: let it go. */
    void (*row_lost)(void *context, const char *key);
    void (*dead_lost)(void *context, const struct log_record *record, const char *reason);
};

/* A message to append. The log copies what it keeps. */
struct log_message {
    const char *key;      /* job id, NULL for Claims and Marks */
    const void *data;
    size_t size;
    const Header *header; /* for the Kafka headers that plain tools show; never judged; may be NULL */
};

/* How to open. */
struct log_options {
    const char *client_name;  /* for broker logs */
    const char *member;       /* static member id of a worker; NULL: a client */
    int64_t session_timeout_ms;
    bool create;              /* SQLite: create the file when it is missing */
    bool read_only;           /* never appends; the calls that would, fail */
};

/* A step worker, as the log calls it: from inside poll() and take_stop(). */
struct log_taker {
    void *context;
    void (*task)(void *context, const struct log_record *record); /* `partition` is the lane */
    void (*lane_lost)(void *context, uint32_t lane); /* another worker takes what was not reported */
    size_t (*room)(void *context);                   /* how many more tasks it takes now */
    const char *member; /* who comes back under it has its lanes at once; outlives the log; NULL: a new member each time */
};

/* Of a journal record. */
struct log_place {
    uint32_t partition;
    int64_t offset;
};

struct log_operations {
    const char *name;
    int (*append)(struct log *, enum log_stream, uint32_t partition, const struct log_message *, uint64_t cookie);
    int (*flush)(struct log *);
    int (*follow)(struct log *, enum log_stream, uint32_t partition, int64_t from);
    int (*unfollow)(struct log *, enum log_stream, uint32_t partition);
    int (*bounds)(struct log *, enum log_stream, uint32_t partition, int64_t *start, int64_t *end);
    int (*trim)(struct log *, enum log_stream, uint32_t partition, int64_t below);
    int (*join)(struct log *);
    int (*leave)(struct log *, bool for_good);
    /* A row; `of` says what it tells of (NULL: nothing). unshown(): the smallest offset, in that partition, of those that are
     * not in the log yet, INT64_MAX: none. NULL: each is in the log before whatever is appended after it. */
    int (*put_status)(struct log *, const char *key, const void *data, size_t size, const struct log_place *of);
    int64_t (*unshown)(struct log *, uint32_t partition);
    int (*get_status)(struct log *, const char *key, void **data, size_t *size);
    int (*each_status)(struct log *, const char *prefix,
                       bool (*visit)(void *context, const char *key, const void *data, size_t size), void *context);
    int (*reply)(struct log *, const ReplyTo *to, const Reply *reply);
    int (*dead)(struct log *, const struct log_record *record, const char *reason);
    /* Records of one run in seq order, from what the log indexes itself (SQLite). NULL: it does not. */
    int (*history)(struct log *, uint32_t partition, const char *job, uint64_t run,
                   bool (*visit)(void *context, int64_t offset, const void *record, size_t size), void *context);
    int (*poll)(struct log *, int timeout_ms);
    void (*wake)(struct log *);
    void (*close)(struct log *);
    /* Where answers to this client go: fills partition and client (never 0). Answers sent from then on arrive. */
    int (*reply_address)(struct log *, ReplyTo *to);
    /* Appends a task to NAMESPACE.tasks.QUEUE; answered by handler.delivered. `lane` picks the partition: lane mod the
     * topic's partitions. A topic that is missing is made where that is allowed. LOG_FAILED, and delivered() as not
     * persisted: log->error says what is wrong with the queue; trying again later is cheap and helps once it is right.
     * NULL: the log has no queues (SQLite). */
    int (*put_task)(struct log *, const char *queue, uint32_t lane, const struct log_message *, uint64_t cookie);
    /* Takes tasks of a queue, as a member of its group; take_stop() leaves it, for good. Tasks of a lane below the offset
     * that was given to take_commit() last are not handed out again; the others are, if this worker dies. take_resume():
     * there is room again. NULL: the log has no queues. */
    int (*take_tasks)(struct log *, const char *queue, const struct log_taker *taker);
    void (*take_commit)(struct log *, uint32_t lane, int64_t offset);
    void (*take_resume)(struct log *);
    void (*take_stop)(struct log *);
};

/* What every backend's struct begins with. */
struct log {
    const struct log_operations *operations;
    struct log_handler handler; /* set by log_set_handler() before the first poll */
    Genesis genesis;            /* as read at open: log_id, partitions ...; namespace owned by the backend */
    bool deals_rows;            /* each member is assigned partitions that lie side by side, in the order of names */
    char error[512];            /* of the last call that failed: what, where, what to do */
    int error_exit;             /* exit code that fits it: 2 usage, 5 unreachable */
};

/* Returned by calls; the text stands in log->error. */
enum log_result {
    LOG_OK = 0,
    LOG_FAILED = -1,    /* see log->error */
    LOG_FULL = -2,      /* append: in-flight budget used up; poll, then again */
    LOG_NOT_FOUND = -3, /* get_status */
    LOG_BUSY = -4,      /* open: another process owns it and does not answer */
};

/*
 * Opens `uri`: kafka://host:port[,host:port]/NAMESPACE, sqlite:PATH. On failure `*out` is NULL and `error` (of
 * `error_size` bytes) says what, where, what to do; the result is the exit code that fits (2, 3, 5), or LOG_BUSY.
 */
int log_open(const char *uri, const struct log_options *options, struct log **out, char *error, size_t error_size);

static inline void log_set_handler(struct log *log, const struct log_handler *handler) { log->handler = *handler; }

#endif
