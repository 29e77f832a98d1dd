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
typedef Perdure__V1__CopyOf CopyOf;
typedef Perdure__V1__Stub Stub;
typedef Perdure__V1__SlotOut SlotOut;
typedef Perdure__V1__SlotShare SlotShare;
typedef Perdure__V1__SlotIn SlotIn;
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
typedef Perdure__V1__StoredCrashes StoredCrashes;
typedef Perdure__V1__CrashCount CrashCount;

/* ---- memory --------------------------------------------------------------------------------- */

/*
 * Memory that is given back all at once: for replay, which decodes many events and drops them together. Not for two
 * threads at a time. wire_arena_reset() keeps the memory for the next use, wire_arena_release() frees it.
 */
struct wire_chunk;
struct wire_arena {
    struct wire_chunk *first;
    struct wire_chunk *current;
    size_t used;        /* bytes of `current` */
    size_t chunk_bytes; /* size of the next chunk; doubles */
    bool failed;        /* an allocation failed since init or reset */
};
void wire_arena_init(struct wire_arena *arena, size_t chunk_bytes); /* 0: a default; allocates nothing yet */
void *wire_arena_alloc(struct wire_arena *arena, size_t size);      /* aligned to 8; NULL: no memory */
void wire_arena_reset(struct wire_arena *arena);
void wire_arena_release(struct wire_arena *arena);

/* ---- framing ------------------------------------------------------------------------------- */

#define FRAME_BYTES 8 /* "PDR", format byte 1, CRC32C of what follows (little endian) */
/* Nothing larger is decoded. Far above RECORD_LIMIT_BYTES: an oversized command must be read to be refused (rule 12). */
#define WIRE_SIZE_LIMIT_BYTES (4 * 1024 * 1024)
/* An error has at most so many causes below it. Deeper ones are cut by error_copy() and not decoded. */
#define ERROR_CAUSES_LIMIT 8

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

/*
 * Decodes; `*out` is freed by record_free(), NULL after an error. Nothing is inferred from where the record stands.
 * Beside what enum wire_error says, WIRE_CORRUPT is: a record without its header or without the message of its kind;
 * another number of events than `count`, none, or seq 0; digests or a live hash that are not 16 bytes; a job id that is
 * no job id; a string with a NUL; a message, string or oneof set twice. Unknown kinds and fields pass: what to do with them is the judge's business (rule 32).
 */
enum wire_error record_decode(const void *data, size_t size, Record **out);
/* The same, and one sentence about what is wrong: static text, "" when nothing is. `why` may be NULL. */
enum wire_error record_decode_why(const void *data, size_t size, Record **out, const char **why);
/* For what record_decode() made, and for nothing else: all of it is one allocation, so take nothing out of it and hang
 * nothing malloc'ed into it; payload_copy() and error_copy() copy what must live longer. */
void record_free(Record *record);
/* Into an arena: never freed by itself. */
enum wire_error record_decode_in(struct wire_arena *arena, const void *data, size_t size, Record **out,
                                 const char **why);

/*
 * Events inside a record. event_decode() uses malloc for every part, so event_free() frees both its events and those
 * built by hand: struct, strings, bytes, sub-messages each malloc'ed, and strings that are not set left as
 * perdure__v1__..._init() made them (a literal there is not allowed). An unknown kind is no error here:
 * `kind_case` is PERDURE__V1__EVENT__KIND__NOT_SET (rule 32).
 */
Event *event_decode(const void *data, size_t size); /* NULL: not an Event, or no memory */
void event_free(Event *event);
/* Into an arena: never event_free()d. */
Event *event_decode_in(struct wire_arena *arena, const void *data, size_t size);
/* Any message that others wrote. Unlike protobuf-c's own unpack it does not recurse deeper than ERROR_CAUSES_LIMIT. Made
 * with malloc: ends with the message's free_unpacked(). NULL: no such message, or no memory. */
ProtobufCMessage *wire_decode(const ProtobufCMessageDescriptor *type, const void *data, size_t size);
/* The same. Free with status_free(), reply_free(). */
Status *status_decode(const void *data, size_t size);
Reply *reply_decode(const void *data, size_t size);
const char *event_kind_name(const Event *event); /* "started", "step_completed" ...; "unknown" */
/* StepDispatched.reason. */
#define DISPATCH_ROOM "room"         /* it was held back */
#define DISPATCH_RETRY "retry"
#define DISPATCH_DECLINED "declined"
#define DISPATCH_LOST "lost"         /* nobody began it */
#define DISPATCH_LATER "later"       /* its function said PDR_LATER: no task */
/* When the attempt that a StepDispatched hands out went, or is to go, to its worker. */
int64_t event_dispatched_ms(const Event *event);
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
digest live_hash_of(const char *job, uint64_t run, uint64_t seq, digest last);
void live_hash_add(digest *sum, digest term);      /* 128-bit little-endian addition */
void live_hash_subtract(digest *sum, digest term);

uint64_t hash64(const void *data, size_t size); /* XXH3-64, for whole records and hash tables */

/* ---- identity ------------------------------------------------------------------------------- */

/* Rule 6: XXH3-64 over length-prefixed log id, job id, request id; never 0. */
uint64_t run_id_of(uint64_t log_id, const char *job, const char *request);
/* Kafka's murmur2, so that its default partitioners find a job (rule 24). */
uint32_t murmur2(const void *data, size_t size);
uint32_t slot_of(const char *job);
/* By a slot map of so many partitions (rule 24). */
uint32_t partition_of(const char *job, uint32_t partitions);
bool utf8_valid(const char *text, size_t size);
void utf8_repair(char *text); /* in place: a '?' for each byte that is none; what protobuf calls a string must be UTF-8 */
/* 1 to `limit` bytes of UTF-8 without NUL and other control characters. */
bool name_valid(const char *name, size_t size, size_t limit);
/* 1 to JOB_ID_LIMIT_BYTES bytes of UTF-8 without NUL and other control characters. */
bool job_id_valid(const char *job, size_t size);
/* Standard CRC32C: "123456789" gives 0xE3069283. */
uint32_t crc32c(const void *data, size_t size);

/* ---- copies, and the end of messages made with malloc --------------------------------------- */

/* Deep copies; NULL: no memory, or nothing to copy. Unknown fields are not copied. */
Payload *payload_copy(const Payload *payload);
Error *error_copy(const Error *error); /* cuts what is below ERROR_CAUSES_LIMIT */
Event *event_copy(const Event *event); /* as event_decode() makes them; those below too */
Waiting *waiting_copy(const Waiting *waiting);
Status *status_copy(const Status *status);
Reply *reply_copy(const Reply *reply);
/* A string of a message that is built by hand: a malloc'ed copy, or protobuf-c's own empty string, which is never freed,
 * for NULL and "". False: no memory, `*out` is the empty string. */
bool wire_string(char **out, const char *text);

/* All accept NULL. The same conditions as for event_free(). */
void payload_free(Payload *payload);
void error_free(Error *error);
void status_free(Status *status);
void reply_free(Reply *reply);
void registration_free(Registration *registration);
void schema_free(Schema *schema);
void stored_partition_free(StoredPartition *row);
void stored_run_free(StoredRun *run);
void stored_output_free(StoredOutput *output);

#endif
