/*
 * Describing messages by data: from the descriptors that protobuf-c compiled into a module to a Schema.
 */
#include "payload/schema.h"

#include <protobuf-c/protobuf-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "payload/find.h"

/* FieldDescriptorProto.Type of each ProtobufCType. */
static const uint32_t schema_types[] = {
    [PROTOBUF_C_TYPE_INT32] = FIELD_INT32,       [PROTOBUF_C_TYPE_SINT32] = FIELD_SINT32,
    [PROTOBUF_C_TYPE_SFIXED32] = FIELD_SFIXED32, [PROTOBUF_C_TYPE_INT64] = FIELD_INT64,
    [PROTOBUF_C_TYPE_SINT64] = FIELD_SINT64,     [PROTOBUF_C_TYPE_SFIXED64] = FIELD_SFIXED64,
    [PROTOBUF_C_TYPE_UINT32] = FIELD_UINT32,     [PROTOBUF_C_TYPE_FIXED32] = FIELD_FIXED32,
    [PROTOBUF_C_TYPE_UINT64] = FIELD_UINT64,     [PROTOBUF_C_TYPE_FIXED64] = FIELD_FIXED64,
    [PROTOBUF_C_TYPE_FLOAT] = FIELD_FLOAT,       [PROTOBUF_C_TYPE_DOUBLE] = FIELD_DOUBLE,
    [PROTOBUF_C_TYPE_BOOL] = FIELD_BOOL,         [PROTOBUF_C_TYPE_ENUM] = FIELD_ENUM,
    [PROTOBUF_C_TYPE_STRING] = FIELD_STRING,     [PROTOBUF_C_TYPE_BYTES] = FIELD_BYTES,
    [PROTOBUF_C_TYPE_MESSAGE] = FIELD_MESSAGE,
};

static int schema_add_message(Schema *schema, const ProtobufCMessageDescriptor *descriptor);

/* Makes room for one more pointer in a counted array of a protobuf-c message. */
static bool schema_grow(void *array, size_t count)
{
    void *grown = realloc(*(void **)array, (count + 1) * sizeof(void *));
    if (!grown)
        return false;
    *(void **)array = grown;
    return true;
}

static bool schema_add_value(EnumSchema *to, const char *name, int number)
{
    for (size_t i = 0; i < to->n_values; i++)
        if (strcmp(to->values[i]->name, name) == 0)
            return true;
    EnumValue *value = malloc(sizeof *value);
    if (!value)
        return false;
    perdure__v1__enum_value__init(value);
    value->number = number;
    value->name = strdup(name);
    if (!value->name || !schema_grow(&to->values, to->n_values)) {
        free(value->name);
        free(value);
        return false;
    }
    to->values[to->n_values++] = value;
    return true;
}

static int schema_add_enum(Schema *schema, const ProtobufCEnumDescriptor *descriptor)
{
    if (schema_enum(schema, descriptor->name))
        return PDR_OK;
    EnumSchema *added = malloc(sizeof *added);
    if (!added)
        return PDR_NO_MEMORY;
    perdure__v1__enum_schema__init(added);
    added->name = strdup(descriptor->name);
    if (!added->name || !schema_grow(&schema->enums, schema->n_enums)) {
        free(added->name);
        free(added);
        return PDR_NO_MEMORY;
    }
    schema->enums[schema->n_enums++] = added;
    for (unsigned i = 0; i < descriptor->n_values; i++) /* first name of each number: the one that is shown */
        if (descriptor->values[i].name && !schema_add_value(added, descriptor->values[i].name, descriptor->values[i].value))
            return PDR_NO_MEMORY;
    for (unsigned i = 0; i < descriptor->n_value_names && descriptor->values_by_name; i++) { /* aliases */
        const ProtobufCEnumValueIndex *alias = &descriptor->values_by_name[i];
        if (!schema_add_value(added, alias->name, descriptor->values[alias->index].value))
            return PDR_NO_MEMORY;
    }
    return PDR_OK;
}

static uint32_t schema_label(const ProtobufCFieldDescriptor *field)
{
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return LABEL_REPEATED;
    if (field->label == PROTOBUF_C_LABEL_REQUIRED)
        return LABEL_REQUIRED;
    bool present = field->label == PROTOBUF_C_LABEL_OPTIONAL || field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF ||
                   field->type == PROTOBUF_C_TYPE_MESSAGE;
    return present ? LABEL_OPTIONAL : LABEL_IMPLICIT;
}

/* Members of one oneof share the place of their case number in the C struct. */
static uint32_t schema_oneof(const ProtobufCMessageDescriptor *message, unsigned index)
{
    const ProtobufCFieldDescriptor *field = &message->fields[index];
    if (!(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
        return 0;
    unsigned first = 0;
    while (!(message->fields[first].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) ||
           message->fields[first].quantifier_offset != field->quantifier_offset)
        first++;
    return first + 1;
}

static FieldSchema *schema_new_field(const ProtobufCMessageDescriptor *message, unsigned index)
{
    const ProtobufCFieldDescriptor *from = &message->fields[index];
    FieldSchema *field = malloc(sizeof *field);
    if (!field)
        return NULL;
    perdure__v1__field_schema__init(field);
    field->number = from->id;
    field->label = schema_label(from);
    field->type = schema_types[from->type];
    field->packed = from->label == PROTOBUF_C_LABEL_REPEATED && from->flags & PROTOBUF_C_FIELD_FLAG_PACKED;
    field->oneof = schema_oneof(message, index);
    if (from->name) {
        field->name = strdup(from->name);
    } else if (asprintf(&field->name, "field_%u", from->id) < 0) { /* the .proto asked for code without names */
        field->name = NULL;
    }
    const char *type_name = NULL;
    if (from->type == PROTOBUF_C_TYPE_MESSAGE)
        type_name = ((const ProtobufCMessageDescriptor *)from->descriptor)->name;
    else if (from->type == PROTOBUF_C_TYPE_ENUM)
        type_name = ((const ProtobufCEnumDescriptor *)from->descriptor)->name;
    if (type_name)
        field->type_name = strdup(type_name);
    if (!field->name || !field->type_name) {
        free(field->name);
        if (type_name)
            free(field->type_name);
        free(field);
        return NULL;
    }
    return field;
}

static int schema_add_fields(Schema *schema, MessageSchema *added, const ProtobufCMessageDescriptor *descriptor)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        if (!schema_grow(&added->fields, added->n_fields))
            return PDR_NO_MEMORY;
        FieldSchema *field = schema_new_field(descriptor, i);
        if (!field)
            return PDR_NO_MEMORY;
        added->fields[added->n_fields++] = field;
        int code = PDR_OK;
        if (field->type == FIELD_MESSAGE)
            code = schema_add_message(schema, descriptor->fields[i].descriptor);
        else if (field->type == FIELD_ENUM)
            code = schema_add_enum(schema, descriptor->fields[i].descriptor);
        if (code != PDR_OK)
            return code;
    }
    return PDR_OK;
}

/* A message stands in the schema before its fields are visited: messages may refer to each other in circles. */
static int schema_add_message(Schema *schema, const ProtobufCMessageDescriptor *descriptor)
{
    if (schema_message(schema, descriptor->name))
        return PDR_OK;
    MessageSchema *added = malloc(sizeof *added);
    if (!added)
        return PDR_NO_MEMORY;
    perdure__v1__message_schema__init(added);
    added->name = strdup(descriptor->name);
    if (!added->name || !schema_grow(&schema->messages, schema->n_messages)) {
        free(added->name);
        free(added);
        return PDR_NO_MEMORY;
    }
    schema->messages[schema->n_messages++] = added;
    return schema_add_fields(schema, added, descriptor);
}

int schema_add(Schema *schema, const pdr_type *type)
{
    return type->descriptor ? schema_add_message(schema, type->descriptor) : PDR_OK; /* built-in types have none */
}

const MessageSchema *schema_message(const Schema *schema, const char *name)
{
    for (size_t i = 0; schema && i < schema->n_messages; i++)
        if (strcmp(schema->messages[i]->name, name) == 0)
            return schema->messages[i];
    return NULL;
}

const EnumSchema *schema_enum(const Schema *schema, const char *name)
{
    for (size_t i = 0; schema && i < schema->n_enums; i++)
        if (strcmp(schema->enums[i]->name, name) == 0)
            return schema->enums[i];
    return NULL;
}

enum wire_type schema_wire_type(uint32_t field_type)
{
    switch (field_type) {
    case FIELD_DOUBLE:
    case FIELD_FIXED64:
    case FIELD_SFIXED64:
        return WIRE_64BIT;
    case FIELD_FLOAT:
    case FIELD_FIXED32:
    case FIELD_SFIXED32:
        return WIRE_32BIT;
    case FIELD_STRING:
    case FIELD_BYTES:
    case FIELD_MESSAGE:
        return WIRE_BYTES;
    default:
        return WIRE_VARINT;
    }
}

enum builtin schema_builtin(const char *type)
{
    static const char *const names[] = {
        [BUILTIN_NONE] = "none", [BUILTIN_TEXT] = "text", [BUILTIN_JSON] = "json", [BUILTIN_BYTES] = "bytes"};
    if (strncmp(type, "pdr_", 4) == 0)
        type += 4;
    for (unsigned i = BUILTIN_NONE; i < sizeof names / sizeof *names; i++)
        if (strcmp(type, names[i]) == 0)
            return (enum builtin)i;
    return BUILTIN_NOT;
}
