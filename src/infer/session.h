/* session.h - what the files of src/infer share: a session, and inputs made ready for a batch. The public
 * face is uniperceiver/uniperceiver.h; read session.c, inputs.c, compare.c, caption.c in this order. */
#ifndef UP_INFER_SESSION_H
#define UP_INFER_SESSION_H

#include "uniperceiver/uniperceiver.h"

struct up_session {
    up_backend *backend;
    up_model *model;
    up_run *run;
    up_tokenizer *tokenizer;
    up_batch batch;
    up_image_limits limits;

    /* Target features of single words, made by the first caption that asks for these. */
    int32_t *vocabulary; /* [vocabulary_count] ids */
    int vocabulary_count;
    float *vocabulary_features; /* [vocabulary_count, D] */
};

/* A part as tokens: text as ids, pictures and clips as patches. */
typedef struct up_piece {
    int32_t *ids; /* [count]; NULL for patches */
    int count;
    float *patches; /* [(frames or 1) * cells, 3 * patch * patch] */
    int frames;     /* 0: a picture */
} up_piece;

typedef struct up_pieces {
    up_piece *list;
    int count;
    int slot; /* 1: a <SPE> at the end is read out instead of the leading one */
} up_pieces;

/* Decode and tokenize the parts of an input. With `begun`, texts at the end of the input are left open: no
 * end token. Free with up_pieces_free, also after a failure. */
up_status up_pieces_make(up_session *session, const up_input *input, int begun, up_pieces *out);
void up_pieces_free(up_pieces *pieces);

/* Append pieces first..first+count-1 to the open sequence; texts continue each other's positions. */
up_status up_pieces_pack(const up_session *session, const up_pieces *pieces, int count, up_batch *batch);

/* Encode what is in session->batch: features of all read-out rows, checked to be finite. */
up_status up_encode_batch(up_session *session, float *out);

/* A batch is encoded as soon as it has this many tokens: enough to fill wide multiplications, in bounded
 * memory. */
enum { UP_ENCODE_TOKENS = 2048 };

/* The factor of a cosine, min(1 / tau, 100), for a task by name (an unknown one is an error that lists them),
 * or, with NULL, for the first of the names in `fitting` (ended by NULL) that the model has, else its first
 * task. */
up_status up_logit_scale(up_session *session, const char *task, const char *const *fitting, double *scale);

/* The same, with the names that fit the input's parts. */
up_status up_input_scale(up_session *session, const char *task, const up_input *input, double *scale);

/* out [n] = softmax of scale * cosine between x [width] and candidates [n, width]. */
void up_softmax(const float *x, const float *candidates, int n, int width, double scale, float *out);

/* a . b over n values, in double. */
double up_dot(const float *a, const float *b, int n);

#endif
