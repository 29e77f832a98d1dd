/* The switch that the test build's RULE() reads: which rule is left out, and how often each decided something. */
#include "engine/rules.h"

#ifdef PDR_MUTATIONS
int rule_left_out = RULE_NONE;
uint64_t rule_branch_count[RULE_COUNT];
#endif
