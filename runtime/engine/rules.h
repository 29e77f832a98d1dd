/*
 * The rules of the log protocol can be taken out, one at a time, in the test build: the simulator then has to find the
 * history that goes wrong. In every other build RULE(n) is the constant true.
 */
#ifndef PERDURE_RULES_H
#define PERDURE_RULES_H

#include <stdbool.h>
#include <stdint.h>

/* One name per thing that can be left out; the number is that of the rule in docs/protocol.md. */
#define RULE_MAP(X)                                                                            \
    X(FENCE, "1: a record counts only under the latest claim")                                 \
    X(RELEASE_ENDS, "1: after Release nothing counts until a claim")                           \
    X(CHAIN, "2: a record must continue its run")                                              \
    X(NONCE, "1: the epoch's nonce is compared, not the claim's offset alone")                 \
    X(DISTRUST, "3: a reader that began from a store and misses a live hash rebuilds")         \
    X(UNWANTED_RELEASED, "4: a claim that is read back and no longer wanted is released")      \
    X(CLAIM_BACKOFF, "4: who was fenced claims again only after a while of silence")           \
    X(CLAIM_ON_DOUBT, "5: any doubt leads to a new claim before anything else is appended")    \
    X(RUN_ID, "6: a run has its own id")                                                       \
    X(CONFIRM, "7, 8: nothing leaves a job before it is read back")                            \
    X(ACKED, "7: read back is not enough: this or a later append is acknowledged")             \
    X(ACK_IMPLICIT, "7: an acknowledgement that names no place says nothing of earlier appends") \
    X(ACK_PLACE, "7: an acknowledgement stands for reading only where all before it was read")  \
    X(STEP_AFTER_CONFIRM, "8: a step starts after the turn that led to it is confirmed")       \
    X(LOOK_FIRST, "8: a new owner begins nothing before an append behind its claim is confirmed")    \
    X(PROOF_AGE, "8: nothing is begun on an old proof that the partition is ours")            \
    X(MARKS, "9: Marks are written")                                                           \
    X(SHOWN, "9: a new owner shows again what no Mark says to have been shown")                \
    X(RESEND, "10: a new owner sends all unsent outputs again")                                \
    X(SEND_PLACE, "10: an output whose acknowledgement names no place is sent again")         \
    X(OUTBOX_ORDER, "11: to one target the next goes after the delivery of the one before")    \
    X(ABSORB_ASIDE, "12: a job that is put aside absorbs what comes")                          \
    X(IN_POS, "13: the position is the lowest input not absorbed by a confirmed record")       \
    X(REQUEST_IDS, "13: a request id known to the run is dropped")                             \
    X(LIFE, "14: commands older than LIFE die")                                                \
    X(RESULT_NAMES_RUN, "14: results name their run; another run drops them")                  \
    X(ATTEMPT_NAMED, "14: a report names its attempt; one that is over drops it")              \
    X(REFUSE_AFTER_CONFIRM, "15: a refusal leaves when in_pos is confirmed beyond it")         \
    X(REFUSAL_IN_MARK, "15: a refusal to a job stands in a Mark")                              \
    X(TRIM_DELAY, "16: the inbox is kept for a while behind in_pos")                           \
    X(COPY_ALL, "17: every run that must stay is copied before the cut")                       \
    X(COPY_WHOLE, "18: the parts of a copy count together or not at all")                      \
    X(COPY_ALONE, "18: no other append of a job between the parts of its copy")                \
    X(CUT_CONFIRMED, "8, 17: the head is cut when the Mark is confirmed")                      \
    X(CUT_OUTPUTS, "10, 17: the cut waits until all that was copied has sent its outputs")     \
    X(REBUILD, "19: a position below the log's start: rebuild")                                \
    X(FORGET_KEEP, "20: forgotten when its keep time is over")                                 \
    X(FORGET_INPUT, "20: ... and a Mark's in_pos is past its last input")                      \
    X(FORGET_LAGGING, "20: ... and past all that came to the inbox before its end and LIFE")   \
    X(FORGET_OUTPUTS, "20: ... and all its outputs are below out_pos")                         \
    X(STORE_STUBS, "22: the store keeps a stub of every closed run")                           \
    X(STORE_ATOMIC, "22: store rows and position change in one transaction")                   \
    X(STORE_ANCHOR, "22: the store's anchor is verified")                                      \
    X(SLOT_OUT_ENDS, "25: after SlotOut nothing of its slots counts, or runs, where they were") \
    X(SLOT_OUTPUTS, "25: SlotOut waits until what leaves has sent its outputs")                \
    X(SLOT_OFFER, "8, 25: slots are offered when their SlotOut is confirmed")                  \
    X(SLOT_COUNT, "25: SlotIn only when count and hash agree")                                 \
    X(SLOT_WAITS, "25: before SlotIn the inbox keeps commands unabsorbed")                     \
    X(SLOT_FORWARD, "25: commands for slots that left are forwarded")                          \
    X(SLOT_DELIVERED, "13, 25: in_pos waits for the delivery of what is forwarded")            \
    X(RISING_T, "30: t never goes back in a run")                                              \
    X(SPLIT_T, "31: the parts of a split turn share t")                                        \
    X(UNKNOWN_STOPS, "32: an unknown event stops its job")                                     \
    X(STORED_BYTES, "33: the digest covers the stored bytes")                                  \
    X(RESTS, "34: a record says that its run rests only if no step of it is wanted")

enum rule {
#define RULE_NAME_(name, text) RULE_##name,
    RULE_MAP(RULE_NAME_)
#undef RULE_NAME_
    RULE_COUNT,
    RULE_NONE = -1,
};

#ifdef PDR_MUTATIONS
extern int rule_left_out;                      /* an enum rule; RULE_NONE: all rules hold */
extern uint64_t rule_branch_count[RULE_COUNT]; /* how often each rule's branch decided something */
#define RULE(name) (rule_left_out != RULE_##name)
#define RULE_FIRED(name) ((void)rule_branch_count[RULE_##name]++)
#else
#define RULE(name) true
#define RULE_FIRED(name) ((void)0)
#endif

#endif
