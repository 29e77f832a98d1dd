#include "worker/limit_list.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One of "gpu=5/s" or "gpu=100". False: it is neither. */
static bool item_read(const char *item, size_t length, const struct limit_list *list, char name[LIMIT_NAME_BYTES + 1],
                      double *number)
{
    const char *equals = memchr(item, '=', length);
    char text[32], *end = NULL;
    size_t name_size = equals ? (size_t)(equals - item) : 0, digits = length - name_size - 1;
    if (name_size == 0 || name_size > list->name_bytes || digits == 0 || digits >= sizeof text)
        return false;
    memcpy(text, equals + 1, digits);
    text[digits] = '\0';
    *number = strtod(text, &end);
    memcpy(name, item, name_size);
    name[name_size] = '\0';
    return end != text && (list->rate ? strcmp(end, "/s") == 0 && *number >= 0.001 && *number <= 1e6
                                      : *end == '\0' && *number >= 1 && *number <= 1e6 && floor(*number) == *number);
}

static void item_refuse(const char *item, size_t length, const struct limit_list *list, char *error, size_t error_size)
{
    const char *example = list->example;
    int shown = (int)(length < 100 ? length : 100);
    if (list->rate)
        snprintf(error, error_size, "%s \"%.*s\": write %s=N/s, as %s=5/s or %s=0.2/s", list->what, shown, item,
                 list->subject, example, example);
    else
        snprintf(error, error_size, "%s \"%.*s\": write %s=N with N from 1 to 1000000, as %s=100", list->what, shown, item,
                 list->subject, example);
}

/* Two numbers for one name: whichever counts, somebody believed in the other. */
static bool item_is_repeated(const char *text, const char *item, const char *name)
{
    size_t size = strlen(name);
    for (; text < item; text += strcspn(text, ",") + 1)
        if (strncmp(text, name, size) == 0 && text[size] == '=')
            return true;
    return false;
}

bool limit_list_read(const char *text, const struct limit_list *list,
                     bool (*take)(void *context, const char *name, double number), void *context, char *error,
                     size_t error_size)
{
    char name[LIMIT_NAME_BYTES + 1];
    double number;
    const char *all = text;
    while (text && *text) {
        size_t length = strcspn(text, ",");
        if (!item_read(text, length, list, name, &number)) {
            item_refuse(text, length, list, error, error_size);
            return false;
        }
        if (item_is_repeated(all, text, name)) {
            snprintf(error, error_size, "%s of \"%s\" is given twice", list->what, name);
            return false;
        }
        if (!take(context, name, number)) {
            snprintf(error, error_size, "out of memory");
            return false;
        }
        text += length + (text[length] == ',');
    }
    return true;
}
