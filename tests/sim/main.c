/*
 * perdure-sim: the real engine and the real jobs in a world of faults, everything from one seed.
 *
 *   --seeds N       how many seeds (default 1000)          --from N     the first one (default 0)
 *   --seed N        this one only                          --trace      print what happens
 *   --without RULE  leave a rule out; exit 0 when a violation is found, 1 when not
 *   --mutations     that for every rule, each up to --seeds (default 4000)
 *   --jobs N        processes (default 2)                  --json       one object at the end
 *   --no-faults     nothing goes wrong                     --lossy      the log may lose what it acknowledged
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

#define PROCESSES_MAX 64

static const char *const rule_names[] = {
#define RULE_TEXT_(name, text) #name,
    RULE_MAP(RULE_TEXT_)
#undef RULE_TEXT_
};
static const char *const rule_texts[] = {
#define RULE_TEXT_(name, text) text,
    RULE_MAP(RULE_TEXT_)
#undef RULE_TEXT_
};
static const struct { const char *name, *text; } faults[] = {
#define FAULT_TEXT_(name, text) { #name, text },
    FAULT_MAP(FAULT_TEXT_)
#undef FAULT_TEXT_
};

struct request_line {
    uint64_t seeds, from;
    int processes;
    bool one, trace, json, mutations, no_faults, lossy;
    int without;
};

/* What a process tells the parent, in shared memory. */
struct shared {
    struct tally tally;
    uint64_t found_seed;
    bool found;
    char violation[512];
    volatile uint64_t at; /* the seed in progress */
};

/* ---- running seeds ------------------------------------------------------------------------------------------ */

static void run_seeds(const struct request_line *line, int process, struct shared *shared, struct shared *all)
{
    struct options options = { .trace = line->trace, .no_faults = line->no_faults, .lossy = line->lossy,
                               .without = line->without };
    memset(&tally, 0, sizeof tally);
    rule_left_out = line->without;
    for (uint64_t seed = line->from + (uint64_t)process; seed < line->from + line->seeds;
         seed += (uint64_t)line->processes) {
        char violation[512];
        options.seed = seed;
        shared->at = seed;
        if (!world_run(&options, violation, sizeof violation) && !shared->found) {
            shared->found = true;
            shared->found_seed = seed;
            snprintf(shared->violation, sizeof shared->violation, "%s", violation);
            break;
        }
        bool stop = false; /* somebody found one with a lower seed */
        for (int i = 0; i < line->processes; i++)
            stop = stop || (all[i].found && all[i].found_seed < seed);
        if (stop)
            break;
    }
    for (int i = 0; i < RULE_COUNT; i++)
        tally.rules[i] = rule_branch_count[i];
    shared->tally = tally;
}

static void tally_add(struct tally *sum, const struct tally *part)
{
    const uint64_t *from = (const uint64_t *)(const void *)part;
    uint64_t *to = (uint64_t *)(void *)sum;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++)
        to[i] += from[i];
}

/* All seeds of the line, in several processes. True when nothing was found; else *seed and `violation`. */
static bool run_line(const struct request_line *line, struct tally *sum, uint64_t *seed, char *violation, size_t size)
{
    size_t bytes = sizeof(struct shared) * PROCESSES_MAX;
    struct shared *all = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[PROCESSES_MAX];
    bool good = true;
    if (all == MAP_FAILED)
        abort();
    fflush(NULL);
    if (line->one) {
        run_seeds(line, 0, &all[0], all);
    } else {
        for (int i = 0; i < line->processes; i++) {
            children[i] = fork();
            if (children[i] < 0)
                abort();
            if (children[i] == 0) {
                run_seeds(line, i, &all[i], all);
                fflush(NULL);
                _exit(0);
            }
        }
        for (int i = 0; i < line->processes; i++) {
            int status = 0;
            while (waitpid(children[i], &status, 0) < 0 && errno == EINTR)
                ;
            if ((!WIFEXITED(status) || WEXITSTATUS(status) != 0) && !all[i].found) {
                all[i].found = true;
                all[i].found_seed = all[i].at;
                snprintf(all[i].violation, sizeof all[i].violation, "the process died of signal %d",
                         WIFSIGNALED(status) ? WTERMSIG(status) : 0);
            }
        }
    }
    memset(sum, 0, sizeof *sum);
    for (int i = 0; i < line->processes; i++) {
        tally_add(sum, &all[i].tally);
        if (all[i].found && (good || all[i].found_seed < *seed)) {
            good = false;
            *seed = all[i].found_seed;
            snprintf(violation, size, "%s", all[i].violation);
        }
    }
    munmap(all, bytes);
    return good;
}

/* ---- telling --------------------------------------------------------------------------------------------------- */

/* The arrows of the table on top of engine.c that faults can take; STOPPED needs a log of another version. */
static const unsigned char expected_arrows[][2] = {
    { ENGINE_FOLLOWING, ENGINE_CATCHING_UP }, { ENGINE_CATCHING_UP, ENGINE_CLAIMING },
    { ENGINE_CATCHING_UP, ENGINE_FOLLOWING }, { ENGINE_CLAIMING, ENGINE_OWNER },
    { ENGINE_CLAIMING, ENGINE_DRAINING },     { ENGINE_OWNER, ENGINE_CLAIMING },
    { ENGINE_OWNER, ENGINE_DRAINING },        { ENGINE_OWNER, ENGINE_FENCED },
    { ENGINE_OWNER, ENGINE_FOLLOWING },       { ENGINE_DRAINING, ENGINE_FOLLOWING },
    { ENGINE_DRAINING, ENGINE_OWNER },        { ENGINE_FENCED, ENGINE_CATCHING_UP },
    { ENGINE_FENCED, ENGINE_FOLLOWING },
};

/* Rules whose removal nothing shows: docs/protocol.md, 'Kept on argument'. */
static const int kept_on_argument[] = {
    RULE_RELEASE_ENDS,  /* an owner releases when nothing of its session is on its way: nothing new can land behind */
    RULE_NONCE,         /* a claim that is acknowledged is not truncated, and without that nobody owns (rule 7) */
    RULE_ACK_IMPLICIT,  /* met by seeds of other fault rates; unit/test_engine_traces shows it */
    RULE_FORGET_INPUT,  /* what came to the inbox before the end and LIFE holds the last input too */
    RULE_FORGET_OUTPUTS, /* the cut waits for the outputs of all that lies below it; above it a run is closed for too short */
    RULE_SLOT_OUTPUTS,  /* both partitions send what leaves soon enough: an overtaking was not met */
    RULE_UNKNOWN_STOPS, /* the job layer stops at such an event too */
};

static bool is_kept_on_argument(int rule)
{
    for (size_t i = 0; i < sizeof kept_on_argument / sizeof *kept_on_argument; i++)
        if (kept_on_argument[i] == rule)
            return true;
    return false;
}

static int print_zeroes(const struct tally *sum, bool lossy)
{
    int zeroes = 0;
    for (int i = 0; i < FAULT_COUNT; i++)
        if (sum->faults[i] == 0 && (i != FAULT_TRUNCATED_LOSSY || lossy)) {
            printf("never happened: fault %s (%s)\n", faults[i].name, faults[i].text);
            zeroes++;
        }
    for (int i = 0; i < RULE_COUNT; i++)
        if (sum->rules[i] == 0 && !is_kept_on_argument(i)) {
            printf("never happened: rule %s (%s) decided nothing\n", rule_names[i], rule_texts[i]);
            zeroes++;
        }
    for (size_t i = 0; i < sizeof expected_arrows / sizeof *expected_arrows; i++)
        if (sum->transitions[expected_arrows[i][0]][expected_arrows[i][1]] == 0) {
            printf("never happened: %s to %s\n", engine_state_name((enum engine_state)expected_arrows[i][0]),
                   engine_state_name((enum engine_state)expected_arrows[i][1]));
            zeroes++;
        }
    return zeroes;
}

static void print_tally(const struct tally *sum, double seconds)
{
    printf("%" PRIu64 " runs in %.1f s (%.2f ms each), %" PRIu64 " records that count (%.0f a run), %" PRIu64
           " appended, %" PRIu64 " events, %" PRIu64 " jobs, %" PRIu64 " effects, %" PRIu64 " replays, %" PRIu64
           " evictions, %" PRIu64 " claims\n",
           sum->runs, seconds, sum->runs ? seconds * 1000 / (double)sum->runs : 0, sum->records,
           sum->runs ? (double)sum->records / (double)sum->runs : 0, sum->journal_records, sum->events, sum->jobs,
           sum->effects, sum->replays, sum->evictions, sum->claims);
    printf("endings: completed %" PRIu64 ", failed %" PRIu64 ", cancelled %" PRIu64 ", terminated %" PRIu64
           "; answers: accepted %" PRIu64 ", exists %" PRIu64 ", refused %" PRIu64 ", ended %" PRIu64
           ", unknown %" PRIu64 "\n",
           sum->endings[0], sum->endings[1], sum->endings[2], sum->endings[3], sum->replies[0], sum->replies[1],
           sum->replies[2], sum->replies[3], sum->replies[4]);
    printf("records:");
    for (int i = 0; i < ORACLE_VERDICTS; i++)
        printf(" %s %" PRIu64, oracle_verdict_name((enum oracle_verdict)i), sum->verdicts[i]);
    printf("\nretention: %" PRIu64 " cuts, %" PRIu64 " runs copied, %" PRIu64 " stubs, %" PRIu64 " forgotten by owners",
           sum->cuts, sum->copied, sum->stubbed, sum->forgotten);
    printf("\nfaults:\n");
    for (int i = 0; i < FAULT_COUNT; i++)
        printf("  %-24s %10" PRIu64 "  %s\n", faults[i].name, sum->faults[i], faults[i].text);
    printf("states:\n");
    for (int from = 0; from < ENGINE_STATE_COUNT; from++)
        for (int to = 0; to < ENGINE_STATE_COUNT; to++)
            if (sum->transitions[from][to] > 0)
                printf("  %-12s -> %-12s %10" PRIu64 "\n", engine_state_name((enum engine_state)from),
                       engine_state_name((enum engine_state)to), sum->transitions[from][to]);
    printf("rules:\n");
    for (int i = 0; i < RULE_COUNT; i++)
        printf("  %-24s %10" PRIu64 "  %s\n", rule_names[i], sum->rules[i], rule_texts[i]);
}

static void print_json(const struct tally *sum, double seconds, bool good, uint64_t seed, const char *violation)
{
    printf("{\"runs\":%" PRIu64 ",\"seconds\":%.3f,\"ok\":%s,\"records\":%" PRIu64, sum->runs, seconds,
           good ? "true" : "false", sum->records);
    if (!good) {
        printf(",\"seed\":%" PRIu64 ",\"violation\":\"", seed);
        for (; *violation; violation++)
            putchar(*violation == '"' || *violation == '\\' || *violation == '\n' ? '\'' : *violation);
        printf("\"");
    }
    printf(",\"faults\":{");
    for (int i = 0; i < FAULT_COUNT; i++)
        printf("%s\"%s\":%" PRIu64, i ? "," : "", faults[i].name, sum->faults[i]);
    printf("},\"rules\":{");
    for (int i = 0; i < RULE_COUNT; i++)
        printf("%s\"%s\":%" PRIu64, i ? "," : "", rule_names[i], sum->rules[i]);
    printf("}}\n");
}

static double seconds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ---- the three ways to run ---------------------------------------------------------------------------------------- */

static int run_plain(const struct request_line *line)
{
    struct tally sum;
    uint64_t seed = 0;
    char violation[512] = "";
    double begin = seconds_now();
    bool good = run_line(line, &sum, &seed, violation, sizeof violation);
    double seconds = seconds_now() - begin;
    if (line->json)
        print_json(&sum, seconds, good, seed, violation);
    else if (!line->one)
        print_tally(&sum, seconds);
    if (!good)
        printf("VIOLATION at seed %" PRIu64 ": %s\nreplay: perdure-sim --seed %" PRIu64 "%s%s%s%s --trace\n", seed,
               violation, seed, line->lossy ? " --lossy" : "", line->no_faults ? " --no-faults" : "",
               line->without != RULE_NONE ? " --without " : "",
               line->without != RULE_NONE ? rule_names[line->without] : "");
    if (line->without != RULE_NONE)
        return good ? 1 : 0;
    /* What never happened tells nothing in a small number of runs. */
    if (good && !line->one && !line->no_faults && line->seeds >= 1000 && print_zeroes(&sum, line->lossy) > 0)
        return 1;
    return good ? 0 : 1;
}

/* Those that are kept on argument only a part of the seeds: nothing is expected of them. */
#define ARGUMENT_SEEDS_PART 40

/* Seeds that found what takes minutes to find. They go first; when the engine's course has changed, the others follow. */
static const struct { int rule; uint64_t seed; } found_before[] = { { RULE_SLOT_OFFER, 1355 } };

static bool run_without(struct request_line line, int rule, struct tally *sum, uint64_t *seed, char *violation, size_t size)
{
    line.without = rule;
    for (size_t i = 0; i < sizeof found_before / sizeof *found_before; i++) {
        struct request_line first = line;
        first.from = found_before[i].seed;
        first.seeds = 1;
        if (found_before[i].rule == rule && !run_line(&first, sum, seed, violation, size))
            return false;
    }
    return run_line(&line, sum, seed, violation, size);
}

static int run_mutations(struct request_line line)
{
    const uint64_t seeds = line.seeds;
    int missing = 0;
    for (int rule = 0; rule < RULE_COUNT; rule++) {
        struct tally sum;
        uint64_t seed = 0;
        char violation[512] = "";
        line.seeds = is_kept_on_argument(rule) ? seeds / ARGUMENT_SEEDS_PART : seeds;
        bool good = run_without(line, rule, &sum, &seed, violation, sizeof violation);
        if (line.json)
            printf("{\"rule\":\"%s\",\"found\":%s,\"seed\":%" PRIu64 ",\"seeds\":%" PRIu64 "}\n", rule_names[rule],
                   good ? "false" : "true", seed, line.seeds);
        else if (good)
            printf("%-22s nothing in %" PRIu64 " seeds%s   (%s)\n", rule_names[rule], line.seeds,
                   is_kept_on_argument(rule) ? ", kept on argument" : "", rule_texts[rule]);
        else
            printf("%-22s seed %-5" PRIu64 " %s\n", rule_names[rule], seed, violation);
        fflush(stdout);
        missing += good && !is_kept_on_argument(rule);
    }
    return missing > 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: perdure-sim [--seeds N] [--seed N] [--from N] [--without RULE] [--trace] [--jobs N]\n"
                    "                   [--mutations] [--no-faults] [--lossy] [--json]\nrules:");
    for (int i = 0; i < RULE_COUNT; i++)
        fprintf(stderr, " %s", rule_names[i]);
    fprintf(stderr, "\n");
    return 2;
}

static bool parse(int argc, char **argv, struct request_line *line)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        bool flag = true;
        if (strcmp(argv[i], "--trace") == 0)
            line->trace = true;
        else if (strcmp(argv[i], "--json") == 0)
            line->json = true;
        else if (strcmp(argv[i], "--mutations") == 0)
            line->mutations = true;
        else if (strcmp(argv[i], "--no-faults") == 0)
            line->no_faults = true;
        else if (strcmp(argv[i], "--lossy") == 0)
            line->lossy = true;
        else
            flag = false;
        if (flag)
            continue;
        if (!value)
            return false;
        i++;
        if (strcmp(argv[i - 1], "--seeds") == 0) {
            line->seeds = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--seed") == 0) {
            line->from = strtoull(value, NULL, 10);
            line->seeds = 1;
            line->processes = 1;
            line->one = true;
        } else if (strcmp(argv[i - 1], "--from") == 0) {
            line->from = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--jobs") == 0) {
            line->processes = atoi(value);
        } else if (strcmp(argv[i - 1], "--without") == 0) {
            for (int r = 0; r < RULE_COUNT; r++)
                if (strcmp(value, rule_names[r]) == 0)
                    line->without = r;
            if (line->without == RULE_NONE)
                return false;
        } else {
            return false;
        }
    }
    return line->processes >= 1 && line->processes <= PROCESSES_MAX;
}

int main(int argc, char **argv)
{
    struct request_line line = { .processes = 2, .without = RULE_NONE };
    if (!parse(argc, argv, &line))
        return usage();
    if (line.seeds == 0)
        line.seeds = line.mutations || line.without != RULE_NONE ? 4000 : 1000;
    return line.mutations ? run_mutations(line) : run_plain(&line);
}
