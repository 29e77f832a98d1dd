/*
 * What the files of the Kafka backend share. Nobody else includes this, but tests.
 */
#ifndef PERDURE_LOG_KAFKA_INTERNAL_H
#define PERDURE_LOG_KAFKA_INTERNAL_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "constants.h"
#include "log/kafka.h"
#include "log/kafka_settings.h"

/* A broker must answer within this at open, or the log is unreachable. */
#define KAFKA_OPEN_TIMEOUT_MS 10000
/* Blocking questions to a broker that answered before: watermarks, statuses. */
#define KAFKA_ASK_TIMEOUT_MS 5000
/* A question asked while polling that nobody answered is not asked again before this: a poll must not hang in an outage. */
#define KAFKA_ASK_AGAIN_MS 30000
/* A worker's question for the bounds of a partition waits so long, and after one in vain none is asked for so long. */
#define KAFKA_WORKER_ASK_TIMEOUT_MS 1000
#define KAFKA_BOUNDS_AGAIN_MS 5000
#define KAFKA_PRODUCER_AGAIN_MS 1000
#define KAFKA_UNKNOWN_PATIENCE_MS 30000 /* a broker that has just started knows no topic for a moment */
/* Messages taken from one queue before the next has its turn, so that one long catch-up does not starve the others. */
#define KAFKA_TURN_MESSAGES 512
/* Bytes of appends in flight over all partitions; each has its share, at least two records of the largest size (H28). */
#define KAFKA_IN_FLIGHT_BYTES (INT64_C(256) * 1024 * 1024)
#define KAFKA_LANE_BYTES_MIN (INT64_C(2) * RECORD_LIMIT_BYTES)
/* librdkafka's own limit of queued messages, and how many of them are for statuses, for replies and for dead letters each: a
 * partition of one that has no leader does not take the room of the others. */
#define KAFKA_QUEUE_MESSAGES_MAX 10000000
#define KAFKA_ASIDE_MESSAGES 20000
/* Membership, watermarks and trims are looked after this often. */
#define KAFKA_CHORE_MS 1000
/* What is left to send at close (statuses, replies, a group membership to give back) gets this long. */
#define KAFKA_CLOSE_TIMEOUT_MS 3000

/* Those that each namespace has, and those of its queues, which come and go. */
enum kafka_topic { KAFKA_INBOX, KAFKA_JOURNAL, KAFKA_JOBS, KAFKA_REPLIES, KAFKA_DEAD, KAFKA_TOPICS, KAFKA_TASKS = KAFKA_TOPICS };

/* ---- kafka_uri.c: where the namespace is, and the configuration of every client ----------------------------- */

struct kafka_uri {
    char brokers[512];
    char name[200];
    struct kafka_settings *settings;
    bool dev;
};
bool kafka_uri_parse(struct kafka_uri *uri, const char *text, char *error, size_t error_size);
void kafka_uri_copy(struct kafka_uri *to, const struct kafka_uri *from);
void kafka_uri_free(struct kafka_uri *uri);
void kafka_topic_name(const struct kafka_uri *uri, enum kafka_topic topic, char *name, size_t size);
#define KAFKA_TOPIC_NAME_BYTES 256
/* Of the tasks of a queue: NAMESPACE.tasks.QUEUE. */
void kafka_queue_topic(const struct kafka_uri *uri, const char *queue, char *name, size_t size);

/* What librdkafka's threads last said, for error texts: it must never print by itself. */
struct kafka_notes {
    pthread_mutex_t lock;
    char last[256];
    char certificate[256]; /* why a broker's was not taken, kafka_access.c */
    char refused[512]; /* a connection that we must not make, kafka_plaintext.c */
};
void kafka_notes_init(struct kafka_notes *notes);
void kafka_notes_free(struct kafka_notes *notes);
void kafka_notes_get(struct kafka_notes *notes, char *text, size_t size);
void kafka_notes_certificate(struct kafka_notes *notes, char *text, size_t size);
/* A connection was refused by us: why. */
bool kafka_notes_refusal(struct kafka_notes *notes, char *text, size_t size);

struct kafka_setting {
    const char *name;
    const char *value;
};
/* A client with the common settings and `settings` (ended by a NULL name). NULL: `error` says why. */
rd_kafka_t *kafka_client_new(const struct kafka_uri *uri, rd_kafka_type_t type, const char *client_name,
                             const struct kafka_setting *settings, struct kafka_notes *notes, int events,
                             char *error, size_t error_size);
/* A producer that cannot append safely, and needs no right to: for questions. */
rd_kafka_t *kafka_asker_new(const struct kafka_uri *uri, const char *client_name, struct kafka_notes *notes, char *error,
                            size_t error_size);
rd_kafka_t *kafka_producer_new(const struct kafka_uri *uri, const char *client_name, struct kafka_notes *notes,
                               char *error, size_t error_size);
/* For one read from beginning to end, on the caller's thread. */
rd_kafka_t *kafka_scanner_new(const struct kafka_uri *uri, struct kafka_notes *notes, char *error, size_t error_size);
/* `again`: while leaders move, until `timeout_ms` is over; else once. */
rd_kafka_resp_err_t kafka_ask_offset(rd_kafka_t *client, const char *topic, uint32_t partition, int64_t which, bool again,
                                     int timeout_ms, int64_t *offset);
/* Lets it read partitions [first, first + count) from their first records on, each to a PARTITION_EOF. */
rd_kafka_resp_err_t kafka_scanner_begin(rd_kafka_t *scanner, const char *topic, uint32_t first, uint32_t count,
                                        int timeout_ms);

/* ---- kafka_plaintext.c: no unencrypted word to another machine --------------------------------------------------- */

/* Connections must be watched: plaintext, and nobody said that the network may be trusted. */
bool kafka_plaintext_guarded(const struct kafka_uri *uri);
/* True: this broker must not be connected to, and `error` says why. */
bool kafka_plaintext_refuses(const struct kafka_uri *uri, const char *host, char *error, size_t error_size);
bool kafka_plaintext_refuses_all(const struct kafka_uri *uri, char *error, size_t error_size);
/* librdkafka's connect_cb; the opaque is a struct kafka_notes. */
struct sockaddr;
int kafka_plaintext_connect(int socket, const struct sockaddr *address, int size, const char *broker, void *opaque);

/* ---- kafka_access.c: who may do what ------------------------------------------------------------------------------ */

bool kafka_is_unauthorised(rd_kafka_resp_err_t code); /* an ACL is missing */
bool kafka_is_refused(rd_kafka_resp_err_t code);      /* TLS or SASL failed */
/* "not authorised to write shop.inbox as User:viewer ..." */
void kafka_unauthorised(const struct kafka_uri *uri, const char *what, const char *resource, char *text, size_t size);
/* `reason`: librdkafka's words. */
void kafka_refused(const struct kafka_uri *uri, const char *reason, char *text, size_t size);
/* librdkafka's ssl_cert_verify_cb. */
int kafka_certificate_judged(rd_kafka_t *client, const char *broker, int32_t broker_id, int *error, int depth,
                             const char *certificate, size_t size, char *text, size_t text_size, void *opaque);
/* Metadata of the topics that the client knows; an exit code. Refusals are told within seconds. */
int kafka_metadata(rd_kafka_t *client, const struct kafka_uri *uri, struct kafka_notes *notes, int timeout_ms,
                   const struct rd_kafka_metadata **out, char *error, size_t error_size);

/* ---- kafka_topics.c: the table of settings ------------------------------------------------------------------ */

struct kafka_shape {         /* of a namespace, as its brokers describe it */
    int brokers;
    int partitions[KAFKA_TOPICS]; /* 0: no such topic */
    int replicas[KAFKA_TOPICS];   /* of partition 0 */
    bool leaderless;              /* some partition has no leader at present */
    bool hidden[KAFKA_TOPICS];    /* we have no right to know of it */
    unsigned needless;            /* topics that the caller does without, by bit: he sets it */
};
/* Asks the brokers; an exit code. */
int kafka_topics_shape(rd_kafka_t *client, const struct kafka_uri *uri, struct kafka_notes *notes, int timeout_ms,
                       struct kafka_shape *shape, char *error, size_t error_size);
/* Each setting that a topic needs, beside what it is; for `perdure check`, which wants them all. */
struct kafka_verdict {
    const char *name, *found, *needed, *words, *why; /* `found` NULL: not told; `words`: "", "at least " ... */
    bool right;
};
void kafka_topics_judge(const rd_kafka_ConfigResource_t *resource, int plan, bool dev,
                        void (*visit)(void *context, const struct kafka_verdict *verdict), void *context);
/* Whether a topic may have `count` partitions beside a journal with `of_journal`; what else it means. */
bool kafka_topic_count_is_right(enum kafka_topic topic, int count, int of_journal);
const char *kafka_topic_count_is_wrong(enum kafka_topic topic, int count, int of_journal);
int kafka_topics_check_partitions(const struct kafka_uri *uri, const struct kafka_shape *shape, char *error,
                                  size_t error_size);
int kafka_topics_check_settings(rd_kafka_t *client, const struct kafka_uri *uri, const struct kafka_shape *shape,
                                char *error, size_t error_size);
/* Asks; 0 where it is not there. */
rd_kafka_resp_err_t kafka_topic_count(rd_kafka_t *client, const char *topic, int timeout_ms, int *count);
int kafka_topics_create(rd_kafka_t *client, const struct kafka_uri *uri, const struct kafka_shape *shape,
                        uint32_t partitions, bool *created, char *error, size_t error_size);

/* The topic of a queue, as it must be made; the caller's to destroy. NULL: `error` says why. */
rd_kafka_NewTopic_t *kafka_topics_plan_queue(const char *topic, int partitions, int replicas, bool dev, char *error,
                                             size_t error_size);

/* ---- kafka_namespace.c ------------------------------------------------------------------------------------- */

/* A producer that knows the topics, and what the brokers say of them. */
struct kafka_namespace {
    struct kafka_uri uri;
    struct kafka_notes notes;
    rd_kafka_t *client;
    rd_kafka_topic_t *handles[KAFKA_TOPICS];
    struct kafka_shape shape;
};
int kafka_namespace_open(struct kafka_namespace *ns, const char *uri, bool dev, bool writes, char *text,
                         size_t text_size);
void kafka_namespace_close(struct kafka_namespace *ns);

/* ---- kafka_genesis.c: the first record of each journal partition --------------------------------------------- */

struct kafka_genesis {
    bool found;
    Genesis genesis; /* `namespace_` is not kept */
};
/* Reads the first records of journal partitions [first, first + count); an exit code, or KAFKA_TOPIC_GONE: brokers say,
 * and said again when they were asked for some seconds, that there is no such topic. */
#define KAFKA_TOPIC_GONE 3
int kafka_genesis_ask(const struct kafka_uri *uri, uint32_t first, uint32_t count, int timeout_ms,
                      struct kafka_genesis *out, char *error, size_t error_size);
/* The same for those who have just found the topics; an exit code. */
int kafka_genesis_read(const struct kafka_uri *uri, uint32_t first, uint32_t count, struct kafka_genesis *out,
                       char *error, size_t error_size);
/* Every partition has one, and they agree with one another and with the topics. */
int kafka_genesis_check(const struct kafka_uri *uri, const struct kafka_genesis *found, uint32_t count,
                        uint32_t partitions, char *error, size_t error_size);
/* Writes what was not found: like `like`, whose log id 0 is that of what was found, or a new one. */
int kafka_genesis_write(rd_kafka_t *producer, const struct kafka_uri *uri, const struct kafka_genesis *found,
                        const Genesis *like, char *error, size_t error_size);

/* ---- the open log --------------------------------------------------------------------------------------------- */

struct kafka_log;

/* A queue of librdkafka. Its threads say that something is in it; our one thread empties it. */
struct kafka_source {
    struct kafka_log *log;
    rd_kafka_queue_t *queue;
    atomic_bool ready;
    void (*serve)(struct kafka_log *log, struct kafka_source *source);
    /* Partitions that are followed: */
    enum kafka_topic topic;
    uint32_t partition;
    bool listed;        /* in log->sources */
    bool followed;
    int64_t position;   /* offset of the next record to hand over */
    int64_t end_told;   /* -1: none since follow() */
    size_t taken;       /* bytes, since its reading was last seen to */
    int64_t silent_ms;  /* after so long without an end or anything it is asked for again */
    int64_t read_ms;    /* when something last came, or was asked for */
    bool look;          /* the end is to be told again */
    int short_seen;     /* chores that found the end below the position, one after the other */
    int64_t told_ms;    /* when a passing error was last told */
    int64_t trim_below; /* asked for; -1: nothing */
    int64_t trim_sent;  /* asked of the broker, which has not answered yet; -1 or 0: nothing */
};

/* One append between append() and delivered(); or a status, row or dead letter that is not in the log yet. */
struct kafka_append {
    struct kafka_append *next, **link;
    struct kafka_lane *lane; /* NULL: what is sent beside the appends */
    uint64_t cookie;
    struct log_place of; /* of a status */
    struct kafka_aside *aside; /* of what is told again when it is lost; else NULL */
    size_t size;
};

/* A row that tells of nothing in a journal, or a dead letter. */
struct kafka_aside {
    char *text; /* its key, or its reason */
    bool dead;
    struct log_record record; /* of a dead letter */
    unsigned char data[];
};

/* The in-flight budget of one partition of one stream. */
struct kafka_lane {
    size_t count;
    int64_t bytes;
};

struct kafka_log {
    struct log base;
    struct kafka_uri uri;
    struct kafka_notes notes;
    char topics[KAFKA_TOPICS][KAFKA_TOPIC_NAME_BYTES];
    char client_name[128];
    char *member;
    int64_t session_timeout_ms;
    bool read_only;
    uint32_t partitions;
    int replies_partitions;
    uint32_t jobs_partitions; /* as many as the namespace was made with */
    int replicas; /* of the journal: topics of queues get as many */

    /* waiting */
    int wake_fd;
    atomic_bool sleeping;
    atomic_bool woken;
    struct kafka_source **sources; /* all that have a queue */
    size_t source_count, source_space;
    int64_t chore_ms; /* monotonic: when chores are due */

    /* producing */
    rd_kafka_t *producer;
    rd_kafka_topic_t *handles[KAFKA_TOPICS];
    struct kafka_source produced;
    struct kafka_lane *lanes; /* partitions of journal, then of inbox */
    size_t lane_count_max;
    int64_t lane_bytes_max;
    struct kafka_append *in_flight; /* all appends without a report */
    struct kafka_append *unshown;   /* statuses, rows, dead letters without one */
    struct kafka_append *spare;
    int64_t unknown_ms;         /* since when a topic is said to be unknown; 0: not */
    size_t aside[KAFKA_TOPICS]; /* statuses, replies, dead letters in flight */
    bool producer_failed;
    int64_t producer_again_ms; /* it could not be replaced: tried again then */
    char producer_reason[256];
    bool trimming;         /* a DeleteRecords call is under way */
    bool trim_refusal_told; /* that it may not; once */

    /* queues of remote steps */
    struct kafka_tasks *tasks; /* NULL: none was needed yet */
    struct kafka_taking *taking; /* NULL: no step worker */

    /* reading */
    rd_kafka_t *reader;
    rd_kafka_topic_t *read_topics[2]; /* held, so that it knows where they are when the first partition is followed */
    struct kafka_source reading;     /* errors of the reader as a whole */
    struct kafka_source *followings; /* partitions of journal, then of inbox */
    struct kafka_source answers;     /* our partition of the replies */
    uint64_t client_id;

    /* membership */
    rd_kafka_t *membership;
    struct kafka_source member_events;
    bool *assigned;
    bool leaving;
    bool taken;
    bool rejoin;       /* the membership is to be replaced */
    int fenced;            /* so often, one soon after the other */
    int64_t fenced_ms;     /* monotonic: when our member id was last said to be another's */

    rd_kafka_t *unreachable; /* the client that told of the present outage */
    int64_t ask_again_ms;    /* monotonic: no blocking question before */
    bool doubted; /* a topic was not there: is it still our log? */
    bool refusal_told; /* of a connection that must not be made */
    bool dead;    /* LOG_FATAL was told for the whole log */
};

static inline struct kafka_log *kafka_log_of(struct log *base)
{
    return (struct kafka_log *)base;
}

int kafka_fail(struct kafka_log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kafka_fault(struct kafka_log *log, enum log_fault fault, uint32_t partition, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int64_t kafka_monotonic_ms(void);
int64_t kafka_wall_ms(void);
uint64_t kafka_random(void);
/* Opens without looking at settings: mock brokers cannot describe theirs. `genesis` is copied. */
int kafka_log_open_as(const struct kafka_uri *uri, const struct log_options *options, const Genesis *genesis,
                      const struct kafka_shape *shape, struct kafka_log **out, char *error, size_t error_size);
bool kafka_source_open(struct kafka_log *log, struct kafka_source *source, rd_kafka_queue_t *queue);
void kafka_source_close(struct kafka_source *source);
/* A right is missing: LOG_FATAL, with the exit code of a refusal. */
void kafka_fault_unauthorised(struct kafka_log *log, const char *what, const char *resource);
/* The same as a call's failure, or LOG_UNREACHABLE's code for any other reason. */
int kafka_fail_asking(struct kafka_log *log, rd_kafka_resp_err_t code, const char *what, const char *resource);
/* An error event of any of the clients. */
void kafka_on_error(struct kafka_log *log, rd_kafka_t *client, rd_kafka_event_t *event);
void kafka_reachable(struct kafka_log *log);

/* kafka_produce.c */
int kafka_produce_start(struct kafka_log *log, char *error, size_t error_size);
bool kafka_produce_mend(struct kafka_log *log); /* after a fatal error: another producer */
void kafka_produce_serve(struct kafka_log *log, struct kafka_source *source);
void kafka_produce_stop(struct kafka_log *log);
int kafka_append(struct log *base, enum log_stream stream, uint32_t partition, const struct log_message *message,
                 uint64_t cookie);
bool kafka_has_aside(const struct kafka_log *log); /* statuses, replies, dead letters are on their way */
/* Takes `headers` over. One that is lost is told: log_handler's dead_lost(). */
int kafka_produce_dead(struct kafka_log *log, const struct log_record *record, const char *reason,
                       rd_kafka_headers_t *headers);
/* Replies: sent once, nobody waits. Takes `headers` over. */
int kafka_produce_aside(struct kafka_log *log, enum kafka_topic topic, int32_t partition, const char *key,
                        const void *data, size_t size, rd_kafka_headers_t *headers);
int kafka_produce_status(struct kafka_log *log, int32_t partition, const char *key, const void *data, size_t size,
                         const struct log_place *of);
int64_t kafka_unshown(struct log *base, uint32_t partition);

/* What plain tools see beside a record; librdkafka's to free once a message has it. */
rd_kafka_headers_t *kafka_headers(const Header *header);

/* kafka_tasks.c */
int kafka_put_task(struct log *base, const char *queue, uint32_t lane, const struct log_message *message, uint64_t cookie);
void kafka_tasks_serve(struct kafka_log *log, struct kafka_source *source);
void kafka_tasks_chores(struct kafka_log *log);
void kafka_tasks_stop(struct kafka_log *log);

/* kafka_take.c */
int kafka_take_tasks(struct log *base, const char *queue, const struct log_taker *taker);
void kafka_take_commit(struct log *base, uint32_t lane, int64_t offset);
void kafka_take_chores(struct kafka_log *log);
void kafka_take_resume(struct log *base);
void kafka_take_stop(struct log *base);

/* kafka_consume.c */
int kafka_follow(struct log *base, enum log_stream stream, uint32_t partition, int64_t from);
int kafka_unfollow(struct log *base, enum log_stream stream, uint32_t partition);
int kafka_bounds(struct log *base, enum log_stream stream, uint32_t partition, int64_t *start, int64_t *end);
bool kafka_reader_open(struct kafka_log *log);
bool kafka_consume_assign(struct kafka_log *log, struct kafka_source *source, int64_t from);
void kafka_consume_chores(struct kafka_log *log);
void kafka_consume_stop(struct kafka_log *log);

/* kafka_trim.c */
int kafka_trim(struct log *base, enum log_stream stream, uint32_t partition, int64_t below);
void kafka_trim_chores(struct kafka_log *log);
struct kafka_source *kafka_following(struct kafka_log *log, enum log_stream stream, uint32_t partition);
void kafka_trim_done(struct kafka_log *log, rd_kafka_event_t *event);

/* kafka_members.c */
bool kafka_deals_rows(void);
int kafka_join(struct log *base);
int kafka_leave(struct log *base, bool for_good);
void kafka_members_chores(struct kafka_log *log);
void kafka_members_stop(struct kafka_log *log);
bool kafka_is_member(rd_kafka_t *consumer); /* of its group, by the id that this gave it */

/* kafka_status.c */
int kafka_put_status(struct log *base, const char *key, const void *data, size_t size, const struct log_place *of);
int kafka_get_status(struct log *base, const char *key, void **data, size_t *size);
int kafka_each_status(struct log *base, const char *prefix,
                      bool (*visit)(void *context, const char *key, const void *data, size_t size), void *context);

/* kafka_replies.c */
int kafka_reply(struct log *base, const ReplyTo *to, const Reply *reply);
int kafka_reply_address(struct log *base, ReplyTo *to);
int kafka_dead(struct log *base, const struct log_record *record, const char *reason);

#endif
