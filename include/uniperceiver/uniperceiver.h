/* uniperceiver.h - the whole library, and its short way in: load a model, encode bytes, compare.
 *
 *     up_session *s;
 *     up_model_load("model.safetensors", NULL, &s);
 *     up_part picture = {UP_PART_IMAGE, bytes, size, 0, "cat.jpg"};
 *     up_classify(s, &(up_input){&picture, 1, 0}, labels, 3, probabilities);
 *     up_session_close(s);
 */
#ifndef UNIPERCEIVER_H
#define UNIPERCEIVER_H

#include "uniperceiver/backend.h"
#include "uniperceiver/batch.h"
#include "uniperceiver/comm.h"
#include "uniperceiver/cosines.h"
#include "uniperceiver/image.h"
#include "uniperceiver/model.h"
#include "uniperceiver/random.h"
#include "uniperceiver/decoder.h"
#include "uniperceiver/encoder.h"
#include "uniperceiver/log.h"
#include "uniperceiver/loss.h"
#include "uniperceiver/optimizer.h"
#include "uniperceiver/target_set.h"
#include "uniperceiver/status.h"
#include "uniperceiver/tensor.h"
#include "uniperceiver/text.h"
#include "uniperceiver/train.h"
#include "uniperceiver/video.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Every function here says UP_ERR_ARGUMENT where a pointer that it needs is NULL or a count is negative. */

/* The library's version, "major.minor.patch". */
UP_API const char *up_version(void);

/* A model ready for use: backend, weights, tokenizer, working memory. Not for two threads at once. */
typedef struct up_session up_session;

typedef struct up_load_options {
    size_t size;            /* sizeof(up_load_options); 0 = that of version 0.1 */
    const char *backend;    /* NULL = "cpu" */
    int threads;            /* 0 = all cores */
    const char *vocabulary; /* NULL = the one compiled in */
    int64_t max_pixels;     /* of one picture or frame; 0 = default */
    const char *overlay;    /* a tuned task to lay over the model (model.h); NULL = none */
    up_dtype precision;     /* of the activations: UP_F32 (0), UP_BF16 or UP_F16 */
    int map;                /* 1: for short lives: weights stay in the file's mapping (up_model_map) */
    const char *cache; /* folder for the features of vocabularies of 1,000 words and more, so that they are
                          encoded once and not by every process (docs/file-formats.md); NULL = beside the
                          model, "none" = they are not kept */
} up_load_options;

UP_API up_status up_model_load(const char *path, const up_load_options *options,
                               up_session **out); /* options: or NULL */
/* Another tuned task over the weights of a session: a session of its own that shares model, backend and
 * tokenizer with it, so that it costs its own few tensors and working memory. Closed before `session`; not
 * for another thread than it. Any number may stand on one session, and a request chooses by which it goes to.
 */
UP_API up_status up_session_add_tuned(up_session *session, const char *overlay, up_session **out);
UP_API void up_session_close(up_session *session); /* NULL is fine; its candidates first */
/* What a session holds; of NULL: NULL and 0. The model is the overlay where there is one. */
UP_API up_model *up_session_model(up_session *session);
UP_API up_tokenizer *up_session_tokenizer(up_session *session);
UP_API int up_session_width(const up_session *session); /* D: length of a feature */
/* Tokens that went through the encoder since it was opened: of inputs, and of targets. */
UP_API void up_session_tokens(const up_session *session, int64_t *inputs, int64_t *targets);

/* ---- inputs: one sequence is one or more parts behind the leading <SPE> ---- */
typedef enum up_part_kind {
    UP_PART_TEXT,
    UP_PART_IMAGE,
    UP_PART_VIDEO,
    UP_PART_IDS,
    UP_PART_PIXELS,
    UP_PART_PATCHES /* a picture or clip that was decoded ahead (src/infer/session.h) */
} up_part_kind;

typedef struct up_part {
    up_part_kind kind;
    const void
        *data;        /* TEXT: UTF-8 bytes. IMAGE, VIDEO: bytes of an encoded file. IDS: int32_t token ids.
                         PIXELS: float, normalised, [3, S, S] or [frames, 3, S, S] with the model's image size S */
    size_t size;      /* bytes of TEXT, IMAGE and VIDEO; number of ids of IDS; number of floats of PIXELS */
    int frames;       /* PIXELS: 0 = a picture, else frames of a clip */
    const char *name; /* for messages; may be NULL */
} up_part;

typedef struct up_input {
    const up_part *parts; /* text parts are closed with <|endoftext|> (IDS are taken as they are) */
    int count;
    int slot; /* 1: a <SPE> is appended and read out there (question answering, paper appendix D); 0: the
                 leading one */
} up_input;

/* Features of n inputs, scaled to length 1: out [n, D]. `side` matters only for models with prompts of two
 * sides. */
UP_API up_status up_encode(up_session *session, const up_input *inputs, int n, up_side side, float *out);

/* ---- candidates: a target set that is kept, of any modality: class names, answers, texts or pictures to
 * find, example pictures or clips of a class. Encoded once per state of the weights, however often it is
 * compared. ---- */
typedef struct up_candidates up_candidates;

/* n >= 1 candidates; what the inputs point to may go on return. Free before the session is closed. */
UP_API up_status up_candidates_create(up_session *session, const up_input *inputs, int n,
                                      up_candidates **out);
/* Texts: class names, answers. */
UP_API up_status up_candidates_create_texts(up_session *session, const char *const *texts, int n,
                                            up_candidates **out);
/* Features [n, D] that up_encode made with UP_SIDE_TARGET, e.g. kept in a file: copied, and not encoded again
 * when the weights change. */
UP_API up_status up_candidates_create_features(up_session *session, const float *features, int n,
                                               up_candidates **out);
UP_API void up_candidates_free(up_candidates *candidates); /* NULL is fine */
UP_API int up_candidates_count(const up_candidates *candidates);
/* 1: the model's linear head takes part (equation 4); the candidates are its classes, as many and in its
 * order. */
UP_API up_status up_candidates_use_head(up_candidates *candidates, int use);

/* exp(cos / tau) normalised over the candidates (equations 1 and 2) for each of n inputs: out [n, count].
 * `task` names the temperature: one of the model's own, or a kind of task, whose nearest is taken; NULL = the
 * kind that fits the input's parts. */
UP_API up_status up_candidates_compare(up_candidates *candidates, const char *task, const up_input *inputs,
                                       int n, float *probabilities);

/* Requests of several tasks, tuned or not, in one batch: each goes to the session of its candidates, and all
 * that go to the same candidates are encoded together. Answers are those of up_candidates_compare for each
 * alone. */
typedef struct up_request {
    up_candidates *candidates;
    const char *task; /* as above */
    up_input input;
    float *probabilities; /* [count of the candidates] */
} up_request;
UP_API up_status up_compare_requests(const up_request *requests, int n);

/* The same for one input and candidates that are used once: out [n]. */
UP_API up_status up_compare(up_session *session, const char *task, const up_input *input,
                            const up_input *candidates, int n, float *probabilities);

/* up_compare with texts as candidates. */
UP_API up_status up_classify(up_session *session, const up_input *input, const char *const *labels, int n,
                             float *probabilities);

/* ---- words: the target set of language tasks ---- */

/* Single words as a target set of the session's, fresh: entry i is word ids[i]. ids NULL: the model's own
 * (up_model_targets), else every entry. Valid until other words are asked for, here or by a caption. */
UP_API up_status up_session_words(up_session *session, const int32_t *ids, int count, up_target_set **out);

/* ---- captions: words one by one, each the most similar vocabulary entry to an appended <SPE> (appendix B)
 * ---- */
typedef struct up_caption_options {
    size_t size;   /* sizeof(up_caption_options); 0 = that of version 0.1 */
    int beam;      /* 1 = greedy; 0 = default, 5 */
    int max_words; /* tokens, the end token included; 0 = default, 20 */
    int uncached;  /* 1: encode the whole sequence at every step (the definition; slow) instead of cached keys
                      and values */
    const char *task;          /* whose temperature, as above; NULL = "caption", or "ar" for text */
    const int32_t *vocabulary; /* candidate ids; NULL = the model's own target set */
    int vocabulary_count;
    int min_words;         /* words at least before the end token, as far as max_words allows */
    double length_penalty; /* p >= 0: of the hypotheses at the end, the one of the largest log-probability /
                              (words + 1)^p is told. 0 = the most probable, as the released models have it */
    /* Called after every word, for each input that goes on: the tokens of its best caption so far, without
     * the end token. Later words may change earlier ones. NULL: nobody is told. */
    void (*said)(void *listener, int input, const int32_t *ids, int count);
    void *listener;
} up_caption_options;

typedef struct up_caption {
    char *text;             /* malloc'ed */
    double log_probability; /* sum over the words, end token included */
    int words;              /* tokens without the end token */
    int32_t *ids;           /* [words], malloc'ed */
} up_caption;

/* The most probable continuation of an input (picture, clip and/or text begun) by beam search. Words may
 * repeat. options: or NULL. */
UP_API up_status up_caption_input(up_session *session, const up_input *input,
                                  const up_caption_options *options, up_caption *out);
/* The same for n inputs, which go some at a time and so are done sooner than one by one: out [n], each to be
 * freed with up_caption_free; after a failure there are none. What the inputs point to may go on return. */
UP_API up_status up_caption_inputs(up_session *session, const up_input *inputs, int n,
                                   const up_caption_options *options, up_caption *out);
UP_API void up_caption_free(up_caption *caption); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
