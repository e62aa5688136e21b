/* weights.h - inside of model files: the configuration as JSON, and reading weights whose configuration lies
 * elsewhere. The public face is up_model_read and up_model_write in uniperceiver/model.h; the format is in
 * docs/file-formats.md. */
#ifndef UP_FILES_WEIGHTS_H
#define UP_FILES_WEIGHTS_H

#include "files/safetensors.h"
#include "uniperceiver/model.h"

/* The fields of up_config under their own names, the tasks as a list of names; malloc'ed, one line. */
up_status up_config_to_json(const up_config *config, char **text);

/* The reverse; `name` is the file that messages name. Unknown, missing and ill-typed fields are errors, and
 * so is a configuration that up_config_check refuses. */
up_status up_config_from_json(const char *name, const char *text, up_config *out);

/* Weights from safetensors for a given configuration (`config` NULL: the one in the file's metadata). */
up_status up_model_read_with(up_backend *backend, const char *path, const up_config *config, up_model **out);

/* Of an overlay's file: the fingerprint of the model that it belongs to, 16 hexadecimal digits. *out NULL:
 * the file is of a whole model. */
up_status up_weights_base(const char *path, const up_safetensors *file, const char **out);

/* Of everything that a model computes with: its configuration, and names, shapes and bits of all tensors,
 * those of its base too (digest.h). Reads them all: 0.1 s for Base. */
up_status up_weights_digest(up_model *model, uint64_t *out);

/* What up_model_write would write now, copied to the host: 4 bytes a weight. `put` writes it, from any
 * thread, whatever has become of the weights since; the model must live on. `name` is for messages. Not of a
 * model that is mapped: its places are the file's. */
typedef struct up_weights_image up_weights_image;
up_status up_weights_take(up_model *model, const char *name, up_weights_image **out);
up_status up_weights_put(up_weights_image *image, const char *path);
void up_weights_image_free(up_weights_image *image); /* NULL is fine */
/* The values of a tensor that the model owns, to be replaced by others before they are written. */
float *up_weights_taken(up_weights_image *image, int param);

#endif
