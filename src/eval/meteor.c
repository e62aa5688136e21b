/* meteor.c - METEOR 1.5 (Denkowski and Lavie 2014, sections 2 and 3) with the parameters that its authors
 * tuned for English: words are matched one to one so that as much as possible is matched in as few runs as
 * possible, found by a beam search over the reference's words; function words weigh less. */
#include "eval/caption_metrics.h"
#include "eval/meteor_words.h"

#include <libstemmer.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double ALPHA = 0.85, BETA = 0.2, GAMMA = 0.6, DELTA = 0.75;
enum { EXACT, STEM, SYNONYM, NO_MATCH, BEAM = 40 };
static const double weights[] = {1, 0.6, 0.8, 0};

/* More frequent than one word in a thousand of English: what the measure calls function words; between
 * spaces. */
static const char *const function_words = " the , . to of and a in that for is on 's it with was as said at "
                                          "he by be from have has are his but an this not "
                                          "i will they -rrb- -lrb- who their had we which were been more or "
                                          "s its would about new one after you : also up "
                                          "when there than $ all out her people she year two - can if last "
                                          "first over other into some what so -- no time "
                                          "years could ? 't ' ";

/* What is known of each word of the lexicon. */
typedef struct word_facts {
    int32_t stem; /* equal stems have the same number */
    int function;
    up_senses senses;
} word_facts;

typedef struct facts {
    word_facts *of; /* [count] */
    size_t count;
    up_lexicon stems;
    struct sb_stemmer *stemmer;
} facts;

static void facts_free(facts *f) {
    for (size_t i = 0; f->of && i < f->count; i++) up_senses_free(&f->of[i].senses);
    free(f->of);
    up_lexicon_free(&f->stems);
    if (f->stemmer) sb_stemmer_delete(f->stemmer);
}

static int is_function(const char *word) {
    char entry[16];
    int length = snprintf(entry, sizeof entry, " %s ", word);
    return length < (int)sizeof entry && strstr(function_words, entry);
}

static up_status learn_word(facts *f, const up_wordnet *w, const char *word, word_facts *out) {
    *out = (word_facts){0};
    const sb_symbol *stem = sb_stemmer_stem(f->stemmer, (const sb_symbol *)word, (int)strlen(word));
    if (!stem) return up_fail(UP_ERR_MEMORY, "METEOR", "no memory for a stem");
    UP_TRY(up_lexicon_add(&f->stems, (const char *)stem, (size_t)sb_stemmer_length(f->stemmer), &out->stem));
    out->function = is_function(word);
    return up_wordnet_senses(w, word, &out->senses);
}

static up_status learn(const up_corpus *c, const up_wordnet *w, facts *f) {
    *f = (facts){.count = c->lexicon.count};
    f->of = calloc(f->count + 1, sizeof *f->of);
    f->stemmer = sb_stemmer_new("english", "UTF_8");
    if (!f->of || !f->stemmer) return up_fail(UP_ERR_MEMORY, "METEOR", "%zu words wanted", f->count);
    for (size_t i = 0; i < f->count; i++) UP_TRY(learn_word(f, w, c->lexicon.words[i], &f->of[i]));
    return UP_OK;
}

static int match(const facts *f, int32_t a, int32_t b) {
    if (a == b) return EXACT;
    if (f->of[a].stem == f->of[b].stem) return STEM;
    return up_senses_meet(&f->of[a].senses, &f->of[b].senses) ? SYNONYM : NO_MATCH;
}

/* --- alignment --- */

/* Alignments of the reference's first words, so far as they are compared. */
typedef struct partial {
    int parent;   /* place in the beam before */
    int32_t word; /* of the candidate, that the last word is matched with; -1: none */
    int32_t
        last; /* the candidate's word that follows the last match, where the last word is matched; or -1 */
    double weight; /* of all matches */
    int64_t chunks, distance;
} partial;

typedef struct aligner {
    const facts *facts;
    const up_phrase *candidate, *reference;
    partial beams[UP_CAPTION_WORDS + 1][BEAM]; /* behind each number of words */
    int sizes[UP_CAPTION_WORDS + 1];
    unsigned char used[2][BEAM][UP_CAPTION_WORDS]; /* words of the candidate, by turns */
    int32_t matched[UP_CAPTION_WORDS];             /* [reference] word of the candidate or -1: the answer */
    int64_t chunks;
} aligner;

static int better(const partial *a, const partial *b) {
    if (a->weight != b->weight) return a->weight > b->weight;
    if (a->chunks != b->chunks) return a->chunks < b->chunks;
    return a->distance < b->distance;
}

/* Into the beam, which is in order, where it is among the best. */
static void offer(partial *beam, int *size, const partial *p) {
    int at = *size;
    while (at && better(p, &beam[at - 1])) at--;
    if (at == BEAM) return;
    if (*size < BEAM) ++*size;
    memmove(beam + at + 1, beam + at, (size_t)(*size - 1 - at) * sizeof *beam);
    beam[at] = *p;
}

static void extend(aligner *a, size_t at) {
    const unsigned char(*used)[UP_CAPTION_WORDS] = (const void *)a->used[at % 2];
    for (int k = 0; k < a->sizes[at]; k++) {
        const partial *from = &a->beams[at][k];
        partial next = *from;
        next.parent = k;
        next.word = -1;
        next.last = -1;
        offer(a->beams[at + 1], &a->sizes[at + 1], &next);
        for (size_t j = 0; j < a->candidate->count; j++) {
            int kind =
                used[k][j] ? NO_MATCH : match(a->facts, a->candidate->words[j], a->reference->words[at]);
            if (kind == NO_MATCH) continue;
            next.word = (int32_t)j;
            next.last = (int32_t)j + 1;
            next.weight = from->weight + weights[kind];
            next.chunks = from->chunks + (from->last != next.word);
            next.distance = from->distance + labs((long)j - (long)at);
            offer(a->beams[at + 1], &a->sizes[at + 1], &next);
        }
    }
    for (int k = 0; k < a->sizes[at + 1]; k++) {
        const partial *p = &a->beams[at + 1][k];
        memcpy(a->used[(at + 1) % 2][k], used[p->parent], a->candidate->count);
        if (p->word >= 0) a->used[(at + 1) % 2][k][p->word] = 1;
    }
}

static void align(aligner *a) {
    size_t n = a->reference->count;
    memset(a->sizes, 0, sizeof a->sizes);
    memset(a->used[0][0], 0, sizeof a->used[0][0]);
    a->beams[0][0] = (partial){.word = -1, .last = -1};
    a->sizes[0] = 1;
    for (size_t at = 0; at < n; at++) extend(a, at);
    a->chunks = a->beams[n][0].chunks;
    for (int at = (int)n, k = 0; at > 0; at--) {
        const partial *p = &a->beams[at][k];
        a->matched[at - 1] = p->word;
        k = p->parent;
    }
}

/* --- score --- */

/* Sums over a side: of all words and of those matched, weighed; and how many are matched. */
typedef struct meteor_counts {
    double candidate, reference, candidate_matched, reference_matched;
    double matches, chunks; /* runs of matches that follow each other on both sides */
} meteor_counts;

static double word_weight(const facts *f, int32_t word) {
    return f->of[word].function ? 1 - DELTA : DELTA;
}

static meteor_counts count(const aligner *a) {
    meteor_counts c = {.chunks = (double)a->chunks};
    for (size_t i = 0; i < a->candidate->count; i++)
        c.candidate += word_weight(a->facts, a->candidate->words[i]);
    for (size_t i = 0; i < a->reference->count; i++) {
        int32_t own = a->reference->words[i];
        double weight = word_weight(a->facts, own);
        c.reference += weight;
        if (a->matched[i] < 0) continue;
        int32_t other = a->candidate->words[a->matched[i]];
        double of_match = weights[match(a->facts, other, own)];
        c.reference_matched += of_match * weight;
        c.candidate_matched += of_match * word_weight(a->facts, other);
        c.matches++;
    }
    if (c.chunks == 1 && 2 * c.matches == (double)(a->candidate->count + a->reference->count))
        c.chunks = 0; /* one run of all words is not fragmented */
    return c;
}

static double score_of(const meteor_counts *c) {
    if (!(c->candidate_matched > 0) || !(c->reference_matched > 0)) return 0;
    double precision = c->candidate_matched / c->candidate, recall = c->reference_matched / c->reference;
    double mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall);
    return mean * (1 - GAMMA * pow(c->chunks / c->matches, BETA));
}

/* Of the reference that fits best. */
static meteor_counts count_picture(aligner *a, const up_captioned *p) {
    meteor_counts best = {0};
    double most = -1;
    a->candidate = &p->candidate;
    for (size_t i = 0; i < p->reference_count; i++) {
        a->reference = &p->references[i];
        align(a);
        meteor_counts c = count(a);
        if (!(score_of(&c) > most)) continue;
        most = score_of(&c);
        best = c;
    }
    return best;
}

up_status up_meteor(const up_corpus *corpus, const up_wordnet *w, double *own, double *all) {
    facts f = {0};
    up_corpus words = {0};
    const up_corpus *c = &words;
    meteor_counts sum = {0};
    up_status status = UP_OK;
    aligner *a = calloc(1, sizeof *a);
    UP_GO(up_meteor_words(corpus, &words));
    UP_GO(learn(c, w, &f));
    if (!a) UP_GO(up_fail(UP_ERR_MEMORY, "METEOR", "no memory to align words"));
    a->facts = &f;
    for (size_t i = 0; i < c->count; i++) {
        meteor_counts one = count_picture(a, &c->pictures[i]);
        if (own) own[i] = score_of(&one);
        sum.candidate += one.candidate;
        sum.reference += one.reference;
        sum.candidate_matched += one.candidate_matched;
        sum.reference_matched += one.reference_matched;
        sum.matches += one.matches;
        sum.chunks += one.chunks;
    }
    *all = score_of(&sum);
done:
    facts_free(&f);
    up_corpus_free(&words);
    free(a);
    return status;
}
