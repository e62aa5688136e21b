/* test_zip.c - zip archives: what is written is read again, and nothing hostile gets through: every
 * shortening, every changed byte, names that lead elsewhere, members that overlap, sizes that lie. */
#include "files/zip.h"
#include "tests/lab.h"
#include "tests/support.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const char first_bytes[] = "weights, or what stands for them", second_bytes[] = "more";

/* An archive of two members, malloc'ed. */
static unsigned char *make(const char *name1, const char *name2, size_t *size) {
    const char *path = up_lab_path("made.zip");
    up_file_writer file;
    up_zip_writer *zip;
    void *data;
    UP_ASSERT_OK(up_file_begin(path, &file));
    UP_ASSERT_OK(up_zip_writer_create(&file, &zip));
    UP_ASSERT_OK(up_zip_begin(zip, name1, sizeof first_bytes));
    UP_ASSERT_OK(up_zip_put(zip, first_bytes, 5));
    CU_ASSERT_EQUAL(up_zip_end(zip), UP_ERR_ARGUMENT); /* bytes are missing */
    UP_ASSERT_OK(up_zip_put(zip, first_bytes + 5, sizeof first_bytes - 5));
    CU_ASSERT_EQUAL(up_zip_put(zip, "x", 1), UP_ERR_ARGUMENT);
    UP_ASSERT_OK(up_zip_end(zip));
    UP_ASSERT_OK(up_zip_begin(zip, name2, sizeof second_bytes));
    UP_ASSERT_OK(up_zip_put(zip, second_bytes, sizeof second_bytes));
    UP_ASSERT_OK(up_zip_end(zip));
    UP_ASSERT_OK(up_zip_finish(zip));
    up_zip_writer_free(zip);
    UP_ASSERT_OK(up_file_commit(&file));
    UP_ASSERT_OK(up_file_read(path, &data, size));
    return data;
}

static up_status open_and_read(const void *data, size_t size) {
    up_zip *zip;
    up_status status = up_zip_open("archive", data, size, &zip);
    for (size_t i = 0; status == UP_OK && i < up_zip_count(zip); i++) {
        const void *bytes;
        void *owned;
        status = up_zip_read(zip, up_zip_at(zip, i), &bytes, &owned);
        free(owned);
    }
    up_zip_close(zip);
    return status;
}

static void test_round_trip(void) {
    size_t size;
    up_zip *zip;
    const void *bytes;
    void *owned;
    unsigned char *data = make("a/data.pkl", "a/data/0", &size);
    UP_ASSERT_OK(up_zip_open("archive", data, size, &zip));
    CU_ASSERT_EQUAL(up_zip_count(zip), 2);
    CU_ASSERT_PTR_NULL(up_zip_find(zip, "a/data"));
    const up_zip_member *m = up_zip_find(zip, "a/data.pkl"), *n = up_zip_find(zip, "a/data/0");
    CU_ASSERT_FATAL(m && n);
    CU_ASSERT(m->begin % 64 == 0 && n->begin % 64 == 0);
    UP_ASSERT_OK(up_zip_read(zip, m, &bytes, &owned));
    CU_ASSERT(m->bytes == sizeof first_bytes && !memcmp(bytes, first_bytes, sizeof first_bytes) && !owned);
    UP_ASSERT_OK(up_zip_read(zip, n, &bytes, &owned));
    CU_ASSERT(n->bytes == sizeof second_bytes && !memcmp(bytes, second_bytes, sizeof second_bytes) && !owned);
    up_zip_close(zip);
    free(data);
}

/* Copies at the end of their memory, so that sanitizers and valgrind see any step behind it. */
static void test_shortened(void) {
    size_t size;
    unsigned char *data = make("a/data.pkl", "a/data/0", &size);
    for (size_t n = 0; n < size; n++) {
        unsigned char *part = malloc(n + 1);
        CU_ASSERT_PTR_NOT_NULL_FATAL(part);
        memcpy(part + 1, data, n);
        CU_ASSERT_EQUAL(open_and_read(part + 1, n), UP_ERR_FORMAT);
        free(part);
    }
    free(data);
}

/* A changed byte is an error or changes nothing that is read: no message is a crash, no content is wrong. */
static void test_changed(void) {
    size_t size;
    unsigned char *data = make("a/data.pkl", "a/data/0", &size);
    for (size_t i = 0; i < size; i++)
        for (int bit = 0; bit < 8; bit++) {
            up_zip *zip;
            const void *bytes;
            void *owned;
            data[i] ^= 1u << bit;
            if (up_zip_open("archive", data, size, &zip) == UP_OK) {
                const up_zip_member *m = up_zip_find(zip, "a/data.pkl");
                if (m && up_zip_read(zip, m, &bytes, &owned) == UP_OK) {
                    CU_ASSERT(m->bytes == sizeof first_bytes);
                    CU_ASSERT(!memcmp(bytes, first_bytes, sizeof first_bytes));
                    free(owned);
                }
                up_zip_close(zip);
            }
            data[i] ^= 1u << bit;
        }
    free(data);
}

static void test_names(void) {
    static const char *const wrong[] = {"/etc/x", "../x", "a/../x", "a/..", "a\\x", "c:x", "a\nx"};
    size_t size;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        unsigned char *data = make("a", wrong[i], &size);
        CU_ASSERT_EQUAL(open_and_read(data, size), UP_ERR_FORMAT);
        free(data);
    }
    unsigned char *twice = make("same", "same", &size);
    CU_ASSERT_EQUAL(open_and_read(twice, size), UP_ERR_FORMAT);
    free(twice);
}

/* The second row of the directory names the first member's bytes again, under a name of the same length. */
static void test_overlap(void) {
    size_t size;
    unsigned char *data = make("a", "b", &size);
    unsigned char *row = data + size - 22 - 47;
    CU_ASSERT_FATAL(!memcmp(row, "PK\1\2", 4) && row[46] == 'b');
    memcpy(row, row - 47, 47);
    CU_ASSERT_EQUAL(open_and_read(data, size), UP_ERR_FORMAT);
    free(data);
}

/* A deflated member, and one of a size that its packed bytes cannot have. */
static void test_deflated(void) {
    static unsigned char plain[4096];
    unsigned char packed[256], data[512] = "PK\3\4";
    z_stream stream = {
        .next_in = plain, .avail_in = sizeof plain, .next_out = packed, .avail_out = sizeof packed};
    CU_ASSERT_EQUAL_FATAL(deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    CU_ASSERT_EQUAL_FATAL(deflate(&stream, Z_FINISH), Z_STREAM_END);
    size_t n = stream.total_out, at = 31 + n;
    deflateEnd(&stream);
    uint32_t crc = (uint32_t)crc32(0, plain, sizeof plain);
    data[8] = 8;
    data[26] = 1;
    data[30] = 'z';
    memcpy(data + 31, packed, n);
    unsigned char *row = data + at, *end = row + 47;
    memcpy(row, "PK\1\2", 4);
    row[10] = 8;
    for (int i = 0; i < 4; i++) row[16 + i] = (unsigned char)(crc >> 8 * i);
    row[20] = (unsigned char)n;
    row[25] = sizeof plain >> 8;
    row[28] = 1;
    row[46] = 'z';
    memcpy(end, "PK\5\6", 4);
    end[8] = end[10] = 1;
    end[12] = 47;
    end[16] = (unsigned char)at;
    UP_ASSERT_OK(open_and_read(data, at + 47 + 22));
    row[25]++; /* one page more than there is */
    CU_ASSERT_EQUAL(open_and_read(data, at + 47 + 22), UP_ERR_FORMAT);
    row[26] = 0x7f; /* 8 MiB: more than deflate can make of so few */
    CU_ASSERT_EQUAL(open_and_read(data, at + 47 + 22), UP_ERR_FORMAT);
}

const char *const up_suite_name = "zip";
const up_test up_tests[] = {{"round_trip", test_round_trip},
                            {"shortened", test_shortened},
                            {"changed", test_changed},
                            {"names", test_names},
                            {"overlap", test_overlap},
                            {"deflated", test_deflated},
                            {NULL, NULL}};
