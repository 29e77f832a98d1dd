/* Settings of Kafka clients: where they come from, which are refused, and that a secret is never shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/kafka_internal.h"

#define SECRET "Tr0ub4dor"

static char path[] = "/tmp/perdure-settings-XXXXXX";

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(path + strlen(path) - 6, "XXXXXX");
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    setenv("PERDURE_KAFKA_CONFIG", path, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const variables[] = { "PERDURE_KAFKA_CONFIG", "PERDURE_KAFKA_SASL_PASSWORD", "PERDURE_ALLOW_PLAINTEXT",
                                             "PERDURE_KAFKA_SASL_USERNAME", "PERDURE_KAFKA_FROBNICATE",
                                             "PERDURE_KAFKA_SERVICE_HOST", "PERDURE_KAFKA_PORT_9092_TCP" };
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    unlink(path);
    return 0;
}

static struct kafka_uri parse(const char *text)
{
    struct kafka_uri uri;
    char error[1024] = "";
    if (!kafka_uri_parse(&uri, text, error, sizeof error))
        fail_msg("%s: %s", text, error);
    return uri;
}

/* Must be refused with all of these words, and without the secret. */
static void refused(const char *text, const char *one, const char *two)
{
    struct kafka_uri uri;
    char error[1024] = "";
    assert_false(kafka_uri_parse(&uri, text, error, sizeof error));
    if (!strstr(error, one) || !strstr(error, two))
        fail_msg("%s: '%s' or '%s' is not in: %s", text, one, two, error);
    if (strstr(error, SECRET))
        fail_msg("it shows the secret: %s", error);
}

static void test_sources(void **state)
{
    (void)state;
    write_file("# how we reach our brokers\n\n  kafka.security.protocol = SASL_SSL \nsasl.mechanisms=PLAIN\r\n"
               "sasl.username=from-file\nkafka.sasl.password=" SECRET "=x\nssl.ca.pem=-----BEGIN\\nAA\\n-----END\nlinger.ms=3\n");
    struct kafka_uri uri = parse("kafka://127.0.0.1:9092,localhost:1/shop?dev=1&linger.ms=5");
    assert_true(uri.dev);
    assert_string_equal(kafka_settings_get(uri.settings, "security.protocol"), "SASL_SSL");
    assert_string_equal(kafka_settings_get(uri.settings, "sasl.mechanism"), "PLAIN");
    assert_string_equal(kafka_settings_get(uri.settings, "sasl.password"), SECRET "=x");
    assert_string_equal(kafka_settings_get(uri.settings, "ssl.ca.pem"), "-----BEGIN\nAA\n-----END");
    assert_string_equal(kafka_settings_get(uri.settings, "linger.ms"), "5"); /* the address wins */
    assert_string_equal(kafka_settings_principal(uri.settings), "User:from-file");
    kafka_uri_free(&uri);
    setenv("PERDURE_KAFKA_SASL_USERNAME", "from-environment", 1);
    setenv("PERDURE_KAFKA_SERVICE_HOST", "10.0.0.1", 1); /* Kubernetes' */
    setenv("PERDURE_KAFKA_PORT_9092_TCP", "tcp://10.0.0.1:9092", 1);
    uri = parse("kafka://127.0.0.1:9092/shop");
    assert_string_equal(kafka_settings_principal(uri.settings), "User:from-environment");
    assert_false(uri.dev);
    kafka_uri_free(&uri);
}

static void see(void *context, const char *name, const char *value, const char *origin)
{
    char *all = context;
    snprintf(all + strlen(all), 2000 - strlen(all), "%s=%s (%s)\n", name, value, origin);
}

static void test_secrets(void **state)
{
    static const char *const secret[] = { "sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem",
                                          "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config" };
    char text[300], all[2000] = "";
    (void)state;
    for (size_t i = 0; i < sizeof secret / sizeof *secret; i++) {
        assert_true(kafka_property_is_secret(secret[i]));
        snprintf(text, sizeof text, "kafka://127.0.0.1/shop?dev=1&%s=" SECRET, secret[i]);
        refused(text, secret[i], "--kafka-config");
        char said[600] = "";
        assert_true(kafka_address_has_secret(text, said, sizeof said));
        assert_null(strstr(said, SECRET));
    }
    assert_false(kafka_property_is_secret("ssl.key.location"));
    assert_false(kafka_property_is_secret("ssl.ca.pem"));
    assert_false(kafka_address_has_secret("kafka://127.0.0.1/shop?ssl.ca.location=/a", all, sizeof all));
    refused("kafka://user:" SECRET "@127.0.0.1/shop", "sasl.password", "--kafka-config");
    refused("kafka://127.0.0.1?sasl.password=" SECRET, "kafka://host:port", "kafka://127.0.0.1");
    refused("kafka://127.0.0.1/a b?sasl.password=" SECRET, "namespace", "");
    write_file("sasl.password=" SECRET "\nclient.id=me\n");
    struct kafka_uri uri = parse("kafka://127.0.0.1/shop");
    kafka_settings_each(uri.settings, see, all);
    assert_null(strstr(all, SECRET));
    assert_non_null(strstr(all, "sasl.password=***"));
    assert_non_null(strstr(all, "client.id=me"));
    assert_non_null(strstr(all, "line 2"));
    kafka_uri_free(&uri);
    chmod(path, 0600);
    assert_false(kafka_config_exposed(text, sizeof text));
    chmod(path, 0644);
    assert_true(kafka_config_exposed(text, sizeof text));
    assert_non_null(strstr(text, "sasl.password"));
    assert_non_null(strstr(text, "0644"));
    assert_null(strstr(text, SECRET));
    write_file("client.id=me\n");
    assert_false(kafka_config_exposed(text, sizeof text)); /* nothing in it to hide */
}

static void test_wrong(void **state)
{
    static const char *const fixed[] = { "acks=1", "enable.idempotence=false", "isolation.level=read_committed",
                                         "auto.offset.reset=earliest", "enable.auto.commit=true", "group.id=x",
                                         "bootstrap.servers=x", "message.timeout.ms=1", "transactional.id=x" };
    char text[300];
    (void)state;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        snprintf(text, sizeof text, "client.id=a\nkafka.%s\n", fixed[i]);
        write_file(text);
        *strchr(text + 12, '=') = '\0';
        refused("kafka://127.0.0.1/shop", text + 18, "line 2");
    }
    write_file("client.id=a\n\nfrob.nicate=" SECRET "\n");
    refused("kafka://127.0.0.1/shop", "frob.nicate", "line 3");
    write_file("ssl.key.password " SECRET "\n");
    refused("kafka://127.0.0.1/shop", "line 1", "NAME=VALUE");
    write_file("enable.ssl.certificate.verification=perhaps\n");
    refused("kafka://127.0.0.1/shop", "enable.ssl.certificate.verification", "line 1");
    write_file("sasl.jaas.config=x password=" SECRET "\n");
    refused("kafka://127.0.0.1/shop", "sasl.username", "line 1");
    write_file("");
    setenv("PERDURE_KAFKA_FROBNICATE", SECRET, 1);
    refused("kafka://127.0.0.1/shop", "PERDURE_KAFKA_FROBNICATE", "frobnicate");
    unsetenv("PERDURE_KAFKA_FROBNICATE");
    refused("kafka://127.0.0.1/shop?dev", "no value", "dev=1");
    setenv("PERDURE_KAFKA_CONFIG", "/no/such/file", 1);
    refused("kafka://127.0.0.1/shop", "/no/such/file", "No such file");
    setenv("PERDURE_KAFKA_CONFIG", "/tmp", 1);
    refused("kafka://127.0.0.1/shop", "/tmp", "directory");
}

/* 192.0.2.0/24 and 2001:db8::/32 are nobody's. */
static void test_plaintext(void **state)
{
    static const char *const away[] = { "kafka://192.0.2.1:9092/shop", "kafka://127.0.0.1:1,192.0.2.1/shop",
                                        "kafka://[2001:db8::1]:9092/shop", "kafka://192.0.2.1/shop?security.protocol=SASL_PLAINTEXT" };
    static const char *const here[] = { "kafka://127.0.0.1:9092/shop", "kafka://localhost/shop", "kafka://[::1]:9092/shop",
                                        "kafka://127.3.2.1/shop", "kafka://192.0.2.1/shop?security.protocol=ssl" };
    (void)state;
    write_file("");
    for (size_t i = 0; i < sizeof away / sizeof *away; i++)
        refused(away[i], "--allow-plaintext", "SASL_SSL");
    for (size_t i = 0; i < sizeof here / sizeof *here; i++) {
        struct kafka_uri uri = parse(here[i]);
        assert_int_equal(kafka_plaintext_guarded(&uri), i < 4);
        kafka_uri_free(&uri);
    }
    setenv("PERDURE_ALLOW_PLAINTEXT", "1", 1);
    struct kafka_uri uri = parse(away[0]);
    assert_false(kafka_plaintext_guarded(&uri));
    kafka_uri_free(&uri);
    setenv("PERDURE_ALLOW_PLAINTEXT", "0", 1);
    refused(away[0], "--allow-plaintext", "192.0.2.1");
    unsetenv("PERDURE_ALLOW_PLAINTEXT");
    write_file("perdure.allow.plaintext = true\n");
    uri = parse(away[0]);
    kafka_uri_free(&uri);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sources, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_secrets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_plaintext, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
