/*
 * Where the figures were measured.
 */
#include <dirent.h>
#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench.h"

static void cpu_model(char *model, size_t size)
{
    char line[512];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(model, size, "unknown");
    while (file && fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && value) {
            value[strcspn(value, "\n")] = '\0';
            snprintf(model, size, "%s", value + 2);
            break;
        }
    }
    if (file)
        fclose(file);
}

static const char *file_system(const char *path)
{
    static char number[32];
    struct statfs info;
    if (statfs(path, &info) != 0)
        return "unknown";
    switch ((unsigned long)info.f_type) {
    case 0xEF53: return "ext4";
    case 0x58465342: return "xfs";
    case 0x9123683E: return "btrfs";
    case 0x01021994: return "tmpfs";
    case 0x794c7630: return "overlayfs";
    case 0x2FC12FC1: return "zfs";
    default:
        snprintf(number, sizeof number, "type 0x%lx", (unsigned long)info.f_type);
        return number;
    }
}

/* The broker has its jars open: kafka_2.13-4.1.1.jar. */
static void broker_version(pid_t pid, char *version, size_t size)
{
    char path[64], target[PATH_MAX];
    snprintf(version, size, "unknown");
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *files = pid ? opendir(path) : NULL;
    for (struct dirent *entry; files && (entry = readdir(files));) {
        ssize_t length = readlinkat(dirfd(files), entry->d_name, target, sizeof target - 1);
        target[length > 0 ? length : 0] = '\0';
        const char *jar = strstr(target, "/kafka_2.13-");
        if (jar) {
            jar += strlen("/kafka_2.13-");
            snprintf(version, size, "Kafka %.*s", (int)strcspn(jar, "j") - 1, jar);
            break;
        }
    }
    if (files)
        closedir(files);
}

char *bench_environment(const struct bench *bench)
{
    char model[128], broker[64];
    struct utsname kernel;
    uname(&kernel);
    cpu_model(model, sizeof model);
    broker_version(bench->broker, broker, sizeof broker);
    json_t *object = json_pack("{s:s s:s s:i s:s s:s s:s s:s}", "backend", bench->kafka ? "kafka" : "sqlite", "cpu", model,
                               "cores", (int)sysconf(_SC_NPROCESSORS_ONLN), "kernel", kernel.release, "librdkafka",
                               rd_kafka_version_str(), "sqlite", sqlite3_libversion(), "perdure", pdr_version());
    if (bench->kafka) {
        json_object_set_new(object, "broker", json_string(broker));
        json_object_set_new(object, "partitions", json_integer((json_int_t)bench->partitions));
    } else {
        json_object_set_new(object, "file_system", json_string(file_system(bench->directory)));
    }
    char *text = json_dumps(object, 0);
    json_decref(object);
    return text;
}

/* ---- the broker's process, if it is on this machine ----------------------------------------------------------------- */

/* The inode of the socket that listens on `port`; 0: none. */
static unsigned long listener(const char *table, unsigned port)
{
    char line[512];
    FILE *file = fopen(table, "r");
    unsigned long inode = 0;
    while (file && !inode && fgets(line, sizeof line, file)) {
        unsigned here, state;
        unsigned long found;
        if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %lu", &here, &state, &found) == 3 &&
            here == port && state == 0x0A)
            inode = found;
    }
    if (file)
        fclose(file);
    return inode;
}

static bool process_has(const char *pid, const char *wanted)
{
    char path[64], target[128];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *files = opendir(path);
    for (struct dirent *entry; files && !found && (entry = readdir(files));) {
        ssize_t length = readlinkat(dirfd(files), entry->d_name, target, sizeof target - 1);
        target[length > 0 ? length : 0] = '\0';
        found = strcmp(target, wanted) == 0;
    }
    if (files)
        closedir(files);
    return found;
}

pid_t bench_find_broker(const char *brokers)
{
    const char *colon = strchr(brokers, ':');
    unsigned port = colon ? (unsigned)atoi(colon + 1) : 9092;
    unsigned long inode = listener("/proc/net/tcp6", port);
    if (!inode)
        inode = listener("/proc/net/tcp", port);
    if (!inode)
        return 0;
    char wanted[64];
    pid_t pid = 0;
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    DIR *processes = opendir("/proc");
    for (struct dirent *entry; processes && !pid && (entry = readdir(processes));)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && process_has(entry->d_name, wanted))
            pid = (pid_t)atoi(entry->d_name);
    if (processes)
        closedir(processes);
    return pid;
}
