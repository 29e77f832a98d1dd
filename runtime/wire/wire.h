/*
 * Records on the wire: framing, checksum, digests, ids, slots. Pure functions of bytes; docs/format.md is the text.
 */
#ifndef PERDURE_WIRE_H
#define PERDURE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "perdure/v1/command.pb-c.h"
#include "perdure/v1/event.pb-c.h"
#include "perdure/v1/record.pb-c.h"
#include "perdure/v1/status.pb-c.h"
#include "perdure/v1/store.pb-c.h"

/* The generated names, shortened: inside the runtime there is only one version. */
typedef Perdure__V1__Record Record;
typedef Perdure__V1__Header Header;
typedef Perdure__V1__Position Position;
typedef Perdure__V1__InputRef InputRef;
typedef Perdure__V1__Sender Sender;
typedef Perdure__V1__Genesis Genesis;
typedef Perdure__V1__Claim Claim;
typedef Perdure__V1__Mark Mark;
typedef Perdure__V1__Refusal Refusal;
typedef Perdure__V1__Event Event;
typedef Perdure__V1__Site Site;
typedef Perdure__V1__Payload Payload;
typedef Perdure__V1__Error Error;
typedef Perdure__V1__Command Command;
typedef Perdure__V1__ReplyTo ReplyTo;
typedef Perdure__V1__Status Status;
typedef Perdure__V1__Waiting Waiting;
typedef Perdure__V1__Reply Reply;
typedef Perdure__V1__Registration Registration;
typedef Perdure__V1__Schema Schema;
typedef Perdure__V1__StoredPartition StoredPartition;
typedef Perdure__V1__StoredRun StoredRun;
typedef Perdure__V1__StoredOutput StoredOutput;

/* ---- framing ------------------------------------------------------------------------------- */

#define FRAME_BYTES 8 /* "PDR", format byte 1, CRC32C of what follows (little endian) */

enum wire_error {
    WIRE_OK = 0,
    WIRE_NOT_PERDURE,  /* too short, or another magic */
    WIRE_NEWER_FORMAT, /* written by a later version: stop the partition (rule 32) */
    WIRE_CORRUPT,      /* the checksum does not hold, or the bytes are no Record */
    WIRE_NEWER_RULES,  /* min_reader above RULE_LEVEL: stop the partition (rule 32) */
    WIRE_NO_MEMORY,
};
const char *wire_error_text(enum wire_error error);

/* Encodes `record` with its frame into memory of the caller's to free(). NULL: out of memory. */
void *record_encode(const Record *record, size_t *size);

/* Decodes; `*out` is freed by record_free(). Nothing is inferred from where the record stands. */
enum wire_error record_decode(const void *data, size_t size, Record **out);
void record_free(Record *record);

/* Events inside a record. */
Event *event_decode(const void *data, size_t size); /* NULL: not an Event, or no memory */
void event_free(Event *event);
const char *event_kind_name(const Event *event); /* "started", "step_completed" ...; "unknown" */
const char *event_name(const Event *event);      /* step, signal, child type ...; "" where there is none */

/* ---- digests -------------------------------------------------------------------------------- */

typedef struct digest {
    uint8_t bytes[16];
} digest;

/* The chain of a run begins here: run id, little endian, then eight zero bytes (rule 6). */
digest digest_of_run(uint64_t run);
/* XXH3-128 (canonical, big endian) over previous digest, length as u64 little endian, stored event bytes (rule 33). */
digest digest_next(digest previous, const void *event, size_t size);
bool digest_equal(digest a, digest b);
digest digest_from_bytes(ProtobufCBinaryData bytes); /* all zero when it is not 16 bytes long */

/* XXH3-64 over type, NUL, data: what replay compares of a step's input. */
uint64_t payload_digest(const char *type, const void *data, size_t size);

/* Hash of one open run for the live hash of a Mark: XXH3-128 over length-prefixed job, run, seq, digest (rule 9). */
digest live_hash_of(const char *job, uint64_t run, uint64_t seq, digest digest);
void live_hash_add(digest *sum, digest term);      /* 128-bit little-endian addition */
void live_hash_subtract(digest *sum, digest term);

uint64_t hash64(const void *data, size_t size); /* XXH3-64, for whole records and hash tables */

/* ---- identity ------------------------------------------------------------------------------- */

/* Rule 6: XXH3-64 over length-prefixed log id, job id, request id; never 0. */
uint64_t run_id_of(uint64_t log_id, const char *job, const char *request);
/* Kafka's murmur2, so that its default partitioners find a job (rule 24). */
uint32_t murmur2(const void *data, size_t size);
uint32_t slot_of(const char *job);
uint32_t partition_of(const char *job, uint32_t partitions);

#endif
