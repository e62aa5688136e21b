/* image_webp.c - still WebP pictures through libwebp, where the build has it; alpha is laid over white. */
#include "data/pixels.h"

#include <string.h>

#ifdef UP_WITH_WEBP
#include <webp/decode.h>

static up_status decode(const uint8_t *bytes, size_t size, const char *name, const up_image_limits *limits,
                        up_image *out) {
    uint64_t told =
        (uint64_t)bytes[4] | (uint64_t)bytes[5] << 8 | (uint64_t)bytes[6] << 16 | (uint64_t)bytes[7] << 24;
    if (told + 8 > size)
        return up_fail(UP_ERR_FORMAT, name, "truncated WebP: %zu bytes of %llu", size,
                       (unsigned long long)told + 8);
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(bytes, size, &features) != VP8_STATUS_OK)
        return up_fail(UP_ERR_FORMAT, name, "damaged WebP: its header cannot be read");
    if (features.has_animation)
        return up_fail(UP_ERR_UNSUPPORTED, name, "animated WebP; a still picture is wanted");
    int alpha = features.has_alpha, stride = features.width * (alpha ? 4 : 3); /* sides have 14 bits */
    UP_TRY(up_image_alloc(features.width, features.height, alpha ? 4 : 3, name, limits, out));
    size_t room = (size_t)stride * (size_t)features.height;
    if (!(alpha ? WebPDecodeRGBAInto : WebPDecodeRGBInto)(bytes, size, out->data, room, stride))
        return up_fail(UP_ERR_FORMAT, name, "damaged WebP: its pixels cannot be decoded");
    if (alpha) up_image_over_white(out);
    return UP_OK;
}
#else
static up_status decode(const uint8_t *bytes, size_t size, const char *name, const up_image_limits *limits,
                        up_image *out) {
    (void)bytes;
    (void)size;
    (void)limits;
    (void)out;
    return up_fail(UP_ERR_UNSUPPORTED, name, "WebP, which this build has no library for (libwebp)");
}
#endif

up_status up_webp_decode(const uint8_t *bytes, size_t size, const char *name, const up_decoding *how,
                         up_image *out, up_whole *whole) {
    if (size < 12 || memcmp(bytes + 8, "WEBP", 4))
        return up_fail(UP_ERR_FORMAT, name, "a RIFF file that is no WebP picture");
    UP_TRY(decode(bytes, size, name, how->limits, out));
    *whole = up_image_whole(out);
    return UP_OK;
}
