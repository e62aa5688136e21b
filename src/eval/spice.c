/* spice.c - F1 of the tuples of two scene graphs (SPICE, Anderson et al. 2016, section 3.2): that of the
 * candidate and that of all references together. Two tuples are equal where all their words are, or are
 * synonyms in WordNet. */
#include "eval/caption_metrics.h"
#include "eval/scene_graph.h"

#include <stdlib.h>
#include <string.h>

/* Words of all graphs and their senses, found when they are first needed. */
typedef struct vocabulary {
    const up_wordnet *wordnet;
    up_lexicon names;
    up_senses *senses; /* [known] */
    size_t known, room;
} vocabulary;

static up_status learn(vocabulary *v) {
    if (v->names.count > v->room) {
        size_t room = 2 * v->names.count;
        up_senses *grown = realloc(v->senses, room * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, "SPICE", "senses of %zu words wanted", room);
        v->senses = grown;
        v->room = room;
    }
    for (; v->known < v->names.count; v->known++)
        UP_TRY(up_wordnet_senses(v->wordnet, v->names.words[v->known], &v->senses[v->known]));
    return UP_OK;
}

static void vocabulary_free(vocabulary *v) {
    for (size_t i = 0; i < v->known; i++) up_senses_free(&v->senses[i]);
    free(v->senses);
    up_lexicon_free(&v->names);
}

static int equal(const vocabulary *v, const up_tuple *a, const up_tuple *b) {
    for (int i = 0; i < 3; i++) {
        int32_t x = a->parts[i], y = b->parts[i];
        if (x == y) continue;
        if (x < 0 || y < 0 || !up_senses_meet(&v->senses[x], &v->senses[y])) return 0;
    }
    return 1;
}

static size_t count_found(const vocabulary *v, const up_scene_graph *a, const up_scene_graph *in) {
    size_t found = 0;
    for (size_t i = 0; i < a->count; i++) {
        size_t j = 0;
        while (j < in->count && !equal(v, &a->list[i], &in->list[j])) j++;
        found += j < in->count;
    }
    return found;
}

static up_status read_phrase(const up_corpus *c, vocabulary *v, const up_phrase *p, up_scene_graph *out) {
    const char **words = malloc((p->count + 1) * sizeof *words);
    if (!words) return up_fail(UP_ERR_MEMORY, "SPICE", "%zu words wanted", p->count);
    for (size_t i = 0; i < p->count; i++) words[i] = c->lexicon.words[p->words[i]];
    up_status status = up_scene_graph_read(v->wordnet, words, p->count, &v->names, out);
    free(words);
    return status == UP_OK ? learn(v) : status;
}

/* Tuples of `more` that the graph has not, nor synonyms of them. */
static up_status merge(const vocabulary *v, up_scene_graph *graph, const up_scene_graph *more) {
    for (size_t i = 0; i < more->count; i++) {
        up_scene_graph one = {&more->list[i], 1, 1};
        if (!count_found(v, &one, graph)) UP_TRY(up_scene_graph_add(graph, more->list[i]));
    }
    return UP_OK;
}

static double f1(const vocabulary *v, const up_scene_graph *candidate, const up_scene_graph *truth) {
    if (!candidate->count || !truth->count) return 0;
    double precision = (double)count_found(v, candidate, truth) / (double)candidate->count;
    double recall = (double)count_found(v, truth, candidate) / (double)truth->count;
    return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
}

static up_status score_picture(const up_corpus *c, vocabulary *v, const up_captioned *p, double *score) {
    up_scene_graph candidate = {0}, truth = {0}, one = {0};
    up_status status = UP_OK;
    UP_GO(read_phrase(c, v, &p->candidate, &candidate));
    for (size_t i = 0; i < p->reference_count; i++) {
        one.count = 0;
        UP_GO(read_phrase(c, v, &p->references[i], &one));
        UP_GO(merge(v, &truth, &one));
    }
    *score = f1(v, &candidate, &truth);
done:
    up_scene_graph_free(&candidate);
    up_scene_graph_free(&truth);
    up_scene_graph_free(&one);
    return status;
}

up_status up_spice(const up_corpus *c, const up_wordnet *w, double *own, double *all) {
    vocabulary v = {.wordnet = w};
    double sum = 0, score = 0;
    up_status status = UP_OK;
    for (size_t i = 0; i < c->count; i++) {
        UP_GO(score_picture(c, &v, &c->pictures[i], &score));
        if (own) own[i] = score;
        sum += score;
    }
    *all = c->count ? sum / (double)c->count : 0;
done:
    vocabulary_free(&v);
    return status;
}
