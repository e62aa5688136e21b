/* captions.c - generated texts (paper appendix D, image and video caption): beam search through the session,
 * scored by the words shared with the true text; chance is the same score against the texts of all other
 * rows. */
#include "eval/eval.h"
#include "files/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 3 };

typedef struct words {
    int32_t *ids;
    size_t count;
} words;

/* Caption the picture or clip of a row. */
static up_status caption_row(up_evaluation *e, const up_source *s, size_t row, up_caption *out) {
    char *path = NULL;
    void *bytes = NULL;
    size_t size;
    UP_TRY(up_table_file(&s->table, row, s->task->video ? s->video : s->image, &path));
    up_status status = up_file_read(path, &bytes, &size);
    if (status == UP_OK) {
        up_part part = {.kind = s->task->video ? UP_PART_VIDEO : UP_PART_IMAGE,
                        .data = bytes,
                        .size = size,
                        .name = path};
        up_caption_options options = {
            .beam = 3,
            .max_words = (int)s->settings->text_limit,
            .task = up_model_config(up_session_model(e->session))->task_names[s->temperature]};
        status = up_caption_input(e->session, &(up_input){&part, 1, 0}, &options, out);
    }
    free(bytes);
    free(path);
    return status;
}

/* F1 of two bags of tokens. */
static double overlap(const words *a, const words *b) {
    size_t hits = 0;
    uint8_t used[256] = {0};
    for (size_t i = 0; i < a->count; i++)
        for (size_t j = 0; j < b->count && j < sizeof used; j++)
            if (!used[j] && a->ids[i] == b->ids[j]) {
                used[j] = 1;
                hits++;
                break;
            }
    return a->count + b->count ? 2.0 * (double)hits / (double)(a->count + b->count) : 0;
}

static up_score score_captions(const up_source *s, const words *made, const words *true_words, size_t n,
                               int trained) {
    double own = 0, squares = 0, other = 0;
    for (size_t i = 0; i < n; i++) {
        double f1 = overlap(&made[i], &true_words[i]);
        own += f1;
        squares += f1 * f1;
        for (size_t j = 0; j < n; j++)
            if (j != i) other += overlap(&made[i], &true_words[j]) / (double)(n - 1);
    }
    double mean = own / (double)n, variance = fmax(0, squares / (double)n - mean * mean);
    return (up_score){s->settings->name,          "word F1", trained, mean, other / (double)n,
                      sqrt(variance / (double)n), (int64_t)n};
}

up_status up_measure_captions(up_evaluation *e, const up_source *s, int trained) {
    size_t n = s->table.rows;
    if (s->settings->limit && (size_t)s->settings->limit < n) n = (size_t)s->settings->limit;
    words *made = calloc(n, sizeof *made), *true_words = calloc(n, sizeof *true_words);
    up_status status =
        made && true_words ? UP_OK : up_fail(UP_ERR_MEMORY, s->settings->name, "%zu captions wanted", n);
    for (size_t i = 0; i < n && status == UP_OK; i++) {
        up_caption caption = {0};
        UP_GO(caption_row(e, s, i, &caption));
        made[i] = (words){caption.ids, (size_t)caption.words};
        caption.ids = NULL;
        up_caption_free(&caption);
        const char *text = up_table_cell(&s->table, i, s->text);
        UP_GO(up_tokenize(up_session_tokenizer(e->session), text, strlen(text), &true_words[i].ids,
                          &true_words[i].count));
        if (e->options.stop && *e->options.stop)
            UP_GO(up_fail(UP_ERR_INTERRUPTED, s->settings->name, "evaluation stopped"));
    }
    if (status == UP_OK && n > 1)
        status = up_scores_add(&e->scores, score_captions(s, made, true_words, n, trained));
done:
    for (size_t i = 0; made && true_words && i < n; i++) {
        free(made[i].ids);
        free(true_words[i].ids);
    }
    free(made);
    free(true_words);
    return status;
}

/* Rows spread over the list. */
static size_t shown_row(const up_source *s, int i) {
    return (size_t)(2 * i + 1) * s->table.rows / (2 * SHOWN);
}

up_status up_show_captions(up_evaluation *e, const up_source *s) {
    printf("\nCaptions, in words (%s)\n", s->settings->name);
    for (int i = 0; i < SHOWN; i++) {
        size_t row = shown_row(s, i);
        up_caption caption = {0};
        UP_TRY(caption_row(e, s, row, &caption));
        printf("  %-28s true: %-46s said: %s\n",
               up_table_cell(&s->table, row, s->task->video ? s->video : s->image),
               up_table_cell(&s->table, row, s->text), caption.text);
        up_caption_free(&caption);
    }
    return UP_OK;
}

up_status up_show_retrievals(up_evaluation *e, const up_source *s) {
    up_features f;
    UP_TRY(up_measure_features(e, s, &f));
    printf("\nRetrievals, in words (%s; the best three of %lld)\n", s->settings->name, (long long)f.v);
    for (int i = 0; i < SHOWN && f.n; i++) {
        size_t row = shown_row(s, i);
        if ((int64_t)row >= f.n) continue;
        printf("  true: %-46s found:", up_table_cell(&s->table, row, s->target));
        const float *query = f.queries + row * (size_t)f.width;
        double below = INFINITY;
        for (int rank = 0; rank < SHOWN && rank < f.v; rank++) {
            int64_t best = -1;
            double most = -INFINITY;
            for (int64_t j = 0; j < f.v; j++) {
                double c = 0;
                for (int d = 0; d < f.width; d++)
                    c += (double)query[d] * f.targets[(size_t)j * (size_t)f.width + (size_t)d];
                if (c > most && c < below) {
                    most = c;
                    best = j;
                }
            }
            if (best < 0) break;
            printf("%s %s (%.2f)", rank ? "," : "", up_table_cell(&s->table, (size_t)best, s->target), most);
            below = most;
        }
        printf("\n");
    }
    up_features_free(&f);
    return UP_OK;
}
