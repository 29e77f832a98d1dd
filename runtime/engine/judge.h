/*
 * The one judging function (rules 1, 2, 3, 22, 32): what counts in a journal, for every reader alike: the owner, a
 * candidate, a standby, a tool. It keeps the head of each job's newest run; whoever wants more hangs it on the head.
 */
#ifndef PERDURE_JUDGE_H
#define PERDURE_JUDGE_H

#include "wire/wire.h"

enum run_end { RUN_OPEN, RUN_COMPLETED, RUN_FAILED, RUN_CANCELLED, RUN_TERMINATED };
const char *run_end_name(enum run_end end); /* "completed" ...; RUN_OPEN: "running" */

/* How a closed run ended, kept until the store has it. */
struct outcome {
    Payload *result;
    Error *error;
};

struct run_parent {
    char *job;
    uint64_t run;
    uint64_t op;
};

/* Request ids that a run has absorbed: hashes of all, the strings of the newest. */
struct request_set {
    uint64_t *hashes; /* open addressing, 0 is free */
    uint32_t used;
    uint32_t capacity;
    char **recent;
    uint32_t recent_count;
};
#define REQUESTS_KEPT 256 /* strings a run; more would not fit into its terminal event */

/* How often code of a run has crashed its worker in a row; most runs have none of this. */
struct crash_tally {
    uint64_t recent[16]; /* ids of the newest: an owner that is told of one may have journaled it before it was fenced */
    uint32_t recent_count;
    uint32_t total; /* since the start, or since it was resumed */
    bool quarantined;
    int64_t t;
    char *report;
    size_t count;
    struct crash_count {
        uint64_t op; /* 0: the job's own code */
        uint32_t attempt;
        uint32_t count;
        char reason[96];
    } counts[8];
};
/* NULL: none. */
const struct crash_count *crash_count_of(const struct crash_tally *tally, uint64_t op);
bool crash_is_known(const struct crash_tally *tally, uint64_t id);
void crash_tally_free(struct crash_tally *tally);

/* The newest run of one job id, as far as it counted. seq 0: nothing counted yet. */
struct run {
    struct run *next;
    uint64_t hash;
    char *job;
    uint64_t run;
    uint64_t seq;
    digest digest;
    int64_t first; /* offset of its first record; copied: of its last whole copy's first part, or of its stub */
    int64_t last;  /* offset of its last record; copied: of the last part of its last whole copy, of its stub */
    int64_t t;
    int64_t rests; /* of its last record (rule 34), or found since: its job has run on it */
    int64_t created;
    int64_t keep_ms;
    int64_t keep_until;
    const char *type;  /* interned */
    const char *build; /* interned */
    uint64_t input_digest;
    struct run_parent *parent;
    struct request_set requests;
    int64_t last_input; /* offset of the last absorbed inbox record, -1: none; within last_generation */
    uint32_t last_generation;
    uint32_t last_partition;
    enum run_end end;
    bool unknown_event; /* rule 32: an event this version does not know: the job stops here */
    bool unbegun;       /* its start and signals are all: whether its code has ever run is not known */
    bool changed;       /* since the last save */
    int64_t known_from; /* like `first`, of the earliest run of this id whose request ids are known */
    int64_t copied;     /* the engine's: cut for which it was copied or left out */
    struct outcome *outcome;
    struct crash_tally *crashes; /* NULL: none */
    void *user; /* the engine's */
};

/* The slot map as a journal tells it (rule 24): slot s is of partition s mod partitions. */
struct slot_map {
    uint32_t version;    /* 0: nothing said yet */
    uint32_t partitions;
    uint32_t grown_from; /* partitions of the version before; 0 in version 1 */
    uint32_t settled;    /* up to this version the moves of this partition are over (rule 25) */
};

enum judge_verdict {
    JUDGE_COUNTED,   /* an Event record: judged.run, judged.events */
    JUDGE_DUPLICATE, /* the same record counted before */
    JUDGE_FENCED,    /* not of the current epoch (rule 1) */
    JUDGE_REJECTED,  /* of the current epoch, but it does not continue its run (rule 2) */
    JUDGE_COPY,      /* part of a copy (rule 18); judged.new_run: the last one, and it brought a run that was unknown */
    JUDGE_STUB,      /* what is left of a closed run; judged.new_run: it was unknown */
    JUDGE_SLOT_OUT,  /* slots left, or all that left have arrived (rule 25); judge_sweep_left() */
    JUDGE_SLOT_IN,   /* the slots of this partition are here */
    JUDGE_CLAIM,
    JUDGE_RELEASE,
    JUDGE_MARK,
    JUDGE_GENESIS,
    JUDGE_DISTRUST,  /* a Mark's live hash differs from what was read (rule 3) */
    JUDGE_STOP,      /* nothing after this can be judged: judge->error (rule 32, wrong log) */
    JUDGE_NO_MEMORY,
};

struct judge {
    Genesis genesis;  /* namespace NULL; as expected, or as first read */
    bool has_genesis;
    uint32_t partition;
    struct slot_map map;
    int64_t map_t;    /* time of the record that brought it, 0: it was always so */
    bool owned;       /* a claim is current */
    int64_t claim;
    uint64_t nonce;
    uint64_t n;
    Position in_pos;       /* highest that counted */
    Position mark_in_pos;  /* highest of a Mark */
    int64_t out_pos;
    int64_t largest_t;
    int64_t shown;         /* highest of a Mark: what stands below is told by status records */
    int64_t position;      /* next offset to read */
    int64_t anchor;        /* offset of the last record that counted, -1 */
    uint64_t anchor_digest;
    digest live_hash;
    uint64_t live_count;

    int64_t begin;  /* offset of the first record read, -1: none */
    bool whole;     /* knows every run: read from the log's first record, from a store, or past a Mark with a cut */
    int64_t cut;    /* highest of a Mark: closed runs that lie below are forgotten */
    size_t swept;   /* place in the table up to which they are gone; SIZE_MAX: all are */
    struct partial_copy *partial; /* the copy that is being read; NULL: none */

    struct run **table;
    size_t capacity;
    size_t count;
    size_t open_count;
    char **interned;
    size_t interned_count;
    char error[256];
};

/* What the last judge_record() found; valid until the next. */
struct judged {
    struct run *run;
    bool new_run;
    bool unknown; /* JUDGE_COPY: of a run that is not known here */
    Event **events;
    size_t count;
};

/* A copy of a run that is not known here has begun and not ended: what was read cannot be saved yet (rule 22). */
bool judge_copy_is_under_way(const struct judge *judge);

/* `expected` may be NULL: the first genesis seen is believed. */
struct judge *judge_new(const Genesis *expected);
void judge_free(struct judge *judge);
/* Forgets all that was read, keeps what was expected: to begin again at the log's start. */
void judge_reset(struct judge *judge);

/* Judges the record at `offset`; records come in order of their offsets. */
enum judge_verdict judge_record(struct judge *judge, int64_t offset, const Record *record, struct judged *out);
void judged_release(struct judged *judged);
/* The same for events that are decoded already (the owner's own); `out->events` stays the caller's. */
enum judge_verdict judge_events(struct judge *judge, int64_t offset, const Header *header, Event *const *events,
                                size_t count, digest after, struct judged *out);

/* Forgotten runs leave the table little by little (rule 20): looks at up to `budget` places, hands over each run before it
 * goes. False: none is left. The visitor returns false to keep a run for now. */
bool judge_sweep(struct judge *judge, size_t budget, bool (*visit)(void *context, struct run *run), void *context);

struct run *judge_find(const struct judge *judge, const char *job);
struct run *judge_find_or_add(struct judge *judge, const char *job); /* NULL: no memory */
const char *judge_intern(struct judge *judge, const char *text);
/* For the store: puts a stored run into the table. */
struct run *judge_restore(struct judge *judge, const StoredRun *stored);

/* crash.c: what the events of a run say of its crashes. */
int crash_on_event(struct run *run, const Event *event);
int crash_restore(struct run *run, const StoredCrashes *stored);

bool request_set_has(const struct request_set *set, const char *request);
int request_set_add(struct request_set *set, const char *request);

/* Rule 25. Is this job of this partition, by what its journal says so far? */
bool judge_holds(const struct judge *judge, const char *job);
bool judge_places(const struct judge *judge, const char *job); /* ... or on its way here */
/* A new partition whose slots are on their way, or an old one that still waits for the news that they arrived. */
static inline bool judge_is_settled(const struct judge *judge) { return judge->map.settled >= judge->map.version; }
struct slot_map slot_map_of(const Genesis *genesis);
/* Counts and hashes, as in a Mark, of the open (or the closed) runs that are `partition`'s by a map of `partitions`. */
uint64_t judge_share(const struct judge *judge, uint32_t partitions, uint32_t partition, bool open, digest *hash);
/* After JUDGE_SLOT_OUT: takes runs that left out of the table; hands over each before it goes. */
void judge_sweep_left(struct judge *judge, void (*visit)(void *context, struct run *run), void *context);

/* No record speaks of what comes after it. One that does was written for offsets that a truncation took away. */
static inline int64_t out_pos_seen(int64_t out_pos, int64_t offset) { return out_pos < offset ? out_pos : offset; }

/* Offsets are compared within a generation (H21). */
static inline bool position_is_beyond(const Position *a, const Position *b)
{
    return a->generation != b->generation ? a->generation > b->generation : a->offset > b->offset;
}

static inline bool run_is_open(const struct run *run) { return run->seq > 0 && run->end == RUN_OPEN; }

#endif
