/* test_scores.c - captions, answers and labels: against the scores that other implementations gave
 * (golden/captions), written-out scene graphs, and texts that mean harm. */
#include "eval/caption_metrics.h"
#include "eval/label_scores.h"
#include "eval/ptb.h"
#include "eval/scene_graph.h"
#include "eval/scores.h"
#include "eval/vqa_accuracy.h"
#include "files/file.h"
#include "files/json.h"
#include "tests/support.h"
#include "uniperceiver/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const up_suite_name = "scores";

static json_t *golden(const char *name) {
    char path[128];
    void *text;
    size_t size;
    json_t *out;
    snprintf(path, sizeof path, "golden/captions/%s", name);
    UP_ASSERT_OK(up_file_read(up_test_path(path), &text, &size));
    UP_ASSERT_OK(up_json_read(path, text, size, 0, &out));
    free(text);
    return out;
}

static int has_wordnet(void) {
    int there = !access(UP_WORDNET_FOLDER "/index.noun", R_OK);
    if (!there) printf("skipped: no WordNet in " UP_WORDNET_FOLDER " (Debian: wordnet-base)\n");
    return there;
}

static int near_to(const char *what, double got, double want, double bound) {
    int near = fabs(got - want) <= bound;
    if (!near) fprintf(stderr, "%s: %.12g, wanted %.12g\n", what, got, want);
    return near;
}

/* ---- files against other implementations ---- */

static void score_golden(const char *metrics, const char *candidates, const char *references,
                         up_score_list *out) {
    const up_score_options options = {.each = 1};
    char a[512], b[512];
    snprintf(a, sizeof a, "%s", up_test_path(candidates));
    snprintf(b, sizeof b, "%s", up_test_path(references));
    UP_ASSERT_OK(up_score_files(metrics, a, b, &options, out));
}

/* Each score of the list and of each picture. */
static void check_captions(const char *metrics, double bound) {
    json_t *want = golden("expected.json"), *each = json_object_get(want, "each");
    up_score_list got;
    score_golden(metrics, "golden/captions/candidates.json", "golden/captions/references.json", &got);
    CU_ASSERT(got.count > 0);
    CU_ASSERT_EQUAL(got.key_count, 60);
    for (size_t i = 0; i < got.count; i++) {
        const up_named_score *s = &got.scores[i];
        const json_t *own = json_object_get(each, s->name);
        CU_ASSERT(near_to(s->name, s->value,
                          json_real_value(json_object_get(json_object_get(want, "scores"), s->name)), bound));
        CU_ASSERT_EQUAL_FATAL(json_array_size(own), got.key_count);
        for (size_t k = 0; k < got.key_count; k++)
            CU_ASSERT(near_to(s->name, s->own[k], json_number_value(json_array_get(own, k)), bound));
    }
    up_score_list_free(&got);
    json_decref(want);
}

static void test_captions(void) {
    check_captions("bleu,rouge,cider,cider_d", 1e-6);
}

static void test_meteor(void) {
    if (has_wordnet()) check_captions("meteor", 1e-6);
}

static void test_answers(void) {
    json_t *want = golden("expected.json"), *vqa = json_object_get(want, "vqa"),
           *each = json_object_get(vqa, "each");
    up_score_list got;
    score_golden("vqa", "golden/captions/vqa_candidates.json", "golden/captions/vqa_references.json", &got);
    CU_ASSERT_EQUAL(got.count, 4); /* all, and three types */
    for (size_t i = 0; i < got.count; i++)
        CU_ASSERT(near_to(
            got.scores[i].name, got.scores[i].value,
            json_real_value(json_object_get(json_object_get(vqa, "scores"), got.scores[i].name)), 1e-12));
    for (size_t k = 0; k < json_array_size(each); k++)
        CU_ASSERT(
            near_to("an answer", got.scores[0].own[k], json_real_value(json_array_get(each, k)), 1e-12));
    up_score_list_free(&got);
    json_decref(want);
}

static void test_normalized_answers(void) {
    static const char *const cases[][2] = {{"A dog", "dog"},
                                           {"two dogs.", "2 dogs"},
                                           {"None", "0"},
                                           {"1,000", "1000"},
                                           {"black/white", "black white"},
                                           {"red, white", "red white"},
                                           {"dont", "don't"},
                                           {" \tyes\n", "yes"},
                                           {"3.5", "3.5"},
                                           {"u.s.", "us"},
                                           {"the", ""},
                                           {"", ""},
                                           {"oclock", "o'clock"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *out;
        UP_ASSERT_OK(up_vqa_normalize(cases[i][0], &out));
        CU_ASSERT_STRING_EQUAL(out, cases[i][1]);
        free(out);
    }
}

static void test_labels(void) {
    json_t *want = golden("expected.json"), *values = json_object_get(want, "labels");
    up_score_list got;
    score_golden("accuracy,f1,matthews", "golden/captions/labels_candidates.tsv",
                 "golden/captions/labels_references.tsv", &got);
    CU_ASSERT_EQUAL(got.count, 3);
    for (size_t i = 0; i < got.count; i++)
        CU_ASSERT(near_to(got.scores[i].name, got.scores[i].value,
                          json_real_value(json_object_get(values, got.scores[i].name)), 1e-12));
    up_score_list_free(&got);
    json_decref(want);
}

/* Constant answers have no correlation, and no positive answers no F1. */
static void test_degenerate_labels(void) {
    const int32_t zeros[] = {0, 0, 0}, mixed[] = {0, 1, 0};
    int64_t counts[4];
    CU_ASSERT_EQUAL(up_f1(zeros, zeros, 3), 0);
    CU_ASSERT_EQUAL(up_f1(mixed, mixed, 3), 1);
    CU_ASSERT_EQUAL(up_matthews(zeros, mixed, 3, 2, counts), 0);
    CU_ASSERT_DOUBLE_EQUAL(up_matthews(mixed, mixed, 3, 2, counts), 1, 1e-15);
}

/* ---- words ---- */

static void test_words(void) {
    void *lines, *wanted;
    size_t size;
    UP_ASSERT_OK(up_file_read(up_test_path("golden/captions/lines.txt"), &lines, &size));
    UP_ASSERT_OK(up_file_read(up_test_path("golden/captions/words.txt"), &wanted, &size));
    char *line = lines, *want = wanted, *rest, *rest_wanted;
    int count = 0;
    for (; (rest = strchr(line, '\n')); line = rest + 1, want = rest_wanted + 1) {
        char *got;
        rest_wanted = strchr(want, '\n');
        CU_ASSERT_PTR_NOT_NULL_FATAL(rest_wanted);
        *rest = 0;
        *rest_wanted = 0;
        UP_ASSERT_OK(up_ptb_tokenize(line, strlen(line), &got));
        CU_ASSERT_STRING_EQUAL(got, want);
        if (strcmp(got, want)) fprintf(stderr, "%s\n  %s\n  %s\n", line, got, want);
        free(got);
        count++;
    }
    CU_ASSERT_EQUAL(count, 119);
    free(lines);
    free(wanted);
}

/* ---- scene graphs ---- */

static void put_tuple(const up_lexicon *names, const up_tuple *t, char *out, size_t room) {
    size_t at = strlen(out);
    for (int i = 0; i < 3 && t->parts[i] >= 0; i++)
        at += (size_t)snprintf(out + at, room - at, "%s%s",
                               i    ? "-"
                               : at ? ", "
                                    : "",
                               names->words[t->parts[i]]);
}

static void test_graphs(void) {
    static const struct {
        const char *caption, *tuples;
    } cases[] = {
        {"a young girl standing on top of a tennis court",
         "girl, girl-young, tennis_court, girl-stand on_top_of-tennis_court"},
        {"a man riding a brown horse on the beach",
         "man, horse, man-ride-horse, horse-brown, beach, horse-on-beach"},
        {"two dogs are playing with a red ball", "dog, dog-two, ball, dog-play with-ball, ball-red"},
        {"the cat is black", "cat, cat-black"},
        {"a man and a woman sitting on a bench", "man, woman, bench, man-sit on-bench, woman-sit on-bench"},
        {"a bus parked next to a building", "bus, building, bus-park next_to-building"},
        {"a child is sleeping", "child, child-sleep"},
        {"an old man holds his umbrella", "man, man-old, umbrella, man-hold-umbrella"},
        {"", ""},
        {"the of and", ""},
    };
    up_wordnet w;
    if (!has_wordnet()) return;
    UP_ASSERT_OK(up_wordnet_open(UP_WORDNET_FOLDER, &w));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256], out[1024] = "", *rest;
        const char *words[32];
        size_t count = 0;
        up_lexicon names = {0};
        up_scene_graph graph = {0};
        snprintf(text, sizeof text, "%s", cases[i].caption);
        for (char *at = strtok_r(text, " ", &rest); at; at = strtok_r(NULL, " ", &rest)) words[count++] = at;
        UP_ASSERT_OK(up_scene_graph_read(&w, words, count, &names, &graph));
        for (size_t k = 0; k < graph.count; k++) put_tuple(&names, &graph.list[k], out, sizeof out);
        CU_ASSERT_STRING_EQUAL(out, cases[i].tuples);
        if (strcmp(out, cases[i].tuples)) fprintf(stderr, "%s: %s\n", cases[i].caption, out);
        up_scene_graph_free(&graph);
        up_lexicon_free(&names);
    }
    up_wordnet_close(&w);
}

static double spice_of(const up_wordnet *w, const char *candidate, const char *reference) {
    up_corpus c = {0};
    size_t picture;
    double value = -1;
    UP_ASSERT_OK(up_corpus_add_picture(&c, &picture));
    UP_ASSERT_OK(up_corpus_set_candidate(&c, picture, candidate, strlen(candidate)));
    UP_ASSERT_OK(up_corpus_add_reference(&c, picture, reference, strlen(reference)));
    UP_ASSERT_OK(up_spice(&c, w, NULL, &value));
    up_corpus_free(&c);
    return value;
}

/* Shares of tuples by hand. */
static void test_spice(void) {
    up_wordnet w;
    if (!has_wordnet()) return;
    UP_ASSERT_OK(up_wordnet_open(UP_WORDNET_FOLDER, &w));
    CU_ASSERT_DOUBLE_EQUAL(spice_of(&w, "a man riding a bike", "A man riding a bicycle."), 1, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(spice_of(&w, "the cat is black", "a black dog"), 0, 1e-12);
    /* man of man, horse, man-ride-horse: precision 1, recall 1/3 */
    CU_ASSERT_DOUBLE_EQUAL(spice_of(&w, "a man", "a man riding a horse"), 0.5, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(spice_of(&w, "", "a man"), 0, 1e-12);
    up_wordnet_close(&w);
}

static void test_wordnet(void) {
    static const struct {
        const char *word;
        up_word_class as;
        const char *base;
    } cases[] = {{"men", UP_NOUN, "man"}, {"dogs", UP_NOUN, "dog"},  {"riding", UP_VERB, "ride"},
                 {"ran", UP_VERB, "run"}, {"boxes", UP_NOUN, "box"}, {"bigger", UP_ADJECTIVE, "big"},
                 {"xyzzy", UP_NOUN, ""},  {"", UP_NOUN, ""},         {"dog", UP_ADVERB, ""}};
    up_wordnet w;
    up_senses a, b;
    CU_ASSERT_EQUAL(up_wordnet_open("/nowhere", &w), UP_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "wordnet-base"));
    if (!has_wordnet()) return;
    UP_ASSERT_OK(up_wordnet_open(UP_WORDNET_FOLDER, &w));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char base[UP_WORD_BYTES];
        up_wordnet_base(&w, cases[i].word, cases[i].as, base);
        CU_ASSERT_STRING_EQUAL(base, cases[i].base);
    }
    UP_ASSERT_OK(up_wordnet_senses(&w, "couches", &a));
    UP_ASSERT_OK(up_wordnet_senses(&w, "sofa", &b));
    CU_ASSERT_TRUE(up_senses_meet(&a, &b));
    up_senses_free(&a);
    UP_ASSERT_OK(up_wordnet_senses(&w, "dog", &a));
    CU_ASSERT_FALSE(up_senses_meet(&a, &b));
    up_senses_free(&a);
    up_senses_free(&b);
    up_wordnet_close(&w);
}

/* ---- texts that mean harm ---- */

static void score_pair(const up_wordnet *w, const char *a, size_t m, const char *b, size_t n) {
    up_corpus c = {0};
    size_t picture;
    UP_ASSERT_OK(up_corpus_add_picture(&c, &picture));
    up_status of_a = up_corpus_set_candidate(&c, picture, a, m),
              of_b = up_corpus_add_reference(&c, picture, b, n);
    CU_ASSERT(of_a == UP_OK || of_a == UP_ERR_FORMAT);
    CU_ASSERT(of_b == UP_OK || of_b == UP_ERR_FORMAT);
    for (const up_caption_metric *metric = up_caption_metrics; metric->name && of_b == UP_OK; metric++) {
        double own, all;
        if (metric->wants_wordnet && !w) continue;
        UP_ASSERT_OK(metric->compute(&c, w, &own, &all));
        CU_ASSERT(isfinite(all) && isfinite(own));
    }
    up_corpus_free(&c);
}

static void test_hostile(void) {
    enum { LONG = 1 << 20, DRAWS = 300, MOST = 200 };
    static const char signs[] = "a-'.,(&;:)/#@<>[]0 5$\xc3\xa9\xff\xe2\x80\x99\"n't_ D*!?";
    up_rng rng = up_rng_make(up_test_seed(), 77, 0, 0);
    up_wordnet w, *wordnet = up_wordnet_open(UP_WORDNET_FOLDER, &w) == UP_OK ? &w : NULL;
    char *text = malloc(LONG), draw[MOST];
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    static const char *const fills[] = {"a", "a ", "a-", "'", "\xff", "a.", "1/", "&amp;", "<", "''n"};
    for (size_t i = 0; i < sizeof fills / sizeof *fills; i++) {
        size_t length = strlen(fills[i]);
        for (size_t k = 0; k < LONG; k++) text[k] = fills[i][k % length];
        score_pair(wordnet, text, LONG, "a dog", 5);
        score_pair(wordnet, "a dog", 5, text, 2000);
    }
    for (int i = 0; i < DRAWS; i++) {
        for (int k = 0; k < MOST; k++) draw[k] = signs[up_rng_u32(&rng) % (sizeof signs - 1)];
        score_pair(wordnet, draw, MOST / 2, draw + MOST / 4, MOST / 2);
    }
    score_pair(wordnet, "", 0, "", 0);
    free(text);
    if (wordnet) up_wordnet_close(&w);
}

static void write_file(const char *path, const char *text) {
    UP_ASSERT_OK(up_file_write(path, text, strlen(text)));
}

static void test_hostile_files(void) {
    static const struct {
        const char *metric, *candidates, *references, *message;
    } cases[] = {
        {"bleu", "[]", "[]", "nothing to score"},
        {"bleu", "[1]", "[]", "not an object"},
        {"bleu", "{\"a\": 1}", "[]", "annotations"},
        {"bleu", "[", "[]", "not sound JSON"},
        {"bleu", "[{\"image_id\": 1, \"caption\": \"a\"}]", "[]", "nothing of image_id 1"},
        {"bleu", "[{\"image_id\": 1}]", "[{\"image_id\": 1, \"caption\": \"a\"}]", "\"caption\""},
        {"bleu", "[{\"image_id\": 1, \"caption\": \"a\"}, {\"image_id\": 1, \"caption\": \"b\"}]", "[]",
         "twice"},
        {"vqa", "[{\"question_id\": 1, \"answer\": \"a\"}]", "[{\"question_id\": 1}]", "no \"answers\""},
        {"f1", "id\tlabel\n1\t0\n", "id\tlabel\n2\t0\n", "nothing of id 1"},
        {"fly", "[]", "[]", "no metric"},
    };
    char a[64], b[64];
    snprintf(a, sizeof a, "/tmp/up_scores_a.%d", (int)getpid());
    snprintf(b, sizeof b, "/tmp/up_scores_b.%d", (int)getpid());
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const up_score_options options = {0};
        up_score_list list;
        write_file(a, cases[i].candidates);
        write_file(b, cases[i].references);
        CU_ASSERT_NOT_EQUAL(up_score_files(cases[i].metric, a, b, &options, &list), UP_OK);
        CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), cases[i].message));
        if (!strstr(up_last_error(), cases[i].message)) fprintf(stderr, "%s\n", up_last_error());
        up_score_list_free(&list);
    }
    unlink(a);
    unlink(b);
}

/* Without WordNet the others still come out. */
static void test_without_wordnet(void) {
    const up_score_options options = {.wordnet = "/nowhere"};
    up_score_list list;
    char a[512], b[512];
    snprintf(a, sizeof a, "%s", up_test_path("golden/captions/candidates.json"));
    snprintf(b, sizeof b, "%s", up_test_path("golden/captions/references.json"));
    UP_ASSERT_OK(up_score_files("captions", a, b, &options, &list));
    CU_ASSERT_EQUAL(list.count, 7);
    CU_ASSERT_EQUAL(list.note_count, 2);
    CU_ASSERT_PTR_NOT_NULL(strstr(list.notes[0], "wordnet-base"));
    up_score_list_free(&list);
    CU_ASSERT_EQUAL(up_score_files("meteor", a, b, &options, &list), UP_ERR_IO);
    up_score_list_free(&list);
}

const up_test up_tests[] = {{"captions", test_captions},
                            {"meteor", test_meteor},
                            {"answers", test_answers},
                            {"normalized answers", test_normalized_answers},
                            {"labels", test_labels},
                            {"degenerate labels", test_degenerate_labels},
                            {"words", test_words},
                            {"graphs", test_graphs},
                            {"spice", test_spice},
                            {"wordnet", test_wordnet},
                            {"hostile texts", test_hostile},
                            {"hostile files", test_hostile_files},
                            {"without WordNet", test_without_wordnet},
                            {NULL, NULL}};
