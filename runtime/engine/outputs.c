/*
 * What the engine hands to its host: outputs wait in a line until the host takes them, and what they point to lives
 * until the next is taken.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

struct queued_output *engine_put(struct engine *engine, enum engine_output_kind kind)
{
    struct queued_output *queued = calloc(1, sizeof *queued);
    if (!queued) {
        engine_stop(engine, "out of memory");
        return NULL;
    }
    queued->output.kind = kind;
    queued->output.partition = engine->config.partition;
    if (engine->outputs_tail)
        engine->outputs_tail->next = queued;
    else
        engine->outputs = queued;
    engine->outputs_tail = queued;
    return queued;
}

static void engine_put_text(struct engine *engine, enum engine_output_kind kind, const char *format, va_list arguments)
{
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    struct queued_output *queued = engine_put(engine, kind);
    if (queued)
        queued->output.text = queued->owned[0] = strdup(text);
}

void engine_note(struct engine *engine, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    engine_put_text(engine, ENGINE_OUT_NOTE, format, arguments);
    va_end(arguments);
}

void engine_put_notice(struct engine *engine, enum engine_output_kind kind, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    engine_put_text(engine, kind, format, arguments);
    va_end(arguments);
}

void queued_output_free(struct queued_output *queued)
{
    if (!queued)
        return;
    for (size_t i = 0; i < sizeof queued->owned / sizeof *queued->owned; i++)
        free(queued->owned[i]);
    reply_free(queued->owned_reply);
    free(queued);
}

bool engine_take(struct engine *engine, struct engine_output *out)
{
    queued_output_free(engine->taken);
    engine->taken = engine->outputs;
    if (!engine->taken)
        return false;
    engine->outputs = engine->taken->next;
    if (!engine->outputs)
        engine->outputs_tail = NULL;
    *out = engine->taken->output;
    if (out->kind == ENGINE_OUT_FOLLOW_INBOX)
        engine->inbox_turns_back = false;
    if (out->kind == ENGINE_OUT_FOLLOW_JOURNAL) { /* more may have been read since it was put: never back behind that */
        out->offset = engine->verify_anchor ? engine->judge->anchor : engine->judge->position;
        engine->follow_asked = false;
    }
    return true;
}

/* The data of appends that are dropped may still be wanted by outputs nobody took: these outputs go with them. */
void outputs_drop_appends(struct engine *engine)
{
    struct queued_output **link = &engine->outputs;
    engine->outputs_tail = NULL;
    while (*link) {
        struct queued_output *queued = *link;
        if (queued->output.kind == ENGINE_OUT_APPEND || queued->output.kind == ENGINE_OUT_SEND ||
            queued->output.kind == ENGINE_OUT_TASK) {
            *link = queued->next;
            queued_output_free(queued);
        } else {
            engine->outputs_tail = queued;
            link = &queued->next;
        }
    }
}

void outputs_clear(struct engine *engine)
{
    while (engine->outputs) {
        struct queued_output *next = engine->outputs->next;
        queued_output_free(engine->outputs);
        engine->outputs = next;
    }
    queued_output_free(engine->taken);
}
