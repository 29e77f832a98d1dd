#include "history_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perdure/v1/export.pb-c.h"

typedef Perdure__V1__Export Export;
typedef Perdure__V1__ExportedRecord ExportedRecord;

#define FILE_MAGIC "PDRHIST1"
#define FILE_MAGIC_BYTES 8
#define FILE_HEAD_BYTES (FILE_MAGIC_BYTES + 4)
#define FILE_FORMAT 1
#define FILE_LIMIT ((size_t)1 << 30)

/* ---- writing ---------------------------------------------------------------------------------- */

/* "kafka://user:secret@host/ns" without what stands before the @. */
static void file_hide_user(const char *uri, char *out, size_t size)
{
    const char *slashes = strstr(uri, "//");
    const char *at = slashes ? strrchr(slashes, '@') : NULL;
    const char *options = strchr(uri, '?'); /* may hold passwords too */
    int length = options ? (int)(options - uri) : (int)strlen(uri);
    if (at && at < uri + length)
        snprintf(out, size, "%.*s%.*s", (int)(slashes + 2 - uri), uri, (int)(uri + length - at - 1), at + 1);
    else
        snprintf(out, size, "%.*s", length, uri);
}

static bool file_is_module_of(const char *module, const char *job_type)
{
    size_t length = strlen(module);
    return strncmp(job_type, module, length) == 0 && job_type[length] == '/';
}

static void *file_pack(Export *export, size_t *size)
{
    size_t packed = perdure__v1__export__get_packed_size(export);
    uint8_t *data = packed < FILE_LIMIT ? malloc(FILE_HEAD_BYTES + packed) : NULL;
    if (!data)
        return NULL;
    perdure__v1__export__pack(export, data + FILE_HEAD_BYTES);
    uint32_t crc = crc32c(data + FILE_HEAD_BYTES, packed);
    memcpy(data, FILE_MAGIC, FILE_MAGIC_BYTES);
    for (int i = 0; i < 4; i++)
        data[FILE_MAGIC_BYTES + i] = (uint8_t)(crc >> (8 * i));
    *size = FILE_HEAD_BYTES + packed;
    return data;
}

void *history_file_write(const struct history *history, const struct registrations *registrations, const char *source,
                         size_t *size)
{
    Export export = PERDURE__V1__EXPORT__INIT;
    Genesis genesis = history->genesis;
    char shown[500];
    const char *type = history->records[0].record->header->type;
    ExportedRecord *records = calloc(history->count, sizeof *records);
    ExportedRecord **list = calloc(history->count, sizeof *list);
    Registration **kept = calloc(registrations->count + 1, sizeof *kept);
    void *data = NULL;
    if (records && list && kept) {
        for (size_t i = 0; i < history->count; i++) {
            perdure__v1__exported_record__init(&records[i]);
            records[i].offset = history->records[i].offset;
            records[i].append_ms = history->records[i].append_ms;
            records[i].record.data = history->records[i].data;
            records[i].record.len = history->records[i].size;
            list[i] = &records[i];
        }
        for (size_t i = 0; i < registrations->count; i++)
            if (file_is_module_of(registrations->items[i]->module, type))
                kept[export.n_registrations++] = registrations->items[i];
        file_hide_user(source, shown, sizeof shown);
        export.format = FILE_FORMAT;
        export.job = history->job;
        export.run = history->run;
        export.genesis = &genesis;
        export.records = list;
        export.n_records = history->count;
        export.registrations = kept;
        export.exported = client_wall_ms();
        export.version = (char *)pdr_version();
        export.source = shown;
        data = file_pack(&export, size);
    }
    free(records);
    free(list);
    free(kept);
    return data;
}

/* ---- reading ---------------------------------------------------------------------------------- */

bool history_is_whole(const struct history *history, char *error, size_t error_size)
{
    digest expected = digest_of_run(history->run);
    uint64_t seq = 0;
    for (size_t i = 0; i < history->count; i++) {
        const Record *record = history->records[i].record;
        const Header *header = record->header;
        if (!header || strcmp(header->job, history->job) != 0 || header->run != history->run) {
            snprintf(error, error_size, "record %zu is of another job or run", i + 1);
            return false;
        }
        if (header->seq != seq + 1 || !digest_equal(digest_from_bytes(header->prev), expected)) {
            snprintf(error, error_size, "the events after number %" PRIu64 " are missing or changed", seq);
            return false;
        }
        for (size_t j = 0; j < record->n_events; j++) {
            const Event *event = history->records[i].events[j];
            expected = digest_next(expected, record->events[j].data, record->events[j].len);
            if (!event || event->seq != ++seq) {
                snprintf(error, error_size, "event %zu of record %zu cannot be read", j + 1, i + 1);
                return false;
            }
        }
        if (!digest_equal(digest_from_bytes(header->digest), expected)) {
            snprintf(error, error_size, "the events up to number %" PRIu64 " do not have the digest they had", seq);
            return false;
        }
    }
    if (seq == 0)
        snprintf(error, error_size, "there are no events");
    return seq > 0;
}

static int file_take(const Export *export, struct history_file *out, char *error, size_t error_size)
{
    struct history *history = out->history = calloc(1, sizeof *history);
    if (history)
        history->job = strdup(export->job);
    if (!history || !history->job) {
        snprintf(error, error_size, "out of memory");
        return EXIT_UNREACHABLE;
    }
    history->run = export->run;
    if (export->genesis)
        history->genesis = *export->genesis;
    history->genesis.namespace_ = (char *)(uintptr_t)protobuf_c_empty_string;
    for (size_t i = 0; i < export->n_records; i++) {
        const ExportedRecord *record = export->records[i];
        int code = history_add(history, record->offset, record->append_ms, record->record.data, record->record.len, error,
                               error_size);
        if (code != EXIT_OK)
            return code;
    }
    return history_is_whole(history, error, error_size) ? EXIT_OK : EXIT_USAGE;
}

int history_file_read(const void *data, size_t size, struct history_file *out, char *error, size_t error_size)
{
    const uint8_t *bytes = data;
    *out = (struct history_file){0};
    if (size < FILE_HEAD_BYTES || size > FILE_LIMIT || memcmp(bytes, FILE_MAGIC, FILE_MAGIC_BYTES) != 0) {
        snprintf(error, error_size, "this is no exported history (it would begin with " FILE_MAGIC ")");
        return EXIT_USAGE;
    }
    uint32_t crc = 0;
    for (int i = 0; i < 4; i++)
        crc |= (uint32_t)bytes[FILE_MAGIC_BYTES + i] << (8 * i);
    Export *export = NULL;
    if (crc == crc32c(bytes + FILE_HEAD_BYTES, size - FILE_HEAD_BYTES))
        export = perdure__v1__export__unpack(NULL, size - FILE_HEAD_BYTES, bytes + FILE_HEAD_BYTES);
    if (!export) {
        snprintf(error, error_size, "the file is damaged: its checksum does not hold");
        return EXIT_USAGE;
    }
    int code = EXIT_USAGE;
    if (export->format != FILE_FORMAT)
        snprintf(error, error_size, "it has format %" PRIu32 ", this program reads %d: use a newer one", export->format,
                 FILE_FORMAT);
    else
        code = file_take(export, out, error, error_size);
    if (code == EXIT_OK) { /* moved, not copied */
        out->registrations = (struct registrations){export->n_registrations, export->registrations};
        export->n_registrations = 0;
        export->registrations = NULL;
    } else {
        history_free(out->history);
        out->history = NULL;
    }
    perdure__v1__export__free_unpacked(export, NULL);
    return code;
}

void history_file_free(struct history_file *file)
{
    history_free(file->history);
    registrations_free(&file->registrations);
    *file = (struct history_file){0};
}
