/* Payloads as JSON and back: schema.c, json_read.c, json_write.c, base64.c, buffer.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <perdure/perdure.h>

#include "payload/base64.h"
#include "payload/buffer.h"
#include "payload/find.h"
#include "payload/schema.h"

/* ---- a schema written by hand: every field type, packed and not, enum, oneof, recursion --------- */

static FieldSchema fields[24];
static FieldSchema *field_list[24];
static MessageSchema thing;
static MessageSchema *messages[] = {&thing};
static EnumValue colours[3];
static EnumValue *colour_list[] = {&colours[0], &colours[1], &colours[2]};
static EnumSchema colour;
static EnumSchema *enums[] = {&colour};
static Schema schema;

static void add_field(const char *name, uint32_t number, uint32_t label, uint32_t type, const char *type_name)
{
    FieldSchema *field = &fields[thing.n_fields];
    perdure__v1__field_schema__init(field);
    field->name = (char *)name;
    field->number = number;
    field->label = label;
    field->type = type;
    field->type_name = (char *)type_name;
    field_list[thing.n_fields++] = field;
}

static int set_up(void **state)
{
    (void)state;
    perdure__v1__schema__init(&schema);
    perdure__v1__message_schema__init(&thing);
    perdure__v1__enum_schema__init(&colour);
    thing.name = (char *)"test.Thing";
    thing.fields = field_list;
    add_field("id", 1, LABEL_IMPLICIT, FIELD_STRING, "");
    add_field("unit_price", 2, LABEL_IMPLICIT, FIELD_INT64, "");
    add_field("count", 3, LABEL_IMPLICIT, FIELD_UINT64, "");
    add_field("small", 4, LABEL_IMPLICIT, FIELD_INT32, "");
    add_field("zigzag", 5, LABEL_IMPLICIT, FIELD_SINT32, "");
    add_field("ratio", 6, LABEL_IMPLICIT, FIELD_DOUBLE, "");
    add_field("narrow", 7, LABEL_IMPLICIT, FIELD_FLOAT, "");
    add_field("yes", 8, LABEL_IMPLICIT, FIELD_BOOL, "");
    add_field("raw", 9, LABEL_IMPLICIT, FIELD_BYTES, "");
    add_field("colour", 10, LABEL_IMPLICIT, FIELD_ENUM, "test.Colour");
    add_field("parts", 11, LABEL_REPEATED, FIELD_MESSAGE, "test.Thing");
    add_field("packed", 12, LABEL_REPEATED, FIELD_SINT64, "");
    field_list[thing.n_fields - 1]->packed = true;
    add_field("loose", 13, LABEL_REPEATED, FIELD_FIXED32, "");
    add_field("up", 14, LABEL_OPTIONAL, FIELD_MESSAGE, "test.Thing");
    add_field("left", 15, LABEL_OPTIONAL, FIELD_UINT32, "");
    add_field("right", 16, LABEL_OPTIONAL, FIELD_STRING, "");
    field_list[14]->oneof = field_list[15]->oneof = 1;
    add_field("tags", 17, LABEL_REPEATED, FIELD_STRING, "");
    static const char *const names[] = {"RED", "GREEN", "BLUE"};
    for (int i = 0; i < 3; i++) {
        perdure__v1__enum_value__init(&colours[i]);
        colours[i].name = (char *)names[i];
        colours[i].number = i;
    }
    colour.name = (char *)"test.Colour";
    colour.values = colour_list;
    colour.n_values = 3;
    schema.messages = messages;
    schema.n_messages = 1;
    schema.enums = enums;
    schema.n_enums = 1;
    return 0;
}

static void expect_json(const char *type, const void *data, size_t size, const char *expected)
{
    Payload payload = PERDURE__V1__PAYLOAD__INIT;
    payload.type = (char *)type;
    payload.data.data = (uint8_t *)data;
    payload.data.len = size;
    char *json = payload_to_json(&schema, &payload);
    assert_non_null(json);
    assert_string_equal(json, expected);
    free(json);
}

static void expect_bytes(const char *type, const char *json, const void *expected, size_t expected_size)
{
    void *data;
    size_t size;
    char error[300] = "";
    int code = json_to_payload(&schema, type, json, &data, &size, error, sizeof error);
    assert_string_equal(error, "");
    assert_int_equal(code, PDR_OK);
    assert_int_equal(size, expected_size);
    assert_memory_equal(data, expected, size);
    free(data);
}

static void expect_error(const char *type, const char *json, const char *expected)
{
    void *data;
    size_t size;
    char error[400] = "";
    assert_int_equal(json_to_payload(&schema, type, json, &data, &size, error, sizeof error), PDR_FAILED);
    assert_string_equal(error, expected);
    assert_null(data);
}

/* JSON in, bytes, JSON out. */
static void expect_round(const char *json, const char *expected)
{
    void *data;
    size_t size;
    char error[300] = "";
    int code = json_to_payload(&schema, "test.Thing", json, &data, &size, error, sizeof error);
    assert_string_equal(error, "");
    assert_int_equal(code, PDR_OK);
    expect_json("test.Thing", data, size, expected);
    free(data);
}

#define EMPTY_TAIL ",\"tags\":[]}"
#define THING(id, price, count, small, zigzag, ratio, narrow, yes, raw, colour, parts, packed, loose)                  \
    "{\"id\":" id ",\"unit_price\":" price ",\"count\":" count ",\"small\":" small ",\"zigzag\":" zigzag              \
    ",\"ratio\":" ratio ",\"narrow\":" narrow ",\"yes\":" yes ",\"raw\":" raw ",\"colour\":" colour                  \
    ",\"parts\":" parts ",\"packed\":" packed ",\"loose\":" loose
#define EMPTY THING("\"\"", "0", "0", "0", "0", "0", "0", "false", "\"\"", "\"RED\"", "[]", "[]", "[]")

static void test_bytes_of_each_type(void **state)
{
    (void)state;
    expect_bytes("test.Thing", "{}", "", 0);
    expect_bytes("test.Thing", "{\"id\":\"\",\"count\":0,\"yes\":false,\"colour\":\"RED\",\"parts\":[],\"up\":null}", "", 0);
    expect_bytes("test.Thing", "{\"id\":\"ab\"}", "\x0a\x02"
                                                  "ab", 4);
    expect_bytes("test.Thing", "{\"unitPrice\":-1}", "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
    expect_bytes("test.Thing", "{\"small\":-2}", "\x20\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
    expect_bytes("test.Thing", "{\"zigzag\":-2}", "\x28\x03", 2);
    expect_bytes("test.Thing", "{\"ratio\":1.5}", "\x31\0\0\0\0\0\0\xf8\x3f", 9);
    expect_bytes("test.Thing", "{\"narrow\":1.5}", "\x3d\0\0\xc0\x3f", 5);
    expect_bytes("test.Thing", "{\"yes\":true}", "\x40\x01", 2);
    expect_bytes("test.Thing", "{\"raw\":\"AP8=\"}", "\x4a\x02\0\xff", 4);
    expect_bytes("test.Thing", "{\"colour\":\"BLUE\"}", "\x50\x02", 2);
    expect_bytes("test.Thing", "{\"packed\":[1,-1,300]}", "\x62\x04\x02\x01\xd8\x04", 6);
    expect_bytes("test.Thing", "{\"loose\":[1,2]}", "\x6d\1\0\0\0\x6d\2\0\0\0", 10);
    expect_bytes("test.Thing", "{\"parts\":[{},{\"small\":1}]}", "\x5a\0\x5a\2\x20\1", 6);
    expect_bytes("test.Thing", "{\"up\":{}}", "\x72\0", 2);
    expect_bytes("test.Thing", "{\"left\":0}", "\x78\0", 2); /* members of a oneof have presence */
    expect_bytes("test.Thing", "{\"tags\":[\"\"]}", "\x8a\x01\0", 3);
    expect_bytes("test.Thing", "{\"small\":2,\"id\":\"a\"}", "\x0a\1a\x20\2", 5); /* in order of the numbers */
}

static void test_round_trips(void **state)
{
    (void)state;
    expect_round("{}", EMPTY EMPTY_TAIL);
    expect_round("{\"id\":\"\\u00e9\\n\\\"\\\\\\u007f\", \"tags\": [\"x\", \"\"]}",
                 THING("\"\xc3\xa9\\n\\\"\\\\\\u007f\"", "0", "0", "0", "0", "0", "0", "false", "\"\"", "\"RED\"", "[]", "[]",
                       "[]") ",\"tags\":[\"x\",\"\"]}");
    expect_round("{\"unit_price\":\"-9223372036854775808\",\"count\":\"18446744073709551615\",\"small\":-2147483648,"
                 "\"zigzag\":2147483647,\"ratio\":0.1,\"narrow\":0.1,\"yes\":true,\"raw\":\"_-8\",\"colour\":7}",
                 THING("\"\"", "\"-9223372036854775808\"", "\"18446744073709551615\"", "-2147483648", "2147483647", "0.1",
                       "0.1", "true", "\"/+8=\"", "7", "[]", "[]", "[]") EMPTY_TAIL);
    expect_round("{\"unit_price\":9007199254740991,\"count\":9007199254740992,\"small\":3.0,\"ratio\":\"-Infinity\","
                 "\"narrow\":\"NaN\"}",
                 THING("\"\"", "9007199254740991", "\"9007199254740992\"", "3", "0", "\"-Infinity\"", "\"NaN\"", "false",
                       "\"\"", "\"RED\"", "[]", "[]", "[]") EMPTY_TAIL);
    expect_round("{\"packed\":[-9223372036854775808,\"9223372036854775807\"],\"loose\":[4294967295],\"right\":\"r\"}",
                 THING("\"\"", "0", "0", "0", "0", "0", "0", "false", "\"\"", "\"RED\"", "[]",
                       "[\"-9223372036854775808\",\"9223372036854775807\"]", "[4294967295]") ",\"right\":\"r\"" EMPTY_TAIL);
    expect_round("{\"up\":{\"parts\":[{}]}}",
                 EMPTY ",\"up\":" THING("\"\"", "0", "0", "0", "0", "0", "0", "false", "\"\"", "\"RED\"",
                                        "[" EMPTY EMPTY_TAIL "]", "[]", "[]") EMPTY_TAIL EMPTY_TAIL);
}

static void test_errors_name_the_field(void **state)
{
    (void)state;
    expect_error("test.Thing", "{\"parts\":[{},{},{\"unit_price\":\"x\"}]}",
                 "parts[2].unit_price: expected a whole number, not \"x\"");
    expect_error("test.Thing", "{\"up\":{\"small\":2147483648}}",
                 "up.small: 2147483648 is out of range (-2147483648 to 2147483647)");
    expect_error("test.Thing", "{\"count\":-1}", "count: -1 is out of range (0 to 18446744073709551615)");
    expect_error("test.Thing", "{\"count\":\"18446744073709551616\"}",
                 "count: 18446744073709551616 is out of range (0 to 18446744073709551615)");
    expect_error("test.Thing", "{\"small\":1.5}", "small: expected a whole number");
    expect_error("test.Thing", "{\"small\":true}", "small: expected a whole number, not true");
    expect_error("test.Thing", "{\"small\":\" 1\"}", "small: expected a whole number, not \" 1\"");
    expect_error("test.Thing", "{\"ratio\":\"one\"}", "ratio: expected a number, not \"one\"");
    expect_error("test.Thing", "{\"ratio\":[]}", "ratio: expected a number, not a list");
    expect_error("test.Thing", "{\"narrow\":1e39}", "narrow: 1e+39 is out of range of a float");
    expect_error("test.Thing", "{\"yes\":1}", "yes: expected true or false, not a number");
    expect_error("test.Thing", "{\"id\":5}", "id: expected a string, not a number");
    expect_error("test.Thing", "{\"raw\":5}", "raw: expected a base64 string, not a number");
    expect_error("test.Thing", "{\"raw\":\"AB*=\"}", "raw: not valid base64 at character 3");
    expect_error("test.Thing", "{\"colour\":\"PINK\"}",
                 "colour: test.Colour has no value \"PINK\"; it has: RED, GREEN, BLUE");
    expect_error("test.Thing", "{\"parts\":{}}", "parts: expected a list, not an object");
    expect_error("test.Thing", "{\"packed\":[1,null]}", "packed[1]: expected a whole number, not null");
    expect_error("test.Thing", "{\"up\":3}", "up: expected an object, not a number");
    expect_error("test.Thing", "[]", "test.Thing: expected an object, not a list");
    expect_error("test.Thing", "{\"up\":{\"prise\":3}}",
                 "up.prise: test.Thing has no such field; it has: id, unit_price, count, small, zigzag, ratio, narrow, yes, "
                 "raw, colour, parts, packed, loose, up, left, right, tags");
    expect_error("test.Thing", "{\"left\":1,\"right\":\"r\"}", "left: only one of left and right may be set");
    expect_error("test.Thing", "{\"unit_price\":1,\"unitPrice\":1}", "unitPrice: the same field as unit_price");
    expect_error("test.Thing", "{\"id\":\"a\",\n \"id\":\"b\"}", "line 2, column 5: duplicate object key near '\"id\"'");
    expect_error("test.Thing", "{\"id\":}", "line 1, column 7: unexpected token near '}'");
    expect_error("test.Thing", "{} x", "line 1, column 4: end of file expected near 'x'");
    expect_error("test.Thing", "{\"count\":18446744073709551615}",
                 "line 1, column 29: too big integer near '18446744073709551615'; write a number above "
                 "9223372036854775807 as a string");
    expect_error("test.Thing", "", "test.Thing: expected JSON, but there is no text");
    expect_error("test.Other", "{}", "test.Other: this message type is not in the schema");
    field_list[0]->label = LABEL_REQUIRED;
    expect_error("test.Thing", "{\"parts\":[]}", "id: is missing");
    field_list[0]->label = LABEL_IMPLICIT;
}

static void test_depth_is_bounded(void **state)
{
    (void)state;
    struct buffer deep = {0};
    for (int i = 0; i < 70; i++)
        buffer_text(&deep, "{\"up\":");
    buffer_text(&deep, "{}");
    for (int i = 0; i < 70; i++)
        buffer_text(&deep, "}");
    char *json = buffer_take(&deep), error[1000];
    void *data;
    size_t size;
    assert_int_equal(json_to_payload(&schema, "test.Thing", json, &data, &size, error, sizeof error), PDR_FAILED);
    assert_non_null(strstr(error, ".up: nested more than 64 deep"));
    free(json);

    Payload payload = PERDURE__V1__PAYLOAD__INIT;
    struct buffer again = {0};
    for (int i = 0; i < 70; i++) {
        struct buffer outer = {0};
        buffer_byte(&outer, 0x72);
        buffer_varint(&outer, again.size);
        buffer_add(&outer, again.data, again.size);
        buffer_free(&again);
        again = outer;
    }
    payload.type = (char *)"test.Thing";
    payload.data.data = (uint8_t *)again.data;
    payload.data.len = again.size;
    json = payload_to_json(&schema, &payload);
    assert_memory_equal(json, "{\"base64\":", 10);
    free(json);
    buffer_free(&again);
}

static void test_builtin_types(void **state)
{
    (void)state;
    expect_bytes("text", "\"h\\u00e9\"", "h\xc3\xa9", 3);
    expect_bytes("pdr_text", " \"x\"\n", "x", 1);
    expect_bytes("json", " { \"a\" : [1, 123456789012345678901234567890 , \"b c\\\" \"] }\n",
                 "{\"a\":[1,123456789012345678901234567890,\"b c\\\" \"]}", 49);
    expect_bytes("bytes", "\"AAE\"", "\0\1", 2);
    expect_bytes("none", "null", "", 0);
    expect_bytes("none", "", "", 0);
    expect_bytes("none", "{}", "", 0);
    expect_error("text", "5", "text: expected a string in quotes, not a number");
    expect_error("text", "hello", "line 1, column 5: invalid token near 'hello'");
    expect_error("none", "5", "none: takes no input: expected null, not a number");
    expect_error("json", "{", "line 1, column 1: string or '}' expected near end of file");
    expect_json("text", "a\x1b[2Jb\xff", 7, "\"a\\u001b[2Jb\xef\xbf\xbd\"");
    expect_json("json", "{ \"a\" : 1 }", 11, "{\"a\":1}");
    expect_json("json", "{oops", 5, "{\"base64\":\"e29vcHM=\"}");
    expect_json("bytes", "\0\1", 2, "\"AAE=\"");
    expect_json("none", "", 0, "null");
    expect_json("", "", 0, "null");
    expect_json("other.Type", "\1", 1, "{\"base64\":\"AQ==\"}");
    char *json = payload_to_json(NULL, NULL);
    assert_string_equal(json, "null");
    free(json);
}

static void test_foreign_bytes(void **state)
{
    (void)state;
    expect_json("test.Thing", "\xff\xff", 2, "{\"base64\":\"//8=\"}");
    expect_json("test.Thing", "\x0a\x05"
                              "a", 3, "{\"base64\":\"CgVh\"}");
    expect_json("test.Thing", "\x08\x01", 2, "{\"base64\":\"CAE=\"}"); /* a number where a string should be */
    expect_json("test.Thing", "\xf8\x07\x05", 3, EMPTY ",\"tags\":[],\"@unknown\":\"+AcF\"}");
    /* a packed field unpacked, an unpacked one packed, a number twice: the last counts */
    expect_json("test.Thing", "\x60\x02\x60\x04\x6a\x08\1\0\0\0\2\0\0\0\x20\1\x20\2", 18,
                THING("\"\"", "0", "0", "2", "0", "0", "0", "false", "\"\"", "\"RED\"", "[]", "[1,2]", "[1,2]") EMPTY_TAIL);
    /* a message in two parts is merged */
    expect_json("test.Thing", "\x72\2\x20\1\x72\2\x28\2", 8,
                EMPTY ",\"up\":" THING("\"\"", "0", "0", "1", "1", "0", "0", "false", "\"\"", "\"RED\"", "[]", "[]", "[]")
                    EMPTY_TAIL EMPTY_TAIL);
}

static void test_payload_that_is_json(void **state)
{
    (void)state;
    Payload payload = PERDURE__V1__PAYLOAD__INIT;
    payload.type = (char *)"test.Thing";
    payload.json = true;
    payload.data.data = (uint8_t *)"{ \"id\": \"a b\" }";
    payload.data.len = 15;
    char *json = payload_to_json(&schema, &payload);
    assert_string_equal(json, "{\"id\":\"a b\"}");
    free(json);
}

/* Random bytes never crash, and what is shown as a message encodes to what shows the same. */
static void test_random_bytes(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[24];
        size_t size = 0;
        for (; size < sizeof bytes; size++) {
            seed = seed * 6364136223846793005U + 1442695040888963407U;
            bytes[size] = (uint8_t)(seed >> 33) & (seed >> 60 ? 0x7f : 0xff);
            if (seed >> 58 == 0)
                break;
        }
        Payload payload = PERDURE__V1__PAYLOAD__INIT;
        payload.type = (char *)"test.Thing";
        payload.data.data = bytes;
        payload.data.len = size;
        char *json = payload_to_json(&schema, &payload), error[300];
        assert_non_null(json);
        void *data;
        if (strncmp(json, "{\"base64\"", 9) != 0 && !strstr(json, "@unknown") &&
            json_to_payload(&schema, "test.Thing", json, &data, &size, error, sizeof error) == PDR_OK) {
            expect_json("test.Thing", data, size, json);
            free(data);
        }
        free(json);
    }
}

/* ---- a schema made from compiled descriptors ----------------------------------------------------- */

static const pdr_type status_type = {.size = sizeof(pdr_type),
                                     .message_size = sizeof(Status),
                                     .name = "Status",
                                     .descriptor = &perdure__v1__status__descriptor};
static const pdr_type command_type = {.size = sizeof(pdr_type),
                                      .message_size = sizeof(Command),
                                      .name = "Command",
                                      .descriptor = &perdure__v1__command__descriptor};

static Schema *compiled_schema(void)
{
    Schema *made = malloc(sizeof *made);
    perdure__v1__schema__init(made);
    assert_int_equal(schema_add(made, &status_type), PDR_OK);
    assert_int_equal(schema_add(made, &status_type), PDR_OK);
    assert_int_equal(schema_add(made, &command_type), PDR_OK);
    static const pdr_type builtin = {.size = sizeof(pdr_type), .name = "text"};
    assert_int_equal(schema_add(made, &builtin), PDR_OK);
    return made;
}

static void test_schema_from_descriptors(void **state)
{
    (void)state;
    Schema *made = compiled_schema();
    for (size_t i = 0; i < made->n_messages; i++) /* each once, though Error holds itself */
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(made->messages[i]->name, made->messages[j]->name);
    assert_non_null(schema_message(made, "perdure.v1.Error"));
    const MessageSchema *command = schema_message(made, "perdure.v1.Command");
    assert_non_null(command);
    assert_int_equal(command->fields[0]->oneof, 0);
    assert_int_not_equal(command->fields[2]->oneof, 0);
    assert_int_equal(command->fields[2]->oneof, command->fields[command->n_fields - 1]->oneof);
    assert_int_equal(command->fields[2]->label, LABEL_OPTIONAL);
    assert_int_equal(command->fields[0]->label, LABEL_IMPLICIT);
    assert_string_equal(command->fields[2]->type_name, "perdure.v1.Start");
    perdure__v1__schema__free_unpacked(made, NULL);
}

/* What comes from JSON is byte for byte what protobuf-c writes. */
static void test_bytes_equal_those_of_protobuf_c(void **state)
{
    (void)state;
    Schema *made = compiled_schema();
    const char *json = "{\"id\":\"j\",\"run\":\"12345678901234567890\",\"created\":-5,\"events\":7,"
                       "\"input\":{\"type\":\"text\",\"data\":\"aGk=\"},"
                       "\"waiting\":[{\"kind\":\"step\",\"site\":{\"file\":\"a.c\",\"line\":3},"
                       "\"last_error\":{\"type\":\"E\",\"code\":-1,\"final\":true,\"cause\":{\"message\":\"m\"}}},{}]}";
    char error[200] = "";
    void *data;
    size_t size;
    assert_int_equal(json_to_payload(made, "perdure.v1.Status", json, &data, &size, error, sizeof error), PDR_OK);
    Status *status = perdure__v1__status__unpack(NULL, size, data);
    assert_non_null(status);
    assert_true(status->run == UINT64_C(12345678901234567890));
    assert_int_equal(status->waiting[0]->last_error->code, -1);
    uint8_t packed[512];
    assert_int_equal(perdure__v1__status__get_packed_size(status), size);
    perdure__v1__status__pack(status, packed);
    assert_memory_equal(packed, data, size);
    perdure__v1__status__free_unpacked(status, NULL);
    free(data);
    perdure__v1__schema__free_unpacked(made, NULL);
}

static void test_base64(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}};
    static const char *const wrong[] = {"Z", "Zm9vY", "Zg=", "Z===", "====", "Zh==", "Zm 8", "Zg==Zg=="};
    size_t at;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct buffer text = {0}, back = {0};
        base64_write(&text, pairs[i][0], strlen(pairs[i][0]));
        assert_int_equal(text.size, strlen(pairs[i][1]));
        assert_memory_equal(text.size ? text.data : "", pairs[i][1], text.size);
        assert_true(base64_read(&back, text.data, text.size, &at));
        assert_int_equal(back.size, strlen(pairs[i][0]));
        buffer_free(&text);
        buffer_free(&back);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct buffer back = {0};
        assert_false(base64_read(&back, wrong[i], strlen(wrong[i]), &at));
        buffer_free(&back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_of_each_type),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_errors_name_the_field),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_builtin_types),
        cmocka_unit_test(test_foreign_bytes),
        cmocka_unit_test(test_payload_that_is_json),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_schema_from_descriptors),
        cmocka_unit_test(test_bytes_equal_those_of_protobuf_c),
        cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests_name("payload", tests, set_up, NULL);
}
