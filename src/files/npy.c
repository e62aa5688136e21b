/* npy.c - NumPy .npy arrays: magic, version, length and a Python dict of 'descr', 'fortran_order' and
 * 'shape', then the values. The dict is read by a parser for exactly these three keys. Facts from NumPy's
 * format description (NEP 1). */
#include "files/npy.h"
#include "files/file.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *descr;
    up_npy_type type;
    size_t size;
} types[] = {
    /* the first row of a type is how it is written */
    {"|u1", UP_NPY_U8, 1},  {"<i4", UP_NPY_I32, 4}, {"<i8", UP_NPY_I64, 8},
    {"<f4", UP_NPY_F32, 4}, {"<f8", UP_NPY_F64, 8}, {"|b1", UP_NPY_U8, 1}, /* masks of bool */
};
enum { TYPES = sizeof types / sizeof types[0], MAX_HEADER = 65536 };

static int row_of(up_npy_type type) {
    int row = 0;
    while (row < TYPES && types[row].type != type) row++;
    return row;
}

size_t up_npy_type_size(up_npy_type type) {
    return row_of(type) < TYPES ? types[row_of(type)].size : 0;
}

/* --- the header: a cursor over text that ends in NUL --- */

static void skip_spaces(const char **at) {
    while (**at == ' ' || **at == '\n') (*at)++;
}

static int take(const char **at, char wanted) {
    skip_spaces(at);
    if (**at != wanted) return 0;
    (*at)++;
    return 1;
}

static int take_word(const char **at, const char *word) {
    skip_spaces(at);
    size_t length = strlen(word);
    if (strncmp(*at, word, length)) return 0;
    *at += length;
    return 1;
}

static int take_quoted(const char **at, char *text, size_t room) {
    skip_spaces(at);
    char quote = **at;
    size_t length = 0;
    if (quote != '\'' && quote != '"') return 0;
    for (++*at; **at && **at != quote; ++*at) {
        if (length + 1 >= room) return 0;
        text[length++] = **at;
    }
    text[length] = 0;
    return take(at, quote);
}

static up_status take_shape(const char *path, const char **at, up_npy *out) {
    if (!take(at, '(')) return up_fail(UP_ERR_FORMAT, path, "the header's shape is not a tuple");
    while (!take(at, ')')) {
        int64_t size = 0;
        skip_spaces(at);
        if (**at < '0' || **at > '9')
            return up_fail(UP_ERR_FORMAT, path, "the header's shape holds '%c'; wanted a size",
                           **at ? **at : ' ');
        if (out->ndim == UP_NPY_MAX_DIMS)
            return up_fail(UP_ERR_UNSUPPORTED, path, "more than %d dimensions", UP_NPY_MAX_DIMS);
        for (; **at >= '0' && **at <= '9'; ++*at)
            if (__builtin_mul_overflow(size, 10, &size) || __builtin_add_overflow(size, **at - '0', &size))
                return up_fail(UP_ERR_FORMAT, path, "the header's shape is too large");
        out->shape[out->ndim++] = size;
        if (!take(at, ',') && **at != ')')
            return up_fail(UP_ERR_FORMAT, path, "the header's shape is not a tuple");
    }
    return UP_OK;
}

static up_status find_type(const char *path, const char *descr, up_npy_type *type) {
    for (int row = 0; row < TYPES; row++)
        if (!strcmp(types[row].descr, descr)) {
            *type = types[row].type;
            return UP_OK;
        }
    if (descr[0] == '>')
        return up_fail(UP_ERR_UNSUPPORTED, path, "big-endian values (%s); wanted little endian", descr);
    return up_fail(UP_ERR_UNSUPPORTED, path, "values of type '%s'; wanted u1, b1, i4, i8, f4 or f8", descr);
}

static up_status parse_header(const char *path, const char *at, up_npy *out) {
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    unsigned seen = 0;
    if (!take(&at, '{')) return up_fail(UP_ERR_FORMAT, path, "the header is not a dict");
    while (!take(&at, '}')) {
        char key[16], descr[16];
        unsigned k = 0;
        if (!take_quoted(&at, key, sizeof key) || !take(&at, ':'))
            return up_fail(UP_ERR_FORMAT, path, "the header is not a dict");
        while (k < 3 && strcmp(key, keys[k])) k++;
        if (k == 3) return up_fail(UP_ERR_FORMAT, path, "unknown key '%s' in the header", key);
        if (seen & 1u << k) return up_fail(UP_ERR_FORMAT, path, "the header has '%s' twice", key);
        seen |= 1u << k;
        if (k == 0) {
            if (!take_quoted(&at, descr, sizeof descr))
                return up_fail(UP_ERR_UNSUPPORTED, path, "the header's descr is not one simple type");
            UP_TRY(find_type(path, descr, &out->type));
        } else if (k == 1) {
            if (take_word(&at, "True"))
                return up_fail(UP_ERR_UNSUPPORTED, path, "Fortran order; wanted C order");
            if (!take_word(&at, "False"))
                return up_fail(UP_ERR_FORMAT, path, "the header's fortran_order is neither True nor False");
        } else {
            UP_TRY(take_shape(path, &at, out));
        }
        if (!take(&at, ',') && *at != '}') return up_fail(UP_ERR_FORMAT, path, "the header is not a dict");
    }
    if (seen != 7) return up_fail(UP_ERR_FORMAT, path, "the header lacks one of descr, fortran_order, shape");
    if (!take(&at, 0)) return up_fail(UP_ERR_FORMAT, path, "the header has text behind its dict");
    return UP_OK;
}

/* *at = where the dict begins, *length = its bytes. */
static up_status find_header(const char *path, const unsigned char *file, size_t size, size_t *at,
                             size_t *length) {
    if (size < 10 || memcmp(file, "\x93NUMPY", 6)) return up_fail(UP_ERR_FORMAT, path, "is not a .npy file");
    if ((file[6] != 1 && file[6] != 2) || file[7] != 0)
        return up_fail(UP_ERR_UNSUPPORTED, path, "format version %d.%d; wanted 1.0 or 2.0", file[6], file[7]);
    *at = file[6] == 1 ? 10 : 12;
    if (size < *at) return up_fail(UP_ERR_FORMAT, path, "ends inside its header");
    *length = file[8] | (size_t)file[9] << 8;
    if (file[6] == 2) *length |= (size_t)file[10] << 16 | (size_t)file[11] << 24;
    if (*length > size - *at) return up_fail(UP_ERR_FORMAT, path, "ends inside its header");
    if (*length > MAX_HEADER)
        return up_fail(UP_ERR_FORMAT, path, "a header of %zu bytes; wanted at most %d", *length, MAX_HEADER);
    return UP_OK;
}

/* The product of the sizes, and in bytes; a zero anywhere makes it zero, whatever the others are. */
static up_status count_values(const char *path, up_npy *array, size_t *bytes) {
    array->count = 1;
    for (int d = 0; d < array->ndim; d++) {
        if (array->shape[d] < 0) return up_fail(UP_ERR_ARGUMENT, path, "a negative size in its shape");
        if (array->shape[d] == 0) array->count = 0;
    }
    for (int d = 0; d < array->ndim && array->count; d++)
        if (__builtin_mul_overflow(array->count, array->shape[d], &array->count))
            return up_fail(UP_ERR_FORMAT, path, "its shape is too large");
    if (__builtin_mul_overflow((size_t)array->count, up_npy_type_size(array->type), bytes))
        return up_fail(UP_ERR_FORMAT, path, "its shape is too large");
    return UP_OK;
}

up_status up_npy_read(const char *path, up_npy *out) {
    up_status status = UP_OK;
    size_t size, at = 0, length = 0, bytes = 0;
    void *file = NULL;
    *out = (up_npy){0};
    UP_GO(up_file_read(path, &file, &size));
    UP_GO(find_header(path, file, size, &at, &length));
    char *header = strndup((char *)file + at, length);
    if (!header) UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for its header"));
    status = strlen(header) == length ? parse_header(path, header, out)
                                      : up_fail(UP_ERR_FORMAT, path, "the header is not text");
    free(header);
    UP_GO(status);
    UP_GO(count_values(path, out, &bytes));
    if (size - at - length != bytes)
        UP_GO(up_fail(UP_ERR_FORMAT, path, "%zu bytes of values; its shape and type want %zu",
                      size - at - length, bytes));
    memmove(file, (char *)file + at + length, bytes); /* to the start, which is aligned for every type */
    out->data = file;
    file = NULL;
done:
    free(file);
    if (status != UP_OK) *out = (up_npy){0};
    return status;
}

up_status up_npy_head(const char *path, up_npy_type type, int ndim, const int64_t *shape,
                      unsigned char head[UP_NPY_HEAD_ROOM], size_t *length_out) {
    char *text = (char *)head + 10;
    size_t room = UP_NPY_HEAD_ROOM - 10;
    if (row_of(type) == TYPES) return up_fail(UP_ERR_ARGUMENT, path, "unknown type %d", (int)type);
    if (ndim < 0 || ndim > UP_NPY_MAX_DIMS)
        return up_fail(UP_ERR_ARGUMENT, path, "%d dimensions; wanted 0 to %d", ndim, UP_NPY_MAX_DIMS);
    memcpy(head, "\x93NUMPY\x01", 8);
    size_t length = (size_t)snprintf(text, room, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                                     types[row_of(type)].descr);
    for (int d = 0; d < ndim; d++)
        length += (size_t)snprintf(text + length, room - length, "%lld%s", (long long)shape[d],
                                   d + 1 < ndim ? ", "
                                   : ndim == 1  ? ","
                                                : "");
    length += (size_t)snprintf(text + length, room - length, "), }");
    while ((10 + length + 1) % 64) text[length++] = ' '; /* the values begin at a multiple of 64 */
    text[length++] = '\n';
    head[8] = (unsigned char)length;
    head[9] = (unsigned char)(length >> 8);
    *length_out = 10 + length;
    return UP_OK;
}

up_status up_npy_write(const char *path, up_npy_type type, int ndim, const int64_t *shape, const void *data) {
    up_npy array = {.type = type, .ndim = ndim};
    unsigned char head[UP_NPY_HEAD_ROOM];
    size_t bytes = 0, length;
    UP_TRY(up_npy_head(path, type, ndim, shape, head, &length));
    if (ndim) memcpy(array.shape, shape, (size_t)ndim * sizeof *shape);
    UP_TRY(count_values(path, &array, &bytes));

    up_file_writer writer;
    UP_TRY(up_file_begin(path, &writer));
    up_status status = up_file_put(&writer, head, length);
    if (status == UP_OK) status = up_file_put(&writer, data, bytes);
    if (status == UP_OK) return up_file_commit(&writer);
    up_file_abort(&writer);
    return status;
}

void up_npy_free(up_npy *array) {
    free(array->data);
    *array = (up_npy){0};
}
