/* repair.h - the repairs that the ftfy library (6.3, fix_text as it comes) makes. */
#ifndef UP_DATA_REPAIR_H
#define UP_DATA_REPAIR_H

#include "data/codes.h"
#include "uniperceiver/status.h"

/* Room to work in, kept from line to line. Zero it to begin. */
typedef struct up_repairer {
    up_codes text, next, spare, before;
} up_repairer;

void up_repairer_free(up_repairer *repairer);

/* Append a line (with its '\n', if it has one), repaired. *references: character references are read; a '<'
 * ends that for this line and those that follow. */
void up_repair(up_repairer *repairer, const uint32_t *line, size_t count, int *references, up_codes *out);

#endif
