/*
 * What the modules of the namespace can run: this worker's are put into the log, those of others are read from it, so
 * that a start of a type which is absent here is told from one that nobody has (rule 12).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker.h"

static bool remember_type(struct pdr_worker *worker, const char *module, const char *job)
{
    char name[512];
    snprintf(name, sizeof name, "%s/%s", module, job);
    char **types = realloc(worker->known_types, (worker->known_type_count + 1) * sizeof *types);
    if (!types)
        return false;
    worker->known_types = types;
    types[worker->known_type_count] = strdup(name);
    return types[worker->known_type_count++] != NULL;
}

static bool visit_registration(void *context, const char *key, const void *data, size_t size)
{
    struct pdr_worker *worker = context;
    Registration *registration = perdure__v1__registration__unpack(NULL, size, data);
    (void)key;
    for (size_t i = 0; registration && i < registration->n_jobs; i++)
        remember_type(worker, registration->module, registration->jobs[i]);
    if (registration)
        perdure__v1__registration__free_unpacked(registration, NULL);
    return true;
}

static int put_registration(struct pdr_worker *worker, size_t index)
{
    Registration *registration = registry_registration(worker->registry, index);
    if (!registration)
        return PDR_NO_MEMORY;
    char key[1024];
    snprintf(key, sizeof key, "type:%s:%s", registration->module, registration->build);
    registration->registered = worker_wall_ms();
    free(registration->worker && registration->worker[0] ? registration->worker : NULL);
    registration->worker = strdup(worker->name);
    size_t size = perdure__v1__registration__get_packed_size(registration);
    void *data = malloc(size ? size : 1);
    int code = data ? PDR_OK : PDR_NO_MEMORY;
    if (data) {
        perdure__v1__registration__pack(registration, data);
        if (worker->log->operations->put_status(worker->log, key, data, size, NULL) != LOG_OK)
            code = PDR_UNREACHABLE;
    }
    free(data);
    registration_free(registration);
    return code;
}

int worker_register(struct pdr_worker *worker)
{
    if (worker->log->operations->each_status(worker->log, "type:", visit_registration, worker) != LOG_OK) {
        worker_fail(worker, PDR_UNREACHABLE, "%s", worker->log->error);
        return PDR_UNREACHABLE;
    }
    for (size_t i = 0; i < registry_count(worker->registry); i++) {
        int code = put_registration(worker, i);
        if (code != PDR_OK) {
            worker_fail(worker, code, "cannot register the modules: %s", worker->log->error);
            return code;
        }
    }
    return PDR_OK;
}

bool worker_type_is_known(void *context, const char *type)
{
    const struct pdr_worker *worker = context;
    for (size_t i = 0; i < worker->known_type_count; i++) {
        const char *known = worker->known_types[i], *slash = strchr(known, '/');
        if (strcmp(known, type) == 0 || (slash && strcmp(slash + 1, type) == 0))
            return true;
    }
    return false;
}
