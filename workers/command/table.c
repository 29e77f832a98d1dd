#include <stdlib.h>
#include <string.h>

#include "command/show.h"

/* Characters, not bytes. */
static size_t table_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += (*text & 0xc0) != 0x80;
    return width;
}

void table_cell(struct table *table, const char *text)
{
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 64;
        char **grown = realloc(table->cells, capacity * sizeof *grown);
        if (!grown) {
            table->failed = true;
            return;
        }
        table->cells = grown;
        table->capacity = capacity;
    }
    struct buffer plain = {0};
    show_plain(&plain, text);
    char *cell = buffer_take(&plain);
    table->failed |= !cell;
    if (cell)
        table->cells[table->count++] = cell;
}

void table_print(struct table *table, struct buffer *out)
{
    size_t widths[TABLE_COLUMNS] = {0};
    for (size_t i = 0; i < table->count; i++) {
        size_t width = table_width(table->cells[i]);
        if (width > widths[i % table->columns])
            widths[i % table->columns] = width;
    }
    for (size_t i = 0; i < table->count; i++) {
        bool last = (i + 1) % table->columns == 0;
        buffer_text(out, table->cells[i]);
        size_t pad = last ? 0 : widths[i % table->columns] - table_width(table->cells[i]) + 2;
        for (; pad > 0; pad--)
            buffer_byte(out, ' ');
        if (last)
            buffer_byte(out, '\n');
        free(table->cells[i]);
    }
    if (table->count > 0 && out->size > 0)
        out->size--;
    out->failed |= table->failed;
    free(table->cells);
    *table = (struct table){0};
}
