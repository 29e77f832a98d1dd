/* Clients: they start, signal, cancel, terminate and watch, repeat what they said, and remember what they were told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

static const char *const job_types[] = { "chain", "family", "race", "gather", "sleeper",
                                         "saga",  "mailbox", "dicer", "poster", "errand" };

/* ---- requests ---------------------------------------------------------------------------------------------- */

static struct request *request_add(enum command_kind kind, const char *job, int64_t born)
{
    if (world->request_count == world->request_capacity) {
        world->request_capacity = world->request_capacity ? world->request_capacity * 2 : 64;
        world->requests = realloc(world->requests, world->request_capacity * sizeof *world->requests);
        if (!world->requests)
            abort();
    }
    struct request *request = &world->requests[world->request_count];
    memset(request, 0, sizeof *request);
    request->kind = kind;
    request->born = born;
    snprintf(request->id, sizeof request->id, "r%zu", world->request_count);
    snprintf(request->job, sizeof request->job, "%s", job);
    world->request_count++;
    return request;
}

static Record *command_new(const struct request *request)
{
    Record *record = calloc(1, sizeof *record);
    Header *header = calloc(1, sizeof *header);
    Command *command = calloc(1, sizeof *command);
    if (!record || !header || !command)
        abort();
    perdure__v1__record__init(record);
    perdure__v1__header__init(header);
    perdure__v1__command__init(command);
    header->format = header->rule_level = header->min_reader = header->map_version = 1;
    header->log = (uint32_t)world->log_id;
    header->kind = PERDURE__V1__KIND__KIND_COMMAND;
    header->slot = slot_of(request->job);
    header->job = strdup(request->job);
    header->born = request->born;
    command->request = strdup(request->id);
    record->header = header;
    record->command = command;
    return record;
}

static Payload *payload_text(const char *text)
{
    Payload *payload = calloc(1, sizeof *payload);
    if (!payload)
        abort();
    perdure__v1__payload__init(payload);
    payload->type = strdup("text");
    payload->data.len = strlen(text);
    payload->data.data = (uint8_t *)strdup(text);
    return payload;
}

/* Sends one more copy of a request; its number is the correlation id, so that each answer names one inbox record. */
static void request_send(size_t index)
{
    struct request *request = &world->requests[index];
    if (world->copy_count == world->copy_capacity) {
        world->copy_capacity = world->copy_capacity ? world->copy_capacity * 2 : 64;
        world->copies = realloc(world->copies, world->copy_capacity * sizeof *world->copies);
        if (!world->copies)
            abort();
    }
    uint32_t partition = growth_client_partition(request->job);
    int64_t number = (int64_t)world->copy_count;
    world->copies[world->copy_count++] =
        (struct copy){ .request = (uint32_t)index, .partition = partition, .offset = -1 };
    request->copies++;
    ReplyTo to = PERDURE__V1__REPLY_TO__INIT;
    to.client = 7;
    to.correlation = (uint64_t)number + 1;
    request->decoded->command->reply_to = &to;
    size_t size;
    void *data = record_encode(request->decoded, &size);
    request->decoded->command->reply_to = NULL;
    if (!data)
        abort();
    struct pending pending = { .blob = blob_new(data, size), .cookie = (uint64_t)number, .client = true, .copy = number };
    free(data);
    session_push(world->clients, LOG_INBOX, partition, &pending);
}

/* ---- what they do --------------------------------------------------------------------------------------------- */

static void job_remember(const char *job)
{
    if (world->job_count == world->job_capacity) {
        world->job_capacity = world->job_capacity ? world->job_capacity * 2 : 32;
        world->job_ids = realloc(world->job_ids, world->job_capacity * sizeof *world->job_ids);
        if (!world->job_ids)
            abort();
    }
    world->job_ids[world->job_count++] = strdup(job);
}

static void input_for(const char *type, const char *job, char *input, size_t size)
{
    struct rng *load = &world->load;
    unsigned value = (unsigned)rng_below(load, 1000), small = (unsigned)rng_below(load, 3);
    if (strcmp(type, "family") == 0) { /* the child lives in another partition, its name is used once, or again */
        char child[64];
        uint32_t mine = partition_of(job, world->profile.partitions);
        unsigned salt = rng_chance(load, 2000) ? 0 : (unsigned)world->request_count * 10 + 1;
        do
            snprintf(child, sizeof child, "leaf-%.20s-%u", job, salt++);
        while (partition_of(child, world->profile.partitions) == mine);
        snprintf(input, size, "%u %s", value, child);
    } else if (strcmp(type, "poster") == 0) {
        const char *target = world->job_count > 0 && rng_chance(load, 8000)
                                 ? world->job_ids[rng_below(load, world->job_count)]
                                 : "nobody";
        snprintf(input, size, "%u %s %u", value, target, small + 1);
    } else if (strcmp(type, "race") == 0 || strcmp(type, "sleeper") == 0) {
        snprintf(input, size, "%u %u", value, 20 + (unsigned)rng_below(load, 1500));
    } else if (strcmp(type, "gather") == 0) {
        snprintf(input, size, "%u %u %u", value, 2 + small, (unsigned)rng_below(load, 3));
    } else if (strcmp(type, "saga") == 0) {
        snprintf(input, size, "%u %u %u", value, 2 + small, (unsigned)rng_below(load, 2));
    } else {
        snprintf(input, size, "%u %u %u", value, 3 + small * 2, (unsigned)rng_below(load, 3));
    }
}

static size_t client_start(const char *type, const char *job, const char *input, uint32_t policy, int64_t born)
{
    struct request *request = request_add(COMMAND_START, job, born);
    size_t index = world->request_count - 1;
    char name[48];
    Perdure__V1__Start *start = calloc(1, sizeof *start);
    if (!start)
        abort();
    perdure__v1__start__init(start);
    snprintf(name, sizeof name, rng_chance(&world->load, 3000) ? "%s" : "sim/%s", type);
    start->type = strdup(name);
    start->input = payload_text(input);
    start->id_policy = policy;
    start->watch = rng_chance(&world->load, 5000);
    request->decoded = command_new(request);
    request->decoded->command->kind_case = PERDURE__V1__COMMAND__KIND_START;
    request->decoded->command->start = start;
    request_send(index);
    return index;
}

static void client_start_any(void)
{
    struct rng *load = &world->load;
    const char *type = job_types[rng_below(load, sizeof job_types / sizeof *job_types)];
    char job[48], input[96];
    if (world->job_count > 0 && rng_chance(load, world->profile.chance[FAULT_START_AGAIN])) {
        fault_count(FAULT_START_AGAIN);
        /* Mostly the same few ids, and the type that belongs to the id. */
        snprintf(job, sizeof job, "%s", world->job_ids[rng_below(load, rng_chance(load, 5000) ? 5 : world->job_count) % world->job_count]);
        char base[16];
        size_t length = strcspn(job, "0123456789");
        snprintf(base, sizeof base, "%.*s", (int)(length < 15 ? length : 15), job);
        if (strcmp(base, "sink") == 0)
            return;
        for (size_t i = 0; i < world->request_count; i++)
            if (strcmp(world->requests[i].job, job) == 0)
                world->requests[i].unique_id = false;
        input_for(base, job, input, sizeof input);
        client_start(base, job, input, rng_chance(load, 7000) ? 1 : 0, world->now);
        return;
    }
    snprintf(job, sizeof job, "%s%zu", type, world->request_count);
    input_for(type, job, input, sizeof input);
    bool old = rng_chance(load, world->profile.chance[FAULT_COMMAND_OLD]);
    if (old)
        fault_count(FAULT_COMMAND_OLD);
    size_t index = client_start(type, job, input, 0, old ? world->now - world->profile.life_ms - 10 : world->now);
    world->requests[index].unique_id = true;
    world->requests[index].old = old;
    job_remember(job);
}

static void client_signal(const char *name, const char *job)
{
    struct request *request = request_add(COMMAND_SIGNAL, job, world->now);
    char value[16];
    Perdure__V1__Signal *signal = calloc(1, sizeof *signal);
    if (!signal)
        abort();
    perdure__v1__signal__init(signal);
    snprintf(value, sizeof value, "%u", (unsigned)rng_below(&world->load, 100));
    signal->name = strdup(name);
    signal->payload = payload_text(value);
    request->sink = strncmp(job, "sink", 4) == 0;
    request->decoded = command_new(request);
    request->decoded->command->kind_case = PERDURE__V1__COMMAND__KIND_SIGNAL;
    request->decoded->command->signal = signal;
    request_send(world->request_count - 1);
}

static void client_other(enum command_kind kind, const char *job)
{
    struct request *request = request_add(kind, job, world->now);
    request->decoded = command_new(request);
    Command *command = request->decoded->command;
    if (kind == COMMAND_CANCEL) {
        command->kind_case = PERDURE__V1__COMMAND__KIND_CANCEL;
        command->cancel = calloc(1, sizeof *command->cancel);
        perdure__v1__cancel__init(command->cancel);
        command->cancel->reason = strdup("enough");
    } else if (kind == COMMAND_RESUME) {
        command->kind_case = PERDURE__V1__COMMAND__KIND_RESUME;
        command->resume = calloc(1, sizeof *command->resume);
        perdure__v1__resume__init(command->resume);
        command->resume->reason = strdup("again");
    } else if (kind == COMMAND_TERMINATE) {
        command->kind_case = PERDURE__V1__COMMAND__KIND_TERMINATE;
        command->terminate = calloc(1, sizeof *command->terminate);
        perdure__v1__terminate__init(command->terminate);
        command->terminate->reason = strdup("at once");
    } else {
        command->kind_case = PERDURE__V1__COMMAND__KIND_WATCH;
        command->watch = calloc(1, sizeof *command->watch);
        perdure__v1__watch__init(command->watch);
    }
    request_send(world->request_count - 1);
}

void client_resume(const char *job) { client_other(COMMAND_RESUME, job); }

static const char *job_any(void)
{
    static const char *const sinks[] = { "sink0", "sink1" };
    if (world->job_count == 0 || rng_chance(&world->load, 5000))
        return sinks[rng_below(&world->load, 2)];
    if (rng_chance(&world->load, 500))
        return "nobody";
    return world->job_ids[rng_below(&world->load, world->job_count)];
}

static void client_act(void)
{
    struct rng *load = &world->load;
    uint64_t what = rng_below(load, 100);
    const char *job = job_any();
    bool harmless = strncmp(job, "sink", 4) != 0 && strncmp(job, "family", 6) != 0;
    if (what < 38) {
        client_start_any();
    } else if (what < 66) {
        client_signal("poke", job);
    } else if (what < 69) {
        if (harmless || (strncmp(job, "family", 6) == 0 && rng_chance(load, 3000)))
            client_other(COMMAND_CANCEL, job);
    } else if (what < 72) {
        if (harmless || (strncmp(job, "family", 6) == 0 && rng_chance(load, 3000)))
            client_other(COMMAND_TERMINATE, job);
    } else if (what < 80) {
        client_other(COMMAND_WATCH, job);
    } else if (world->request_count > 0) {
        fault_count(FAULT_COMMAND_REPEATED);
        size_t back = (size_t)rng_below(load, rng_chance(load, 5000) ? 5 : world->request_count);
        if (back < world->request_count)
            request_send(world->request_count - 1 - back);
    }
}

static void clients_reports(void)
{
    struct session *clients = world->clients;
    while (clients->reports) {
        struct report *report = clients->reports;
        clients->reports = report->next;
        free(report);
    }
    clients->reports_tail = &clients->reports;
}

void clients_turn(void)
{
    clients_reports();
    if (world->turn == 1) {
        client_start("sink", "sink0", "1", 0, world->now);
        client_start("sink", "sink1", "2", 0, world->now);
    }
    if (rng_chance(&world->load, world->profile.client_chance))
        client_act();
}

void clients_stop_sinks(void)
{
    static const char *const sinks[] = { "sink0", "sink1" };
    clients_reports();
    for (size_t i = 0; i < 2; i++) {
        const struct oracle_run *run = oracle_find(growth_oracle(sinks[i]), sinks[i]);
        if (run && run->open)
            client_signal("stop", sinks[i]);
    }
}

/* ---- what they are told ------------------------------------------------------------------------------------------- */

void clients_reply(const Reply *reply, uint32_t partition)
{
    static const char *const answers[] = { "accepted", "exists", "refused", "ended", "unknown" };
    if (growth_reply(reply, partition))
        return;
    if (reply->correlation == 0 || reply->correlation > world->copy_count)
        world_bad("a reply to nobody");
    struct copy *copy = &world->copies[reply->correlation - 1];
    struct request *request = &world->requests[copy->request];
    struct inbox_note *note = copy->offset >= 0 ? &world->notes[copy->partition][copy->offset] : NULL;
    trace("client hears %s of %s (%s)%s%s", reply->answer, request->id, request->job, reply->error ? ": " : "",
          reply->error ? reply->error->message : "");
    if (strcmp(reply->request, request->id) != 0)
        world_bad("a reply names request %s, asked was %s", reply->request, request->id);
    if (!note || (copy->partition != partition && !copy->forwarded))
        world_bad("a reply to a command that is not in the inbox");
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        tally.replies[i] += strcmp(reply->answer, answers[i]) == 0;
    bool exact = copy->landed == 1 && !note->twin && request->copies == 1 && !copy->forwarded &&
                 !world->truncated_lossy;
    request->answered = true;
    if (strcmp(reply->answer, "refused") == 0) {
        if (exact && note->absorbed > 0)
            world_bad("absorbed, then refused: %s of %s", request->id, request->job);
        if (exact && world->oracles[partition].in_pos.offset <= copy->offset)
            world_bad("a refusal left before in_pos was confirmed beyond its command: %s", request->id);
        note->refused = true;
        copy->refused = true;
    }
    if (strcmp(reply->answer, "accepted") == 0) {
        copy->accepted = true;
        if (exact && note->absorbed == 0 && !world->truncated_lossy)
            world_bad("accepted, but not in the journal: %s of %s", request->id, request->job);
    }
}

void clients_free(void)
{
    for (size_t i = 0; i < world->request_count; i++)
        if (world->requests[i].decoded)
            perdure__v1__record__free_unpacked(world->requests[i].decoded, NULL); /* made here, not decoded */
    free(world->requests);
    free(world->copies);
    for (size_t i = 0; i < world->job_count; i++)
        free(world->job_ids[i]);
    free(world->job_ids);
}
