/* Settings for Kafka clients as the runtime takes them: properties of librdkafka from the file that PERDURE_KAFKA_CONFIG
 * names, from PERDURE_KAFKA_* and from the address, the later winning. What the checker itself needs is set after them. */
#include <ctype.h>
#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "verify.h"

extern char **environ;

struct reading {
    rd_kafka_conf_t *conf;
    bool allowed; /* plaintext to other machines */
};

static bool wrong(const char *where, const char *what)
{
    fprintf(stderr, "perdure-verify: %s: %s\n", where, what);
    return false;
}

static bool truth(const char *value)
{
    return !strcasecmp(value, "true") || !strcasecmp(value, "yes") || !strcmp(value, "1");
}

static bool is_secret(const char *name)
{
    return strstr(name, "password") || strstr(name, "secret") || strstr(name, "key.pem") || strstr(name, "private.key") ||
           !strcmp(name, "sasl.oauthbearer.config");
}

/* The line ends of PEM in a file of lines. */
static void unfold(char *value)
{
    char *to = value;
    for (const char *from = value; *from; from++) {
        bool line_end = from[0] == '\\' && from[1] == 'n';
        *to++ = line_end ? '\n' : *from;
        from += line_end;
    }
    *to = '\0';
}

static bool take(struct reading *r, const char *name, char *value, const char *where)
{
    char why[256];
    if (!strncmp(name, "kafka.", 6))
        name += 6;
    if (!strcmp(name, "perdure.allow.plaintext")) {
        r->allowed = truth(value);
        return true;
    }
    if (strlen(name) > 4 && !strcmp(name + strlen(name) - 4, ".pem"))
        unfold(value);
    return rd_kafka_conf_set(r->conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK ||
           wrong(where, is_secret(name) ? name : why);
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    for (size_t size = strlen(text); size && isspace((unsigned char)text[size - 1]); size--)
        text[size - 1] = '\0';
    return text;
}

static bool read_file(struct reading *r, const char *path)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t space = 0;
    bool ok = file || wrong(path, "cannot be read (PERDURE_KAFKA_CONFIG)");
    while (ok && getline(&line, &space, file) > 0) {
        char *name = trim(line), *value = strchr(name, '=');
        if (!*name || *name == '#' || *name == '!')
            continue;
        if (value)
            *value++ = '\0';
        ok = value ? take(r, trim(name), trim(value), path) : wrong(path, "a line without '='");
    }
    if (line)
        explicit_bzero(line, space);
    free(line);
    if (file)
        fclose(file);
    return ok;
}

static bool read_environment(struct reading *r)
{
    static const char prefix[] = "PERDURE_KAFKA_";
    for (char **variable = environ; variable && *variable; variable++) {
        const char *rest = *variable + sizeof prefix - 1;
        if (strncmp(*variable, prefix, sizeof prefix - 1) || !strncmp(rest, "CONFIG=", 7) ||
            !strncmp(rest, "SERVICE_", 8) || !strncmp(rest, "PORT", 4))
            continue;
        char *name = pv_must_copy(rest), *value = strchr(name, '=');
        if (value)
            *value++ = '\0';
        for (char *c = name; *c; c++)
            *c = *c == '_' ? '.' : (char)tolower((unsigned char)*c);
        bool ok = !value || take(r, name, value, "PERDURE_KAFKA_...");
        if (value)
            explicit_bzero(value, strlen(value));
        free(name);
        if (!ok)
            return false;
    }
    return true;
}

static bool read_options(struct reading *r, const char *options)
{
    char *text = pv_must_copy(options ? options : ""), *rest = NULL;
    bool ok = true;
    for (char *name = strtok_r(text, "&", &rest); name && ok; name = strtok_r(NULL, "&", &rest)) {
        char *value = strchr(name, '=');
        if (value)
            *value++ = '\0';
        if (!value || is_secret(name))
            ok = wrong("--log", "after '?' stands NAME=VALUE, and no secret: those belong into PERDURE_KAFKA_CONFIG");
        else if (strcmp(name, "dev"))
            ok = take(r, name, value, "--log");
    }
    free(text);
    return ok;
}

bool pv_kafka_settings(rd_kafka_conf_t *conf, const char *options)
{
    const char *path = getenv("PERDURE_KAFKA_CONFIG"), *allow = getenv("PERDURE_ALLOW_PLAINTEXT");
    struct reading r = {.conf = conf};
    if (path && *path && !read_file(&r, path))
        return false;
    if (allow && *allow)
        r.allowed = truth(allow);
    if (!read_environment(&r) || !read_options(&r, options))
        return false;
    char protocol[32] = "plaintext";
    size_t size = sizeof protocol;
    rd_kafka_conf_get(conf, "security.protocol", protocol, &size);
    if (r.allowed || !strstr(protocol, "plaintext"))
        return true;
    pv_kafka_guard();
    rd_kafka_conf_set_connect_cb(conf, pv_kafka_connect);
    return true;
}
