/* predictions.c - rows as JSON objects, gathered while evaluations go on and written as lines at the end. */
#include "eval/predictions.h"
#include "data/image_write.h"
#include "files/file.h"
#include "files/json.h"
#include "infer/attention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PIXELS = 160, CLASSES = 60 /* a larger matrix is no picture any more */ };

struct up_predictions {
    up_model *model;               /* borrowed */
    const up_tokenizer *tokenizer; /* borrowed */
    up_attention *attention;
    json_t *lines;
};

up_status up_predictions_create(up_model *model, const up_tokenizer *tokenizer, up_predictions **out) {
    up_status status = UP_OK;
    *out = NULL;
    up_predictions *p = calloc(1, sizeof *p);
    if (!p || !(p->lines = json_array())) UP_GO(up_fail(UP_ERR_MEMORY, "predictions", "no memory for them"));
    p->model = model;
    p->tokenizer = tokenizer;
    UP_GO(up_attention_create(model, &p->attention));
    *out = p;
    p = NULL;
done:
    up_predictions_free(p);
    return status;
}

void up_predictions_free(up_predictions *p) {
    if (!p) return;
    up_attention_free(p->attention);
    json_decref(p->lines);
    free(p);
}

/* Takes the line over. */
static up_status add_line(up_predictions *p, json_t *line) {
    if (line && !json_array_append_new(p->lines, line)) return UP_OK;
    return up_fail(UP_ERR_MEMORY, "predictions", "no memory for a line");
}

int up_choose(const float *z, int64_t n, up_choice choices[UP_CHOICES]) {
    int count = 0;
    double sum = 0;
    for (int64_t j = 0; j < n; j++) {
        int place = count < UP_CHOICES ? count++ : UP_CHOICES;
        while (place > 0 && z[j] > z[choices[place - 1].target]) {
            if (place < UP_CHOICES) choices[place] = choices[place - 1];
            place--;
        }
        if (place < UP_CHOICES) choices[place].target = j;
    }
    for (int64_t j = 0; j < n; j++) sum += exp((double)z[j] - (double)z[choices[0].target]);
    for (int i = 0; i < count; i++)
        choices[i].probability = exp((double)z[choices[i].target] - (double)z[choices[0].target]) / sum;
    return count;
}

up_status up_predictions_confusion(up_predictions *p, const up_source *s, const int32_t *labels,
                                   const int32_t *best, int64_t n) {
    size_t classes = s->class_count;
    if (!classes || classes > CLASSES) return UP_OK;
    json_int_t counts[CLASSES][CLASSES] = {0};
    json_t *names = json_array(), *rows = json_array();
    for (int64_t i = 0; i < n; i++)
        if (labels[i] >= 0) counts[labels[i]][best[i]]++;
    for (size_t c = 0; c < classes; c++) {
        json_t *row = json_array();
        for (size_t k = 0; k < classes; k++) json_array_append_new(row, json_integer(counts[c][k]));
        json_array_append_new(names, json_string(s->classes[c]));
        json_array_append_new(rows, row);
    }
    return add_line(p, json_pack("{s:s, s:s, s:o, s:o}", "evaluation", s->settings->name, "kind",
                                 s->task->name, "classes", names, "confusion", rows));
}

/* Words of a run of tokens behind what is there; a hidden word stands between runs. */
static up_status put_run(const up_predictions *p, const int32_t *ids, size_t count, FILE *out) {
    char *words;
    if (!count) return UP_OK;
    UP_TRY(up_detokenize(p->tokenizer, ids, count, &words));
    fprintf(out, "%s%s", ftell(out) ? " " : "", words);
    free(words);
    return UP_OK;
}

up_status up_predictions_words(const up_predictions *p, const int32_t *ids, int count, int hidden,
                               char **text) {
    size_t size;
    up_status status = UP_OK;
    *text = NULL;
    FILE *out = open_memstream(text, &size);
    if (!out) return up_fail(UP_ERR_MEMORY, "predictions", "no memory for a text");
    for (int i = 0, first = 0; i <= count && status == UP_OK; i++) {
        if (i < count && ids[i] >= 0 && ids[i] != UP_TOKEN_END) continue;
        status = put_run(p, ids + first, (size_t)(i - first), out);
        if (i < count && ids[i] == UP_ID_SPE && hidden) fputs(ftell(out) ? " [...]" : "[...]", out);
        first = i + 1;
    }
    if (fclose(out) && status == UP_OK)
        status = up_fail(UP_ERR_MEMORY, "predictions", "no memory for a text");
    return status;
}

/* The text of an input as it was asked: what is read out later than a slot's own place is left out. */
static up_status input_text(const up_predictions *p, const up_source *s, const up_batch *b, char **text) {
    int hidden = s->task->text == &up_text_masked;
    *text = NULL;
    if (!s->task->text || s->task->text == &up_text_slots) return UP_OK;
    return up_predictions_words(p, b->text_id + 1, b->text_count - 1, hidden, text); /* behind <SPE> */
}

/* The picture that is shown, or of a clip the frame in the middle: its first patch; -1: none. */
static int first_patch(const up_patch_rows *image, const up_patch_rows *video, const up_config *c,
                       const up_patch_rows **rows) {
    int cells = up_config_cells(c);
    *rows = image->count ? image : video;
    if (!(*rows)->count || !(*rows)->bytes) return -1;
    return (*rows)->count / cells / 2 * cells;
}

static up_status put_attention(up_predictions *p, const up_batch *b, const up_patch_rows *rows, int first,
                               json_t *line) {
    const up_config *c = up_model_config(p->model);
    int cells = up_config_cells(c);
    json_t *values = json_array();
    float *all = malloc((size_t)b->tokens * sizeof *all);
    up_status status = UP_OK;
    if (!all) UP_GO(up_fail(UP_ERR_MEMORY, "predictions", "%d tokens wanted", b->tokens));
    UP_GO(up_attention_read(p->attention, b, all));
    for (int i = 0; i < cells; i++)
        json_array_append_new(values, json_real((double)all[rows->row[first + i]]));
    json_object_set_new(line, "attention",
                        json_pack("{s:i, s:O}", "columns", c->image_size / c->patch, "values", values));
done:
    json_decref(values);
    free(all);
    return status;
}

static up_status put_picture(up_predictions *p, const up_batch *b, json_t *line) {
    const up_config *c = up_model_config(p->model);
    const up_patch_rows *rows;
    int first = first_patch(&b->image, &b->video, c, &rows);
    size_t values = 3 * (size_t)c->patch * (size_t)c->patch;
    up_image picture = {0};
    char *uri = NULL;
    if (first < 0) return UP_OK;
    up_status status =
        up_image_from_patches(rows->bytes + (size_t)first * values, c->image_size, c->patch, &picture);
    if (status == UP_OK) status = up_image_data_uri(&picture, PIXELS, &uri);
    if (status == UP_OK) json_object_set_new(line, "picture", json_string(uri));
    if (status == UP_OK) status = put_attention(p, b, rows, first, line);
    free(uri);
    up_image_free(&picture);
    return status;
}

static void put_text(json_t *line, const char *key, const char *text) {
    if (text) json_object_set_new(line, key, json_string(text));
}

static json_t *choices_json(const up_prediction *r) {
    json_t *best = json_array();
    for (int i = 0; i < r->choice_count; i++)
        json_array_append_new(
            best, json_pack("{s:s, s:f}", "text", r->choices[i], "probability", r->probabilities[i]));
    return best;
}

up_status up_predictions_add(up_predictions *p, const up_source *s, const up_prediction *r) {
    char *text = NULL;
    up_status status = UP_OK;
    json_t *line = json_pack("{s:s, s:s, s:I}", "evaluation", s->settings->name, "kind", s->task->name, "row",
                             (json_int_t)r->row);
    if (!line) return up_fail(UP_ERR_MEMORY, "predictions", "no memory for a line");
    UP_GO(input_text(p, s, &r->work->batch, &text));
    put_text(line, "text", text);
    put_text(line, "truth", r->truth);
    put_text(line, "said", r->said);
    if (r->said) json_object_set_new(line, "log_probability", json_real(r->log_probability));
    if (r->choice_count) json_object_set_new(line, "best", choices_json(r));
    UP_GO(put_picture(p, &r->work->batch, line));
    UP_GO(add_line(p, json_incref(line)));
done:
    json_decref(line);
    free(text);
    return status;
}

static up_status write_lines(const up_predictions *p, up_file_writer *file) {
    for (size_t i = 0; i < json_array_size(p->lines); i++) {
        char *text;
        size_t length;
        UP_TRY(up_json_write("predictions", json_array_get(p->lines, i),
                             JSON_COMPACT | JSON_REAL_PRECISION(5), &text, &length));
        text[length] = '\n'; /* over the NUL behind the text */
        up_status status = up_file_put(file, text, length + 1);
        free(text);
        UP_TRY(status);
    }
    return UP_OK;
}

up_status up_predictions_write(const up_predictions *p, const char *path) {
    up_file_writer file;
    UP_TRY(up_file_begin(path, &file));
    up_status status = write_lines(p, &file);
    if (status == UP_OK) return up_file_commit(&file);
    up_file_abort(&file);
    return status;
}
