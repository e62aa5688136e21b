/* fuzz_torch.c - libFuzzer over checkpoints of PyTorch: any bytes are taken or refused, and what is taken can
 * be read to its last value. The first byte chooses: an archive as it is, or bytes as the pickle of a sound
 * one, which random changes of an archive would seldom leave readable. scripts/fuzz_import.sh runs it. */
#include "files/torch_file.h"
#include "files/zip.h"

#include <stdlib.h>
#include <string.h>

static const char path[] = "fuzz_torch.pth"; /* in the folder in which it runs */

static void must(up_status status) {
    if (status != UP_OK) abort();
}

static void put_member(up_zip_writer *zip, const char *name, const void *data, size_t size) {
    must(up_zip_begin(zip, name, size));
    must(up_zip_put(zip, data, size));
    must(up_zip_end(zip));
}

static void write_around(const void *pickle, size_t size) {
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    up_file_writer file;
    up_zip_writer *zip;
    must(up_file_begin(path, &file));
    must(up_zip_writer_create(&file, &zip));
    put_member(zip, "m/data.pkl", pickle, size);
    put_member(zip, "m/data/0", values, sizeof values);
    must(up_zip_finish(zip));
    up_zip_writer_free(zip);
    if (fclose(file.stream) || rename(file.partial, path)) abort();
    free(file.path);
    free(file.partial);
}

static void write_bytes(const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    if (!file || (size && fwrite(data, size, 1, file) != 1) || fclose(file)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    up_torch_file *file;
    if (!size) return 0;
    if (data[0] & 1)
        write_around(data + 1, size - 1);
    else
        write_bytes(data + 1, size - 1);
    if (up_torch_open(path, &file) != UP_OK) return 0;
    for (size_t i = 0; i < up_torch_count(file); i++) {
        const up_safetensor *t = up_torch_at(file, i);
        if (t->count > 1 << 20 || up_torch_check(file, t) != UP_OK) continue;
        float *values = malloc((size_t)t->count * sizeof *values + 1);
        if (values) up_safetensor_to_f32(t, values);
        free(values);
        up_torch_release(file, t);
    }
    up_torch_close(file);
    return 0;
}
