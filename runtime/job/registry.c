/*
 * The modules of a process: what it can run. Filled before the worker runs, only read afterwards, by any thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dlfcn.h>

#include "job/build_id.h"
#include "job/codec.h"
#include "job/failure.h"
#include "job/job.h"
#include "job/state.h"
#include "payload/schema.h"

struct loaded {
    const pdr_module *module;
    void *handle; /* dlopen()'s; NULL: linked in */
    char *build;
    struct callable *callables; /* one an entry */
};

struct registry {
    struct loaded *loaded;
    size_t count;
    const struct callable **sorted; /* all callables, by name */
    size_t sorted_count;
    char *job_names;
};

struct registry *registry_new(void)
{
    struct registry *registry = calloc(1, sizeof(*registry));
    if (registry != NULL && (registry->job_names = strdup("")) == NULL) {
        free(registry);
        return NULL;
    }
    return registry;
}

static void registry_release(struct loaded *loaded)
{
    for (size_t i = 0; loaded->callables != NULL && i < loaded->module->entry_count; i++)
        free((char *)(uintptr_t)loaded->callables[i].name);
    free(loaded->callables);
    free(loaded->build);
    if (loaded->handle != NULL)
        dlclose(loaded->handle);
}

void registry_free(struct registry *registry)
{
    if (registry == NULL)
        return;
    for (size_t i = 0; i < registry->count; i++)
        registry_release(&registry->loaded[i]);
    free(registry->loaded);
    free(registry->sorted);
    free(registry->job_names);
    free(registry);
}

/* ---- checks ------------------------------------------------------------------------------------------- */

#define COMPLAIN(...) (snprintf(error, error_size, __VA_ARGS__), PDR_INVALID)

static int registry_check_type(const pdr_module *module, const char *name, const char *side, const pdr_type *type,
                               char *error, size_t error_size)
{
    if (type == NULL || type->size < sizeof(*type) || type->codec == NULL || type->name == NULL)
        return COMPLAIN("module '%s': the %s of '%s' has no type: declare it with PDR_MESSAGE", module->name, side,
                        name);
    const char *complaint = type->codec->complaint(type);
    if (complaint != NULL)
        return COMPLAIN("module '%s': the %s of '%s', %s, %s", module->name, side, name, type->name, complaint);
    return PDR_OK;
}

static int registry_check_entry(const pdr_module *module, size_t index, char *error, size_t error_size)
{
    const pdr_entry *entry = &module->entries[index];
    const pdr_decl *decl = entry->decl;
    if (decl == NULL || decl->size < sizeof(*decl) || decl->name == NULL || decl->name[0] == '\0')
        return COMPLAIN("module '%s': entry %zu declares nothing: write it as PDR_RUNS(name)", module->name, index + 1);
    if (decl->kind != PDR_KIND_JOB && decl->kind != PDR_KIND_STEP)
        return COMPLAIN("module '%s': '%s' is neither a job nor a step, so it cannot stand in PDR_RUNS", module->name,
                        decl->name);
    const pdr_step_options *defaults = decl->kind == PDR_KIND_STEP ? decl->defaults : NULL;
    bool elsewhere = defaults != NULL && defaults->size > offsetof(pdr_step_options, queue) && defaults->queue != NULL;
    if (entry->run == NULL && !elsewhere)
        return COMPLAIN("module '%s': '%s' has no function to run%s", module->name, decl->name,
                        decl->kind == PDR_KIND_STEP ? " and no queue: write PDR_RUNS, or name its queue in PDR_STEP" : "");
    for (size_t i = 0; i < index; i++) {
        if (strcmp(module->entries[i].decl->name, decl->name) == 0)
            return COMPLAIN("module '%s' runs '%s' twice: names are unique in a module", module->name, decl->name);
    }
    int code = registry_check_type(module, decl->name, "input", decl->in, error, error_size);
    return code != PDR_OK ? code : registry_check_type(module, decl->name, "result", decl->out, error, error_size);
}

static int registry_check(const struct registry *registry, const pdr_module *module, char *error, size_t error_size)
{
    if (module == NULL)
        return COMPLAIN("no module given");
    if (module->size < sizeof(*module) || module->header_version != PDR_HEADER_VERSION) {
        unsigned version = module->size < sizeof(*module) ? 0 : module->header_version;
        return COMPLAIN(
            "the module was built for version %u of the interface, this library has %d: build it again with "
            "the perdure.h of Perdure " PDR_VERSION,
            version, PDR_HEADER_VERSION);
    }
    if (module->name == NULL || module->name[0] == '\0' || strchr(module->name, '/') != NULL)
        return COMPLAIN("a module's name must not be empty and has no '/' in it");
    if (module->entries == NULL || module->entry_count == 0)
        return COMPLAIN("module '%s' runs nothing: name its jobs and steps with PDR_RUNS in PDR_MODULE", module->name);
    for (size_t i = 0; i < registry->count; i++) {
        if (strcmp(registry->loaded[i].module->name, module->name) == 0)
            return COMPLAIN("there is a module '%s' already (build %s): one build of a module a worker", module->name,
                            registry->loaded[i].build);
    }
    for (size_t i = 0; i < module->entry_count; i++) {
        int code = registry_check_entry(module, i, error, error_size);
        if (code != PDR_OK)
            return code;
    }
    return PDR_OK;
}

/* ---- adding ---------------------------------------------------------------------------------------------- */

static int registry_compare(const void *a, const void *b)
{
    const struct callable *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static bool registry_fill(struct loaded *loaded)
{
    const pdr_module *module = loaded->module;
    loaded->callables = calloc(module->entry_count, sizeof(*loaded->callables));
    if (loaded->callables == NULL)
        return false;
    for (size_t i = 0; i < module->entry_count; i++) {
        char *name = NULL;
        if (asprintf(&name, "%s/%s", module->name, module->entries[i].decl->name) < 0)
            return false;
        loaded->callables[i] =
            (struct callable){.module = module, .entry = &module->entries[i], .name = name, .build = loaded->build};
    }
    return true;
}

static bool registry_grow(struct registry *registry, size_t entries)
{
    struct loaded *loaded = realloc(registry->loaded, (registry->count + 1) * sizeof(*loaded));
    if (loaded != NULL)
        registry->loaded = loaded;
    size_t callables = registry->sorted_count + entries;
    const struct callable **sorted = realloc(registry->sorted, callables * sizeof(*sorted));
    if (sorted != NULL)
        registry->sorted = sorted;
    return loaded != NULL && sorted != NULL;
}

static char *registry_make_job_names(const struct registry *registry, const struct loaded *added)
{
    char *names = strdup(registry->job_names);
    for (size_t i = 0; names != NULL && i < added->module->entry_count; i++) {
        if (added->module->entries[i].decl->kind != PDR_KIND_JOB)
            continue;
        char *longer = NULL;
        if (asprintf(&longer, "%s%s%s", names, names[0] != '\0' ? ", " : "", added->callables[i].name) < 0)
            longer = NULL;
        free(names);
        names = longer;
    }
    return names;
}

/* All that can fail first, then the change. Takes over loaded->build; loaded->handle only on success. */
static int registry_insert(struct registry *registry, struct loaded *loaded, char *error, size_t error_size)
{
    size_t entries = loaded->module->entry_count;
    char *names = NULL;
    if (!registry_fill(loaded) || !registry_grow(registry, entries) ||
        (names = registry_make_job_names(registry, loaded)) == NULL) {
        loaded->handle = NULL;
        registry_release(loaded);
        snprintf(error, error_size, "out of memory");
        return PDR_NO_MEMORY;
    }
    free(registry->job_names);
    registry->job_names = names;
    registry->loaded[registry->count++] = *loaded;
    for (size_t i = 0; i < entries; i++)
        registry->sorted[registry->sorted_count++] = &loaded->callables[i];
    qsort(registry->sorted, registry->sorted_count, sizeof(*registry->sorted), registry_compare);
    return PDR_OK;
}

static int registry_add_loaded(struct registry *registry, const pdr_module *module, void *handle, const char *build,
                               char *error, size_t error_size)
{
    int code = registry_check(registry, module, error, error_size);
    if (code != PDR_OK)
        return code;
    char text[BUILD_ID_TEXT_BYTES];
    if (build == NULL && !build_id_of(module, text, sizeof(text)))
        return COMPLAIN("module '%s' has no build id: link it with -Wl,--build-id", module->name);
    struct loaded loaded = {.module = module, .handle = handle, .build = strdup(build != NULL ? build : text)};
    if (loaded.build == NULL) {
        snprintf(error, error_size, "out of memory");
        return PDR_NO_MEMORY;
    }
    return registry_insert(registry, &loaded, error, error_size);
}

int registry_add(struct registry *registry, const pdr_module *module, const char *build, char *error, size_t error_size)
{
    return registry_add_loaded(registry, module, NULL, build, error, error_size);
}

int registry_load(struct registry *registry, const char *path, char *error, size_t error_size)
{
    char *file = NULL; /* a name without '/' is a file here, not one of the system's libraries */
    if (asprintf(&file, "%s%s", strchr(path, '/') != NULL ? "" : "./", path) < 0) {
        snprintf(error, error_size, "out of memory");
        return PDR_NO_MEMORY;
    }
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    free(file);
    if (handle == NULL)
        return COMPLAIN("%s does not load: %s", path, dlerror());
    const pdr_module *module = dlsym(handle, "pdr_module_entry");
    int code;
    if (module == NULL) {
        code = COMPLAIN("%s is no module: it has no PDR_MODULE(...)", path);
    } else {
        char why[512] = "";
        code = registry_add_loaded(registry, module, handle, NULL, why, sizeof(why));
        if (code != PDR_OK)
            snprintf(error, error_size, "%s: %s", path, why);
    }
    if (code != PDR_OK)
        dlclose(handle);
    return code;
}

/* ---- looking up -------------------------------------------------------------------------------------------- */

static const struct callable *registry_find_full(const struct registry *registry, enum pdr_kind kind, const char *name)
{
    struct callable key = {.name = name};
    const struct callable *key_pointer = &key;
    if (registry->sorted_count == 0)
        return NULL;
    const struct callable **found =
        bsearch(&key_pointer, registry->sorted, registry->sorted_count, sizeof(*registry->sorted), registry_compare);
    return found != NULL && (*found)->entry->decl->kind == kind ? *found : NULL;
}

/* A step that is only called here (PDR_CALLS) is known, but not run. */
static const struct callable *registry_runs(const struct callable *callable)
{
    return callable != NULL && callable->entry->run != NULL ? callable : NULL;
}

/* By the name alone, where only one module has it. */
static const struct callable *registry_find_short(const struct registry *registry, enum pdr_kind kind, const char *name)
{
    const struct callable *found = NULL;
    for (size_t i = 0; i < registry->sorted_count; i++) {
        const pdr_decl *decl = registry->sorted[i]->entry->decl;
        if (decl->kind != kind || strcmp(decl->name, name) != 0)
            continue;
        if (found != NULL)
            return NULL;
        found = registry->sorted[i];
    }
    return found;
}

static const struct callable *registry_find(const struct registry *registry, enum pdr_kind kind, const char *name)
{
    return strchr(name, '/') != NULL ? registry_find_full(registry, kind, name)
                                     : registry_find_short(registry, kind, name);
}

const struct callable *registry_job(const struct registry *registry, const char *name)
{
    return registry_find(registry, PDR_KIND_JOB, name);
}

const struct callable *registry_step(const struct registry *registry, const char *name)
{
    return registry_runs(registry_find(registry, PDR_KIND_STEP, name));
}

const char *registry_job_names(const struct registry *registry)
{
    return registry->job_names;
}

const char *registry_step_names(const struct registry *registry, char *text, size_t size)
{
    size_t length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < registry->sorted_count && length < size; i++)
        if (registry->sorted[i]->entry->decl->kind == PDR_KIND_STEP && registry_runs(registry->sorted[i]) != NULL)
            length += (size_t)snprintf(text + length, size - length, "%s%s", length > 0 ? ", " : "", registry->sorted[i]->name);
    return text;
}

/* That it is declared for; NULL: none. */
static const char *registry_queue(const struct callable *callable)
{
    const pdr_decl *decl = callable->entry->decl;
    const pdr_step_options *defaults = decl->kind == PDR_KIND_STEP ? decl->defaults : NULL;
    bool queued = defaults != NULL && defaults->size > offsetof(pdr_step_options, queue) && defaults->queue != NULL;
    return queued && defaults->queue[0] != '\0' ? defaults->queue : NULL;
}

const char *registry_calls(const struct registry *registry, const char *queue)
{
    for (size_t i = 0; i < registry->sorted_count; i++) {
        const char *name = registry_queue(registry->sorted[i]);
        if (name != NULL && strcmp(name, queue) == 0 && registry_runs(registry->sorted[i]) == NULL)
            return registry->sorted[i]->name;
    }
    return NULL;
}

static const char *registry_queue_run(const struct callable *callable)
{
    return registry_runs(callable) != NULL ? registry_queue(callable) : NULL;
}

bool registry_serves(const struct registry *registry, const char *queue, char *others, size_t size)
{
    size_t length = 0;
    others[0] = '\0';
    for (size_t i = 0; i < registry->sorted_count; i++) {
        const char *name = registry_queue_run(registry->sorted[i]), *before = NULL;
        if (name == NULL)
            continue;
        if (strcmp(name, queue) == 0)
            return true;
        for (size_t k = 0; k < i && (before == NULL || strcmp(before, name) != 0); k++)
            before = registry_queue_run(registry->sorted[k]);
        if ((before == NULL || strcmp(before, name) != 0) && length < size)
            length += (size_t)snprintf(others + length, size - length, "%s%s", length > 0 ? ", " : "", name);
    }
    return false;
}

/* MODULE/NAME of what a job of `module` calls `name`: its own module first. NULL: unknown here. */
const char *registry_qualify(const struct registry *registry, const pdr_module *module, enum pdr_kind kind,
                             const char *name)
{
    for (size_t i = 0; i < registry->count; i++) {
        const struct loaded *loaded = &registry->loaded[i];
        if (loaded->module != module)
            continue;
        for (size_t k = 0; k < module->entry_count; k++) {
            const pdr_decl *decl = module->entries[k].decl;
            if (decl->kind == kind && (decl->name == name || strcmp(decl->name, name) == 0))
                return loaded->callables[k].name;
        }
    }
    const struct callable *found = registry_find_short(registry, kind, name);
    return found != NULL ? found->name : NULL;
}

/* ---- registration ---------------------------------------------------------------------------------------------- */

size_t registry_count(const struct registry *registry)
{
    return registry->count;
}

static Perdure__V1__Callable *registration_callable(const pdr_decl *decl)
{
    Perdure__V1__Callable *callable = malloc(sizeof(*callable));
    if (callable == NULL)
        return NULL;
    perdure__v1__callable__init(callable);
    if (wire_string(&callable->name, decl->name) &&
        wire_string(&callable->kind, decl->kind == PDR_KIND_JOB ? "job" : "step") &&
        wire_string(&callable->input, codec_type_name(decl->in)) &&
        wire_string(&callable->result, codec_type_name(decl->out)))
        return callable;
    perdure__v1__callable__free_unpacked(callable, NULL);
    return NULL;
}

static bool registration_add(Registration *registration, const struct callable *callable)
{
    const pdr_decl *decl = callable->entry->decl;
    char *name = callable->entry->run != NULL ? strdup(callable->name) : NULL;
    if (name != NULL && decl->kind == PDR_KIND_JOB)
        registration->jobs[registration->n_jobs++] = name;
    else if (name != NULL)
        registration->steps[registration->n_steps++] = name;
    else if (callable->entry->run != NULL)
        return false;
    Perdure__V1__Callable *described = registration_callable(decl);
    if (described == NULL)
        return false;
    registration->callables[registration->n_callables++] = described;
    return schema_add(registration->schema, decl->in) == PDR_OK &&
           schema_add(registration->schema, decl->out) == PDR_OK;
}

static bool registration_fill(Registration *registration, const struct loaded *loaded)
{
    size_t entries = loaded->module->entry_count;
    registration->jobs = calloc(entries, sizeof(*registration->jobs));
    registration->steps = calloc(entries, sizeof(*registration->steps));
    registration->callables = calloc(entries, sizeof(*registration->callables));
    registration->schema = malloc(sizeof(*registration->schema));
    if (registration->schema != NULL)
        perdure__v1__schema__init(registration->schema);
    if (registration->jobs == NULL || registration->steps == NULL || registration->callables == NULL ||
        registration->schema == NULL)
        return false;
    bool whole =
        wire_string(&registration->module, loaded->module->name) && wire_string(&registration->build, loaded->build);
    for (size_t i = 0; i < entries && whole; i++)
        whole = registration_add(registration, &loaded->callables[i]);
    return whole;
}

Registration *registry_registration(const struct registry *registry, size_t index)
{
    Registration *registration = malloc(sizeof(*registration));
    if (registration == NULL)
        return NULL;
    perdure__v1__registration__init(registration);
    if (registration_fill(registration, &registry->loaded[index]))
        return registration;
    registration_free(registration);
    return NULL;
}

/* ---- JSON inputs -------------------------------------------------------------------------------------------------- */

int payload_from_json(const pdr_type *type, Payload *payload, char *error, size_t error_size)
{
    const char *wanted = codec_type_name(type);
    if (payload->type[0] != '\0' && strcmp(payload->type, wanted) != 0 && strcmp(payload->type, "json") != 0) {
        snprintf(error, error_size, "it is a '%s', not a '%s'", payload->type, wanted);
        return PDR_FAILED;
    }
    Schema *schema = malloc(sizeof(*schema));
    char *json = strndup((const char *)payload->data.data, payload->data.len);
    char *name = NULL;
    void *data = NULL;
    size_t size = 0;
    int code = PDR_NO_MEMORY;
    if (schema != NULL)
        perdure__v1__schema__init(schema);
    if (schema != NULL && json != NULL && wire_string(&name, wanted) && schema_add(schema, type) == PDR_OK)
        code = json_to_payload(schema, wanted, json, &data, &size, error, error_size);
    if (schema != NULL)
        perdure__v1__schema__free_unpacked(schema, NULL);
    free(json);
    if (code != PDR_OK) {
        if (name != NULL && name[0] != '\0')
            free(name);
        if (code == PDR_NO_MEMORY)
            snprintf(error, error_size, "out of memory");
        return code;
    }
    if (payload->type != protobuf_c_empty_string)
        free(payload->type);
    free(payload->data.data);
    payload->type = name;
    payload->data = (ProtobufCBinaryData){.data = data, .len = size};
    payload->json = false;
    return PDR_OK;
}
