/*
 * The oracle: judges a journal by docs/protocol.md alone (rules 1 and 2), written apart from engine/judge.c, and keeps
 * every history whole. What it says counted is the truth that workers, stores and clients are held against.
 */
#ifndef SIM_ORACLE_H
#define SIM_ORACLE_H

#include "wire/wire.h"

enum oracle_verdict {
    ORACLE_GENESIS,
    ORACLE_CLAIM,
    ORACLE_RELEASE,
    ORACLE_MARK,
    ORACLE_COUNTED,
    ORACLE_DUPLICATE,
    ORACLE_FENCED,
    ORACLE_REJECTED,
    ORACLE_COPY,
    ORACLE_STUB,
    ORACLE_SLOT_OUT,
    ORACLE_SLOT_IN,
    ORACLE_VERDICTS,
};

struct oracle_event {
    int64_t offset; /* of its record */
    digest after;
    Event *event;
};

struct oracle_run {
    char *job;
    uint64_t run;
    uint64_t seq;
    digest digest;
    bool open;
    int64_t first;
    int64_t closed_at; /* offset of the terminal event's record, -1 */
    int64_t kept_at;   /* where it stands now: `first`, or its last whole copy or stub */
    int64_t last_at; /* its last record: of events, the last part of its last whole copy, its stub */
    int64_t forgotten_at; /* offset of the Mark whose cut left it out, -1 */
    Position last_input;
    bool has_input;
    int64_t left_at;   /* offset of the SlotOut with which it left, -1 (rule 25) */
    struct oracle_event *events;
    size_t capacity;
    struct oracle_run *previous; /* the run of the same job before this */
    struct oracle_run *next;     /* in the list of all */
};

struct oracle {
    uint32_t partition;
    uint32_t partitions, map_version; /* the slot map as of now */
    bool waits;        /* a new partition before its SlotIn */
    bool arrived;      /* an old one: all that left is where it belongs */
    int64_t left;      /* offset of its SlotOut, -1 */
    struct oracle *source; /* of a new partition; set by whoever has both */
    uint64_t log_id;
    int64_t end; /* next offset to judge */
    bool owned;
    int64_t claim;
    uint64_t nonce;
    uint64_t n; /* highest counter of the epoch that counted */
    Position in_pos;
    Position mark_in_pos;
    int64_t out_pos;
    int64_t mark_out_pos;
    int64_t last_mark; /* offset, -1 */
    int64_t cut;       /* highest of a Mark; 0: none */
    int64_t cut_mark;  /* offset of that Mark */
    struct { struct oracle_run *run; uint32_t part, parts; uint64_t seq; int64_t first; } copy; /* run NULL: none under way */
    uint64_t counted;
    struct oracle_run **heads; /* newest run of each job, open addressing */
    size_t capacity;
    size_t head_count;
    struct oracle_run *all;
    /* What was wrong with a record that counts: the first such thing, empty when nothing. */
    char wrong[256];
};

void oracle_init(struct oracle *oracle, uint32_t partition, uint64_t log_id);
void oracle_clear(struct oracle *oracle);
/* `record` is the decoded record at `offset`; NULL: a hole. `*run`: of a record that counted, else NULL. */
enum oracle_verdict oracle_judge(struct oracle *oracle, int64_t offset, const Record *record, struct oracle_run **run);
struct oracle_run *oracle_find(const struct oracle *oracle, const char *job);
struct oracle_run *oracle_find_run(const struct oracle *oracle, const char *job, uint64_t run);
/* Head of the run as of all records below `position`; 0: nothing of it counted yet. */
uint64_t oracle_seq_at(const struct oracle_run *run, int64_t position);
bool oracle_open_at(const struct oracle_run *run, int64_t position);
/* The newest run of `job` as of `position`; NULL: none. */
struct oracle_run *oracle_find_at(const struct oracle *oracle, const char *job, int64_t position);
/* Live hash and number of open runs as of now. */
uint64_t oracle_live(const struct oracle *oracle, digest *hash);
bool event_is_terminal(const Event *event);
const char *oracle_verdict_name(enum oracle_verdict verdict);

#endif
