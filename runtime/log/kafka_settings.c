/*
 * Reading the settings of Kafka clients from file, environment and address. Each is tried on a configuration of
 * librdkafka's at once, so that an error can say where it stands.
 */
#include "log/kafka_settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/kafka.h"

#define SETTINGS_FILE_LIMIT (1024 * 1024)
#define SETTINGS_ORIGIN_BYTES 256

extern char **environ;

struct settings_row {
    char *name;
    char *value;
    char origin[SETTINGS_ORIGIN_BYTES]; /* "kafka.properties, line 3", "PERDURE_KAFKA_SSL_CA_LOCATION" */
};

struct kafka_settings {
    atomic_int users;
    size_t count;
    struct settings_row *rows;
    bool plaintext_allowed;
    char principal[256];
};

/* One reading: what is made, a configuration to try values on, and where to say what is wrong. */
struct settings_reader {
    struct kafka_settings *settings;
    rd_kafka_conf_t *trial;
    bool *dev;
    char *error;
    size_t error_size;
};

static bool settings_wrong(struct settings_reader *reader, const char *origin, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool settings_wrong(struct settings_reader *reader, const char *origin, const char *format, ...)
{
    va_list arguments;
    int length = snprintf(reader->error, reader->error_size, "%s: ", origin);
    if (length < 0 || (size_t)length >= reader->error_size)
        return false;
    va_start(arguments, format);
    vsnprintf(reader->error + length, reader->error_size - (size_t)length, format, arguments);
    va_end(arguments);
    return false;
}

/* ---- one setting ---------------------------------------------------------------------------------------------------- */

static void settings_wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

static bool settings_truth(const char *value)
{
    return strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0 || strcasecmp(value, "yes") == 0;
}

/* In a file, PEM stands on one line, with \n for its line ends. */
static void settings_unfold_pem(const char *name, char *value)
{
    size_t length = strlen(name);
    if (length < 4 || strcmp(name + length - 4, ".pem") != 0)
        return;
    char *to = value;
    for (const char *from = value; *from; from++) {
        bool line_end = from[0] == '\\' && from[1] == 'n';
        *to++ = line_end ? '\n' : *from;
        from += line_end;
    }
    *to = '\0';
}

static bool settings_keep(struct settings_reader *reader, const char *name, const char *value, const char *origin)
{
    struct kafka_settings *settings = reader->settings;
    struct settings_row row = { .name = strdup(name), .value = strdup(value) };
    struct settings_row *rows = realloc(settings->rows, (settings->count + 1) * sizeof *rows);
    if (rows)
        settings->rows = rows;
    if (!rows || !row.name || !row.value) {
        free(row.name);
        settings_wipe(row.value);
        return settings_wrong(reader, origin, "out of memory");
    }
    settings_unfold_pem(row.name, row.value);
    snprintf(row.origin, sizeof row.origin, "%s", origin);
    settings->rows[settings->count++] = row;
    return true;
}

static bool settings_add(struct settings_reader *reader, const char *name, const char *value, const char *origin)
{
    char reason[256];
    if (strncmp(name, "kafka.", 6) == 0)
        name += 6;
    if (strcmp(name, "perdure.allow.plaintext") == 0) {
        reader->settings->plaintext_allowed = settings_truth(value);
        return true;
    }
    const char *fixed = kafka_property_fixed(name);
    if (fixed)
        return settings_wrong(reader, origin, "%s is set by Perdure and nobody else: %s. Leave it out", name, fixed);
    if (strcmp(name, "sasl.jaas.config") == 0)
        return settings_wrong(reader, origin, "sasl.jaas.config is for Java; here user and password are two settings, "
                              "sasl.username and sasl.password");
    if (!settings_keep(reader, name, value, origin))
        return false;
    const char *kept = reader->settings->rows[reader->settings->count - 1].value;
    if (rd_kafka_conf_set(reader->trial, name, kept, reason, sizeof reason) == RD_KAFKA_CONF_OK)
        return true;
    if (kafka_property_is_secret(name)) /* the reason may quote the value */
        snprintf(reason, sizeof reason, "%s does not take this value", name);
    return settings_wrong(reader, origin, "%s (a property of librdkafka %s)", reason, rd_kafka_version_str());
}

/* ---- file ----------------------------------------------------------------------------------------------------------- */

static char *settings_trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t length = strlen(text);
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        text[--length] = '\0';
    return text;
}

static bool settings_take_line(struct settings_reader *reader, char *line, const char *origin)
{
    char *name = settings_trim(line);
    if (*name == '\0' || *name == '#' || *name == '!')
        return true;
    char *value = strchr(name, '=');
    if (!value) /* the line may be a secret that lost its name: not shown */
        return settings_wrong(reader, origin, "no '=': each line is NAME=VALUE, such as security.protocol=SASL_SSL");
    *value++ = '\0';
    return settings_add(reader, settings_trim(name), settings_trim(value), origin);
}

static bool settings_read_file(struct settings_reader *reader, const char *path)
{
    char origin[SETTINGS_ORIGIN_BYTES];
    char *line = NULL;
    size_t space = 0, total = 0;
    bool good = true;
    struct stat status;
    FILE *file = fopen(path, "re");
    if (!file || fstat(fileno(file), &status) != 0 || S_ISDIR(status.st_mode)) {
        const char *reason = file ? strerror(EISDIR) : strerror(errno);
        if (file)
            fclose(file);
        return settings_wrong(reader, path, "cannot read the settings for Kafka (--kafka-config, " KAFKA_CONFIG_VARIABLE
                              "): %s", reason);
    }
    ssize_t length;
    for (int number = 1; good && (length = getline(&line, &space, file)) >= 0; number++) {
        snprintf(origin, sizeof origin, "%s, line %d", path, number);
        total += (size_t)length;
        if (total > SETTINGS_FILE_LIMIT || strlen(line) != (size_t)length)
            good = settings_wrong(reader, origin, "this is no file of settings: %s",
                                  total > SETTINGS_FILE_LIMIT ? "too large" : "a zero byte");
        else
            good = settings_take_line(reader, line, origin);
    }
    if (line)
        explicit_bzero(line, space);
    free(line);
    fclose(file);
    return good;
}

/* ---- environment -------------------------------------------------------------------------------------------------------- */

/* PERDURE_KAFKA_SASL_PASSWORD -> sasl.password. False: not ours. */
static bool settings_variable_name(const char *variable, size_t length, char *name, size_t size)
{
    size_t prefix = strlen(KAFKA_VARIABLE_PREFIX);
    if (length <= prefix || strncmp(variable, KAFKA_VARIABLE_PREFIX, prefix) != 0 || length - prefix >= size)
        return false;
    const char *rest = variable + prefix;
    if (strncmp(rest, "CONFIG=", 7) == 0)
        return false;
    /* Kubernetes sets these for a service that is called perdure-kafka; no property begins so. */
    if (strncmp(rest, "SERVICE_", 8) == 0 || strncmp(rest, "PORT", 4) == 0)
        return false;
    for (size_t i = 0; i < length - prefix; i++)
        name[i] = rest[i] == '_' ? '.' : (char)tolower((unsigned char)rest[i]);
    name[length - prefix] = '\0';
    return true;
}

static bool settings_read_environment(struct settings_reader *reader)
{
    char name[128], origin[SETTINGS_ORIGIN_BYTES];
    const char *allowed = getenv(KAFKA_PLAINTEXT_VARIABLE);
    if (allowed && *allowed)
        reader->settings->plaintext_allowed = settings_truth(allowed);
    for (char **variable = environ; variable && *variable; variable++) {
        const char *value = strchr(*variable, '=');
        if (!value || !settings_variable_name(*variable, (size_t)(value - *variable), name, sizeof name))
            continue;
        snprintf(origin, sizeof origin, "%.*s", (int)(value - *variable), *variable);
        if (!settings_add(reader, name, value + 1, origin))
            return false;
    }
    return true;
}

/* ---- address -------------------------------------------------------------------------------------------------------------- */

static void settings_misplaced(const char *name, char *text, size_t size)
{
    char variable[128] = "";
    for (size_t i = 0; name[i] && i < sizeof variable - 1; i++)
        variable[i] = name[i] == '.' ? '_' : (char)toupper((unsigned char)name[i]);
    snprintf(text, size, "%s must not stand in the address of a log, where process lists, shells and logs keep it. Put it into "
             "a file that only you can read, and name that with --kafka-config FILE or " KAFKA_CONFIG_VARIABLE "; or set "
             KAFKA_VARIABLE_PREFIX "%s. If it was a real one, change it", name, variable);
}

bool kafka_address_has_secret(const char *uri, char *text, size_t size)
{
    const char *option = strchr(uri, '?'), *host = strstr(uri, "://");
    const char *at = host ? memchr(host, '@', strcspn(host, "?")) : NULL;
    if (at && strncmp(uri, "kafka", 5) == 0) {
        settings_misplaced("sasl.password", text, size);
        return true;
    }
    while (option && *option) {
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(option + 1, "=&"), option + 1);
        if (kafka_property_is_secret(strncmp(name, "kafka.", 6) == 0 ? name + 6 : name)) {
            settings_misplaced(name, text, size);
            return true;
        }
        option += 1 + strcspn(option + 1, "&");
    }
    return false;
}

static bool settings_take_option(struct settings_reader *reader, char *option)
{
    static const char origin[] = "the log's address, after '?'";
    char *value = strchr(option, '=');
    if (!value)
        return settings_wrong(reader, origin, "an option has no value: write dev=1 or NAME=VALUE");
    *value++ = '\0';
    if (strcmp(option, "dev") == 0) {
        *reader->dev = strcmp(value, "0") != 0;
        return true;
    }
    if (kafka_property_is_secret(option)) {
        char text[512];
        settings_misplaced(option, text, sizeof text);
        return settings_wrong(reader, origin, "%s", text);
    }
    return settings_add(reader, option, value, origin);
}

static bool settings_read_options(struct settings_reader *reader, const char *options)
{
    char *text = options ? strdup(options) : NULL, *rest = NULL;
    bool good = true;
    if (options && !text)
        return settings_wrong(reader, "the address of the log", "out of memory");
    for (char *option = text ? strtok_r(text, "&", &rest) : NULL; option && good; option = strtok_r(NULL, "&", &rest))
        good = settings_take_option(reader, option);
    settings_wipe(text);
    return good;
}

/* ---- as a whole ------------------------------------------------------------------------------------------------------------ */

static void settings_name_principal(struct kafka_settings *settings)
{
    const char *protocol = kafka_settings_get(settings, "security.protocol");
    const char *user = kafka_settings_get(settings, "sasl.username");
    bool sasl = protocol && strncasecmp(protocol, "sasl", 4) == 0;
    bool certificate = kafka_settings_get(settings, "ssl.certificate.location") ||
                       kafka_settings_get(settings, "ssl.certificate.pem") ||
                       kafka_settings_get(settings, "ssl.keystore.location");
    if (sasl && user)
        snprintf(settings->principal, sizeof settings->principal, "User:%s", user);
    else if (sasl)
        snprintf(settings->principal, sizeof settings->principal, "the user of its SASL token");
    else if (protocol && strcasecmp(protocol, "ssl") == 0 && certificate)
        snprintf(settings->principal, sizeof settings->principal, "the user that its certificate names");
    else
        snprintf(settings->principal, sizeof settings->principal, "User:ANONYMOUS");
}

/* librdkafka and OpenSSL say "system lib" of a file that is not there. Only the value that holds is looked at. */
static bool settings_files_are_there(struct settings_reader *reader)
{
    const char *const names[] = { "ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location",
                                  "ssl.crl.location" };
    for (size_t i = 0; i < reader->settings->count; i++) {
        const struct settings_row *row = &reader->settings->rows[i];
        bool is_file = false;
        for (size_t n = 0; n < sizeof names / sizeof names[0]; n++)
            is_file = is_file || strcmp(row->name, names[n]) == 0;
        if (!is_file || kafka_settings_get(reader->settings, row->name) != row->value || strcmp(row->value, "probe") == 0 ||
            *row->value == '\0' || access(row->value, R_OK) == 0)
            continue;
        return settings_wrong(reader, row->origin, "%s: %s cannot be read by user %u: %s", row->name, row->value,
                              (unsigned)geteuid(), strerror(errno));
    }
    return true;
}

struct kafka_settings *kafka_settings_read(const char *options, bool *dev, char *error, size_t error_size)
{
    const char *path = getenv(KAFKA_CONFIG_VARIABLE);
    struct settings_reader reader = { .settings = calloc(1, sizeof *reader.settings), .trial = rd_kafka_conf_new(),
                                      .dev = dev, .error = error, .error_size = error_size };
    bool good = reader.settings && reader.trial;
    if (reader.settings)
        atomic_init(&reader.settings->users, 1);
    if (!good)
        snprintf(error, error_size, "out of memory");
    good = good && (!path || !*path || settings_read_file(&reader, path)) && settings_read_environment(&reader) &&
           settings_read_options(&reader, options) && settings_files_are_there(&reader);
    if (reader.trial)
        rd_kafka_conf_destroy(reader.trial);
    if (!good) {
        kafka_settings_release(reader.settings);
        return NULL;
    }
    settings_name_principal(reader.settings);
    return reader.settings;
}

struct kafka_settings *kafka_settings_share(struct kafka_settings *settings)
{
    if (settings)
        atomic_fetch_add(&settings->users, 1);
    return settings;
}

void kafka_settings_release(struct kafka_settings *settings)
{
    if (!settings || atomic_fetch_sub(&settings->users, 1) > 1)
        return;
    for (size_t i = 0; i < settings->count; i++) {
        free(settings->rows[i].name);
        settings_wipe(settings->rows[i].value);
    }
    free(settings->rows);
    free(settings);
}

bool kafka_settings_force(struct kafka_settings *settings, const char *name, const char *value)
{
    char error[128];
    struct settings_reader reader = { .settings = settings, .error = error, .error_size = sizeof error };
    return settings_keep(&reader, name, value, "a test");
}

bool kafka_settings_apply(const struct kafka_settings *settings, rd_kafka_conf_t *conf, char *error, size_t error_size)
{
    char reason[256];
    for (size_t i = 0; settings && i < settings->count; i++) {
        const struct settings_row *row = &settings->rows[i];
        if (rd_kafka_conf_set(conf, row->name, row->value, reason, sizeof reason) == RD_KAFKA_CONF_OK)
            continue;
        snprintf(error, error_size, "%s: %s: %s", row->origin, row->name,
                 kafka_property_is_secret(row->name) ? "librdkafka does not take this value" : reason);
        return false;
    }
    return true;
}

/* librdkafka knows some of the properties that we ask for under two names. */
static const char *settings_canonical(const char *name)
{
    static const char *const aliases[][2] = { { "sasl.mechanisms", "sasl.mechanism" },
                                              { "queue.buffering.max.ms", "linger.ms" },
                                              { "compression.codec", "compression.type" } };
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcmp(name, aliases[i][0]) == 0)
            return aliases[i][1];
    return name;
}

const char *kafka_settings_get(const struct kafka_settings *settings, const char *name)
{
    const char *value = NULL;
    for (size_t i = 0; settings && i < settings->count; i++)
        if (strcmp(settings_canonical(settings->rows[i].name), settings_canonical(name)) == 0)
            value = settings->rows[i].value;
    return value;
}

void kafka_settings_each(const struct kafka_settings *settings,
                         void (*visit)(void *context, const char *name, const char *value, const char *origin),
                         void *context)
{
    for (size_t i = 0; settings && i < settings->count; i++) {
        const struct settings_row *row = &settings->rows[i];
        bool counts = true;
        for (size_t j = i + 1; j < settings->count; j++)
            counts = counts && strcmp(settings->rows[j].name, row->name) != 0;
        if (counts)
            visit(context, row->name, kafka_property_is_secret(row->name) ? "***" : row->value, row->origin);
    }
}

bool kafka_settings_plaintext_allowed(const struct kafka_settings *settings)
{
    return settings && settings->plaintext_allowed;
}

bool kafka_settings_plaintext(const struct kafka_settings *settings)
{
    const char *protocol = kafka_settings_get(settings, "security.protocol");
    return !protocol || strcasecmp(protocol, "plaintext") == 0 || strcasecmp(protocol, "sasl_plaintext") == 0;
}

const char *kafka_settings_principal(const struct kafka_settings *settings)
{
    return settings ? settings->principal : "User:ANONYMOUS";
}

/* ---- the file's mode --------------------------------------------------------------------------------------------------------- */

bool kafka_config_exposed(char *text, size_t size)
{
    const char *path = getenv(KAFKA_CONFIG_VARIABLE);
    struct stat status;
    char *line = NULL;
    size_t space = 0;
    bool secret = false;
    if (!path || !*path || stat(path, &status) != 0 || !S_ISREG(status.st_mode) || !(status.st_mode & S_IROTH))
        return false;
    FILE *file = fopen(path, "re");
    while (file && !secret && getline(&line, &space, file) >= 0) {
        line[strcspn(line, "=")] = '\0';
        const char *name = settings_trim(line);
        secret = *name != '#' && *name != '!' && kafka_property_is_secret(name);
        if (secret)
            snprintf(text, size, "%s holds %s and can be read by everybody on this machine (mode %04o): chmod 600 %s", path,
                     strncmp(name, "kafka.", 6) == 0 ? name + 6 : name, (unsigned)status.st_mode & 07777, path);
    }
    if (line)
        explicit_bzero(line, space);
    free(line);
    if (file)
        fclose(file);
    return secret;
}
