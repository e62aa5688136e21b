/* dataset.c - opening a dataset: which reader, which index; then samples by number. See dataset.h. */
#include "data/dataset.h"
#include "data/datasets/reader.h"
#include "files/digest.h"
#include "files/file.h"
#include "uniperceiver/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SMALL = 64 << 20, WINDOW = 8192 };

/* ---- which reader ---- */

static int ends_with(const char *text, const char *ends) {
    size_t length = strlen(text);
    while (*ends) {
        size_t size = strcspn(ends, " ");
        if (size <= length && !strncasecmp(text + length - size, ends, size)) return 1;
        ends += size + (ends[size] == ' ');
    }
    return 0;
}

int up_dataset_guess(const char *path) {
    for (const up_reader *r = up_readers; r->name; r++)
        if (r->ends && ends_with(path, r->ends)) return 1;
    return 0;
}

static void list_readers(char *out, size_t room) {
    size_t used = 0;
    for (const up_reader *r = up_readers; r->name && used < room; r++)
        used += (size_t)snprintf(out + used, room - used, "%s%s", used ? ", " : "", r->name);
}

static up_status choose_reader(up_dataset *d, int is_folder) {
    const char *format = d->options.format, *data = d->options.data;
    char known[512];
    for (const up_reader *r = up_readers; r->name && !d->reader; r++) {
        int guessed = is_folder ? r->folder : r->ends && ends_with(data, r->ends);
        if (format ? !strcmp(r->name, format) : guessed) d->reader = r;
    }
    if (d->reader) return UP_OK;
    list_readers(known, sizeof known);
    if (format) return up_fail(UP_ERR_ARGUMENT, data, "no format \"%s\"; there are %s", format, known);
    return up_fail(UP_ERR_ARGUMENT, data, "its name tells no format; `format` can be %s", known);
}

static up_status set_folder(up_dataset *d, int is_folder) {
    const char *data = d->options.data, *slash = strrchr(data, '/');
    size_t length = slash ? (size_t)(slash - data) : 0;
    if (is_folder) {
        length = strlen(data);
        while (length > 1 && data[length - 1] == '/') length--;
    }
    d->folder = length || slash ? strndup(data, length) : strdup(".");
    return d->folder ? UP_OK : up_fail(UP_ERR_MEMORY, data, "no memory for its folder's name");
}

/* ---- the index ---- */

static uint64_t digest_text(uint64_t before, const char *text) {
    uint64_t length = text ? strlen(text) : UINT64_MAX;
    before = up_digest(before, &length, sizeof length);
    return text ? up_digest(before, text, length) : before;
}

/* Of all that decides what the index holds, besides the content of the files. */
static uint64_t kind_of(const up_dataset *d) {
    uint64_t kind = digest_text(0, d->reader->name);
    kind = digest_text(kind, d->options.data);
    kind = digest_text(kind, d->options.split);
    kind = digest_text(kind, d->options.annotations);
    kind = digest_text(kind, d->options.columns);
    return digest_text(kind, d->options.leave_out);
}

/* Where it lies; NULL: in memory. */
static up_status place_index(const up_dataset *d, char **out) {
    const up_dataset_options *o = &d->options;
    char digits[24];
    *out = NULL;
    if (d->small && !o->index) return UP_OK;
    up_digest_text(kind_of(d), digits);
    size_t length = strlen(o->data);
    while (length > 1 && o->data[length - 1] == '/') length--;
    int written = o->index
                      ? asprintf(out, "%s", o->index)
                      : asprintf(out, "%.*s.%s-%.8s.index", (int)length, o->data, d->reader->name, digits);
    if (written >= 0) return UP_OK;
    *out = NULL;
    return up_fail(UP_ERR_MEMORY, o->data, "no memory for its index's name");
}

static up_status make_index(up_dataset *d, const char *path) {
    up_sample_index_writer w;
    UP_TRY(up_sample_index_begin(d->options.data, path, d->options.leave_out, &w));
    up_status status = d->reader->index(d, &w);
    if (status == UP_OK && !w.count)
        status = up_fail(UP_ERR_FORMAT, d->options.data, "no samples: no rows, or none of the wanted split");
    if (status == UP_OK)
        return up_sample_index_end(&w, kind_of(d), d->text ? d->text_bytes : w.bytes, &d->index);
    up_sample_index_abort(&w);
    return status;
}

static up_status open_index(up_dataset *d) {
    char *path;
    int found = 0;
    UP_TRY(place_index(d, &path));
    up_status status = path ? up_sample_index_open(path, kind_of(d), &d->index, &found) : UP_OK;
    if (status == UP_OK && !found) status = make_index(d, path);
    free(path);
    d->count = (size_t)d->index.count;
    return status;
}

/* ---- opening ---- */

static up_status map_text(up_dataset *d) {
    int file;
    int64_t size;
    UP_TRY(up_file_open(d->options.data, &file, &size));
    void *text = size ? mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
    close(file);
    if (!size) return up_fail(UP_ERR_FORMAT, d->options.data, "empty: wanted lines");
    if (text == MAP_FAILED) return up_fail(UP_ERR_MEMORY, d->options.data, "cannot map it");
    d->text = text;
    d->text_bytes = (size_t)size;
    return UP_OK;
}

up_status up_dataset_open(const up_dataset_options *options, up_dataset *d) {
    up_status status = UP_OK;
    struct stat about = {0};
    *d = (up_dataset){.options = *options};
    int missing = stat(options->data, &about) ? errno : 0;
    int is_folder = !missing && S_ISDIR(about.st_mode);
    if (missing && !strchr(options->data, '{'))
        UP_GO(up_fail(UP_ERR_IO, options->data, "cannot open: %s", strerror(missing)));
    UP_GO(choose_reader(d, is_folder));
    UP_GO(set_folder(d, is_folder));
    d->small =
        !missing && S_ISREG(about.st_mode) && about.st_size <= SMALL && d->reader->index != up_read_shards;
    if (d->reader->parse) UP_GO(map_text(d));
    if (d->reader->open) UP_GO(d->reader->open(d));
    UP_GO(open_index(d));
done:
    if (status != UP_OK) up_dataset_close(d);
    return status;
}

void up_dataset_close(up_dataset *d) {
    if (d->text) munmap((void *)(uintptr_t)d->text, d->text_bytes);
    up_sample_index_close(&d->index);
    free(d->folder);
    free(d->columns);
    free(d->column_text);
    free(d->kept);
    *d = (up_dataset){0};
}

void up_dataset_keep(up_dataset *d, size_t *kept, size_t count) {
    for (size_t i = 0; d->kept && i < count; i++) kept[i] = d->kept[kept[i]];
    free(d->kept);
    d->kept = kept;
    d->count = count;
}

/* ---- samples ---- */

/* Place of sample i among those of the files. */
static size_t place_of(const up_dataset *d, size_t i) {
    return d->kept ? d->kept[i] : i;
}

size_t up_dataset_number(const up_dataset *d, size_t i, uint64_t *line) {
    *line = 0;
    if (!d->text) return place_of(d, i) + 1;
    uint64_t at = d->index.offsets[place_of(d, i)]; /* nobody keeps the numbers of lines: counted only now */
    if (at > SMALL || at > d->text_bytes) return place_of(d, i) + 1;
    *line = 1;
    for (uint64_t k = 0; k < at; k++) *line += d->text[k] == '\n';
    return place_of(d, i) + 1;
}

up_status up_dataset_fail(const up_dataset *d, size_t i, up_status code, const char *why) {
    uint64_t line;
    size_t number = up_dataset_number(d, i, &line);
    if (line) return up_fail(code, d->options.data, "line %llu: %s", (unsigned long long)line, why);
    return up_fail(code, d->options.data, "sample %zu: %s", number, why);
}

/* The line of a sample without its end; a row of a CSV may have several and ends where its cells do. *last 1:
 * the next sample does not follow at once. */
static up_status line_of(const up_dataset *d, size_t i, const char **line, size_t *size, int *last) {
    size_t place = place_of(d, i);
    uint64_t at = d->index.offsets[place], end = d->index.offsets[place + 1];
    if (at >= end || end > d->text_bytes)
        return up_fail(UP_ERR_FORMAT, d->options.data,
                       "its index is damaged; remove it to have it made anew");
    const char *line_break = d->reader->several ? NULL : memchr(d->text + at, '\n', (size_t)(end - at));
    *last = line_break && (uint64_t)(line_break + 1 - d->text) < end;
    if (line_break) end = (uint64_t)(line_break - d->text);
    while (end > at && (d->text[end - 1] == '\n' || d->text[end - 1] == '\r')) end--;
    *line = d->text + at;
    *size = (size_t)(end - at);
    return UP_OK;
}

up_status up_dataset_sample(const up_dataset *d, size_t i, up_sample *out) {
    const char *line = NULL;
    size_t size = 0;
    int last;
    if (i >= d->count) return up_fail(UP_ERR_ARGUMENT, d->options.data, "has no sample %zu", i + 1);
    if (!d->reader->parse) {
        UP_TRY(up_sample_index_read(&d->index, d->options.data, place_of(d, i), out));
        const up_value *broken = up_sample_value(out, UP_SAMPLE_BROKEN, 0);
        return broken ? up_dataset_fail(d, i, UP_ERR_FORMAT, up_value_text(out, broken)) : UP_OK;
    }
    up_sample_clear(out);
    UP_TRY(line_of(d, i, &line, &size, &last));
    up_status status = d->reader->parse(d, line, size, out);
    if (status == UP_OK || status == UP_ERR_MEMORY) return status;
    char why[512];
    snprintf(why, sizeof why, "%s", up_last_error());
    return up_dataset_fail(d, i, status, why);
}

int up_dataset_is_document(const up_dataset *d) {
    return d->reader->document;
}

int up_dataset_goes_on(const up_dataset *d, size_t i) {
    const char *line;
    size_t size;
    int last = 1;
    if (!d->reader->document || i + 1 >= d->count || place_of(d, i + 1) != place_of(d, i) + 1) return 0;
    return line_of(d, i, &line, &size, &last) == UP_OK && !last;
}

static up_status read_member(const up_dataset *d, const up_sample *s, const up_value *v, up_media *out) {
    const char *shard =
        json_string_value(json_array_get(json_object_get(d->index.about, "shards"), (size_t)v->shard));
    int file;
    int64_t size;
    if (!shard) return up_fail(UP_ERR_FORMAT, d->options.data, "its index is damaged: no shard %d", v->shard);
    if (asprintf(&out->name, "%s:%s", shard, up_value_text(s, v)) < 0) {
        out->name = NULL;
        return up_fail(UP_ERR_MEMORY, shard, "no memory for a member's name");
    }
    UP_TRY(up_file_open(shard, &file, &size));
    up_status status = UP_OK;
    if (v->size > (uint64_t)size || v->offset > (uint64_t)size - v->size)
        UP_GO(up_fail(UP_ERR_FORMAT, out->name, "lies outside its shard of %lld bytes", (long long)size));
    out->bytes = malloc(v->size + 1);
    if (!out->bytes)
        UP_GO(up_fail(UP_ERR_MEMORY, out->name, "%llu bytes wanted", (unsigned long long)v->size));
    while (out->size < v->size) {
        ssize_t got =
            pread(file, (char *)out->bytes + out->size, v->size - out->size, (off_t)(v->offset + out->size));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            UP_GO(up_fail(UP_ERR_IO, out->name, "cannot read: %s", got ? strerror(errno) : "it ends early"));
        out->size += (size_t)got;
    }
    ((char *)out->bytes)[out->size] = 0;
done:
    close(file);
    return status;
}

up_status up_dataset_media(const up_dataset *d, const up_sample *s, const up_value *v, const char *folder,
                           up_media *out) {
    *out = (up_media){0};
    up_status status = v->shard < 0
                           ? up_datasets_join(folder ? folder : d->folder, up_value_text(s, v), &out->name)
                           : read_member(d, s, v, out);
    if (status != UP_OK) up_media_free(out);
    return status;
}

const char *up_dataset_class(const up_dataset *d, size_t i) {
    return json_string_value(json_array_get(json_object_get(d->index.about, "classes"), i));
}

/* ---- order ---- */

static uint64_t start_of(const json_t *starts, size_t shard, uint64_t count) {
    return shard < json_array_size(starts) ? (uint64_t)json_integer_value(json_array_get(starts, shard))
                                           : count;
}

/* The sample at a place of the shards laid end to end in the epoch's order. */
static size_t walk(const up_dataset *d, const json_t *starts, uint64_t key, uint64_t place) {
    size_t shards = json_array_size(starts);
    for (size_t k = 0; k < shards; k++) {
        size_t shard = (size_t)up_permute(key, shards, k);
        uint64_t first = start_of(starts, shard, d->count), next = start_of(starts, shard + 1, d->count);
        if (next > d->count || first > next) return (size_t)place; /* a damaged index: any order will do */
        if (place < next - first) return (size_t)(first + place);
        place -= next - first;
    }
    return 0;
}

size_t up_dataset_order(const up_dataset *d, uint64_t key, uint64_t place) {
    const json_t *starts = json_object_get(d->index.about, "starts");
    if (d->kept || !json_array_size(starts)) return (size_t)up_permute(key, d->count, place);
    uint64_t window = place / WINDOW, first = window * WINDOW;
    uint64_t size = d->count - first < WINDOW ? d->count - first : WINDOW;
    return walk(d, starts, key, first + up_permute(key ^ (window + 1), size, place - first));
}
