/* scores.c - the table of metrics by name, and how each reads its two files. */
#include "eval/scores.h"
#include "eval/caption_metrics.h"
#include "eval/label_scores.h"
#include "eval/records.h"
#include "eval/vqa_accuracy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is scored: both files, and for each candidate the true records of its key. */
typedef struct scoring {
    const char *candidates_path, *references_path;
    const up_score_options *options;
    json_t *candidates, *references;
    up_lexicon keys;  /* of the candidates: each has its place among them as number */
    up_corpus corpus; /* where captions are scored */
    up_wordnet wordnet;
    int has_corpus, has_wordnet;
    up_score_list *out;
} scoring;

up_status up_score_list_add(up_score_list *l, const char *name, double value, double *own) {
    if (l->count == UP_SCORES_MOST) {
        free(own);
        return up_fail(UP_ERR_UNSUPPORTED, name, "more than %d scores", UP_SCORES_MOST);
    }
    up_named_score *s = &l->scores[l->count++];
    *s = (up_named_score){.value = value, .own = own};
    snprintf(s->name, sizeof s->name, "%s", name);
    return UP_OK;
}

void up_score_list_free(up_score_list *l) {
    for (size_t i = 0; i < l->count; i++) free(l->scores[i].own);
    for (size_t i = 0; i < l->key_count; i++) free(l->keys[i]);
    free(l->keys);
    *l = (up_score_list){0};
}

/* Room for the scores of each picture, where they are wanted. */
static up_status own_scores(const scoring *s, double **own) {
    *own = s->options->each ? calloc(s->keys.count + 1, sizeof **own) : NULL;
    if (*own || !s->options->each) return UP_OK;
    return up_fail(UP_ERR_MEMORY, s->candidates_path, "%zu scores wanted", s->keys.count);
}

/* --- records by key --- */

static up_status number_of(scoring *s, const char *key, int32_t *number) {
    return up_lexicon_add(&s->keys, key, strlen(key), number);
}

/* Each candidate has a key of its own. */
static up_status take_keys(scoring *s, const char *field) {
    char room[32];
    const char *key;
    int32_t number;
    size_t count = json_array_size(s->candidates);
    if (s->keys.count) return UP_OK; /* a metric before has taken them */
    if (!count) return up_fail(UP_ERR_FORMAT, s->candidates_path, "holds nothing to score");
    for (size_t i = 0; i < count; i++) {
        UP_TRY(up_record_need(s->candidates_path, s->candidates, i, field, room, &key));
        UP_TRY(number_of(s, key, &number));
        if ((size_t)number != i)
            return up_fail(UP_ERR_FORMAT, s->candidates_path, "%s %s is there twice", field, key);
    }
    return UP_OK;
}

/* The candidate that a true record is of; -1: none. */
static up_status candidate_of(scoring *s, size_t place, const char *field, int64_t *candidate) {
    char room[32];
    const char *key;
    int32_t number;
    size_t known = json_array_size(s->candidates);
    UP_TRY(up_record_need(s->references_path, s->references, place, field, room, &key));
    UP_TRY(number_of(s, key, &number));
    *candidate = (size_t)number < known ? number : -1;
    return UP_OK;
}

static up_status no_reference(const scoring *s, const char *field, size_t candidate) {
    return up_fail(UP_ERR_FORMAT, s->references_path, "holds nothing of %s %s", field,
                   s->keys.words[candidate]);
}

/* --- captions --- */

static up_status take_candidate(scoring *s, size_t place) {
    char room[32];
    const char *text;
    size_t picture;
    UP_TRY(up_record_need(s->candidates_path, s->candidates, place, "caption", room, &text));
    UP_TRY(up_corpus_add_picture(&s->corpus, &picture));
    return up_corpus_set_candidate(&s->corpus, picture, text, strlen(text));
}

static up_status take_reference(scoring *s, size_t place) {
    char room[32];
    const char *text;
    int64_t picture;
    UP_TRY(candidate_of(s, place, "image_id", &picture));
    if (picture < 0) return UP_OK;
    UP_TRY(up_record_need(s->references_path, s->references, place, "caption", room, &text));
    return up_corpus_add_reference(&s->corpus, (size_t)picture, text, strlen(text));
}

static up_status take_captions(scoring *s) {
    if (s->has_corpus) return UP_OK;
    s->has_corpus = 1;
    s->corpus.tokenized = s->options->tokenized;
    UP_TRY(take_keys(s, "image_id"));
    for (size_t i = 0; i < json_array_size(s->candidates); i++) UP_TRY(take_candidate(s, i));
    for (size_t i = 0; i < json_array_size(s->references); i++) UP_TRY(take_reference(s, i));
    for (size_t i = 0; i < s->corpus.count; i++)
        if (!s->corpus.pictures[i].reference_count) return no_reference(s, "image_id", i);
    return UP_OK;
}

static up_status open_wordnet(scoring *s) {
    if (s->has_wordnet) return UP_OK;
    UP_TRY(up_wordnet_open(s->options->wordnet ? s->options->wordnet : UP_WORDNET_FOLDER, &s->wordnet));
    s->has_wordnet = 1;
    return UP_OK;
}

static up_status score_captions(scoring *s, const up_caption_metric *metric) {
    double all, *own;
    if (metric->wants_wordnet) UP_TRY(open_wordnet(s));
    UP_TRY(take_captions(s));
    UP_TRY(own_scores(s, &own));
    up_status status = metric->compute(&s->corpus, &s->wordnet, own, &all);
    if (status == UP_OK) return up_score_list_add(s->out, metric->name, all, own);
    free(own);
    return status;
}

static up_status score_all_captions(scoring *s) {
    for (const up_caption_metric *m = up_caption_metrics; m->name; m++) {
        if (!m->wants_wordnet || open_wordnet(s) == UP_OK)
            UP_TRY(score_captions(s, m));
        else
            snprintf(s->out->notes[s->out->note_count++], sizeof *s->out->notes, "%s left out: %s", m->name,
                     up_last_error());
    }
    return UP_OK;
}

/* --- answers --- */

enum { ANSWERS_MOST = 100, TYPES_MOST = 16 };

typedef struct answer_types {
    char names[TYPES_MOST][48];
    double sums[TYPES_MOST];
    size_t counts[TYPES_MOST], count;
} answer_types;

/* Answers of a true record: an array of texts or of objects with "answer", or one text with "|" between them,
 * which is cut in place. */
static size_t answers_of(const json_t *record, char *cut, const char *said[ANSWERS_MOST]) {
    const json_t *list = json_object_get(record, "answers"), *item;
    size_t i, count = 0;
    char *rest;
    if (json_is_string(list))
        for (char *at = strtok_r(cut, "|", &rest); at && count < ANSWERS_MOST;
             at = strtok_r(NULL, "|", &rest))
            said[count++] = at;
    json_array_foreach(list, i, item) {
        const json_t *text = json_is_object(item) ? json_object_get(item, "answer") : item;
        if (json_is_string(text) && count < ANSWERS_MOST) said[count++] = json_string_value(text);
    }
    return count;
}

static void add_type(answer_types *t, const char *name, double accuracy) {
    size_t i = 0;
    while (i < t->count && strncmp(t->names[i], name, sizeof t->names[i] - 1)) i++;
    if (i == TYPES_MOST) return; /* VQA has three */
    if (i == t->count) snprintf(t->names[t->count++], sizeof *t->names, "%s", name);
    t->sums[i] += accuracy;
    t->counts[i]++;
}

static up_status score_question(scoring *s, size_t place, size_t candidate, answer_types *types,
                                double *accuracy) {
    char room[32], *cut;
    const char *answer, *said[ANSWERS_MOST], *type;
    const json_t *record = json_array_get(s->references, place);
    UP_TRY(up_record_need(s->candidates_path, s->candidates, candidate, "answer", room, &answer));
    const char *joined = json_string_value(json_object_get(record, "answers"));
    cut = strdup(joined ? joined : "");
    if (!cut) return up_fail(UP_ERR_MEMORY, s->references_path, "no memory for answers");
    size_t count = answers_of(record, cut, said);
    up_status status = up_vqa_accuracy(answer, said, count, accuracy);
    free(cut);
    if (!count) return up_fail(UP_ERR_FORMAT, s->references_path, "record %zu has no \"answers\"", place + 1);
    type = up_record_text(record, "answer_type", room);
    if (status == UP_OK && type) add_type(types, type, *accuracy);
    return status;
}

static up_status score_questions(scoring *s, double *own, answer_types *types, double *sum) {
    size_t count = json_array_size(s->candidates);
    int64_t candidate;
    char *seen = calloc(count + 1, 1);
    up_status status = UP_OK;
    if (!seen) UP_GO(up_fail(UP_ERR_MEMORY, s->candidates_path, "%zu answers", count));
    for (size_t i = 0; i < json_array_size(s->references); i++) {
        double accuracy;
        UP_GO(candidate_of(s, i, "question_id", &candidate));
        if (candidate < 0 || seen[candidate]) continue;
        seen[candidate] = 1;
        UP_GO(score_question(s, i, (size_t)candidate, types, &accuracy));
        if (own) own[candidate] = accuracy;
        *sum += accuracy;
    }
    for (size_t i = 0; i < count; i++)
        if (!seen[i]) UP_GO(no_reference(s, "question_id", i));
done:
    free(seen);
    return status;
}

static up_status score_vqa(scoring *s) {
    answer_types types = {0};
    double sum = 0, *own;
    char name[64];
    UP_TRY(take_keys(s, "question_id"));
    UP_TRY(own_scores(s, &own));
    up_status status = score_questions(s, own, &types, &sum);
    if (status != UP_OK) {
        free(own);
        return status;
    }
    UP_TRY(up_score_list_add(s->out, "VQA accuracy", sum / (double)json_array_size(s->candidates), own));
    for (size_t i = 0; i < types.count; i++) {
        snprintf(name, sizeof name, "VQA accuracy, %s", types.names[i]);
        UP_TRY(up_score_list_add(s->out, name, types.sums[i] / (double)types.counts[i], NULL));
    }
    return UP_OK;
}

/* --- labels --- */

typedef struct labels {
    int32_t *predicted, *true_ones; /* [count] */
    size_t count;
    up_lexicon names; /* "0" and "1" have these numbers */
    int64_t *counts;
} labels;

static void labels_free(labels *l) {
    free(l->predicted);
    free(l->true_ones);
    free(l->counts);
    up_lexicon_free(&l->names);
}

static up_status take_labels(scoring *s, labels *l) {
    char room[32];
    const char *name;
    int64_t candidate;
    int32_t number;
    UP_TRY(take_keys(s, "id"));
    l->count = json_array_size(s->candidates);
    l->predicted = malloc((l->count + 1) * sizeof *l->predicted);
    l->true_ones = malloc((l->count + 1) * sizeof *l->true_ones);
    if (!l->predicted || !l->true_ones)
        return up_fail(UP_ERR_MEMORY, s->candidates_path, "%zu labels wanted", l->count);
    UP_TRY(up_lexicon_add(&l->names, "0", 1, &number));
    UP_TRY(up_lexicon_add(&l->names, "1", 1, &number));
    for (size_t i = 0; i < l->count; i++) {
        UP_TRY(up_record_need(s->candidates_path, s->candidates, i, "label", room, &name));
        UP_TRY(up_lexicon_add(&l->names, name, strlen(name), &l->predicted[i]));
        l->true_ones[i] = -1;
    }
    for (size_t i = 0; i < json_array_size(s->references); i++) {
        UP_TRY(candidate_of(s, i, "id", &candidate));
        if (candidate < 0) continue;
        UP_TRY(up_record_need(s->references_path, s->references, i, "label", room, &name));
        UP_TRY(up_lexicon_add(&l->names, name, strlen(name), &l->true_ones[candidate]));
    }
    for (size_t i = 0; i < l->count; i++)
        if (l->true_ones[i] < 0) return no_reference(s, "id", i);
    l->counts = malloc(2 * l->names.count * sizeof *l->counts);
    return l->counts ? UP_OK
                     : up_fail(UP_ERR_MEMORY, s->candidates_path, "%zu labels wanted", l->names.count);
}

typedef double (*label_metric)(const labels *l);

static double share_right(const labels *l) {
    size_t right = 0;
    for (size_t i = 0; i < l->count; i++) right += l->predicted[i] == l->true_ones[i];
    return (double)right / (double)l->count;
}

static double f1_of(const labels *l) {
    return up_f1(l->predicted, l->true_ones, l->count);
}

static double matthews_of(const labels *l) {
    return up_matthews(l->predicted, l->true_ones, l->count, (int32_t)l->names.count, l->counts);
}

static up_status score_labels(scoring *s, const char *name, label_metric metric) {
    labels l = {0};
    up_status status = take_labels(s, &l);
    if (status == UP_OK) status = up_score_list_add(s->out, name, metric(&l), NULL);
    labels_free(&l);
    return status;
}

static up_status score_accuracy(scoring *s) {
    return score_labels(s, "accuracy", share_right);
}

static up_status score_f1(scoring *s) {
    return score_labels(s, "F1", f1_of);
}

static up_status score_matthews(scoring *s) {
    return score_labels(s, "Matthews correlation", matthews_of);
}

/* --- the table --- */

static const struct {
    const char *name;
    up_status (*score)(scoring *s);
} others[] = {{"captions", score_all_captions},
              {"vqa", score_vqa},
              {"accuracy", score_accuracy},
              {"f1", score_f1},
              {"matthews", score_matthews}};

static up_status score_one(scoring *s, const char *name) {
    int found = 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strcmp(others[i].name, name)) return others[i].score(s);
    for (const up_caption_metric *m = up_caption_metrics; m->name; m++) {
        if (strcmp(m->flag, name)) continue;
        found = 1;
        UP_TRY(score_captions(s, m));
    }
    return found ? UP_OK
                 : up_fail(UP_ERR_ARGUMENT, name,
                           "no metric: there are bleu, meteor, rouge, cider, cider_d, spice, captions, vqa, "
                           "accuracy, "
                           "f1, matthews");
}

/* The keys of the candidates go to the list: they say whose the scores are. */
static void give_keys(scoring *s) {
    size_t count = json_array_size(s->candidates);
    if (!s->options->each || s->keys.count < count) return;
    s->out->keys = calloc(count + 1, sizeof *s->out->keys);
    for (size_t i = 0; s->out->keys && i < count; i++) {
        s->out->keys[i] = s->keys.words[i];
        s->keys.words[i] = NULL;
        s->out->key_count = i + 1;
    }
}

up_status up_score_files(const char *names, const char *candidates, const char *references,
                         const up_score_options *options, up_score_list *out) {
    scoring s = {
        .candidates_path = candidates, .references_path = references, .options = options, .out = out};
    char *list = strdup(names), *rest;
    up_status status = UP_OK;
    *out = (up_score_list){0};
    if (!list) return up_fail(UP_ERR_MEMORY, "metrics", "no memory");
    UP_GO(up_records_read(candidates, &s.candidates));
    UP_GO(up_records_read(references, &s.references));
    for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
        UP_GO(score_one(&s, name));
    give_keys(&s);
done:
    free(list);
    json_decref(s.candidates);
    json_decref(s.references);
    up_corpus_free(&s.corpus);
    up_lexicon_free(&s.keys);
    up_wordnet_close(&s.wordnet);
    return status;
}

/* --- JSON --- */

static int put_each(const up_score_list *l, json_t *object) {
    json_t *each = json_object();
    int failed = 0;
    for (size_t k = 0; k < l->key_count; k++) {
        json_t *own = json_object();
        for (size_t i = 0; i < l->count; i++)
            if (l->scores[i].own)
                failed |= json_object_set_new_nocheck(own, l->scores[i].name, json_real(l->scores[i].own[k]));
        failed |= json_object_set_new_nocheck(each, l->keys[k], own);
    }
    return failed | json_object_set_new_nocheck(object, "each", each);
}

up_status up_score_list_json(const up_score_list *l, json_t **out) {
    json_t *object = json_object(), *scores = json_object();
    int failed = !object;
    for (size_t i = 0; i < l->count; i++)
        failed |= json_object_set_new_nocheck(scores, l->scores[i].name, json_real(l->scores[i].value));
    failed |= json_object_set_new_nocheck(object, "scores", scores);
    if (l->key_count) failed |= put_each(l, object);
    *out = object;
    return failed ? up_fail(UP_ERR_MEMORY, "scores", "no memory for JSON") : UP_OK;
}
