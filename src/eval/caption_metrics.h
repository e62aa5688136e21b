/* caption_metrics.h - how well candidate captions fit their references: BLEU, METEOR, ROUGE-L, CIDEr, SPICE.
 * Every function takes a corpus in which each picture has a reference, and gives the score of each picture
 * (own [count], may be NULL) and that of all. */
#ifndef UP_EVAL_CAPTION_METRICS_H
#define UP_EVAL_CAPTION_METRICS_H

#include "eval/corpus.h"
#include "eval/wordnet.h"

/* BLEU-1 to BLEU-4 (Papineni et al. 2002), against the reference of the closest length: counts are summed
 * over all pictures before they are divided. own [count][UP_NGRAM]. */
up_status up_bleu(const up_corpus *corpus, double (*own)[UP_NGRAM], double all[UP_NGRAM]);

/* ROUGE-L (Lin 2004): F of the longest common subsequence with beta = 1.2, best precision and best recall
 * over the references; the mean over pictures. */
up_status up_rouge(const up_corpus *corpus, double *own, double *all);

/* CIDEr and CIDEr-D (Vedantam et al. 2015): the mean over pictures. CIDEr-D clips the counts of the candidate
 * and weighs by exp(-(difference of lengths)^2 / (2 * 6^2)); it is what the COCO tools print as CIDEr. */
typedef enum up_cider_kind { UP_CIDER_PLAIN, UP_CIDER_D } up_cider_kind;
up_status up_cider(const up_corpus *corpus, up_cider_kind kind, double *own, double *all);

/* METEOR 1.5 for English (Denkowski and Lavie 2014) without its table of paraphrases: words match exactly, by
 * stem or by WordNet synonym. Counts are summed over all pictures before they are divided. */
up_status up_meteor(const up_corpus *corpus, const up_wordnet *wordnet, double *own, double *all);

/* An approximation of SPICE (Anderson et al. 2016): scene graphs from rules (scene_graph.h) instead of a
 * parser; the mean over pictures of the F1 of their tuples, WordNet synonyms taken as equal. */
up_status up_spice(const up_corpus *corpus, const up_wordnet *wordnet, double *own, double *all);

/* All of them as a table, ended by a row of NULL; BLEU has a row for each length. own [count] may be NULL. */
typedef struct up_caption_metric {
    const char *flag, *name; /* as the command line and as reports say it */
    int wants_wordnet;
    up_status (*compute)(const up_corpus *corpus, const up_wordnet *wordnet, double *own, double *all);
} up_caption_metric;
extern const up_caption_metric up_caption_metrics[];

#endif
