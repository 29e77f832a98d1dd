/* perdure-verify: reads a whole log, judges it by the rules alone, says what does not hold. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "verify.h"

enum { AGAIN = -1, TRIES = 5 };

struct options {
    const char *log, *acked, *ledger, *save;
    bool json, jobs;
};

static void usage(FILE *out)
{
    fputs(
        "usage: perdure-verify [--log URI] [--json] [--jobs] [--ledger FILE] [--acked FILE]\n"
        "                      [--save DUMP] [--kafka-config FILE] [--allow-plaintext] [FILE]\n"
        "  URI   sqlite:PATH, kafka://BROKERS/NAMESPACE or dump:FILE; without one PERDURE_LOG, else sqlite:perdure.db\n"
        "  FILE  an SQLite log or a dump\n"
        "  --json    one JSON object instead of text\n"
        "  --jobs    also every run\n"
        "  --ledger  lines `RUN-OP NAME`: effects that were made; every completed step must be among them\n"
        "  --acked   lines `start REQUEST JOB` or `signal REQUEST JOB`: each must be absorbed exactly once\n"
        "  --save    writes what was read into a dump\n"
        "  --kafka-config     settings for Kafka clients, NAME=VALUE lines (default: PERDURE_KAFKA_CONFIG)\n"
        "  --allow-plaintext  speak unencrypted with brokers on other machines\n"
        "exit: 0 sound, 1 violated, 2 wrong usage, 3 there is no such log, 5 it cannot be read\n",
        out);
}

/* 0: go on; else the exit code plus one. */
static int parse(int argc, char **argv, struct options *o)
{
    static const struct option known[] = {
        {"log", required_argument, NULL, 'l'},
        {"json", no_argument, NULL, 'j'},
        {"jobs", no_argument, NULL, 'a'},
        {"ledger", required_argument, NULL, 'e'},
        {"acked", required_argument, NULL, 'k'},
        {"save", required_argument, NULL, 's'},
        {"kafka-config", required_argument, NULL, 'c'},
        {"allow-plaintext", no_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    for (int option; (option = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
        switch (option) {
        case 'l':
            o->log = optarg;
            break;
        case 'j':
            o->json = true;
            break;
        case 'a':
            o->jobs = true;
            break;
        case 'e':
            o->ledger = optarg;
            break;
        case 'k':
            o->acked = optarg;
            break;
        case 's':
            o->save = optarg;
            break;
        case 'c':
            setenv("PERDURE_KAFKA_CONFIG", optarg, 1);
            break;
        case 'p':
            setenv("PERDURE_ALLOW_PLAINTEXT", "1", 1);
            break;
        case 'h':
            usage(stdout);
            return EXIT_SOUND + 1;
        default:
            usage(stderr);
            return EXIT_USAGE + 1;
        }
    }
    if (argc - optind > 1 || (o->log && optind < argc)) {
        usage(stderr);
        return EXIT_USAGE + 1;
    }
    if (optind < argc)
        o->log = argv[optind];
    return 0;
}

static const char *after(const char *text, const char *prefix)
{
    size_t size = strlen(prefix);
    return strncmp(text, prefix, size) ? NULL : text + size;
}

static bool is_database(const char *path)
{
    char head[16] = "";
    FILE *file = fopen(path, "re");
    bool is = file && fread(head, 1, sizeof head, file) == sizeof head && !memcmp(head, "SQLite format 3", sizeof head);
    if (file)
        fclose(file);
    return is;
}

static enum read_end read_log(struct check *c, const char *log, bool spool)
{
    const char *rest;
    if ((rest = after(log, "kafka://")))
        return pv_read_kafka(c, rest, spool);
    const char *path = (rest = after(log, "sqlite:")) || (rest = after(log, "dump:")) ? rest : log;
    if (access(path, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
        fprintf(stderr, "perdure-verify: %s: there is no such log\n", log);
        return READ_NONE;
    }
    bool ok = (rest = after(log, "sqlite:")) ? pv_read_sqlite(c, rest)
              : (rest = after(log, "dump:")) ? pv_read_file(c, rest)
              : is_database(log)             ? pv_read_sqlite(c, log)
                                             : pv_read_file(c, log);
    return ok ? READ_ALL : READ_FAILED;
}

/* Nothing is no sound log: a wrong name must not look like a good result. */
static bool is_empty(const struct check *c, const char *log)
{
    if (c->totals.journal)
        return false;
    fprintf(stderr, "perdure-verify: %s: no journal record in it, nothing to check\n", log);
    return true;
}

static const char *default_log(void)
{
    const char *log = getenv("PERDURE_LOG");
    return log ? log : "sqlite:perdure.db";
}

/* Begins with nothing known. An exit code, or AGAIN. */
static int check_once(const struct options *o, bool spool)
{
    struct check c;
    pv_check_start(&c, pv_report_new(o->json, stdout));
    int code = EXIT_USAGE;
    if ((!o->acked || pv_lists_acked(&c, o->acked)) && (!o->ledger || pv_lists_ledger(&c, o->ledger)) &&
        (!o->save || pv_save_open(&c, o->save))) {
        enum read_end end = read_log(&c, o->log, spool);
        code = end == READ_AGAIN ? AGAIN : end == READ_NONE ? EXIT_NOT_FOUND : EXIT_UNREACHABLE;
        if (end == READ_ALL && !is_empty(&c, o->log)) {
            pv_check_finish(&c);
            pv_report_end(&c, o->log, o->jobs);
            code = c.totals.violations ? EXIT_VIOLATED : EXIT_SOUND;
        } else if (end == READ_FAILED || end == READ_NONE) {
            pv_report_told(c.report);
        }
    }
    if (!pv_save_close(&c, o->save))
        code = EXIT_UNREACHABLE;
    pv_report_free(c.report);
    pv_check_free(&c);
    return code;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    int stop = parse(argc, argv, &o);
    if (stop)
        return stop - 1;
    if (!o.log)
        o.log = default_log();
    if (o.log[0] == '\0') {
        fprintf(stderr, "perdure-verify: PERDURE_LOG is empty; it names the log: kafka://HOST:PORT[,HOST:PORT]/NAMESPACE, or "
                        "sqlite:PATH\n");
        return EXIT_USAGE;
    }
    int code = check_once(&o, false);
    for (int tries = 1; code == AGAIN && tries < TRIES; tries++)
        code = check_once(&o, true);
    if (code == AGAIN) {
        fprintf(stderr, "perdure-verify: %s: it changes faster than it can be read\n", o.log);
        code = EXIT_UNREACHABLE;
    }
    if (fflush(stdout) || ferror(stdout)) {
        perror("perdure-verify: standard output");
        code = EXIT_UNREACHABLE;
    }
    return code;
}
