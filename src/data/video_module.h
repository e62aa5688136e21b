/* video_module.h - what the library and its module of videos (video_ffmpeg.c) say to each other. The module
 * uses nothing of the library but what it is given here; the library needs FFmpeg only where a video is
 * opened. */
#ifndef UP_DATA_VIDEO_MODULE_H
#define UP_DATA_VIDEO_MODULE_H

#include "data/pixels.h"
#include "uniperceiver/video.h"

/* Where the bytes come from: memory, or a file read at explicit offsets. The FFmpeg libraries take a failed
 * read for the end of the video, so the source remembers it. */
typedef struct up_video_source {
    const char *name;
    const uint8_t *bytes; /* NULL: read from `file` */
    int file;
    int64_t size, at;
    int still;  /* a picture: what is transparent is laid over white */
    int failed; /* errno of the first read that failed, ESTALE where the file ended early */
} up_video_source;

/* The library's functions that the module calls (status.h, pixels.h). */
typedef struct up_video_host {
    uint32_t version, size; /* UP_VIDEO_MODULE_VERSION, sizeof(up_video_host) */
    up_status (*fail)(up_status code, const char *what, const char *why_format, ...) UP_PRINTF(3, 4);
    int64_t (*max_pixels)(const up_image_limits *limits);
    up_status (*check_size)(int64_t width, int64_t height, const char *name, const up_image_limits *limits);
    up_status (*alloc)(int64_t width, int64_t height, int channels, const char *name,
                       const up_image_limits *limits, up_image *out);
    up_status (*orient)(up_image *image, up_orientation how, const char *name);
    void (*over_white)(up_image *image);
} up_video_host;
enum { UP_VIDEO_MODULE_VERSION = 2 };

/* One pass over the video from its beginning. With `out`, the frames start, start + stride, ... are kept,
 * `kept` of them, and the pass ends with the last one wanted. `seen` = frames decoded: all there are where
 * kept < clip->frames. Without `out` it is the number of frames there are, and `clip` says that they need
 * not be decoded for it. `starved`: an allocation failed on the way. */
typedef struct up_video_pass {
    const up_video_clip *clip;
    int64_t start;
    const up_image_limits *limits;
    up_image *out;
    int kept, starved;
    int64_t seen;
} up_video_pass;

/* Fail for `name` where the module cannot be loaded. */
up_status up_video_require(const char *name, const char *what);

/* The one function of uniperceiver_video.so. */
#define UP_VIDEO_ENTRY "up_video_ffmpeg_pass"
typedef up_status (*up_video_entry)(const up_video_host *host, up_video_source *source, up_video_pass *pass);
UP_API up_status up_video_ffmpeg_pass(const up_video_host *host, up_video_source *source,
                                      up_video_pass *pass);

#endif
