/* media.c - see media.h. */
#include "data/media.h"
#include "files/file.h"

#include <stdlib.h>

up_status up_media_load(up_media *m) {
    return m->bytes ? UP_OK : up_file_read(m->name, &m->bytes, &m->size);
}

void up_media_free(up_media *m) {
    free(m->name);
    free(m->bytes);
    *m = (up_media){0};
}
