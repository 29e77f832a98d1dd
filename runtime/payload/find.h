/* Names inside a Schema, and the numbers that its fields use. */
#ifndef PERDURE_PAYLOAD_FIND_H
#define PERDURE_PAYLOAD_FIND_H

#include "wire/wire.h"

typedef Perdure__V1__MessageSchema MessageSchema;
typedef Perdure__V1__FieldSchema FieldSchema;
typedef Perdure__V1__EnumSchema EnumSchema;
typedef Perdure__V1__EnumValue EnumValue;

/* FieldDescriptorProto.Type */
enum field_type {
    FIELD_DOUBLE = 1,
    FIELD_FLOAT = 2,
    FIELD_INT64 = 3,
    FIELD_UINT64 = 4,
    FIELD_INT32 = 5,
    FIELD_FIXED64 = 6,
    FIELD_FIXED32 = 7,
    FIELD_BOOL = 8,
    FIELD_STRING = 9,
    FIELD_MESSAGE = 11,
    FIELD_BYTES = 12,
    FIELD_UINT32 = 13,
    FIELD_ENUM = 14,
    FIELD_SFIXED32 = 15,
    FIELD_SFIXED64 = 16,
    FIELD_SINT32 = 17,
    FIELD_SINT64 = 18,
};

/* FieldSchema.label; implicit: a proto3 field whose zero is not on the wire. */
enum field_label { LABEL_IMPLICIT = 0, LABEL_OPTIONAL = 1, LABEL_REQUIRED = 2, LABEL_REPEATED = 3 };

enum wire_type { WIRE_VARINT = 0, WIRE_64BIT = 1, WIRE_BYTES = 2, WIRE_32BIT = 5 };

const MessageSchema *schema_message(const Schema *schema, const char *name); /* NULL: none */
const EnumSchema *schema_enum(const Schema *schema, const char *name);
enum wire_type schema_wire_type(uint32_t field_type);

/* Messages nested deeper are refused on the way in and shown as bytes on the way out. */
#define SCHEMA_DEPTH_LIMIT 64

/* Built-in types go by their plain name or by that of their C type. */
enum builtin { BUILTIN_NOT, BUILTIN_NONE, BUILTIN_TEXT, BUILTIN_JSON, BUILTIN_BYTES };
enum builtin schema_builtin(const char *type);

#endif
