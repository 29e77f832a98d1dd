/*
 * What the namespace's modules can run, as their workers registered it: resolves types, checks inputs, shows payloads.
 */
#ifndef PERDURE_COMMAND_CATALOG_H
#define PERDURE_COMMAND_CATALOG_H

#include "client/client.h"
#include "payload/buffer.h"

typedef Perdure__V1__Callable Callable;

struct catalog {
    struct registrations registrations;
};

/* EXIT_OK, or the client's failure. */
int catalog_open(struct client *client, struct catalog *catalog);
void catalog_close(struct catalog *catalog);

/* A job type, MODULE/JOB or JOB where that is unique. NULL with `error`, which names the known ones. */
struct catalog_job {
    const Registration *registration; /* newest build that has it */
    const Callable *callable;
    char type[512];                   /* MODULE/JOB */
};
bool catalog_job(const struct catalog *catalog, const char *type, struct catalog_job *job, char *error,
                 size_t error_size);
/* JSON whose message nobody here knows, for the job to judge: only that it is JSON is checked. Takes over `*text`.
 * PDR_OK, PDR_FAILED with `error`, PDR_NO_MEMORY. */
int catalog_unchecked(char **text, Payload *payload, char *error, size_t error_size);
/* The schema that knows message `type`: of that build of the job's module if it is there, else the newest that has it. */
const Schema *catalog_schema(const struct catalog *catalog, const char *job_type, const char *build, const char *type);
/* JSON of a payload, appended; null for NULL. */
void catalog_show(const struct catalog *catalog, const char *job_type, const char *build, const Payload *payload,
                  struct buffer *out);

#endif
