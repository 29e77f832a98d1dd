/*
 * perdure namespace create, perdure namespace check
 */
#include <stdio.h>
#include <string.h>

#include "command/namespace.h"
#include "command/session.h"
#include "command/show.h"
#include "constants.h"
#include "log/kafka.h"


static const struct flag namespace_flags[] = {
    {"partitions", "N", "how many partitions, a power of two up to 4096 (default: 16; a file has 1; a queue: 8)", false},
    {"timeout", "DURATION", "grow: how long to wait for the workers (default: 10m)", false},
    {"dev", NULL, "for a single broker: nothing is replicated", false},
    {NULL, NULL, NULL, false},
};

int namespace_done(const struct arguments *arguments, int code, const char *text)
{
    struct buffer out = {0};
    if (code != EXIT_OK)
        return session_fail(arguments, code, "%s", text);
    if (arguments->json) {
        buffer_byte(&out, '{');
        show_string(&out, "log", arguments->log);
        show_string(&out, "text", text);
        buffer_byte(&out, '}');
    } else {
        buffer_text(&out, text);
    }
    return session_print(arguments, &out);
}

/* A file is created by being opened; it has one partition. */
static int namespace_file(const struct arguments *arguments, bool create, int64_t partitions)
{
    struct client_options options = {.name = "perdure", .create = create, .read_only = !create};
    struct client *client;
    char error[600], text[200];
    if (partitions > 1)
        return arguments_wrong(arguments, "--partitions: an embedded log has 1 partition");
    int code = client_open(arguments->log, &options, &client, error, sizeof error);
    if (code != EXIT_OK)
        return session_fail(arguments, code, "%s", error);
    const Genesis *genesis = client_genesis(client);
    snprintf(text, sizeof text, "log %016llx with %u partition%s, format %u, rule level %u", (unsigned long long)genesis->log_id,
             genesis->partitions, genesis->partitions == 1 ? "" : "s", genesis->format, genesis->rule_level);
    client_close(client);
    return namespace_done(arguments, EXIT_OK, text);
}

/* namespace queue create NAME */
static int namespace_queue(struct arguments *arguments)
{
    char text[2000] = "";
    int64_t partitions;
    if (arguments->count != 3 || strcmp(arguments->positional[1], "create") != 0)
        return arguments_wrong(arguments, "queue: write perdure namespace queue create NAME");
    if (strncmp(arguments->log, "kafka:", 6) != 0)
        return arguments_wrong(arguments, "queue: an embedded log has no queues; steps of a queue run in its worker");
    if (!arguments_number(arguments, "partitions", 1, 10000, 0, &partitions))
        return EXIT_USAGE;
    int code = kafka_queue_create(arguments->log, arguments->positional[2], (uint32_t)partitions,
                                  arguments_get(arguments, "dev"), text, sizeof text);
    return namespace_done(arguments, code, text);
}

static int namespace_run(struct arguments *arguments)
{
    const char *what = arguments->positional[0];
    if (strcmp(what, "queue") == 0)
        return namespace_queue(arguments);
    if (strcmp(what, "grow") == 0)
        return namespace_grow(arguments);
    if (arguments->count > 1)
        return arguments_wrong(arguments, "%s takes no \"%s\"", what, arguments->positional[1]);
    bool create = strcmp(what, "create") == 0, dev = arguments_get(arguments, "dev");
    bool kafka = strncmp(arguments->log, "kafka:", 6) == 0;
    int64_t partitions;
    char text[2000] = "";
    if (!create && strcmp(what, "check") != 0)
        return arguments_wrong(arguments, "create, check, grow or queue, not \"%s\"", what);
    if (!arguments_number(arguments, "partitions", 1, SLOT_COUNT, kafka ? 0 : 1, &partitions))
        return EXIT_USAGE;
    if ((partitions & (partitions - 1)) != 0)
        return arguments_wrong(arguments, "--partitions: %lld is no power of two", (long long)partitions);
    if (!kafka)
        return namespace_file(arguments, create, partitions);
    int code = create ? kafka_namespace_create(arguments->log, (uint32_t)partitions, dev, text, sizeof text)
                      : kafka_namespace_check(arguments->log, dev, text, sizeof text);
    return namespace_done(arguments, code, *text ? text : create ? "created" : "all settings are as they must be");
}

const struct verb verb_namespace = {
    .name = "namespace",
    .synopsis = "create [--partitions N] [--dev]\ncheck [--dev]\ngrow --partitions N [--dev] [--timeout DURATION]\nqueue create NAME [--partitions N] [--dev]",
    .summary = "create the log of a namespace, or check its settings",
    .help = "create: makes the topics of kafka://HOST:PORT/NAMESPACE with the settings they need, or the file of\n"
            "sqlite:PATH. Running it again is harmless. check: compares all settings and names each that differs.\n"
            "grow: more partitions for a namespace in use; N is a power of two. Jobs move to their new partitions with\n"
            "their histories and go on there; a job stands still for the moment of its move, and a step that runs in\n"
            "that moment runs again. It waits until all have arrived; interrupted, run it again: it goes on.\n"
            "queue create: makes the topic of a queue of remote steps, for workers that may not make it themselves;\n"
            "its partitions (default: 8) may be added to later by running it again with a larger number.",
    .flags = namespace_flags,
    .least = 1,
    .most = 3,
    .run = namespace_run,
};
