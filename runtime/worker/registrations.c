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

struct registrations {
    char **types; /* MODULE/JOB */
    size_t count;
    bool whole;        /* all that were there could be read */
    int64_t read_ms;   /* monotonic */
    struct reading *reading; /* NULL: nobody reads them now */
};

struct reading {
    struct pdr_worker *worker;
    pthread_t thread;
    struct registrations found;
    char trouble[512];
    atomic_bool over;
};

static void types_free(struct registrations *registrations)
{
    for (size_t i = 0; i < registrations->count; i++)
        free(registrations->types[i]);
    free(registrations->types);
    registrations->types = NULL;
    registrations->count = 0;
}

static bool remember_type(struct registrations *registrations, const char *type)
{
    char **types = realloc(registrations->types, (registrations->count + 1) * sizeof *types);
    if (!types)
        return false;
    registrations->types = types;
    types[registrations->count] = strdup(type);
    return types[registrations->count] && ++registrations->count;
}

static bool visit_registration(void *context, const char *key, const void *data, size_t size)
{
    struct registrations *registrations = context;
    Registration *registration = perdure__v1__registration__unpack(NULL, size, data);
    (void)key;
    for (size_t i = 0; registration && i < registration->n_jobs; i++)
        if (!remember_type(registrations, registration->jobs[i]))
            registrations->whole = false;
    if (registration)
        perdure__v1__registration__free_unpacked(registration, NULL);
    return true;
}

static int registrations_read(struct registrations *registrations, struct log *log)
{
    registrations->whole = true;
    int result = log->operations->each_status(log, "type:", visit_registration, registrations);
    registrations->whole = registrations->whole && result == LOG_OK;
    return result;
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

/* Its partitions come to this worker like all others. */
static void tell_absent(struct pdr_worker *worker)
{
    char names[400] = "", last[256] = "";
    const struct registrations *registrations = worker->registrations;
    for (size_t i = 0; i < registrations->count; i++) {
        const char *type = registrations->types[i];
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
    worker->registrations = calloc(1, sizeof *worker->registrations);
    if (!worker->registrations) {
        worker_fail(worker, PDR_NO_MEMORY, "out of memory");
        return PDR_NO_MEMORY;
    }
    if (registrations_read(worker->registrations, worker->log) != LOG_OK) {
        worker_fail(worker, PDR_UNREACHABLE, "%s", worker->log->error);
        return PDR_UNREACHABLE;
    }
    worker->registrations->read_ms = worker_monotonic_ms();
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

bool worker_register_again(struct pdr_worker *worker, const char *key)
{
    if (strncmp(key, "type:", 5) != 0)
        return false;
    for (size_t i = 0; i < registry_count(worker->registry); i++)
        if (put_registration(worker, i) != PDR_OK)
            worker_notice(worker, PDR_WARNING, "cannot register the modules again: %s", worker->log->error);
    return true;
}

/* ---- reading them again ---------------------------------------------------------------------------------------------- */

static void *reading_thread(void *context)
{
    struct reading *reading = context;
    struct log_options options = { .client_name = "perdure-types", .read_only = true };
    struct log *log = NULL;
    if (log_open(reading->worker->log_uri, &options, &log, reading->trouble, sizeof reading->trouble) == 0) {
        if (registrations_read(&reading->found, log) != LOG_OK)
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
    worker->registrations->reading = reading;
    return true;
}

static struct registrations reading_end(struct reading *reading)
{
    pthread_join(reading->thread, NULL);
    struct registrations found = reading->found;
    free(reading);
    return found;
}

/* What is known stays known when the reading has failed. */
static void registrations_replace(struct registrations *registrations, struct registrations found)
{
    if (found.whole) {
        types_free(registrations);
        *registrations = found;
    } else {
        types_free(&found);
        registrations->whole = false;
        registrations->reading = NULL;
    }
    registrations->read_ms = worker_monotonic_ms();
}

void worker_take_registrations(struct pdr_worker *worker)
{
    struct registrations *registrations = worker->registrations;
    if (!registrations->reading || !atomic_load(&registrations->reading->over))
        return;
    if (registrations->reading->trouble[0])
        worker_notice(worker, PDR_WARNING, "what other workers run could not be read: %s", registrations->reading->trouble);
    registrations_replace(registrations, reading_end(registrations->reading));
    for (uint32_t p = 0; p < worker->partition_count; p++)
        if (worker->partitions[p].engine)
            engine_on_types(worker->partitions[p].engine);
}

void worker_registrations_wait(struct pdr_worker *worker)
{
    struct registrations *registrations = worker->registrations;
    if (registrations && registrations->reading)
        registrations_replace(registrations, reading_end(registrations->reading));
}

void worker_registrations_free(struct pdr_worker *worker)
{
    worker_registrations_wait(worker);
    if (worker->registrations)
        types_free(worker->registrations);
    free(worker->registrations);
}

static bool type_is_registered(const struct registrations *registrations, const char *type)
{
    for (size_t i = 0; i < registrations->count; i++) {
        const char *known = registrations->types[i], *slash = strchr(known, '/');
        if (strcmp(known, type) == 0 || (slash && strcmp(slash + 1, type) == 0))
            return true;
    }
    return false;
}

enum engine_type worker_type_elsewhere(void *context, const char *type)
{
    struct pdr_worker *worker = context;
    struct registrations *registrations = worker->registrations;
    if (type_is_registered(registrations, type))
        return ENGINE_TYPE_KNOWN;
    if (registrations->reading)
        return ENGINE_TYPE_ASKED;
    if (worker_monotonic_ms() - registrations->read_ms >= REGISTRATIONS_FRESH_MS) {
        if (!worker->log->operations->history && reading_begin(worker))
            return ENGINE_TYPE_ASKED;
        struct registrations found = { 0 };
        (void)!registrations_read(&found, worker->log);
        registrations_replace(registrations, found);
    }
    /* Kept, it can be terminated; a start that was refused because a broker is slow is lost. */
    return type_is_registered(registrations, type) || !registrations->whole ? ENGINE_TYPE_KNOWN : ENGINE_TYPE_UNKNOWN;
}
