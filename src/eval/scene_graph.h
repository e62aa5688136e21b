/* scene_graph.h - what a caption says there is: objects (man), their attributes (man, old) and relations
 * between them (man, ride, horse), found by rules over word classes. The rules know short English captions;
 * they stand in for the parser of SPICE (Anderson et al. 2016) and do not give the same graphs. */
#ifndef UP_EVAL_SCENE_GRAPH_H
#define UP_EVAL_SCENE_GRAPH_H

#include "data/lexicon.h"
#include "eval/wordnet.h"

typedef struct up_tuple {
    int32_t parts[3]; /* numbers of base forms: object; object, attribute; subject, relation, object. Behind:
                         -1 */
} up_tuple;

typedef struct up_scene_graph {
    up_tuple *list; /* each once */
    size_t count, room;
} up_scene_graph;

/* The graph of a caption's words, as up_ptb_tokenize gives them; base forms are numbered by `names`. */
up_status up_scene_graph_read(const up_wordnet *wordnet, const char *const *words, size_t count,
                              up_lexicon *names, up_scene_graph *out);
up_status up_scene_graph_add(up_scene_graph *graph, up_tuple tuple);
void up_scene_graph_free(up_scene_graph *graph);

#endif
