/* The frame around a record: `PDR`, version, CRC32C of the rest, one perdure.v1.Record. */
#include <isa-l/crc.h>
#include <string.h>

#include "verify.h"

enum { HEAD = 8 };

static uint32_t little32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* CRC32C begins with all ones and is inverted at the end; crc32_iscsi leaves both to its caller. */
static uint32_t crc32c(const uint8_t *data, size_t size)
{
    return ~crc32_iscsi((unsigned char *)(uintptr_t)data, (int)size, ~0u);
}

enum frame pv_frame_open(const uint8_t *data, size_t size, record_pb **record)
{
    *record = NULL;
    if (size < HEAD || memcmp(data, "PDR", 3) != 0)
        return FRAME_SHORT;
    if (data[3] > FORMAT)
        return FRAME_FORMAT;
    if (data[3] != FORMAT || size > RECORD_MOST || crc32c(data + HEAD, size - HEAD) != little32(data + 4))
        return FRAME_SUM; /* rule 33 */
    if (pv_too_deep(&perdure__v1__record__descriptor, data + HEAD, size - HEAD))
        return FRAME_RECORD;
    record_pb *r = perdure__v1__record__unpack(NULL, size - HEAD, data + HEAD);
    if (!r)
        return FRAME_RECORD;
    if (!r->header) {
        perdure__v1__record__free_unpacked(r, NULL);
        return FRAME_RECORD;
    }
    *record = r;
    return FRAME_GOOD;
}

const char *pv_frame_text(enum frame frame)
{
    switch (frame) {
    case FRAME_GOOD:
        return "a good frame";
    case FRAME_SHORT:
        return "not a record of Perdure: the frame does not begin with PDR";
    case FRAME_FORMAT:
        return "a frame of a format version that this checker does not know";
    case FRAME_SUM:
        return "the checksum (CRC32C) of the record is wrong";
    case FRAME_RECORD:
        break;
    }
    return "the record cannot be decoded";
}
