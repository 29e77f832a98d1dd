/*
 * What `manifest` does to the world: lists a tree, hashes a file, writes the list.
 */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "files.h"
#include "ledger.h"

/* A result has to fit into the log, and so has the manifest that is made of it: a line takes its name, a checksum and a
 * few bytes around them. */
#define LISTING_LIMIT_BYTES 900000
#define LINE_OVERHEAD_BYTES 48

static int failed(pdr_attempt *attempt, const char *what, const char *name)
{
    return pdr_attempt_fail(attempt, "Files", "cannot %s %s: %s", what, name, strerror(errno));
}

/* ---- list_files ------------------------------------------------------------------------------------------------ */

struct names {
    ProtobufCBinaryData *names;
    size_t count, capacity, bytes;
};

static int add_name(pdr_attempt *attempt, struct names *list, const char *name)
{
    list->bytes += strlen(name) + LINE_OVERHEAD_BYTES;
    if (list->bytes > LISTING_LIMIT_BYTES)
        return pdr_attempt_give_up(attempt, "TooManyFiles",
                                   "more than %zu files: their names do not fit into one record of the log; "
                                   "make a manifest of each subdirectory", list->count);
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 1024;
        ProtobufCBinaryData *grown = pdr_attempt_alloc(attempt, capacity * sizeof(*grown));
        if (grown == NULL)
            return PDR_NO_MEMORY;
        if (list->count > 0)
            memcpy(grown, list->names, list->count * sizeof(*grown));
        list->names = grown;
        list->capacity = capacity;
    }
    char *copy = pdr_attempt_format(attempt, "%s", name);
    list->names[list->count++] = (ProtobufCBinaryData){ strlen(name), (uint8_t *)copy };
    return copy != NULL ? PDR_OK : PDR_NO_MEMORY;
}

static int by_bytes(const void *a, const void *b) /* as LC_ALL=C sort */
{
    const ProtobufCBinaryData *left = a, *right = b;
    return strcmp((const char *)left->data, (const char *)right->data);
}

static int walk(pdr_attempt *attempt, FTS *tree, size_t prefix, struct names *list)
{
    for (FTSENT *entry; (entry = fts_read(tree)) != NULL;) {
        if (entry->fts_info == FTS_ERR || entry->fts_info == FTS_DNR || entry->fts_info == FTS_NS) {
            errno = entry->fts_errno;
            return failed(attempt, "list", entry->fts_path);
        }
        if (entry->fts_info == FTS_F)
            PDR_TRY(add_name(attempt, list, entry->fts_path + prefix));
    }
    return errno == 0 ? PDR_OK : failed(attempt, "list", tree->fts_path);
}

int list_files(pdr_attempt *attempt, const Request *request, Listing *listing)
{
    char *root = pdr_attempt_format(attempt, "%s/.", request->directory);
    char *roots[] = { root, NULL };
    struct names list = { 0 };
    if (root == NULL)
        return PDR_NO_MEMORY;
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (tree == NULL)
        return failed(attempt, "list", request->directory);
    int code = walk(attempt, tree, strlen(root) + 1, &list);
    fts_close(tree);
    PDR_TRY(code);
    if (list.count > 0)
        qsort(list.names, list.count, sizeof(*list.names), by_bytes);
    listing->names = list.names;
    listing->n_names = list.count;
    return PDR_OK;
}

/* ---- hash_file ------------------------------------------------------------------------------------------------- */

static int hash_descriptor(int descriptor, EVP_MD_CTX *context, unsigned char *digest, uint64_t *bytes)
{
    unsigned char buffer[64 * 1024];
    ssize_t got;
    if (EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
        return -1;
    while ((got = read(descriptor, buffer, sizeof(buffer))) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 || EVP_DigestUpdate(context, buffer, (size_t)got) != 1)
            return -1;
        *bytes += (uint64_t)got;
    }
    return EVP_DigestFinal_ex(context, digest, NULL) == 1 ? 0 : -1;
}

int hash_file(pdr_attempt *attempt, const File *file, Hash *hash)
{
    char *path = pdr_attempt_format(attempt, "%s/%.*s", file->directory, (int)file->name.len, file->name.data);
    unsigned char *digest = pdr_attempt_alloc(attempt, EVP_MAX_MD_SIZE);
    if (path == NULL || digest == NULL)
        return PDR_NO_MEMORY;
    if (ledger_note(pdr_attempt_key(attempt), path) != 0)
        return failed(attempt, "write the ledger for", path);

    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return failed(attempt, "open", path);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int result = context != NULL ? hash_descriptor(descriptor, context, digest, &hash->bytes) : -1;
    EVP_MD_CTX_free(context);
    close(descriptor);
    if (result != 0)
        return failed(attempt, "read", path);
    hash->sha256 = (ProtobufCBinaryData){ 32, digest };
    return PDR_OK;
}

/* ---- write_manifest -------------------------------------------------------------------------------------------- */

/* A line as sha256sum writes it: with a name that has a backslash, newline or carriage return in it, the line begins
 * with a backslash and these are escaped. */
static void print_line(FILE *out, const Line *line)
{
    bool escape = false;
    for (size_t i = 0; i < line->name.len; i++)
        escape = escape || strchr("\\\n\r", line->name.data[i]) != NULL;
    if (escape)
        fputc('\\', out);
    for (size_t i = 0; i < line->sha256.len; i++)
        fprintf(out, "%02x", line->sha256.data[i]);
    fputs("  ", out);
    for (size_t i = 0; i < line->name.len; i++) {
        int byte = line->name.data[i];
        if (byte == '\\' || byte == '\n' || byte == '\r')
            fprintf(out, "\\%c", byte == '\n' ? 'n' : byte == '\r' ? 'r' : '\\');
        else
            fputc(byte, out);
    }
    fputc('\n', out);
}

/* Of no files at all, sha256sum reads its empty standard input, and says so. */
static void print_nothing(FILE *out)
{
    fputs("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  -\n", out);
}

static int print_manifest(const Manifest *manifest, const char *path)
{
    FILE *out = fopen(path, "we");
    if (out == NULL)
        return -1;
    for (size_t i = 0; i < manifest->n_lines; i++)
        print_line(out, manifest->lines[i]);
    if (manifest->n_lines == 0)
        print_nothing(out);
    int result = fflush(out) == 0 && !ferror(out) && fsync(fileno(out)) == 0 ? 0 : -1;
    return fclose(out) == 0 ? result : -1;
}

static int sync_directory_of(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        slash[slash == path] = '\0';
    int descriptor = open(slash != NULL ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = descriptor >= 0 ? fsync(descriptor) : -1;
    if (descriptor >= 0)
        close(descriptor);
    return result;
}

/* Beside it first, then in its place: a reader sees the old manifest or the new one, never a part. */
int write_manifest(pdr_attempt *attempt, const Manifest *manifest, pdr_none *out)
{
    (void)out;
    const char *output = manifest->output;
    char *beside = pdr_attempt_format(attempt, "%s.%s.%d", output, pdr_attempt_key(attempt), (int)getpid());
    char *path = pdr_attempt_format(attempt, "%s", output);
    if (beside == NULL || path == NULL)
        return PDR_NO_MEMORY;
    if (print_manifest(manifest, beside) != 0 || rename(beside, output) != 0 || sync_directory_of(path) != 0) {
        int code = failed(attempt, "write", output);
        unlink(beside);
        return code;
    }
    return PDR_OK;
}

PDR_MODULE(files, PDR_RUNS(manifest), PDR_RUNS(list_files), PDR_RUNS(hash_file), PDR_RUNS(write_manifest));
