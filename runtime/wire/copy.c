/*
 * Deep copies, and the end of messages made with malloc.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/pack.h"
#include "wire/wire.h"

bool wire_string(char **out, const char *text)
{
    if (text == NULL || text[0] == '\0') {
        *out = (char *)(uintptr_t)protobuf_c_empty_string;
        return true;
    }
    *out = strdup(text);
    if (*out != NULL)
        return true;
    *out = (char *)(uintptr_t)protobuf_c_empty_string;
    return false;
}

static bool bytes_copy(ProtobufCBinaryData *out, ProtobufCBinaryData bytes)
{
    *out = (ProtobufCBinaryData){0};
    if (bytes.len == 0)
        return true;
    out->data = malloc(bytes.len);
    if (out->data == NULL)
        return false;
    memcpy(out->data, bytes.data, bytes.len);
    out->len = bytes.len;
    return true;
}

static Site *site_copy(const Site *site)
{
    Site *copy = malloc(sizeof(*copy));
    if (copy == NULL)
        return NULL;
    perdure__v1__site__init(copy);
    copy->line = site->line;
    if (wire_string(&copy->file, site->file) && wire_string(&copy->function, site->function))
        return copy;
    perdure__v1__site__free_unpacked(copy, NULL);
    return NULL;
}

Payload *payload_copy(const Payload *payload)
{
    if (payload == NULL)
        return NULL;
    Payload *copy = malloc(sizeof(*copy));
    if (copy == NULL)
        return NULL;
    perdure__v1__payload__init(copy);
    copy->json = payload->json;
    if (wire_string(&copy->type, payload->type) && bytes_copy(&copy->data, payload->data))
        return copy;
    payload_free(copy);
    return NULL;
}

static Error *error_copy_to(const Error *error, unsigned causes)
{
    Error *copy = malloc(sizeof(*copy));
    if (copy == NULL)
        return NULL;
    perdure__v1__error__init(copy);
    copy->code = error->code;
    copy->final = error->final;
    bool whole = wire_string(&copy->type, error->type) && wire_string(&copy->message, error->message);
    if (whole && error->site != NULL)
        whole = (copy->site = site_copy(error->site)) != NULL;
    if (whole && error->cause != NULL && causes > 0)
        whole = (copy->cause = error_copy_to(error->cause, causes - 1)) != NULL;
    if (whole)
        return copy;
    error_free(copy);
    return NULL;
}

Error *error_copy(const Error *error)
{
    return error != NULL ? error_copy_to(error, ERROR_CAUSES_LIMIT) : NULL;
}

/* Whatever has no copy of its own goes through its encoding: rare enough, and right for every field there will be. */
static ProtobufCMessage *message_copy(const ProtobufCMessage *message)
{
    size_t size;
    uint8_t *bytes = wire_pack(message, 0, &size);
    if (bytes == NULL)
        return NULL;
    ProtobufCMessage *copy = wire_decode(message->descriptor, bytes, size);
    free(bytes);
    return copy;
}

Event *event_copy(const Event *event)
{
    return event != NULL ? (Event *)message_copy(&event->base) : NULL;
}

Waiting *waiting_copy(const Waiting *waiting)
{
    return waiting != NULL ? (Waiting *)message_copy(&waiting->base) : NULL;
}

Status *status_copy(const Status *status)
{
    return status != NULL ? (Status *)message_copy(&status->base) : NULL;
}

Reply *reply_copy(const Reply *reply)
{
    return reply != NULL ? (Reply *)message_copy(&reply->base) : NULL;
}

void payload_free(Payload *payload)
{
    perdure__v1__payload__free_unpacked(payload, NULL);
}

void error_free(Error *error)
{
    perdure__v1__error__free_unpacked(error, NULL);
}

void status_free(Status *status)
{
    perdure__v1__status__free_unpacked(status, NULL);
}

void reply_free(Reply *reply)
{
    perdure__v1__reply__free_unpacked(reply, NULL);
}

void registration_free(Registration *registration)
{
    perdure__v1__registration__free_unpacked(registration, NULL);
}

void schema_free(Schema *schema)
{
    perdure__v1__schema__free_unpacked(schema, NULL);
}

void stored_partition_free(StoredPartition *row)
{
    perdure__v1__stored_partition__free_unpacked(row, NULL);
}

void stored_run_free(StoredRun *run)
{
    perdure__v1__stored_run__free_unpacked(run, NULL);
}

void stored_output_free(StoredOutput *output)
{
    perdure__v1__stored_output__free_unpacked(output, NULL);
}
