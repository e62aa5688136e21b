/* safetensors.c - reads and writes the format described in the documentation of the safetensors project: u64
 * header length, JSON {"name": {"dtype", "shape", "data_offsets": [begin, end)}}, optional "__metadata__" of
 * strings, then data that the ranges cover without overlap or gap. */
#include "files/safetensors.h"
#include "files/file.h"
#include "files/json.h"
#include "uniperceiver/backend_host.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [UP_ST_BOOL] = {"BOOL", 1}, [UP_ST_U8] = {"U8", 1},   [UP_ST_I8] = {"I8", 1},
    [UP_ST_U16] = {"U16", 2},   [UP_ST_I16] = {"I16", 2}, [UP_ST_F16] = {"F16", 2},
    [UP_ST_BF16] = {"BF16", 2}, [UP_ST_U32] = {"U32", 4}, [UP_ST_I32] = {"I32", 4},
    [UP_ST_F32] = {"F32", 4},   [UP_ST_U64] = {"U64", 8}, [UP_ST_I64] = {"I64", 8},
    [UP_ST_F64] = {"F64", 8},
};
enum { TYPES = sizeof types / sizeof types[0] };
static const char metadata_key[] = "__metadata__";

struct up_safetensors {
    unsigned char *map; /* the whole file */
    size_t size;
    json_t *header; /* owns the names and the metadata */
    const json_t *metadata;
    up_safetensor *tensors;        /* [count], in the order of the data */
    const up_safetensor **by_name; /* [count], sorted */
    size_t count;
};

const char *up_safetensors_type_name(up_safetensors_type type) {
    return (unsigned)type < TYPES ? types[type].name : "unknown";
}

size_t up_safetensors_type_size(up_safetensors_type type) {
    return (unsigned)type < TYPES ? types[type].size : 0;
}

/* Fill count and bytes from type and shape; a zero anywhere makes both zero. */
static up_status measure(const char *what, up_safetensor *t) {
    t->count = 1;
    for (int d = 0; d < t->ndim; d++) {
        if (t->shape[d] < 0)
            return up_fail(UP_ERR_FORMAT, what, "size %lld in its shape", (long long)t->shape[d]);
        if (t->shape[d] == 0) t->count = 0;
    }
    for (int d = 0; d < t->ndim && t->count; d++)
        if (__builtin_mul_overflow(t->count, t->shape[d], &t->count))
            return up_fail(UP_ERR_FORMAT, what, "its shape is too large");
    if (__builtin_mul_overflow((size_t)t->count, types[t->type].size, &t->bytes) || t->bytes > PTRDIFF_MAX)
        return up_fail(UP_ERR_FORMAT, what, "its shape is too large");
    return UP_OK;
}

/* --- reading --- */

static up_status read_shape(const char *what, const json_t *shape, up_safetensor *t) {
    if (!json_is_array(shape)) return up_fail(UP_ERR_FORMAT, what, "no shape; wanted a list of sizes");
    if (json_array_size(shape) > UP_SAFETENSORS_MAX_DIMS)
        return up_fail(UP_ERR_UNSUPPORTED, what, "%zu dimensions; wanted at most %d", json_array_size(shape),
                       UP_SAFETENSORS_MAX_DIMS);
    for (t->ndim = 0; t->ndim < (int)json_array_size(shape); t->ndim++) {
        const json_t *size = json_array_get(shape, (size_t)t->ndim);
        if (!json_is_integer(size))
            return up_fail(UP_ERR_FORMAT, what, "a size in its shape is not a whole number");
        t->shape[t->ndim] = json_integer_value(size);
    }
    return UP_OK;
}

static up_status read_entry(const char *what, const json_t *entry, const unsigned char *data,
                            size_t data_bytes, up_safetensor *t) {
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    const json_t *range = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(range, 0), *last = json_array_get(range, 1);
    unsigned k = 0;
    if (!type) return up_fail(UP_ERR_FORMAT, what, "no dtype");
    while (k < TYPES && strcmp(types[k].name, type)) k++;
    if (k == TYPES) return up_fail(UP_ERR_UNSUPPORTED, what, "dtype \"%.40s\" is not known", type);
    t->type = (up_safetensors_type)k;
    UP_TRY(read_shape(what, json_object_get(entry, "shape"), t));
    UP_TRY(measure(what, t));
    if (json_array_size(range) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return up_fail(UP_ERR_FORMAT, what, "data_offsets are not two whole numbers");
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || (uint64_t)end > data_bytes)
        return up_fail(UP_ERR_FORMAT, what, "data_offsets %lld to %lld; the file has data from 0 to %zu",
                       (long long)begin, (long long)end, data_bytes);
    if ((size_t)(end - begin) != t->bytes)
        return up_fail(UP_ERR_FORMAT, what, "data_offsets hold %lld bytes; its shape and dtype want %zu",
                       (long long)(end - begin), t->bytes);
    t->data = data + begin;
    return UP_OK;
}

static int compare_data(const void *a, const void *b) {
    const up_safetensor *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* the empty ones first */
}

static int compare_name(const void *a, const void *b) {
    return strcmp((*(const up_safetensor *const *)a)->name, (*(const up_safetensor *const *)b)->name);
}

/* Sorted, each tensor must begin where the one before ended, and the last must end with the file. */
static up_status check_cover(const char *path, const up_safetensors *st, const unsigned char *data) {
    char what[512];
    for (size_t i = 0; i < st->count; i++) {
        const up_safetensor *t = &st->tensors[i];
        snprintf(what, sizeof what, "%s: %.200s", path, t->name);
        if ((const unsigned char *)t->data < data)
            return up_fail(UP_ERR_FORMAT, what, "overlaps \"%.200s\"", st->tensors[i - 1].name);
        if ((const unsigned char *)t->data > data)
            return up_fail(UP_ERR_FORMAT, what, "%td bytes before it belong to no tensor",
                           (const unsigned char *)t->data - data);
        data += t->bytes;
    }
    if (data != st->map + st->size)
        return up_fail(UP_ERR_FORMAT, path, "its last %td bytes belong to no tensor",
                       st->map + st->size - data);
    return UP_OK;
}

static up_status read_metadata(const char *path, json_t *metadata, up_safetensors *st) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata)) return up_fail(UP_ERR_FORMAT, path, "__metadata__ is not a map");
    json_object_foreach(metadata, key, value) if (!json_is_string(value)) return up_fail(
        UP_ERR_FORMAT, path, "__metadata__: \"%.200s\" is not a string", key);
    st->metadata = metadata;
    return UP_OK;
}

static up_status read_header(const char *path, up_safetensors *st) {
    uint64_t length = 0;
    if (st->size < 8) return up_fail(UP_ERR_FORMAT, path, "%zu bytes are too few for safetensors", st->size);
    for (int i = 8; i-- > 0;) length = length << 8 | st->map[i];
    if (length > UP_SAFETENSORS_MAX_HEADER || length > st->size - 8)
        return up_fail(UP_ERR_FORMAT, path,
                       "says that its header has %llu bytes; the file has %zu, the limit is %d",
                       (unsigned long long)length, st->size - 8, UP_SAFETENSORS_MAX_HEADER);
    if (!length || st->map[8] != '{') return up_fail(UP_ERR_FORMAT, path, "its header is not a JSON object");

    UP_TRY(up_json_read(path, (char *)st->map + 8, length, JSON_REJECT_DUPLICATES, &st->header));
    const unsigned char *data = st->map + 8 + length;
    size_t data_bytes = st->size - 8 - length, room = json_object_size(st->header);
    st->tensors = calloc(room + 1, sizeof *st->tensors);
    st->by_name = calloc(room + 1, sizeof *st->by_name);
    if (!st->tensors || !st->by_name) return up_fail(UP_ERR_MEMORY, path, "no memory for %zu tensors", room);
    const char *name;
    json_t *entry;
    char what[512];
    json_object_foreach(st->header, name, entry) {
        if (!strcmp(name, metadata_key)) {
            UP_TRY(read_metadata(path, entry, st));
            continue;
        }
        snprintf(what, sizeof what, "%s: %.200s", path, name);
        st->tensors[st->count].name = name;
        UP_TRY(read_entry(what, entry, data, data_bytes, &st->tensors[st->count++]));
    }
    qsort(st->tensors, st->count, sizeof *st->tensors, compare_data);
    for (size_t i = 0; i < st->count; i++) st->by_name[i] = &st->tensors[i];
    qsort(st->by_name, st->count, sizeof *st->by_name, compare_name);
    return check_cover(path, st, data);
}

up_status up_safetensors_open(const char *path, up_safetensors **out) {
    *out = NULL;
    up_safetensors *st = calloc(1, sizeof *st);
    if (!st) return up_fail(UP_ERR_MEMORY, path, "no memory for its header");
    void *map;
    up_status status = up_file_map(path, &map, &st->size);
    st->map = map;
    if (status == UP_OK) status = read_header(path, st);
    if (status == UP_OK)
        *out = st;
    else
        up_safetensors_close(st);
    return status;
}

void up_safetensors_close(up_safetensors *st) {
    if (!st) return;
    if (st->map) munmap(st->map, st->size);
    json_decref(st->header);
    free(st->tensors);
    free(st->by_name);
    free(st);
}

void *up_safetensors_map(const up_safetensors *st, size_t *bytes) {
    *bytes = st->size;
    return st->map;
}

size_t up_safetensors_count(const up_safetensors *st) {
    return st->count;
}

const up_safetensor *up_safetensors_at(const up_safetensors *st, size_t i) {
    return i < st->count ? &st->tensors[i] : NULL;
}

const up_safetensor *up_safetensors_find(const up_safetensors *st, const char *name) {
    const up_safetensor wanted = {.name = name}, *key = &wanted;
    const up_safetensor **found = bsearch(&key, st->by_name, st->count, sizeof *st->by_name, compare_name);
    return found ? *found : NULL;
}

const char *up_safetensors_metadata(const up_safetensors *st, const char *key) {
    return json_string_value(json_object_get(st->metadata, key));
}

size_t up_safetensors_metadata_count(const up_safetensors *st) {
    return json_object_size(st->metadata);
}

void up_safetensors_metadata_at(const up_safetensors *st, size_t i, const char **key, const char **value) {
    void *at = json_object_iter((json_t *)st->metadata);
    while (at && i--) at = json_object_iter_next((json_t *)st->metadata, at);
    *key = at ? json_object_iter_key(at) : NULL;
    *value = at ? json_string_value(json_object_iter_value(at)) : NULL;
}

up_status up_safetensor_to_f32(const up_safetensor *tensor, float *out) {
    const unsigned char *data = tensor->data;
    uint16_t half;
    double wide;
    switch (tensor->type) {
    case UP_ST_F32:
        if (tensor->bytes) memcpy(out, data, tensor->bytes);
        return UP_OK;
    case UP_ST_F16:
    case UP_ST_BF16:
        for (int64_t i = 0; i < tensor->count; i++) {
            memcpy(&half, data + 2 * i, sizeof half);
            out[i] = up_half_value(tensor->type == UP_ST_F16 ? UP_F16 : UP_BF16, half);
        }
        return UP_OK;
    case UP_ST_F64:
        for (int64_t i = 0; i < tensor->count; i++) {
            memcpy(&wide, data + 8 * i, sizeof wide);
            out[i] = (float)wide;
        }
        return UP_OK;
    default:
        return up_fail(UP_ERR_UNSUPPORTED, tensor->name, "holds %s; wanted F32, F16, BF16 or F64",
                       up_safetensors_type_name(tensor->type));
    }
}

/* --- writing --- */

struct up_safetensors_writer {
    up_file_writer file;
    size_t count, next;
    size_t bytes[]; /* of each tensor */
};

static up_status add_entry(const char *path, json_t *header, const up_safetensor *spec, size_t *end,
                           size_t *bytes) {
    char what[512];
    up_safetensor t = *spec;
    snprintf(what, sizeof what, "%s: %.200s", path, spec->name);
    if ((unsigned)t.type >= TYPES) return up_fail(UP_ERR_ARGUMENT, what, "unknown type %d", (int)t.type);
    if (t.ndim < 0 || t.ndim > UP_SAFETENSORS_MAX_DIMS)
        return up_fail(UP_ERR_ARGUMENT, what, "%d dimensions; wanted 0 to %d", t.ndim,
                       UP_SAFETENSORS_MAX_DIMS);
    if (!strcmp(t.name, metadata_key) || json_object_get(header, t.name))
        return up_fail(UP_ERR_ARGUMENT, what, "the name is taken");
    UP_TRY(measure(what, &t));
    size_t begin = *end;
    if (__builtin_add_overflow(begin, t.bytes, end) || *end > PTRDIFF_MAX)
        return up_fail(UP_ERR_ARGUMENT, what, "the file would be too large");
    *bytes = t.bytes;
    json_t *entry = json_pack("{s:s, s:[], s:[I, I]}", "dtype", types[t.type].name, "shape", "data_offsets",
                              (json_int_t)begin, (json_int_t)*end);
    json_t *shape = json_object_get(entry, "shape");
    for (int d = 0; d < t.ndim; d++) json_array_append_new(shape, json_integer(t.shape[d]));
    if (json_object_set_new(header, t.name, entry) || json_array_size(shape) != (size_t)t.ndim)
        return up_fail(UP_ERR_ARGUMENT, what, "no memory, or the name is not UTF-8");
    return UP_OK;
}

static up_status add_metadata(const char *path, json_t *header, const char *const (*metadata)[2],
                              size_t pair_count) {
    json_t *map = json_object();
    for (size_t i = 0; i < pair_count; i++)
        if (json_object_set_new(map, metadata[i][0], json_string(metadata[i][1]))) {
            json_decref(map);
            return up_fail(UP_ERR_ARGUMENT, path, "metadata \"%.200s\": no memory, or not UTF-8",
                           metadata[i][0]);
        }
    if (json_object_set_new(header, metadata_key, map)) return up_fail(UP_ERR_MEMORY, path, "no memory");
    return UP_OK;
}

/* The length, the JSON text and spaces, so that data begin at a cache line of the mapped file. */
static up_status put_header(const char *path, const json_t *header, up_file_writer *file) {
    enum { LINE = 64 };
    char spaces[LINE];
    char *text;
    size_t length;
    up_status status = UP_OK;
    UP_TRY(up_json_write(path, header, JSON_COMPACT, &text, &length));
    unsigned char head[8];
    size_t padded = (length + sizeof head + LINE - 1) / LINE * LINE - sizeof head;
    memset(spaces, ' ', sizeof spaces);
    for (int i = 0; i < 8; i++) head[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    if (padded > UP_SAFETENSORS_MAX_HEADER)
        UP_GO(up_fail(UP_ERR_ARGUMENT, path, "its header would be too large"));
    UP_GO(up_file_put(file, head, sizeof head));
    UP_GO(up_file_put(file, text, length));
    UP_GO(up_file_put(file, spaces, padded - length));
done:
    free(text);
    return status;
}

up_status up_safetensors_begin(const char *path, const char *const (*metadata)[2], size_t pair_count,
                               const up_safetensor *specs, size_t count, up_safetensors_writer **out) {
    up_status status = UP_OK;
    size_t end = 0;
    *out = NULL;
    json_t *header = json_object();
    up_safetensors_writer *writer = calloc(1, sizeof *writer + count * sizeof writer->bytes[0]);
    if (!header || !writer) UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for %zu tensors", count));
    writer->count = count;
    if (pair_count) UP_GO(add_metadata(path, header, metadata, pair_count));
    for (size_t i = 0; i < count; i++) UP_GO(add_entry(path, header, &specs[i], &end, &writer->bytes[i]));
    UP_GO(up_file_begin(path, &writer->file));
    UP_GO(put_header(path, header, &writer->file));
    *out = writer;
    writer = NULL;
done:
    json_decref(header);
    up_safetensors_abort(writer);
    return status;
}

up_status up_tensors_take(const char *path, const size_t *bytes, size_t count, size_t *next, size_t given) {
    size_t i = *next;
    if (i == count) return up_fail(UP_ERR_ARGUMENT, path, "more data than its %zu tensors", i);
    if (given != bytes[i])
        return up_fail(UP_ERR_ARGUMENT, path, "%zu bytes for tensor %zu; wanted %zu", given, i, bytes[i]);
    (*next)++;
    return UP_OK;
}

up_status up_tensors_end(const char *path, size_t count, size_t next) {
    if (next == count) return UP_OK;
    return up_fail(UP_ERR_ARGUMENT, path, "%zu tensors written; wanted %zu", next, count);
}

up_status up_safetensors_put(up_safetensors_writer *writer, const void *data, size_t bytes) {
    UP_TRY(up_tensors_take(writer->file.path, writer->bytes, writer->count, &writer->next, bytes));
    return up_file_put(&writer->file, data, bytes);
}

up_status up_safetensors_commit(up_safetensors_writer *writer) {
    up_status status = UP_OK;
    UP_GO(up_tensors_end(writer->file.path, writer->count, writer->next));
    UP_GO(up_file_commit(&writer->file));
done:
    up_safetensors_abort(writer);
    return status;
}

void up_safetensors_abort(up_safetensors_writer *writer) {
    if (!writer) return;
    up_file_abort(&writer->file);
    free(writer);
}
