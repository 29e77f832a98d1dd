/* A hash table of 64-bit keys and values of one size. Keys are hashes or small numbers; none is ever removed. */
#ifndef PERDURE_VERIFY_TABLE_H
#define PERDURE_VERIFY_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table {
    size_t value; /* bytes of a value */
    size_t count, room;
    uint64_t *keys; /* 0: free */
    unsigned char *values;
};

void pv_table_init(struct table *t, size_t value);
void pv_table_free(struct table *t);
void *pv_table_find(const struct table *t, uint64_t key);
/* The value of the key, zeroed if it is new; valid until the next table_put. */
void *pv_table_put(struct table *t, uint64_t key, bool *fresh);
/* The entry at or after *at, which moves on; NULL at the end. */
void *pv_table_next(const struct table *t, size_t *at, uint64_t *key);

/* Memory, or the end of the program: a checker that lacks memory has nothing true to say. */
void *pv_must_alloc(size_t size);
/* Room for one more element. */
void *pv_must_grow(void *array, size_t count, size_t *room, size_t element);
char *pv_must_copy(const char *text);

#endif
