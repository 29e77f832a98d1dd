/*
 * A step that takes memory until there is none, for as long as the file of its input is not there.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <perdure/perdure.h>

#define BITE ((size_t)1 << 20)
#define BITES 4096

PDR_STEP(eat, pdr_text, pdr_text, .backoff_ms = 20)
PDR_JOB(glutton, pdr_text, pdr_text)

int eat(pdr_attempt *attempt, const pdr_text *path, pdr_text *out)
{
    for (int i = 0; i < BITES && access(path->chars, F_OK) != 0; i++) {
        char *bite = malloc(BITE);
        if (!bite)
            break;
        memset(bite, i + 1, BITE);
        *(char *volatile *)&bite = NULL; /* never given back */
    }
    out->chars = pdr_attempt_format(attempt, "survived %s", path->chars);
    return PDR_OK;
}

int glutton(pdr_job *job, const pdr_text *path, pdr_text *out)
{
    pdr_text *result;
    PDR_TRY(pdr_await(job, eat, path, &result));
    *out = *result;
    return PDR_OK;
}

PDR_MODULE(hungry, PDR_RUNS(glutton), PDR_RUNS(eat));
