/* caption_metrics.c - the table of caption metrics. */
#include "eval/caption_metrics.h"

#include <stdlib.h>

static up_status bleu(const up_corpus *c, int length, double *own, double *all) {
    double of_all[UP_NGRAM], (*each)[UP_NGRAM] = own ? calloc(c->count + 1, sizeof *each) : NULL;
    if (own && !each) return up_fail(UP_ERR_MEMORY, "BLEU", "%zu scores wanted", c->count);
    up_status status = up_bleu(c, each, of_all);
    for (size_t i = 0; own && i < c->count; i++) own[i] = each[i][length - 1];
    *all = of_all[length - 1];
    free(each);
    return status;
}

static up_status bleu_1(const up_corpus *c, const up_wordnet *w, double *own, double *all) {
    (void)w;
    return bleu(c, 1, own, all);
}

static up_status bleu_2(const up_corpus *c, const up_wordnet *w, double *own, double *all) {
    (void)w;
    return bleu(c, 2, own, all);
}

static up_status bleu_3(const up_corpus *c, const up_wordnet *w, double *own, double *all) {
    (void)w;
    return bleu(c, 3, own, all);
}

static up_status bleu_4(const up_corpus *c, const up_wordnet *w, double *own, double *all) {
    (void)w;
    return bleu(c, 4, own, all);
}

static up_status rouge(const up_corpus *c, const up_wordnet *w, double *own, double *all) {
    (void)w;
    return up_rouge(c, own, all);
}

static up_status cider(const up_corpus *c, const up_wordnet *w, double *own, double *all) {
    (void)w;
    return up_cider(c, UP_CIDER_PLAIN, own, all);
}

static up_status cider_d(const up_corpus *c, const up_wordnet *w, double *own, double *all) {
    (void)w;
    return up_cider(c, UP_CIDER_D, own, all);
}

const up_caption_metric up_caption_metrics[] = {{"bleu", "BLEU-1", 0, bleu_1},
                                                {"bleu", "BLEU-2", 0, bleu_2},
                                                {"bleu", "BLEU-3", 0, bleu_3},
                                                {"bleu", "BLEU-4", 0, bleu_4},
                                                {"meteor", "METEOR", 1, up_meteor},
                                                {"rouge", "ROUGE-L", 0, rouge},
                                                {"cider", "CIDEr", 0, cider},
                                                {"cider_d", "CIDEr-D", 0, cider_d},
                                                {"spice", "SPICE (approximated)", 1, up_spice},
                                                {NULL, NULL, 0, NULL}};
