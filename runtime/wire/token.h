/*
 * The token of an attempt: printable, safe in shells and URLs. LOG-RUN-OP-ATTEMPT-JOB: log (low 32 bits) and run in hex, the
 * job id percent-encoded. It is a name, no secret: who may write into the inbox may use it.
 */
#ifndef PERDURE_TOKEN_H
#define PERDURE_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "constants.h"

struct token {
    uint32_t log;
    uint64_t run;
    uint64_t op;
    uint32_t attempt;
    char job[JOB_ID_LIMIT_BYTES + 1];
};

#define TOKEN_BYTES (8 + 1 + 16 + 1 + 20 + 1 + 10 + 1 + 3 * JOB_ID_LIMIT_BYTES + 1)
void token_write(const struct token *token, char out[TOKEN_BYTES]);
/* False: not a token. */
bool token_read(const char *text, struct token *out);

#endif
