/* torch_write.c - writes a checkpoint as torch.save does: {"model": {name: tensor}} as a pickle of protocol
 * 2, then a storage for each tensor. torch.load(weights_only=True) reads it. */
#include "files/torch_file.h"
#include "files/zip.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct up_torch_writer {
    up_file_writer file;
    up_zip_writer *zip;
    size_t count, next;
    size_t bytes[]; /* of each tensor */
};

/* --- the pickle --- */

static void put_number(FILE *out, int64_t n) {
    uint32_t bits = (uint32_t)n;
    fputc('J', out); /* BININT */
    for (int i = 0; i < 4; i++) fputc((int)(bits >> 8 * i & 0xff), out);
}

static void put_text(FILE *out, const char *text) {
    size_t size = strlen(text);
    fputc('X', out); /* BINUNICODE */
    for (int i = 0; i < 4; i++) fputc((int)(size >> 8 * i & 0xff), out);
    fputs(text, out);
}

/* _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks) */
static void put_tensor(FILE *out, size_t key, const up_safetensor *t) {
    char digits[24];
    int64_t strides[UP_SAFETENSORS_MAX_DIMS], n = 1;
    for (int d = t->ndim; d-- > 0;) {
        strides[d] = n;
        n *= t->shape[d];
    }
    snprintf(digits, sizeof digits, "%zu", key);
    fputs("ctorch._utils\n_rebuild_tensor_v2\n((", out);
    put_text(out, "storage");
    fputs("ctorch\nFloatStorage\n", out);
    put_text(out, digits);
    put_text(out, "cpu");
    put_number(out, n);
    fputs("tQ", out); /* the storage's id is complete */
    put_number(out, 0);
    fputc('(', out);
    for (int d = 0; d < t->ndim; d++) put_number(out, t->shape[d]);
    fputs("t(", out);
    for (int d = 0; d < t->ndim; d++) put_number(out, strides[d]);
    fputs("t\x89"
          "ccollections\nOrderedDict\n)RtR",
          out);
}

static up_status make_pickle(const char *path, const up_safetensor *specs, size_t count, char **text,
                             size_t *size) {
    FILE *out = open_memstream(text, size);
    if (!out) return up_fail(UP_ERR_MEMORY, path, "no memory for its pickle");
    fputs("\x80\x02}", out);
    put_text(out, "model");
    fputs("}(", out);
    for (size_t i = 0; i < count; i++) {
        put_text(out, specs[i].name);
        put_tensor(out, i, &specs[i]);
    }
    fputs("us.", out);
    int failed = ferror(out);
    if (fclose(out)) failed = 1;
    return failed ? up_fail(UP_ERR_MEMORY, path, "no memory for its pickle") : UP_OK;
}

/* --- the archive --- */

static up_status put_member(up_zip_writer *zip, const char *name, const void *data, size_t bytes) {
    UP_TRY(up_zip_begin(zip, name, bytes));
    UP_TRY(up_zip_put(zip, data, bytes));
    return up_zip_end(zip);
}

static up_status measure(const char *path, const up_safetensor *t, size_t *bytes) {
    int64_t n = 1;
    for (int d = 0; d < t->ndim; d++)
        if (t->shape[d] < 0 || __builtin_mul_overflow(n, t->shape[d], &n) || n > INT32_MAX)
            return up_fail(UP_ERR_ARGUMENT, path, "tensor \"%.200s\" is too large", t->name);
    if (t->type != UP_ST_F32 || t->ndim > UP_SAFETENSORS_MAX_DIMS)
        return up_fail(UP_ERR_ARGUMENT, path, "tensor \"%.200s\": wanted F32 of at most %d dimensions",
                       t->name, UP_SAFETENSORS_MAX_DIMS);
    *bytes = (size_t)n * sizeof(float);
    return UP_OK;
}

up_status up_torch_begin(const char *path, const up_safetensor *specs, size_t count, up_torch_writer **out) {
    up_status status = UP_OK;
    char *pickle = NULL;
    size_t size = 0;
    *out = NULL;
    up_torch_writer *writer = calloc(1, sizeof *writer + count * sizeof writer->bytes[0]);
    if (!writer) return up_fail(UP_ERR_MEMORY, path, "no memory for %zu tensors", count);
    writer->count = count;
    for (size_t i = 0; i < count; i++) UP_GO(measure(path, &specs[i], &writer->bytes[i]));
    UP_GO(make_pickle(path, specs, count, &pickle, &size));
    UP_GO(up_file_begin(path, &writer->file));
    UP_GO(up_zip_writer_create(&writer->file, &writer->zip));
    UP_GO(put_member(writer->zip, "archive/data.pkl", pickle, size));
    UP_GO(put_member(writer->zip, "archive/byteorder", "little", strlen("little")));
    *out = writer;
    writer = NULL;
done:
    free(pickle);
    up_torch_abort(writer);
    return status;
}

up_status up_torch_put(up_torch_writer *writer, const void *data, size_t bytes) {
    char name[40];
    size_t i = writer->next;
    UP_TRY(up_tensors_take(writer->file.path, writer->bytes, writer->count, &writer->next, bytes));
    snprintf(name, sizeof name, "archive/data/%zu", i);
    return put_member(writer->zip, name, data, bytes);
}

up_status up_torch_commit(up_torch_writer *writer) {
    up_status status = UP_OK;
    UP_GO(up_tensors_end(writer->file.path, writer->count, writer->next));
    UP_GO(put_member(writer->zip, "archive/version", "3\n", 2));
    UP_GO(up_zip_finish(writer->zip));
    UP_GO(up_file_commit(&writer->file));
done:
    up_torch_abort(writer);
    return status;
}

void up_torch_abort(up_torch_writer *writer) {
    if (!writer) return;
    up_zip_writer_free(writer->zip);
    up_file_abort(&writer->file);
    free(writer);
}
