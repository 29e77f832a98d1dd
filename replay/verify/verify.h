/* The independent checker of Perdure's logs. It shares the .proto files and the format document with the runtime, and
 * no code: what both got wrong in the same way would have to be wrong in those.
 *
 * The way through: a reader (read_*.c) hands over every record of every journal, then every record of every inbox;
 * judge.c decides which count (rules F and S); checks.c looks at the events of one run, inputs.c at what was absorbed,
 * across.c at what leaves one job and arrives at another, slots.c and forward.c at what moves between partitions;
 * report.c prints. */
#ifndef PERDURE_VERIFY_H
#define PERDURE_VERIFY_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "perdure/v1/command.pb-c.h"
#include "perdure/v1/event.pb-c.h"
#include "perdure/v1/record.pb-c.h"

#include "table.h"

/* What more than one file uses is named pv_, since tests link the runtime beside this. */

typedef Perdure__V1__Record record_pb;
typedef Perdure__V1__Header header_pb;
typedef Perdure__V1__Event event_pb;
typedef Perdure__V1__Genesis genesis_pb;
typedef Perdure__V1__Mark mark_pb;
typedef Perdure__V1__Command command_pb;
typedef Perdure__V1__Position position_pb;
typedef Perdure__V1__InputRef input_pb;
typedef Perdure__V1__Sender sender_pb;

enum { FORMAT = 1, RULE_LEVEL = 3, MAPS = 14, SLOTS = 4096, DIGEST = 16, RULES = 40 }; /* rule 24: 12 growths at most */
enum { RECORD_MOST = 16 * 1024 * 1024, REQUESTS_KEPT = 256, PAYLOAD_MOST = 934464 };
enum { EVENT_TABLE = 0 }; /* a law of the event table rather than of a numbered rule */
enum exit_code { EXIT_SOUND = 0, EXIT_VIOLATED = 1, EXIT_USAGE = 2, EXIT_NOT_FOUND = 3, EXIT_UNREACHABLE = 5 };

static const int64_t LIFE_MS = INT64_C(24) * 3600 * 1000; /* rule 14 */
static const int64_t BORN_AHEAD_MS = 60 * 1000;           /* rule 14 */

enum stream { JOURNAL = 0, INBOX = 1 };

/* One record as a reader found it. */
struct message {
    enum stream stream;
    uint32_t partition;
    int64_t offset;
    int64_t append_ms; /* 0: the log did not say */
    const uint8_t *data;
    size_t size;
    const char *key; /* NULL: this kind of log has no keys, or the record has none */
    size_t key_size;
};

/* What a violation is about. */
struct where {
    enum stream stream;
    uint32_t partition;
    int64_t offset;
    const char *job; /* NULL: none */
    uint64_t run;
    uint64_t seq;
};

#define NO_JOB UINT32_MAX
#define NO_PARTITION UINT32_MAX

enum run_state { RUN_OPEN, RUN_COMPLETED, RUN_FAILED, RUN_CANCELLED, RUN_TERMINATED, RUN_STATES };

/* One operation of an open run. */
struct operation {
    bool step_done, timer_started, timer_fired, child_asked, child_ended, signal_sent, send_refused;
    bool scheduled, held;
    uint32_t attempt;   /* the last one that failed */
    uint32_t dispatched, dispatch; /* the attempt that was handed out last, and how often */
    uint32_t child_job; /* index of the child's job */
    int64_t fire_at;
    uint64_t step; /* hash of name and input: one operation is one step */
};

/* A request id that an open run has absorbed. */
struct request {
    int64_t t;
    bool command; /* a start, signal or cancel, not a result */
};

/* What is needed of a run only while it is open. */
struct life {
    struct table operations; /* by op: struct operation */
    struct table requests;   /* by hash: struct request */
};

struct run {
    uint64_t id;
    uint32_t job;
    uint32_t type;   /* index into types */
    uint32_t parent; /* job that waits for its end, or NO_JOB */
    uint64_t seq;
    uint8_t digest[DIGEST];
    int64_t t, first, last;
    int64_t in_last; /* inbox offset of its last input, -1: none */
    uint32_t in_partition, in_generation;
    int64_t previous; /* earlier run of the job, -1: none */
    uint8_t state;    /* enum run_state */
    int64_t kept;       /* where it stands now: `first`, or its last whole copy or stub */
    int64_t keep_until; /* of a closed run */
    bool stub;          /* only that is known of it */
    bool forgotten;     /* left out by a cut */
    bool cancel_asked, stopped, aside;
    uint64_t last_crash;
    struct life *life;
};

struct job {
    char *id;
    uint32_t partition;
    int64_t run; /* current run, -1: none yet */
    bool away;   /* its slot has left `partition`, and its history is nowhere else yet */
    bool broken; /* a violation was reported; what follows from it isn't */
};

/* Between which offsets of one inbox, in one generation, a run is known to have been open. */
struct reach {
    int64_t first, last;
};

/* Slots on their way: from one partition to another, in one growth (rule 25). */
struct move {
    uint32_t version, from, to;
    int64_t out, in, arrived; /* offsets of SlotOut, SlotIn and SlotOut{arrived}; -1: not met */
    int64_t out_in_pos, out_ms; /* of the SlotOut: its in_pos, its append time */
    bool compared;            /* all that counted at the source is known here */
    uint64_t open, closed;    /* runs that arrived */
    uint64_t live_count;
    unsigned __int128 live;
};

/* A command of a slot that had left the partition: it must stand in the inbox of another one. */
struct forward {
    uint32_t partition, job;
    int64_t offset;
    uint64_t run, whole, request; /* hashes: of all that is kept, of the request id alone */
    bool excused;                 /* it may have been answered here before the slot left */
};

/* An output: an event after which a command must reach another inbox. */
struct output {
    int64_t offset;
    uint32_t partition, job, target;
    uint64_t run, seq, op;
    uint16_t kind; /* command kind */
    bool delivered;
};

struct child_request {
    uint32_t child;
    bool ended;
    bool started;
};

/* A child's Started, or a parent's ChildEnded: judged when all journals are read. */
struct child_fact {
    int64_t offset;
    uint32_t partition, job, other; /* own job; the parent's or the child's */
    uint64_t run, seq, other_run, op;
    uint8_t state; /* of a ChildEnded; RUN_OPEN: refused */
    bool ended;
};

/* Signals from one job to another of one name. */
struct signal_sum {
    uint64_t sent, received;
    int64_t offset;
    uint32_t partition, job, sender;
    uint64_t run, seq;
};

struct absorbed {
    uint32_t run, partition, generation;
    int64_t input; /* its inbox offset */
    uint64_t request;
    uint64_t fact; /* what the event says that its command must say too; 0: a result, which names no request */
    int64_t offset;
    bool seen;
};

struct refusal {
    int64_t offset;
    uint32_t partition, job;
    uint64_t run, op, request;
};

struct acked {
    char *request;
    uint32_t job;
    uint32_t line;
    uint64_t times;
    bool signal;
};

struct effect {
    uint64_t run, op;
    bool known;
};

/* A copy under way. One of a run that is not known is judged when it is whole: until then its parts are only held. */
struct copying {
    bool on, known;
    uint32_t job, part, parts;
    uint64_t run, seq;
    int64_t first;
    uint8_t digest[DIGEST];
    struct held {
        uint8_t *data;
        size_t size;
        int64_t offset;
    } *held;
    size_t held_count, held_room;
};

struct partition {
    bool seen, stopped, inbox_seen, inbox_stopped, owned, damaged;
    bool has_genesis, truncated;
    bool born; /* read from its Genesis on */
    uint64_t log_id;
    uint64_t genesis; /* hash of all that every Claim must repeat, but for the map */
    uint32_t map_version, partitions, grown_from, settled; /* as its journal says so far: rule 24 */
    uint32_t told_map, told_settled; /* the same by its current Claim and what follows it */
    bool moving;                     /* SlotOut has been met, SlotOut{arrived} not */
    bool awaits;                     /* a new partition before its SlotIn */
    int64_t slots_in_pos;            /* in_pos at its SlotIn; -1: not met */
    int64_t begin, cut; /* offset of its first record; highest cut of a Mark, 0: none */
    bool whole;         /* read from its Genesis, or past a Mark that cut where it begins */
    struct copying copy; /* under way */
    int64_t from; /* what was read of it below is gone by now */
    int64_t last, inbox_first, inbox_last;
    int64_t horizon, inbox_horizon; /* what must have its reason in the log lies below */
    /* the epoch */
    int64_t claim;
    uint64_t nonce, n;
    bool hole;      /* an append of this epoch is missing */
    bool any;       /* a record of this epoch counted */
    bool hash_told; /* one wrong live hash an epoch is reported */
    int64_t epoch_out;
    /* the partition as the records that counted say */
    uint32_t in_generation;
    int64_t in_pos, out_pos;
    int64_t sure_in_pos, sure_out_pos; /* as records below the horizon say: what follows from them is in the inboxes */
    int64_t in_floor; /* what in_pos of this epoch's records other than Marks has reached */
    int64_t largest_t;
    unsigned __int128 live;
    uint64_t live_count;
};

enum verdict { COUNTED, FENCED, DUPLICATE, REJECTED, UNREADABLE, UNJUDGED, VERDICTS };

enum skip {
    SKIP_DUPLICATE,
    SKIP_EXPIRED,
    SKIP_WATCH,
    SKIP_UNREADABLE,
    SKIP_FOREIGN,
    SKIP_REFUSED,
    SKIP_DROPPED,
    SKIP_PARTITION, /* to a partition, not to a job */
    SKIP_FORWARDED,
    SKIPS
};

struct totals {
    uint64_t journal, inbox, events;
    uint64_t kinds[32];
    uint64_t verdicts[VERDICTS];
    uint64_t absorbed, waiting, skips[SKIPS];
    uint64_t effects, strange_effects;
    uint64_t checks[RULES], violations;
    uint64_t heads_cut; /* partitions whose head was cut away between being asked for and being read */
    uint64_t later;     /* journal records behind the horizon: read only for what lies below it */
    uint64_t unchecked; /* what would have been, were the log all there */
};

struct report;

struct check {
    struct report *report;
    struct totals totals;
    uint64_t log_id;
    bool has_log_id;

    struct partition *partitions;
    uint32_t partition_count;
    struct job *jobs;
    size_t job_count, job_room;
    struct run *runs;
    size_t run_count, run_room;
    char **types;
    uint32_t type_count;
    struct child_fact *children;
    size_t child_count, child_room;
    struct refusal *refusals;
    size_t refusal_count, refusal_room;
    struct acked *acked;
    size_t acked_count, acked_room;
    struct move *moves;
    size_t move_count, move_room;
    struct forward *forwards;
    size_t forward_count, forward_room;
    uint32_t maps[MAPS]; /* partitions by map version; 0: not known */

    struct table job_index;   /* by id: uint32_t */
    struct table type_index;  /* by name: uint32_t */
    struct table run_index;   /* by job and run: uint32_t */
    struct table reached;     /* by run, partition, generation: struct reach */
    struct table carried;     /* by inbox partition and command, and by inbox partition and request: an inbox has it */
    struct table counted;     /* by run and seq: struct value */
    struct table others;      /* by epoch, run and seq, of what did not count: digest */
    struct table outputs;     /* by job, run, seq: struct output */
    struct table requested;   /* by parent, run, op: struct child_request */
    struct table results;     /* by run and op: a ChildEnded or SendRefused counted */
    struct table signals;     /* by sender, target, name: struct signal_sum */
    struct table absorbed;    /* by partition, generation, offset: struct absorbed */
    struct table known;       /* by job and request: absorbed */
    struct table tastes;      /* by job type, signal name, payload type: such a signal has been absorbed */
    struct table from_jobs;   /* by request: absorbed, sent by a job */
    struct table refused;     /* by request: refused in a Mark */
    struct table refused_ops; /* by job, run, op: bool, the refusal is in the inbox */
    struct table acked_index; /* by kind, job, request: index + 1 */
    struct table effects;     /* by run and op: struct effect */
    int64_t as_of; /* seconds since 1970: when the horizons were asked for; 0: nobody writes */
    bool copying; /* what is judged counted before, elsewhere */
    bool has_ledger;
    FILE *save;  /* NULL: nothing is saved */
    FILE *spool; /* NULL: what is read is judged at once */
};

/* check.c: the whole */
void pv_check_start(struct check *c, struct report *report);
void pv_check_partitions(struct check *c, uint32_t partitions); /* how many the log itself has */
void pv_check_horizon(struct check *c, enum stream stream, uint32_t partition, int64_t horizon);
void pv_check_begins(struct check *c, enum stream stream, uint32_t partition, int64_t offset); /* what lay below is gone */
void pv_check_record(struct check *c, const struct message *m);
void pv_check_finish(struct check *c);
void pv_check_free(struct check *c);
struct partition *pv_check_partition(struct check *c, uint32_t partition);
uint32_t pv_check_job(struct check *c, const char *id);
uint32_t pv_check_type(struct check *c, const char *name);
struct run *pv_check_run(struct check *c, uint32_t job, uint64_t id);
struct where pv_where_of(const struct message *m, const header_pb *h);

/* depth.c */
bool pv_too_deep(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size);
event_pb *pv_event(const ProtobufCBinaryData *bytes);

/* frame.c */
enum frame { FRAME_GOOD, FRAME_SHORT, FRAME_FORMAT, FRAME_SUM, FRAME_RECORD };
enum frame pv_frame_open(const uint8_t *data, size_t size, record_pb **record);
const char *pv_frame_text(enum frame frame);

/* digest.c */
void pv_digest_first(uint64_t run, uint8_t digest[DIGEST]);
void pv_digest_next(uint8_t digest[DIGEST], const uint8_t *event, size_t size);
uint64_t pv_digest_run(uint64_t log_id, const char *job, const char *request);
unsigned __int128 pv_digest_live(const char *job, uint64_t run, uint64_t seq, const uint8_t digest[DIGEST]);
uint64_t pv_digest_input(const char *type, const void *data, size_t size);
uint32_t pv_digest_slot(const char *job);
uint64_t pv_hash_text(const char *text);
uint64_t pv_hash_bytes(const void *bytes, size_t size);
uint64_t pv_hash_two(uint64_t a, uint64_t b);
uint64_t pv_hash_three(uint64_t a, uint64_t b, uint64_t c);

/* judge.c */
void pv_judge(struct check *c, const struct message *m);

/* Shared with copies.c and slots.c. */
bool pv_in_epoch(const struct partition *p, const header_pb *h);
bool pv_count_append(struct check *c, struct partition *p, const struct where *w, const header_pb *h);
bool pv_check_header(struct check *c, const struct partition *p, const struct message *m, const record_pb *r);
bool pv_digest_agrees(const record_pb *r);
bool pv_was_counted(const struct check *c, const header_pb *h); /* a record of this run, seq and digest */
bool pv_stood_at(const struct check *c, const header_pb *h, uint32_t partition, int64_t offset); /* … it did there */
void pv_note_counted(struct check *c, const struct message *m, const header_pb *h);
void pv_take_positions(struct check *c, struct partition *p, const struct where *w, const position_pb *in, int64_t out,
                       bool in_order, bool is_mark);
struct run *pv_begin_run(struct check *c, const struct message *m, uint32_t job, const header_pb *h);
void pv_add_live(const struct check *c, struct partition *p, const struct run *run, bool add);
void pv_end_life(struct run *run);

/* copies.c: rules 17 to 20 */
enum verdict pv_judge_copy(struct check *c, struct partition *p, const struct message *m, const record_pb *r);
enum verdict pv_judge_stub(struct check *c, struct partition *p, const struct message *m, const record_pb *r);
void pv_copy_drop(struct partition *p);
void pv_check_cut(struct check *c, struct partition *p, const struct message *m, const record_pb *r);
bool pv_ran_below(const struct check *c, const struct partition *p, uint32_t partition, uint32_t job);
bool pv_was_cut(struct check *c, const char *job); /* records of its partition are gone: what is not known may have been */

/* slots.c: rules 24 and 25 */
bool pv_take_map(struct check *c, struct partition *p, const struct where *w, const genesis_pb *g);
enum verdict pv_judge_slot_out(struct check *c, struct partition *p, const struct message *m, const record_pb *r);
enum verdict pv_judge_slot_in(struct check *c, struct partition *p, const struct message *m, const record_pb *r);
bool pv_source_read(struct check *c, struct partition *p, const struct where *w);
bool pv_slot_stays(struct check *c, const struct partition *p, const struct where *w, const char *job);
bool pv_run_comes(struct check *c, const struct partition *p, uint32_t partition, const struct run *run);
bool pv_may_come(struct check *c, const struct partition *p, uint32_t partition); /* what is not known */
void pv_run_arrives(struct check *c, struct partition *p, uint32_t partition, int64_t offset, struct run *run);
const struct move *pv_move_away(const struct check *c, uint32_t partition, const char *job);
struct move *pv_move(const struct check *c, uint32_t version, uint32_t from, uint32_t to);
int pv_homes(const struct check *c, const char *job, uint32_t homes[MAPS]); /* by every map that is known */
void pv_slots_finish(struct check *c);

/* forward.c: what an inbox holds for a partition, and for slots that have left */
void pv_partition_command(struct check *c, const struct where *w, const record_pb *r);
void pv_note_carried(struct check *c, const struct where *w, const record_pb *r);
void pv_note_forward(struct check *c, const struct where *w, const record_pb *r, bool excused);
void pv_forwards_finish(struct check *c);

/* checks.c */
void pv_check_events(struct check *c, const struct message *m, const record_pb *record, struct run *run);

/* inputs.c */
void pv_absorb_inputs(struct check *c, const struct message *m, const header_pb *h, struct run *run,
                      event_pb *const *events, size_t count);
void pv_check_ending(struct check *c, const struct where *w, struct run *run, const event_pb *event);
uint64_t pv_taste(const struct check *c, const struct run *run, const char *name, const Perdure__V1__Payload *payload);
void pv_check_inbox(struct check *c, const struct message *m);
void pv_inputs_finish(struct check *c);
struct reach *pv_reach(struct check *c, const struct run *run, uint32_t partition, uint32_t generation, bool *fresh);

/* across.c */
void pv_across_event(struct check *c, const struct message *m, struct run *run, const event_pb *event);
void pv_across_mark(struct check *c, const struct message *m, const mark_pb *mark);
void pv_across_command(struct check *c, const struct where *w, const record_pb *record);
void pv_across_finish(struct check *c);

/* lists.c */
bool pv_lists_acked(struct check *c, const char *path);
bool pv_lists_ledger(struct check *c, const char *path);
void pv_lists_event(struct check *c, const struct run *run, const event_pb *event);
void pv_lists_step(struct check *c, const struct where *w, const struct run *run, uint64_t op);
void pv_lists_stub(struct check *c, uint32_t job, const char *request); /* an unknown run absorbed it */
void pv_lists_finish(struct check *c);

/* save.c */
bool pv_save_open(struct check *c, const char *path);
void pv_save(const struct check *c, const struct message *m);
void pv_save_to(FILE *file, const struct message *m);
bool pv_save_close(struct check *c, const char *path);

/* The most partitions that a map names which was met, also beyond the horizon. */
uint32_t pv_check_map(const struct check *c);

/* read_*.c: what is not READ_ALL, or false: not read to the end. The reason is printed. READ_AGAIN: what was being read has
 * changed so that the check is to begin anew; READ_NONE: there is no such log. */
enum read_end { READ_ALL, READ_FAILED, READ_AGAIN, READ_NONE };
bool pv_read_sqlite(struct check *c, const char *path);
enum read_end pv_read_kafka(struct check *c, const char *place, bool spool);
bool pv_read_dump(struct check *c, FILE *file, const char *name);
bool pv_read_file(struct check *c, const char *path);

/* kafka_settings.c: what the user sets for Kafka clients, from file, environment and the options of the address */
struct rd_kafka_conf_s;
struct sockaddr;
bool pv_kafka_settings(struct rd_kafka_conf_s *conf, const char *options);
/* kafka_plaintext.c: without encryption, only this machine is spoken to, unless PERDURE_ALLOW_PLAINTEXT says otherwise */
int pv_kafka_connect(int socket, const struct sockaddr *address, int size, const char *broker, void *refused);
const char *pv_kafka_refusal(const void *refused); /* NULL: no connection was refused */
void pv_kafka_guard(void); /* before the others */
const char *pv_kafka_foreign(const char *host); /* NULL: it may be connected to */

/* report.c */
struct report *pv_report_new(bool json, FILE *out);
bool pv_hold(struct check *c, bool ok, int rule, const struct where *w, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* What could not be checked, and why: no violation. */
void pv_unchecked(struct check *c, const struct where *w, const char *format, ...) __attribute__((format(printf, 3, 4)));
void pv_report_told(struct report *report); /* prints what was found so far */
void pv_report_end(struct check *c, const char *log, bool jobs);
void pv_report_free(struct report *report);

#endif
