/*
 * What the modules of the namespace can run: this worker's are put into the log, those of others are read from it, so
 * that a start of a type which is absent here is told from one that nobody has (rule 12). Others come later than we do (a
 * new version is rolled out), so before a start is refused they are read again: from Kafka by a thread with a connection of
 * its own, since that takes a moment in which the loop has other partitions to serve.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "worker/worker.h"

struct known_types {
    char **types; /* MODULE/JOB */
    size_t count;
    bool whole;        /* all that were there could be read */
    int64_t read_ms;   /* monotonic */
    int64_t fresh_ms;  /* so long it counts as all there is */
    struct reading *reading; /* NULL: nobody reads them now */
};

struct reading {
    struct pdr_worker *worker;
    pthread_t thread;
    struct known_types found;
    char trouble[512];
    atomic_bool over;
};

static void types_free(struct known_types *known)
{
    for (size_t i = 0; i < known->count; i++)
        free(known->types[i]);
    free(known->types);
    known->types = NULL;
    known->count = 0;
}

static bool remember_type(struct known_types *known, const char *type)
{
    char **types = realloc(known->types, (known->count + 1) * sizeof *types);
    if (!types)
        return false;
    known->types = types;
    types[known->count] = strdup(type);
    return types[known->count] && ++known->count;
}

static bool visit_registration(void *context, const char *key, const void *data, size_t size)
{
    struct known_types *known = context;
    Registration *registration = perdure__v1__registration__unpack(NULL, size, data);
    (void)key;
    for (size_t i = 0; registration && i < registration->n_jobs; i++)
        if (!remember_type(known, registration->jobs[i]))
            known->whole = false;
    if (registration)
        perdure__v1__registration__free_unpacked(registration, NULL);
    return true;
}

/* In a large namespace reading takes long, and an inbox waits for it: less often then. */
static int64_t fresh_for(int64_t took_ms)
{
    int64_t least = REGISTRATIONS_FRESH_MS, most = 10 * least, wanted = 10 * took_ms;
    return wanted < least ? least : wanted > most ? most : wanted;
}

static int known_types_read(struct known_types *known, struct log *log)
{
    int64_t begun = worker_monotonic_ms();
    known->whole = true;
    int result = log->operations->each_status(log, "type:", visit_registration, known);
    known->whole = known->whole && result == LOG_OK;
    known->fresh_ms = fresh_for(worker_monotonic_ms() - begun);
    return result;
}

/* NULL: no memory. `key` has room for 1,024 bytes. */
static void *registration_pack(struct pdr_worker *worker, size_t index, char *key, size_t *size)
{
    Registration *registration = registry_registration(worker->registry, index);
    if (!registration)
        return NULL;
    snprintf(key, 1024, "type:%s:%s", registration->module, registration->build);
    registration->registered = worker_wall_ms();
    free(registration->worker && registration->worker[0] ? registration->worker : NULL);
    registration->worker = strdup(worker->name);
    *size = perdure__v1__registration__get_packed_size(registration);
    void *data = malloc(*size ? *size : 1);
    if (data)
        perdure__v1__registration__pack(registration, data);
    registration_free(registration);
    return data;
}

static int put_registration(struct pdr_worker *worker, size_t index)
{
    char key[1024];
    size_t size;
    void *data = registration_pack(worker, index, key, &size);
    int code = !data ? PDR_NO_MEMORY
             : worker->log->operations->put_status(worker->log, key, data, size, NULL) == LOG_OK ? PDR_OK
                                                                                                : PDR_UNREACHABLE;
    free(data);
    return code;
}

/* The group gives us partitions whether or not we have the modules of their jobs. */
static void tell_absent(struct pdr_worker *worker)
{
    char names[400] = "", last[256] = "";
    const struct known_types *known = worker->known_types;
    for (size_t i = 0; i < known->count; i++) {
        const char *type = known->types[i];
        size_t length = strcspn(type, "/"), used = strlen(names);
        if (registry_job(worker->registry, type) || length >= sizeof last || used + length + 3 > sizeof names ||
            (strncmp(last, type, length) == 0 && !last[length]))
            continue;
        snprintf(last, sizeof last, "%.*s", (int)length, type);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", last);
    }
    if (names[0])
        worker_notice(worker, PDR_WARNING, "other workers of this log have had modules that this one lacks: %s; their jobs wait while "
                      "this worker owns their partition", names);
}

int worker_register(struct pdr_worker *worker)
{
    worker->known_types = calloc(1, sizeof *worker->known_types);
    if (!worker->known_types) {
        worker_fail(worker, PDR_NO_MEMORY, "out of memory");
        return PDR_NO_MEMORY;
    }
    if (known_types_read(worker->known_types, worker->log) != LOG_OK) {
        worker_fail(worker, PDR_UNREACHABLE, "%s", worker->log->error);
        return PDR_UNREACHABLE;
    }
    worker->known_types->read_ms = worker_monotonic_ms();
    tell_absent(worker);
    for (size_t i = 0; i < registry_count(worker->registry); i++) {
        int code = put_registration(worker, i);
        if (code != PDR_OK) {
            worker_fail(worker, code, "cannot register the modules: %s", worker->log->error);
            return code;
        }
    }
    return PDR_OK;
}

bool worker_register_again(struct pdr_worker *worker, const char *lost)
{
    if (strncmp(lost, "type:", 5) != 0)
        return false;
    for (size_t i = 0; i < registry_count(worker->registry); i++) {
        char key[1024] = "";
        size_t size;
        void *data = registration_pack(worker, i, key, &size);
        if (data && strcmp(key, lost) == 0)
            worker_put_status(worker, key, data, size, NULL);
        free(data);
    }
    return true;
}

/* ---- reading them again ---------------------------------------------------------------------------------------------- */

static void *reading_thread(void *context)
{
    struct reading *reading = context;
    struct log_options options = { .client_name = "perdure-types", .read_only = true };
    struct log *log = NULL;
    if (log_open(reading->worker->log_uri, &options, &log, reading->trouble, sizeof reading->trouble) == 0) {
        if (known_types_read(&reading->found, log) != LOG_OK)
            snprintf(reading->trouble, sizeof reading->trouble, "%s", log->error);
        log->operations->close(log);
    }
    atomic_store(&reading->over, true);
    reading->worker->log->operations->wake(reading->worker->log);
    return NULL;
}

static bool reading_begin(struct pdr_worker *worker)
{
    struct reading *reading = calloc(1, sizeof *reading);
    if (!reading)
        return false;
    reading->worker = worker;
    if (pthread_create(&reading->thread, NULL, reading_thread, reading) != 0) {
        free(reading);
        return false;
    }
    worker->known_types->reading = reading;
    return true;
}

static struct known_types reading_end(struct reading *reading)
{
    pthread_join(reading->thread, NULL);
    struct known_types found = reading->found;
    free(reading);
    return found;
}

/* What is known stays known when the reading has failed. */
static void known_types_replace(struct known_types *known, struct known_types found)
{
    if (found.whole) {
        types_free(known);
        *known = found;
    } else {
        types_free(&found);
        known->fresh_ms = fresh_for(0);
        known->whole = false;
        known->reading = NULL;
    }
    known->read_ms = worker_monotonic_ms();
}

void worker_take_registrations(struct pdr_worker *worker)
{
    struct known_types *known = worker->known_types;
    if (!known->reading || !atomic_load(&known->reading->over))
        return;
    if (known->reading->trouble[0])
        worker_notice(worker, PDR_WARNING, "what other workers run could not be read: %s", known->reading->trouble);
    known_types_replace(known, reading_end(known->reading));
    for (uint32_t p = 0; p < worker->partition_count; p++)
        if (worker->partitions[p].engine)
            engine_on_types(worker->partitions[p].engine);
}

void worker_registrations_wait(struct pdr_worker *worker)
{
    struct known_types *known = worker->known_types;
    if (known && known->reading)
        known_types_replace(known, reading_end(known->reading));
}

void worker_registrations_free(struct pdr_worker *worker)
{
    worker_registrations_wait(worker);
    if (worker->known_types)
        types_free(worker->known_types);
    free(worker->known_types);
}

static bool type_is_registered(const struct known_types *known, const char *type)
{
    for (size_t i = 0; i < known->count; i++) {
        const char *found = known->types[i], *slash = strchr(found, '/');
        if (strcmp(found, type) == 0 || (slash && strcmp(slash + 1, type) == 0))
            return true;
    }
    return false;
}

enum engine_type worker_type_elsewhere(void *context, const char *type)
{
    struct pdr_worker *worker = context;
    struct known_types *known = worker->known_types;
    if (type_is_registered(known, type))
        return ENGINE_TYPE_KNOWN;
    if (known->reading)
        return ENGINE_TYPE_ASKED;
    if (worker_monotonic_ms() - known->read_ms >= known->fresh_ms) {
        /* A file's are read in place. */
        if (!worker->log->operations->history && reading_begin(worker))
            return ENGINE_TYPE_ASKED;
        struct known_types found = { 0 };
        (void)!known_types_read(&found, worker->log);
        known_types_replace(known, found);
    }
    /* Kept, it can be terminated; a start that was refused because a broker is slow is lost. */
    return type_is_registered(known, type) || !known->whole ? ENGINE_TYPE_KNOWN : ENGINE_TYPE_UNKNOWN;
}
