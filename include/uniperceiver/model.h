/* model.h - the architecture as data: configuration, presets, the table of parameters, a model with its
 * weights.
 *
 * One configuration covers the paper's model and the authors' released one; they differ in flags, never in
 * code.
 */
#ifndef UNIPERCEIVER_MODEL_H
#define UNIPERCEIVER_MODEL_H

#include "uniperceiver/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { UP_MAX_TASKS = 16, UP_NAME_SIZE = 64, UP_TENSOR_NAME_SIZE = 96 };

typedef struct up_config {
    char preset[UP_NAME_SIZE]; /* the name it started from; kept in files for the reader */
    int layers, width, heads, ffn;
    int vocabulary;        /* token ids; the last one is <SPE>, the others are rows of the token table */
    int text_positions;    /* longest text (paper: 256; released: 512) */
    int image_size, patch; /* pixels; cells = (image_size / patch)^2 */
    int frames;            /* rows of the temporal table, and frames of a clip */

    /* How pixels reach the model: short side resized to this, then a square of image_size cut out. */
    int image_resize, video_resize;
    int video_stride;     /* every n-th frame is taken */
    int frames_as_images; /* 1: frames are normalised with the pictures' mean and standard deviation (the
                             paper leaves it open; so what pictures taught serves clips); 0: with 0.5 and 0.5
                             (released) */

    /* Where the released models differ from the paper (shared/default values are the paper's). */
    int shared_norm; /* 1: one embedding norm for text, image and video; 0: one for each tokenizer */
    int image_time;  /* 1: an image is a clip of one frame and gets temporal row 0 */
    int visual_type; /* 1: the modality embedding <V> is added to patches */
    int fixed_space; /* 1: the spatial table is the fixed 2-D sine-cosine, not learned */
    int output_head; /* 1: layer norm and a D x D projection on every read-out feature */
    int layer_scale; /* 1: a learned factor per channel on both branches of a layer */
    double layer_scale_init;
    double patch_position_init; /* standard deviation of P_space, P_time and V at the start; the paper leaves
                                   it open. 0.02 as the released models have it; a short training wants
                                   positions as loud as the patches */
    double branch_init; /* factor on the initial values of the last matrix of each residual branch. 1: plain
                           Xavier, as the paper leaves it open; 1 / sqrt(2 layers) lets the input stay as loud
                           as all branches together */
    double drop_path;   /* probability that a training step drops a branch for a sequence, in every layer */

    /* Prompt tuning (paper section 3.3, appendix C). */
    int prompts;      /* prompt tokens a layer and side; 0: none */
    int prompt_sides; /* 2: inputs and targets have their own (paper); 1: one set for both (released) */
    int classes;      /* rows of the linear head of equation 4; 0: none */
    int head_only;    /* 1: the model extracts features for its head: alpha of equation 4 is 0 and stays so */

    int tasks; /* temperatures, one a task */
    char task_names[UP_MAX_TASKS][UP_NAME_SIZE];
    double initial_temperature; /* tau at the start; the paper leaves it open, the released models use 0.07 */
} up_config;

/* "base", "large", "tiny", "released-base", "released-large". Unknown names: UP_ERR_ARGUMENT that lists them.
 */
UP_API up_status up_config_preset(const char *name, up_config *out);
/* The names of all presets, ended by NULL. */
UP_API const char *const *up_config_presets(void);
/* Ranges and divisibility; the message names the field, the value found and what was wanted. */
UP_API up_status up_config_check(const up_config *config);
UP_API int up_config_cells(const up_config *config);

/* Normalisation of pixels: value = (byte / 255 - mean[c]) / std[c]. */
typedef struct up_pixel_norm {
    float mean[3], std[3];
} up_pixel_norm;
UP_API extern const up_pixel_norm up_pixel_norm_image; /* 0.485 0.456 0.406 / 0.229 0.224 0.225 */
UP_API extern const up_pixel_norm up_pixel_norm_video; /* 0.5 / 0.5 */
/* The one that a model uses for pictures, or for frames of clips. */
UP_API const up_pixel_norm *up_config_pixel_norm(const up_config *config, int video);
/* The value of each byte by channel, levels [3, 256]. */
UP_API void up_pixel_levels(const up_pixel_norm *norm, float *levels);
/* The fields of a configuration as a table, all but the tasks: what checks, stores or overrides a field goes
 * by its row (ref/model/config.c). */
typedef enum up_field_type {
    UP_FIELD_NAME,  /* char [UP_NAME_SIZE] */
    UP_FIELD_WHOLE, /* int */
    UP_FIELD_REAL   /* double */
} up_field_type;
typedef struct up_config_field {
    const char *name;
    size_t offset; /* in up_config */
    up_field_type type;
    double low, high; /* what up_config_check allows, inclusive */
    int newer;        /* 1: older files lack it; 0 is what they mean */
} up_config_field;
UP_API extern const up_config_field up_config_fields[]; /* ended by a row without a name */
/* A row by name, or NULL. */
UP_API const up_config_field *up_config_field_named(const char *name);
/* Index of a task's temperature by name; -1 if there is none. */
UP_API int up_config_task(const up_config *config, const char *name);

/* ---- parameters: one table, written in ref/model/params.c ---- */

typedef enum up_param_group {                /* the rows of the paper's Table 9, and the rest */
                              UP_GROUP_SPE,  /* the <SPE> embedding, a tensor beside the token table */
                              UP_GROUP_NORM, /* layer norms of layers and tokenizers */
                              UP_GROUP_PROMPT,
                              UP_GROUP_LINEAR_HEAD,
                              UP_GROUP_EMBEDDING, /* tokens, positions, types, patch projection */
                              UP_GROUP_ENCODER,   /* attention, FFN, LayerScale */
                              UP_GROUP_OUTPUT,    /* norm and projection behind the encoder (released) */
                              UP_GROUP_TEMPERATURE,
                              UP_GROUP_COUNT
} up_param_group;

typedef enum up_init {
    UP_INIT_ZERO,
    UP_INIT_ONE,
    UP_INIT_NORMAL,      /* standard deviation in init_value */
    UP_INIT_XAVIER,      /* uniform, bound init_value sqrt(6 / (in + out)); q, k and v apart */
    UP_INIT_CONSTANT,    /* init_value */
    UP_INIT_SINCOS_SPACE /* fixed 2-D sine-cosine of the grid */
} up_init;

typedef struct up_param {
    char name[UP_TENSOR_NAME_SIZE]; /* the tensor's name in files, e.g. "layers.3.attention.qkv.weight" */
    up_param_group group;
    int64_t rows, cols; /* [rows, cols]; vectors are [1, n] */
    int64_t offset;     /* of its first element in the weight buffer (and in gradient, m, v buffers) */
    int decay;     /* 1: weight decay applies (matrices of linear layers; not norms, biases, embeddings) */
    int trainable; /* 0: fixed by its definition (a sine-cosine table); what learns is a run's choice,
                      gradients.h */
    up_init init;
    double init_value;
    int init_blocks; /* Xavier: row blocks initialised apart (3 for q, k, v) */
} up_param;

typedef struct up_layer_index { /* positions in up_params.list; -1 where a flag leaves the tensor out */
    int norm1_weight, norm1_bias, qkv_weight, qkv_bias, out_weight, out_bias, scale1;
    int norm2_weight, norm2_bias, up_weight, up_bias, down_weight, down_bias, scale2;
    int prompt;
} up_layer_index;

typedef struct up_params {
    int count;
    up_param *list;
    int64_t total; /* elements, every tensor padded to a multiple of 16 */
    int token, spe, text_position, text_type, text_norm_weight, text_norm_bias;
    int patch_weight, patch_bias, space, time, visual_type;
    int image_norm_weight, image_norm_bias, video_norm_weight, video_norm_bias;
    int output_norm_weight, output_norm_bias, output_weight, output_bias;
    int head_weight, head_bias, head_alpha;
    int temperature[UP_MAX_TASKS]; /* ln(1 / tau) */
    up_layer_index *layers;
} up_params;

/* Names, shapes and rules for a configuration. Free with up_params_free. */
UP_API up_status up_params_build(const up_config *config, up_params *out);
UP_API void up_params_free(up_params *params);
UP_API int up_params_find(const up_params *params, const char *name); /* -1 if unknown */

/* Counts by group, of all parameters, but for the linear head's bias and alpha, which Table 9 leaves out. */
UP_API void up_params_count(const up_params *params, int64_t counts[UP_GROUP_COUNT]);
UP_API const char *up_param_group_name(up_param_group group);

/* Fill `weights` (params->total floats, padding zeroed) for a seed: a pure function of (seed, parameter name,
 * index). */
UP_API up_status up_params_init(const up_config *config, const up_params *params, uint64_t seed,
                                float *weights);

/* ---- a model: configuration, parameters, weights on a backend ---- */

typedef struct up_model up_model;

/* A fresh model. `backend` is borrowed and must outlive it. */
UP_API up_status up_model_create(up_backend *backend, const up_config *config, uint64_t seed, up_model **out);
/* The same with every weight 0, for who brings them. */
UP_API up_status up_model_create_bare(up_backend *backend, const up_config *config, up_model **out);
/* The same with the weights in memory of the caller's, used in place: tensor i of up_params_build's list at
 * byte offsets[i], a multiple of 4. UP_ERR_UNSUPPORTED where the backend cannot (`wrap`). No optimiser works
 * on such a model. When it is destroyed, let_go(memory_owner) is called; after a failure it is not. */
UP_API up_status up_model_create_over(up_backend *backend, const up_config *config, void *memory,
                                      size_t bytes, const int64_t *offsets, void (*let_go)(void *),
                                      void *memory_owner, up_model **out);
/* From safetensors; a tensor that is missing, unknown or of another shape is an error that names it. */
UP_API up_status up_model_read(up_backend *backend, const char *path, up_model **out);
/* The same for a short life: where the backend can, weights stay in the file's mapping, so that they cost no
 * memory, and time only as they are used. The file must keep its bytes until the model is destroyed (one that
 * is replaced, as up_model_write does it, keeps them). */
UP_API up_status up_model_map(up_backend *backend, const char *path, up_model **out);
/* To safetensors, with the configuration in the metadata. Written aside and renamed. Of an overlay: its own
 * tensors, and which model it belongs to. */
UP_API up_status up_model_write(up_model *model, const char *path);
UP_API void up_model_destroy(up_model *model); /* NULL is fine; overlays first */

/* A tuned task as an overlay (paper section 3.3, appendix C): a model that has its own <SPE>, layer norms,
 * prompts, linear head and temperatures, and shares every other tensor with `base`, which is borrowed and
 * must outlive it. Several may stand on one base at a time. Own tensors start as copies of the base's;
 * prompts and head as in up_params_init. `prompts` 0: none; `classes` 0: no head. */
UP_API up_status up_overlay_create(up_model *base, int prompts, int prompt_sides, int classes, uint64_t seed,
                                   up_model **out);
/* From a file that up_model_write made of an overlay; refused where it belongs to another base. */
UP_API up_status up_overlay_read(up_model *base, const char *path, up_model **out);
UP_API up_model *up_model_base(const up_model *model);      /* NULL: it is no overlay */
UP_API int up_model_owns(const up_model *model, int param); /* 0: the tensor is the base's */

UP_API const up_config *up_model_config(const up_model *model);
UP_API const up_params *up_model_params(const up_model *model);
UP_API up_backend *up_model_backend(const up_model *model);
/* The vocabulary entries that the model's language tasks compare with, ascending: NULL and 0 for all. Kept in
 * the file. The ids are copied. */
UP_API up_status up_model_set_targets(up_model *model, const int32_t *ids, int count);
UP_API const int32_t *up_model_targets(const up_model *model, int *count);
/* Names of the linear head's classes, in its order: NULL and 0 where nobody has named them. Kept in the file.
 * As many as the head has rows; the names are copied. */
UP_API up_status up_model_set_classes(up_model *model, const char *const *names, int count);
UP_API const char *const *up_model_classes(const up_model *model, int *count);
/* Copy from another model on the same backend, of the same base or none, each tensor that `model` owns, whose
 * name and shape the other one has, too; a linear head only where its classes are the same. */
UP_API up_status up_model_copy(up_model *model, const up_model *from);
/* View of one parameter: of the weights themselves; -1 gives an absent view. Who writes them says so with
 * up_model_changed. */
UP_API up_view up_model_weight(const up_model *model, int param);
/* The state of the weights: a number that grows with each change. Features of another version are stale. */
UP_API uint64_t up_model_version(const up_model *model);
UP_API void up_model_changed(up_model *model);
/* A hash of weights that whoever computed it keeps here: 0, none, after each change. */
UP_API uint64_t up_model_fingerprint(const up_model *model);
UP_API void up_model_set_fingerprint(up_model *model, uint64_t fingerprint);

/* Prepared weights (backend.h): the form that the backend likes for rows first..first + rows - 1 of a linear
 * layer's weight; absent where it wants none. `want` says once that they will be used (the memory is taken
 * then), `prepare` makes all that are stale. */
UP_API up_status up_model_want_prepared(up_model *model, int param, int64_t first, int64_t rows,
                                        up_dtype dtype, int backward);
UP_API up_view up_model_prepared(const up_model *model, int param, int64_t first, int64_t rows,
                                 up_dtype dtype);
UP_API up_status up_model_prepare(up_model *model);
UP_API size_t up_model_prepared_bytes(const up_model *model);

#ifdef __cplusplus
}
#endif
#endif
