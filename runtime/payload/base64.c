#include "payload/base64.h"

void base64_write(struct buffer *buffer, const void *data, size_t size)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t bits = (uint32_t)bytes[i] << 16;
        if (left > 1)
            bits |= (uint32_t)bytes[i + 1] << 8;
        if (left > 2)
            bits |= bytes[i + 2];
        char quad[4] = {alphabet[bits >> 18], alphabet[bits >> 12 & 63], '=', '='};
        if (left > 1)
            quad[2] = alphabet[bits >> 6 & 63];
        if (left > 2)
            quad[3] = alphabet[bits & 63];
        buffer_add(buffer, quad, sizeof quad);
    }
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    if (c == '/' || c == '_')
        return 63;
    return -1;
}

bool base64_read(struct buffer *buffer, const char *text, size_t size, size_t *at)
{
    size_t end = size;
    if (size % 4 == 0)
        while (end > 0 && size - end < 2 && text[end - 1] == '=')
            end--;
    uint32_t bits = 0;
    for (size_t i = 0; i < end; i++) {
        int value = base64_value(text[i]);
        *at = i;
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 != 0)
            buffer_byte(buffer, (char)(bits >> (6 - 2 * (i % 4))));
    }
    *at = end;
    if (end % 4 == 1)
        return false; /* six bits are no byte */
    return end % 4 == 0 || (bits & ((1U << (end % 4 == 2 ? 4 : 2)) - 1)) == 0; /* bits that stand for nothing are 0 */
}
