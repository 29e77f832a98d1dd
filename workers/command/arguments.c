#include "command/arguments.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/client.h"
#include "command/duration.h"
#include "constants.h"
#include "log/kafka.h"

static const struct flag arguments_common[] = {
    {"log", "URI", "sqlite:PATH or kafka://HOST:PORT[,...]/NAMESPACE (default: $PERDURE_LOG, else sqlite:perdure.db)", false},
    {"kafka-config", "FILE", "settings for Kafka clients, a NAME=VALUE of librdkafka's a line; secrets belong there "
     "(default: $PERDURE_KAFKA_CONFIG)", false},
    {"allow-plaintext", NULL, "speak unencrypted with Kafka brokers on other machines", false},
    {"json", NULL, "print JSON: one object, or one a line", false},
    {"help", NULL, "print this", false},
    {NULL, NULL, NULL, false},
};

/* ---- help ------------------------------------------------------------------------------------- */

#define HELP_COLUMN 26
#define HELP_WIDTH 100

/* One flag: its help starts in a column of its own and is wrapped there. */
static void arguments_print_flag(const struct flag *flag)
{
    char left[80];
    int width = snprintf(left, sizeof left, "  --%s%s%s", flag->name, flag->argument ? " " : "",
                         flag->argument ? flag->argument : "");
    printf("%-*s", HELP_COLUMN, left);
    if (width >= HELP_COLUMN)
        printf("\n%*s", HELP_COLUMN, "");
    const char *text = flag->help;
    while (strlen(text) > HELP_WIDTH - HELP_COLUMN) {
        int cut = HELP_WIDTH - HELP_COLUMN;
        while (cut > 0 && text[cut] != ' ')
            cut--;
        printf("%.*s\n%*s", cut, text, HELP_COLUMN, "");
        text += cut + 1;
    }
    printf("%s%s\n", text, flag->repeats ? " (may be repeated)" : "");
}

static int arguments_help(const struct verb *verb)
{
    const char *line = verb->synopsis;
    for (const char *lead = "usage: "; line; lead = "       ") {
        const char *end = strchr(line, '\n');
        printf("%sperdure %s%s%.*s\n", lead, verb->name, *line ? " " : "", end ? (int)(end - line) : (int)strlen(line), line);
        line = end ? end + 1 : NULL;
    }
    printf("\n%s\n\noptions:\n", verb->help);
    for (const struct flag *flag = verb->flags; flag && flag->name; flag++)
        arguments_print_flag(flag);
    for (const struct flag *flag = arguments_common; flag->name; flag++)
        arguments_print_flag(flag);
    printf("\nexit codes: 0 done, 1 the job failed, 2 wrong usage or refused, 3 not found, 4 timed out,\n"
           "            5 the log cannot be reached\n");
    return EXIT_OK;
}

int arguments_wrong(const struct arguments *arguments, const char *format, ...)
{
    va_list list;
    fflush(stdout);
    fprintf(stderr, "perdure %s: ", arguments->verb->name);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, "\n(see perdure %s --help)\n", arguments->verb->name);
    return EXIT_USAGE;
}

/* ---- parsing ---------------------------------------------------------------------------------- */

static size_t arguments_count_flags(const struct flag *flags)
{
    size_t count = 0;
    while (flags && flags[count].name)
        count++;
    return count;
}

static const struct flag *arguments_flag(const struct verb *verb, size_t index)
{
    size_t own = arguments_count_flags(verb->flags);
    return index < own ? &verb->flags[index] : &arguments_common[index - own];
}

static bool arguments_set(struct arguments *arguments, size_t index, const char *value)
{
    const struct flag *flag = arguments_flag(arguments->verb, index);
    if (flag->repeats) {
        if (arguments->repeat_count == ARGUMENTS_REPEATS) {
            arguments_wrong(arguments, "--%s is given more than %d times", flag->name, ARGUMENTS_REPEATS);
            return false;
        }
        arguments->repeats[arguments->repeat_count++] = value;
    } else if (arguments->values[index] && flag->argument) {
        arguments_wrong(arguments, "--%s is given twice", flag->name);
        return false;
    }
    arguments->values[index] = value ? value : "";
    return true;
}

/* What follows '=' may be a secret, and is not shown. */
static void arguments_unknown(const struct arguments *arguments, const char *option)
{
    int length = (int)strcspn(option, "=");
    const char *name = option + strspn(option, "-");
    if (strncmp(name, "kafka.", 6) == 0 || strncmp(name, "sasl.", 5) == 0 || strncmp(name, "ssl.", 4) == 0 ||
        strncmp(name, "security.", 9) == 0)
        arguments_wrong(arguments, "there is no option %.*s: settings for Kafka stand in a file, where secrets are not seen "
                        "in process lists; name it with --kafka-config FILE", length, option);
    else
        arguments_wrong(arguments, "there is no option %.*s, or it takes no value", length, option);
}

static bool arguments_parse(struct arguments *arguments, int argc, char **argv)
{
    const struct verb *verb = arguments->verb;
    size_t count = arguments_count_flags(verb->flags) + arguments_count_flags(arguments_common);
    struct option options[ARGUMENTS_FLAGS + 1] = {0};
    assert(count <= ARGUMENTS_FLAGS);
    for (size_t i = 0; i < count; i++) {
        const struct flag *flag = arguments_flag(verb, i);
        options[i] = (struct option){flag->name, flag->argument ? required_argument : no_argument, NULL, (int)i + 1000};
    }
    int found;
    opterr = 0;
    optind = 1;
    while ((found = getopt_long(argc, argv, ":ho:", options, NULL)) != -1) {
        if (found == 'h') {
            found = 1000 + (int)count - 1;
        } else if (found == 'o' && verb->flags && strcmp(verb->flags[0].name, "output") == 0) {
            found = 1000; /* -o FILE is --output FILE */
        } else if (found == 'o') {
            arguments_wrong(arguments, "there is no option -o");
            return false;
        } else if (found == ':') {
            arguments_wrong(arguments, "%s needs a value", argv[optind - 1]);
            return false;
        } else if (found == '?') {
            arguments_unknown(arguments, argv[optind - 1]);
            return false;
        }
        if (!arguments_set(arguments, (size_t)found - 1000, optarg))
            return false;
    }
    arguments->count = (size_t)(argc - optind);
    arguments->positional = argv + optind;
    return true;
}

const char *arguments_get(const struct arguments *arguments, const char *name)
{
    size_t count = arguments_count_flags(arguments->verb->flags) + arguments_count_flags(arguments_common);
    for (size_t i = 0; i < count; i++)
        if (strcmp(arguments_flag(arguments->verb, i)->name, name) == 0)
            return arguments->values[i];
    return NULL;
}

/* Into the environment: what this process starts needs the same. */
static void arguments_export(const struct arguments *arguments)
{
    const char *config = arguments_get(arguments, "kafka-config");
    char exposed[4400];
    if (config)
        setenv(KAFKA_CONFIG_VARIABLE, config, 1);
    if (arguments_get(arguments, "allow-plaintext"))
        setenv(KAFKA_PLAINTEXT_VARIABLE, "1", 1);
    if (strncmp(arguments->log, "kafka:", 6) == 0 && kafka_config_exposed(exposed, sizeof exposed))
        fprintf(stderr, "perdure %s: warning: %s\n", arguments->verb->name, exposed);
}

int arguments_run(const struct verb *verb, int argc, char **argv)
{
    struct arguments arguments = {.verb = verb, .argc = argc, .argv = argv};
    char misplaced[600];
    if (!arguments_parse(&arguments, argc, argv))
        return EXIT_USAGE;
    if (arguments_get(&arguments, "help"))
        return arguments_help(verb);
    if (arguments.count < verb->least)
        return arguments_wrong(&arguments, "an argument is missing; usage: perdure %s %s", verb->name, verb->synopsis);
    if (arguments.count > verb->most)
        return arguments_wrong(&arguments, "one argument too many: \"%s\"", arguments.positional[verb->most]);
    arguments.json = arguments_get(&arguments, "json");
    arguments.log = arguments_get(&arguments, "log");
    if (!arguments.log)
        arguments.log = client_default_log();
    if (arguments.log[0] == '\0') /* a setting that did not arrive, no wish for a file */
        return arguments_wrong(&arguments, "--log or PERDURE_LOG is empty; it names the log: kafka://HOST:PORT[,HOST:PORT]/NAMESPACE, "
                                           "or sqlite:PATH");
    if (kafka_address_has_secret(arguments.log, misplaced, sizeof misplaced))
        return arguments_wrong(&arguments, "%s", misplaced);
    arguments_export(&arguments);
    return verb->run(&arguments);
}

/* ---- values ----------------------------------------------------------------------------------- */

bool arguments_duration(const struct arguments *arguments, const char *name, int64_t otherwise, int64_t *ms)
{
    const char *text = arguments_get(arguments, name);
    *ms = otherwise;
    if (!text || duration_parse(text, ms))
        return true;
    arguments_wrong(arguments, "--%s: \"%s\" is no duration; write it like 500ms, 10s, 5m, 2h, 3d or 1h30m", name, text);
    return false;
}

bool arguments_duration_within(const struct arguments *arguments, const char *name, const char *lowest, const char *highest,
                               int64_t otherwise, int64_t *ms)
{
    int64_t least = 0, most = 0;
    if (!arguments_duration(arguments, name, otherwise, ms))
        return false;
    duration_parse(lowest, &least);
    duration_parse(highest, &most);
    if (!arguments_get(arguments, name) || (*ms >= least && *ms <= most))
        return true;
    arguments_wrong(arguments, "--%s: \"%s\" is not from %s to %s", name, arguments_get(arguments, name), lowest, highest);
    return false;
}

bool arguments_number(const struct arguments *arguments, const char *name, int64_t lowest, int64_t highest,
                      int64_t otherwise, int64_t *number)
{
    const char *text = arguments_get(arguments, name);
    char *end;
    *number = otherwise;
    if (!text)
        return true;
    errno = 0;
    *number = strtoll(text, &end, 10);
    if (*text && !*end && errno == 0 && *number >= lowest && *number <= highest)
        return true;
    arguments_wrong(arguments, "--%s: \"%s\" is no whole number from %lld to %lld", name, text, (long long)lowest,
                    (long long)highest);
    return false;
}

static char *arguments_read(FILE *file, const char *path, size_t limit, size_t *size, char *error, size_t error_size)
{
    size_t capacity = 64 * 1024;
    char *data = malloc(capacity);
    *size = 0;
    while (data) {
        size_t got = fread(data + *size, 1, capacity - 1 - *size, file);
        *size += got;
        if (ferror(file) || *size > limit) {
            snprintf(error, error_size, ferror(file) ? "%s: %s" : "%s: too large", path, strerror(errno));
            free(data);
            return NULL;
        }
        if (got == 0)
            break;
        if (*size + 1 < capacity)
            continue;
        capacity *= 2;
        char *grown = realloc(data, capacity);
        if (!grown)
            free(data);
        data = grown;
    }
    if (data)
        data[*size] = '\0';
    else
        snprintf(error, error_size, "%s: out of memory", path);
    return data;
}

char *arguments_read_file(const char *path, size_t limit, size_t *size, char *error, size_t error_size)
{
    if (strcmp(path, "-") == 0)
        return arguments_read(stdin, "standard input", limit, size, error, error_size);
    FILE *file = fopen(path, "re");
    if (!file) {
        snprintf(error, error_size, "%s: %s", path, strerror(errno));
        return NULL;
    }
    char *data = arguments_read(file, path, limit, size, error, error_size);
    fclose(file);
    return data;
}

char *arguments_input(const struct arguments *arguments, const char *name)
{
    const char *text = arguments_get(arguments, name);
    char error[300];
    size_t size;
    if (!text || *text != '@') {
        char *copy = strdup(text ? text : "");
        if (!copy)
            arguments_wrong(arguments, "out of memory");
        return copy;
    }
    /* JSON may be longer than what it stands for, by white space and escapes, but not without end */
    char *data = arguments_read_file(text + 1, 8 * (size_t)RECORD_LIMIT_BYTES, &size, error, sizeof error);
    if (!data) {
        arguments_wrong(arguments, "--%s: cannot read %s", name, error);
    } else if (strlen(data) != size) {
        arguments_wrong(arguments, "--%s: %s is no text: it contains a zero byte", name, text + 1);
        free(data);
        data = NULL;
    }
    return data;
}
