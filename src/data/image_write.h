/* image_write.h - small pictures for pages: pixels of a model's patches as a JPEG inside a data: URI. */
#ifndef UP_DATA_IMAGE_WRITE_H
#define UP_DATA_IMAGE_WRITE_H

#include "uniperceiver/image.h"

/* Patches [cells, 3 * patch * patch] in the order of up_image_patch_bytes back to a picture of size x size.
 */
up_status up_image_from_patches(const uint8_t *patches, int size, int patch, up_image *out);

/* "data:image/jpeg;base64,...", malloc'ed; a picture with a side above `most` is made smaller first. */
up_status up_image_data_uri(const up_image *image, int most, char **uri);

/* The JPEG itself, malloc'ed, made smaller first in the same way. */
up_status up_image_write_jpeg(const up_image *image, int most, unsigned char **bytes, size_t *size);

#endif
