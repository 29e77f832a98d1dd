/* What json_read.c (JSON to the wire) and json_write.c (the wire to JSON) share. */
#ifndef PERDURE_PAYLOAD_JSON_H
#define PERDURE_PAYLOAD_JSON_H

#include "payload/buffer.h"
#include "payload/find.h"

/* "unit_price" to "unitPrice", the name that protobuf's JSON mapping gives a field. False: it does not fit. */
bool json_camel_name(const char *name, char *camel, size_t size);

#endif
