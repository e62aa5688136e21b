/* video.c - N frames at a temporal stride out of any video that the FFmpeg libraries know, as upright RGB
 * pictures. Paper appendix A and E. Frames are counted as the decoder returns them; colours go through
 * swscale's accurate path with the stream's own matrix and range. Without FFmpeg the functions answer
 * UP_ERR_UNSUPPORTED. */
#include "uniperceiver/video.h"
#include "ref/given.h"
#include "data/pixels.h"
#include "files/file.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where the bytes come from: memory, or a file read at explicit offsets. The FFmpeg libraries take a failed
 * read for the end of the video, so the source remembers it. */
typedef struct source {
    const char *name;
    const uint8_t *bytes; /* NULL: read from `file` */
    int file;
    int64_t size, at;
    int failed; /* errno of the first read that failed, ESTALE where the file ended early */
} source;

#ifdef UP_WITH_FFMPEG
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libavutil/imgutils.h>
#include <libswscale/swscale.h>

/* An open video: decoded front to back once. */
typedef struct reader {
    AVFormatContext *format;
    AVIOContext *io;
    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *frame;
    struct SwsContext *scaler;
    AVStream *stream; /* of `format` */
    int draining;     /* the file has ended, the decoder still holds frames */
} reader;

static int source_read(void *opaque, uint8_t *to, int size) {
    source *s = opaque;
    int64_t left = s->size - s->at;
    if (left <= 0) return AVERROR_EOF;
    size_t wanted = size < left ? (size_t)size : (size_t)left;
    ssize_t got = (ssize_t)wanted;
    if (s->bytes) memcpy(to, s->bytes + s->at, wanted);
    while (!s->bytes && (got = pread(s->file, to, wanted, s->at)) < 0 && errno == EINTR) continue;
    if (got <= 0) {
        s->failed = got ? errno : ESTALE;
        return AVERROR(s->failed);
    }
    s->at += got;
    return (int)got;
}

static int64_t source_seek(void *opaque, int64_t offset, int whence) {
    source *s = opaque;
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE) return s->size;
    if (whence == SEEK_CUR)
        offset += s->at;
    else if (whence == SEEK_END)
        offset += s->size;
    else if (whence != SEEK_SET)
        return AVERROR(EINVAL);
    return offset < 0 ? AVERROR(EINVAL) : (s->at = offset);
}

static up_status broken(const source *s, const char *what, int error) {
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(error, text, sizeof text);
    return up_fail(error == AVERROR(ENOMEM) ? UP_ERR_MEMORY : UP_ERR_FORMAT, s->name, "%s (%s)", what, text);
}

static up_status read_failed(const source *s) {
    if (s->failed == ESTALE)
        return up_fail(UP_ERR_IO, s->name, "ended after %lld bytes while it was read; wanted %lld",
                       (long long)s->at, (long long)s->size);
    return up_fail(UP_ERR_IO, s->name, "cannot read: %s", strerror(s->failed));
}

static void reader_close(reader *r) {
    sws_freeContext(r->scaler);
    av_frame_free(&r->frame);
    av_packet_free(&r->packet);
    avcodec_free_context(&r->codec);
    avformat_close_input(&r->format);
    if (r->io) av_freep(&r->io->buffer);
    avio_context_free(&r->io);
}

/* The container: what it is is decided by its bytes alone, and it may open nothing else (a playlist names
 * other files). */
static up_status open_format(reader *r, source *s) {
    enum { BUFFER = 1 << 16 };
    uint8_t *buffer = av_malloc(BUFFER);
    r->io = buffer ? avio_alloc_context(buffer, BUFFER, 0, s, source_read, NULL, source_seek) : NULL;
    r->format = avformat_alloc_context();
    r->packet = av_packet_alloc();
    r->frame = av_frame_alloc();
    if (!r->io) av_free(buffer);
    if (!r->io || !r->format || !r->packet || !r->frame)
        return broken(s, "no memory for the reader", AVERROR(ENOMEM));
    r->format->pb = r->io;
    AVDictionary *options = NULL;
    av_dict_set(&options, "protocol_whitelist", "none", 0);
    int error = avformat_open_input(&r->format, "video", NULL, &options);
    av_dict_free(&options);
    return error < 0 ? broken(s, "no video that can be read", error) : UP_OK;
}

/* Look into the streams with decoders bound by the pixel limit, one thread each. */
static int probe_streams(AVFormatContext *format, int64_t max_pixels) {
    unsigned n = format->nb_streams;
    AVDictionary **options = av_calloc(n + 1, sizeof *options);
    if (!options) return AVERROR(ENOMEM);
    for (unsigned i = 0; i < n; i++) {
        av_dict_set_int(&options[i], "max_pixels", max_pixels < INT_MAX ? max_pixels : INT_MAX, 0);
        av_dict_set_int(&options[i], "threads", 1, 0);
    }
    int error = avformat_find_stream_info(format, n ? options : NULL);
    for (unsigned i = 0; i < n; i++) av_dict_free(&options[i]);
    av_free(options);
    return error;
}

/* `only_count`: pixels are not looked at, so the decoder may leave work out that does not change the number
 * of frames. */
static up_status open_codec(reader *r, const source *s, const up_image_limits *limits, int only_count) {
    int64_t max_pixels = up_image_max_pixels(limits);
    int error = probe_streams(r->format, max_pixels);
    if (error < 0) return broken(s, "its streams cannot be read", error);
    int index = av_find_best_stream(r->format, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
    if (index < 0 || r->format->streams[index]->disposition & AV_DISPOSITION_ATTACHED_PIC)
        return up_fail(UP_ERR_FORMAT, s->name, "holds no video stream");
    r->stream = r->format->streams[index];
    const AVCodecParameters *p = r->stream->codecpar;
    if (p->width > 0 && p->height > 0) UP_TRY(up_image_check_size(p->width, p->height, s->name, limits));
    for (unsigned i = 0; i < r->format->nb_streams; i++)
        if ((int)i != index) r->format->streams[i]->discard = AVDISCARD_ALL;
    const AVCodec *decoder = avcodec_find_decoder(p->codec_id);
    if (!decoder)
        return up_fail(UP_ERR_UNSUPPORTED, s->name, "no decoder for %s video", avcodec_get_name(p->codec_id));
    if (!(r->codec = avcodec_alloc_context3(decoder))) return broken(s, "no decoder", AVERROR(ENOMEM));
    error = avcodec_parameters_to_context(r->codec, p);
    r->codec->pkt_timebase = r->stream->time_base;
    r->codec->thread_count = 1;
    r->codec->max_pixels = max_pixels;
    if (only_count) r->codec->skip_loop_filter = AVDISCARD_ALL;
    if (error >= 0) error = avcodec_open2(r->codec, decoder, NULL);
    return error < 0 ? broken(s, "its video cannot be decoded", error) : UP_OK;
}

/* Feed the decoder one packet of the stream, or the end. Damaged packets are passed over: the next one may be
 * whole. */
static int feed(reader *r) {
    for (;;) {
        int end = av_read_frame(r->format, r->packet);
        if (end == AVERROR(ENOMEM)) return end;
        if (end < 0) { /* what a failed read was is known to the source */
            r->draining = 1;
            return avcodec_send_packet(r->codec, NULL);
        }
        int wanted = r->packet->stream_index == r->stream->index, error = 0;
        if (wanted) error = avcodec_send_packet(r->codec, r->packet);
        av_packet_unref(r->packet);
        if (error == AVERROR(ENOMEM)) return error;
        if (wanted && error >= 0) return 0;
    }
}

/* The next frame into r->frame: 1, 0 at the end, or out of memory (negative). Damage passes over frames, at
 * the end of the file it ends the video. */
static int next_frame(reader *r) {
    for (;;) {
        int error = avcodec_receive_frame(r->codec, r->frame);
        if (error >= 0) return 1;
        if (error == AVERROR(ENOMEM)) return error;
        if (error == AVERROR_EOF || r->draining) return 0;
        if ((error = feed(r)) < 0) return error == AVERROR(ENOMEM) ? error : 0;
    }
}

/* The 3 x 3 display matrix [a b u; c d v; x y w] takes (x, y) to (a x + c y, b x + d y); its nearest quarter
 * turn. */
static up_orientation orientation_of(const int32_t *m) {
    if (llabs(m[1]) + llabs(m[3]) > llabs(m[0]) + llabs(m[4])) return (up_orientation){1, m[3] < 0, m[1] < 0};
    return (up_orientation){0, m[0] < 0, m[4] < 0};
}

static const int32_t *display_matrix(const reader *r) {
    const AVFrameSideData *of_frame = av_frame_get_side_data(r->frame, AV_FRAME_DATA_DISPLAYMATRIX);
    if (of_frame && of_frame->size >= 36) return (const int32_t *)of_frame->data;
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 102)
    const AVCodecParameters *p = r->stream->codecpar;
    const AVPacketSideData *of_stream =
        av_packet_side_data_get(p->coded_side_data, p->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
    return of_stream && of_stream->size >= 36 ? (const int32_t *)of_stream->data : NULL;
#else
    size_t size = 0;
    const uint8_t *of_stream = av_stream_get_side_data(r->stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
    return of_stream && size >= 36 ? (const int32_t *)of_stream : NULL;
#endif
}

/* The decoded frame as an upright RGB picture. */
static up_status convert(reader *r, const source *s, const up_image_limits *limits, up_image *out) {
    const AVFrame *f = r->frame;
    UP_TRY(up_image_alloc(f->width, f->height, 3, s->name, limits, out));
    r->scaler = sws_getCachedContext(
        r->scaler, f->width, f->height, f->format, f->width, f->height, AV_PIX_FMT_RGB24,
        SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_BITEXACT, NULL, NULL,
        NULL);
    if (!r->scaler) return up_fail(UP_ERR_UNSUPPORTED, s->name, "no conversion of its pixels to RGB");
    int *inverse, *table, from_full, to_full, brightness, contrast, saturation;
    if (sws_getColorspaceDetails(r->scaler, &inverse, &from_full, &table, &to_full, &brightness, &contrast,
                                 &saturation) >= 0) {
        if (f->color_range != AVCOL_RANGE_UNSPECIFIED) from_full = f->color_range == AVCOL_RANGE_JPEG;
        sws_setColorspaceDetails(r->scaler, sws_getCoefficients(f->colorspace), from_full, table, to_full,
                                 brightness, contrast, saturation);
    }
    uint8_t *planes[4] = {out->data};
    int strides[4] = {out->width * 3};
    if (sws_scale(r->scaler, (const uint8_t *const *)f->data, f->linesize, 0, f->height, planes, strides) !=
        f->height)
        return up_fail(UP_ERR_FORMAT, s->name, "a frame cannot be converted to RGB");
    const int32_t *matrix = display_matrix(r);
    return matrix ? up_image_orient(out, orientation_of(matrix), s->name) : UP_OK;
}

static void free_frames(up_image *frames, int n) {
    for (int i = 0; i < n; i++) up_image_free(&frames[i]);
}

/* Formats in which a sound video has a packet for each frame that its decoder returns: their frames can be
 * counted without being decoded. (VP8, for one, has packets of frames that are never shown.) */
static int packets_are_frames(enum AVCodecID codec) {
    static const enum AVCodecID known[] = {AV_CODEC_ID_H264, AV_CODEC_ID_HEVC,  AV_CODEC_ID_VP9,
                                           AV_CODEC_ID_AV1,  AV_CODEC_ID_MJPEG, AV_CODEC_ID_GIF};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (codec == known[i]) return 1;
    return 0;
}

/* The packets that are left; out of memory is negative. */
static int count_packets(reader *r, int64_t *count) {
    int end;
    while ((end = av_read_frame(r->format, r->packet)) >= 0) {
        int shown = r->packet->size > 0 && !(r->packet->flags & AV_PKT_FLAG_DISCARD);
        *count += r->packet->stream_index == r->stream->index && shown;
        av_packet_unref(r->packet);
    }
    return end == AVERROR(ENOMEM) ? end : 0;
}

/* One pass over the video from its beginning. With `out`, the frames start, start + stride, ... are kept,
 * *kept of them, and the pass ends with the last one wanted. *seen = frames decoded: all there are where
 * *kept < clip->frames. Without `out` it is the number of frames there are, and `clip` says that they need
 * not be decoded for it. *starved: an allocation failed on the way. */
static up_status pass_once(source *s, const up_video_clip *clip, int64_t start, const up_image_limits *limits,
                           up_image *out, int *kept, int64_t *seen, int *starved) {
    reader r = {0};
    up_status status = UP_OK;
    s->at = 0;
    s->failed = 0;
    *kept = 0;
    *seen = 0;
    *starved = 0;
    errno = 0;
    UP_GO(open_format(&r, s));
    UP_GO(open_codec(&r, s, limits, !out));
    int more = 0;
    if (!out && clip && packets_are_frames(r.codec->codec_id))
        more = count_packets(&r, seen);
    else
        while (!(out && *kept == clip->frames) && (more = next_frame(&r)) > 0) {
            *starved |= errno == ENOMEM;
            if (out && *seen == start + (int64_t)*kept * clip->stride) {
                UP_GO(convert(&r, s, limits, &out[*kept]));
                ++*kept;
            }
            ++*seen;
            av_frame_unref(r.frame);
        }
    if (more < 0)
        status = broken(s, "decoding", more);
    else if (!*seen)
        status = up_fail(UP_ERR_FORMAT, s->name, "no video frame can be decoded");
done:
    *starved |= errno == ENOMEM;
    reader_close(&r);
    return s->failed ? read_failed(s) : status;
}

/* When memory runs out inside the FFmpeg libraries, many of their parts go on: with a frame less, without a
 * reference or in other colours. errno knows of it. It may also know of an allocation that the C library
 * tried elsewhere with success, so a starved pass is done once more, and only a second one is an error. */
static up_status pass(source *s, const up_video_clip *clip, int64_t start, const up_image_limits *limits,
                      up_image *out, int *kept, int64_t *seen) {
    int starved = 0;
    for (int attempt = 0; attempt < 2; attempt++) {
        up_status status = pass_once(s, clip, start, limits, out, kept, seen, &starved);
        if (!starved || s->failed) return status;
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

/* Errors are ours to report, in one line. */
static void quiet(void) {
    av_log_set_level(AV_LOG_QUIET);
}

static void begin(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, quiet);
}

int up_video_available(void) {
    return 1;
}
#else
static up_status unsupported(const source *s) {
    return up_fail(UP_ERR_UNSUPPORTED, s->name, "video, which this build has no libraries for (FFmpeg)");
}

static up_status decode(source *s, const up_video_clip *clip, const up_image_limits *limits, up_image *out) {
    (void)clip;
    (void)limits;
    (void)out;
    return unsupported(s);
}

static up_status count(source *s, int64_t *frames) {
    (void)frames;
    return unsupported(s);
}

static void begin(void) {}

int up_video_available(void) {
    return 0;
}
#endif

/* Check the question and clear the answer before any byte is looked at. */
static up_status check(const char *name, const up_video_clip *clip, up_image *out) {
    begin();
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
    begin();
    up_status status = open_file(path, &s);
    if (status == UP_OK) status = count(&s, frames);
    if (s.file >= 0) close(s.file);
    return status;
}
