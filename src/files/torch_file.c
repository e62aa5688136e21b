/* torch_file.c - checkpoints of PyTorch. An archive NAME/ holds data.pkl, a pickle in which a tensor is a
 * call of _rebuild_tensor_v2 over a storage that it names by a key, and the storages' bytes under data/KEY.
 */
#include "files/torch_file.h"
#include "files/pickle.h"
#include "files/zip.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LONGEST_NAME = 200, LONGEST_FOLDER = 200, LONGEST_KEY = 100 };
static const char pickle_name[] = "/data.pkl";

struct up_torch_file {
    const char *path; /* of its own */
    void *map;
    size_t size;
    up_zip *zip;
    unsigned char *checked; /* [members]: 1 once the CRC-32 was right */
    size_t folder;          /* length of the archive's folder in the names of its members */
    const char *prefix;     /* a member's name, of which the folder is the beginning */
    void *inflated;         /* the pickle where it lay packed */
    up_pickle *pickle;
    up_safetensor *tensors; /* [count]; the names are their own memory */
    size_t *members;        /* [count]: of each tensor's storage */
    const up_safetensor **by_name;
    size_t count;
};

/* --- names that may stand in a pickle --- */

/* Whole modules (up to a dot), and single names of Python's own. Nothing of them is called; the list is kept
 * short so that a file which tries something says so. */
static const char *const harmless_modules[] = {"argparse", "collections", "deepspeed", "fvcore",
                                               "numpy",    "omegaconf",   "torch",     "yacs"};
static const char *const harmless_names[] = {
    "_codecs.encode",        "copyreg._reconstructor", "copy_reg._reconstructor", "builtins.object",
    "__builtin__.object",    "builtins.set",           "__builtin__.set",         "builtins.frozenset",
    "__builtin__.frozenset", "builtins.bytearray",     "builtins.complex",        "builtins.slice"};

static int is_harmless(const up_pickle_value *global) {
    for (size_t i = 0; i < sizeof harmless_names / sizeof *harmless_names; i++)
        if (up_pickle_is(global, UP_PICKLE_GLOBAL, harmless_names[i])) return 1;
    for (size_t i = 0; i < sizeof harmless_modules / sizeof *harmless_modules; i++) {
        size_t length = strlen(harmless_modules[i]);
        if (global->size > length && global->text[length] == '.' &&
            !memcmp(global->text, harmless_modules[i], length))
            return 1;
    }
    return 0;
}

static up_status check_globals(const up_torch_file *f) {
    const up_pickle_value *all = up_pickle_globals(f->pickle);
    for (size_t i = 0; i < all->count; i++) {
        const up_pickle_value *g = all->items[i];
        if (is_harmless(g)) continue;
        return up_fail(UP_ERR_FORMAT, f->path,
                       "its pickle names \"%.*s\" at byte %zu; nothing is called here",
                       (int)(g->size < LONGEST_NAME ? g->size : LONGEST_NAME), g->text, g->at);
    }
    return UP_OK;
}

/* --- element types --- */

static const struct {
    const char *storage, *dtype;
    up_safetensors_type type;
} types[] = {{"torch.FloatStorage", "torch.float32", UP_ST_F32},
             {"torch.HalfStorage", "torch.float16", UP_ST_F16},
             {"torch.BFloat16Storage", "torch.bfloat16", UP_ST_BF16},
             {"torch.DoubleStorage", "torch.float64", UP_ST_F64},
             {"torch.LongStorage", "torch.int64", UP_ST_I64},
             {"torch.IntStorage", "torch.int32", UP_ST_I32},
             {"torch.ShortStorage", "torch.int16", UP_ST_I16},
             {"torch.CharStorage", "torch.int8", UP_ST_I8},
             {"torch.ByteStorage", "torch.uint8", UP_ST_U8},
             {"torch.BoolStorage", "torch.bool", UP_ST_BOOL}};
enum { TYPES = sizeof types / sizeof types[0] };
static const char untyped[] = "torch.storage.UntypedStorage"; /* counts bytes; the tensor names its dtype */

/* --- one tensor --- */

static up_status refuse(const up_torch_file *f, const up_pickle_value *at, const char *name,
                        const char *why) {
    char what[512];
    snprintf(what, sizeof what, "%s: %.*s", f->path, LONGEST_NAME, name);
    return up_fail(UP_ERR_FORMAT, what, "%s (byte %zu of its pickle)", why, at->at);
}

static int is_call(const up_pickle_value *v, const char *function, size_t least) {
    return v->kind == UP_PICKLE_CALL && v->count == 2 &&
           up_pickle_is(v->items[0], UP_PICKLE_GLOBAL, function) && v->items[1]->kind == UP_PICKLE_LIST &&
           v->items[1]->count >= least;
}

/* ('storage', torch.XStorage, key, place, elements); *elements counts what the tensor counts in. */
static up_status read_storage(const up_torch_file *f, const char *name, const up_pickle_value *storage,
                              const up_pickle_value *dtype, up_safetensor *t, size_t *member,
                              int64_t *elements) {
    const up_pickle_value *id = storage->kind == UP_PICKLE_PERSISTENT ? storage->items[0] : storage;
    char path[LONGEST_FOLDER + LONGEST_KEY + 16];
    unsigned k = 0;
    size_t bytes;
    if (id == storage || id->kind != UP_PICKLE_LIST || id->count != 5 ||
        !up_pickle_is(id->items[0], UP_PICKLE_TEXT, "storage") || id->items[2]->kind != UP_PICKLE_TEXT ||
        id->items[4]->kind != UP_PICKLE_INT || id->items[4]->whole < 0)
        return refuse(f, storage, name, "its storage is none");
    int bare = dtype && up_pickle_is(id->items[1], UP_PICKLE_GLOBAL, untyped);
    while (k < TYPES && !up_pickle_is(bare ? dtype : id->items[1], UP_PICKLE_GLOBAL,
                                      bare ? types[k].dtype : types[k].storage))
        k++;
    if (k == TYPES) return refuse(f, id->items[1], name, "its type of elements is not known");
    t->type = types[k].type;
    const up_pickle_value *key = id->items[2];
    if (!key->size || key->size > LONGEST_KEY || memchr(key->text, 0, key->size))
        return refuse(f, key, name, "its storage has no sound key");
    snprintf(path, sizeof path, "%.*s/data/%.*s", (int)f->folder, f->prefix, (int)key->size, key->text);
    const up_zip_member *found = up_zip_find(f->zip, path);
    if (!found) return refuse(f, key, name, "its storage is missing");
    if (found->deflated) return refuse(f, key, name, "its storage is packed; PyTorch stores it as it is");
    size_t size = up_safetensors_type_size(t->type);
    if (__builtin_mul_overflow((size_t)id->items[4]->whole, bare ? 1 : size, &bytes) || bytes != found->bytes)
        return refuse(f, id->items[4], name, "its storage has another size than it says");
    *elements = (int64_t)(found->bytes / size);
    *member = (size_t)(found - up_zip_at(f->zip, 0));
    t->data = (const char *)f->map + found->begin;
    return UP_OK;
}

/* Shape, strides and offset: a dense row-major piece that lies within the storage. */
static up_status read_place(const up_torch_file *f, const char *name, const up_pickle_value *arguments,
                            int64_t elements, up_safetensor *t) {
    const up_pickle_value *offset = arguments->items[1], *shape = arguments->items[2],
                          *strides = arguments->items[3];
    int64_t dense = 1;
    if (offset->kind != UP_PICKLE_INT || offset->whole < 0 || shape->kind != UP_PICKLE_LIST ||
        strides->kind != UP_PICKLE_LIST || strides->count != shape->count)
        return refuse(f, arguments, name, "offset, shape and strides are none");
    if (shape->count > UP_SAFETENSORS_MAX_DIMS) return refuse(f, shape, name, "too many dimensions");
    t->ndim = (int)shape->count;
    for (int d = t->ndim; d-- > 0;) {
        const up_pickle_value *n = shape->items[d], *stride = strides->items[d];
        if (n->kind != UP_PICKLE_INT || stride->kind != UP_PICKLE_INT || n->whole < 0)
            return refuse(f, n, name, "a size or a stride is no number from 0");
        if (n->whole > 1 && stride->whole != dense)
            return refuse(f, stride, name, "is not contiguous: make it so before it is saved");
        t->shape[d] = n->whole;
        if (__builtin_mul_overflow(dense, n->whole, &dense))
            return refuse(f, n, name, "its shape is too large");
    }
    if (dense > elements || offset->whole > elements - dense)
        return refuse(f, arguments, name, "lies outside its storage");
    size_t size = up_safetensors_type_size(t->type);
    t->count = dense;
    t->bytes = (size_t)dense * size;
    t->data = (const char *)t->data + (size_t)offset->whole * size;
    return UP_OK;
}

static up_status read_tensor(const up_torch_file *f, const char *name, const up_pickle_value *value,
                             up_safetensor *t, size_t *member) {
    enum { V2_ARGUMENTS = 6, V3_ARGUMENTS = 7, DTYPE = 6 };
    int64_t elements = 0;
    if (is_call(value, "torch._utils._rebuild_parameter", 1)) value = value->items[1]->items[0];
    int v3 = is_call(value, "torch._utils._rebuild_tensor_v3", V3_ARGUMENTS);
    if (!v3 && !is_call(value, "torch._utils._rebuild_tensor_v2", V2_ARGUMENTS))
        return refuse(f, value, name, "is no plain tensor");
    const up_pickle_value *arguments = value->items[1];
    UP_TRY(read_storage(f, name, arguments->items[0], v3 ? arguments->items[DTYPE] : NULL, t, member,
                        &elements));
    return read_place(f, name, arguments, elements, t);
}

/* --- all of them --- */

static int compare_name(const void *a, const void *b) {
    return strcmp((*(const up_safetensor *const *)a)->name, (*(const up_safetensor *const *)b)->name);
}

static const up_pickle_value *find_dictionary(const up_torch_file *f) {
    static const char *const keys[] = {"model", "module", "state_dict"};
    const up_pickle_value *root = up_pickle_root(f->pickle);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const up_pickle_value *found = up_pickle_get(root, keys[i]);
        if (found && found->kind == UP_PICKLE_DICT) return found;
    }
    return root;
}

static up_status read_entry(up_torch_file *f, const up_pickle_value *key, const up_pickle_value *value) {
    up_safetensor *t = &f->tensors[f->count];
    if (key->kind != UP_PICKLE_TEXT || !key->size || key->size > LONGEST_NAME ||
        memchr(key->text, 0, key->size))
        return refuse(f, key, "state dict", "a key is no name of a tensor");
    t->name = strndup(key->text, key->size);
    if (!t->name) return up_fail(UP_ERR_MEMORY, f->path, "no memory for its tensors' names");
    f->by_name[f->count] = t;
    f->count++;
    return read_tensor(f, t->name, value, t, &f->members[t - f->tensors]);
}

static up_status read_dictionary(up_torch_file *f) {
    const up_pickle_value *dict = find_dictionary(f);
    if (dict->kind != UP_PICKLE_DICT || !dict->count)
        return up_fail(UP_ERR_FORMAT, f->path, "holds no dictionary of tensors");
    f->tensors = calloc(dict->count / 2, sizeof *f->tensors);
    f->members = calloc(dict->count / 2, sizeof *f->members);
    f->by_name = calloc(dict->count / 2, sizeof *f->by_name);
    if (!f->tensors || !f->members || !f->by_name)
        return up_fail(UP_ERR_MEMORY, f->path, "no memory for %zu tensors", dict->count / 2);
    for (size_t i = 0; i < dict->count; i += 2) UP_TRY(read_entry(f, dict->items[i], dict->items[i + 1]));
    qsort(f->by_name, f->count, sizeof *f->by_name, compare_name);
    for (size_t i = 1; i < f->count; i++)
        if (!strcmp(f->by_name[i - 1]->name, f->by_name[i]->name))
            return up_fail(UP_ERR_FORMAT, f->path, "tensor \"%s\" stands twice", f->by_name[i]->name);
    return UP_OK;
}

/* --- the archive --- */

/* The one member NAME/data.pkl, whose folder is that of all others. */
static up_status find_pickle(up_torch_file *f, const up_zip_member **out) {
    size_t ending = strlen(pickle_name);
    *out = NULL;
    for (size_t i = 0; i < up_zip_count(f->zip); i++) {
        const up_zip_member *m = up_zip_at(f->zip, i);
        size_t length = strlen(m->name);
        if (length <= ending || strcmp(m->name + length - ending, pickle_name)) continue;
        if (memchr(m->name, '/', length - ending)) continue;
        if (*out) return up_fail(UP_ERR_FORMAT, f->path, "has two pickles");
        *out = m;
        f->prefix = m->name;
        f->folder = length - ending;
    }
    if (!*out) return up_fail(UP_ERR_FORMAT, f->path, "is no checkpoint of PyTorch: it has no data.pkl");
    if (f->folder > LONGEST_FOLDER)
        return up_fail(UP_ERR_FORMAT, f->path, "its folder's name is longer than %d", LONGEST_FOLDER);
    return UP_OK;
}

static up_status check_byte_order(const up_torch_file *f) {
    static const char little[] = "little";
    char name[LONGEST_FOLDER + 16];
    const void *text;
    void *owned;
    snprintf(name, sizeof name, "%.*s/byteorder", (int)f->folder, f->prefix);
    const up_zip_member *m = up_zip_find(f->zip, name);
    if (!m) return UP_OK; /* older files, which were little-endian wherever they were made */
    if (m->bytes != strlen(little))
        return up_fail(UP_ERR_UNSUPPORTED, f->path, "its byte order is not little-endian");
    UP_TRY(up_zip_read(f->zip, m, &text, &owned));
    int differs = memcmp(text, little, strlen(little));
    free(owned);
    return differs ? up_fail(UP_ERR_UNSUPPORTED, f->path, "its byte order is not little-endian") : UP_OK;
}

static up_status check_kind(const up_torch_file *f) {
    const unsigned char *start = f->map;
    if (f->size >= 2 && start[0] == 'P' && start[1] == 'K') return UP_OK;
    if (start[0] == 0x80)
        return up_fail(UP_ERR_UNSUPPORTED, f->path,
                       "is of PyTorch's format before 1.6: load it there and save it again");
    return up_fail(UP_ERR_FORMAT, f->path, "is no checkpoint of PyTorch");
}

static up_status read_file(const char *path, up_torch_file *f) {
    const up_zip_member *m = NULL;
    const void *pickle = NULL;
    f->path = strdup(path);
    if (!f->path) return up_fail(UP_ERR_MEMORY, path, "no memory for its name");
    UP_TRY(up_file_map(path, &f->map, &f->size));
    UP_TRY(check_kind(f));
    UP_TRY(up_zip_open(f->path, f->map, f->size, &f->zip));
    f->checked = calloc(up_zip_count(f->zip) + 1, 1);
    if (!f->checked) return up_fail(UP_ERR_MEMORY, path, "no memory for its members");
    UP_TRY(find_pickle(f, &m));
    UP_TRY(check_byte_order(f));
    UP_TRY(up_zip_read(f->zip, m, &pickle, &f->inflated));
    UP_TRY(up_pickle_open(f->path, pickle, m->bytes, &f->pickle));
    UP_TRY(check_globals(f));
    return read_dictionary(f);
}

up_status up_torch_open(const char *path, up_torch_file **out) {
    *out = NULL;
    up_torch_file *f = calloc(1, sizeof *f);
    if (!f) return up_fail(UP_ERR_MEMORY, path, "no memory for its directory");
    up_status status = read_file(path, f);
    if (status == UP_OK)
        *out = f;
    else
        up_torch_close(f);
    return status;
}

void up_torch_close(up_torch_file *f) {
    if (!f) return;
    for (size_t i = 0; i < f->count; i++) free((char *)f->tensors[i].name);
    free(f->tensors);
    free(f->members);
    free(f->by_name);
    up_pickle_close(f->pickle);
    free(f->inflated);
    up_zip_close(f->zip);
    free(f->checked);
    if (f->map) munmap(f->map, f->size);
    free((char *)f->path);
    free(f);
}

size_t up_torch_count(const up_torch_file *f) {
    return f->count;
}

const up_safetensor *up_torch_at(const up_torch_file *f, size_t i) {
    return i < f->count ? &f->tensors[i] : NULL;
}

const up_safetensor *up_torch_find(const up_torch_file *f, const char *name) {
    const up_safetensor wanted = {.name = name}, *key = &wanted;
    const up_safetensor **found = bsearch(&key, f->by_name, f->count, sizeof *f->by_name, compare_name);
    return found ? *found : NULL;
}

up_status up_torch_check(up_torch_file *f, const up_safetensor *t) {
    size_t member = f->members[t - f->tensors];
    const void *data;
    void *owned;
    if (f->checked[member]) return UP_OK;
    UP_TRY(up_zip_read(f->zip, up_zip_at(f->zip, member), &data, &owned));
    free(owned); /* NULL: storages lie as they are */
    f->checked[member] = 1;
    return UP_OK;
}

void up_torch_release(const up_torch_file *f, const up_safetensor *t) {
    const up_zip_member *m = up_zip_at(f->zip, f->members[t - f->tensors]);
    up_file_release((const char *)f->map + m->begin, m->bytes);
}
