/* sample_index.c - the index file: a header of fixed size, the records, the offsets, a JSON text about them.
 */
#include "data/sample_index.h"
#include "files/digest.h"
#include "files/file.h"
#include "files/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { END_BYTES = 1 << 16 /* of a file that are looked at, at each end */ };

typedef struct header {
    char magic[8];
    uint64_t kind, count, bytes, offsets_at, about_at, about_bytes;
} header;
static const char magic[8] = "UPINDEX1";

/* ---- files that it depends on ---- */

static up_status digest_ends(const char *path, uint64_t *digest) {
    static const size_t room = END_BYTES;
    int file;
    int64_t size;
    UP_TRY(up_file_open(path, &file, &size));
    uint8_t *bytes = malloc(room);
    up_status status = bytes ? UP_OK : up_fail(UP_ERR_MEMORY, path, "%zu bytes wanted", room);
    *digest = 0;
    for (int end = 0; status == UP_OK && end < 2; end++) {
        int64_t at = end && size > END_BYTES ? size - END_BYTES : 0;
        ssize_t got = pread(file, bytes, room, at);
        if (got < 0) status = up_fail(UP_ERR_IO, path, "cannot read: %s", strerror(errno));
        if (got > 0) *digest = up_digest(*digest, bytes, (size_t)got);
    }
    free(bytes);
    close(file);
    return status;
}

/* What tells a file from another one of its name: [path, bytes, seconds, nanoseconds, digest]. */
static up_status describe(const char *path, json_t **out) {
    struct stat about;
    uint64_t digest = 0;
    *out = NULL;
    if (stat(path, &about)) return up_fail(UP_ERR_IO, path, "cannot open: %s", strerror(errno));
    if (!S_ISDIR(about.st_mode)) UP_TRY(digest_ends(path, &digest));
    *out = json_pack("[s, I, I, I, I]", path, (json_int_t)about.st_size, (json_int_t)about.st_mtim.tv_sec,
                     (json_int_t)about.st_mtim.tv_nsec, (json_int_t)digest);
    if (!*out) return up_fail(UP_ERR_FORMAT, path, "its name is no UTF-8, or there is no memory for it");
    return UP_OK;
}

static int is_as_it_was(const json_t *input) {
    const char *path = json_string_value(json_array_get(input, 0));
    json_t *now;
    if (!path || describe(path, &now) != UP_OK) return 0;
    int same = json_equal(now, input);
    json_decref(now);
    return same;
}

up_status up_sample_index_input(up_sample_index_writer *w, const char *path) {
    json_t *about;
    UP_TRY(describe(path, &about));
    if (!json_array_append_new(w->inputs, about)) return UP_OK;
    return up_fail(UP_ERR_MEMORY, path, "no memory for its name");
}

/* ---- writing ---- */

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static up_status read_left_out(up_sample_index_writer *w, const char *path) {
    void *text;
    size_t size, room = 1;
    UP_TRY(up_file_read(path, &text, &size));
    w->left_out_text = text;
    for (size_t i = 0; i < size; i++) room += w->left_out_text[i] == '\n';
    w->left_out = malloc(room * sizeof *w->left_out);
    if (!w->left_out) return up_fail(UP_ERR_MEMORY, path, "%zu keys wanted", room);
    char *rest = w->left_out_text;
    for (char *line; (line = strsep(&rest, "\n"));) {
        line[strcspn(line, "\r")] = 0;
        if (*line) w->left_out[w->left_out_count++] = line;
    }
    qsort(w->left_out, w->left_out_count, sizeof *w->left_out, by_text);
    return up_sample_index_input(w, path);
}

int up_sample_index_leaves_out(const up_sample_index_writer *w, const char *key) {
    return w->left_out_count &&
           bsearch(&key, w->left_out, w->left_out_count, sizeof *w->left_out, by_text) != NULL;
}

static up_status cannot_write(const up_sample_index_writer *w) {
    return up_fail(UP_ERR_IO, w->path ? w->path : w->what,
                   "cannot write the index: %s; `index` can name another place", strerror(errno));
}

/* A file that is gone when it is closed: in memory, or beside the index to be. */
static FILE *open_passing(const up_sample_index_writer *w) {
    if (!w->path) {
        int file = memfd_create("uniperceiver", MFD_CLOEXEC);
        return file < 0 ? NULL : fdopen(file, "w+b");
    }
    char *path;
    if (asprintf(&path, "%s.offsets", w->partial) < 0) return NULL;
    FILE *stream = fopen(path, "w+be");
    unlink(path);
    free(path);
    return stream;
}

up_status up_sample_index_begin(const char *what, const char *path, const char *leave_out,
                                up_sample_index_writer *w) {
    up_status status = UP_OK;
    const header empty = {0};
    *w = (up_sample_index_writer){.what = what,
                                  .inputs = json_array(),
                                  .shards = json_array(),
                                  .starts = json_array(),
                                  .classes = json_array()};
    if (path && !(w->path = strdup(path))) UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for its name"));
    if (path && asprintf(&w->partial, "%s.%ld.partial", path, (long)getpid()) < 0)
        UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for its name"));
    if (!w->inputs || !w->shards || !w->starts || !w->classes)
        UP_GO(up_fail(UP_ERR_MEMORY, what, "no memory for an index"));
    w->lines = open_passing(w);
    w->records = path ? fopen(w->partial, "w+be") : open_passing(w);
    if (!w->lines || !w->records) UP_GO(cannot_write(w));
    if (fwrite(&empty, sizeof empty, 1, w->records) != 1) UP_GO(cannot_write(w));
    if (leave_out) UP_GO(read_left_out(w, leave_out));
done:
    if (status != UP_OK) up_sample_index_abort(w);
    return status;
}

up_status up_sample_index_line(up_sample_index_writer *w, uint64_t offset) {
    w->count++;
    return fwrite(&offset, sizeof offset, 1, w->lines) == 1 ? UP_OK : cannot_write(w);
}

/* A value in a record: this head, then the bytes of name and text. */
typedef struct value_head {
    uint32_t name_bytes, text_bytes;
    int64_t shard;
    uint64_t offset, size;
} value_head;

up_status up_sample_index_record(up_sample_index_writer *w, const up_sample *s) {
    const up_value *key = up_sample_value(s, "key", 0);
    if (key && up_sample_index_leaves_out(w, up_value_text(s, key))) return UP_OK;
    UP_TRY(up_sample_index_line(w, w->bytes));
    for (size_t i = 0; i < s->count; i++) {
        const up_value *v = &s->values[i];
        const char *name = s->memory + v->name, *text = s->memory + v->text;
        const value_head head = {(uint32_t)strlen(name), (uint32_t)strlen(text), v->shard, v->offset,
                                 v->size};
        if (fwrite(&head, sizeof head, 1, w->records) != 1 ||
            fwrite(name, 1, head.name_bytes, w->records) != head.name_bytes ||
            fwrite(text, 1, head.text_bytes, w->records) != head.text_bytes)
            return cannot_write(w);
        w->bytes += sizeof head + head.name_bytes + head.text_bytes;
    }
    return UP_OK;
}

up_status up_sample_index_shard(up_sample_index_writer *w, const char *path, int *number) {
    *number = (int)json_array_size(w->shards);
    if (!json_array_append_new(w->shards, json_string(path)) &&
        !json_array_append_new(w->starts, json_integer((json_int_t)w->count)))
        return UP_OK;
    return up_fail(UP_ERR_FORMAT, path, "its name is no UTF-8, or there is no memory for it");
}

up_status up_sample_index_class(up_sample_index_writer *w, const char *name) {
    if (!json_array_append_new(w->classes, json_string(name))) return UP_OK;
    return up_fail(UP_ERR_FORMAT, w->what, "the class \"%s\" is no UTF-8, or there is no memory for it",
                   name);
}

static up_status copy_offsets(up_sample_index_writer *w) {
    uint64_t block[1024];
    size_t got;
    rewind(w->lines);
    while ((got = fread(block, sizeof *block, 1024, w->lines)))
        if (fwrite(block, sizeof *block, got, w->records) != got) return cannot_write(w);
    return ferror(w->lines) ? cannot_write(w) : UP_OK;
}

static up_status write_about(up_sample_index_writer *w, uint64_t *bytes) {
    char *text = NULL;
    size_t size = 0;
    json_t *about = json_pack("{s:O, s:O, s:O, s:O}", "inputs", w->inputs, "shards", w->shards, "starts",
                              w->starts, "classes", w->classes);
    up_status status = up_json_write(w->what, about, JSON_COMPACT, &text, &size);
    if (status == UP_OK && fwrite(text, 1, size, w->records) != size) status = cannot_write(w);
    *bytes = size;
    free(text);
    json_decref(about);
    return status;
}

static up_status write_all(up_sample_index_writer *w, uint64_t kind, uint64_t last) {
    static const char zeros[8];
    header h = {.kind = kind, .count = w->count, .bytes = w->bytes};
    size_t gap = (8 - w->bytes % 8) % 8;
    memcpy(h.magic, magic, sizeof magic);
    UP_TRY(up_sample_index_line(w, last));
    if (fwrite(zeros, 1, gap, w->records) != gap) return cannot_write(w);
    h.offsets_at = sizeof h + h.bytes + gap;
    h.about_at = h.offsets_at + 8 * (h.count + 1);
    UP_TRY(copy_offsets(w));
    UP_TRY(write_about(w, &h.about_bytes));
    if (fseek(w->records, 0, SEEK_SET) || fwrite(&h, sizeof h, 1, w->records) != 1 || fflush(w->records))
        return cannot_write(w);
    return UP_OK;
}

/* Several processes may make the same index at once: each has its own file, and the last rename stays. */
static up_status put_in_place(up_sample_index_writer *w) {
    if (!w->path) return UP_OK;
    if (fsync(fileno(w->records)) || rename(w->partial, w->path)) return cannot_write(w);
    free(w->partial);
    w->partial = NULL;
    return UP_OK;
}

/* ---- reading ---- */

static up_status damaged(const char *what) {
    return up_fail(UP_ERR_FORMAT, what, "its index is damaged; remove it to have it made anew");
}

/* Map what the descriptor has and look at its frame. */
static up_status map(const char *what, int file, up_sample_index *x, header *h) {
    struct stat about;
    if (fstat(file, &about)) return up_fail(UP_ERR_IO, what, "cannot read its index: %s", strerror(errno));
    x->size = (size_t)about.st_size;
    if (x->size < sizeof *h) return damaged(what);
    void *memory = mmap(NULL, x->size, PROT_READ, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) return up_fail(UP_ERR_MEMORY, what, "cannot map its index");
    x->map = memory;
    memcpy(h, x->map, sizeof *h);
    if (memcmp(h->magic, magic, sizeof magic) || h->bytes > x->size || h->count > x->size / 8 ||
        h->offsets_at % 8 || h->offsets_at < sizeof *h + h->bytes || h->offsets_at > x->size ||
        h->about_at != h->offsets_at + 8 * (h->count + 1) || h->about_at > x->size ||
        h->about_bytes != x->size - h->about_at)
        return damaged(what);
    x->records = x->map + sizeof *h;
    x->offsets = (const uint64_t *)(const void *)(x->map + h->offsets_at);
    x->count = h->count;
    x->bytes = h->bytes;
    return up_json_read(what, (const char *)x->map + h->about_at, h->about_bytes, 0, &x->about);
}

static int fits(const up_sample_index *x, const header *h, uint64_t kind) {
    const json_t *inputs = json_object_get(x->about, "inputs");
    if (h->kind != kind || !json_array_size(inputs)) return 0;
    for (size_t i = 0; i < json_array_size(inputs); i++)
        if (!is_as_it_was(json_array_get(inputs, i))) return 0;
    return 1;
}

/* Another program's file is not replaced; a damaged or an outdated index is. */
up_status up_sample_index_open(const char *path, uint64_t kind, up_sample_index *x, int *found) {
    header h;
    int file;
    int64_t size;
    *x = (up_sample_index){0};
    *found = 0;
    if (access(path, F_OK)) return UP_OK;
    UP_TRY(up_file_open(path, &file, &size));
    char start[sizeof magic] = {0};
    ssize_t got = pread(file, start, sizeof start, 0);
    if (size && (got != sizeof start || memcmp(start, magic, sizeof magic))) {
        close(file);
        return up_fail(UP_ERR_FORMAT, path, "is no index and will not be replaced by one");
    }
    *found = map(path, file, x, &h) == UP_OK && fits(x, &h, kind);
    close(file);
    if (!*found) up_sample_index_close(x);
    return UP_OK;
}

up_status up_sample_index_end(up_sample_index_writer *w, uint64_t kind, uint64_t last, up_sample_index *x) {
    header h;
    up_status status = UP_OK;
    *x = (up_sample_index){0};
    UP_GO(write_all(w, kind, last));
    UP_GO(put_in_place(w));
    UP_GO(map(w->what, fileno(w->records), x, &h));
done:
    up_sample_index_abort(w);
    if (status != UP_OK) up_sample_index_close(x);
    return status;
}

void up_sample_index_abort(up_sample_index_writer *w) {
    if (w->records) fclose(w->records);
    if (w->lines) fclose(w->lines);
    if (w->partial) unlink(w->partial);
    json_decref(w->inputs);
    json_decref(w->shards);
    json_decref(w->starts);
    json_decref(w->classes);
    free(w->path);
    free(w->partial);
    free(w->left_out);
    free(w->left_out_text);
    *w = (up_sample_index_writer){0};
}

void up_sample_index_close(up_sample_index *x) {
    if (x->map) munmap((void *)(uintptr_t)x->map, x->size);
    json_decref(x->about);
    *x = (up_sample_index){0};
}

up_status up_sample_index_read(const up_sample_index *x, const char *what, uint64_t i, up_sample *s) {
    uint64_t at = x->offsets[i], end = x->offsets[i + 1];
    up_sample_clear(s);
    if (at > end || end > x->bytes) return damaged(what);
    while (at < end) {
        value_head head;
        if (end - at < sizeof head) return damaged(what);
        memcpy(&head, x->records + at, sizeof head);
        at += sizeof head;
        if (end - at < (uint64_t)head.name_bytes + head.text_bytes || head.name_bytes > 255)
            return damaged(what);
        char name[256] = {0};
        memcpy(name, x->records + at, head.name_bytes);
        at += head.name_bytes;
        UP_TRY(up_sample_text(s, name, (const char *)x->records + at, head.text_bytes));
        up_value *v = &s->values[s->count - 1];
        v->shard = (int)head.shard;
        v->offset = head.offset;
        v->size = head.size;
        at += head.text_bytes;
    }
    return UP_OK;
}
