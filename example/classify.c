/* classify.c - a complete program: which of some labels fits a picture?
 *
 *     cc classify.c $(pkg-config --cflags --libs uniperceiver) -o classify
 *     ./classify model.safetensors picture.jpg cat dog "a red car"
 */
#include <uniperceiver/uniperceiver.h>

#include <stdio.h>
#include <stdlib.h>

enum { MAX_LABELS = 64 };

/* A whole file in memory; the library takes bytes from anywhere. */
static void *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    char *bytes = NULL;
    long length = -1;
    if (file && !fseek(file, 0, SEEK_END)) length = ftell(file);
    if (length >= 0 && !fseek(file, 0, SEEK_SET)) bytes = malloc((size_t)length + 1);
    if (bytes && fread(bytes, 1, (size_t)length, file) != (size_t)length) {
        free(bytes);
        bytes = NULL;
    }
    if (file) fclose(file);
    *size = bytes ? (size_t)length : 0;
    return bytes;
}

int main(int argc, char **argv) {
    float probabilities[MAX_LABELS];
    up_session *session = NULL;
    size_t size;
    int labels = argc - 3, code = 1;
    if (labels < 1 || labels > MAX_LABELS) {
        fprintf(stderr, "usage: classify MODEL PICTURE LABEL... (at most %d)\n", MAX_LABELS);
        return 2;
    }
    void *bytes = read_file(argv[2], &size);
    if (!bytes) {
        fprintf(stderr, "classify: cannot read %s\n", argv[2]);
        return 1;
    }
    const up_part picture = {.kind = UP_PART_IMAGE, .data = bytes, .size = size, .name = argv[2]};
    const up_input input = {.parts = &picture, .count = 1};
    if (up_model_load(argv[1], NULL, &session) == UP_OK &&
        up_classify(session, &input, (const char *const *)(argv + 3), labels, probabilities) == UP_OK) {
        for (int i = 0; i < labels; i++) printf("%-20s %.4f\n", argv[3 + i], (double)probabilities[i]);
        code = 0;
    } else {
        fprintf(stderr, "classify: %s\n", up_last_error());
    }
    up_session_close(session);
    free(bytes);
    return code;
}
