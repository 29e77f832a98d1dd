/*
 * A look at encoded protobuf before it is unpacked: what protobuf-c does not judge, or judges too late.
 */
#ifndef PERDURE_WIRE_SCAN_H
#define PERDURE_WIRE_SCAN_H

#include "wire/wire.h"

#define SCAN_LENGTH_DELIMITED 2

struct scan {
    const uint8_t *at;
    const uint8_t *end;
    bool bad; /* the bytes are no protobuf */
};

struct scan_field {
    uint32_t number;
    uint32_t wire_type;
    const uint8_t *data; /* of length-delimited fields */
    size_t size;
};

static inline struct scan scan_begin(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    return (struct scan){.at = bytes, .end = size > 0 ? bytes + size : bytes};
}

/* False: the end, or scan->bad. */
bool scan_next(struct scan *scan, struct scan_field *field);
/* No error in a message of `type` has more than `causes` causes below it. protobuf-c recurses on them: a hostile record
 * of 1 MB would nest them deeper than any stack. */
bool scan_is_shallow(const ProtobufCMessageDescriptor *type, const void *data, size_t size, unsigned causes);

#endif
