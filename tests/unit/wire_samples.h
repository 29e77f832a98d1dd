/*
 * Records for tests of the wire: one with every field of the header set, and helpers around it.
 */
#ifndef PERDURE_TESTS_WIRE_SAMPLES_H
#define PERDURE_TESTS_WIRE_SAMPLES_H

#include "wire/wire.h"

/* A record under construction: `record` points to what stands beside it. Change it between init and encode. */
struct wire_sample {
    Record record;
    Header header;
    Position in_pos;
    InputRef input;
    InputRef *inputs[1];
    Genesis genesis;
    Claim claim;
    Mark mark;
    Refusal refusal;
    Refusal *refusals[1];
    Sender sender;
    Command command;
    ReplyTo reply_to;
    Perdure__V1__Start start;
    Payload payload;
    ProtobufCBinaryData events[2];
    uint8_t event_bytes[2][512];
    uint8_t prev[16];
    uint8_t digest[16];
};

/* Two events of run 0x0123456789abcdef of job "order-17": Started and StepCompleted, with their digests. */
void wire_sample_events(struct wire_sample *sample);
void wire_sample_claim(struct wire_sample *sample);
void wire_sample_mark(struct wire_sample *sample);
void wire_sample_start(struct wire_sample *sample);

/* Frames any bytes with a checksum that holds; malloc'ed. */
void *wire_frame(const void *body, size_t body_size, size_t *size);

#endif
