/* captions.c - generated texts (paper appendix D, image and video caption): beam search through the session,
 * scored by the words shared with the true text (chance: against the texts of all other rows) and by the
 * field's metrics (chance: against those of the next picture). */
#include "eval/caption_metrics.h"
#include "eval/parts.h"
#include "files/progress.h"
#include "ref/log.h"

#include <stdlib.h>
#include <string.h>

enum { BEAM = 3, AT_ONCE = 16 /* rows that are read and captioned before the next */ };

/* A text as tokens. */
typedef struct tokens {
    int32_t *ids;
    size_t count;
} tokens;

/* Captions and true texts of n rows. */
typedef struct captions {
    size_t n;
    up_caption *made;
    tokens *true_texts;
} captions;

/* The picture or clip of a row. */
static up_status open_row(const up_source *s, size_t row, up_sample *sample, up_media *media, up_part *part) {
    UP_TRY(up_dataset_sample(&s->data, row, sample));
    UP_TRY(up_source_media(s, sample, row, media));
    UP_TRY(up_media_load(media));
    *part = (up_part){.kind = s->task->video ? UP_PART_VIDEO : UP_PART_IMAGE,
                      .data = media->bytes,
                      .size = media->size,
                      .name = media->name};
    return UP_OK;
}

static up_status caption_rows(up_evaluation *e, const up_source *s, size_t first, size_t count,
                              up_caption *out) {
    up_sample sample = {0};
    up_media media[AT_ONCE] = {0};
    up_part parts[AT_ONCE];
    up_input inputs[AT_ONCE];
    up_status status = UP_OK;
    const up_caption_options options = {.beam = BEAM,
                                        .max_words = (int)s->settings->text_limit,
                                        .task = e->world.config->task_names[s->temperature]};
    for (size_t i = 0; i < count; i++) {
        UP_GO(open_row(s, first + i, &sample, &media[i], &parts[i]));
        inputs[i] = (up_input){&parts[i], 1, 0};
    }
    UP_GO(up_caption_inputs(e->session, inputs, (int)count, &options, out));
done:
    for (size_t i = 0; i < count; i++) up_media_free(&media[i]);
    up_sample_free(&sample);
    return status;
}

/* The true text of a row, the first of several, valid until the sample is used again. */
static up_status text_of(const up_source *s, size_t row, up_sample *sample, const char **text) {
    UP_TRY(up_dataset_sample(&s->data, row, sample));
    const up_value *v = up_sample_value(sample, s->settings->text, 0);
    if (!v) return up_source_lacks(s, row, sample, s->settings->text);
    *text = up_value_text(sample, v);
    return UP_OK;
}

static up_status take_texts(up_evaluation *e, const up_source *s, captions *c) {
    up_sample sample = {0};
    up_status status = UP_OK;
    for (size_t i = 0; i < c->n; i++) {
        const char *text = "";
        tokens *own = &c->true_texts[i];
        UP_GO(text_of(s, i, &sample, &text));
        UP_GO(up_tokenize(e->world.tokenizer, text, strlen(text), &own->ids, &own->count));
    }
done:
    up_sample_free(&sample);
    return status;
}

/* --- what is kept of captions until all is done: their words, ids and texts, one behind the other --- */

typedef struct kept {
    int64_t tokens; /* of inputs, that all of a record's captions took: in its first one */
    double log_probability;
    int64_t words, text_bytes;
} kept;

/* `next` is moved behind a caption; 0: these bytes are none. */
static int read_caption(const char **next, const char *end, up_caption *out, int64_t *tokens) {
    kept k;
    if (end - *next < (long)sizeof k) return 0;
    memcpy(&k, *next, sizeof k);
    *next += sizeof k;
    if (k.words < 0 || k.text_bytes < 0 || k.words > INT32_MAX / 4 || k.text_bytes > INT32_MAX) return 0;
    if (end - *next < 4 * k.words + k.text_bytes) return 0;
    *out = (up_caption){.text = strndup(*next + 4 * k.words, (size_t)k.text_bytes),
                        .ids = malloc(4 * (size_t)k.words + 1),
                        .words = (int)k.words,
                        .log_probability = k.log_probability};
    *tokens += k.tokens;
    if (!out->text || !out->ids) return 0;
    memcpy(out->ids, *next, 4 * (size_t)k.words);
    *next += 4 * k.words + k.text_bytes;
    return 1;
}

/* 1: the captions of `count` rows were in the file. */
static int take_part(up_evaluation *e, up_parts *parts, size_t first, size_t count, up_caption *out) {
    size_t size, i = 0;
    int64_t tokens = 0;
    const char *next = up_parts_take(parts, first, &size), *end = next + (next ? size : 0);
    while (next && i < count && read_caption(&next, end, &out[i], &tokens)) i++;
    if (next && i == count && next == end) {
        e->restored += tokens;
        return 1;
    }
    for (size_t k = 0; k < count; k++) {
        up_caption_free(&out[k]);
        out[k] = (up_caption){0};
    }
    return 0;
}

static up_status keep_part(up_parts *parts, size_t first, size_t count, const up_caption *made,
                           int64_t tokens) {
    char *bytes = NULL;
    size_t size;
    FILE *f = parts ? open_memstream(&bytes, &size) : NULL;
    if (!parts) return UP_OK;
    if (!f) return up_fail(UP_ERR_MEMORY, "captions", "no memory for %zu of them", count);
    for (size_t i = 0; i < count; i++) {
        kept k = {i ? 0 : tokens, made[i].log_probability, made[i].words, (int64_t)strlen(made[i].text)};
        fwrite(&k, sizeof k, 1, f);
        fwrite(made[i].ids, 4, (size_t)k.words, f);
        fwrite(made[i].text, 1, (size_t)k.text_bytes, f);
    }
    int failed = fclose(f);
    if (!failed) up_parts_put(parts, first, bytes, size);
    free(bytes);
    return failed ? up_fail(UP_ERR_MEMORY, "captions", "no memory for %zu of them", count) : UP_OK;
}

static up_status make_all(up_evaluation *e, const up_source *s, up_parts *parts, captions *c) {
    up_counter counter = up_counter_start("  captions", (int64_t)c->n, e->options.quiet);
    for (size_t first = 0, count; first < c->n; first += count) {
        count = c->n - first < AT_ONCE ? c->n - first : AT_ONCE;
        if (!take_part(e, parts, first, count, c->made + first)) {
            int64_t before = up_evaluation_tokens(e).inputs;
            UP_TRY(caption_rows(e, s, first, count, c->made + first));
            UP_TRY(keep_part(parts, first, count, c->made + first, up_evaluation_tokens(e).inputs - before));
        }
        up_counter_show(&counter, (int64_t)(first + count));
        UP_TRY(up_evaluation_goes_on(e, s));
    }
    return UP_OK;
}

static up_status make_captions(up_evaluation *e, const up_source *s, captions *c) {
    up_parts *parts;
    c->n = up_evaluation_rows(s);
    c->made = calloc(c->n + 1, sizeof *c->made);
    c->true_texts = calloc(c->n + 1, sizeof *c->true_texts);
    if (!c->made || !c->true_texts)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu captions wanted", c->n);
    UP_TRY(up_parts_open(e, s, &parts));
    up_status status = make_all(e, s, parts, c);
    up_parts_close(parts);
    UP_TRY(status);
    return take_texts(e, s, c);
}

static void captions_free(captions *c) {
    for (size_t i = 0; i < c->n; i++) {
        if (c->made) up_caption_free(&c->made[i]);
        if (c->true_texts) free(c->true_texts[i].ids);
    }
    free(c->made);
    free(c->true_texts);
}

static double overlap(const captions *c, size_t made, size_t with) {
    const up_caption *a = &c->made[made];
    const tokens *b = &c->true_texts[with];
    return up_bag_f1(a->ids, (size_t)a->words, b->ids, b->count);
}

static up_status score_words(up_evaluation *e, const up_source *s, const captions *c) {
    double *own = malloc((c->n + 1) * sizeof *own), others = 0;
    if (!own) return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu scores wanted", c->n);
    for (size_t i = 0; i < c->n; i++) {
        own[i] = overlap(c, i, i);
        for (size_t j = 0; j < c->n; j++)
            if (j != i) others += overlap(c, i, j);
    }
    double pairs = (double)c->n * (double)(c->n - 1);
    up_metric number = up_mean(own, (int64_t)c->n, others / pairs);
    free(own);
    return up_score_add(e, s, "word F1", number);
}

/* All texts of a row are references. */
static up_status add_references(const up_source *s, size_t row, up_sample *sample, size_t picture,
                                up_corpus *out) {
    const up_value *v;
    UP_TRY(up_dataset_sample(&s->data, row, sample));
    for (size_t k = 0; (v = up_sample_value(sample, s->settings->text, k)); k++) {
        const char *text = up_value_text(sample, v);
        UP_TRY(up_corpus_add_reference(out, picture, text, strlen(text)));
    }
    return UP_OK;
}

/* Rows of one picture or clip have one candidate, that of the first, and all their texts as references.
 * picture [n]: whose a row is.
 * With `shift` the caption of each picture stands before the references of the next: what chance reaches. */
static up_status fill_corpus(const up_source *s, const captions *c, const int32_t *picture, int shift,
                             up_corpus *out) {
    size_t known, place;
    int32_t next = 0;
    up_sample sample = {0};
    up_status status = UP_OK;
    for (size_t i = 0; i < c->n; i++) {
        if ((size_t)picture[i] == out->count) UP_GO(up_corpus_add_picture(out, &known));
        UP_GO(add_references(s, i, &sample, (size_t)picture[i], out));
    }
    for (size_t i = 0; i < c->n; i++) {
        if (picture[i] < next) continue; /* not its first row */
        next++;
        place = ((size_t)picture[i] + (size_t)shift) % out->count;
        UP_GO(up_corpus_set_candidate(out, place, c->made[i].text, strlen(c->made[i].text)));
    }
done:
    up_sample_free(&sample);
    return status;
}

static up_status score_metric(up_evaluation *e, const up_source *s, const up_caption_metric *m,
                              const up_corpus *own, const up_corpus *shifted, const up_wordnet *wordnet) {
    double value, chance, *each = malloc((own->count + 1) * sizeof *each);
    up_status status = UP_OK;
    if (!each) return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu scores wanted", own->count);
    UP_GO(m->compute(own, wordnet, each, &value));
    UP_GO(m->compute(shifted, wordnet, NULL, &chance));
    up_metric number = up_mean(each, (int64_t)own->count, chance);
    number.value = value; /* of all together; the spread is that of single pictures */
    UP_GO(up_score_add(e, s, m->name, number));
done:
    free(each);
    return status;
}

static up_status score_metrics(up_evaluation *e, const up_source *s, const captions *c) {
    int32_t *picture = malloc((c->n + 1) * sizeof *picture), count;
    up_corpus own = {0}, shifted = {0};
    up_wordnet wordnet = {0};
    up_status status = UP_OK;
    if (!picture) UP_GO(up_fail(UP_ERR_MEMORY, s->settings->name, "%zu rows", c->n));
    UP_GO(up_evaluation_pictures(s, picture, &count));
    UP_GO(fill_corpus(s, c, picture, 0, &own));
    UP_GO(fill_corpus(s, c, picture, 1, &shifted));
    int has_wordnet = up_wordnet_open(UP_WORDNET_FOLDER, &wordnet) == UP_OK;
    if (!has_wordnet && !e->options.quiet)
        up_log(UP_LOG_REPORT, "  METEOR and SPICE left out: %s", up_last_error());
    for (const up_caption_metric *m = up_caption_metrics; m->name; m++)
        if (has_wordnet || !m->wants_wordnet) UP_GO(score_metric(e, s, m, &own, &shifted, &wordnet));
done:
    free(picture);
    up_corpus_free(&own);
    up_corpus_free(&shifted);
    up_wordnet_close(&wordnet);
    return status;
}

static up_status show(up_evaluation *e, const up_source *s, const captions *c) {
    const char *text = "", *file = s->task->video ? s->settings->video : s->settings->image;
    up_sample sample = {0};
    if (!c->n || e->captions_shown++) return UP_OK;
    fprintf(e->examples, "\nCaptions, in words (%s)\n", s->settings->name);
    for (int i = 0; i < UP_SHOWN; i++) {
        size_t row = up_shown_row(c->n, i);
        up_status status = text_of(s, row, &sample, &text);
        if (status == UP_OK)
            fprintf(e->examples, "  %-28s true: %-46s said: %s\n",
                    up_value_text(&sample, up_sample_value(&sample, file, 0)), text, c->made[row].text);
        if (status != UP_OK) {
            up_sample_free(&sample);
            return status;
        }
    }
    up_sample_free(&sample);
    return UP_OK;
}

/* Rows of predictions.jsonl, spread over the list. */
static up_status keep_rows(up_evaluation *e, const up_source *s, const captions *c) {
    const up_build_options options = {.seed = 0};
    size_t last = SIZE_MAX;
    for (size_t i = 0; i < UP_PREDICTED_ROWS && e->predictions && c->n; i++) {
        size_t row = (2 * i + 1) * c->n / (2 * UP_PREDICTED_ROWS);
        char *truth;
        if (row == last) continue;
        last = row;
        UP_TRY(up_source_build(s, &options, &row, 1, &e->work));
        UP_TRY(up_predictions_words(e->predictions, c->true_texts[row].ids, (int)c->true_texts[row].count, 0,
                                    &truth));
        up_status status =
            up_predictions_add(e->predictions, s,
                               &(up_prediction){.row = row,
                                                .work = &e->work,
                                                .truth = truth,
                                                .said = c->made[row].text,
                                                .log_probability = c->made[row].log_probability});
        free(truth);
        UP_TRY(status);
    }
    return UP_OK;
}

up_status up_measure_captions(up_evaluation *e, const up_source *s) {
    captions c = {0};
    up_status status = UP_OK;
    UP_GO(make_captions(e, s, &c));
    if (c.n > 1) { /* one row has no others to compare with */
        UP_GO(score_words(e, s, &c));
        UP_GO(score_metrics(e, s, &c));
    }
    UP_GO(show(e, s, &c));
    UP_GO(keep_rows(e, s, &c));
done:
    captions_free(&c);
    return status;
}
