/* repair.h - the character repairs that the ftfy library (6.3) makes on text that is not garbled. */
#ifndef UP_DATA_REPAIR_H
#define UP_DATA_REPAIR_H

#include "data/codes.h"

/* Append the repaired text. Text that was decoded by a wrong encoding ("mojibake") is left as it is. */
void up_repair(const uint32_t *text, size_t count, up_codes *out);

#endif
