#include "command/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "payload/find.h"
#include "payload/schema.h"

int catalog_open(struct client *client, struct catalog *catalog)
{
    return client_registrations(client, &catalog->registrations);
}

void catalog_close(struct catalog *catalog)
{
    registrations_free(&catalog->registrations);
}

static const Callable *catalog_callable(const Registration *registration, const char *kind, const char *name)
{
    for (size_t i = 0; i < registration->n_callables; i++) {
        const Callable *callable = registration->callables[i];
        if (strcmp(callable->kind, kind) == 0 && strcmp(callable->name, name) == 0)
            return callable;
    }
    return NULL;
}

/* Is item `index` the newest build of its module? Builds of one module stand together, newest first. */
static bool catalog_is_newest(const struct catalog *catalog, size_t index)
{
    Registration *const *items = catalog->registrations.items;
    return index == 0 || strcmp(items[index]->module, items[index - 1]->module) != 0;
}

/* "known: shop/checkout, files/manifest" */
static void catalog_known(const struct catalog *catalog, const char *type, char *error, size_t error_size)
{
    struct buffer text = {0};
    buffer_format(&text, "there is no job type \"%s\"; known: ", type);
    size_t count = 0;
    for (size_t i = 0; i < catalog->registrations.count; i++) {
        const Registration *registration = catalog->registrations.items[i];
        for (size_t j = 0; catalog_is_newest(catalog, i) && j < registration->n_callables; j++)
            if (strcmp(registration->callables[j]->kind, "job") == 0)
                buffer_format(&text, "%s%s/%s", count++ ? ", " : "", registration->module, registration->callables[j]->name);
    }
    if (count == 0)
        buffer_text(&text, "none");
    char *taken = buffer_take(&text);
    snprintf(error, error_size, "%s", taken ? taken : "out of memory");
    free(taken);
}

bool catalog_job(const struct catalog *catalog, const char *type, struct catalog_job *job, char *error,
                 size_t error_size)
{
    const char *slash = strrchr(type, '/');
    const char *name = slash ? slash + 1 : type;
    *job = (struct catalog_job){0};
    for (size_t i = 0; i < catalog->registrations.count; i++) {
        const Registration *registration = catalog->registrations.items[i];
        bool module = !slash || (strlen(registration->module) == (size_t)(slash - type) &&
                                 strncmp(registration->module, type, (size_t)(slash - type)) == 0);
        const Callable *callable = module ? catalog_callable(registration, "job", name) : NULL;
        if (!callable || (job->registration && strcmp(job->registration->module, registration->module) == 0))
            continue;
        if (job->registration) {
            snprintf(error, error_size, "\"%s\" is in several modules: write %s/%s or %s/%s", type,
                     job->registration->module, name, registration->module, name);
            return false;
        }
        job->registration = registration;
        job->callable = callable;
        snprintf(job->type, sizeof job->type, "%s/%s", registration->module, name);
    }
    if (!job->registration)
        catalog_known(catalog, type, error, error_size);
    return job->registration;
}

static bool catalog_is_module_of(const Registration *registration, const char *job_type)
{
    size_t length = strlen(registration->module);
    return strncmp(job_type, registration->module, length) == 0 && job_type[length] == '/';
}

int catalog_unchecked(char **text, Payload *payload, char *error, size_t error_size)
{
    void *data;
    size_t size;
    int code = **text ? json_to_payload(NULL, "json", *text, &data, &size, error, error_size) : PDR_OK;
    if (code != PDR_OK)
        return code;
    if (**text)
        free(data);
    payload->json = true;
    payload->data.data = (uint8_t *)*text;
    payload->data.len = strlen(*text);
    *text = NULL;
    return PDR_OK;
}

const Schema *catalog_schema(const struct catalog *catalog, const char *job_type, const char *build, const char *type)
{
    const Schema *best = NULL;
    int best_rank = 0;
    for (size_t i = 0; i < catalog->registrations.count; i++) {
        const Registration *registration = catalog->registrations.items[i];
        bool module = job_type && catalog_is_module_of(registration, job_type);
        int rank = 1 + 2 * module + (module && build && strcmp(registration->build, build) == 0);
        if (rank > best_rank && schema_message(registration->schema, type)) {
            best = registration->schema;
            best_rank = rank;
        }
    }
    return best;
}

void catalog_show(const struct catalog *catalog, const char *job_type, const char *build, const Payload *payload,
                  struct buffer *out)
{
    const Schema *schema = payload ? catalog_schema(catalog, job_type, build, payload->type) : NULL;
    char *json = payload_to_json(schema, payload);
    if (json)
        buffer_text(out, json);
    else
        out->failed = true;
    free(json);
}
