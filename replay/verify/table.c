/* Hash table with open addressing; and memory that is there or ends the program. */
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *or_exit(void *memory)
{
    if (!memory) {
        fputs("perdure-verify: out of memory\n", stderr);
        exit(5);
    }
    return memory;
}

void *pv_must_alloc(size_t size)
{
    return or_exit(calloc(1, size ? size : 1));
}

void *pv_must_grow(void *array, size_t count, size_t *room, size_t element)
{
    if (count < *room)
        return array;
    *room = *room ? *room * 2 : 16;
    return or_exit(reallocarray(array, *room, element));
}

char *pv_must_copy(const char *text)
{
    return or_exit(strdup(text));
}

void pv_table_init(struct table *t, size_t value)
{
    *t = (struct table){.value = value ? value : 1};
}

void pv_table_free(struct table *t)
{
    free(t->keys);
    free(t->values);
    pv_table_init(t, t->value);
}

/* Spread small numbers too: the high bits of a product depend on all bits of the key. */
static size_t place_of(const struct table *t, uint64_t key)
{
    uint64_t mixed = (key ^ (key >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
    size_t at = (size_t)(mixed >> 20) & (t->room - 1);
    while (t->keys[at] && t->keys[at] != key)
        at = (at + 1) & (t->room - 1);
    return at;
}

/* 0 marks a free place, so the key 0 takes the name of another: one in 2^64. */
static uint64_t real_key(uint64_t key)
{
    return key ? key : UINT64_C(0x5bd1e9955bd1e995);
}

void *pv_table_find(const struct table *t, uint64_t key)
{
    if (!t->count)
        return NULL;
    key = real_key(key);
    size_t at = place_of(t, key);
    return t->keys[at] ? t->values + at * t->value : NULL;
}

static void widen(struct table *t)
{
    struct table old = *t;
    t->room = old.room ? old.room * 2 : 8;
    t->keys = pv_must_alloc(t->room * sizeof *t->keys);
    t->values = pv_must_alloc(t->room * t->value);
    for (size_t i = 0; i < old.room; i++) {
        if (!old.keys[i])
            continue;
        size_t at = place_of(t, old.keys[i]);
        t->keys[at] = old.keys[i];
        memcpy(t->values + at * t->value, old.values + i * t->value, t->value);
    }
    free(old.keys);
    free(old.values);
}

void *pv_table_put(struct table *t, uint64_t key, bool *fresh)
{
    if ((t->count + 1) * 4 > t->room * 3)
        widen(t);
    key = real_key(key);
    size_t at = place_of(t, key);
    bool new = !t->keys[at];
    if (new) {
        t->keys[at] = key;
        t->count++;
    }
    if (fresh)
        *fresh = new;
    return t->values + at * t->value;
}

void *pv_table_next(const struct table *t, size_t *at, uint64_t *key)
{
    for (; *at < t->room; (*at)++) {
        if (t->keys[*at]) {
            if (key)
                *key = t->keys[*at];
            return t->values + (*at)++ * t->value;
        }
    }
    return NULL;
}
