/* One log with a bit of everything, and the same log with one thing wrong. */
#ifndef PERDURE_STORY_H
#define PERDURE_STORY_H

#include <stdio.h>

enum fault {
    GOOD,
    DIGEST_WRONG,
    SEQ_GAP,
    COUNT_WRONG,
    SLOT_WRONG,
    LOG_WRONG,
    KIND_UNKNOWN,
    LEVEL_HIGH,
    TIME_BACK,
    HEADER_TIME,
    SUM_WRONG,
    INPUT_UNNAMED,
    PARTITION_WRONG,
    OUT_POS_BACK,
    RUN_ID_WRONG,
    TIMER_EARLY,
    TIMER_TWICE,
    STEP_TWICE,
    ATTEMPT_BACK,
    STEP_CHANGED,
    TWO_ENDS,
    AFTER_END,
    ORPHAN,
    CHILD_STATE,
    SIGNAL_UNSENT,
    ABSORBED_TWICE,
    REQUEST_TWICE,
    REQUEST_OTHER,
    SIGNAL_SKIPPED,
    CANCEL_SKIPPED,
    RESULT_SKIPPED,
    LIVE_WRONG,
    GENESIS_DIFFERS,
    GENESIS_MISSING,
    SECOND_VALUE,
    OUTPUT_UNSENT,
    REFUSAL_UNSENT,
    REFUSED_ABSORBED,
    DEAD_ABSORBED,
    AHEAD_ABSORBED,
    ENDING_LACKS,
    EVENT_UNKNOWN,
    SEND_UNANSWERED,
    SENDER_UNKNOWN,
    REFUSAL_UNKNOWN,
    MARK_NOT_FIRST,
    LARGEST_WRONG,
    OTHER_RUN_TAKES,
    IN_POS_BACK,
    IN_POS_AHEAD,
    OP_MISSING,
    RUN_BESIDE,
    RUN_AGAIN,
    FIRST_HINT,
    INPUT_INVENTED,
    ERROR_DEEP,
    COMMAND_OTHER,
    PARTITIONS_ZERO,
    APPEND_LOST, /* sound: a hole in n explains what is rejected */
    SECOND_RUN,  /* sound: a closed job begins again */
    STEP_OUTSIDE, /* sound: a worker of a queue says that it has begun */
    FAULTS
};

/* Writes the dump and closes it. */
void story_write(FILE *out, enum fault fault);

#endif
