/* video_ffmpeg.c - one pass over any video that the FFmpeg libraries know: its frames as upright RGB
 * pictures. Colours go through swscale's accurate path with the stream's own matrix and range. A module of
 * its own, uniperceiver_video.so, that video.c loads when a video is opened. */
#include "data/video_module.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

/* An open video: decoded front to back once. */
typedef struct reader {
    const up_video_host *host;
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
    up_video_source *s = opaque;
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
    up_video_source *s = opaque;
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

static up_status broken(const up_video_host *host, const up_video_source *s, const char *what, int error) {
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(error, text, sizeof text);
    return host->fail(error == AVERROR(ENOMEM) ? UP_ERR_MEMORY : UP_ERR_FORMAT, s->name, "%s (%s)", what,
                      text);
}

static up_status read_failed(const up_video_host *host, const up_video_source *s) {
    if (s->failed == ESTALE)
        return host->fail(UP_ERR_IO, s->name, "ended after %lld bytes while it was read; wanted %lld",
                          (long long)s->at, (long long)s->size);
    return host->fail(UP_ERR_IO, s->name, "cannot read: %s", strerror(s->failed));
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
static up_status open_format(reader *r, up_video_source *s) {
    enum { BUFFER = 1 << 16 };
    uint8_t *buffer = av_malloc(BUFFER);
    r->io = buffer ? avio_alloc_context(buffer, BUFFER, 0, s, source_read, NULL, source_seek) : NULL;
    r->format = avformat_alloc_context();
    r->packet = av_packet_alloc();
    r->frame = av_frame_alloc();
    if (!r->io) av_free(buffer);
    if (!r->io || !r->format || !r->packet || !r->frame)
        return broken(r->host, s, "no memory for the reader", AVERROR(ENOMEM));
    r->format->pb = r->io;
    AVDictionary *options = NULL;
    av_dict_set(&options, "protocol_whitelist", "none", 0);
    int error = avformat_open_input(&r->format, "video", NULL, &options);
    av_dict_free(&options);
    return error < 0 ? broken(r->host, s, "no video that can be read", error) : UP_OK;
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
static up_status open_codec(reader *r, const up_video_source *s, const up_image_limits *limits,
                            int only_count) {
    int64_t max_pixels = r->host->max_pixels(limits);
    int error = probe_streams(r->format, max_pixels);
    if (error < 0) return broken(r->host, s, "its streams cannot be read", error);
    int index = av_find_best_stream(r->format, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
    if (index < 0 || r->format->streams[index]->disposition & AV_DISPOSITION_ATTACHED_PIC)
        return r->host->fail(UP_ERR_FORMAT, s->name, "holds no video stream");
    r->stream = r->format->streams[index];
    const AVCodecParameters *p = r->stream->codecpar;
    if (p->width > 0 && p->height > 0) UP_TRY(r->host->check_size(p->width, p->height, s->name, limits));
    for (unsigned i = 0; i < r->format->nb_streams; i++)
        if ((int)i != index) r->format->streams[i]->discard = AVDISCARD_ALL;
    const AVCodec *decoder = avcodec_find_decoder(p->codec_id);
    if (!decoder)
        return r->host->fail(UP_ERR_UNSUPPORTED, s->name, "no decoder for %s video",
                             avcodec_get_name(p->codec_id));
    if (!(r->codec = avcodec_alloc_context3(decoder)))
        return broken(r->host, s, "no decoder", AVERROR(ENOMEM));
    error = avcodec_parameters_to_context(r->codec, p);
    r->codec->pkt_timebase = r->stream->time_base;
    r->codec->thread_count = 1;
    r->codec->max_pixels = max_pixels;
    if (only_count) r->codec->skip_loop_filter = AVDISCARD_ALL;
    if (error >= 0) error = avcodec_open2(r->codec, decoder, NULL);
    return error < 0 ? broken(r->host, s, "its video cannot be decoded", error) : UP_OK;
}

/* Feed the decoder one packet of the stream, or the end. Damaged packets are passed over: the next one may be
 * whole. */
static int feed(reader *r) {
    for (;;) {
        int end = av_read_frame(r->format, r->packet);
        if (end == AVERROR(ENOMEM)) return end;
        if (end < 0) { /* what a failed read was is known to the up_video_source */
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
static up_status convert(reader *r, const up_video_source *s, const up_image_limits *limits, up_image *out) {
    const AVFrame *f = r->frame;
    const AVPixFmtDescriptor *format = av_pix_fmt_desc_get(f->format);
    int alpha = s->still && format && format->flags & (AV_PIX_FMT_FLAG_ALPHA | AV_PIX_FMT_FLAG_PAL);
    int channels = alpha ? 4 : 3;
    UP_TRY(r->host->alloc(f->width, f->height, channels, s->name, limits, out));
    r->scaler = sws_getCachedContext(r->scaler, f->width, f->height, f->format, f->width, f->height,
                                     alpha ? AV_PIX_FMT_RGBA : AV_PIX_FMT_RGB24,
                                     SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT |
                                         SWS_FULL_CHR_H_INP | SWS_BITEXACT,
                                     NULL, NULL, NULL);
    if (!r->scaler) return r->host->fail(UP_ERR_UNSUPPORTED, s->name, "no conversion of its pixels to RGB");
    int *inverse, *table, from_full, to_full, brightness, contrast, saturation;
    if (sws_getColorspaceDetails(r->scaler, &inverse, &from_full, &table, &to_full, &brightness, &contrast,
                                 &saturation) >= 0) {
        if (f->color_range != AVCOL_RANGE_UNSPECIFIED) from_full = f->color_range == AVCOL_RANGE_JPEG;
        sws_setColorspaceDetails(r->scaler, sws_getCoefficients(f->colorspace), from_full, table, to_full,
                                 brightness, contrast, saturation);
    }
    uint8_t *planes[4] = {out->data};
    int strides[4] = {out->width * channels};
    if (sws_scale(r->scaler, (const uint8_t *const *)f->data, f->linesize, 0, f->height, planes, strides) !=
        f->height)
        return r->host->fail(UP_ERR_FORMAT, s->name, "a frame cannot be converted to RGB");
    if (alpha) r->host->over_white(out);
    const int32_t *matrix = display_matrix(r);
    return matrix ? r->host->orient(out, orientation_of(matrix), s->name) : UP_OK;
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

/* Errors are ours to report, in one line. */
static void quiet(void) {
    av_log_set_level(AV_LOG_QUIET);
}

static up_status run(reader *r, up_video_source *s, up_video_pass *p) {
    int more = 0;
    UP_TRY(open_format(r, s));
    UP_TRY(open_codec(r, s, p->limits, !p->out));
    if (!p->out && p->clip && packets_are_frames(r->codec->codec_id))
        more = count_packets(r, &p->seen);
    else
        while (!(p->out && p->kept == p->clip->frames) && (more = next_frame(r)) > 0) {
            p->starved |= errno == ENOMEM;
            if (p->out && p->seen == p->start + (int64_t)p->kept * p->clip->stride) {
                UP_TRY(convert(r, s, p->limits, &p->out[p->kept]));
                p->kept++;
            }
            p->seen++;
            av_frame_unref(r->frame);
        }
    if (more < 0) return broken(r->host, s, "decoding", more);
    return p->seen ? UP_OK : r->host->fail(UP_ERR_FORMAT, s->name, "no video frame can be decoded");
}

up_status up_video_ffmpeg_pass(const up_video_host *host, up_video_source *s, up_video_pass *p) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    reader r = {.host = host};
    if (host->version != UP_VIDEO_MODULE_VERSION || host->size != sizeof *host)
        return host->fail(UP_ERR_UNSUPPORTED, "video", "the module is another version's (%u, wanted %d)",
                          host->version, UP_VIDEO_MODULE_VERSION);
    pthread_once(&once, quiet);
    s->at = 0;
    s->failed = p->kept = p->starved = 0;
    p->seen = 0;
    errno = 0;
    up_status status = run(&r, s, p);
    p->starved |= errno == ENOMEM;
    reader_close(&r);
    return s->failed ? read_failed(host, s) : status;
}
