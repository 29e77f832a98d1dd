/*
 * What a user sets for Kafka clients: any property of librdkafka, from a file, from the environment and from the
 * address of the log, in this order, the later winning. docs/security.md describes them.
 */
#ifndef PERDURE_LOG_KAFKA_SETTINGS_H
#define PERDURE_LOG_KAFKA_SETTINGS_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>

#include "log/kafka.h"

/* Immutable once read, shared by reference. Its texts are wiped when the last one lets go. */
struct kafka_settings;

/* `options`: what stands after '?' in the address, or NULL; `*dev` is set if dev=1 is among them. NULL: `error` names
 * what is wrong and where it stands, and never holds a secret. */
struct kafka_settings *kafka_settings_read(const char *options, bool *dev, char *error, size_t error_size);
struct kafka_settings *kafka_settings_share(struct kafka_settings *settings);
void kafka_settings_release(struct kafka_settings *settings);

/* For tests: a setting that nothing is held against. */
bool kafka_settings_force(struct kafka_settings *settings, const char *name, const char *value);
bool kafka_settings_apply(const struct kafka_settings *settings, rd_kafka_conf_t *conf, char *error, size_t error_size);
/* The value that counts, of a property or one of its aliases; NULL: not set. */
const char *kafka_settings_get(const struct kafka_settings *settings, const char *name);
/* Visits each setting that counts; a secret's value is shown as "***". */
void kafka_settings_each(const struct kafka_settings *settings,
                         void (*visit)(void *context, const char *name, const char *value, const char *origin),
                         void *context);
bool kafka_settings_plaintext_allowed(const struct kafka_settings *settings);
/* Connections are neither encrypted nor protected against change. */
bool kafka_settings_plaintext(const struct kafka_settings *settings);
/* Who we are for the broker's ACLs, as far as we can know: "User:shop-worker". */
const char *kafka_settings_principal(const struct kafka_settings *settings);

/* kafka_properties.c: properties that must not be printed, or not be set. */
bool kafka_property_is_secret(const char *name);
/* Why Perdure sets it itself; NULL: it does not. */
const char *kafka_property_fixed(const char *name);

#endif
