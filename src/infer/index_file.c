/* index_file.c - the file of an index: a header, a record a row, names, rows in 8 bits, what these lack, and
 * the rows. Each section begins at a multiple of UP_INDEX_LINE. */
#include "files/digest.h"
#include "files/file.h"
#include "infer/index_file.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { VERSION = 1, SECTIONS = 5 };
enum { RECORDS, NAMES, BYTES8, COARSE, ROWS };
static const char magic[8] = "UPINDEX";

typedef struct up_index_record {
    uint64_t name; /* where it begins among the names; it ends in a NUL */
    int64_t size, time;
} up_index_record;

typedef struct header {
    char magic[8];
    uint32_t version, width;
    int64_t count;
    uint64_t model, precision, names; /* names: bytes of them */
    uint64_t digests[SECTIONS];
    uint64_t unused[20];
    uint64_t digest; /* of all before it */
} header;
_Static_assert(sizeof(header) == 256, "the header has 256 bytes in the file");
_Static_assert(sizeof(up_index_record) == 24 && sizeof(up_index_coarse) == 12, "as they lie in the file");

typedef struct layout {
    size_t at[SECTIONS], size[SECTIONS], stride, end;
} layout;

static int round_up(size_t size, size_t *out) {
    if (__builtin_add_overflow(size, (size_t)UP_INDEX_LINE - 1, out)) return 1;
    *out -= *out % UP_INDEX_LINE;
    return 0;
}

/* Where everything lies; 1 where no file can be so large. */
static int lay_out(const header *h, layout *l) {
    size_t n = (size_t)h->count, width = h->width;
    l->end = sizeof *h;
    l->size[NAMES] = h->names;
    if (round_up(width, &l->stride) ||
        __builtin_mul_overflow(n, sizeof(up_index_record), &l->size[RECORDS]) ||
        __builtin_mul_overflow(n, l->stride, &l->size[BYTES8]) ||
        __builtin_mul_overflow(n, sizeof(up_index_coarse), &l->size[COARSE]) ||
        __builtin_mul_overflow(n, width * sizeof(float), &l->size[ROWS]))
        return 1;
    for (int s = 0; s < SECTIONS; s++) {
        l->at[s] = l->end;
        if (__builtin_add_overflow(l->end, l->size[s], &l->end) || round_up(l->end, &l->end)) return 1;
    }
    return l->end > PTRDIFF_MAX;
}

static uint64_t digest_of(const header *h) {
    return up_digest(0, h, offsetof(header, digest));
}

/* --- writing --- */

typedef struct writing {
    const char *path;
    const up_index_about *about;
    up_index_source source;
    void *context;
    up_file_writer file;
    layout layout;
    header header;
    int8_t *row8;
    float *row;
    up_index_coarse *coarse;
} writing;

static up_status put(writing *w, int section, const void *data, size_t size) {
    w->header.digests[section] = up_digest(w->header.digests[section], data, size);
    return up_file_put(&w->file, data, size);
}

/* Zeros up to the next section. */
static up_status pad(writing *w, int section) {
    static const char zeros[UP_INDEX_LINE];
    size_t over = w->layout.size[section] % UP_INDEX_LINE;
    return up_file_put(&w->file, zeros, over ? UP_INDEX_LINE - over : 0);
}

/* The row of length 1, in w->row. */
static up_status unit_row(writing *w, int64_t i, up_index_entry *entry) {
    const float *given;
    double sum = 0;
    UP_TRY(w->source(w->context, i, entry, &given));
    for (int k = 0; k < w->about->width; k++) sum += (double)given[k] * (double)given[k];
    double length = sqrt(sum);
    if (!isfinite(length) || !(length > 0))
        return up_fail(UP_ERR_NUMERIC, entry->name, "its feature has no length");
    int unit = fabs(length - 1) < 1e-6; /* is left to the bit */
    for (int k = 0; k < w->about->width; k++)
        w->row[k] = unit ? given[k] : (float)((double)given[k] / length);
    return UP_OK;
}

static up_status put_records(writing *w) {
    up_index_entry entry;
    const float *row;
    up_index_record record = {0};
    for (int64_t i = 0; i < w->about->count; i++) {
        UP_TRY(w->source(w->context, i, &entry, &row));
        record.size = entry.size;
        record.time = entry.time;
        UP_TRY(put(w, RECORDS, &record, sizeof record));
        record.name += strlen(entry.name) + 1;
    }
    w->header.names = w->layout.size[NAMES] = record.name;
    UP_TRY(pad(w, RECORDS));
    for (int64_t i = 0; i < w->about->count; i++) {
        UP_TRY(w->source(w->context, i, &entry, &row));
        UP_TRY(put(w, NAMES, entry.name, strlen(entry.name) + 1));
    }
    return pad(w, NAMES);
}

static up_status put_rows(writing *w) {
    up_index_entry entry;
    int width = w->about->width;
    for (int64_t i = 0; i < w->about->count; i++) {
        UP_TRY(unit_row(w, i, &entry));
        w->coarse[i] = up_index_quantize(w->row, width, w->layout.stride, w->row8);
        UP_TRY(put(w, BYTES8, w->row8, w->layout.stride));
    }
    UP_TRY(pad(w, BYTES8));
    UP_TRY(put(w, COARSE, w->coarse, w->layout.size[COARSE]));
    UP_TRY(pad(w, COARSE));
    for (int64_t i = 0; i < w->about->count; i++) {
        UP_TRY(unit_row(w, i, &entry));
        UP_TRY(put(w, ROWS, w->row, (size_t)width * sizeof *w->row));
    }
    return pad(w, ROWS);
}

static up_status put_header(writing *w) {
    memcpy(w->header.magic, magic, sizeof magic);
    w->header.digest = digest_of(&w->header);
    if (fseek(w->file.stream, 0, SEEK_SET))
        return up_fail(UP_ERR_IO, w->path, "cannot write: %s", strerror(errno));
    return up_file_put(&w->file, &w->header, sizeof w->header);
}

up_status up_index_write(const char *path, const up_index_about *about, up_index_source source,
                         void *context) {
    up_status status = UP_OK;
    writing w = {.path = path, .about = about, .source = source, .context = context};
    if (about->count < 1 || about->width < 1 || about->width > UP_INDEX_MAX_WIDTH)
        return up_fail(UP_ERR_ARGUMENT, path, "%lld features of width %d: nothing to index",
                       (long long)about->count, about->width);
    w.header = (header){.version = VERSION,
                        .width = (uint32_t)about->width,
                        .count = about->count,
                        .model = about->model,
                        .precision = (uint64_t)about->precision};
    if (lay_out(&w.header, &w.layout)) return up_fail(UP_ERR_ARGUMENT, path, "too many features");
    UP_TRY(up_file_begin(path, &w.file));
    w.row8 = malloc(w.layout.stride);
    w.row = malloc((size_t)about->width * sizeof *w.row);
    w.coarse = malloc(w.layout.size[COARSE]);
    if (!w.row8 || !w.row || !w.coarse) UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for its rows"));
    UP_GO(up_file_put(&w.file, &w.header, sizeof w.header)); /* its place; it is known at the end */
    UP_GO(put_records(&w));
    UP_GO(put_rows(&w));
    UP_GO(put_header(&w));
    UP_GO(up_file_commit(&w.file));
done:
    up_file_abort(&w.file);
    free(w.row8);
    free(w.row);
    free(w.coarse);
    return status;
}

/* --- reading --- */

static const header *header_of(const up_index *x) {
    return x->map;
}

static up_status check_header(const char *path, const header *h, size_t bytes, layout *l) {
    if (bytes < sizeof *h || memcmp(h->magic, magic, sizeof magic))
        return up_fail(UP_ERR_FORMAT, path, "is not an index");
    if (h->version != VERSION)
        return up_fail(UP_ERR_UNSUPPORTED, path, "an index of version %u; wanted %d", h->version, VERSION);
    if (h->digest != digest_of(h)) return up_fail(UP_ERR_FORMAT, path, "its header is damaged");
    if (h->count < 1 || h->width < 1 || h->width > UP_INDEX_MAX_WIDTH || lay_out(h, l))
        return up_fail(UP_ERR_FORMAT, path, "its header's sizes cannot be");
    if (l->end != bytes)
        return up_fail(UP_ERR_FORMAT, path, "has %zu bytes; its header wants %zu", bytes, l->end);
    return UP_OK;
}

/* Names are what may be followed without being read before. */
static up_status check_names(const up_index *x, size_t names) {
    if (!names || x->names[names - 1]) return up_fail(UP_ERR_FORMAT, x->path, "its names do not end");
    for (int64_t i = 0; i < x->about.count; i++)
        if (x->records[i].name >= names)
            return up_fail(UP_ERR_FORMAT, x->path, "row %lld has no name", (long long)i);
    return UP_OK;
}

static up_status check_section(const up_index *x, const layout *l, int section) {
    static const char *const called[] = {"records", "names", "rows in 8 bits", "their rests", "rows"};
    const char *at = (const char *)x->map + l->at[section];
    size_t left = l->size[section], step = left;
    uint64_t digest = 0;
    if (section == RECORDS) step = sizeof(up_index_record);
    if (section == BYTES8) step = l->stride;
    if (section == ROWS) step = (size_t)x->about.width * sizeof(float);
    if (section == NAMES) /* were written, and so are counted, one by one */
        for (const char *end = at + left; at < end; at += step)
            digest = up_digest(digest, at, step = strlen(at) + 1);
    else
        for (; left; left -= step, at += step) digest = up_digest(digest, at, step);
    if (digest == header_of(x)->digests[section]) return UP_OK;
    return up_fail(UP_ERR_FORMAT, x->path, "is damaged: its %s are not those that were written",
                   called[section]);
}

static void point(up_index *x, const layout *l) {
    const header *h = header_of(x);
    const char *map = x->map;
    x->about = (up_index_about){h->count, (int)h->width, h->model, (int)h->precision};
    x->stride = l->stride;
    x->records = (const void *)(map + l->at[RECORDS]);
    x->names = map + l->at[NAMES];
    x->bytes8 = (const void *)(map + l->at[BYTES8]);
    x->coarse = (const void *)(map + l->at[COARSE]);
    x->rows = (const void *)(map + l->at[ROWS]);
}

up_status up_index_open(const char *path, up_index **out) {
    up_status status = UP_OK;
    layout l = {0};
    int file = -1;
    int64_t bytes;
    up_index *x = calloc(1, sizeof *x);
    *out = NULL;
    if (x) x->path = strdup(path);
    if (!x || !x->path) UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for it"));
    UP_GO(up_file_open(path, &file, &bytes));
    if (bytes < (int64_t)sizeof(header)) UP_GO(up_fail(UP_ERR_FORMAT, path, "is not an index"));
    void *map = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) UP_GO(up_fail(UP_ERR_IO, path, "cannot map: %s", strerror(errno)));
    x->map = map;
    x->bytes = (size_t)bytes;
    UP_GO(check_header(path, header_of(x), x->bytes, &l));
    point(x, &l);
    UP_GO(check_names(x, l.size[NAMES]));
    UP_GO(check_section(x, &l, RECORDS));
    UP_GO(check_section(x, &l, NAMES));
    *out = x;
    x = NULL;
done:
    if (file >= 0) close(file);
    up_index_close(x);
    return status;
}

up_status up_index_check(const up_index *x) {
    layout l = {0};
    UP_TRY(check_header(x->path, header_of(x), x->bytes, &l));
    for (int section = 0; section < SECTIONS; section++) UP_TRY(check_section(x, &l, section));
    return UP_OK;
}

void up_index_close(up_index *x) {
    if (!x) return;
    if (x->map) munmap(x->map, x->bytes);
    free(x->path);
    free(x);
}

up_index_about up_index_about_of(const up_index *x) {
    return x->about;
}

up_index_entry up_index_entry_at(const up_index *x, int64_t row) {
    const up_index_record *record = &x->records[row];
    return (up_index_entry){x->names + record->name, record->size, record->time};
}

const float *up_index_row(const up_index *x, int64_t row) {
    return x->rows + (size_t)row * (size_t)x->about.width;
}
