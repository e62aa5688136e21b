/* test_files.c - whole files, .npy, safetensors and JSON lines: round trips, files made by NumPy and by the
 * safetensors package, hostile headers, and writes that fail at every step. */
#include "files/file.h"
#include "files/jsonl.h"
#include "files/npy.h"
#include "files/safetensors.h"
#include "tests/support.h"
#include "uniperceiver/random.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- helpers --- */

static char folder[64];

static int remove_one(const char *path, const struct stat *about, int flag, struct FTW *at) {
    (void)about;
    (void)flag;
    (void)at;
    return remove(path);
}

static void remove_folder(void) {
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path in a folder of this run; a few stay valid at a time. */
static const char *temporary(const char *name) {
    static char paths[8][128];
    static int next;
    if (!*folder) {
        /* in memory where there is such a place: thousands of files are written */
        snprintf(folder, sizeof folder, "%s/test_files.XXXXXX",
                 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
        if (!mkdtemp(folder)) exit(2);
        chmod(folder, 0755);
        atexit(remove_folder);
    }
    char *path = paths[next++ & 7];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* Unlike up_file_write this syncs nothing, so thousands of hostile files cost little. */
static void put_file(const char *path, const void *data, size_t size) {
    FILE *out = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    CU_ASSERT_EQUAL_FATAL(fwrite(data, 1, size, out), size);
    fclose(out);
}

static void check_failure(int line, up_status status, up_status wanted, const char *message) {
    int sound = status == wanted && strstr(up_last_error(), message);
    if (!sound)
        fprintf(stderr, "line %d: %s, \"%s\"; wanted \"%s\"\n", line, up_status_name(status), up_last_error(),
                message);
    CU_ASSERT_TRUE(sound);
}
#define FAILS(call, code, message) check_failure(__LINE__, call, code, message)

static int file_is(const char *path, const char *content) {
    void *data;
    size_t size;
    if (up_file_read(path, &data, &size)) return 0;
    int same = size == strlen(content) && !memcmp(data, content, size);
    free(data);
    return same;
}

static int exists(const char *path) {
    return access(path, F_OK) == 0;
}

/* The library is linked statically, so these stand in for the C library's: the call of that number fails.
 * Nothing here outlives a crash, so nothing is really synced either. */
static int fsync_to_fail, fclose_to_fail;

int fsync(int file) {
    if (fsync_to_fail && --fsync_to_fail == 0) {
        errno = EIO;
        return -1;
    }
    return fcntl(file, F_GETFD) < 0 ? -1 : 0;
}

int fclose(FILE *stream) {
    static int (*real)(FILE *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fclose");
    int result = real(stream);
    if (fclose_to_fail && --fclose_to_fail == 0) {
        errno = EDQUOT;
        return EOF;
    }
    return result;
}

/* --- whole files --- */

static void file_round_trip(void) {
    const char *path = temporary("round");
    void *data;
    size_t size;
    UP_ASSERT_OK(up_file_write(path, "old", 3));
    UP_ASSERT_OK(up_file_write(path, "a\0b\n", 4));
    UP_ASSERT_OK(up_file_read(path, &data, &size));
    CU_ASSERT_EQUAL_FATAL(size, 4);
    CU_ASSERT_EQUAL(memcmp(data, "a\0b\n", 5), 0); /* with the NUL behind it */
    free(data);
    CU_ASSERT_FALSE(exists(temporary("round.partial")));
    UP_ASSERT_OK(up_file_write(path, "", 0));
    CU_ASSERT_TRUE(file_is(path, ""));
}

static void file_bad_paths(void) {
    void *data = &data;
    size_t size;
    up_file_writer writer;
    FAILS(up_file_read("", &data, &size), UP_ERR_ARGUMENT, "the path is empty");
    CU_ASSERT_PTR_NULL(data);
    FAILS(up_file_read(temporary("missing"), &data, &size), UP_ERR_IO, "missing: cannot open: No such file");
    FAILS(up_file_read("/tmp", &data, &size), UP_ERR_IO, "/tmp: is a folder; wanted a file");
    FAILS(up_file_read("/dev/zero", &data, &size), UP_ERR_IO, "/dev/zero: is not a regular file");
    CU_ASSERT_EQUAL_FATAL(mkfifo(temporary("pipe"), 0600), 0);
    FAILS(up_file_read(temporary("pipe"), &data, &size), UP_ERR_IO, "pipe: is not a regular file");
    FAILS(up_file_begin("", &writer), UP_ERR_ARGUMENT, "the path is empty");
    FAILS(up_file_begin("/tmp", &writer), UP_ERR_IO, "/tmp: is a folder; wanted a file");
    FAILS(up_file_begin("/dev/full", &writer), UP_ERR_IO, "/dev/full: is not a regular file; wanted a file");
    FAILS(up_file_begin(temporary("no/such"), &writer), UP_ERR_IO, "no/such: cannot write: No such file");
    CU_ASSERT_PTR_NULL(writer.path);
    up_file_abort(&writer); /* fine after a failure */
}

static void file_unwritable_folder(void) {
    const char *closed = temporary("closed");
    CU_ASSERT_EQUAL_FATAL(mkdir(closed, 0555), 0);
    int root = geteuid() == 0; /* whom no mode stops */
    if (root) CU_ASSERT_EQUAL_FATAL(seteuid(65534), 0);
    FAILS(up_file_write(temporary("closed/file"), "x", 1), UP_ERR_IO,
          "closed/file: cannot write: Permission denied");
    FAILS(up_make_folders(temporary("closed/a/b")), UP_ERR_IO,
          "closed/a: cannot create the folder: Permission denied");
    up_jsonl log;
    FAILS(up_jsonl_open(temporary("closed/log"), &log), UP_ERR_IO,
          "closed/log: cannot write: Permission denied");
    if (root) CU_ASSERT_EQUAL_FATAL(seteuid(0), 0);
}

static up_file_writer begin_new(const char *path) {
    up_file_writer writer;
    UP_ASSERT_OK(up_file_write(path, "old", 3));
    UP_ASSERT_OK(up_file_begin(path, &writer));
    UP_ASSERT_OK(up_file_put(&writer, "new", 3));
    return writer;
}

static void swap_for_full_device(up_file_writer *writer) {
    fclose(writer->stream);
    writer->stream = fopen("/dev/full", "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(writer->stream);
}

static void check_old_stays(const char *path) {
    CU_ASSERT_TRUE(file_is(path, "old"));
    CU_ASSERT_FALSE(exists(temporary("kept.partial")));
}

/* Whichever step fails, it is said, the old file is whole and nothing is left beside it. */
static void file_failed_writes(void) {
    const char *path = temporary("kept");
    static char big[1 << 20];
    up_file_writer writer = begin_new(path);
    up_file_abort(&writer);
    check_old_stays(path);

    writer = begin_new(path);
    swap_for_full_device(&writer);
    UP_ASSERT_OK(up_file_put(&writer, "new", 3)); /* buffered: the device has not seen it */
    FAILS(up_file_commit(&writer), UP_ERR_IO, "kept: cannot write: No space left on device");
    check_old_stays(path);

    writer = begin_new(path);
    swap_for_full_device(&writer);
    FAILS(up_file_put(&writer, big, sizeof big), UP_ERR_IO, "kept: cannot write: No space left on device");
    up_file_abort(&writer);
    check_old_stays(path);

    writer = begin_new(path);
    swap_for_full_device(&writer);
    fputs("straight to the stream", writer.stream);
    CU_ASSERT_NOT_EQUAL(fflush(writer.stream), 0);
    FAILS(up_file_commit(&writer), UP_ERR_IO, "kept: cannot write: an earlier write failed");
    check_old_stays(path);

    writer = begin_new(path);
    fsync_to_fail = 1;
    FAILS(up_file_commit(&writer), UP_ERR_IO, "kept: cannot sync: Input/output error");
    check_old_stays(path);

    writer = begin_new(path);
    fclose_to_fail = 1;
    FAILS(up_file_commit(&writer), UP_ERR_IO, "kept: cannot close: Disk quota exceeded");
    check_old_stays(path);

    writer = begin_new(path);
    fsync_to_fail = 2; /* the folder's: the new file is there, but may be gone after a crash */
    FAILS(up_file_commit(&writer), UP_ERR_IO, "cannot sync: Input/output error");
    CU_ASSERT_TRUE(file_is(path, "new"));

    writer = begin_new(path);
    CU_ASSERT_EQUAL_FATAL(remove(path), 0);
    CU_ASSERT_EQUAL_FATAL(mkdir(path, 0777), 0);
    FAILS(up_file_commit(&writer), UP_ERR_IO, "kept: cannot replace: Is a directory");
    CU_ASSERT_FALSE(exists(temporary("kept.partial")));
}

/* A disk that fills up, as a limit on the size of files. */
static rlim_t limit_file_size(rlim_t bytes) {
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = bytes;
    CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
    return before;
}

static void file_limit_of_size(void) {
    static float values[4096];
    const char *path = temporary("limited.npy");
    const int64_t shape = 4096, small = 2;
    up_npy array;
    UP_ASSERT_OK(up_npy_write(path, UP_NPY_F32, 1, &small, values));
    rlim_t before = limit_file_size(8192);
    FAILS(up_npy_write(path, UP_NPY_F32, 1, &shape, values), UP_ERR_IO,
          "limited.npy: cannot write: File too large");
    limit_file_size(before);
    CU_ASSERT_FALSE(exists(temporary("limited.npy.partial")));
    UP_ASSERT_OK(up_npy_read(path, &array));
    CU_ASSERT_EQUAL(array.count, 2);
    up_npy_free(&array);
}

static void folders(void) {
    UP_ASSERT_OK(up_make_folders(temporary("a/b//c/")));
    UP_ASSERT_OK(up_make_folders(temporary("a/b/c")));
    UP_ASSERT_OK(up_make_folders("/"));
    UP_ASSERT_OK(up_file_write(temporary("a/b/c/file"), "x", 1));
    FAILS(up_make_folders(temporary("a/b/c/file")), UP_ERR_IO, "file: is a file; wanted a folder");
    FAILS(up_make_folders(temporary("a/b/c/file/d")), UP_ERR_IO, "file: is a file; wanted a folder");
    FAILS(up_make_folders(""), UP_ERR_ARGUMENT, "the path is empty");
}

/* --- .npy --- */

static void npy_from_numpy(void) {
    static const float f32[] = {-2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f};
    static const double f64[] = {-2.5, -1.5, -0.5, 0.5, 1.5, 2.5}, tenth = 0.1;
    static const int32_t i32[] = {-5, -3, -1, 1, 3, 5};
    static const int64_t i64[] = {-5 * (1ll << 40), -3 * (1ll << 40), -(1ll << 40),
                                  1ll << 40,        3ll << 40,        5ll << 40};
    static const uint8_t u8[] = {250, 251, 252, 253, 254, 255}, bools[] = {1, 0, 1};
    static const struct {
        const char *name;
        up_npy_type type;
        int ndim;
        int64_t shape[2];
        size_t bytes;
        const void *data;
        int same; /* up_npy_write makes the same file, byte for byte */
    } files[] = {
        {"f32", UP_NPY_F32, 2, {2, 3}, sizeof f32, f32, 1},
        {"f64", UP_NPY_F64, 2, {2, 3}, sizeof f64, f64, 1},
        {"i32", UP_NPY_I32, 2, {2, 3}, sizeof i32, i32, 1},
        {"i64", UP_NPY_I64, 2, {2, 3}, sizeof i64, i64, 1},
        {"u8", UP_NPY_U8, 1, {6, 0}, sizeof u8, u8, 1},
        {"bool", UP_NPY_U8, 1, {3, 0}, sizeof bools, bools, 0},
        {"scalar", UP_NPY_F64, 0, {0, 0}, sizeof tenth, &tenth, 1},
        {"empty", UP_NPY_F32, 2, {0, 3}, 0, "", 1},
        {"version2", UP_NPY_F32, 2, {2, 3}, sizeof f32, f32, 0},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char name[64];
        up_npy array;
        snprintf(name, sizeof name, "golden/files/%s.npy", files[i].name);
        UP_ASSERT_OK(up_npy_read(up_test_path(name), &array));
        CU_ASSERT_EQUAL(array.type, files[i].type);
        CU_ASSERT_EQUAL(array.ndim, files[i].ndim);
        CU_ASSERT_EQUAL(memcmp(array.shape, files[i].shape, (size_t)files[i].ndim * sizeof(int64_t)), 0);
        CU_ASSERT_EQUAL_FATAL((size_t)array.count * up_npy_type_size(array.type), files[i].bytes);
        CU_ASSERT_EQUAL(memcmp(array.data, files[i].data, files[i].bytes), 0);
        UP_ASSERT_OK(up_npy_write(temporary("again.npy"), array.type, array.ndim, array.shape, array.data));
        up_npy_free(&array);
        void *theirs, *ours;
        size_t their_size, our_size;
        UP_ASSERT_OK(up_file_read(up_test_path(name), &theirs, &their_size));
        UP_ASSERT_OK(up_file_read(temporary("again.npy"), &ours, &our_size));
        if (files[i].same) CU_ASSERT_TRUE(their_size == our_size && !memcmp(theirs, ours, our_size));
        free(theirs);
        free(ours);
    }
}

static void npy_refusals(void) {
    up_npy array;
    FAILS(up_npy_read(up_test_path("golden/files/fortran.npy"), &array), UP_ERR_UNSUPPORTED,
          "fortran.npy: Fortran order");
    FAILS(up_npy_read(up_test_path("golden/files/big_endian.npy"), &array), UP_ERR_UNSUPPORTED,
          "big-endian values (>f4)");
    FAILS(up_npy_read(up_test_path("golden/files/complex.npy"), &array), UP_ERR_UNSUPPORTED,
          "values of type '<c8'");
    FAILS(up_npy_read(up_test_path("golden/files/version3.npy"), &array), UP_ERR_UNSUPPORTED,
          "format version 3.0");
    FAILS(up_npy_read("/tmp", &array), UP_ERR_IO, "is a folder");
    put_file(temporary("empty.npy"), "", 0);
    FAILS(up_npy_read(temporary("empty.npy"), &array), UP_ERR_FORMAT, "empty.npy: is not a .npy file");
    CU_ASSERT_PTR_NULL(array.data);
    const int64_t huge[] = {INT64_MAX, 3}, negative = -1;
    FAILS(up_npy_write(temporary("x.npy"), UP_NPY_F32, 2, huge, ""), UP_ERR_FORMAT, "its shape is too large");
    FAILS(up_npy_write(temporary("x.npy"), UP_NPY_F32, 1, &negative, ""), UP_ERR_ARGUMENT, "a negative size");
    FAILS(up_npy_write(temporary("x.npy"), UP_NPY_F32, 9, huge, ""), UP_ERR_ARGUMENT, "9 dimensions");
    FAILS(up_npy_write(temporary("x.npy"), (up_npy_type)77, 0, huge, ""), UP_ERR_ARGUMENT, "unknown type 77");
    CU_ASSERT_EQUAL(up_npy_type_size((up_npy_type)77), 0);
}

static void npy_hostile_headers(void) {
    static const char *const cases[][2] = {
        {"", "is not a dict"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", "is not a dict"},
        {"{'descr': '<f4', 'fortran_order': False}", "lacks one of"},
        {"{'descr': '<f4', 'descr': '<f4', 'shape': (2,)}", "'descr' twice"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}", "unknown key 'more'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", "holds '-'; wanted a size"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 2}", "shape is not a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2 2)}", "shape is not a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "shape is too large"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", "shape is too large"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,)}",
         "8 bytes of values; its shape and type want 4611686018427387904"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2)}", "more than 8 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
         "8 bytes of values; its shape and type want 12"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
         "8 bytes of values; its shape and type want 4"},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}", "neither True nor False"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", "not one simple type"},
        {"{'descr': '<f4444444444444444444444', 'fortran_order': False, 'shape': (2,)}",
         "not one simple type"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", "text behind its dict"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char file[512] = "\x93NUMPY\x01";
        size_t length = strlen(cases[i][0]);
        up_npy array;
        file[8] = (char)length;
        memcpy(file + 10, cases[i][0], length);
        put_file(temporary("hostile.npy"), file, 10 + length + 8);
        up_status status = up_npy_read(temporary("hostile.npy"), &array);
        check_failure(__LINE__, status, status == UP_ERR_UNSUPPORTED ? status : UP_ERR_FORMAT, cases[i][1]);
        CU_ASSERT_PTR_NULL(array.data);
    }
}

/* Every shortened file is an error; flipped bits are an error or a sound array, never a crash. */
static void npy_damaged(void) {
    void *file;
    size_t size;
    up_npy array;
    UP_ASSERT_OK(up_file_read(up_test_path("golden/files/version2.npy"), &file, &size));
    for (size_t cut = 0; cut < size; cut++) {
        put_file(temporary("cut.npy"), file, cut);
        FAILS(up_npy_read(temporary("cut.npy"), &array), UP_ERR_FORMAT, "cut.npy: ");
    }
    for (uint64_t i = 0; i < 2000; i++) {
        up_rng rng = up_rng_make(up_test_seed(), i, 0, 0);
        unsigned char flipped[512];
        memcpy(flipped, file, size);
        for (uint32_t n = 1 + up_rng_below(&rng, 3); n--;)
            flipped[up_rng_below(&rng, (uint32_t)size)] ^= (unsigned char)(1u << up_rng_below(&rng, 8));
        put_file(temporary("flipped.npy"), flipped, size);
        if (up_npy_read(temporary("flipped.npy"), &array) != UP_OK) continue;
        int sound = (size_t)array.count * up_npy_type_size(array.type) <= size;
        if (!sound)
            fprintf(stderr, "UP_TEST_SEED=%llu, flip %d\n", (unsigned long long)up_test_seed(), (int)i);
        CU_ASSERT_TRUE(sound);
        up_npy_free(&array);
    }
    free(file);
}

/* --- safetensors --- */

static void safetensors_from_python(void) {
    static const float grid[] = {-2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f};
    static const float halves[] = {0, 1, -1, 65504, 0x1p-24f, INFINITY, -INFINITY, 0x1.554p-2f};
    static const float brain[] = {1, -1, INFINITY, 0x1p-133f, 0x1.56p-2f};
    float values[8];
    up_safetensors *st;
    UP_ASSERT_OK(up_safetensors_open(up_test_path("golden/files/tensors.safetensors"), &st));
    CU_ASSERT_EQUAL(up_safetensors_count(st), 6);
    CU_ASSERT_STRING_EQUAL(up_safetensors_metadata(st, "made by"), "golden/make_files.py");
    CU_ASSERT_PTR_NULL(up_safetensors_metadata(st, "other"));
    CU_ASSERT_PTR_NULL(up_safetensors_find(st, "other"));
    const up_safetensor *t = up_safetensors_find(st, "grid");
    CU_ASSERT_PTR_NOT_NULL_FATAL(t);
    CU_ASSERT_TRUE(t->type == UP_ST_F32 && t->ndim == 2 && t->shape[0] == 2 && t->shape[1] == 3 &&
                   t->bytes == 24);
    UP_ASSERT_OK(up_safetensor_to_f32(t, values));
    CU_ASSERT_EQUAL(memcmp(values, grid, sizeof grid), 0);
    UP_ASSERT_OK(up_safetensor_to_f32(up_safetensors_find(st, "halves"), values));
    CU_ASSERT_EQUAL(memcmp(values, halves, sizeof halves), 0);
    UP_ASSERT_OK(up_safetensor_to_f32(up_safetensors_find(st, "brain"), values));
    CU_ASSERT_EQUAL(memcmp(values, brain, sizeof brain), 0);
    t = up_safetensors_find(st, "scalar");
    CU_ASSERT_TRUE(t->type == UP_ST_F64 && t->ndim == 0 && t->count == 1);
    UP_ASSERT_OK(up_safetensor_to_f32(t, values));
    CU_ASSERT_EQUAL(values[0], 0.1f);
    t = up_safetensors_find(st, "empty");
    CU_ASSERT_TRUE(t->ndim == 2 && t->count == 0 && t->bytes == 0);
    UP_ASSERT_OK(up_safetensor_to_f32(t, values));
    FAILS(up_safetensor_to_f32(up_safetensors_find(st, "ids"), values), UP_ERR_UNSUPPORTED,
          "ids: holds I64; wanted F32");
    up_safetensors_close(st);
}

/* Every one of the 65,536 values of both half types, against the definition of the formats. */
static void safetensors_halves(void) {
    static uint16_t bits[65536];
    static float values[65536];
    for (int i = 0; i < 65536; i++) bits[i] = (uint16_t)i;
    up_safetensor t = {"halves", UP_ST_F16, 1, {65536}, 65536, sizeof bits, bits};
    for (int brain = 0; brain < 2; brain++) {
        int fraction_bits = brain ? 7 : 10, bias = brain ? 127 : 15, wrong = 0;
        t.type = brain ? UP_ST_BF16 : UP_ST_F16;
        UP_ASSERT_OK(up_safetensor_to_f32(&t, values));
        for (int i = 0; i < 65536; i++) {
            int fraction = i & ((1 << fraction_bits) - 1), exponent = (i & 0x7fff) >> fraction_bits;
            double size = exponent == 2 * bias + 1 ? (fraction ? NAN : INFINITY)
                          : exponent ? ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits)
                                     : ldexp(fraction, 1 - bias - fraction_bits);
            double wanted = i & 0x8000 ? -size : size;
            if (isnan(wanted))
                wrong += !isnan(values[i]);
            else
                wrong += !(values[i] == wanted && !signbit(values[i]) == !(i & 0x8000));
        }
        CU_ASSERT_EQUAL(wrong, 0);
    }
}

static size_t make_safetensors(const char *header, size_t data, unsigned char *file) {
    uint64_t length = strlen(header);
    for (int i = 0; i < 8; i++) file[i] = (unsigned char)(length >> 8 * i);
    memcpy(file + 8, header, length);
    memset(file + 8 + length, 1, data);
    return 8 + length + data;
}

#define ENTRY(name, type, shape, begin, end)                                                                 \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"

static void safetensors_hostile_headers(void) {
    static const struct {
        const char *header, *message; /* the header goes with 16 bytes of data */
    } cases[] = {
        {"", "is not a JSON object"},
        {"[1]", "is not a JSON object"},
        {" {}", "is not a JSON object"},
        {"{", "not sound JSON"},
        {"{}", "last 16 bytes belong to no tensor"},
        {"{" ENTRY("a", "F32", "4", "0", "16") "} x", "not sound JSON"},
        {"{" ENTRY("a", "F32", "2", "0", "8") "," ENTRY("a", "F32", "2", "8", "16") "}",
         "not sound JSON: duplicate"},
        {"{" ENTRY("a\\u0000b", "F32", "4", "0", "16") "}", "not sound JSON"},
        {"{" ENTRY("a", "F32", "4", "0", "16") ",\"b\":3}", "b: no dtype"},
        {"{\"a\":{}}", "a: no dtype"},
        {"{\"a\":{\"dtype\":\"F32\"}}", "a: no shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}", "a: data_offsets are not two"},
        {"{" ENTRY("a", "F33", "4", "0", "16") "}", "a: dtype \"F33\" is not known"},
        {"{" ENTRY("a", "F32", "4.0", "0", "16") "}", "a: a size in its shape is not a whole number"},
        {"{" ENTRY("a", "F32", "-4", "0", "16") "}", "a: size -4 in its shape"},
        {"{" ENTRY("a", "F32", "-2,-2", "0", "16") "}", "a: size -2 in its shape"},
        {"{" ENTRY("a", "F32", "99999999999999999999", "0", "16") "}", "not sound JSON"},
        {"{" ENTRY("a", "F32", "4294967296,4294967296", "0", "16") "}", "a: its shape is too large"},
        {"{" ENTRY("a", "F32", "4611686018427387905", "0", "4") "}", "a: its shape is too large"},
        {"{" ENTRY("a", "F32", "4611686018427387904,4", "0", "0") "}", "a: its shape is too large"},
        {"{" ENTRY("a", "U8", "1,1,1,1,1,1,1,1,16", "0", "16") "}", "a: 9 dimensions; wanted at most 8"},
        {"{" ENTRY("a", "F32", "5", "0", "20") "}",
         "a: data_offsets 0 to 20; the file has data from 0 to 16"},
        {"{" ENTRY("a", "F32", "4", "8", "24") "}", "a: data_offsets 8 to 24"},
        {"{" ENTRY("a", "F32", "4", "16", "0") "}", "a: data_offsets 16 to 0"},
        {"{" ENTRY("a", "F32", "4", "-16", "0") "}", "a: data_offsets -16 to 0"},
        {"{" ENTRY("a", "F32", "3", "0", "16") "}",
         "a: data_offsets hold 16 bytes; its shape and dtype want 12"},
        {"{" ENTRY("a", "F32", "", "0", "16") "}",
         "a: data_offsets hold 16 bytes; its shape and dtype want 4"},
        {"{" ENTRY("a", "F32", "0", "0", "16") "}",
         "a: data_offsets hold 16 bytes; its shape and dtype want 0"},
        {"{" ENTRY("a", "F32", "3", "0", "12") "," ENTRY("b", "F32", "2", "8", "16") "}",
         "b: overlaps \"a\""},
        {"{" ENTRY("a", "F32", "4", "0", "16") "," ENTRY("b", "F32", "4", "0", "16") "}", "overlaps"},
        {"{" ENTRY("a", "F32", "1", "0", "4") "," ENTRY("b", "F32", "2", "8", "16") "}",
         "b: 4 bytes before it"},
        {"{" ENTRY("a", "F32", "3", "0", "12") "}", "its last 4 bytes belong to no tensor"},
        {"{\"__metadata__\":[]," ENTRY("a", "F32", "4", "0", "16") "}", "__metadata__ is not a map"},
        {"{\"__metadata__\":{\"k\":1}," ENTRY("a", "F32", "4", "0", "16") "}",
         "__metadata__: \"k\" is not a string"},
    };
    unsigned char file[1024];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        up_safetensors *st = NULL;
        put_file(temporary("hostile"), file, make_safetensors(cases[i].header, 16, file));
        up_status status = up_safetensors_open(temporary("hostile"), &st);
        check_failure(__LINE__, status, status == UP_ERR_UNSUPPORTED ? status : UP_ERR_FORMAT,
                      cases[i].message);
        CU_ASSERT_PTR_NULL(st);
    }
}

static void safetensors_hostile_files(void) {
    unsigned char file[1024];
    up_safetensors *st;
    size_t size = make_safetensors("{" ENTRY("a", "F32", "4", "0", "16") "}", 16, file);
    static const struct {
        unsigned char length[8];
        const char *says;
    } lengths[] = {{{255, 255, 255, 255, 255, 255, 255, 255}, "header has 18446744073709551615 bytes"},
                   {{0, 0, 0, 0, 0, 0, 0, 128}, "header has 9223372036854775808 bytes"},
                   {{1, 225, 245, 5}, "header has 100000001 bytes"},
                   {{255}, "header has 255 bytes"},
                   {{0}, "is not a JSON object"}};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memcpy(file, lengths[i].length, 8);
        put_file(temporary("hostile"), file, size);
        FAILS(up_safetensors_open(temporary("hostile"), &st), UP_ERR_FORMAT, lengths[i].says);
    }
    put_file(temporary("hostile"), "", 0);
    FAILS(up_safetensors_open(temporary("hostile"), &st), UP_ERR_FORMAT, "hostile: is empty");
    FAILS(up_safetensors_open("/tmp", &st), UP_ERR_IO, "/tmp: is a folder; wanted a file");
    FAILS(up_safetensors_open("/dev/zero", &st), UP_ERR_IO, "is not a regular file");
    FAILS(up_safetensors_open(temporary("none"), &st), UP_ERR_IO, "none: cannot open: No such file");
    FAILS(up_safetensors_open("", &st), UP_ERR_ARGUMENT, "the path is empty");

    /* data at an odd address is allowed */
    float values[4];
    put_file(temporary("odd"), file, make_safetensors("{" ENTRY("a", "F32", "4", "0", "16") "} ", 16, file));
    UP_ASSERT_OK(up_safetensors_open(temporary("odd"), &st));
    UP_ASSERT_OK(up_safetensor_to_f32(up_safetensors_at(st, 0), values));
    CU_ASSERT_EQUAL(values[3], 0x1.020202p-125f);
    up_safetensors_close(st);
}

/* What was accepted must cover the data exactly, so that no tensor can reach outside the file. */
static int sound(const up_safetensors *st, const unsigned char *file, size_t size) {
    size_t bytes = 8 + (file[0] | (size_t)file[1] << 8);
    unsigned sum = 0;
    for (size_t i = 0; i < up_safetensors_count(st); i++) {
        const up_safetensor *t = up_safetensors_at(st, i);
        for (size_t b = 0; b < t->bytes; b++) sum += ((const unsigned char *)t->data)[b];
        bytes += t->bytes;
    }
    return bytes == size && sum < 255 * size;
}

static void safetensors_damaged(void) {
    void *file;
    size_t size;
    up_safetensors *st;
    UP_ASSERT_OK(up_file_read(up_test_path("golden/files/tensors.safetensors"), &file, &size));
    for (size_t cut = 0; cut < size; cut++) {
        put_file(temporary("cut"), file, cut);
        FAILS(up_safetensors_open(temporary("cut"), &st), UP_ERR_FORMAT, "cut: ");
    }
    for (uint64_t i = 0; i < 4000; i++) {
        up_rng rng = up_rng_make(up_test_seed(), i, 1, 0);
        unsigned char flipped[1024];
        CU_ASSERT_TRUE_FATAL(size <= sizeof flipped);
        memcpy(flipped, file, size);
        for (uint32_t n = 1 + up_rng_below(&rng, 4); n--;)
            flipped[up_rng_below(&rng, (uint32_t)size)] ^= (unsigned char)(1u << up_rng_below(&rng, 8));
        put_file(temporary("flipped"), flipped, size);
        if (up_safetensors_open(temporary("flipped"), &st) != UP_OK) continue;
        if (!sound(st, flipped, size))
            fprintf(stderr, "UP_TEST_SEED=%llu, flip %d\n", (unsigned long long)up_test_seed(), (int)i);
        CU_ASSERT_TRUE(sound(st, flipped, size));
        up_safetensors_close(st);
    }
    free(file);
}

static void safetensors_round_trip(void) {
    static const char *const metadata[][2] = {{"step", "10"}, {"café", "naïve \"quoted\"\n"}};
    static const float weights[] = {1, 2, 3, 4, 5, 6};
    static const uint8_t flags[] = {1, 0, 1};
    const up_safetensor specs[] = {{.name = "z.weight", .type = UP_ST_F32, .ndim = 2, .shape = {2, 3}},
                                   {.name = "none", .type = UP_ST_I64, .ndim = 1, .shape = {0}},
                                   {.name = "a \"b\" é", .type = UP_ST_BOOL, .ndim = 1, .shape = {3}}};
    const char *path = temporary("out.safetensors"), *key, *value;
    up_safetensors_writer *writer;
    up_safetensors *st;
    UP_ASSERT_OK(up_safetensors_begin(path, metadata, 2, specs, 3, &writer));
    UP_ASSERT_OK(up_safetensors_put(writer, weights, sizeof weights));
    UP_ASSERT_OK(up_safetensors_put(writer, NULL, 0));
    UP_ASSERT_OK(up_safetensors_put(writer, flags, sizeof flags));
    CU_ASSERT_FALSE(exists(path));
    UP_ASSERT_OK(up_safetensors_commit(writer));

    UP_ASSERT_OK(up_safetensors_open(path, &st));
    CU_ASSERT_EQUAL_FATAL(up_safetensors_count(st), 3);
    for (size_t i = 0; i < 3; i++) {
        const up_safetensor *t = up_safetensors_at(st, i);
        CU_ASSERT_STRING_EQUAL(t->name, specs[i].name);
        CU_ASSERT_TRUE(t->type == specs[i].type && t->ndim == specs[i].ndim &&
                       t->shape[0] == specs[i].shape[0]);
        CU_ASSERT_PTR_EQUAL(up_safetensors_find(st, specs[i].name), t);
    }
    CU_ASSERT_PTR_NULL(up_safetensors_at(st, 3));
    CU_ASSERT_EQUAL((uintptr_t)up_safetensors_at(st, 0)->data % 8, 0);
    CU_ASSERT_EQUAL(memcmp(up_safetensors_at(st, 0)->data, weights, sizeof weights), 0);
    CU_ASSERT_EQUAL(memcmp(up_safetensors_at(st, 2)->data, flags, sizeof flags), 0);
    CU_ASSERT_EQUAL_FATAL(up_safetensors_metadata_count(st), 2);
    up_safetensors_metadata_at(st, 1, &key, &value);
    CU_ASSERT_TRUE(!strcmp(key, metadata[1][0]) && !strcmp(value, metadata[1][1]));
    up_safetensors_metadata_at(st, 2, &key, &value);
    CU_ASSERT_TRUE(!key && !value);
    up_safetensors_close(st);

    UP_ASSERT_OK(up_safetensors_begin(path, NULL, 0, NULL, 0, &writer)); /* nothing at all is a sound file */
    UP_ASSERT_OK(up_safetensors_commit(writer));
    UP_ASSERT_OK(up_safetensors_open(path, &st));
    CU_ASSERT_EQUAL(up_safetensors_count(st) + up_safetensors_metadata_count(st), 0);
    up_safetensors_close(st);
}

static void safetensors_write_errors(void) {
    static const char *const latin[][2] = {{"k", "caf\xe9"}};
    const char *path = temporary("kept.safetensors");
    up_safetensors_writer *writer;
    up_safetensor specs[] = {{.name = "a", .type = UP_ST_F32, .ndim = 1, .shape = {2}},
                             {.name = "a", .type = UP_ST_F32, .ndim = 1, .shape = {2}}};
    UP_ASSERT_OK(up_file_write(path, "old", 3));
    FAILS(up_safetensors_begin(path, NULL, 0, specs, 2, &writer), UP_ERR_ARGUMENT, "a: the name is taken");
    specs[1].name = "__metadata__";
    FAILS(up_safetensors_begin(path, NULL, 0, specs, 2, &writer), UP_ERR_ARGUMENT, "the name is taken");
    specs[1].name = "b\xff";
    FAILS(up_safetensors_begin(path, NULL, 0, specs, 2, &writer), UP_ERR_ARGUMENT, "not UTF-8");
    specs[1].name = "b";
    specs[1].shape[0] = INT64_MAX / 4;
    FAILS(up_safetensors_begin(path, NULL, 0, specs, 2, &writer), UP_ERR_ARGUMENT,
          "b: the file would be too large");
    specs[1].shape[0] = -1;
    FAILS(up_safetensors_begin(path, NULL, 0, specs, 2, &writer), UP_ERR_FORMAT, "b: size -1 in its shape");
    specs[1].shape[0] = 1;
    specs[1].ndim = 9;
    FAILS(up_safetensors_begin(path, NULL, 0, specs, 2, &writer), UP_ERR_ARGUMENT, "b: 9 dimensions");
    FAILS(up_safetensors_begin(path, latin, 1, specs, 1, &writer), UP_ERR_ARGUMENT, "metadata \"k\"");
    FAILS(up_safetensors_begin("/tmp", NULL, 0, specs, 1, &writer), UP_ERR_IO, "/tmp: is a folder");
    CU_ASSERT_PTR_NULL(writer);

    UP_ASSERT_OK(up_safetensors_begin(path, NULL, 0, specs, 1, &writer));
    FAILS(up_safetensors_put(writer, "1234", 4), UP_ERR_ARGUMENT, "4 bytes for tensor 0; wanted 8");
    FAILS(up_safetensors_commit(writer), UP_ERR_ARGUMENT, "0 tensors written; wanted 1");
    CU_ASSERT_TRUE(file_is(path, "old"));
    UP_ASSERT_OK(up_safetensors_begin(path, NULL, 0, specs, 1, &writer));
    UP_ASSERT_OK(up_safetensors_put(writer, "12345678", 8));
    FAILS(up_safetensors_put(writer, "1234", 4), UP_ERR_ARGUMENT, "more data than its 1 tensors");
    fsync_to_fail = 1;
    FAILS(up_safetensors_commit(writer), UP_ERR_IO, "kept.safetensors: cannot sync");
    CU_ASSERT_TRUE(file_is(path, "old"));
    CU_ASSERT_FALSE(exists(temporary("kept.safetensors.partial")));
}

/* --- JSON lines --- */

static void append_step(up_jsonl *log, int step) {
    json_t *object = json_pack("{s:i, s:f}", "step", step, "loss", 0.5);
    UP_ASSERT_OK(up_jsonl_append(log, object));
    json_decref(object);
}

static void jsonl_resume(void) {
    const char *path = temporary("metrics.jsonl");
    up_jsonl log;
    UP_ASSERT_OK(up_jsonl_truncate(path, 3)); /* no file yet */
    CU_ASSERT_FALSE(exists(path));
    UP_ASSERT_OK(up_jsonl_open(path, &log));
    for (int step = 1; step <= 3; step++) append_step(&log, step);
    CU_ASSERT_TRUE(
        file_is(path, "{\"step\":1,\"loss\":0.5}\n{\"step\":2,\"loss\":0.5}\n{\"step\":3,\"loss\":0.5}\n"));
    UP_ASSERT_OK(up_jsonl_close(&log));
    UP_ASSERT_OK(up_jsonl_truncate(path, 2));
    UP_ASSERT_OK(up_jsonl_open(path, &log));
    append_step(&log, 7);
    UP_ASSERT_OK(up_jsonl_close(&log));
    CU_ASSERT_TRUE(
        file_is(path, "{\"step\":1,\"loss\":0.5}\n{\"step\":2,\"loss\":0.5}\n{\"step\":7,\"loss\":0.5}\n"));

    UP_ASSERT_OK(up_file_write(path, "{\"run\":1}\n{\"step\":5}\n{\"step\":4}\n{\"ste", 39 - 2));
    UP_ASSERT_OK(up_jsonl_truncate(path, 4)); /* a torn last line goes, one without a step stays */
    CU_ASSERT_TRUE(file_is(path, "{\"run\":1}\n{\"step\":4}\n"));
}

static void jsonl_errors(void) {
    static const char *const broken[] = {"{\"step\":1}\nnonsense\n", "{\"step\":1}\n[]\n",
                                         "{\"step\":1}\n{\"step\":1.5}\n"};
    const char *path = temporary("broken.jsonl");
    up_jsonl log;
    for (int i = 0; i < 3; i++) {
        put_file(path, broken[i], strlen(broken[i]));
        FAILS(up_jsonl_truncate(path, 1), UP_ERR_FORMAT, "broken.jsonl:2: not ");
        CU_ASSERT_TRUE(file_is(path, broken[i]));
    }
    FAILS(up_jsonl_open("/tmp", &log), UP_ERR_IO, "/tmp: cannot write: Is a directory");
    FAILS(up_jsonl_truncate("/tmp", 1), UP_ERR_IO, "/tmp: is a folder");

    json_t *object = json_pack("{s:i, s:s}", "step", 1, "text", "0123456789");
    UP_ASSERT_OK(up_jsonl_open("/dev/full", &log));
    FAILS(up_jsonl_append(&log, object), UP_ERR_IO, "/dev/full: cannot write: No space left on device");
    UP_ASSERT_OK(up_jsonl_close(&log));

    put_file(path, "{}\n", 3);
    UP_ASSERT_OK(up_jsonl_open(path, &log));
    FAILS(up_jsonl_append(&log, NULL), UP_ERR_ARGUMENT, "not a JSON object");
    rlim_t before = limit_file_size(10); /* room for a part of the line */
    FAILS(up_jsonl_append(&log, object), UP_ERR_IO, "broken.jsonl: cannot write: File too large");
    limit_file_size(before);
    CU_ASSERT_TRUE(file_is(path, "{}\n"));
    fsync_to_fail = 1;
    FAILS(up_jsonl_close(&log), UP_ERR_IO, "broken.jsonl: cannot sync: Input/output error");
    json_decref(object);
}

const char *const up_suite_name = "files";
const up_test up_tests[] = {{"file_round_trip", file_round_trip},
                            {"file_bad_paths", file_bad_paths},
                            {"file_unwritable_folder", file_unwritable_folder},
                            {"file_failed_writes", file_failed_writes},
                            {"file_limit_of_size", file_limit_of_size},
                            {"folders", folders},
                            {"npy_from_numpy", npy_from_numpy},
                            {"npy_refusals", npy_refusals},
                            {"npy_hostile_headers", npy_hostile_headers},
                            {"npy_damaged", npy_damaged},
                            {"safetensors_from_python", safetensors_from_python},
                            {"safetensors_halves", safetensors_halves},
                            {"safetensors_hostile_headers", safetensors_hostile_headers},
                            {"safetensors_hostile_files", safetensors_hostile_files},
                            {"safetensors_damaged", safetensors_damaged},
                            {"safetensors_round_trip", safetensors_round_trip},
                            {"safetensors_write_errors", safetensors_write_errors},
                            {"jsonl_resume", jsonl_resume},
                            {"jsonl_errors", jsonl_errors},
                            {NULL, NULL}};
