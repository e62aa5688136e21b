/* folders.c - pictures or clips in a folder for each class; ImageNet. */
#include "data/datasets/reader.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static int has_ending(const char *name, const char *const *endings) {
    const char *dot = strrchr(name, '.');
    for (; dot && *endings; endings++)
        if (!strcasecmp(dot, *endings)) return 1;
    return 0;
}

/* What a file of this name is in a sample; NULL: neither picture nor clip. */
static const char *kind_of(const char *name) {
    static const char *const images[] = {".jpg", ".jpeg", ".png", ".webp", NULL}, *const videos[] = {
                                                                                      ".mp4",  ".avi", ".mkv",
                                                                                      ".webm", ".mov", ".gif",
                                                                                      NULL};
    if (has_ending(name, images)) return "image";
    return has_ending(name, videos) ? "video" : NULL;
}

static int by_code(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_shown(const struct dirent *entry) {
    return *entry->d_name != '.';
}

typedef struct listing {
    struct dirent **names;
    int count;
} listing;

/* In the order of their bytes, whatever the file system says. */
static up_status list_folder(up_sample_index_writer *w, const char *path, listing *out) {
    out->count = scandir(path, &out->names, is_shown, by_code);
    if (out->count < 0) {
        int code = errno;
        *out = (listing){0};
        return up_fail(UP_ERR_IO, path, "cannot list it: %s", strerror(code));
    }
    return up_sample_index_input(w, path);
}

static void listing_free(listing *l) {
    for (int i = 0; i < l->count; i++) free(l->names[i]);
    free(l->names);
    *l = (listing){0};
}

/* A file of a class folder, by its path from the data's folder: also its key. */
static up_status add_file(up_sample_index_writer *w, up_sample *s, const char *class, const char *name) {
    char path[4096];
    const char *kind = kind_of(name);
    if (!kind) return UP_OK;
    if (snprintf(path, sizeof path, "%s/%s", class, name) >= (int)sizeof path)
        return up_fail(UP_ERR_FORMAT, name, "a path of more than %zu bytes", sizeof path);
    up_sample_clear(s);
    UP_TRY(up_datasets_add(s, kind, path));
    UP_TRY(up_datasets_add(s, "label", class));
    UP_TRY(up_datasets_add(s, "key", path));
    return up_sample_index_record(w, s);
}

static up_status read_class(const char *root, up_sample_index_writer *w, const char *class) {
    listing files = {0};
    up_sample s = {0};
    char *path = NULL;
    up_status status = UP_OK;
    UP_GO(up_datasets_join(root, class, &path));
    UP_GO(list_folder(w, path, &files));
    UP_GO(up_sample_index_class(w, class));
    for (int i = 0; i < files.count; i++) UP_GO(add_file(w, &s, class, files.names[i]->d_name));
done:
    listing_free(&files);
    up_sample_free(&s);
    free(path);
    return status;
}

static up_status read_classes(const char *root, up_sample_index_writer *w) {
    listing classes = {0};
    up_status status = UP_OK;
    UP_GO(list_folder(w, root, &classes));
    for (int i = 0; i < classes.count; i++) {
        struct stat about;
        char *path = NULL;
        UP_GO(up_datasets_join(root, classes.names[i]->d_name, &path));
        int is_folder = !stat(path, &about) && S_ISDIR(about.st_mode);
        free(path);
        if (is_folder) UP_GO(read_class(root, w, classes.names[i]->d_name));
    }
done:
    listing_free(&classes);
    return status;
}

up_status up_read_folder(up_dataset *d, up_sample_index_writer *w) {
    return read_classes(d->options.data, w);
}

/* ---- ImageNet ---- */

typedef struct list {
    const char *path;
    up_sample_index_writer *writer;
    up_sample sample;
} list;

/* "n01440764/n01440764_10026" of a training list, with or without its ending and a number behind; or
 * "val/x.JPEG n01440764". The class is the wnid behind the name, or the folder. */
static up_status add_listed(void *context, char *line, size_t number) {
    list *l = context;
    char *rest = line, *name = strsep(&rest, " \t"), *second = rest ? strsep(&rest, " \t") : NULL;
    char class[64] = "", *slash = strrchr(name, '/'), path[4096];
    if (second && *second == 'n') {
        snprintf(class, sizeof class, "%s", second);
    } else if (slash) {
        *slash = 0;
        char *folder = strrchr(name, '/');
        snprintf(class, sizeof class, "%s", folder ? folder + 1 : name);
        *slash = '/';
    }
    if (*class != 'n')
        return up_fail(UP_ERR_FORMAT, l->path,
                       "line %zu: \"%s\" tells no wnid: wanted WNID/NAME, or NAME WNID", number, name);
    snprintf(path, sizeof path, "%s%s", name, kind_of(name) ? "" : ".JPEG");
    up_sample_clear(&l->sample);
    UP_TRY(up_datasets_add(&l->sample, "image", path));
    UP_TRY(up_datasets_add(&l->sample, "label", class));
    UP_TRY(up_datasets_add(&l->sample, "key", path));
    return up_sample_index_record(l->writer, &l->sample);
}

up_status up_read_imagenet(up_dataset *d, up_sample_index_writer *w) {
    struct stat about;
    list l = {d->options.data, w, {0}};
    if (!stat(d->options.data, &about) && S_ISDIR(about.st_mode)) return read_classes(d->options.data, w);
    UP_TRY(up_sample_index_input(w, d->options.data));
    up_status status = up_datasets_each_line(d->options.data, add_listed, &l);
    up_sample_free(&l.sample);
    return status;
}
