/* parts.c - records behind one another: first row, size, digest, bytes. What is torn or does not agree ends
 * the list, and is written over. */
#include "eval/parts.h"
#include "files/digest.h"
#include "files/weights.h"
#include "infer/session.h"
#include "ref/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char ending[] = ".part";

struct up_parts {
    FILE *file;
    int reading; /* 1: the next record may be there; 0: records are written */
    long end;    /* of the records that are good; -1: nothing can be written */
    void *bytes;
    size_t room;
    int quiet;
};

typedef struct record {
    uint64_t first, size, digest;
} record;

/* --- which evaluation it is of --- */

static uint64_t add_text(uint64_t digest, const char *text) {
    return text ? up_digest(digest, text, strlen(text) + 1) : up_digest(digest, "", 1);
}

/* A file that has changed has another size or time. */
static uint64_t add_file(uint64_t digest, const char *path) {
    struct stat s;
    if (!path || stat(path, &s)) return add_text(digest, NULL);
    int64_t about[] = {s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec};
    return up_digest(add_text(digest, path), about, sizeof about);
}

static up_status add_settings(const up_source *s, uint64_t *digest) {
    char *text;
    UP_TRY(up_config_dump(&up_task_schema, s->settings, &text));
    *digest = add_text(*digest, text);
    free(text);
    return UP_OK;
}

static up_status digest_of(const up_evaluation *e, const up_source *s, uint64_t *digest) {
    const up_task_settings *t = s->settings;
    const char *files[] = {t->data, t->index, t->annotations, t->leave_out, t->classes, t->names};
    size_t rows = up_evaluation_rows(s);
    UP_TRY(up_weights_digest(up_session_model(e->session), digest));
    UP_TRY(add_settings(s, digest));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) *digest = add_file(*digest, files[i]);
    *digest = up_digest(*digest, &rows, sizeof rows);
    *digest = up_digest(*digest, &e->settings.precision, sizeof e->settings.precision);
    *digest = up_digest(*digest, e->world.vocabulary,
                        (size_t)e->world.vocabulary_count * sizeof *e->world.vocabulary);
    *digest = add_text(*digest, up_model_backend(up_session_model(e->session))->ops->name);
    *digest = add_text(*digest, UP_VERSION);
    return UP_OK;
}

/* --- the file --- */

static FILE *open_file(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    FILE *file = fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB) ? fdopen(fd, "r+b") : NULL;
    if (!file && fd >= 0) close(fd);
    return file;
}

up_status up_parts_open(const up_evaluation *e, const up_source *s, up_parts **out) {
    char name[24], *path;
    uint64_t digest;
    *out = NULL;
    if (!e->parts_folder) return UP_OK;
    UP_TRY(digest_of(e, s, &digest));
    up_digest_text(digest, name);
    mkdir(e->parts_folder, 0777); /* beside the numbers; where that folder is missing nothing is kept */
    if (asprintf(&path, "%s/%s%s", e->parts_folder, name, ending) < 0)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "no memory for a path");
    FILE *file = open_file(path);
    free(path);
    if (!file) return UP_OK;
    *out = calloc(1, sizeof **out);
    if (!*out) {
        fclose(file);
        return up_fail(UP_ERR_MEMORY, s->settings->name, "no memory for its parts");
    }
    **out = (up_parts){.file = file, .reading = 1, .quiet = e->options.quiet};
    return UP_OK;
}

void up_parts_close(up_parts *p) {
    if (!p) return;
    fclose(p->file);
    free(p->bytes);
    free(p);
}

static long size_of(FILE *file) {
    struct stat s;
    return fstat(fileno(file), &s) ? 0 : (long)s.st_size;
}

static int read_record(up_parts *p, size_t first, size_t *size) {
    record r;
    if (fread(&r, sizeof r, 1, p->file) != 1 || r.first != first) return 0;
    if (r.size > (uint64_t)(size_of(p->file) - p->end)) return 0;
    if (r.size > p->room) {
        void *grown = realloc(p->bytes, r.size);
        if (!grown) return 0;
        p->bytes = grown;
        p->room = r.size;
    }
    *size = r.size;
    return fread(p->bytes, 1, r.size, p->file) == r.size && up_digest(0, p->bytes, r.size) == r.digest;
}

const void *up_parts_take(up_parts *p, size_t first, size_t *size) {
    if (!p || !p->reading) return NULL;
    if (read_record(p, first, size)) {
        p->end = ftell(p->file);
        return p->bytes;
    }
    p->reading = 0;
    if (p->end && !p->quiet)
        up_log(UP_LOG_REPORT, "  goes on behind row %zu, where it was interrupted", first);
    fseek(p->file, p->end, SEEK_SET);
    if (ftruncate(fileno(p->file), p->end)) p->end = -1;
    return NULL;
}

void up_parts_put(up_parts *p, size_t first, const void *data, size_t size) {
    record r = {first, size, up_digest(0, data, size)};
    if (!p || p->end < 0) return;
    fwrite(&r, sizeof r, 1, p->file);
    fwrite(data, 1, size, p->file);
    fflush(p->file); /* into the system's hands: the end of the process does not take it away */
    p->end = ftell(p->file);
}

void up_parts_remove(const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *d; (d = readdir(dir));) {
        size_t length = strlen(d->d_name), tail = sizeof ending - 1;
        if (length > tail && !strcmp(d->d_name + length - tail, ending)) unlinkat(dirfd(dir), d->d_name, 0);
    }
    closedir(dir);
    rmdir(folder);
}
