/* test_faults.c - the system refuses: folders that cannot be synced or listed, files that cannot be opened or
 * read, memory that runs out inside jansson and inside FFmpeg, pipes where files are wanted, a locale with
 * commas. Nothing whole may be given up for it, and nothing broken may be taken for whole. The refusals come
 * from the functions below, which stand before the C library's. */
#include "backend_cpu/cpu.h"
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
#include <sched.h>
#include <signal.h>
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
    int in_picture;
    int saving_after; /* the n-th write, flush, sync, close or rename fails; a write is a short one */
    int unsynced;     /* fsync takes no time: what is on the disk is not asked for */
    int processors;   /* of the machine */
    int refused;      /* how often any of them did */
} fault;
static int read_file = -1;

#define NEXT(name) dlsym(RTLD_NEXT, name)
#define SHARED     __attribute__((visibility("default"))) /* for callers in shared libraries too */

static int refuse(int error) {
    fault.refused++;
    errno = error;
    return -1;
}

static int full_disk(void) {
    if (!fault.saving_after || --fault.saving_after) return 0;
    return refuse(ENOSPC);
}

static int no_room(FILE *stream) {
    return fileno(stream) >= 0 && full_disk(); /* a stream in memory has no disk */
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
    size_t (*next)(const void *, size_t, size_t, FILE *) = NEXT("fwrite");
    return next(data, size, no_room(stream) ? count / 2 : count, stream);
}

int fflush(FILE *stream) {
    int (*next)(FILE *) = NEXT("fflush");
    int failed = no_room(stream);
    return next(stream) || failed ? EOF : 0;
}

int fclose(FILE *stream) {
    int (*next)(FILE *) = NEXT("fclose");
    int failed = no_room(stream);
    return next(stream) || failed ? EOF : 0;
}

int rename(const char *from, const char *to) {
    int (*next)(const char *, const char *) = NEXT("rename");
    return full_disk() ? -1 : next(from, to);
}

int fsync(int file) {
    int (*next)(int) = NEXT("fsync");
    struct stat about;
    if (full_disk()) return -1;
    if (fault.unsynced) return 0;
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

SHARED ssize_t pread(int file, void *to, size_t size, off_t at) {
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

int sched_getaffinity(pid_t process, size_t size, cpu_set_t *set) {
    int (*next)(pid_t, size_t, cpu_set_t *) = NEXT("sched_getaffinity");
    if (!fault.processors) return next(process, size, set);
    if (8 * size < (size_t)fault.processors) return refuse(EINVAL);
    CPU_ZERO_S(size, set);
    for (int i = 0; i < fault.processors; i++) CPU_SET_S(i, size, set);
    return 0;
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

SHARED void *malloc(size_t size) {
    static void *(*next)(size_t);
    if (!next) next = NEXT("malloc");
    return fault.in_picture && no_memory() ? NULL : next(size);
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
    const char *overrides[] = {folder, "keep_last=1", more};
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

/* Allocations of jansson that fail in turn: the save fails and the older checkpoint stays, or the new one is
 * whole. All of state.json's, which come last, and some of the two headers'. */
static void test_saving_without_memory(void) {
    enum { MOST = 1 << 30, LAST = 60, STRIDE = 97 };
    const char *run = up_lab_path("starved");
    up_trainer t;
    int found;
    open_trainer(run, NULL, &t);
    json_set_alloc_funcs(json_memory, free);
    fault.memory_after = MOST;
    save_at(&t, 1);
    int calls = MOST - fault.memory_after;
    CU_ASSERT_FATAL(calls > LAST + STRIDE);
    for (int n = 1; n <= calls; n += n + LAST < calls ? STRIDE : 1) {
        fault.memory_after = n;
        fault.memory_once = 1;
        t.step = t.skipped = 2;
        CU_ASSERT(up_checkpoint_save(&t) != UP_OK && fault.refused == 1);
        CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "no memory"));
        CU_ASSERT(has(run, "checkpoint-00000001") && !has(run, "checkpoint-00000002"));
        CU_ASSERT(!has(run, "checkpoint-00000002.partial"));
        all_is_well();
    }
    json_set_alloc_funcs(malloc, free);
    UP_ASSERT_OK(up_checkpoint_load(&t, &found));
    CU_ASSERT(found && t.step == 1);
    save_at(&t, 2);
    UP_ASSERT_OK(up_checkpoint_load(&t, &found));
    CU_ASSERT(found && t.step == 2 && !has(run, "checkpoint-00000001"));
    up_trainer_close(&t);
    up_lab_remove(run);
}

/* Each write, flush, sync, close and rename of a checkpoint fails in turn: the one before it loads, or, where
 * the new one was in its place already, the new one; and the next save succeeds. */
static void test_saving_on_a_full_disk(void) {
    enum { MOST = 1 << 30 };
    const char *run = up_lab_path("nospace");
    up_trainer t;
    int found, failed = 0;
    open_trainer(run, "ema=0.9", &t);
    fault.saving_after = MOST;
    save_at(&t, 1);
    int calls = MOST - fault.saving_after;
    all_is_well();
    CU_ASSERT_FATAL(calls > 100);
    for (int n = 1; n <= calls + 1; n++) { /* one more: the older checkpoint is moved aside before it goes */
        fault.saving_after = n;
        t.step = t.skipped = 2;
        up_status status = up_checkpoint_save(&t);
        CU_ASSERT_EQUAL(fault.refused, 1);
        all_is_well();
        fault.unsynced = 1;
        failed += status == UP_ERR_IO;
        int whole = has(run, "checkpoint-00000002");
        CU_ASSERT(status == UP_ERR_IO || (status == UP_OK && whole && n == calls + 1));
        UP_ASSERT_OK(up_checkpoint_load(&t, &found));
        CU_ASSERT(found && t.step == (whole ? 2 : 1));
        if (!whole) save_at(&t, 2);
        char folder[700];
        snprintf(folder, sizeof folder, "%s/checkpoint-00000002", run);
        up_lab_remove(folder);
        if (!has(run, "checkpoint-00000001")) save_at(&t, 1);
    }
    printf("[%d calls] ", calls);
    CU_ASSERT_EQUAL(failed, calls);
    all_is_well();
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
    open_trainer(run, "keep_last=2", &t);
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
    open_trainer(run, "keep_last=2", &t);
    save_at(&t, 1);
    save_at(&t, 2);
    json_set_alloc_funcs(json_memory, free);
    for (int n = 1; !whole; n += n < 60 ? 1 : 47) { /* state.json comes first */
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
    int status = 0;
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
    enum { TRIES = 50, MOST = 1 << 30 };
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

/* ---- pictures ---- */

/* Each allocation of a picture's decoder in turn: the right pixels, or a word about memory, not about the
 * file. */
static void test_pictures_without_memory(void) {
    static const char *const names[] = {"png_palette8_trns.png", "png_rgba16.png", "png_grey4_i.png",
                                        "jpeg_420.jpg", "jpeg_progressive.jpg"};
    int tried = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *path = up_lab_golden("image", names[i]);
        void *bytes;
        size_t size;
        up_image wanted, image;
        UP_ASSERT_OK(up_file_read(path, &bytes, &size));
        UP_ASSERT_OK(up_image_decode(bytes, size, names[i], NULL, &wanted));
        int refused = 1;
        for (int n = 1; refused; n++) {
            fault.memory_after = n;
            fault.in_picture = 1;
            up_status status = up_image_decode(bytes, size, names[i], NULL, &image);
            refused = fault.refused;
            all_is_well();
            int same = status == UP_OK && image.width == wanted.width && image.height == wanted.height &&
                       !memcmp(image.data, wanted.data, (size_t)wanted.width * (size_t)wanted.height * 3);
            if (!same && status != UP_ERR_MEMORY) fprintf(stderr, "%d: %s\n", n, up_last_error());
            CU_ASSERT(same || status == UP_ERR_MEMORY);
            tried += refused != 0;
            up_image_free(&image);
        }
        up_image_free(&wanted);
        free(bytes);
    }
    CU_ASSERT(tried > 10);
}

/* ---- processors ---- */

static void test_many_processors(void) {
    const char *limit = getenv("OMP_NUM_THREADS");
    char *before = limit ? strdup(limit) : NULL;
    unsetenv("OMP_NUM_THREADS");
    fault.processors = 3000; /* more than a cpu_set_t has bits */
    CU_ASSERT_EQUAL(up_cpu_threads(0), 3000);
    fault.processors = 7;
    CU_ASSERT_EQUAL(up_cpu_threads(0), 7);
    CU_ASSERT_EQUAL(up_cpu_threads(3), 3);
    setenv("OMP_NUM_THREADS", "5", 1);
    CU_ASSERT_EQUAL(up_cpu_threads(0), 5);
    setenv("OMP_NUM_THREADS", "50", 1);
    CU_ASSERT_EQUAL(up_cpu_threads(0), 7);
    if (before)
        setenv("OMP_NUM_THREADS", before, 1);
    else
        unsetenv("OMP_NUM_THREADS");
    all_is_well();
    free(before);
}

static void put_group(const char *path, const char *text) {
    char *folder = strdup(up_lab_path(path));
    *strrchr(folder, '/') = 0;
    UP_ASSERT_OK(up_make_folders(folder));
    up_lab_text(path, text);
    free(folder);
}

/* Trees as the kernel shows them, of both versions. */
static void test_processor_quotas(void) {
    static const struct {
        const char *groups;
        int processors;
    } cases[] = {
        {"0::/two\n", 2},
        {"0::/two/none\n", 2}, /* the group above has one */
        {"0::/two/half\n", 1}, /* of both the lesser, a part rounded up */
        {"0::/more\n", 3},
        {"0::/free\n", 0},
        {"0::/\n", 0},
        {"0::/no/such/place\n", 0},
        {"9:memory:/old\n4:cpu,cpuacct:/old\n", 4},
        {"4:cpuacct,cpu:/old/less\n0::/\n", 2},
        {"4:cpuacct:/old\n5:cpuset:/old\n", 0},
        {"4:cpu:/endless\n", 0},
        {"nonsense\n::\n1\n", 0},
        {"", 0},
    };
    const char *mount = up_lab_path("groups");
    put_group("groups/two/cpu.max", "200000 100000\n");
    put_group("groups/two/none/cpu.max", "max 100000\n");
    put_group("groups/two/half/cpu.max", "50000 100000\n");
    put_group("groups/more/cpu.max", "250000 100000\n");
    put_group("groups/free/cpu.max", "max 100000\n");
    put_group("groups/cpu/old/cpu.cfs_quota_us", "400000\n");
    put_group("groups/cpu/old/cpu.cfs_period_us", "100000\n");
    put_group("groups/cpu/old/less/cpu.cfs_quota_us", "15000\n");
    put_group("groups/cpu/old/less/cpu.cfs_period_us", "10000\n");
    put_group("groups/cpu/endless/cpu.cfs_quota_us", "-1\n");
    put_group("groups/cpu/endless/cpu.cfs_period_us", "100000\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int got = up_cpu_quota(up_lab_text("groups/list", cases[i].groups), mount);
        if (got != cases[i].processors) fprintf(stderr, "%d processors for %s", got, cases[i].groups);
        CU_ASSERT_EQUAL(got, cases[i].processors);
    }
    put_group("groups/cpu.max", "100000 100000\n"); /* a container's own root, under the host's path */
    CU_ASSERT_EQUAL(up_cpu_quota(up_lab_text("groups/list", "0::/docker/0123\n"), mount), 1);
    CU_ASSERT_EQUAL(up_cpu_quota(up_lab_path("groups/absent"), mount), 0);
}

/* ---- machines of any size ---- */

/* As the kernel of a machine with 5,000 processors, every third of which this process may use. */
static int large_machine(pid_t process, size_t bytes, cpu_set_t *set) {
    enum { PROCESSORS = 5000 };
    (void)process;
    if (bytes * 8 < PROCESSORS) {
        errno = EINVAL;
        return -1;
    }
    CPU_ZERO_S(bytes, set);
    for (int i = 0; i < PROCESSORS; i += 3) CPU_SET_S((size_t)i, bytes, set);
    return 0;
}

static int refusing_machine(pid_t process, size_t bytes, cpu_set_t *set) {
    (void)process;
    (void)bytes;
    (void)set;
    errno = EPERM;
    return -1;
}

static void test_processors_of_large_machines(void) {
    CU_ASSERT_EQUAL(up_cpu_allowed(large_machine), 1667);
    CU_ASSERT_EQUAL(up_cpu_allowed(refusing_machine), sysconf(_SC_NPROCESSORS_ONLN));
    cpu_set_t own;
    CU_ASSERT_EQUAL_FATAL(sched_getaffinity(0, sizeof own, &own), 0);
    CU_ASSERT_EQUAL(up_cpu_allowed(sched_getaffinity), CPU_COUNT(&own));
}

/* ---- pipes ---- */

static void timed_out(int signal) {
    (void)signal;
    static const char message[] = "a pipe was waited for\n";
    if (write(STDERR_FILENO, message, sizeof message - 1) < 0) _exit(3);
    _exit(2);
}

static void test_pipes_for_files(void) {
    const char *pipe = up_lab_path("pipe"), *model = up_lab_path("pipe.safetensors");
    up_tokenizer *tokenizer = NULL;
    up_safetensors *file = NULL;
    up_image image;
    void *data;
    size_t size;
    CU_ASSERT_EQUAL_FATAL(mkfifo(pipe, 0600), 0);
    CU_ASSERT_EQUAL_FATAL(mkfifo(model, 0600), 0);
    signal(SIGALRM, timed_out);
    alarm(20);
    EXPECT_ERROR(up_tokenizer_create(pipe, &tokenizer), UP_ERR_IO, "pipe: is not a regular file");
    EXPECT_ERROR(up_file_read(pipe, &data, &size), UP_ERR_IO, "pipe: is not a regular file");
    EXPECT_ERROR(up_safetensors_open(pipe, &file), UP_ERR_IO, "pipe: is not a regular file");
    EXPECT_ERROR(up_image_read(pipe, NULL, &image), UP_ERR_IO, "pipe: is not a regular file");
    if (up_lab_clips())
        EXPECT_ERROR(up_video_read(pipe, &whole_clip, NULL, (up_image[4]){0}), UP_ERR_IO,
                     "pipe: is not a regular file");
    alarm(0);
    CU_ASSERT_PTR_NULL(tokenizer);
}

/* ---- a locale with commas ---- */

/* The category LC_NUMERIC of a locale as the C library's files hold it: a magic number, a count, the places
 * of six values, the values. Made here, for few machines have such a locale. */
static int take_commas(void) {
    const uint32_t head[] = {0x20031115 ^ LC_NUMERIC, 6, 32, 34, 36, 40, 44, 48}, wide[] = {',', '.'};
    unsigned char bytes[64] = {0};
    memcpy(bytes, head, sizeof head);
    bytes[32] = ',';
    bytes[34] = '.';
    memcpy(bytes + 40, wide, sizeof wide);
    memcpy(bytes + 48, "UTF-8", 6);
    UP_ASSERT_OK(up_make_folders(up_lab_path("locales/xx")));
    up_lab_file("locales/xx/LC_NUMERIC", bytes, sizeof bytes);
    setenv("LOCPATH", up_lab_path("locales"), 1);
    return setlocale(LC_NUMERIC, "xx") && strtod("0,5", NULL) == 0.5;
}

static void test_comma_locale(void) {
    const char *config = up_lab_config();
    char run[600], metrics[700], *texts[2] = {0};
    up_settings settings;
    void *lines = NULL;
    size_t size = 0;
    snprintf(run, sizeof run, "run=%s", up_lab_path("commas"));
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", run + 4);
    const char *const overrides[] = {run, "steps=2", "optimizer.lr=0.00123", "optimizer.decay=1e-3"};
    for (int commas = 0; commas < 2; commas++) {
        if (commas && !take_commas()) {
            printf("(no locale with commas: the C library does not take this one) ");
            break;
        }
        UP_ASSERT_OK(up_settings_read(config, overrides, 4, &settings));
        CU_ASSERT(settings.optimizer.lr == 0.00123 && settings.optimizer.beta1 == 0.9);
        CU_ASSERT(settings.optimizer.decay == 1e-3);
        UP_ASSERT_OK(up_config_dump(&up_settings_schema, &settings, &texts[commas]));
        up_settings_free(&settings);
    }
    const up_train_options options = {.backend = "ref", .threads = 1, .quiet = 1};
    UP_ASSERT_OK(up_train(config, overrides, 4, &options));
    CU_ASSERT(!texts[1] || strtod("0,5", NULL) == 0.5); /* the thread's locale is what it was */
    setlocale(LC_NUMERIC, "C");
    unsetenv("LOCPATH");
    CU_ASSERT(!texts[1] || !strcmp(texts[0], texts[1]));
    UP_ASSERT_OK(up_file_read(metrics, &lines, &size));
    json_t *line = json_loadb(lines, strcspn(lines, "\n"), 0, NULL);
    CU_ASSERT_DOUBLE_EQUAL(json_real_value(json_object_get(line, "lr")), 0.00123 / 3, 1e-9);
    json_decref(line);
    up_trainer t;
    open_trainer(run + 4, "steps=2", &t); /* and the checkpoint is one that resumes */
    CU_ASSERT_EQUAL(t.step, 2);
    up_trainer_close(&t);
    free(lines);
    free(texts[0]);
    free(texts[1]);
    up_lab_remove(run + 4);
}

/* ---- what reaches a terminal ---- */

static void expect_shown(const char *text, size_t size, const char *wanted) {
    char out[64];
    CU_ASSERT_EQUAL(up_printable(text, size, out, sizeof out), strlen(wanted));
    CU_ASSERT_STRING_EQUAL(out, wanted);
}

static void test_printable(void) {
    char out[8];
    expect_shown("plain \\ text", 12, "plain \\ text");
    expect_shown("\x1b[2J\a\b\x7f", 7, "\\x1b[2J\\x07\\x08\\x7f");
    expect_shown("a\nb\rc\td", 7, "a b c d");
    expect_shown("a\0b", 3, "a\\x00b");
    expect_shown("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x88", 11, "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x88");
    expect_shown("\xc2\x9b"
                 "2J",
                 4, "\\xc2\\x9b2J"); /* U+009B: a control sequence begins */
    expect_shown("\x9b"
                 "2J",
                 3, "\\x9b2J");
    expect_shown("\xc0\x9b\xe0\x82\x9b", 5, "\\xc0\\x9b\\xe0\\x82\\x9b"); /* too long forms of it */
    expect_shown("\xed\xa0\x80", 3, "\\xed\\xa0\\x80");                   /* half of a pair */
    expect_shown("\xf4\x90\x80\x80", 4, "\\xf4\\x90\\x80\\x80");
    expect_shown("cut \xe2\x82", 6, "cut \\xe2\\x82");
    expect_shown("", 0, "");
    CU_ASSERT_EQUAL(up_printable("12345678", 8, out, sizeof out), 7);
    CU_ASSERT_EQUAL(up_printable("12345\x1b", 6, out, sizeof out), 5); /* whole or not at all */
    CU_ASSERT_EQUAL(up_printable("123456\xc3\xa9", 8, out, sizeof out), 6);
    CU_ASSERT_EQUAL(up_printable("1", 1, out, 0), 0);
}

static void expect_harmless(const char *words) {
    const char *message = up_last_error();
    for (const char *c = message; *c; c++) CU_ASSERT((unsigned char)*c >= ' ' && *c != 0x7f);
    if (!strstr(message, words)) fprintf(stderr, "%s; \"%s\" wanted\n", message, words);
    CU_ASSERT_PTR_NOT_NULL(strstr(message, words));
}

static const char *hostile_model(const char *header) {
    unsigned char file[600] = {0};
    size_t length = strlen(header);
    file[0] = (unsigned char)length;
    file[1] = (unsigned char)(length >> 8);
    memcpy(file + 8, header, length);
    return up_lab_file("hostile.safetensors", file, 8 + length);
}

/* Names in files that would steer the terminal: a key of YAML, a tensor, the model's own tasks. */
static void test_hostile_names(void) {
    static const char yaml[] = "\"\\e[2Jkey\": 1\n", named[] = "run: \"a\\e[2J\"\n";
    static const char tensor[] =
        "{\"a\\u001b[2J\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}";
    static const char model[] =
        "{\"__metadata__\": {\"config\": \"{\\\"preset\\\": \\\"a\\\\u001b[2J\\\"}\"}}";
    up_settings settings;
    up_safetensors *file = NULL;
    up_backend *b = NULL;
    up_model *read = NULL;
    UP_ASSERT_OK(up_backend_create("ref", 1, &b));
    CU_ASSERT_EQUAL(up_config_parse("f", yaml, strlen(yaml), &up_settings_schema, NULL, 0, &settings),
                    UP_ERR_FORMAT);
    expect_harmless("\\x1b[2Jkey");
    CU_ASSERT_EQUAL(up_config_parse("f", named, strlen(named), &up_settings_schema, NULL, 0, &settings),
                    UP_ERR_FORMAT);
    expect_harmless("run: a control character");
    CU_ASSERT_EQUAL(up_safetensors_open(hostile_model(tensor), &file), UP_ERR_FORMAT);
    expect_harmless("a\\x1b[2J");
    CU_ASSERT_EQUAL(up_model_read(b, hostile_model(model), &read), UP_ERR_FORMAT);
    expect_harmless("preset: a control character");
    up_backend_free(b);
}

/* ---- temperatures ---- */

static void test_temperatures(void) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    const char *path = up_lab_path("temperature.safetensors");
    up_config config;
    up_backend *b = NULL;
    up_model *model = NULL;
    UP_ASSERT_OK(up_backend_create("ref", 1, &b));
    UP_ASSERT_OK(up_config_preset("tiny", &config));
    UP_ASSERT_OK(up_model_create(b, &config, 1, &model));
    const up_params *p = up_model_params(model);
    for (int i = 0; i < config.tasks; i++) {
        const up_view view = up_model_weight(model, p->temperature[i]);
        const char *name = p->list[p->temperature[i]].name;
        float good;
        up_model *read = NULL;
        UP_ASSERT_OK(b->ops->download(b, &good, view));
        UP_ASSERT_OK(b->ops->upload(b, view, &bad[i % 3]));
        UP_ASSERT_OK(up_model_write(model, path));
        EXPECT_ERROR(up_model_read(b, path, &read), UP_ERR_FORMAT, name);
        CU_ASSERT_PTR_NULL(read);
        UP_ASSERT_OK(b->ops->upload(b, view, &good));
        if (i == 2) break; /* each kind once; a model is 30 MB */
    }
    up_model_destroy(model);
    up_backend_free(b);
}

/* ---- the program ---- */

/* Run a line of shell with $P the program: its exit code; what it says on both streams in `said`. */
static int shell(const char *line, char said[1000]) {
    char command[2000];
    const char *program = getenv("UP_BINARY");
    size_t size = 0;
    int code = -1;
    snprintf(command, sizeof command, "P='%s'; { %s; } 2>&1", program, line);
    FILE *stream = popen(command, "r");
    if (stream) size = fread(said, 1, 999, stream);
    if (stream) code = pclose(stream);
    said[size] = 0;
    return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
}

static int no_program(void) {
    const char *program = getenv("UP_BINARY");
    int absent = !program || access(program, X_OK);
    if (absent) printf("(no program: UP_BINARY names none) ");
    return absent;
}

static void test_program_at_its_limits(void) {
    char line[1500], said[1000];
    const char *out = up_lab_path("limited.safetensors");
    if (no_program()) return;
    snprintf(line, sizeof line, "ulimit -f 8; \"$P\" init --preset tiny --seed 1 --out '%s'", out);
    CU_ASSERT_EQUAL(shell(line, said), 1);
    CU_ASSERT(strstr(said, "File too large") && strchr(said, '\n') == said + strlen(said) - 1);
    CU_ASSERT(access(out, F_OK) != 0);
    mkfifo(up_lab_path("pipe"), 0600);
    snprintf(line, sizeof line, "timeout 20 \"$P\" info '%s'", up_lab_path("pipe"));
    CU_ASSERT_EQUAL(shell(line, said), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "pipe: is not a regular file"));
}

/* Little address space: done, or refused in a line (or by the loader of programs), but never a hang, a signal
 * or silence. A sanitizer takes terabytes of it. */
static void test_program_without_space(void) {
    static const int mebibytes[] = {150, 250, 275, 300, 325, 350, 375, 400, 450};
    char line[1500], said[1000];
    int done = 0;
    const char *model = up_lab_path("space.safetensors");
#ifdef __SANITIZE_ADDRESS__
    CU_ASSERT(1);
    return;
#endif
    if (no_program()) return;
    snprintf(line, sizeof line, "\"$P\" init --preset tiny --seed 1 --out '%s'", model);
    CU_ASSERT_EQUAL(shell(line, said), 0);
    for (size_t i = 0; i < sizeof mebibytes / sizeof *mebibytes; i++) {
        snprintf(line, sizeof line,
                 "ulimit -v %d; timeout 30 \"$P\" encode --model '%s' --text 'a cat' --out '%s.npy'",
                 mebibytes[i] * 1024, model, model);
        int code = shell(line, said);
        int sound = code == 0 || ((code == 1 || code == 127) && *said);
        if (!sound) fprintf(stderr, "%d MiB: code %d, \"%s\"\n", mebibytes[i], code, said);
        CU_ASSERT(sound);
        done += code == 0;
    }
    CU_ASSERT(done > 0);
}

const up_test up_tests[] = {
    {"folders without sync", test_folders_without_sync},
    {"saving without memory", test_saving_without_memory},
    {"saving on a full disk", test_saving_on_a_full_disk},
    {"resuming without files", test_resuming_without_files},
    {"resuming without memory", test_resuming_without_memory},
    {"half checkpoints", test_half_checkpoints},
    {"video cannot be read", test_video_cannot_be_read},
    {"video without memory", test_video_without_memory},
    {"pictures without memory", test_pictures_without_memory},
    {"many processors", test_many_processors},
    {"processor quotas", test_processor_quotas},
    {"processors of large machines", test_processors_of_large_machines},
    {"pipes for files", test_pipes_for_files},
    {"comma locale", test_comma_locale},
    {"printable", test_printable},
    {"hostile names", test_hostile_names},
    {"temperatures", test_temperatures},
    {"program at its limits", test_program_at_its_limits},
    {"program without space", test_program_without_space},
    {NULL, NULL},
};
