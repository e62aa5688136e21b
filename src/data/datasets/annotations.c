/* annotations.c - datasets described by one JSON file: COCO Caption (both forms), Flickr30k's split, Visual
 * Genome, MSR-VTT, VQA v2. The file is read once, when the index is made. */
#include "data/datasets/reader.h"
#include "files/file.h"
#include "files/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- looking into JSON that may be anything ---- */

static up_status open_json(up_sample_index_writer *w, const char *path, json_t **out) {
    void *text;
    size_t size;
    *out = NULL;
    UP_TRY(up_file_read(path, &text, &size));
    up_status status = up_json_read(path, text, size, 0, out);
    free(text);
    return status == UP_OK ? up_sample_index_input(w, path) : status;
}

/* The list under a key of the whole file. */
static up_status list_of(const char *path, const json_t *whole, const char *key, const json_t **out) {
    *out = json_object_get(whole, key);
    if (json_is_array(*out)) return UP_OK;
    return up_fail(UP_ERR_FORMAT, path, "no list \"%s\"", key);
}

/* Entry i of a list called `key`; its text or number under `field`. */
typedef struct entry {
    const char *path, *key;
    size_t number;
    const json_t *object;
} entry;

static up_status text_of(const entry *e, const char *field, const char **out) {
    *out = json_string_value(json_object_get(e->object, field));
    if (*out) return UP_OK;
    return up_fail(UP_ERR_FORMAT, e->path, "entry %zu of \"%s\" has no text \"%s\"", e->number, e->key,
                   field);
}

static up_status number_of(const entry *e, const char *field, long long *out) {
    const json_t *value = json_object_get(e->object, field);
    *out = json_integer_value(value);
    if (json_is_integer(value)) return UP_OK;
    return up_fail(UP_ERR_FORMAT, e->path, "entry %zu of \"%s\" has no whole number \"%s\"", e->number,
                   e->key, field);
}

static entry entry_of(const char *path, const char *key, const json_t *list, size_t i) {
    return (entry){path, key, i + 1, json_array_get(list, i)};
}

static int is_of_split(const up_dataset *d, const char *split) {
    const char *wanted = d->options.split;
    if (!wanted || !strcmp(wanted, split)) return 1;
    return !strcmp(wanted, "train+restval") && (!strcmp(split, "train") || !strcmp(split, "restval"));
}

static up_status add_number(up_sample *s, const char *name, long long number) {
    char text[32];
    snprintf(text, sizeof text, "%lld", number);
    return up_datasets_add(s, name, text);
}

/* ---- numbers to lists of entries: which annotations an image has ---- */

typedef struct link {
    long long of;
    size_t entry;
} link;

static int by_number(const void *a, const void *b) {
    const link *x = a, *y = b;
    if (x->of != y->of) return x->of < y->of ? -1 : 1;
    return x->entry < y->entry ? -1 : x->entry > y->entry;
}

/* Of a list's entries, ordered by the number under `field`, then as they come. malloc'ed. */
static up_status link_entries(const char *path, const char *key, const json_t *list, const char *field,
                              link **out) {
    size_t count = json_array_size(list);
    link *links = malloc((count + 1) * sizeof *links);
    *out = links;
    if (!links) return up_fail(UP_ERR_MEMORY, path, "%zu entries wanted", count);
    for (size_t i = 0; i < count; i++) {
        entry e = entry_of(path, key, list, i);
        UP_TRY(number_of(&e, field, &links[i].of));
        links[i].entry = i;
    }
    qsort(links, count, sizeof *links, by_number);
    return UP_OK;
}

/* The first of those of a number; `count` behind the last. */
static size_t first_link(const link *links, size_t count, long long of) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (links[middle].of < of)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The captions of one picture or clip, whose other values are in the sample; without any it is left out. */
static up_status add_captioned(const char *path, const char *key, const json_t *list, const link *links,
                               long long of, up_sample_index_writer *w, up_sample *s) {
    const char *caption;
    size_t count = json_array_size(list), first = first_link(links, count, of), i = first;
    for (; i < count && links[i].of == of; i++) {
        entry e = entry_of(path, key, list, links[i].entry);
        UP_TRY(text_of(&e, "caption", &caption));
        UP_TRY(up_datasets_add(s, "text", caption));
    }
    return i > first ? up_sample_index_record(w, s) : UP_OK;
}

/* ---- Karpathy: {"images": [{"filepath", "filename", "split", "sentences": [{"raw"}]}]} ---- */

static up_status add_karpathy(const up_dataset *d, const entry *e, up_sample_index_writer *w, up_sample *s) {
    const char *file, *split, *raw, *folder = json_string_value(json_object_get(e->object, "filepath"));
    const json_t *sentences = json_object_get(e->object, "sentences");
    char path[2048];
    UP_TRY(text_of(e, "filename", &file));
    UP_TRY(text_of(e, "split", &split));
    if (!is_of_split(d, split)) return UP_OK;
    if (!json_is_array(sentences))
        return up_fail(UP_ERR_FORMAT, e->path, "entry %zu of \"images\" has no list \"sentences\"",
                       e->number);
    snprintf(path, sizeof path, "%s%s%s", folder ? folder : "", folder ? "/" : "", file);
    up_sample_clear(s);
    UP_TRY(up_datasets_add(s, "image", path));
    UP_TRY(up_datasets_add(s, "key", file));
    for (size_t i = 0; i < json_array_size(sentences); i++) {
        entry sentence = entry_of(e->path, "sentences", sentences, i);
        UP_TRY(text_of(&sentence, "raw", &raw));
        UP_TRY(up_datasets_add(s, "text", raw));
    }
    return up_sample_index_record(w, s);
}

up_status up_read_karpathy(up_dataset *d, up_sample_index_writer *w) {
    const char *path = d->options.data;
    const json_t *images;
    json_t *whole;
    up_sample s = {0};
    up_status status = UP_OK;
    UP_GO(open_json(w, path, &whole));
    UP_GO(list_of(path, whole, "images", &images));
    for (size_t i = 0; i < json_array_size(images); i++) {
        entry e = entry_of(path, "images", images, i);
        UP_GO(add_karpathy(d, &e, w, &s));
    }
done:
    json_decref(whole);
    up_sample_free(&s);
    return status;
}

/* ---- COCO: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]} ---- */

static up_status add_coco(const entry *e, const json_t *annotations, const link *links,
                          up_sample_index_writer *w, up_sample *s) {
    const char *file;
    long long id;
    UP_TRY(text_of(e, "file_name", &file));
    UP_TRY(number_of(e, "id", &id));
    up_sample_clear(s);
    UP_TRY(up_datasets_add(s, "image", file));
    UP_TRY(add_number(s, "key", id));
    return add_captioned(e->path, "annotations", annotations, links, id, w, s);
}

up_status up_read_coco(up_dataset *d, up_sample_index_writer *w) {
    const char *path = d->options.data;
    const json_t *images, *annotations;
    json_t *whole;
    link *links = NULL;
    up_sample s = {0};
    up_status status = UP_OK;
    UP_GO(open_json(w, path, &whole));
    UP_GO(list_of(path, whole, "images", &images));
    UP_GO(list_of(path, whole, "annotations", &annotations));
    UP_GO(link_entries(path, "annotations", annotations, "image_id", &links));
    for (size_t i = 0; i < json_array_size(images); i++) {
        entry e = entry_of(path, "images", images, i);
        UP_GO(add_coco(&e, annotations, links, w, &s));
    }
done:
    json_decref(whole);
    free(links);
    up_sample_free(&s);
    return status;
}

/* ---- Visual Genome: [{"id", "regions": [{"region_id", "image_id", "phrase", "x", "y", "width",
 * "height"}]}]: each region is a sample; all regions of a picture are of one group ---- */

static up_status add_region(const entry *e, long long image, up_sample_index_writer *w, up_sample *s) {
    static const char *const box[] = {"x", "y", "width", "height"};
    const char *phrase;
    long long id;
    char file[64];
    UP_TRY(text_of(e, "phrase", &phrase));
    UP_TRY(number_of(e, "region_id", &id));
    snprintf(file, sizeof file, "%lld.jpg", image);
    up_sample_clear(s);
    UP_TRY(up_datasets_add(s, "image", file));
    UP_TRY(up_datasets_add(s, "text", phrase));
    UP_TRY(add_number(s, "key", id));
    for (int k = 0; k < 4; k++) {
        long long value;
        UP_TRY(number_of(e, box[k], &value));
        UP_TRY(add_number(s, box[k], value));
    }
    return up_sample_index_record(w, s);
}

static up_status add_regions(const entry *e, up_sample_index_writer *w, up_sample *s) {
    const json_t *regions;
    long long image;
    UP_TRY(number_of(e, "id", &image));
    UP_TRY(list_of(e->path, e->object, "regions", &regions));
    for (size_t i = 0; i < json_array_size(regions); i++) {
        entry region = entry_of(e->path, "regions", regions, i);
        UP_TRY(add_region(&region, image, w, s));
    }
    return UP_OK;
}

up_status up_read_regions(up_dataset *d, up_sample_index_writer *w) {
    json_t *whole;
    up_sample s = {0};
    up_status status = UP_OK;
    UP_GO(open_json(w, d->options.data, &whole));
    if (!json_is_array(whole)) UP_GO(up_fail(UP_ERR_FORMAT, d->options.data, "wanted a list of pictures"));
    for (size_t i = 0; i < json_array_size(whole); i++) {
        entry e = entry_of(d->options.data, "pictures", whole, i);
        UP_GO(add_regions(&e, w, &s));
    }
done:
    json_decref(whole);
    up_sample_free(&s);
    return status;
}

/* ---- MSR-VTT: {"videos": [{"video_id", "split"}], "sentences": [{"video_id", "caption"}]} ---- */

/* The number in "video7010". */
static up_status msrvtt_number(const entry *e, const char **name, long long *out) {
    char *end = NULL;
    UP_TRY(text_of(e, "video_id", name));
    *out = strncmp(*name, "video", 5) ? -1 : strtoll(*name + 5, &end, 10);
    if (*out >= 0 && *end == 0 && end > *name + 5) return UP_OK;
    return up_fail(UP_ERR_FORMAT, e->path, "entry %zu of \"%s\": \"%s\" is no videoNUMBER", e->number, e->key,
                   *name);
}

static up_status link_sentences(const char *path, const json_t *sentences, link **out) {
    size_t count = json_array_size(sentences);
    const char *name;
    *out = malloc((count + 1) * sizeof **out);
    if (!*out) return up_fail(UP_ERR_MEMORY, path, "%zu sentences wanted", count);
    for (size_t i = 0; i < count; i++) {
        entry e = entry_of(path, "sentences", sentences, i);
        UP_TRY(msrvtt_number(&e, &name, &(*out)[i].of));
        (*out)[i].entry = i;
    }
    qsort(*out, count, sizeof **out, by_number);
    return UP_OK;
}

static up_status add_msrvtt(const up_dataset *d, const entry *e, const json_t *sentences, const link *links,
                            up_sample_index_writer *w, up_sample *s) {
    const char *name, *split;
    long long number;
    char file[256];
    UP_TRY(msrvtt_number(e, &name, &number));
    UP_TRY(text_of(e, "split", &split));
    if (!is_of_split(d, split)) return UP_OK;
    snprintf(file, sizeof file, "%s.mp4", name);
    up_sample_clear(s);
    UP_TRY(up_datasets_add(s, "video", file));
    UP_TRY(up_datasets_add(s, "key", name));
    return add_captioned(e->path, "sentences", sentences, links, number, w, s);
}

up_status up_read_msrvtt(up_dataset *d, up_sample_index_writer *w) {
    const char *path = d->options.data;
    const json_t *videos, *sentences;
    json_t *whole;
    link *links = NULL;
    up_sample s = {0};
    up_status status = UP_OK;
    UP_GO(open_json(w, path, &whole));
    UP_GO(list_of(path, whole, "videos", &videos));
    UP_GO(list_of(path, whole, "sentences", &sentences));
    UP_GO(link_sentences(path, sentences, &links));
    for (size_t i = 0; i < json_array_size(videos); i++) {
        entry e = entry_of(path, "videos", videos, i);
        UP_GO(add_msrvtt(d, &e, sentences, links, w, &s));
    }
done:
    json_decref(whole);
    free(links);
    up_sample_free(&s);
    return status;
}

/* ---- VQA v2: {"questions": [{"question_id", "image_id", "question"}]} and {"annotations": [{"question_id",
 * "multiple_choice_answer", "answers": [{"answer"}]}]}: the agreed answer first, then that of each person, so
 * that one drawn among those is drawn as often as it was given ---- */

static up_status add_answers(const char *path, const json_t *annotations, const link *links, long long id,
                             up_sample *s) {
    size_t count = json_array_size(annotations), at = first_link(links, count, id);
    const char *text;
    if (at == count || links[at].of != id) return UP_OK;
    entry a = entry_of(path, "annotations", annotations, links[at].entry);
    UP_TRY(text_of(&a, "multiple_choice_answer", &text));
    UP_TRY(up_datasets_add(s, "label", text));
    const char *type = json_string_value(json_object_get(a.object, "answer_type"));
    if (type) UP_TRY(up_datasets_add(s, "answer_type", type));
    const json_t *answers = json_object_get(a.object, "answers");
    for (size_t i = 0; i < json_array_size(answers); i++) {
        entry answer = entry_of(path, "answers", answers, i);
        UP_TRY(text_of(&answer, "answer", &text));
        UP_TRY(up_datasets_add(s, "answer", text));
    }
    return UP_OK;
}

/* COCO_val2014_000000262148.jpg, as `split` says; without one 000000262148.jpg, as of 2017. */
static up_status add_question(const up_dataset *d, const entry *e, up_sample *s) {
    const char *question, *split = d->options.split;
    long long id, image;
    char file[256];
    UP_TRY(text_of(e, "question", &question));
    UP_TRY(number_of(e, "question_id", &id));
    UP_TRY(number_of(e, "image_id", &image));
    snprintf(file, sizeof file, "%s%s%s%012lld.jpg", split ? "COCO_" : "", split ? split : "",
             split ? "_" : "", image);
    up_sample_clear(s);
    UP_TRY(up_datasets_add(s, "image", file));
    UP_TRY(up_datasets_add(s, "question", question));
    return add_number(s, "key", id);
}

up_status up_read_vqa(up_dataset *d, up_sample_index_writer *w) {
    const char *path = d->options.data, *answers = d->options.annotations;
    const json_t *questions, *annotations = NULL;
    json_t *whole = NULL, *second = NULL;
    link *links = NULL;
    long long id;
    up_sample s = {0};
    up_status status = UP_OK;
    UP_GO(open_json(w, path, &whole));
    UP_GO(list_of(path, whole, "questions", &questions));
    if (answers) {
        UP_GO(open_json(w, answers, &second));
        UP_GO(list_of(answers, second, "annotations", &annotations));
        UP_GO(link_entries(answers, "annotations", annotations, "question_id", &links));
    }
    for (size_t i = 0; i < json_array_size(questions); i++) {
        entry e = entry_of(path, "questions", questions, i);
        UP_GO(add_question(d, &e, &s));
        UP_GO(number_of(&e, "question_id", &id));
        if (answers) UP_GO(add_answers(answers, annotations, links, id, &s));
        UP_GO(up_sample_index_record(w, &s));
    }
done:
    json_decref(whole);
    json_decref(second);
    free(links);
    up_sample_free(&s);
    return status;
}
