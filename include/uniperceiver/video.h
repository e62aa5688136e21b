/* video.h - video files -> frames, with the FFmpeg libraries. Paper appendix A and E: N frames at a temporal
 * stride. */
#ifndef UNIPERCEIVER_VIDEO_H
#define UNIPERCEIVER_VIDEO_H

#include "uniperceiver/image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct up_video_clip {
    int frames;    /* N frames to return, >= 1 */
    int stride;    /* every stride-th decoded frame is taken, >= 1 (the paper's temporal sample rate is 32) */
    int64_t start; /* index of the first frame taken; -1 = the clip is centred in the video; beyond the last
                      possible start it is moved back to it (0 at the least) */
    double fraction; /* used instead of start when >= 0: start = floor(fraction * (possible starts)), fraction
                        in [0,1) */
} up_video_clip;

/* Decode `clip->frames` RGB frames into out[0..frames-1] (each owned by the caller, up_image_free). Frames
 * are counted in presentation order as the decoder returns them (variable frame rate: by index, not by time);
 * rotation metadata is applied; a video shorter than the clip repeats its last frame, as the paper's source
 * does. How many frames there are, where the start depends on it, is told by the file's packets for formats
 * in which each is a frame (H.264, HEVC, VP9, AV1, MJPEG, GIF), else by decoding. A file without a decodable
 * video frame is an error that names the file. `limits` bounds the pixels of one frame; may be NULL. */
UP_API up_status up_video_decode(const void *bytes, size_t size, const char *name, const up_video_clip *clip,
                                 const up_image_limits *limits, up_image *out);
UP_API up_status up_video_read(const char *path, const up_video_clip *clip, const up_image_limits *limits,
                               up_image *out);

/* Number of decodable frames (by decoding), for tests and `info`. */
UP_API up_status up_video_count(const char *path, int64_t *frames);

/* 1 where the module of videos and the FFmpeg libraries can be loaded; without them the functions above
 * answer UP_ERR_UNSUPPORTED. */
UP_API int up_video_available(void);

#ifdef __cplusplus
}
#endif
#endif
