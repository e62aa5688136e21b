/* scene_graph.c - first a class for each word, from closed lists, WordNet and its neighbours; then noun
 * phrases, and what verbs and prepositions between them relate. */
#include "eval/scene_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum tag {
    NOUN,
    ADJECTIVE,
    VERB,
    DETERMINER,
    NUMBER,
    PREPOSITION,
    AUXILIARY,
    AND,
    SKIPPED,
    NONE
} tag;

static const struct {
    tag of;
    const char *words; /* between spaces */
} closed[] = {
    {DETERMINER, " a an the this that these those his her its their my your our some any each every another "
                 "'s ' several many few both all no lots various other "},
    {NUMBER, " one two three four five six seven eight nine ten eleven twelve "},
    {PREPOSITION,
     " on in at of with by near under over above below behind beside besides between through into "
     "onto to from for along across around against inside outside beneath underneath toward towards "
     "off down up past atop among amongst beyond within upon about during without while_on "
     "next_to in_front_of on_top_of close_to out_of full_of "},
    {AUXILIARY,
     " is are was were be been being am 's 're has have had can could will would may might must do "
     "does did "},
    {AND, " and & or "},
    {SKIPPED,
     " it he she they we i you him them who which there that's while as not n't very just also then so "
     "together away out back than but "},
};

/* Words that are one preposition together. */
static const char *const joined[][3] = {{"in", "front", "of"}, {"on", "top", "of"}, {"next", "to", NULL},
                                        {"close", "to", NULL}, {"out", "of", NULL}, {"full", "of", NULL}};

typedef struct token {
    char word[UP_WORD_BYTES], base[UP_WORD_BYTES]; /* base: of the class that it has */
    tag tag;
} token;

static tag closed_tag(const char *word) {
    char entry[UP_WORD_BYTES + 2];
    snprintf(entry, sizeof entry, " %s ", word);
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++)
        if (strstr(closed[i].words, entry)) return closed[i].of;
    return strspn(word, "0123456789") == strlen(word) ? NUMBER : NONE;
}

/* --- classes --- */

/* What an open word can be. */
typedef struct abilities {
    char noun[UP_WORD_BYTES], verb[UP_WORD_BYTES], adjective[UP_WORD_BYTES];
    int participle; /* a verb's -ing, -ed or irregular form */
} abilities;

static int ends_with(const char *word, const char *ending) {
    size_t a = strlen(word), b = strlen(ending);
    return a > b && !strcmp(word + a - b, ending);
}

static abilities abilities_of(const up_wordnet *w, const char *word) {
    abilities a = {0};
    up_wordnet_base(w, word, UP_NOUN, a.noun);
    up_wordnet_base(w, word, UP_VERB, a.verb);
    up_wordnet_base(w, word, UP_ADJECTIVE, a.adjective);
    a.participle = *a.verb && strcmp(a.verb, word) && !(ends_with(word, "s") && !ends_with(word, "ss"));
    return a;
}

static int is_known_pair(const up_wordnet *w, const char *first, const char *second) {
    char pair[2 * UP_WORD_BYTES], base[UP_WORD_BYTES];
    snprintf(pair, sizeof pair, "%s_%s", first, second);
    if (strlen(pair) >= UP_WORD_BYTES) return 0;
    up_wordnet_base(w, pair, UP_NOUN, base);
    return *base != 0;
}

static tag behind_noun(const up_wordnet *w, const token *t, const abilities *a, tag next) {
    if (*a->noun && is_known_pair(w, t[-1].word, t->word)) return NOUN;
    if (a->participle) return VERB;
    int ends_phrase = next == DETERMINER || next == PREPOSITION || next == NUMBER || next == SKIPPED;
    if (*a->verb && ends_phrase && (strcmp(a->verb, t->word) || !*a->noun)) return VERB;
    if (*a->noun) return NOUN;
    return *a->verb ? VERB : ADJECTIVE;
}

/* t[-1] is there, of class NONE before the first word. */
static tag open_tag(const up_wordnet *w, const token *t, const abilities *a, tag next, int noun_next) {
    tag last = t[-1].tag;
    if (last == NOUN) return behind_noun(w, t, a, next);
    if (last == AUXILIARY) {
        if (a->participle) return VERB;
        if (*a->adjective) return ADJECTIVE;
    }
    if (noun_next && (*a->adjective || a->participle)) return ADJECTIVE;
    if (a->participle && ends_with(t->word, "ing") && last != DETERMINER && last != ADJECTIVE) return VERB;
    if (*a->noun) return NOUN;
    if (*a->adjective) return ADJECTIVE;
    return *a->verb ? VERB : NOUN; /* unknown words are names */
}

/* The word behind an open one: can a noun phrase go on with it? */
static int goes_on(const up_wordnet *w, const token *next) {
    if (next->tag != NONE || !*next->word) return 0;
    abilities a = abilities_of(w, next->word);
    return (*a.noun || *a.adjective) && !(a.participle && ends_with(next->word, "ing") && !*a.adjective);
}

static void choose_base(token *t, const abilities *a) {
    const char *base = t->tag == NOUN ? a->noun : t->tag == VERB ? a->verb : t->word;
    snprintf(t->base, sizeof t->base, "%s", *base ? base : t->word);
}

/* tokens[0] and tokens[count + 1] are empty. */
static void classify(const up_wordnet *w, token *tokens, size_t count) {
    for (size_t i = 1; i <= count; i++) {
        tokens[i].tag = closed_tag(tokens[i].word);
        snprintf(tokens[i].base, sizeof tokens[i].base, "%s", tokens[i].word);
    }
    for (size_t i = 1; i <= count; i++) {
        token *t = &tokens[i];
        if (t->tag != NONE) continue;
        abilities a = abilities_of(w, t->word);
        int adverb = ends_with(t->word, "ly") && !*a.noun && !*a.adjective && !*a.verb;
        t->tag = adverb ? SKIPPED : open_tag(w, t, &a, t[1].tag, goes_on(w, t + 1));
        choose_base(t, &a);
    }
}

static size_t join_at(const char *const *words, size_t left, char out[UP_WORD_BYTES]) {
    for (size_t i = 0; i < sizeof joined / sizeof *joined; i++) {
        size_t length = joined[i][2] ? 3 : 2, same = 0;
        while (same < length && same < left && !strcmp(words[same], joined[i][same])) same++;
        if (same < length) continue;
        snprintf(out, UP_WORD_BYTES, length == 3 ? "%s_%s_%s" : "%s_%s", words[0], words[1],
                 length == 3 ? words[2] : "");
        return length;
    }
    snprintf(out, UP_WORD_BYTES, "%s", words[0]);
    return 1;
}

/* --- graphs --- */

enum { GROUP = 8 };

/* Objects that "and" joins. */
typedef struct group {
    int32_t objects[GROUP];
    int count;
} group;

typedef struct parser {
    const up_wordnet *wordnet;
    up_lexicon *names;
    up_scene_graph *graph;
    const token *tokens;
    size_t count;
    group subjects, last;             /* of the sentence; of the last noun phrase */
    group related;                    /* whose relation waits for its object */
    char relation[2 * UP_WORD_BYTES]; /* "": none waits */
    int has_verb;                     /* the relation has one */
    int joins;                        /* "and" stood before */
} parser;

up_status up_scene_graph_add(up_scene_graph *g, up_tuple tuple) {
    for (size_t i = 0; i < g->count; i++)
        if (!memcmp(&g->list[i], &tuple, sizeof tuple)) return UP_OK;
    if (g->count == g->room) {
        size_t room = g->room ? 2 * g->room : 16;
        up_tuple *grown = realloc(g->list, room * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, "scene graph", "%zu tuples wanted", room);
        g->list = grown;
        g->room = room;
    }
    g->list[g->count++] = tuple;
    return UP_OK;
}

void up_scene_graph_free(up_scene_graph *g) {
    free(g->list);
    *g = (up_scene_graph){0};
}

static up_status number_of(const parser *p, const char *name, int32_t *number) {
    return up_lexicon_add(p->names, name, strlen(name), number);
}

static up_status add_attribute(parser *p, int32_t object, const char *name) {
    int32_t attribute;
    UP_TRY(number_of(p, name, &attribute));
    return up_scene_graph_add(p->graph, (up_tuple){{object, attribute, -1}});
}

static up_status attribute_group(parser *p, const group *g, const char *name) {
    for (int i = 0; i < g->count; i++) UP_TRY(add_attribute(p, g->objects[i], name));
    return UP_OK;
}

/* A verb that met no object is an attribute; a preposition that met none is nothing. */
static up_status drop_relation(parser *p) {
    if (*p->relation && p->has_verb) UP_TRY(attribute_group(p, &p->related, p->relation));
    *p->relation = 0;
    p->has_verb = 0;
    return UP_OK;
}

static up_status relate(parser *p, int32_t object) {
    int32_t relation;
    UP_TRY(number_of(p, p->relation, &relation));
    for (int i = 0; i < p->related.count; i++)
        UP_TRY(up_scene_graph_add(p->graph, (up_tuple){{p->related.objects[i], relation, object}}));
    *p->relation = 0;
    p->has_verb = 0;
    return UP_OK;
}

/* A noun phrase is complete. */
static up_status take_object(parser *p, int32_t object) {
    UP_TRY(up_scene_graph_add(p->graph, (up_tuple){{object, -1, -1}}));
    int related = *p->relation != 0;
    if (related) UP_TRY(relate(p, object));
    if (!p->joins || related) p->last.count = 0;
    if (p->last.count < GROUP) p->last.objects[p->last.count++] = object;
    if (!p->subjects.count || (p->joins && !related && p->subjects.count < GROUP)) p->subjects = p->last;
    p->joins = 0;
    return UP_OK;
}

/* Nouns first..end - 1: the last is the object, with the one before where WordNet has both as one. */
static up_status take_nouns(parser *p, size_t first, size_t end, int32_t *object, size_t *modifiers_end) {
    char name[2 * UP_WORD_BYTES], base[UP_WORD_BYTES];
    const token *head = &p->tokens[end - 1];
    *modifiers_end = end - 1;
    snprintf(name, sizeof name, "%s", head->base);
    if (end - first >= 2 && is_known_pair(p->wordnet, head[-1].word, head->word)) {
        snprintf(name, sizeof name, "%s_%s", head[-1].word, head->word);
        up_wordnet_base(p->wordnet, name, UP_NOUN, base);
        snprintf(name, sizeof name, "%s", base);
        *modifiers_end = end - 2;
    }
    return number_of(p, name, object);
}

/* From a determiner, number, adjective or noun on; *at goes behind the phrase. */
static up_status take_phrase(parser *p, size_t *at) {
    size_t first = *at, nouns, end, modifiers_end;
    int32_t object;
    while (first <= p->count && p->tokens[first].tag == DETERMINER) first++;
    nouns = first;
    while (nouns <= p->count && (p->tokens[nouns].tag == ADJECTIVE || p->tokens[nouns].tag == NUMBER))
        nouns++;
    end = nouns;
    while (end <= p->count && p->tokens[end].tag == NOUN) end++;
    *at = end > *at ? end : *at + 1;
    if (end == nouns) { /* a predicate: "is black" */
        for (size_t i = first; i < nouns; i++) UP_TRY(attribute_group(p, &p->last, p->tokens[i].base));
        return UP_OK;
    }
    UP_TRY(take_nouns(p, nouns, end, &object, &modifiers_end));
    UP_TRY(take_object(p, object));
    for (size_t i = first; i < modifiers_end; i++) UP_TRY(add_attribute(p, object, p->tokens[i].base));
    return UP_OK;
}

static up_status take_verb(parser *p, const token *t) {
    int of_sentence = t[-1].tag == AND || t[-1].tag == AUXILIARY || t[-1].tag == SKIPPED;
    group *of = of_sentence ? &p->subjects : &p->last;
    UP_TRY(drop_relation(p));
    p->related = *of;
    p->has_verb = 1;
    p->joins = 0;
    snprintf(p->relation, sizeof p->relation, "%s", t->base);
    return UP_OK;
}

static void take_preposition(parser *p, const token *t) {
    char verb[UP_WORD_BYTES];
    if (!p->has_verb) p->related = p->last;
    snprintf(verb, sizeof verb, "%.*s", UP_WORD_BYTES - 1, p->relation);
    if (p->has_verb && !strchr(verb, ' '))
        snprintf(p->relation, sizeof p->relation, "%s %s", verb, t->base);
    else
        snprintf(p->relation, sizeof p->relation, "%s", t->base);
}

static up_status parse(parser *p) {
    for (size_t at = 1; at <= p->count;) {
        const token *t = &p->tokens[at];
        if (t->tag <= NUMBER && t->tag != VERB) {
            UP_TRY(take_phrase(p, &at));
            continue;
        }
        if (t->tag == VERB) UP_TRY(take_verb(p, t));
        if (t->tag == PREPOSITION) take_preposition(p, t);
        if (t->tag == AND) {
            UP_TRY(drop_relation(p));
            p->joins = 1;
        }
        at++;
    }
    return drop_relation(p);
}

up_status up_scene_graph_read(const up_wordnet *w, const char *const *words, size_t count, up_lexicon *names,
                              up_scene_graph *out) {
    token *tokens = calloc(count + 2, sizeof *tokens);
    if (!tokens) return up_fail(UP_ERR_MEMORY, "scene graph", "that of %zu words wanted", count);
    size_t n = 0;
    for (size_t i = 0; i < count;) i += join_at(words + i, count - i, tokens[++n].word);
    tokens[0].tag = tokens[n + 1].tag = NONE;
    classify(w, tokens, n);
    parser p = {.wordnet = w, .names = names, .graph = out, .tokens = tokens, .count = n};
    up_status status = parse(&p);
    free(tokens);
    return status;
}
