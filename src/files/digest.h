/* digest.h - a hash of many bytes at the speed of memory: tells whether they are the same ones. No defence
 * against who wants two contents to be equal. */
#ifndef UP_FILES_DIGEST_H
#define UP_FILES_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* Of `bytes` of data behind what `before` is the digest of; 0: of nothing. The same pieces in the same order
 * give the same digest; one 8-byte word that differs never does. */
uint64_t up_digest(uint64_t before, const void *data, size_t bytes);

/* 16 hexadecimal digits. */
void up_digest_text(uint64_t digest, char text[24]);

#endif
