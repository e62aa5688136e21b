/* base64.h - RFC 4648, section 4: how files travel in JSON. */
#ifndef UP_SERVE_BASE64_H
#define UP_SERVE_BASE64_H

#include "uniperceiver/status.h"

/* Bytes into out, which has room for 3 / 4 of the text's length; padding may be left out, and nothing else is
 * forgiven. `name` is for messages. */
up_status up_base64_decode(const char *name, const char *text, size_t length, unsigned char *out,
                           size_t *size);

#endif
