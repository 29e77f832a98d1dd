/*
 * What the files of the judge share: judge.c (rules 1, 2, 3), judge_copy.c (rules 18 to 20: copies, stubs, cuts),
 * judge_slots.c (rules 24, 25: the slot map, what leaves and what arrives).
 */
#ifndef PERDURE_JUDGE_INTERNAL_H
#define PERDURE_JUDGE_INTERNAL_H

#include "engine/judge.h"

/* judge.c */
void run_clear(struct run *run);
void run_begin_again(struct run *run);
void run_free(struct run *run);
int run_on_event(struct judge *judge, struct run *run, const Event *event);
int run_on_inputs(struct run *run, const Header *header);
void run_on_rest(struct run *run, int64_t rests); /* after the record's events */
enum run_end run_end_of(const char *name);
bool judge_epoch_is_current(const struct judge *judge, const Header *header);
void judge_counted(struct judge *judge, int64_t offset, const Header *header);
void judge_live(struct judge *judge, const struct run *run, bool add);
/* Decodes a record's events into `out`: JUDGE_COUNTED, if they give its digest and their seq is its header's. */
enum judge_verdict judge_open_events(const Record *record, digest *after, struct judged *out);

enum judge_verdict judge_stop(struct judge *judge, int64_t offset, const char *why);

/* judge_slots.c */
enum judge_verdict judge_slot_map(struct judge *judge, int64_t offset, const Genesis *genesis);
enum judge_verdict judge_slot_out(struct judge *judge, int64_t offset, const Record *record);
enum judge_verdict judge_slot_in(struct judge *judge, int64_t offset, const Record *record);

/* judge_copy.c */
enum judge_verdict judge_copy(struct judge *judge, int64_t offset, const Record *record, struct judged *out);
enum judge_verdict judge_stub(struct judge *judge, int64_t offset, const Record *record, struct judged *out);
void judge_partial_drop(struct judge *judge);
void judge_partial_interrupt(struct judge *judge, const char *job); /* an event of that job counted */
/* Takes note of the Mark's cut. True: all open runs are known here, its live hash must be ours. */
bool judge_at_mark(struct judge *judge, const Mark *mark);

#endif
