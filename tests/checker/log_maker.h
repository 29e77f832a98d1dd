/* Makes logs for the checker's tests, as dumps: record by record, right by itself unless told otherwise. */
#ifndef PERDURE_LOG_MAKER_H
#define PERDURE_LOG_MAKER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "verify/verify.h"

enum { MAKER_PARTITIONS = 2, MAKER_GROWN = 4, EVENTS_MOST = 8, INPUTS_MOST = 4, PARTS_MOST = 16 };

#define MAKER_LOG UINT64_C(0xfeedfacecafebeef)
#define MAKER_TIME INT64_C(1790000000000)

/* A run as its owner knows it. */
struct made_run {
    const char *job;
    uint32_t partition;
    uint64_t id, seq;
    uint8_t digest[DIGEST];
    int64_t t;
    bool open;
    struct made_part { /* its records, to be copied */
        uint8_t *data;
        size_t size;
        uint32_t partition;
        int64_t offset;
    } parts[PARTS_MOST];
    int part_count;
};

struct made_partition {
    int64_t journal, inbox; /* next offsets */
    int64_t claim, in_pos, out_pos;
    uint64_t nonce, n;
    int64_t largest_t;
    uint32_t map_version, partitions, grown_from, settled;
};

/* What the next record of events says of itself that is not so; all zero: nothing. */
struct lie {
    bool digest, prev, seq, count, slot, log, kind, level, epoch, out_pos, t, crc, no_input, partition, first, map;
};

struct maker {
    FILE *out;
    struct made_partition partitions[MAKER_GROWN];
    struct made_run *runs[12];
    int run_count;
    uint8_t *kept[128]; /* records of runs, until the end */
    int kept_count;
    struct lie lie;
    uint8_t *last; /* the last record's bytes, to be written again */
    size_t last_size;
    /* the record in the making */
    event_pb events[EVENTS_MOST];
    int event_count;
    input_pb inputs[INPUTS_MOST];
    int input_count;
    int64_t now;
    int to;         /* inbox of the next command; -1: by the job's slot in the first map */
    int64_t cut;    /* of the next Mark */
    int stop_after; /* parts of the next copy that are written; 0: all */
    uint32_t level; /* of the next SlotOut or SlotIn; 0: as it must be */
};

void maker_start(struct maker *m, FILE *out);
void maker_end(struct maker *m);

void maker_genesis(struct maker *m, uint32_t partition);
void maker_claim(struct maker *m, uint32_t partition, uint64_t nonce, uint32_t genesis_partitions);
void maker_mark(struct maker *m, uint32_t partition, Perdure__V1__Refusal *refusal, bool wrong_hash);
void maker_release(struct maker *m, uint32_t partition);
void maker_again(struct maker *m, enum stream stream, uint32_t partition); /* the last record's bytes once more */
void maker_garbage(struct maker *m, enum stream stream, uint32_t partition);

void maker_run(struct maker *m, struct made_run *run, const char *job, const char *request);
event_pb *maker_event(struct maker *m, uint64_t op);
void maker_input(struct maker *m, uint32_t partition, int64_t offset, const char *request);
/* Appends the events made since; or does all but write them. */
void maker_append(struct maker *m, struct made_run *run);
void maker_append_lost(struct maker *m, struct made_run *run);

/* Open runs of a partition, or only those that go to another; NULL: not asked for. */
uint64_t maker_live(const struct maker *m, uint32_t partition, int to, uint8_t hash[DIGEST]);
/* `body` says all but the positions. */
void maker_slot_out(struct maker *m, uint32_t partition, Perdure__V1__SlotOut *body);
void maker_slot_in(struct maker *m, uint32_t partition, Perdure__V1__SlotIn *body);
/* Copies of the first `parts` records of a run; part `odd` (from 1) with another event, or, -odd, another original. */
void maker_copy(struct maker *m, uint32_t partition, const struct made_run *run, int parts, int odd);
void maker_stub(struct maker *m, uint32_t partition, const struct made_run *run, int64_t keep_until);
void maker_to_partition(struct maker *m, uint32_t from, uint32_t to, const Perdure__V1__SlotsMoved *body);

/* An inbox record; its offset. */
int64_t maker_command(struct maker *m, const char *job, uint64_t run, command_pb *command,
                      const struct made_run *sender, uint64_t sender_seq, int64_t age);

/* A job id of this partition that begins so. */
const char *maker_job(char *id, size_t size, const char *prefix, uint32_t partition);
const char *maker_job_of(char *id, size_t size, const char *prefix, uint32_t partition, uint32_t partitions);

#endif
