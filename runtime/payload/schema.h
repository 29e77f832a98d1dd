/*
 * Messages described by data: a Schema (proto/perdure/v1/status.proto) is made from what protobuf-c carries in a
 * module, kept in the log by workers, and turns payloads into JSON and back for programs that lack the module.
 */
#ifndef PERDURE_SCHEMA_H
#define PERDURE_SCHEMA_H

#include <perdure/perdure.h>

#include "wire/wire.h"

/* Adds the message behind `type` and all that it refers to; built-in types add nothing. PDR_OK or PDR_NO_MEMORY. */
int schema_add(Schema *schema, const pdr_type *type);

/*
 * JSON to the encoding of `type`: a message of `schema` ("shop.Order"), or "text" (a JSON string), "json" (any value),
 * "bytes" (a base64 string), "none" (null, or nothing). Follows protobuf's JSON mapping: field names as in the .proto or
 * in lowerCamelCase, 64-bit integers as strings or numbers, enums by name, bytes in base64. Unknown fields, wrong types,
 * numbers out of range are errors that name the field by its path ("order.lines[2].cents: expected a whole number").
 * `*data` is malloc'ed. PDR_OK, PDR_FAILED (with `error`), PDR_NO_MEMORY.
 */
int json_to_payload(const Schema *schema, const char *type, const char *json, void **data, size_t *size, char *error,
                    size_t error_size);

/* The other way, on one line; malloc'ed. What cannot be read with the schema is shown as {"base64": "..."} rather than
 * refused: a tool that shows must not drop. NULL: out of memory. */
char *payload_to_json(const Schema *schema, const Payload *payload);

#endif
