/* words_file.c - the features of a target set, kept in a file, so that they are encoded once and not by every
 * process: of words beside the model, of other sets where a folder for them is named. The file says which
 * weights, words and arithmetic it is of, and what its bytes are: whatever does not agree counts as no file.
 * Nothing that goes wrong here is an error: then the features are encoded. Format: docs/file-formats.md. */
#include "files/digest.h"
#include "files/file.h"
#include "files/safetensors.h"
#include "files/weights.h"
#include "infer/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* To encode a set takes some 40 times as long as to check its file already at this size. */
enum { WORTH_KEEPING = 1000 };

enum { PAIRS = 6, TEXT = 24 };

/* What is written into the file, and must be found in it. */
typedef struct label {
    char model[TEXT], words[TEXT], data[TEXT];
    const char *pairs[PAIRS][2];
} label;

static const char *precision_name(up_dtype dtype) {
    return dtype == UP_BF16 ? "bf16" : dtype == UP_F16 ? "f16" : "f32";
}

/* A set and the digest of what it holds. */
typedef struct kept_set {
    up_session *session;
    up_target_set *set;
    uint64_t content;
} kept_set;

static kept_set words_of(up_session *s) {
    return (kept_set){s, s->words, up_digest(0, s->word_ids, (size_t)s->word_count * sizeof *s->word_ids)};
}

static uint64_t digest_of(const kept_set *k) {
    const char *backend = k->session->backend->ops->name, *precision = precision_name(k->session->precision);
    return up_digest(up_digest(k->content, backend, strlen(backend)), precision, strlen(precision));
}

static up_status make_label(const kept_set *k, const void *features, size_t bytes, label *l) {
    up_session *s = k->session;
    uint64_t weights;
    UP_TRY(up_weights_digest(s->model, &weights));
    up_digest_text(weights, l->model);
    up_digest_text(digest_of(k), l->words);
    up_digest_text(up_digest(0, features, bytes), l->data);
    const char *pairs[PAIRS][2] = {{"format", "uniperceiver features 1"},
                                   {"program", UP_VERSION},
                                   {"precision", precision_name(s->precision)},
                                   {"model", l->model},
                                   {"words", l->words},
                                   {"data", l->data}};
    memcpy(l->pairs, pairs, sizeof pairs);
    return UP_OK;
}

static const char *name_in_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* malloc'ed; NULL: these words are not kept. */
static char *path_of(const kept_set *k) {
    const up_session *s = k->session;
    char words[TEXT], *path = NULL;
    int as_loaded = s->loaded_version == up_model_version(s->model);
    if (!s->keeps_words || !as_loaded || up_target_set_count(k->set) < WORTH_KEEPING) return NULL;
    up_digest_text(digest_of(k), words);
    int length = s->cache ? asprintf(&path, "%s/%s.%s.features", s->cache, name_in_folder(s->path), words)
                          : asprintf(&path, "%s.%s.features", s->path, words);
    return length < 0 ? NULL : path;
}

/* --- reading --- */

static const up_safetensor *find_features(const kept_set *k, const up_safetensors *file) {
    const up_safetensor *t = up_safetensors_find(file, "features");
    int fits = t && up_safetensors_count(file) == 1 && t->type == UP_ST_F32 && t->ndim == 2 &&
               t->shape[0] == up_target_set_count(k->set) && t->shape[1] == up_session_width(k->session);
    return fits ? t : NULL;
}

static int agrees(const up_safetensors *file, const label *l) {
    int same = 1;
    for (int i = 0; i < PAIRS; i++) {
        const char *found = up_safetensors_metadata(file, l->pairs[i][0]);
        same &= found && !strcmp(found, l->pairs[i][1]);
    }
    return same;
}

static up_status read_file(const kept_set *k, const char *path, int *done) {
    up_status status = UP_OK;
    up_safetensors *file = NULL;
    label l;
    UP_TRY(up_safetensors_open(path, &file));
    const up_safetensor *t = find_features(k, file);
    if (!t) goto done;
    UP_GO(make_label(k, t->data, t->bytes, &l));
    if (!agrees(file, &l)) goto done;
    UP_GO(up_target_set_restore(k->set, t->data));
    *done = 1;
done:
    up_safetensors_close(file);
    return status;
}

static int read_set(const kept_set *k) {
    char *path = path_of(k);
    int done = 0;
    if (path && read_file(k, path, &done) != UP_OK) done = 0;
    free(path);
    return done;
}

/* --- writing --- */

static up_status write_features(const kept_set *k, const char *path, const float *features, size_t bytes) {
    label l;
    up_safetensors_writer *writer;
    const up_safetensor spec = {.name = "features",
                                .type = UP_ST_F32,
                                .ndim = 2,
                                .shape = {up_target_set_count(k->set), up_session_width(k->session)}};
    UP_TRY(make_label(k, features, bytes, &l));
    UP_TRY(up_safetensors_begin(path, (const char *const(*)[2])l.pairs, PAIRS, &spec, 1, &writer));
    up_status status = up_safetensors_put(writer, features, bytes);
    if (status == UP_OK) return up_safetensors_commit(writer);
    up_safetensors_abort(writer);
    return status;
}

static void write_set(const kept_set *k) {
    up_session *s = k->session;
    char *path = path_of(k);
    size_t bytes = (size_t)up_target_set_count(k->set) * (size_t)up_session_width(s) * sizeof(float);
    float *features = path ? malloc(bytes) : NULL;
    up_status status = features ? UP_OK : UP_ERR_MEMORY;
    if (status == UP_OK)
        status = s->backend->ops->download(s->backend, features, up_target_set_features(k->set)->raw);
    if (status == UP_OK && s->cache) status = up_make_folders(s->cache);
    if (status == UP_OK) write_features(k, path, features, bytes);
    free(features);
    free(path);
}

/* --- of words, and of other sets --- */

int up_words_file_read(up_session *s) {
    kept_set k = words_of(s);
    return read_set(&k);
}

void up_words_file_write(up_session *s) {
    kept_set k = words_of(s);
    write_set(&k);
}

int up_set_file_read(up_session *s, up_target_set *set, uint64_t content) {
    const kept_set k = {s, set, content};
    return s->cache && read_set(&k);
}

void up_set_file_write(up_session *s, up_target_set *set, uint64_t content) {
    const kept_set k = {s, set, content};
    if (s->cache) write_set(&k);
}
