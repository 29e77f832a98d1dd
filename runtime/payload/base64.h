/* Base64 as in RFC 4648, section 4; section 5 (the URL alphabet) and missing padding are read too. */
#ifndef PERDURE_BASE64_H
#define PERDURE_BASE64_H

#include "payload/buffer.h"

void base64_write(struct buffer *buffer, const void *data, size_t size);
/* False: `text` is no base64; `*at` is the place of the first character that does not fit. */
bool base64_read(struct buffer *buffer, const char *text, size_t size, size_t *at);

#endif
