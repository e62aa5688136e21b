/* test_faults.c - the system refuses: folders that cannot be synced or listed, files that cannot be opened or
 * read, memory that runs out inside jansson and inside FFmpeg, pipes where files are wanted, a locale with
 * commas. Nothing whole may be given up for it, and nothing broken may be taken for whole. The refusals come
 * from the functions below, which stand before the C library's. */
#include "files/config.h"
#include "files/file.h"
#include "files/json.h"
#include "files/safetensors.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "uniperceiver/text.h"
#include "uniperceiver/video.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const up_suite_name = "faults";

/* ---- the functions that refuse ---- */

static struct {
    int sync_folder;  /* errno of fsync on a folder; 0: as usual, here and below */
    const char *open; /* part of the path that gives EIO when opened */
    const char *read; /* ... and when read */
    int list_after;   /* readdir gives EIO after so many entries */
    int pread_after;  /* pread gives EIO after so many calls */
    int memory_after; /* allocations of FFmpeg (while `in_video`) and of jansson give none after so many... */
    int memory_once;  /* ... or only that one */
    int in_video;
    int refused; /* how often any of them did */
} fault;
static int read_file = -1;

#define NEXT(name) dlsym(RTLD_NEXT, name)
#define SHARED     __attribute__((visibility("default"))) /* for callers in shared libraries too */

static int refuse(int error) {
    fault.refused++;
    errno = error;
    return -1;
}

int fsync(int file) {
    int (*next)(int) = NEXT("fsync");
    struct stat about;
    if (fault.sync_folder && !fstat(file, &about) && S_ISDIR(about.st_mode)) return refuse(fault.sync_folder);
    return next(file);
}

int open(const char *path, int flags, ...) {
    int (*next)(const char *, int, ...) = NEXT("open64");
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (fault.open && strstr(path, fault.open)) return refuse(EIO);
    int file = next(path, flags, mode);
    if (fault.read && strstr(path, fault.read)) read_file = file;
    return file;
}

ssize_t read(int file, void *to, size_t size) {
    ssize_t (*next)(int, void *, size_t) = NEXT("read");
    return fault.read && file == read_file ? refuse(EIO) : next(file, to, size);
}

ssize_t pread(int file, void *to, size_t size, off_t at) {
    ssize_t (*next)(int, void *, size_t, off_t) = NEXT("pread64");
    if (fault.pread_after && !--fault.pread_after) {
        fault.pread_after = 1; /* and ever after */
        return refuse(EIO);
    }
    return next(file, to, size, at);
}

struct dirent *readdir(DIR *folder) {
    struct dirent *(*next)(DIR *) = NEXT("readdir64");
    if (!fault.list_after || --fault.list_after) return next(folder);
    refuse(EIO);
    return NULL;
}

static int no_memory(void) {
    if (!fault.memory_after || --fault.memory_after) return 0;
    fault.memory_after = !fault.memory_once;
    return refuse(ENOMEM);
}

SHARED int posix_memalign(void **out, size_t align, size_t size) {
    static int (*next)(void **, size_t, size_t);
    if (!next) next = NEXT("posix_memalign");
    return fault.in_video && no_memory() ? ENOMEM : next(out, align, size);
}

SHARED void *realloc(void *from, size_t size) {
    static void *(*next)(void *, size_t);
    if (!next) next = NEXT("realloc");
    return fault.in_video && no_memory() ? NULL : next(from, size);
}

static void *json_memory(size_t size) {
    return no_memory() ? NULL : malloc(size);
}

static void all_is_well(void) {
    memset(&fault, 0, sizeof fault);
    read_file = -1;
}

#define EXPECT_ERROR(call, wanted, words)                                                                    \
    do {                                                                                                     \
        up_status got_ = (call);                                                                             \
        int sound_ = got_ == (wanted) && strstr(up_last_error(), words);                                     \
        if (!sound_) fprintf(stderr, "line %d: %s; \"%s\" wanted\n", __LINE__, up_last_error(), words);      \
        CU_ASSERT(sound_);                                                                                   \
    } while (0)

/* ---- checkpoints ---- */

static void open_trainer(const char *run, const char *more, up_trainer *t) {
    char folder[600];
    up_lab_config();
    snprintf(folder, sizeof folder, "run=%s", run);
    const char *overrides[] = {folder, "keep=1", more};
    const up_train_options options = {.backend = "ref", .threads = 1, .resume = 1, .quiet = 1};
    UP_ASSERT_OK(up_trainer_open(up_lab_path("train.yaml"), overrides, more ? 3 : 2, &options, t));
}

static int has(const char *run, const char *name) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", run, name);
    return !access(path, F_OK);
}

static void save_at(up_trainer *t, int64_t step) {
    t->step = step;
    t->skipped = step; /* so that the counts add up */
    UP_ASSERT_OK(up_checkpoint_save(t));
}

static void test_folders_without_sync(void) {
    const char *run = up_lab_path("unsynced");
    up_trainer t;
    open_trainer(run, NULL, &t);
    fault.sync_folder = EINVAL; /* as file systems do that sync no folders */
    save_at(&t, 1);
    CU_ASSERT(fault.refused > 0 && has(run, "checkpoint-00000001/state.json"));
    fault.sync_folder = EIO;
    t.step = t.skipped = 2;
    EXPECT_ERROR(up_checkpoint_save(&t), UP_ERR_IO, "cannot sync: Input/output error");
    all_is_well();
    up_trainer_close(&t);
    up_lab_remove(run);
}

/* Each allocation of jansson in turn: the save fails and the older checkpoint stays, or the new one is whole.
 */
static void test_saving_without_memory(void) {
    const char *run = up_lab_path("starved");
    up_trainer t;
    int found, saved = 0, failed = 0;
    open_trainer(run, NULL, &t);
    save_at(&t, 1);
    json_set_alloc_funcs(json_memory, free);
    for (int n = 1; !saved; n++) {
        fault.memory_after = n;
        fault.memory_once = 1;
        t.step = t.skipped = 2;
        up_status status = up_checkpoint_save(&t);
        saved = status == UP_OK;
        failed += !saved;
        if (saved) CU_ASSERT(!fault.refused); /* no allocation is left that could fail */
        if (!saved) CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "no memory"));
        CU_ASSERT(!has(run, "checkpoint-00000002.partial"));
        all_is_well();
        UP_ASSERT_OK(up_checkpoint_load(&t, &found));
        CU_ASSERT(found && t.step == (saved ? 2 : 1));
    }
    json_set_alloc_funcs(malloc, free);
    CU_ASSERT(failed > 100);
    up_trainer_close(&t);
    up_lab_remove(run);
}

static void expect_untouched(const char *run) {
    CU_ASSERT(has(run, "checkpoint-00000001") && has(run, "checkpoint-00000002"));
    CU_ASSERT(!has(run, "checkpoint-00000001.broken") && !has(run, "checkpoint-00000002.broken"));
}

/* A checkpoint that cannot be read now is not a broken one: it keeps its name, and no older one is taken. */
static void test_resuming_without_files(void) {
    static const char *const files[] = {"2/state.json", "2/model.safetensors", "2/optimizer.safetensors"};
    const char *run = up_lab_path("unreadable");
    up_trainer t;
    int found;
    open_trainer(run, "keep=2", &t);
    save_at(&t, 1);
    save_at(&t, 2);
    for (int i = 0; i < 3; i++)
        for (int reading = 0; reading < 2; reading++) {
            *(reading ? &fault.read : &fault.open) = files[i];
            EXPECT_ERROR(up_checkpoint_load(&t, &found), UP_ERR_IO, "Input/output error");
            CU_ASSERT(!found && fault.refused > 0);
            all_is_well();
            expect_untouched(run);
        }
    for (int n = 1; n < 4; n++) { /* half a list of the folder is none */
        fault.list_after = n;
        EXPECT_ERROR(up_checkpoint_load(&t, &found), UP_ERR_IO, "cannot be listed: Input/output error");
        CU_ASSERT(!found && fault.refused > 0);
        all_is_well();
    }
    UP_ASSERT_OK(up_checkpoint_load(&t, &found));
    CU_ASSERT(found && t.step == 2);
    up_trainer_close(&t);
    up_lab_remove(run);
}

static void test_resuming_without_memory(void) {
    const char *run = up_lab_path("starved");
    up_trainer t;
    int found, failed = 0, whole = 0;
    open_trainer(run, "keep=2", &t);
    save_at(&t, 1);
    save_at(&t, 2);
    json_set_alloc_funcs(json_memory, free);
    for (int n = 1; !whole; n++) {
        fault.memory_after = n;
        up_status status = up_checkpoint_load(&t, &found);
        whole = !fault.refused;
        failed += status != UP_OK;
        CU_ASSERT(status == UP_ERR_MEMORY || (status == UP_OK && found && t.step == 2));
        all_is_well();
        expect_untouched(run);
    }
    json_set_alloc_funcs(malloc, free);
    CU_ASSERT(failed > 20);
    up_trainer_close(&t);
    up_lab_remove(run);
}

/* What a killed run left half written goes when a run begins, goes on, or saves. */
static void test_half_checkpoints(void) {
    const char *run = up_lab_path("halves");
    char left[3][600];
    up_trainer t;
    for (int i = 0; i < 3; i++) {
        snprintf(left[i], sizeof left[i], "%s/checkpoint-0000000%d.partial", run, i + 3);
        if (i == 1) open_trainer(run, NULL, &t);
        UP_ASSERT_OK(up_make_folders(left[i]));
        strcat(left[i], "/model.safetensors.partial");
        UP_ASSERT_OK(up_file_write(left[i], "half", 4));
        if (i == 1) {
            save_at(&t, 1);
            CU_ASSERT(!has(run, "checkpoint-00000004.partial"));
            up_trainer_close(&t);
        }
    }
    CU_ASSERT(!has(run, "checkpoint-00000003.partial") && has(run, "checkpoint-00000005.partial"));
    open_trainer(run, NULL, &t);
    CU_ASSERT(t.step == 1 && !has(run, "checkpoint-00000005.partial"));
    up_trainer_close(&t);
    up_lab_remove(run);
}

/* ---- videos ---- */

static const char *const videos[] = {"h264.mp4", "mjpeg.avi", "vp9.webm", "gif.gif"};
static const up_video_clip whole_clip = {4, 2, -1, -1};

static int same_pictures(const up_image *a, const up_image *b) {
    int same = 1;
    for (int i = 0; i < whole_clip.frames; i++)
        same = same && a[i].width == b[i].width && a[i].height == b[i].height &&
               !memcmp(a[i].data, b[i].data, (size_t)a[i].width * (size_t)a[i].height * 3);
    return same;
}

static void free_pictures(up_image *pictures) {
    for (int i = 0; i < whole_clip.frames; i++) up_image_free(&pictures[i]);
}

/* Reading fails at the n-th call, for every n: an error, never fewer frames. */
static void test_video_cannot_be_read(void) {
    if (!up_lab_clips()) return;
    for (size_t v = 0; v < sizeof videos / sizeof *videos; v++) {
        const char *path = up_lab_golden("video", videos[v]);
        up_image frames[4];
        int refused = 1, failures = 0;
        for (int n = 1; refused; n++) {
            fault.pread_after = n;
            up_status status = up_video_read(path, &whole_clip, NULL, frames);
            refused = fault.refused;
            all_is_well();
            if (refused) {
                failures++;
                CU_ASSERT_EQUAL(status, UP_ERR_IO);
                CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "cannot read: Input/output error"));
            } else
                CU_ASSERT_EQUAL(status, UP_OK);
            free_pictures(frames);
        }
        CU_ASSERT(failures > 1);
    }
}

enum { RIGHT, REFUSED, WRONG };

/* Decode with allocation n of FFmpeg failing, in a process of its own: some of its parts take no memory for
 * granted, and end the process with a signal that nobody outside can prevent. */
static int video_in_child(const char *path, const up_image *wanted, int n, int once) {
    int status;
    fflush(stdout);
    fflush(stderr);
    pid_t child = fork();
    if (child == 0) {
        up_image frames[4];
        fault.memory_after = n;
        fault.memory_once = once;
        fault.in_video = 1;
        up_status got = up_video_read(path, &whole_clip, NULL, frames);
        _exit(got == UP_OK ? (same_pictures(frames, wanted) ? RIGHT : WRONG) : REFUSED);
    }
    CU_ASSERT_FATAL(child > 0 && waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Memory runs out inside FFmpeg, at one allocation or from one on: the right pixels or an error. */
static void test_video_without_memory(void) {
    enum { TRIES = 100, MOST = 1 << 30 };
    if (!up_lab_clips()) return;
    for (size_t v = 0; v < sizeof videos / sizeof *videos; v++) {
        const char *path = up_lab_golden("video", videos[v]);
        up_image wanted[4];
        int counts[4] = {0};
        fault.memory_after = MOST;
        fault.in_video = 1;
        UP_ASSERT_OK(up_video_read(path, &whole_clip, NULL, wanted));
        int calls = MOST - fault.memory_after;
        all_is_well();
        for (int i = 0; i < TRIES; i++) {
            int end = video_in_child(path, wanted, 1 + (int)((int64_t)calls * i / TRIES), i % 4 > 0);
            counts[end < 0 || end > WRONG ? WRONG + 1 : end]++;
        }
        if (counts[WRONG + 1])
            printf("(%s: %d of %d ended inside FFmpeg) ", videos[v], counts[WRONG + 1], TRIES);
        CU_ASSERT(calls > TRIES && counts[REFUSED] > 0);
        CU_ASSERT_EQUAL(counts[WRONG], 0);
        free_pictures(wanted);
    }
}

const up_test up_tests[] = {
    {"folders without sync", test_folders_without_sync},
    {"saving without memory", test_saving_without_memory},
    {"resuming without files", test_resuming_without_files},
    {"resuming without memory", test_resuming_without_memory},
    {"half checkpoints", test_half_checkpoints},
    {"video cannot be read", test_video_cannot_be_read},
    {"video without memory", test_video_without_memory},
    {NULL, NULL},
};
