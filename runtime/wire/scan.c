/*
 * A look at encoded protobuf before it is unpacked.
 */
#include "wire/scan.h"

static bool scan_varint(struct scan *scan, uint64_t *value)
{
    uint64_t result = 0;
    for (unsigned shift = 0; shift < 64 && scan->at < scan->end; shift += 7) {
        uint8_t byte = *scan->at++;
        result |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = result;
            return true;
        }
    }
    scan->bad = true;
    return false;
}

static bool scan_skip(struct scan *scan, uint64_t size)
{
    if (size > (uint64_t)(scan->end - scan->at)) {
        scan->bad = true;
        return false;
    }
    scan->at += size;
    return true;
}

bool scan_next(struct scan *scan, struct scan_field *field)
{
    uint64_t tag, value;
    if (scan->at >= scan->end || !scan_varint(scan, &tag))
        return false;
    field->number = (uint32_t)(tag >> 3);
    field->wire_type = (uint32_t)(tag & 7);
    if (tag >> 3 == 0 || tag >> 32 != 0) {
        scan->bad = true;
        return false;
    }
    switch (field->wire_type) {
    case 0:
        return scan_varint(scan, &value);
    case 1:
        return scan_skip(scan, 8);
    case SCAN_LENGTH_DELIMITED:
        if (!scan_varint(scan, &value))
            return false;
        field->data = scan->at;
        field->size = (size_t)value;
        return scan_skip(scan, value);
    case 5:
        return scan_skip(scan, 4);
    default: /* groups do not exist in proto3 */
        scan->bad = true;
        return false;
    }
}

bool scan_is_shallow(const ProtobufCMessageDescriptor *type, const void *data, size_t size, unsigned causes)
{
    struct scan scan = scan_begin(data, size);
    struct scan_field field;
    while (scan_next(&scan, &field)) {
        if (field.wire_type != SCAN_LENGTH_DELIMITED)
            continue;
        const ProtobufCFieldDescriptor *known = protobuf_c_message_descriptor_get_field(type, field.number);
        if (known == NULL || known->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        unsigned left = causes;
        if (type == &perdure__v1__error__descriptor && known->descriptor == type) {
            if (left == 0)
                return false;
            left--;
        }
        if (!scan_is_shallow(known->descriptor, field.data, field.size, left))
            return false;
    }
    return !scan.bad;
}
