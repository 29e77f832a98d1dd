/* A log whose namespace has grown from two to four partitions, and the same log with one thing wrong. */
#ifndef PERDURE_MOVED_H
#define PERDURE_MOVED_H

#include <stdint.h>
#include <stdio.h>

enum moved_fault {
    MOVED_GOOD,
    MAP_SKIPS,
    MAP_OTHER,
    MAP_HEADER,
    CLAIM_AHEAD,
    SETTLED_EARLY,
    GROWS_AGAIN,
    READER_OLD,
    OUT_TWICE,
    OUT_AFTER_OUT,
    SHARE_WRONG,
    SHARE_MISSING,
    OUTPUT_LEFT,
    COPY_DIFFERS,
    COPY_SHORT,
    COPY_PLACE,
    COPY_ALIEN,
    COPY_MISSING,
    CLOSED_MISSING,
    STUB_OTHER,
    IN_EARLY,
    IN_HASH,
    IN_COUNT_OTHER,
    IN_CLOSED,
    IN_OFFSET,
    IN_TWICE,
    IN_WITHOUT_OUT,
    COUNTS_BEFORE_IN,
    IN_POS_BEFORE_IN,
    FORWARD_LOST,
    START_LOST,
    LATE_LOST,
    FORWARD_CHANGED,
    SIGNAL_BOTH,
    START_BOTH,
    ARRIVED_EARLY,
    TOLD_FALSE,
    TOLD_IN_FALSE,
    CUT_EARLY,
    CUT_UNTOLD,
    ORPHAN_MOVED,
    CHILD_STATE_MOVED,
    RESULT_LOST,
    CUT_HASH, /* with the head of its source cut away by moved_cut() */
    /* sound */
    HALF_DONE,
    COPIED_TWICE, /* by two owners, the first of which was killed in the middle */
    MOVED_FAULTS
};

/* Where the wrong thing stands. */
struct moved_place {
    int stream; /* 0: journal, 1: inbox */
    uint32_t partition;
    int64_t offset;
    char job[32]; /* "": none */
};

/* Writes the dump and closes it. */
struct moved_place moved_write(FILE *out, enum moved_fault fault);
/* The same, after partition 0's journal has been cut behind its moves. */
struct moved_place moved_cut(FILE *out, enum moved_fault fault);
/* After those of partitions 2 and 3 have been, and partition 0's and 1's have not. */
struct moved_place moved_target_cut(FILE *out, enum moved_fault fault);
/* As an acked file and as a ledger. */
void moved_lists(char *acked, char *ledger, size_t size);

#endif
