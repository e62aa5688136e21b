/* index.c - the command index: a file of features to search in; what is in it already is not encoded again.
 */
#include "cli/bulk.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/items.h"
#include "files/npy.h"
#include "files/weights.h"
#include "infer/index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A row to be: from the index that there was, or from what is encoded now. */
typedef struct row {
    up_index_entry entry;
    const float *feature;
} row;

typedef struct building {
    up_bulk bulk;
    const char *path;
    up_index *old; /* NULL: none, or of another model */
    up_index_about about;
    up_arg_list changed; /* items that are encoded */
    int *places;         /* [changed] where they are among all */
    row *rows;           /* [items] feature NULL: could not be read */
    up_bulk_features features;
} building;

static int by_name(const void *a, const void *b) {
    return strcmp(((const row *)a)->entry.name, ((const row *)b)->entry.name);
}

static const row *find(const row *sorted, size_t n, const char *name) {
    const row key = {.entry = {.name = name}};
    return n ? bsearch(&key, sorted, n, sizeof *sorted, by_name) : NULL;
}

/* The rows of the old index by name; NULL: none, or no memory. */
static row *old_rows(const up_index *old, size_t *n) {
    *n = old ? (size_t)up_index_about_of(old).count : 0;
    row *rows = malloc((*n + 1) * sizeof *rows);
    for (size_t i = 0; rows && i < *n; i++)
        rows[i] = (row){up_index_entry_at(old, (int64_t)i), up_index_row(old, (int64_t)i)};
    if (rows) qsort(rows, *n, sizeof *rows, by_name);
    return rows;
}

static up_index_entry entry_of(const up_arg_item *item) {
    struct stat about;
    up_index_entry entry = {.name = item->value};
    if (strcmp(item->flag, "text") && !stat(item->value, &about)) {
        entry.size = about.st_size;
        entry.time = (int64_t)about.st_mtim.tv_sec * 1000000000 + about.st_mtim.tv_nsec;
    }
    return entry;
}

/* What is as it was keeps its feature; the others are to be encoded. */
static up_status choose(building *b) {
    const up_arg_list *items = b->bulk.items;
    size_t n;
    up_status status = UP_OK;
    row *old = old_rows(b->old, &n);
    b->rows = calloc((size_t)items->count + 1, sizeof *b->rows);
    b->places = malloc(((size_t)items->count + 1) * sizeof *b->places);
    if (!old || !b->rows || !b->places)
        UP_GO(up_fail(UP_ERR_MEMORY, b->path, "no memory for %d rows", items->count));
    for (int i = 0; i < items->count; i++) {
        up_index_entry entry = entry_of(&items->items[i]);
        const row *before = find(old, n, entry.name);
        b->rows[i].entry = entry;
        if (before && before->entry.size == entry.size && before->entry.time == entry.time) {
            b->rows[i].feature = before->feature;
            continue;
        }
        b->places[b->changed.count] = i;
        if (up_arg_list_add(&b->changed, items->items[i].flag, items->items[i].value))
            UP_GO(up_fail(UP_ERR_MEMORY, b->path, "no memory for %d rows", items->count));
    }
done:
    free(old);
    return status;
}

static up_status encode_changed(building *b) {
    const up_arg_list *all = b->bulk.items;
    up_status status = UP_OK;
    if (!b->changed.count) return UP_OK;
    b->bulk.items = &b->changed;
    status = up_bulk_encode(&b->bulk, UP_SIDE_TARGET, &b->features);
    b->bulk.items = all;
    for (int i = 0; status == UP_OK && i < b->features.count; i++)
        b->rows[b->places[b->features.places[i]]].feature =
            b->features.rows + (size_t)i * (size_t)b->about.width;
    return status;
}

static up_status give(void *context, int64_t i, up_index_entry *entry, const float **feature) {
    const row *rows = context;
    *entry = rows[i].entry;
    *feature = rows[i].feature;
    return UP_OK;
}

/* Rows that could not be read are left out, names that stand there twice are refused. */
static up_status write_rows(building *b) {
    up_status status = UP_OK;
    int n = 0;
    for (int i = 0; i < b->bulk.items->count; i++)
        if (b->rows[i].feature) b->rows[n++] = b->rows[i];
    row *sorted = malloc(((size_t)n + 1) * sizeof *sorted);
    if (!sorted) return up_fail(UP_ERR_MEMORY, b->path, "no memory for %d rows", n);
    memcpy(sorted, b->rows, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_name);
    for (int i = 1; i < n && status == UP_OK; i++)
        if (!by_name(&sorted[i - 1], &sorted[i]))
            status = up_fail(UP_ERR_ARGUMENT, sorted[i].entry.name, "is given twice");
    free(sorted);
    b->about.count = n;
    return status == UP_OK ? up_index_write(b->path, &b->about, give, b->rows) : status;
}

/* The index that there was, if this model made it. */
static up_status open_old(building *b) {
    struct stat about;
    if (stat(b->path, &about)) return UP_OK;
    UP_TRY(up_index_open(b->path, &b->old));
    up_index_about old = up_index_about_of(b->old);
    if (old.model == b->about.model && old.precision == b->about.precision && old.width == b->about.width)
        return UP_OK;
    up_index_close(b->old);
    b->old = NULL;
    fprintf(stderr, "uniperceiver: %s: was made by another model: all is encoded anew\n", b->path);
    return UP_OK;
}

/* Features that another program made, or encode: [n, D]; their names are in the list. */
static up_status write_given(building *b, const char *features) {
    up_status status = UP_OK;
    up_npy array = {0};
    int n = b->bulk.items->count;
    UP_GO(up_npy_read(features, &array));
    if (array.type != UP_NPY_F32 || array.ndim != 2 || array.shape[0] != n || array.shape[1] > INT32_MAX)
        UP_GO(up_fail(UP_ERR_FORMAT, features, "wanted 32-bit floats of shape [%d, D], a row a name", n));
    b->about.width = (int)array.shape[1];
    b->rows = calloc((size_t)n + 1, sizeof *b->rows);
    if (!b->rows) UP_GO(up_fail(UP_ERR_MEMORY, features, "no memory for %d rows", n));
    for (int i = 0; i < n; i++)
        b->rows[i] = (row){entry_of(&b->bulk.items->items[i]),
                           (const float *)array.data + (size_t)i * (size_t)b->about.width};
    UP_GO(write_rows(b));
done:
    up_npy_free(&array);
    return status;
}

static up_status build(building *b, const up_cli_model *model, const char *features) {
    up_dtype precision;
    UP_TRY(up_cli_precision(model->precision, &precision));
    UP_TRY(up_cli_open(model, &b->bulk.session));
    b->about.precision = (int)precision;
    b->about.width = up_session_width(b->bulk.session);
    UP_TRY(up_weights_digest(up_session_model(b->bulk.session), &b->about.model));
    if (features) return write_given(b, features);
    UP_TRY(open_old(b));
    UP_TRY(choose(b));
    UP_TRY(encode_changed(b));
    UP_TRY(write_rows(b));
    printf("%lld rows, %d of them encoded now\n", (long long)b->about.count, b->features.count);
    return UP_OK;
}

int up_cmd_index(int argc, char **argv) {
    up_cli_model model = {0};
    up_arg_list given = {0};
    up_items items = {0};
    const char *features = NULL;
    building b = {.bulk = {.what = "files"}};
    const up_arg args[] = {
        UP_CLI_MODEL_ROWS(model),
        UP_CLI_ITEM_ROWS(given),
        {"features", UP_ARG_TEXT, &features, "F.npy", "the features themselves, a row each", 0, 0, 0},
        UP_CLI_STRICT_ROW(b.bulk.strict),
        {"out", UP_ARG_TEXT, &b.path, "FILE", "the index; what has not changed in it stays", 1, 0, 0},
        {0}};
    const up_usage usage = {"index", "PATH...", "keep the features of pictures, videos and texts for search",
                            args};
    up_status status = UP_OK;
    int code = up_args_read(&usage, argc, argv, &given);
    if (code == UP_ARGS_GO && !given.count)
        code = up_args_wrong(&usage, "no PATH, --list, --image, --video or --text");
    if (code != UP_ARGS_GO) goto end;
    UP_GO(up_items_open(&given, &items));
    b.bulk.items = &items.list;
    UP_GO(build(&b, &model, features));
done:
    code = up_bulk_end(&b.bulk, status);
end:
    up_index_close(b.old);
    up_bulk_features_free(&b.features);
    up_arg_list_free(&b.changed);
    free(b.places);
    free(b.rows);
    up_session_close(b.bulk.session);
    up_items_free(&items);
    up_arg_list_free(&given);
    return code;
}
