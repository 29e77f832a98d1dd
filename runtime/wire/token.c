#include "wire/token.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "wire/wire.h"

static bool is_plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("._~-", c) != NULL);
}

void token_write(const struct token *token, char out[TOKEN_BYTES])
{
    int length = snprintf(out, TOKEN_BYTES, "%08" PRIx32 "-%016" PRIx64 "-%" PRIu64 "-%" PRIu32 "-", token->log,
                          token->run, token->op, token->attempt);
    char *at = out + length;
    for (const char *c = token->job; *c != '\0'; c++) {
        if (is_plain((unsigned char)*c))
            *at++ = *c;
        else
            at += sprintf(at, "%%%02X", (unsigned)(unsigned char)*c);
    }
    *at = '\0';
}

/* Reads digits up to the next '-'. False: none, others, or too many. */
static bool read_number(const char **at, unsigned base, uint64_t most, uint64_t *out)
{
    const char *first = *at;
    uint64_t value = 0;
    for (; **at != '-'; ++*at) {
        unsigned digit = isdigit((unsigned char)**at)    ? (unsigned)(**at - '0')
                         : **at >= 'a' && **at <= 'f' ? (unsigned)(**at - 'a' + 10)
                                                          : base;
        if (digit >= base || value > (most - digit) / base)
            return false;
        value = value * base + digit;
    }
    *out = value;
    return (*at)++ > first;
}

static bool read_job(const char *at, char *out)
{
    size_t length = 0;
    for (; *at != '\0'; at++) {
        unsigned value = (unsigned char)*at;
        if (*at == '%') {
            if (!isxdigit((unsigned char)at[1]) || !isxdigit((unsigned char)at[2]) || sscanf(at + 1, "%2x", &value) != 1)
                return false;
            at += 2;
        } else if (!is_plain((unsigned char)*at)) {
            return false;
        }
        if (length == JOB_ID_LIMIT_BYTES)
            return false;
        out[length++] = (char)value;
    }
    out[length] = '\0';
    return job_id_valid(out, length);
}

bool token_read(const char *text, struct token *out)
{
    uint64_t log, attempt;
    memset(out, 0, sizeof(*out));
    if (text == NULL || !read_number(&text, 16, UINT32_MAX, &log) || !read_number(&text, 16, UINT64_MAX, &out->run) ||
        !read_number(&text, 10, UINT64_MAX, &out->op) || !read_number(&text, 10, UINT32_MAX, &attempt))
        return false;
    out->log = (uint32_t)log;
    out->attempt = (uint32_t)attempt;
    return out->run != 0 && out->op != 0 && out->attempt != 0 && read_job(text, out->job);
}
