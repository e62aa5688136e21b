/* video.c - N frames at a temporal stride out of any video that the FFmpeg libraries know, as upright RGB
 * pictures. Paper appendix A and E. Frames are counted as the decoder returns them. Decoding is a module's
 * (video_ffmpeg.c), loaded when the first video is opened; without it the functions answer
 * UP_ERR_UNSUPPORTED. */
#include "uniperceiver/video.h"
#include "data/video_module.h"
#include "files/file.h"
#include "files/module.h"
#include "ref/given.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef up_video_source source;

/* ---- the module ---- */

static up_video_entry ffmpeg_pass; /* NULL: it cannot be had */
static char lacks[512];            /* why */

static void load_once(void) {
    static const up_module module = {.what = "video",
                                     .file = "uniperceiver_video.so",
                                     .named_by = "UP_VIDEO_MODULE",
                                     .entry = UP_VIDEO_ENTRY,
                                     .option = "UP_FFMPEG"};
    void *symbol;
    if (up_module_load(&module, &symbol) == UP_OK)
        memcpy(&ffmpeg_pass, &symbol, sizeof ffmpeg_pass);
    else
        snprintf(lacks, sizeof lacks, "%s", up_last_error());
}

static int load(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load_once);
    return ffmpeg_pass != NULL;
}

int up_video_available(void) {
    return load();
}

up_status up_video_require(const char *name, const char *what) {
    if (load()) return UP_OK;
    return up_fail(UP_ERR_UNSUPPORTED, name, "a %s, which needs FFmpeg (%s)", what, lacks);
}

static up_status pass_once(source *s, up_video_pass *p) {
    static const up_video_host host = {.version = UP_VIDEO_MODULE_VERSION,
                                       .size = sizeof host,
                                       .fail = up_fail,
                                       .max_pixels = up_image_max_pixels,
                                       .check_size = up_image_check_size,
                                       .alloc = up_image_alloc,
                                       .orient = up_image_orient,
                                       .over_white = up_image_over_white};
    UP_TRY(up_video_require(s->name, s->still ? "picture" : "video"));
    return ffmpeg_pass(&host, s, p);
}

/* ---- clips ---- */

static void free_frames(up_image *frames, int n) {
    for (int i = 0; i < n; i++) up_image_free(&frames[i]);
}

/* When memory runs out inside the FFmpeg libraries, many of their parts go on: with a frame less, without a
 * reference or in other colours. errno knows of it. It may also know of an allocation that the C library
 * tried elsewhere with success, so a starved pass is done once more, and only a second one is an error. */
static up_status pass(source *s, const up_video_clip *clip, int64_t start, const up_image_limits *limits,
                      up_image *out, int *kept, int64_t *seen) {
    up_video_pass p = {.clip = clip, .start = start, .limits = limits, .out = out};
    for (int attempt = 0; attempt < 2; attempt++) {
        up_status status = pass_once(s, &p);
        *kept = p.kept;
        *seen = p.seen;
        if (!p.starved || s->failed) return status;
        if (out) free_frames(out, clip->frames);
    }
    return up_fail(UP_ERR_MEMORY, s->name, "no memory to decode it");
}

/* The first frame of the clip in a video of `total` frames. */
static int64_t clip_start(const up_video_clip *clip, int64_t total) {
    int64_t last = total - 1 - (int64_t)(clip->frames - 1) * clip->stride;
    if (last < 0) last = 0;
    if (clip->fraction >= 0) {
        double start = floor(clip->fraction * ((double)last + 1));
        return start < (double)last ? (int64_t)start : last;
    }
    if (clip->start < 0) return last / 2;
    return clip->start < last ? clip->start : last;
}

static up_status repeat_last(up_image *out, int have, int frames, const char *name) {
    for (; have < frames; have++) {
        const up_image *last = &out[have - 1];
        UP_TRY(up_image_alloc(last->width, last->height, 3, name, &up_image_unlimited, &out[have]));
        memcpy(out[have].data, last->data, (size_t)last->width * (size_t)last->height * 3);
    }
    return UP_OK;
}

/* A start that depends on the length costs a counting pass, which decodes only where packets do not tell; an
 * explicit one only where it proves too late. So does one that packets promised and the decoder does not
 * keep: a damaged video's clip lies where its decodable frames are. */
static up_status decode(source *s, const up_video_clip *clip, const up_image_limits *limits, up_image *out) {
    int kept = 0;
    int64_t total = 0, start = clip->start;
    up_status status = UP_OK;
    if (clip->fraction >= 0 || clip->start < 0) {
        UP_GO(pass(s, clip, 0, limits, NULL, &kept, &total));
        start = clip_start(clip, total);
    }
    UP_GO(pass(s, clip, start, limits, out, &kept, &total));
    if (kept < clip->frames && clip_start(clip, total) != start) {
        free_frames(out, kept);
        UP_GO(pass(s, clip, clip_start(clip, total), limits, out, &kept, &total));
    }
    if (!kept)
        UP_GO(up_fail(UP_ERR_FORMAT, s->name, "the number of frames changes from one reading to the next"));
    UP_GO(repeat_last(out, kept, clip->frames, s->name));
done:
    if (status != UP_OK) free_frames(out, clip->frames);
    return status;
}

static up_status count(source *s, int64_t *frames) {
    int kept;
    return pass(s, NULL, 0, NULL, NULL, &kept, frames);
}

/* Check the question and clear the answer before any byte is looked at. */
static up_status check(const char *name, const up_video_clip *clip, up_image *out) {
    if (clip->frames < 1 || clip->stride < 1)
        return up_fail(UP_ERR_ARGUMENT, name, "a clip of %d frames at stride %d: both must be 1 or more",
                       clip->frames, clip->stride);
    memset(out, 0, (size_t)clip->frames * sizeof *out);
    return UP_OK;
}

static up_status check_size(const source *s) {
    return s->size ? UP_OK : up_fail(UP_ERR_FORMAT, s->name, "is empty, a video is wanted");
}

/* Open a regular file that is not empty; s->file is -1 where nothing is open. */
static up_status open_file(const char *path, source *s) {
    *s = (source){.name = path, .file = -1};
    UP_TRY(up_file_open(path, &s->file, &s->size));
    return check_size(s);
}

up_status up_video_decode(const void *bytes, size_t size, const char *name, const up_video_clip *clip,
                          const up_image_limits *limits, up_image *out) {
    UP_GIVEN(bytes, clip, out);
    source s = {.name = name, .bytes = bytes, .file = -1, .size = (int64_t)size};
    UP_TRY(check(name, clip, out));
    UP_TRY(check_size(&s));
    return decode(&s, clip, limits, out);
}

up_status up_still_decode(const uint8_t *bytes, size_t size, const char *name, const up_decoding *how,
                          up_image *out, up_whole *whole) {
    const up_video_clip first = {.frames = 1, .stride = 1, .start = 0, .fraction = -1};
    source s = {.name = name, .bytes = bytes, .file = -1, .size = (int64_t)size, .still = 1};
    int tiff = size > 4 && (!memcmp(bytes, "II*", 4) || !memcmp(bytes, "MM\0*", 4));
    UP_TRY(decode(&s, &first, how->limits, out));
    if (tiff) UP_TRY(up_image_orient(out, up_orientation_of_tiff(bytes, size), name));
    *whole = up_image_whole(out);
    return UP_OK;
}

up_status up_video_read(const char *path, const up_video_clip *clip, const up_image_limits *limits,
                        up_image *out) {
    UP_GIVEN(path, clip, out);
    source s;
    UP_TRY(check(path, clip, out));
    up_status status = open_file(path, &s);
    if (status == UP_OK) status = decode(&s, clip, limits, out);
    if (s.file >= 0) close(s.file);
    return status;
}

up_status up_video_count(const char *path, int64_t *frames) {
    UP_GIVEN(path, frames);
    source s;
    *frames = 0;
    up_status status = open_file(path, &s);
    if (status == UP_OK) status = count(&s, frames);
    if (s.file >= 0) close(s.file);
    return status;
}
