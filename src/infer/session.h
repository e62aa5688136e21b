/* session.h - what the files of src/infer share: a session, and inputs made ready for a batch. The public
 * face is uniperceiver/uniperceiver.h; read session.c, inputs.c, encode.c, candidates.c, caption.c in this
 * order. */
#ifndef UP_INFER_SESSION_H
#define UP_INFER_SESSION_H

#include "ref/given.h"
#include "uniperceiver/uniperceiver.h"

struct up_session {
    up_backend *backend;
    up_session *owner;    /* whose backend, base and tokenizer it shares; NULL: its own */
    up_model *base;       /* the model of the file */
    int borrowed;         /* 1: backend and model are another's */
    up_model *model;      /* what answers: `base`, or the overlay on it */
    up_encoder *encoder;  /* of inputs */
    up_encoder *scout;    /* of target sets */
    up_decoder *decoder;  /* of captions, made by the first */
    up_features features; /* of the inputs encoded last */
    up_cosines *cosines;
    up_tokenizer *tokenizer;
    up_batch batch;
    up_image_limits limits;

    up_target_set *words; /* the vocabulary that captions choose from, made by the first that asks for it */
    int32_t *word_ids;    /* [word_count] */
    int word_count;
    uint64_t words_version; /* of the weights that their features are of; 0: of none */

    /* where their features are kept (words_file.c) */
    char *path, *cache; /* the file that was loaded, the overlay's if there is one; folder, NULL: beside it */
    int keeps_words;
    up_dtype precision;
    uint64_t loaded_version; /* of the weights in that file */
};

/* A session over a model that another owns and may change; nothing of it is kept in files. */
up_status up_session_over(up_model *model, up_dtype precision, up_session **out);

/* A part as tokens: text as ids, pictures and clips as patches. */
typedef struct up_piece {
    int32_t *ids; /* [count]; NULL for patches */
    int count;
    uint8_t *bytes; /* [(frames or 1) * cells, 3 * patch * patch] from files; NULL: values */
    float *values;  /* the same from pixels that the caller normalised */
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
int up_piece_is_text(const up_piece *piece);

/* A part made ready ahead of its use: a picture or clip as UP_PART_PATCHES, a text as UP_PART_IDS, others as
 * they are. May be called from several threads at once, and while the session is at work. */
typedef struct up_prepared {
    up_part part;
    void *memory; /* what it points to, malloc'ed; NULL: the part's own */
    int cut;      /* 1: the text is longer than the model's limit */
} up_prepared;
up_status up_part_prepare(up_session *session, const up_part *part, up_prepared *out);

/* Append the first `count` pieces to the open sequence; texts continue each other's positions. */
up_status up_pieces_pack(const up_session *session, const up_pieces *pieces, int count, up_batch *batch);

/* An input as one more sequence of a batch. */
up_status up_input_pack(up_session *session, const up_input *input, up_side side, up_batch *batch);

/* Encode session->batch into session->features. */
up_status up_encode_batch(up_session *session);

/* Inputs first.. first + rows - 1 are in session->features. */
typedef up_status (*up_take_features)(void *context, int first, int rows);
/* Encode inputs, some at a time: as soon as a batch has UP_ENCODE_TOKENS, enough to fill wide
 * multiplications, in bounded memory. */
up_status up_encode_each(up_session *session, const up_input *inputs, int n, up_side side,
                         up_take_features take, void *context);
enum { UP_ENCODE_TOKENS = 2048 };

/* words_file.c: the features of session->words from the file that keeps them (1: it was done), and into it.
 */
int up_words_file_read(up_session *session);
void up_words_file_write(up_session *session);
/* The same of another target set, where the session has a folder for them (up_load_options.cache): `content`
 * is a digest of its sequences. */
int up_set_file_read(up_session *session, up_target_set *set, uint64_t content);
void up_set_file_write(up_session *session, up_target_set *set, uint64_t content);

/* Make the features of a target set fresh. */
up_status up_session_encode_set(up_session *session, up_target_set *set);

/* The factor of a cosine, min(1 / tau, 100), for a task by name as up_candidates_compare takes it. */
up_status up_task_scale(up_session *session, const char *task, double *scale);
/* The kind of task that an input's parts fit. */
const char *up_input_kind(const up_input *input);

/* z [n] becomes z - log sum exp z; not finite: UP_ERR_NUMERIC. */
up_status up_log_softmax(double *z, int n);
/* order [n]: places of the probabilities, largest first, equal ones in their own order. */
up_status up_order_by_probability(const float *probabilities, int n, int *order);

#endif
