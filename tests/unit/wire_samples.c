#include "wire_samples.h"

#include <stdlib.h>
#include <string.h>

#define TEXT(literal) ((char *)(uintptr_t)(literal))
#define RUN UINT64_C(0x0123456789abcdef)
#define T INT64_C(1790000000123)

static void sample_header(struct wire_sample *sample, uint32_t kind)
{
    memset(sample, 0, sizeof(*sample));
    perdure__v1__record__init(&sample->record);
    perdure__v1__header__init(&sample->header);
    sample->record.header = &sample->header;
    Header *header = &sample->header;
    header->format = 1;
    header->rule_level = 1;
    header->min_reader = 1;
    header->log = 0xcafebeef;
    header->kind = kind;
    header->map_version = 1;
    header->t = T;
    header->first = -1;
}

static void sample_epoch(struct wire_sample *sample)
{
    sample->header.claim = 1234;
    sample->header.nonce = UINT64_C(0xfedcba9876543210);
    sample->header.n = 42;
    perdure__v1__position__init(&sample->in_pos);
    sample->in_pos.generation = 1;
    sample->in_pos.offset = 777;
    sample->header.in_pos = &sample->in_pos;
    sample->header.out_pos = 1200;
}

static void sample_job(struct wire_sample *sample)
{
    sample->header.job = TEXT("order-17");
    sample->header.run = RUN;
    sample->header.slot = slot_of("order-17");
}

static void sample_payload(struct wire_sample *sample, const char *type, const char *text)
{
    perdure__v1__payload__init(&sample->payload);
    sample->payload.type = TEXT(type);
    sample->payload.data.data = (uint8_t *)(uintptr_t)text;
    sample->payload.data.len = strlen(text);
}

static void sample_put_event(struct wire_sample *sample, size_t index, const Event *event)
{
    sample->events[index].data = sample->event_bytes[index];
    sample->events[index].len = perdure__v1__event__pack(event, sample->event_bytes[index]);
}

static void sample_started(struct wire_sample *sample)
{
    Event event;
    Perdure__V1__Started started;
    perdure__v1__event__init(&event);
    perdure__v1__started__init(&started);
    sample_payload(sample, "shop.Order", "\x0a\x08order-17");
    event.seq = 1;
    event.t = T;
    started.type = TEXT("shop/checkout");
    started.build = TEXT("00112233445566778899aabbccddeeff00112233");
    started.request = TEXT("req-1");
    started.input = &sample->payload;
    started.keep_ms = 90000000;
    event.kind_case = PERDURE__V1__EVENT__KIND_STARTED;
    event.started = &started;
    sample_put_event(sample, 0, &event);
}

static void sample_step_completed(struct wire_sample *sample)
{
    Event event;
    Site site;
    Perdure__V1__StepCompleted completed;
    perdure__v1__event__init(&event);
    perdure__v1__site__init(&site);
    perdure__v1__step_completed__init(&completed);
    sample_payload(sample, "shop.Reservation", "\x0a\x03r-1");
    event.seq = 2;
    event.t = T;
    event.op = 1;
    event.label = TEXT("order-17");
    site.file = TEXT("shop/checkout.c");
    site.function = TEXT("checkout");
    site.line = 12;
    event.site = &site;
    completed.name = TEXT("shop/reserve");
    completed.input_digest = payload_digest("shop.Order", "\x0a\x08order-17", 10);
    completed.result = &sample->payload;
    completed.attempt = 2;
    completed.started = T - 7;
    event.kind_case = PERDURE__V1__EVENT__KIND_STEP_COMPLETED;
    event.step_completed = &completed;
    sample_put_event(sample, 1, &event);
}

static void sample_digests(struct wire_sample *sample)
{
    digest chain = digest_of_run(RUN);
    memcpy(sample->prev, chain.bytes, 16);
    for (size_t i = 0; i < sample->record.n_events; i++)
        chain = digest_next(chain, sample->events[i].data, sample->events[i].len);
    memcpy(sample->digest, chain.bytes, 16);
    sample->header.prev = (ProtobufCBinaryData){.len = 16, .data = sample->prev};
    sample->header.digest = (ProtobufCBinaryData){.len = 16, .data = sample->digest};
}

void wire_sample_events(struct wire_sample *sample)
{
    sample_header(sample, PERDURE__V1__KIND__KIND_EVENT);
    sample_epoch(sample);
    sample_job(sample);
    sample_started(sample);
    sample_step_completed(sample);
    sample->record.events = sample->events;
    sample->record.n_events = 2;
    sample_digests(sample);
    Header *header = &sample->header;
    header->seq = 1;
    header->count = 2;
    header->more = true;
    perdure__v1__input_ref__init(&sample->input);
    sample->input.partition = 3;
    sample->input.generation = 1;
    sample->input.offset = 776;
    sample->input.leader_epoch = -1;
    sample->input.request = TEXT("req-1");
    sample->inputs[0] = &sample->input;
    header->inputs = sample->inputs;
    header->n_inputs = 1;
    header->build = TEXT("00112233445566778899aabbccddeeff00112233");
    header->type = TEXT("shop/checkout");
    header->name = TEXT("shop/reserve");
}

static void sample_genesis(struct wire_sample *sample)
{
    perdure__v1__genesis__init(&sample->genesis);
    sample->genesis.log_id = UINT64_C(0x12345678cafebeef);
    sample->genesis.namespace_ = TEXT("shop");
    sample->genesis.partitions = 16;
    sample->genesis.map_version = 1;
    sample->genesis.format = 1;
    sample->genesis.rule_level = 1;
    sample->genesis.partition = 3;
    sample->record.genesis = &sample->genesis;
}

void wire_sample_claim(struct wire_sample *sample)
{
    sample_header(sample, PERDURE__V1__KIND__KIND_CLAIM);
    sample_genesis(sample);
    perdure__v1__claim__init(&sample->claim);
    sample->claim.nonce = UINT64_C(0xfedcba9876543210);
    sample->claim.worker = TEXT("worker-1");
    sample->claim.boot = TEXT("4a5b");
    sample->claim.version = TEXT("0.1.0");
    sample->claim.group_generation = 7;
    sample->claim.cause = TEXT("assigned");
    sample->record.claim = &sample->claim;
}

void wire_sample_mark(struct wire_sample *sample)
{
    sample_header(sample, PERDURE__V1__KIND__KIND_MARK);
    sample_epoch(sample);
    perdure__v1__mark__init(&sample->mark);
    perdure__v1__refusal__init(&sample->refusal);
    perdure__v1__sender__init(&sample->sender);
    sample->mark.in_pos = &sample->in_pos;
    sample->mark.out_pos = 1200;
    sample->mark.live_hash = (ProtobufCBinaryData){.len = 16, .data = sample->digest};
    sample->mark.live_count = 2;
    sample->mark.largest_t = T;
    sample->sender.job = TEXT("parent");
    sample->sender.run = 5;
    sample->refusal.to = &sample->sender;
    sample->refusal.code = TEXT("UnknownType");
    sample->refusal.message = TEXT("no build of this namespace has shop/none");
    sample->refusals[0] = &sample->refusal;
    sample->mark.refusals = sample->refusals;
    sample->mark.n_refusals = 1;
    sample->record.mark = &sample->mark;
}

void wire_sample_start(struct wire_sample *sample)
{
    sample_header(sample, PERDURE__V1__KIND__KIND_COMMAND);
    sample_job(sample);
    sample->header.run = 0;
    sample->header.born = T;
    perdure__v1__command__init(&sample->command);
    perdure__v1__reply_to__init(&sample->reply_to);
    perdure__v1__start__init(&sample->start);
    sample_payload(sample, "shop.Order", "\x0a\x08order-17");
    sample->command.request = TEXT("req-1");
    sample->reply_to.client = 9;
    sample->reply_to.correlation = 10;
    sample->command.reply_to = &sample->reply_to;
    sample->start.type = TEXT("shop/checkout");
    sample->start.input = &sample->payload;
    sample->command.kind_case = PERDURE__V1__COMMAND__KIND_START;
    sample->command.start = &sample->start;
    sample->record.command = &sample->command;
}

void *wire_frame(const void *body, size_t body_size, size_t *size)
{
    uint8_t *frame = malloc(FRAME_BYTES + body_size);
    if (frame == NULL)
        abort();
    uint32_t crc = crc32c(body, body_size);
    uint8_t head[FRAME_BYTES] = {'P', 'D', 'R', 1, (uint8_t)crc, (uint8_t)(crc >> 8), (uint8_t)(crc >> 16),
                                 (uint8_t)(crc >> 24)};
    memcpy(frame, head, sizeof(head));
    if (body_size > 0)
        memcpy(frame + FRAME_BYTES, body, body_size);
    *size = FRAME_BYTES + body_size;
    return frame;
}
