/* image_png.c - PNG through libpng: every colour type and depth to 8-bit RGB. 16 bits keep the high byte
 * (Pillow does the same for RGB and alpha; its grey is clipped instead, which no model wants). Alpha and tRNS
 * are laid over white. A damaged chunk before the pixels is an error, as in Pillow. Gamma and colour profiles
 * are ignored, as Pillow ignores them. */
#include "data/pixels.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

typedef struct decoder {
    png_structp png;
    png_infop info;
    png_bytepp rows;
    const uint8_t *bytes;
    size_t left;
    int starved; /* an allocation of libpng's has failed: what it says then may be about anything */
    char message[128];
} decoder;

static png_voidp take(png_structp png, png_alloc_size_t size) {
    decoder *d = png_get_mem_ptr(png);
    void *memory = malloc(size);
    if (!memory) d->starved = 1;
    return memory;
}

static void give_back(png_structp png, png_voidp memory) {
    (void)png;
    free(memory);
}

static void on_error(png_structp png, png_const_charp message) {
    decoder *d = png_get_error_ptr(png);
    snprintf(d->message, sizeof d->message, "%s", message);
    longjmp(png_jmpbuf(png), 1);
}

/* libpng leaves a tRNS chunk out that it cannot use, and every transparent pixel with it. Beside an alpha
 * channel the chunk means nothing. What the other warnings are about changes no pixel. */
static void on_warning(png_structp png, png_const_charp message) {
    const decoder *d = png_get_error_ptr(png);
    int alpha = d->info && png_get_color_type(png, d->info) & PNG_COLOR_MASK_ALPHA;
    if (!strncmp(message, "tRNS", 4) && !alpha) png_error(png, message);
}

static void read_bytes(png_structp png, png_bytep to, size_t size) {
    decoder *d = png_get_io_ptr(png);
    if (size > d->left) png_error(png, "the file ends too early");
    memcpy(to, d->bytes, size);
    d->bytes += size;
    d->left -= size;
}

/* Everything that may longjmp; `d` and `out` live in the caller's frame, so their fields survive the jump. */
static up_status decode(decoder *d, const char *name, const up_image_limits *limits, up_image *out) {
    png_structp png = d->png;
    if (setjmp(png_jmpbuf(png)))
        return d->starved ? up_fail(UP_ERR_MEMORY, name, "no memory for the PNG decoder")
                          : up_fail(UP_ERR_FORMAT, name, "damaged PNG: %s", d->message);
    png_set_read_fn(png, d, read_bytes);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);      /* ours is on the product */
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT); /* a damaged name may have been tRNS */
    png_read_info(png, d->info);
    png_uint_32 width = png_get_image_width(png, d->info), height = png_get_image_height(png, d->info);
    int alpha =
        png_get_color_type(png, d->info) & PNG_COLOR_MASK_ALPHA || png_get_valid(png, d->info, PNG_INFO_tRNS);
    UP_TRY(up_image_alloc(width, height, alpha ? 4 : 3, name, limits, out));
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, d->info); /* takes memory for two rows: not before the limit is checked */
    size_t stride = (size_t)width * (alpha ? 4 : 3);
    if (png_get_rowbytes(png, d->info) != stride) png_error(png, "rows of an unexpected length");
    d->rows = malloc(height * sizeof *d->rows);
    if (!d->rows) return up_fail(UP_ERR_MEMORY, name, "no memory for %lu rows", (unsigned long)height);
    for (size_t y = 0; y < height; y++) d->rows[y] = out->data + y * stride;
    png_read_image(png, d->rows);
    png_set_crc_action(png, PNG_CRC_DEFAULT,
                       PNG_CRC_WARN_DISCARD); /* no chunk behind the pixels changes them */
    png_read_end(png, NULL);
    if (d->starved) return up_fail(UP_ERR_MEMORY, name, "no memory for the PNG decoder");
    if (alpha) up_image_over_white(out);
    return UP_OK;
}

up_status up_png_decode(const uint8_t *bytes, size_t size, const char *name, const up_decoding *how,
                        up_image *out, up_whole *whole) {
    decoder d = {.bytes = bytes, .left = size};
    d.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &d, on_error, on_warning, &d, take, give_back);
    if (d.png) d.info = png_create_info_struct(d.png);
    up_status status = d.info ? decode(&d, name, how->limits, out)
                              : up_fail(UP_ERR_MEMORY, name, "no memory for the PNG decoder");
    png_destroy_read_struct(&d.png, &d.info, NULL);
    free(d.rows);
    *whole = up_image_whole(out);
    return status;
}
