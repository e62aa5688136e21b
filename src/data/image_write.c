/* image_write.c - JPEG through libjpeg at quality 85, and base64 (RFC 4648). */
#include "data/image_write.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

up_status up_image_from_patches(const uint8_t *patches, int size, int patch, up_image *out) {
    size_t side = (size_t)patch, plane = side * side, width = (size_t)size;
    *out = (up_image){.width = size, .height = size, .data = malloc(3 * width * width)};
    if (!out->data) return up_fail(UP_ERR_MEMORY, "picture", "%d x %d pixels wanted", size, size);
    for (size_t y = 0; y < width; y++)
        for (size_t x = 0; x < width; x++)
            for (size_t c = 0; c < 3; c++) {
                size_t cell = y / side * (width / side) + x / side;
                out->data[(y * width + x) * 3 + c] =
                    patches[(3 * cell + c) * plane + y % side * side + x % side];
            }
    return UP_OK;
}

typedef struct encoder {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    jmp_buf failed;
    unsigned char *bytes; /* malloc'ed by libjpeg */
    unsigned long size;
} encoder;

static void on_error(j_common_ptr jpeg) {
    encoder *e = (encoder *)jpeg; /* its first member */
    longjmp(e->failed, 1);
}

static void on_message(j_common_ptr jpeg) {
    (void)jpeg;
}

static void write_rows(encoder *e, const up_image *image) {
    struct jpeg_compress_struct *j = &e->jpeg;
    jpeg_create_compress(j);
    jpeg_mem_dest(j, &e->bytes, &e->size);
    j->image_width = (JDIMENSION)image->width;
    j->image_height = (JDIMENSION)image->height;
    j->input_components = 3;
    j->in_color_space = JCS_RGB;
    jpeg_set_defaults(j);
    jpeg_set_quality(j, 85, TRUE);
    jpeg_start_compress(j, TRUE);
    while (j->next_scanline < j->image_height) {
        JSAMPROW row = image->data + (size_t)j->next_scanline * (size_t)image->width * 3;
        jpeg_write_scanlines(j, &row, 1);
    }
    jpeg_finish_compress(j);
}

/* 0 where libjpeg gave up; no variable of this frame is used behind the jump. */
static int rows_written(encoder *e, const up_image *image) {
    if (setjmp(e->failed)) return 0;
    write_rows(e, image);
    return 1;
}

/* *bytes is malloc'ed. */
static up_status encode_jpeg(const up_image *image, unsigned char **bytes, size_t *size) {
    *bytes = NULL;
    encoder *e = calloc(1, sizeof *e);
    if (!e) return up_fail(UP_ERR_MEMORY, "picture", "no memory for its JPEG");
    e->jpeg.err = jpeg_std_error(&e->errors);
    e->errors.error_exit = on_error;
    e->errors.output_message = on_message;
    int written = rows_written(e, image);
    jpeg_destroy_compress(&e->jpeg);
    *bytes = e->bytes;
    *size = (size_t)e->size;
    free(e);
    return written ? UP_OK : up_fail(UP_ERR_MEMORY, "picture", "its JPEG cannot be made");
}

static void put_base64(const unsigned char *bytes, size_t size, char *out) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++) bits = bits << 8 | (i + k < size ? bytes[i + k] : 0u);
        for (size_t k = 0; k < 4; k++)
            *out++ = k <= size - i || k < 2 ? letters[bits >> (18 - 6 * k) & 63] : '=';
    }
    *out = 0;
}

up_status up_image_write_jpeg(const up_image *image, int most, unsigned char **bytes, size_t *size) {
    int longer = image->width > image->height ? image->width : image->height;
    up_image small = {0};
    *bytes = NULL;
    if (longer <= most) return encode_jpeg(image, bytes, size);
    int width = (int)((int64_t)image->width * most / longer),
        height = (int)((int64_t)image->height * most / longer);
    UP_TRY(up_image_resize(image, 0, 0, image->width, image->height, width ? width : 1, height ? height : 1,
                           &small));
    up_status status = encode_jpeg(&small, bytes, size);
    up_image_free(&small);
    return status;
}

up_status up_image_data_uri(const up_image *image, int most, char **uri) {
    static const char head[] = "data:image/jpeg;base64,";
    unsigned char *bytes;
    size_t size = 0;
    *uri = NULL;
    up_status status = up_image_write_jpeg(image, most, &bytes, &size);
    if (status == UP_OK) *uri = malloc(sizeof head + (size + 2) / 3 * 4);
    if (status == UP_OK && !*uri) status = up_fail(UP_ERR_MEMORY, "picture", "%zu bytes of JPEG", size);
    if (status == UP_OK) {
        memcpy(*uri, head, sizeof head);
        put_base64(bytes, size, *uri + sizeof head - 1);
    }
    free(bytes);
    return status;
}
