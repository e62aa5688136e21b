/* media.h - the bytes of a picture or a clip: those of a file, or of a member of a shard. */
#ifndef UP_DATA_MEDIA_H
#define UP_DATA_MEDIA_H

#include "uniperceiver/status.h"

typedef struct up_media {
    char *name;  /* path of the file, or SHARD:MEMBER; named in messages */
    void *bytes; /* of a member; NULL: they are in the file of that name */
    size_t size;
} up_media;

/* All bytes in memory, whichever it was. */
up_status up_media_load(up_media *media);
void up_media_free(up_media *media); /* fine on a zeroed struct */

#endif
