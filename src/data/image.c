/* image.c - picture files to upright RGB: recognises the format by its first bytes and checks sizes before
 * memory is taken. The formats themselves are in image_jpeg.c, image_png.c and image_webp.c; others are
 * FFmpeg's (video.c). */
#include "data/pixels.h"
#include "ref/given.h"
#include "files/file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t up_image_max_pixels(const up_image_limits *limits) {
    return limits && limits->max_pixels > 0 ? limits->max_pixels : 178956970;
}

up_status up_image_check_size(int64_t width, int64_t height, const char *name,
                              const up_image_limits *limits) {
    int64_t most = up_image_max_pixels(limits);
    if (width < 1 || height < 1 || width > INT32_MAX || height > INT32_MAX)
        return up_fail(UP_ERR_FORMAT, name, "a picture of %lld x %lld pixels makes no sense",
                       (long long)width, (long long)height);
    if (width > most / height)
        return up_fail(UP_ERR_FORMAT, name, "%lld x %lld pixels are more than the limit of %lld",
                       (long long)width, (long long)height, (long long)most);
    return UP_OK;
}

up_status up_image_alloc(int64_t width, int64_t height, int channels, const char *name,
                         const up_image_limits *limits, up_image *out) {
    enum { SPARE = 64 }; /* decoders with vector units may write whole vectors past the last row */
    size_t size;
    UP_TRY(up_image_check_size(width, height, name, limits));
    if (__builtin_mul_overflow((size_t)width * (size_t)height, (size_t)channels, &size) ||
        size > SIZE_MAX - SPARE || !(out->data = malloc(size + SPARE)))
        return up_fail(UP_ERR_MEMORY, name, "no memory for %lld x %lld pixels", (long long)width,
                       (long long)height);
    out->width = (int)width;
    out->height = (int)height;
    return UP_OK;
}

const up_image_limits up_image_unlimited = {INT64_MAX};

void up_image_free(up_image *image) {
    if (!image) return;
    free(image->data);
    *image = (up_image){0};
}

up_whole up_image_whole(const up_image *image) {
    return (up_whole){.width = image->width, .height = image->height, .times = 1};
}

void up_image_over_white(up_image *image) {
    size_t n = (size_t)image->width * (size_t)image->height;
    uint8_t *in = image->data, *out = image->data;
    for (size_t i = 0; i < n; i++, in += 4, out += 3) {
        unsigned alpha = in[3];
        for (int c = 0; c < 3; c++) { /* (value * alpha + 255 * (255 - alpha)) / 255, rounded */
            unsigned sum = in[c] * alpha + 255 * (255 - alpha) + 128;
            out[c] = (uint8_t)((sum + (sum >> 8)) >> 8);
        }
    }
    uint8_t *smaller = realloc(image->data, n * 3);
    if (smaller) image->data = smaller;
}

up_status up_image_orient(up_image *image, up_orientation how, const char *name) {
    if (!how.transpose && !how.flip_x && !how.flip_y) return UP_OK;
    up_image out = {0};
    int width = how.transpose ? image->height : image->width,
        height = how.transpose ? image->width : image->height;
    UP_TRY(up_image_alloc(width, height, 3, name, &up_image_unlimited, &out));
    ptrdiff_t right = 3,
              down = 3 * (ptrdiff_t)image->width; /* steps in the input for one step in the output */
    if (how.transpose) {
        right = down;
        down = 3;
    }
    const uint8_t *from = image->data;
    if (how.flip_x) {
        from += right * (width - 1);
        right = -right;
    }
    if (how.flip_y) {
        from += down * (height - 1);
        down = -down;
    }
    uint8_t *to = out.data;
    for (int y = 0; y < height; y++) {
        const uint8_t *pixel = from + down * y;
        for (int x = 0; x < width; x++, to += 3, pixel += right) memcpy(to, pixel, 3);
    }
    up_image_free(image);
    *image = out;
    return UP_OK;
}

typedef struct format {
    const char *signature;
    size_t length;
    up_status (*decode)(const uint8_t *, size_t, const char *, const up_decoding *, up_image *, up_whole *);
} format;
static const format formats[] = {
    {"\xff\xd8\xff", 3, up_jpeg_decode}, {"\x89PNG\r\n\x1a\n", 8, up_png_decode},
    {"RIFF", 4, up_webp_decode}, /* and "WEBP" at byte 8, checked there */
    {"GIF8", 4, up_still_decode},        {"BM", 2, up_still_decode},
    {"II*\0", 4, up_still_decode},       {"MM\0*", 4, up_still_decode},
};

/* "not a picture", with the first bytes as far as they can be shown on one line. */
static up_status unknown_format(const uint8_t *bytes, size_t size, const char *name) {
    char first[9] = {0};
    for (size_t i = 0; i < 8 && i < size; i++)
        first[i] = isascii(bytes[i]) && isprint(bytes[i]) ? (char)bytes[i] : '.';
    return up_fail(UP_ERR_FORMAT, name,
                   "begins with \"%s\", which is no JPEG, PNG, WebP, GIF, BMP or TIFF picture", first);
}

up_status up_image_decode_as(const void *bytes, size_t size, const char *name, const up_decoding *how,
                             up_image *out, up_whole *whole) {
    *out = (up_image){0};
    if (!size) return up_fail(UP_ERR_FORMAT, name, "is empty, a picture is wanted");
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (size < formats[i].length || memcmp(bytes, formats[i].signature, formats[i].length)) continue;
        up_status status = formats[i].decode(bytes, size, name, how, out, whole);
        if (status != UP_OK) up_image_free(out);
        return status;
    }
    return unknown_format(bytes, size, name);
}

up_status up_image_decode(const void *bytes, size_t size, const char *name, const up_image_limits *limits,
                          up_image *out) {
    UP_GIVEN(bytes, out);
    up_whole whole;
    return up_image_decode_as(bytes, size, name, &(up_decoding){.limits = limits}, out, &whole);
}

up_status up_image_read_as(const char *path, const up_decoding *how, up_image *out, up_whole *whole) {
    void *bytes = NULL;
    size_t size = 0;
    *out = (up_image){0};
    UP_TRY(up_file_read(path, &bytes, &size));
    up_status status = up_image_decode_as(bytes, size, path, how, out, whole);
    free(bytes);
    return status;
}

up_status up_image_read(const char *path, const up_image_limits *limits, up_image *out) {
    UP_GIVEN(path, out);
    up_whole whole;
    return up_image_read_as(path, &(up_decoding){.limits = limits}, out, &whole);
}
