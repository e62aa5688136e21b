/* inputs.c - models and inputs from the command line. */
#include "cli/inputs.h"
#include "files/file.h"
#include "files/npy.h"
#include "files/weights.h"
#include "train/settings.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

up_status up_cli_precision(const char *name, up_dtype *out) {
    *out = UP_F32;
    if (!name) return UP_OK;
    for (const up_precision *p = up_precisions; p->name; p++) {
        if (strcmp(p->name, name)) continue;
        *out = p->dtype;
        return UP_OK;
    }
    return up_fail(UP_ERR_ARGUMENT, "--precision", "\"%.40s\"; wanted f32, bf16 or f16", name);
}

up_status up_cli_open(const up_cli_model *m, up_session **out) {
    up_load_options options = {.backend = m->backend,
                               .threads = (int)m->threads,
                               .vocabulary = m->vocabulary,
                               .max_pixels = m->max_pixels,
                               .overlay = m->tuned,
                               .map = 1,
                               .cache = m->cache};
    UP_TRY(up_cli_precision(m->precision, &options.precision));
    return up_model_load(m->path, &options, out);
}

static up_status check_index(const char *path, up_session *session, const up_index *index) {
    up_index_about about = up_index_about_of(index);
    int width = up_session_width(session);
    uint64_t model;
    UP_TRY(up_weights_digest(up_session_model(session), &model));
    if (about.model != model)
        return up_fail(UP_ERR_ARGUMENT, path,
                       "was made by another model: %016" PRIx64 "; this is %016" PRIx64, about.model, model);
    if (about.width == width) return UP_OK;
    return up_fail(UP_ERR_ARGUMENT, path, "has features of width %d; the model's have %d", about.width,
                   width);
}

up_status up_cli_index_open(const char *path, up_session *session, up_index **out) {
    UP_TRY(up_index_open(path, out));
    up_status status = check_index(path, session, *out);
    if (status == UP_OK) return UP_OK;
    up_index_close(*out);
    *out = NULL;
    return status;
}

int up_cli_is_index(const char *path) {
    static const char wanted[8] = "UPINDEX";
    char first[sizeof wanted];
    int file;
    int64_t bytes;
    if (up_file_open(path, &file, &bytes) != UP_OK) return 0;
    ssize_t size = read(file, first, sizeof first);
    close(file);
    return size == sizeof first && !memcmp(first, wanted, sizeof first);
}

static int ends_with(const char *text, const char *ending) {
    size_t length = strlen(text), wanted = strlen(ending);
    return length >= wanted && !strcasecmp(text + length - wanted, ending);
}

up_cli_kind up_cli_kind_named(const char *path) {
    static const char *const pictures[] = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"};
    static const char *const videos[] = {".mp4", ".m4v", ".mkv",  ".webm", ".avi",
                                         ".mov", ".mpg", ".mpeg", ".gif"};
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++)
        if (ends_with(path, pictures[i])) return UP_FILE_IMAGE;
    for (size_t i = 0; i < sizeof videos / sizeof *videos; i++)
        if (ends_with(path, videos[i])) return UP_FILE_VIDEO;
    return ends_with(path, ".safetensors") ? UP_FILE_MODEL : UP_FILE_OTHER;
}

up_cli_kind up_cli_kind_of(const char *path, const unsigned char *bytes, size_t size) {
    up_cli_kind named = up_cli_kind_named(path);
    if (named == UP_FILE_IMAGE || named == UP_FILE_MODEL) return named;
    if (size >= 3 && !memcmp(bytes, "\xff\xd8\xff", 3)) return UP_FILE_IMAGE;
    if (size >= 4 && !memcmp(bytes, "\x89PNG", 4)) return UP_FILE_IMAGE;
    if (size >= 4 && (!memcmp(bytes, "II*", 4) || !memcmp(bytes, "MM\0*", 4))) return UP_FILE_IMAGE;
    if (size >= 2 && !memcmp(bytes, "BM", 2)) return UP_FILE_IMAGE;
    if (size >= 12 && !memcmp(bytes, "RIFF", 4) && !memcmp(bytes + 8, "WEBP", 4)) return UP_FILE_IMAGE;
    if (size >= 9 && bytes[8] == '{') return UP_FILE_MODEL; /* behind the length of its header */
    return UP_FILE_VIDEO;
}

/* --- parts --- */

up_status up_cli_ids_read(const char *what, const char *text, int32_t **ids, size_t *count) {
    *count = 0;
    *ids = malloc((strlen(text) / 2 + 1) * sizeof **ids); /* an id takes a digit and a space at least */
    if (!*ids) return up_fail(UP_ERR_MEMORY, what, "no memory for %zu bytes of ids", strlen(text));
    for (char *end;; text = end) {
        while (isspace((unsigned char)*text)) text++;
        if (!*text) return UP_OK;
        errno = 0;
        long id = strtol(text, &end, 10);
        if (errno || end == text || (*end && !isspace((unsigned char)*end)) || id < 0 || id > INT32_MAX)
            return up_fail(UP_ERR_FORMAT, what, "\"%.40s\": wanted whole numbers from 0", text);
        (*ids)[(*count)++] = (int32_t)id;
    }
}

static up_status read_ids(const char *text, up_part *part, void **memory) {
    int32_t *ids;
    *part = (up_part){.kind = UP_PART_IDS, .name = "--ids"};
    up_status status = up_cli_ids_read("--ids", text, &ids, &part->size);
    part->data = *memory = ids;
    return status;
}

/* Pixels as they enter the model: [3, S, S], or [frames, 3, S, S]. */
static up_status read_pixels(const char *path, int video, up_part *part, void **memory) {
    up_status status = UP_OK;
    up_npy array = {0};
    UP_TRY(up_npy_read(path, &array));
    int dims = video ? 4 : 3;
    const int64_t *square = array.shape + dims - 3;
    if (array.type != UP_NPY_F32 || array.ndim != dims || square[0] != 3 || square[1] != square[2] ||
        (video && (array.shape[0] < 1 || array.shape[0] > INT32_MAX)))
        UP_GO(up_fail(UP_ERR_FORMAT, path, "wanted 32-bit floats of shape %s",
                      video ? "[frames, 3, S, S]" : "[3, S, S]"));
    *memory = array.data;
    *part = (up_part){.kind = UP_PART_PIXELS,
                      .data = array.data,
                      .size = (size_t)array.count,
                      .frames = video ? (int)array.shape[0] : 0,
                      .name = path};
    array.data = NULL;
done:
    up_npy_free(&array);
    return status;
}

/* A whole file; -: all of standard input. */
static up_status read_whole(const char *path, void **data, size_t *size) {
    if (strcmp(path, "-")) return up_file_read(path, data, size);
    char *all = NULL;
    size_t room = 0;
    *data = NULL;
    *size = 0;
    do {
        if (*size + 1 >= room) {
            room = room ? 2 * room : 65536;
            char *grown = realloc(all, room);
            if (!grown) {
                free(all);
                return up_fail(UP_ERR_MEMORY, "standard input", "no memory for more than %zu bytes", *size);
            }
            all = grown;
        }
        *size += fread(all + *size, 1, room - 1 - *size, stdin);
    } while (!feof(stdin) && !ferror(stdin));
    all[*size] = 0;
    *data = all;
    return ferror(stdin) ? up_fail(UP_ERR_IO, "standard input", "cannot read: %s", strerror(errno)) : UP_OK;
}

static up_status read_part(const up_arg_item *item, up_part *part, void **memory) {
    const char *path = item->value;
    if (ends_with(item->flag, "text")) {
        *part = (up_part){.kind = UP_PART_TEXT, .data = path, .size = strlen(path), .name = "text"};
        return UP_OK;
    }
    if (ends_with(item->flag, "ids")) return read_ids(path, part, memory);
    if (ends_with(path, ".npy")) return read_pixels(path, ends_with(item->flag, "video"), part, memory);
    size_t size;
    UP_TRY(read_whole(path, memory, &size));
    if (!size) return up_fail(UP_ERR_FORMAT, path, "is empty");
    int video = ends_with(item->flag, "video") ||
                (ends_with(item->flag, "path") && up_cli_kind_of(path, *memory, size) == UP_FILE_VIDEO);
    *part =
        (up_part){.kind = video ? UP_PART_VIDEO : UP_PART_IMAGE, .data = *memory, .size = size, .name = path};
    return UP_OK;
}

up_status up_cli_parts_read(const up_arg_item *items, int count, up_cli_parts *out) {
    *out = (up_cli_parts){.count = count};
    out->list = calloc((size_t)count + 1, sizeof *out->list);
    out->memory = calloc((size_t)count + 1, sizeof *out->memory);
    if (!out->list || !out->memory) return up_fail(UP_ERR_MEMORY, "inputs", "no memory for %d", count);
    for (int i = 0; i < count; i++) UP_TRY(read_part(&items[i], &out->list[i], &out->memory[i]));
    return UP_OK;
}

void up_cli_parts_free(up_cli_parts *parts) {
    for (int i = 0; parts->memory && i < parts->count; i++) free(parts->memory[i]);
    free(parts->memory);
    free(parts->list);
    *parts = (up_cli_parts){0};
}

/* --- lines --- */

/* Without what is around it of `blanks`, in place. */
static char *trim(char *text, const char *blanks) {
    text += strspn(text, blanks);
    size_t length = strlen(text);
    while (length && strchr(blanks, text[length - 1])) length--;
    text[length] = 0;
    return text;
}

static up_status split(const char *name, char separator, up_cli_lines *out) {
    size_t room = 1;
    for (const char *c = out->text; *c; c++) room += *c == separator;
    out->list = malloc(room * sizeof *out->list);
    if (!out->list) return up_fail(UP_ERR_MEMORY, name, "no memory for its list");
    for (char *at = out->text, *next; at; at = next) {
        next = strchr(at, separator);
        if (next) *next++ = 0;
        at = trim(at, separator == '\n' ? " \r" : " \r\n\t"); /* tabs of a line part its cells */
        if (*at && out->count < INT32_MAX) out->list[out->count++] = at;
    }
    return out->count ? UP_OK : up_fail(UP_ERR_FORMAT, name, "nothing in it");
}

up_status up_cli_lines_read(const char *path, up_cli_lines *out) {
    void *text;
    size_t size;
    *out = (up_cli_lines){0};
    UP_TRY(read_whole(path, &text, &size));
    out->text = text;
    if (strlen(out->text) != size) return up_fail(UP_ERR_FORMAT, path, "holds a zero byte: not a text file");
    return split(path, '\n', out);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

up_status up_cli_lines_distinct(const char *name, const up_cli_lines *lines) {
    up_status status = UP_OK;
    const char **sorted = malloc(((size_t)lines->count + 1) * sizeof *sorted);
    if (!sorted) return up_fail(UP_ERR_MEMORY, name, "no memory for %d", lines->count);
    for (int i = 0; i < lines->count; i++) sorted[i] = lines->list[i];
    qsort(sorted, (size_t)lines->count, sizeof *sorted, by_text);
    for (int i = 1; i < lines->count && status == UP_OK; i++)
        if (!strcmp(sorted[i - 1], sorted[i]))
            status = up_fail(UP_ERR_ARGUMENT, name, "\"%.80s\" stands there twice", sorted[i]);
    free(sorted);
    return status;
}

up_status up_cli_split(const char *text, up_cli_lines *out) {
    *out = (up_cli_lines){.text = strdup(text)};
    return out->text ? split("list", ',', out) : up_fail(UP_ERR_MEMORY, "list", "no memory");
}

void up_cli_lines_free(up_cli_lines *lines) {
    free(lines->text);
    free(lines->list);
    *lines = (up_cli_lines){0};
}
