/* list_samples.c - the samples of tar shards as JSON lines, pictures in hexadecimal: what
 * webdataset_shards.py compares with another reader. */
#include "data/dataset.h"
#include "files/json.h"

#include <stdio.h>
#include <stdlib.h>

/* 2 digits a byte, malloc'ed. */
static char *digits_of(const up_media *media) {
    const unsigned char *bytes = media->bytes;
    char *text = malloc(2 * media->size + 1);
    if (!text) return NULL;
    for (size_t i = 0; i < media->size; i++) sprintf(text + 2 * i, "%02x", bytes[i]);
    text[2 * media->size] = 0;
    return text;
}

static up_status add_value(const up_dataset *d, const up_sample *s, const up_value *v, json_t *line) {
    const char *name = s->memory + v->name;
    if (v->shard < 0) {
        json_object_set_new(line, name, json_string(up_value_text(s, v)));
        return UP_OK;
    }
    up_media media;
    UP_TRY(up_dataset_media(d, s, v, NULL, &media));
    char *digits = digits_of(&media);
    json_object_set_new(line, name, json_string(digits ? digits : ""));
    free(digits);
    up_media_free(&media);
    return UP_OK;
}

static up_status list(const up_dataset *d) {
    up_sample s = {0};
    up_status status = UP_OK;
    for (size_t i = 0; i < d->count && status == UP_OK; i++) {
        json_t *line = json_object();
        status = up_dataset_sample(d, i, &s);
        for (size_t k = 0; k < s.count && status == UP_OK; k++) status = add_value(d, &s, &s.values[k], line);
        json_dumpf(line, stdout, JSON_COMPACT);
        puts("");
        json_decref(line);
    }
    up_sample_free(&s);
    return status;
}

int main(int argc, char **argv) {
    up_dataset d;
    if (argc != 2) return 2;
    const up_dataset_options options = {.data = argv[1], .format = "webdataset"};
    up_status status = up_dataset_open(&options, &d);
    if (status == UP_OK) status = list(&d);
    if (status != UP_OK) fprintf(stderr, "%s\n", up_last_error());
    up_dataset_close(&d);
    return status != UP_OK;
}
