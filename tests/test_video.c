/* test_video.c - clips against golden/video (frames of the ffmpeg command), the clip rules, and hostile
 * bytes. */
#include "files/file.h"
#include "files/npy.h"
#include "tests/support.h"
#include "uniperceiver/random.h"
#include "uniperceiver/video.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const up_suite_name = "video";

/* X.container decodes to the frames of X.npy. `most` is the bound on any byte: decoders of these codecs are
 * exact but for the inverse transforms of MPEG-4 and MJPEG, and swscale's rounding changed by 1 between its
 * versions. */
typedef struct sample {
    const char *name, *container;
    int frames, most;
} sample;
static const sample samples[] = {
    {"h264", "mp4", 12, 1},     {"bt709", "mp4", 6, 1},     {"full", "mkv", 6, 1},  {"mpeg4", "avi", 12, 3},
    {"mjpeg", "avi", 4, 3},     {"vp9", "webm", 12, 1},     {"gif", "gif", 6, 0},   {"ten", "mkv", 4, 1},
    {"odd", "mkv", 4, 0},       {"vfr", "mkv", 8, 1},       {"short", "mp4", 3, 1}, {"turned90", "mp4", 3, 1},
    {"turned180", "mp4", 3, 1}, {"turned270", "mp4", 3, 1},
};
enum { SAMPLES = sizeof samples / sizeof *samples, MOST_FRAMES = 16 };

static const char *golden(const char *name, const char *extension) {
    char relative[128];
    snprintf(relative, sizeof relative, "golden/video/%s.%s", name, extension);
    return up_test_path(relative);
}

static void free_frames(up_image *frames, int n) {
    for (int i = 0; i < n; i++) up_image_free(&frames[i]);
}

/* Largest difference of a picture and frame `index` of an array; 1000 where the shapes differ. */
static int difference(const up_image *image, const up_npy *want, int64_t index) {
    if (want->type != UP_NPY_U8 || want->ndim != 4 || index >= want->shape[0] ||
        want->shape[1] != image->height || want->shape[2] != image->width || want->shape[3] != 3)
        return 1000;
    int most = 0;
    int64_t n = want->count / want->shape[0];
    const uint8_t *w = (const uint8_t *)want->data + index * n;
    for (int64_t i = 0; i < n; i++)
        if (abs(image->data[i] - w[i]) > most) most = abs(image->data[i] - w[i]);
    return most;
}

/* A failure is one line that begins with the file's name, and leaves nothing behind. */
static void expect_failure(up_status status, up_status wanted, const char *name, const char *word,
                           const up_image *out) {
    if (status != wanted || !strstr(up_last_error(), word))
        fprintf(stderr, "%s: status %d, message \"%s\"; status %d and \"%s\" wanted\n", name, status,
                up_last_error(), wanted, word);
    CU_ASSERT_EQUAL(status, wanted);
    CU_ASSERT_EQUAL(strncmp(up_last_error(), name, strlen(name)), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), word));
    CU_ASSERT_PTR_NULL(out->data);
}

/* In a build without the libraries there is nothing to read, and the answer must say so. */
static int skipped(void) {
    static const up_video_clip clip = {1, 1, 0, -1};
    up_image out;
    if (up_video_available()) return 0;
    printf("(skipped: built without FFmpeg) ");
    expect_failure(up_video_decode("x", 1, "a.mp4", &clip, NULL, &out), UP_ERR_UNSUPPORTED, "a.mp4", "FFmpeg",
                   &out);
    return 1;
}

static void decode_samples(void) {
    if (skipped()) return;
    const up_video_clip clip = {MOST_FRAMES, 1, 0, -1};
    for (size_t i = 0; i < SAMPLES; i++) {
        const sample *s = &samples[i];
        up_npy want = {0};
        up_image frames[MOST_FRAMES];
        UP_ASSERT_OK(up_npy_read(golden(s->name, "npy"), &want));
        UP_ASSERT_OK(up_video_read(golden(s->name, s->container), &clip, NULL, frames));
        int worst = 0;
        for (int t = 0; t < MOST_FRAMES; t++) {
            int d = difference(&frames[t], &want, t < s->frames ? t : s->frames - 1);
            if (d > worst) worst = d;
        }
        if (worst > s->most)
            fprintf(stderr, "%s: differs by %d, at most %d wanted\n", s->name, worst, s->most);
        CU_ASSERT(worst <= s->most);
        int64_t counted = 0;
        UP_ASSERT_OK(up_video_count(golden(s->name, s->container), &counted));
        CU_ASSERT_EQUAL(counted, s->frames);
        free_frames(frames, MOST_FRAMES);
        up_npy_free(&want);
    }
}

/* A start that depends on the length, however it is counted: at (n - 3/2) / n of the n starts lies the last
 * frame but one, with a frame more or less another one. */
static void lengths(void) {
    if (skipped()) return;
    for (size_t i = 0; i < SAMPLES; i++) {
        const sample *s = &samples[i];
        const up_video_clip clip = {1, 1, 0, (s->frames - 1.5) / s->frames};
        up_npy want = {0};
        up_image frame;
        UP_ASSERT_OK(up_npy_read(golden(s->name, "npy"), &want));
        UP_ASSERT_OK(up_video_read(golden(s->name, s->container), &clip, NULL, &frame));
        int found = difference(&frame, &want, s->frames - 2);
        if (found > s->most) fprintf(stderr, "%s: not frame %d\n", s->name, s->frames - 2);
        CU_ASSERT(found <= s->most);
        up_image_free(&frame);
        up_npy_free(&want);
    }
}

/* Which frames a clip takes, from 12 of h264.mp4. */
static void clip_rules(void) {
    if (skipped()) return;
    static const struct {
        up_video_clip clip;
        int indices[5];
    } cases[] = {
        {{4, 2, 0, -1}, {0, 2, 4, 6}},
        {{4, 2, 5, -1}, {5, 7, 9, 11}},
        {{4, 2, 6, -1}, {5, 7, 9, 11}},
        {{4, 2, 999, -1}, {5, 7, 9, 11}},
        {{4, 2, -1, -1}, {2, 4, 6, 8}},
        {{1, 1, -1, -1}, {5}},
        {{4, 2, 0, 0.0}, {0, 2, 4, 6}},
        {{4, 2, 0, 0.5}, {3, 5, 7, 9}},
        {{4, 2, 0, 0.999}, {5, 7, 9, 11}},
        {{4, 5, 3, -1}, {0, 5, 10, 10}},
        {{4, 5, -1, -1}, {0, 5, 10, 10}},
        {{2, 32, 0, 0.9}, {0, 0}},
        {{1, 1, 11, -1}, {11}},
        {{5, 1, -1, -1}, {3, 4, 5, 6, 7}},
    };
    up_npy want = {0};
    UP_ASSERT_OK(up_npy_read(golden("h264", "npy"), &want));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        up_image frames[5];
        UP_ASSERT_OK(up_video_read(golden("h264", "mp4"), &cases[i].clip, NULL, frames));
        for (int t = 0; t < cases[i].clip.frames; t++) {
            int d = difference(&frames[t], &want, cases[i].indices[t]);
            if (d > 1) fprintf(stderr, "case %zu: frame %d is not number %d\n", i, t, cases[i].indices[t]);
            CU_ASSERT(d <= 1);
        }
        free_frames(frames, cases[i].clip.frames);
    }
    up_npy_free(&want);
}

static void not_a_video(void) {
    if (skipped()) return;
    const up_video_clip clip = {1, 1, 0, -1};
    const up_image_limits limits = {48 * 32 - 1};
    up_image out;
    const char *missing = golden("missing", "mp4"), *sound = golden("sound", "wav"),
               *empty = golden("empty", "avi");
    const char *text = golden("manifest", "json"), *folder = up_test_path("golden"),
               *large = golden("h264", "mp4");
    expect_failure(up_video_read(missing, &clip, NULL, &out), UP_ERR_IO, missing, "No such file", &out);
    expect_failure(up_video_read(folder, &clip, NULL, &out), UP_ERR_IO, folder, "is a folder", &out);
    expect_failure(up_video_read(text, &clip, NULL, &out), UP_ERR_FORMAT, text, "no video", &out);
    expect_failure(up_video_read(sound, &clip, NULL, &out), UP_ERR_FORMAT, sound, "no video stream", &out);
    expect_failure(up_video_read(empty, &clip, NULL, &out), UP_ERR_FORMAT, empty, "no video frame", &out);
    expect_failure(up_video_read(large, &clip, &limits, &out), UP_ERR_FORMAT, large, "limit", &out);
    expect_failure(up_video_decode("", 0, "none.mp4", &clip, NULL, &out), UP_ERR_FORMAT, "none.mp4", "empty",
                   &out);
    int64_t frames = -1;
    CU_ASSERT_EQUAL(up_video_count(sound, &frames), UP_ERR_FORMAT);
    CU_ASSERT_EQUAL(up_video_count(missing, &frames), UP_ERR_IO);
    CU_ASSERT_EQUAL(frames, 0);
    out = (up_image){0};
    expect_failure(up_video_read(sound, &(up_video_clip){0, 1, 0, -1}, NULL, &out), UP_ERR_ARGUMENT, sound,
                   "stride", &out);
    expect_failure(up_video_read(sound, &(up_video_clip){1, 0, 0, -1}, NULL, &out), UP_ERR_ARGUMENT, sound,
                   "stride", &out);
}

/* A playlist must not make the decoder open the files that it names. */
static void opens_nothing_else(void) {
    if (skipped()) return;
    char list[2048];
    const up_video_clip clip = {1, 1, 0, -1};
    static const char *const forms[] = {
        "ffconcat version 1.0\nfile '%s'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:%s\n#EXT-X-ENDLIST\n",
    };
    for (size_t i = 0; i < 2; i++) {
        up_image out;
        snprintf(list, sizeof list, forms[i], golden("h264", "mp4"));
        expect_failure(up_video_decode(list, strlen(list), "list", &clip, NULL, &out), UP_ERR_FORMAT, "list",
                       "", &out);
    }
}

static void load(const sample *s, void **data, size_t *size) {
    UP_ASSERT_OK(up_file_read(golden(s->name, s->container), data, size));
}

/* What memory holds decodes like the file, cut short or damaged it gives frames or an error that names it. */
static void survive(const void *data, size_t size, const char *name) {
    const up_video_clip clip = {3, 1, -1, -1};
    const up_image_limits limits = {1 << 20};
    up_image frames[3];
    up_status status = up_video_decode(data, size, name, &clip, &limits, frames);
    for (int t = 0; t < 3; t++) {
        CU_ASSERT((status == UP_OK) == (frames[t].data != NULL));
        CU_ASSERT((int64_t)frames[t].width * frames[t].height <= limits.max_pixels);
    }
    if (status != UP_OK) CU_ASSERT_EQUAL(strncmp(up_last_error(), name, strlen(name)), 0);
    free_frames(frames, 3);
}

static void truncations(void) {
    if (skipped()) return;
    for (size_t i = 0; i < SAMPLES; i++) {
        void *data;
        size_t size;
        load(&samples[i], &data, &size);
        for (size_t part = 0; part < size; part += 1 + size / 40) {
            void *copy = malloc(part ? part : 1);
            CU_ASSERT_FATAL(copy != NULL);
            memcpy(copy, data, part);
            survive(copy, part, samples[i].name);
            free(copy);
        }
        free(data);
    }
}

static void random_damage(void) {
    if (skipped()) return;
    up_rng rng = up_rng_make(up_test_seed(), 1, 0, 0);
    printf("UP_TEST_SEED=%llu ", (unsigned long long)up_test_seed());
    for (size_t i = 0; i < SAMPLES; i++) {
        void *data;
        size_t size;
        load(&samples[i], &data, &size);
        uint8_t *copy = malloc(size);
        CU_ASSERT_FATAL(copy != NULL);
        for (int round = 0; round < 40; round++) {
            memcpy(copy, data, size);
            uint32_t reach =
                round % 2 && size > 600 ? 600 : (uint32_t)size; /* half the rounds aim at the headers */
            for (uint32_t n = 1 + up_rng_below(&rng, 4); n--;)
                copy[up_rng_below(&rng, reach)] ^= (uint8_t)(1u << up_rng_below(&rng, 8));
            survive(copy, size, samples[i].name);
        }
        free(copy);
        free(data);
    }
}

static struct {
    void *data[SAMPLES];
    size_t size[SAMPLES];
    up_image alone[SAMPLES];
} shared;
static const up_video_clip shared_clip = {1, 1, -1, -1};

static void *work(void *unused) {
    uintptr_t wrong = 0;
    (void)unused;
    for (size_t i = 0; i < SAMPLES; i++) {
        up_image frame, *alone = &shared.alone[i];
        up_status status =
            up_video_decode(shared.data[i], shared.size[i], "thread", &shared_clip, NULL, &frame);
        wrong += status != UP_OK || frame.width != alone->width || frame.height != alone->height ||
                 memcmp(frame.data, alone->data, (size_t)alone->width * (size_t)alone->height * 3);
        up_image_free(&frame);
    }
    return (void *)wrong;
}

/* Several loader threads decode at once, from memory, what one alone read from the file. */
static void threads(void) {
    if (skipped()) return;
    enum { THREADS = 4 };
    pthread_t ids[THREADS];
    for (size_t i = 0; i < SAMPLES; i++) {
        load(&samples[i], &shared.data[i], &shared.size[i]);
        UP_ASSERT_OK(up_video_read(golden(samples[i].name, samples[i].container), &shared_clip, NULL,
                                   &shared.alone[i]));
    }
    for (size_t t = 0; t < THREADS; t++) CU_ASSERT_EQUAL_FATAL(pthread_create(&ids[t], NULL, work, NULL), 0);
    for (size_t t = 0; t < THREADS; t++) {
        void *wrong = &wrong;
        pthread_join(ids[t], &wrong);
        CU_ASSERT_PTR_NULL(wrong);
    }
    for (size_t i = 0; i < SAMPLES; i++) {
        free(shared.data[i]);
        up_image_free(&shared.alone[i]);
    }
}

const up_test up_tests[] = {
    {"decode_samples", decode_samples},
    {"lengths", lengths},
    {"clip_rules", clip_rules},
    {"not_a_video", not_a_video},
    {"opens_nothing_else", opens_nothing_else},
    {"truncations", truncations},
    {"random_damage", random_damage},
    {"threads", threads},
    {NULL, NULL},
};
