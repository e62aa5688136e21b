/* rows.c - features to files. The rows go to PATH.partial; after each lot its journal says how many items and
 * bytes are done, and which items were left out, so that a later process cuts off what is behind and goes on.
 */
#include "cli/rows.h"
#include "files/npy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <utf8proc.h>

static const struct {
    const char *name, *ending;
} forms[] = {
    [UP_ROWS_NPY] = {"npy", ".npy"}, [UP_ROWS_JSON] = {"jsonl", ".jsonl"}, [UP_ROWS_TSV] = {"tsv", ".tsv"}};
enum { FORMS = sizeof forms / sizeof *forms };

up_status up_rows_form_of(const char *path, const char *wanted, up_rows_form *out) {
    size_t length = strlen(path);
    *out = strcmp(path, "-") ? UP_ROWS_NPY : UP_ROWS_JSON;
    for (int f = 0; f < FORMS; f++) {
        size_t ending = strlen(forms[f].ending);
        int named = !wanted && length > ending && !strcasecmp(path + length - ending, forms[f].ending);
        if (!named && !(wanted && !strcmp(wanted, forms[f].name))) continue;
        *out = (up_rows_form)f;
        wanted = NULL;
        break;
    }
    if (wanted) return up_fail(UP_ERR_ARGUMENT, "--format", "\"%.40s\"; wanted npy, jsonl or tsv", wanted);
    if (*out == UP_ROWS_NPY && !strcmp(path, "-"))
        return up_fail(UP_ERR_ARGUMENT, "--format", "npy begins with its number of rows: it needs a file");
    return UP_OK;
}

static up_status wrong(const up_rows *r, const char *path) {
    return up_fail(UP_ERR_IO, r->stream == stdout ? "standard output" : path, "cannot write: %s",
                   errno ? strerror(errno) : "failed");
}

/* --- the journal: a line "key", then a line "items bytes rows left-out..." a lot --- */

typedef struct progress {
    int64_t done, bytes, count;
} progress;

/* One line; 0: it is not whole, or says what cannot be. */
static int read_line(up_rows *r, const char *line, progress *at) {
    progress next;
    int used;
    if (!strchr(line, '\n')) return 0;
    if (sscanf(line, "%" SCNd64 " %" SCNd64 " %" SCNd64 "%n", &next.done, &next.bytes, &next.count, &used) !=
        3)
        return 0;
    if (next.done < at->done || next.done > r->items->count || next.bytes < at->bytes ||
        next.count > next.done)
        return 0;
    for (char *end; line[used] == ' '; used = (int)(end - line)) {
        long place = strtol(line + used, &end, 10);
        if (place < at->done || place >= next.done) return 0;
        r->left[place] = 1;
    }
    *at = next;
    return 1;
}

static void read_journal(up_rows *r, uint64_t key, progress *at) {
    char *line = NULL;
    size_t room = 0;
    uint64_t found;
    FILE *file = fopen(r->journal_path, "re");
    if (!file) return;
    if (getline(&line, &room, file) > 0 && sscanf(line, "%" SCNx64, &found) == 1 && found == key)
        while (getline(&line, &room, file) > 0 && read_line(r, line, at)) continue;
    free(line);
    fclose(file);
}

static up_status write_journal(up_rows *r, int next) {
    int64_t bytes = ftello(r->stream);
    if (!r->journal) return UP_OK;
    if (fflush(r->stream)) return wrong(r, r->path);
    fprintf(r->journal, "%d %" PRId64 " %" PRId64, next, bytes, r->count);
    for (int i = r->done; i < next; i++)
        if (r->left[i]) fprintf(r->journal, " %d", i);
    fputc('\n', r->journal);
    return fflush(r->journal) ? wrong(r, r->journal_path) : UP_OK;
}

/* --- beginning --- */

static up_status put_head(up_rows *r) {
    unsigned char head[UP_NPY_HEAD_ROOM];
    size_t length;
    UP_TRY(up_npy_head(r->path, UP_NPY_F32, 2, (int64_t[]){r->count, r->width}, head, &length));
    return up_file_put(&r->file, head, length);
}

static up_status begin(up_rows *r) {
    memset(r->left, 0, (size_t)r->items->count);
    UP_TRY(up_file_begin(r->path, &r->file));
    r->stream = r->file.stream;
    return r->form == UP_ROWS_NPY ? put_head(r) : UP_OK;
}

static up_status open_journal(up_rows *r, uint64_t key) {
    progress at = {0};
    read_journal(r, key, &at);
    int goes_on = at.done && up_file_continue(r->path, at.bytes, &r->file) == UP_OK;
    if (!goes_on) UP_TRY(begin(r));
    r->stream = r->file.stream;
    r->journal = fopen(r->journal_path, "we");
    if (!r->journal) return wrong(r, r->journal_path);
    fprintf(r->journal, "%016" PRIx64 "\n", key);
    if (!goes_on) return fflush(r->journal) ? wrong(r, r->journal_path) : UP_OK;
    r->count = at.count;
    UP_TRY(write_journal(r, (int)at.done));
    r->done = (int)at.done;
    fprintf(stderr, "uniperceiver: %s: goes on behind %d of %d inputs\n", r->path, r->done, r->items->count);
    return UP_OK;
}

up_status up_rows_open(up_rows *r, uint64_t key) {
    r->stream = stdout;
    r->left = calloc((size_t)r->items->count + 1, 1);
    if (!r->left || asprintf(&r->journal_path, "%s.journal", r->path) < 0) {
        r->journal_path = NULL;
        return up_fail(UP_ERR_MEMORY, r->path, "no memory for %d rows", r->items->count);
    }
    if (!strcmp(r->path, "-")) return UP_OK;
    return key ? open_journal(r, key) : begin(r);
}

/* --- rows --- */

/* In a line of text: tabs and line breaks would part it. */
static void put_name(FILE *to, const char *name) {
    for (; *name; name++) fputc(strchr("\t\n\r", *name) ? ' ' : *name, to);
}

/* Bytes that are not UTF-8 become U+DC80 to U+DCFF, as Python writes them and reads them back. */
static void put_json_name(FILE *to, const char *name) {
    fputc('"', to);
    while (*name) {
        utf8proc_int32_t code;
        utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)name, -1, &code);
        if (length < 1) {
            fprintf(to, "\\udc%02x", (unsigned char)*name++);
            continue;
        }
        if (code < ' ' || code == '"' || code == '\\')
            fprintf(to, "\\u%04x", (unsigned)code);
        else
            fwrite(name, 1, (size_t)length, to);
        name += length;
    }
    fputc('"', to);
}

static void put_text_row(const up_rows *r, const char *name, const float *row) {
    int json = r->form == UP_ROWS_JSON;
    if (json) {
        fputs("{\"input\": ", r->stream);
        put_json_name(r->stream, name);
        fputs(", \"feature\": [", r->stream);
    } else {
        put_name(r->stream, name);
    }
    for (int k = 0; k < r->width; k++)
        fprintf(r->stream, "%s%.9g", !json ? "\t" : k ? ", " : "", (double)row[k]);
    fputs(json ? "]}\n" : "\n", r->stream);
}

up_status up_rows_put(up_rows *r, const float *features, const int *places, int count, int next) {
    size_t width = (size_t)r->width;
    for (int i = r->done; i < next; i++) r->left[i] = 1;
    for (int i = 0; i < count; i++) r->left[places[i]] = 0;
    if (r->form == UP_ROWS_NPY) {
        UP_TRY(up_file_put(&r->file, features, (size_t)count * width * sizeof *features));
    } else {
        for (int i = 0; i < count; i++)
            put_text_row(r, r->items->items[places[i]].value, features + (size_t)i * width);
        if (ferror(r->stream)) return wrong(r, r->path);
    }
    r->count += count;
    UP_TRY(write_journal(r, next));
    r->done = next;
    return UP_OK;
}

/* --- the end --- */

/* "features.npy" -> "features.names": a line a row. */
static up_status write_names(const up_rows *r) {
    up_status status = UP_OK;
    up_file_writer names = {0};
    size_t length = strlen(r->path);
    char *path = NULL;
    if (length > 4 && !strcasecmp(r->path + length - 4, ".npy")) length -= 4;
    if (asprintf(&path, "%.*s.names", (int)length, r->path) < 0)
        return up_fail(UP_ERR_MEMORY, r->path, "no memory for the name of its names");
    UP_GO(up_file_begin(path, &names));
    for (int i = 0; i < r->items->count; i++) {
        if (r->left[i]) continue;
        put_name(names.stream, r->items->items[i].value);
        fputc('\n', names.stream);
    }
    UP_GO(up_file_commit(&names));
done:
    up_file_abort(&names);
    free(path);
    return status;
}

up_status up_rows_close(up_rows *r) {
    if (r->stream == stdout) return UP_OK;
    if (!r->count)
        return up_fail(UP_ERR_FORMAT, r->path, "no row: none of %d inputs could be read", r->items->count);
    if (r->form == UP_ROWS_NPY) {
        if (fseeko(r->file.stream, 0, SEEK_SET)) return wrong(r, r->path);
        UP_TRY(put_head(r));
        UP_TRY(write_names(r));
    }
    UP_TRY(up_file_commit(&r->file));
    if (r->journal) unlink(r->journal_path);
    return UP_OK;
}

void up_rows_end(up_rows *r) {
    if (r->journal && r->done) /* without a row there is nothing to go on with */
        up_file_leave(&r->file);
    else
        up_file_abort(&r->file);
    if (r->journal && !r->done) unlink(r->journal_path);
    if (r->journal) fclose(r->journal);
    free(r->journal_path);
    free(r->left);
    *r = (up_rows){0};
}
