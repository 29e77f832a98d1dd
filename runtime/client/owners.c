/*
 * Who owns which partition, as the journals tell it: the newest claim, and what its owner wrote last (rules 1 and 4).
 */
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

#define OWNERS_TAIL_RECORDS 16 /* what an owner that was fenced still had under way may stand behind the claim */
#define OWNERS_TIMEOUT_MS INT64_C(60000)

struct owner_reader {
    struct client_reader reader;
    struct owner *owner;
    int64_t claim, wanted; /* `wanted`: only the record there; -1: the tail */
    bool released;
};

static void owner_take_claim(struct owner_reader *found, const struct log_record *record, const Record *decoded)
{
    struct owner *owner = found->owner;
    if (record->offset < found->claim)
        return;
    if (record->offset > found->claim)
        found->released = false;
    found->claim = record->offset;
    owner->since = record->append_ms;
    free(owner->worker);
    free(owner->version);
    owner->worker = strdup(decoded->claim->worker);
    owner->version = strdup(decoded->claim->version);
}

static void owner_take_other(struct owner_reader *found, const struct log_record *record, const Record *decoded)
{
    const Header *header = decoded->header;
    const Position *in_pos = decoded->mark && decoded->mark->in_pos ? decoded->mark->in_pos : header->in_pos;
    if (header->claim < found->claim || header->claim <= 0) /* fenced; under no epoch */
        return;
    found->claim = header->claim;
    found->released = header->kind == PERDURE__V1__KIND__KIND_RELEASE;
    found->owner->last = record->append_ms;
    if (in_pos && in_pos->offset > found->owner->inbox_done)
        found->owner->inbox_done = in_pos->offset;
}

static void owner_read_record(void *context, const struct log_record *record)
{
    struct owner_reader *found = context;
    Record *decoded = NULL;
    if (found->wanted >= 0)
        found->reader.done = true;
    if ((found->wanted >= 0 && record->offset != found->wanted) || record_decode(record->data, record->size, &decoded) != WIRE_OK)
        return;
    if (decoded->header->kind == PERDURE__V1__KIND__KIND_CLAIM && decoded->claim)
        owner_take_claim(found, record, decoded);
    else if (found->wanted < 0)
        owner_take_other(found, record, decoded);
    record_free(decoded);
}

static int owner_read(struct client *client, struct owner_reader *found, int64_t from)
{
    found->reader = (struct client_reader){
        .stream = LOG_JOURNAL, .partition = found->owner->partition, .record = owner_read_record, .context = found,
    };
    return client_read(client, &found->reader, from, OWNERS_TIMEOUT_MS);
}

static int owner_find(struct client *client, struct owner *owner)
{
    struct log *log = client->log;
    struct owner_reader found = { .owner = owner, .claim = -1, .wanted = -1 };
    if (log->operations->bounds(log, LOG_JOURNAL, owner->partition, &owner->journal_start, &owner->journal_end) != LOG_OK ||
        log->operations->bounds(log, LOG_INBOX, owner->partition, &owner->inbox_start, &owner->inbox_end) != LOG_OK)
        return client_log_failed(client);
    owner->inbox_done = owner->inbox_start;
    if (owner->journal_end <= owner->journal_start)
        return EXIT_OK;
    int64_t tail = owner->journal_end - OWNERS_TAIL_RECORDS;
    int code = owner_read(client, &found, tail > owner->journal_start ? tail : owner->journal_start);
    if (code == EXIT_OK && !owner->worker && found.claim >= owner->journal_start) {
        found.wanted = found.claim;
        code = owner_read(client, &found, found.claim);
    }
    if (!owner->last)
        owner->last = owner->since;
    owner->owned = code == EXIT_OK && owner->worker && !found.released;
    return code;
}

int client_owners(struct client *client, bool (*visit)(void *context, const struct owner *owner), void *context)
{
    bool more = true;
    int code = EXIT_OK;
    for (uint32_t p = 0; p < client->log->genesis.partitions && more && code == EXIT_OK; p++) {
        struct owner owner = { .partition = p };
        code = owner_find(client, &owner);
        if (code == EXIT_OK)
            more = visit(context, &owner);
        free(owner.worker);
        free(owner.version);
    }
    return code;
}
