/* image_jpeg.c - JPEG through libjpeg: grey, YCC, RGB, CMYK and YCCK, baseline and progressive, upright by
 * its EXIF orientation. CMYK is taken as Adobe writes it (inverted), as Pillow does. Damaged or missing data
 * is an error. */
#include "data/pixels.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#define JMAKE_ENUM_LIST
#include <jerror.h>

enum { MAX_SCANS = 500 }; /* a progressive file of thousands of empty scans would decode for hours */

typedef struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    char message[JMSG_LENGTH_MAX];
} decoder;

static void on_error(j_common_ptr common) {
    decoder *d = common->client_data;
    common->err->format_message(common, d->message);
    longjmp(d->failed, 1);
}

/* Warnings (level -1) that leave every pixel defined are common in the wild; the others mean damaged or
 * missing data. */
static void on_message(j_common_ptr common, int level) {
    if (level >= 0) return;
    switch (common->err->msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_JFIF_MAJOR:
    case JWRN_TOO_MUCH_DATA:
        return;
    default:
        on_error(common);
    }
}

static void on_progress(j_common_ptr common) {
    decoder *d = common->client_data;
    if (d->jpeg.input_scan_number <= MAX_SCANS) return;
    snprintf(d->message, sizeof d->message, "more than %d scans", MAX_SCANS);
    longjmp(d->failed, 1);
}

static unsigned number(const uint8_t *at, int bytes, int little_endian) {
    unsigned value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | at[little_endian ? bytes - 1 - i : i];
    return value;
}

static int tiff_orientation(const uint8_t *tiff, size_t size) {
    if (size < 8) return 1;
    int little = tiff[0] == 'I';
    if (memcmp(tiff, little ? "II*\0" : "MM\0*", 4)) return 1;
    size_t at = number(tiff + 4, 4, little);
    if (at > size - 2) return 1;
    unsigned entries = number(tiff + at, 2, little);
    for (at += 2; entries-- && at <= size && size - at >= 12; at += 12) {
        const uint8_t *entry = tiff + at; /* tag, type 3 = 16 bit, count, value */
        if (number(entry, 2, little) != 0x0112) continue;
        unsigned value = number(entry + 8, 2, little);
        int sane = number(entry + 2, 2, little) == 3 && number(entry + 4, 4, little) == 1 && value >= 1 &&
                   value <= 8;
        return sane ? (int)value : 1;
    }
    return 1;
}

int up_exif_orientation(const uint8_t *body, size_t size) {
    if (size < 14 || memcmp(body, "Exif\0\0", 6)) return 1;
    return tiff_orientation(body + 6, size - 6);
}

/* EXIF orientation value: what undoes it. */
static const up_orientation orientations[9] = {
    [2] = {0, 1, 0}, [3] = {0, 1, 1}, [4] = {0, 0, 1}, [5] = {1, 0, 0},
    [6] = {1, 1, 0}, [7] = {1, 1, 1}, [8] = {1, 0, 1},
};

up_orientation up_orientation_of_tiff(const uint8_t *tiff, size_t size) {
    return orientations[tiff_orientation(tiff, size)];
}

static up_orientation orientation_of(const struct jpeg_decompress_struct *jpeg) {
    for (const struct jpeg_marker_struct *m = jpeg->marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length >= 6 && !memcmp(m->data, "Exif\0\0", 6))
            return orientations[up_exif_orientation(m->data, m->data_length)];
    return orientations[1];
}

/* One row of inverted CMYK to RGB: c = 255 - stored, value = k - c * k / 255 rounded (k is stored inverted
 * too). */
static void cmyk_row(const uint8_t *in, int width, uint8_t *out) {
    for (int x = 0; x < width; x++, in += 4, out += 3)
        for (int c = 0; c < 3; c++) {
            unsigned product = (255u - in[c]) * in[3] + 128;
            out[c] = (uint8_t)(in[3] - ((product + (product >> 8)) >> 8));
        }
}

/* The largest of 2, 4 and 8 that leaves a short side of no less than `least`; else 1. Their inverse
 * transforms are fast; those of 3/8, 5/8 and so on are slower than the whole one. */
static unsigned denominator(const struct jpeg_decompress_struct *jpeg, int least) {
    unsigned low = jpeg->image_width < jpeg->image_height ? jpeg->image_width : jpeg->image_height;
    for (unsigned d = 8; least > 0 && d > 1; d /= 2)
        if ((low + d - 1) / d >= (unsigned)least) return d;
    return 1;
}

static up_whole whole_of(const struct jpeg_decompress_struct *jpeg, up_orientation turn) {
    double times = jpeg->scale_denom;
    double right = jpeg->output_width - jpeg->image_width / times; /* parts of a pixel, from rounding up */
    double bottom = jpeg->output_height - jpeg->image_height / times;
    int width = (int)jpeg->image_width, height = (int)jpeg->image_height;
    return (up_whole){.width = turn.transpose ? height : width,
                      .height = turn.transpose ? width : height,
                      .times = (int)jpeg->scale_denom,
                      .left = turn.flip_x ? (turn.transpose ? bottom : right) : 0,
                      .top = turn.flip_y ? (turn.transpose ? right : bottom) : 0};
}

/* Everything that may longjmp. `d`, `out` and `whole` live in the caller's frame, so their fields survive the
 * jump. */
static up_status decode(decoder *d, const uint8_t *bytes, size_t size, const char *name,
                        const up_decoding *how, up_image *out, up_whole *whole) {
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    if (setjmp(d->failed))
        return d->errors.msg_code == JERR_OUT_OF_MEMORY
                   ? up_fail(UP_ERR_MEMORY, name, "no memory for the JPEG decoder")
                   : up_fail(UP_ERR_FORMAT, name, "damaged JPEG: %s", d->message);
    jpeg_create_decompress(jpeg);
    jpeg->progress = &d->progress;
    jpeg_mem_src(jpeg, (unsigned char *)bytes, (unsigned long)size); /* the cast: older libjpeg's prototype */
    jpeg_save_markers(jpeg, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(jpeg, TRUE);
    int cmyk = jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
    jpeg->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg->scale_denom = denominator(jpeg, how->short_side);
    UP_TRY(up_image_check_size(jpeg->image_width, jpeg->image_height, name, how->limits));
    jpeg_calc_output_dimensions(jpeg);
    UP_TRY(up_image_alloc(jpeg->output_width, jpeg->output_height, 3, name, how->limits, out));
    jpeg_start_decompress(jpeg);
    JSAMPARRAY row = NULL;
    if (cmyk) row = jpeg->mem->alloc_sarray((j_common_ptr)jpeg, JPOOL_IMAGE, jpeg->output_width * 4, 1);
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *to = out->data + (size_t)jpeg->output_scanline * (size_t)out->width * 3;
        jpeg_read_scanlines(jpeg, cmyk ? row : &to, 1);
        if (cmyk) cmyk_row(row[0], out->width, to);
    }
    up_orientation turn = orientation_of(jpeg);
    *whole = whole_of(jpeg, turn);
    jpeg_finish_decompress(jpeg);
    return up_image_orient(out, turn, name);
}

up_status up_jpeg_decode(const uint8_t *bytes, size_t size, const char *name, const up_decoding *how,
                         up_image *out, up_whole *whole) {
    decoder d = {0};
    d.jpeg.err = jpeg_std_error(&d.errors);
    d.jpeg.client_data = &d;
    d.errors.error_exit = on_error;
    d.errors.emit_message = on_message;
    d.progress.progress_monitor = on_progress;
    up_status status = decode(&d, bytes, size, name, how, out, whole);
    jpeg_destroy_decompress(&d.jpeg);
    return status;
}
