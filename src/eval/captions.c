/* captions.c - generated texts (paper appendix D, image and video caption): beam search through the session,
 * scored by the words shared with the true text; chance is the same score against the texts of all other
 * rows. */
#include "eval/eval.h"
#include "files/progress.h"

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

static up_status make_captions(up_evaluation *e, const up_source *s, captions *c) {
    c->n = up_evaluation_rows(s);
    c->made = calloc(c->n + 1, sizeof *c->made);
    c->true_texts = calloc(c->n + 1, sizeof *c->true_texts);
    if (!c->made || !c->true_texts)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu captions wanted", c->n);
    up_counter counter = up_counter_start("  captions", (int64_t)c->n, e->options.quiet);
    for (size_t first = 0, count; first < c->n; first += count) {
        count = c->n - first < AT_ONCE ? c->n - first : AT_ONCE;
        UP_TRY(caption_rows(e, s, first, count, c->made + first));
        up_counter_show(&counter, (int64_t)(first + count));
        UP_TRY(up_evaluation_goes_on(e, s));
    }
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

static up_status score(up_evaluation *e, const up_source *s, const captions *c) {
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

up_status up_measure_captions(up_evaluation *e, const up_source *s) {
    captions c = {0};
    up_status status = UP_OK;
    UP_GO(make_captions(e, s, &c));
    if (c.n > 1) UP_GO(score(e, s, &c)); /* one row has no others to compare with */
    UP_GO(show(e, s, &c));
done:
    captions_free(&c);
    return status;
}
