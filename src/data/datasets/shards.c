/* shards.c - tar files in the WebDataset convention: members that differ only behind the first point of their
 * name are one sample, one behind the other. libarchive reads the headers once; later a member's bytes are
 * read where they lie. Texts are kept in the index. */
#include "data/datasets/reader.h"
#include "files/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#ifndef UP_WITH_ARCHIVE
up_status up_read_shards(up_dataset *d, up_sample_index_writer *w) {
    (void)w;
    return up_fail(UP_ERR_UNSUPPORTED, d->options.data,
                   "tar shards, which this build has no library for (libarchive; Debian: libarchive-dev)");
}
#else
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct shard {
    const char *path;
    int file; /* the same, to look at what lies where */
    uint64_t size;
    int number;
    struct archive *archive;
    up_sample_index_writer *writer;
    up_sample sample; /* the members found so far of the key at hand */
    char key[1024];
} shard;

static up_status wrong(const shard *s, const char *member, const char *why) {
    return up_fail(UP_ERR_FORMAT, s->path, "member \"%s\": %s", member, why);
}

/* What a member is in a sample, by what stands behind the first point of its name; NULL: nothing. */
static const char *role_of(const char *ending) {
    static const char *const roles[][2] = {
        {"jpg", "image"}, {"jpeg", "image"}, {"png", "image"},    {"webp", "image"}, {"mp4", "video"},
        {"avi", "video"}, {"mkv", "video"},  {"webm", "video"},   {"mov", "video"},  {"gif", "video"},
        {"txt", "text"},  {"text", "text"},  {"caption", "text"}, {"cls", "label"},  {"json", "json"}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (!strcasecmp(roles[i][0], ending)) return roles[i][1];
    return NULL;
}

/* Cut a member's name at the first point of its last part; 0: it has none and is no part of a sample. */
static int cut_name(const char *name, char *key, size_t room, const char **ending) {
    const char *slash = strrchr(name, '/'), *last = slash ? slash + 1 : name, *dot = strchr(last, '.');
    if (!dot || dot == last || (size_t)(dot - name) >= room) return 0;
    memcpy(key, name, (size_t)(dot - name));
    key[dot - name] = 0;
    *ending = dot + 1;
    return 1;
}

static int is_unsafe(const char *name) {
    return *name == '/' || !strncmp(name, "../", 3) || strstr(name, "/../") != NULL;
}

/* Where the data of the member at hand begin: the reader stands there once it was asked for them. That the
 * file has the same bytes there is checked, which also refuses what is compressed or has holes. */
static up_status find_data(const shard *s, const char *name, uint64_t size, uint64_t *start) {
    const void *block = NULL;
    char here[512];
    size_t got = 0;
    int64_t at = 0;
    int code = archive_read_data_block(s->archive, &block, &got, &at);
    *start = (uint64_t)archive_filter_bytes(s->archive, 0);
    if (code != ARCHIVE_OK && code != ARCHIVE_EOF) return wrong(s, name, archive_error_string(s->archive));
    if (size > s->size || *start > s->size - size) return wrong(s, name, "lies outside its shard");
    if (!size) return UP_OK;
    if (got > sizeof here) got = sizeof here;
    if (at || pread(s->file, here, got, (off_t)*start) != (ssize_t)got || memcmp(here, block, got))
        return wrong(s, name, "its bytes are not stored as they are");
    return UP_OK;
}

static up_status add_text(shard *s, const char *name, const char *role, uint64_t start, uint64_t size) {
    json_t *object = NULL;
    up_status status = UP_OK;
    if (size > UP_VALUE_MOST) return wrong(s, name, "a text of more than 1 MiB");
    char *text = malloc(size + 1);
    if (!text) return up_fail(UP_ERR_MEMORY, s->path, "no memory for \"%s\"", name);
    if (pread(s->file, text, size, (off_t)start) != (ssize_t)size) UP_GO(wrong(s, name, "cannot read it"));
    if (!strcmp(role, "json")) {
        if (up_json_read(name, text, size, 0, &object) != UP_OK || !json_is_object(object))
            UP_GO(wrong(s, name, "no sound JSON object"));
        UP_GO(up_datasets_add_json(&s->sample, object));
    } else {
        while (size && strchr("\r\n", text[size - 1])) size--;
        if (memchr(text, 0, size)) UP_GO(wrong(s, name, "holds a NUL byte: not a text"));
        UP_GO(up_sample_text(&s->sample, role, text, size));
    }
done:
    json_decref(object);
    free(text);
    return status;
}

/* A sample has its key and one member at least that is something. */
static up_status flush(shard *s) {
    return s->sample.count > 1 ? up_sample_index_record(s->writer, &s->sample) : UP_OK;
}

/* The sample at hand stays, and says when it is read why it cannot be. */
static up_status mark_broken(shard *s) {
    char why[512];
    snprintf(why, sizeof why, "%s", up_last_error());
    return up_datasets_add(&s->sample, UP_SAMPLE_BROKEN, why);
}

static up_status add_content(shard *s, const char *name, const char *role, uint64_t size) {
    uint64_t start;
    UP_TRY(find_data(s, name, size, &start));
    if (!strcmp(role, "image") || !strcmp(role, "video"))
        return up_sample_member(&s->sample, role, name, s->number, start, size);
    return add_text(s, name, role, start, size);
}

static up_status add_member(shard *s, struct archive_entry *entry) {
    const char *name = archive_entry_pathname(entry), *ending, *role;
    char key[sizeof s->key];
    if (!name) return wrong(s, "?", "its name is no text");
    if (archive_entry_filetype(entry) == AE_IFDIR) return UP_OK;
    if (is_unsafe(name)) return wrong(s, name, "its name leaves the shard");
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry))
        return wrong(s, name, "is no plain file");
    if (!cut_name(name, key, sizeof key, &ending)) return UP_OK;
    if (strcmp(key, s->key)) {
        UP_TRY(flush(s));
        strcpy(s->key, key);
        up_sample_clear(&s->sample);
        UP_TRY(up_datasets_add(&s->sample, "key", key));
    }
    role = role_of(ending);
    if (!role) return UP_OK;
    up_status status = add_content(s, name, role, (uint64_t)archive_entry_size(entry));
    return status == UP_ERR_FORMAT ? mark_broken(s) : status;
}

static up_status read_members(shard *s) {
    struct archive_entry *entry;
    int code;
    while ((code = archive_read_next_header(s->archive, &entry)) == ARCHIVE_OK || code == ARCHIVE_WARN)
        UP_TRY(add_member(s, entry));
    if (code == ARCHIVE_EOF) return flush(s);
    up_status status =
        up_fail(UP_ERR_FORMAT, s->path, "behind \"%s\": %s", s->key, archive_error_string(s->archive));
    if (!*s->key)
        return status; /* no archive; otherwise one that ends early, whose samples are good so far */
    UP_TRY(mark_broken(s));
    return flush(s);
}

static up_status read_shard(up_sample_index_writer *w, const char *path) {
    shard s = {.path = path, .file = -1, .writer = w};
    struct stat about;
    up_status status = UP_OK;
    UP_TRY(up_sample_index_input(w, path));
    UP_TRY(up_sample_index_shard(w, path, &s.number));
    s.file = open(path, O_RDONLY | O_CLOEXEC);
    if (s.file < 0 || fstat(s.file, &about)) UP_GO(up_fail(UP_ERR_IO, path, "cannot read it"));
    s.size = (uint64_t)about.st_size;
    s.archive = archive_read_new();
    if (!s.archive) UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory to read it"));
    archive_read_support_format_tar(s.archive);
    if (archive_read_open_filename(s.archive, path, 1 << 16) != ARCHIVE_OK)
        UP_GO(up_fail(UP_ERR_FORMAT, path, "%s", archive_error_string(s.archive)));
    UP_GO(read_members(&s));
done:
    if (s.archive) archive_read_free(s.archive);
    if (s.file >= 0) close(s.file);
    up_sample_free(&s.sample);
    return status;
}

/* Each path that a name with {0000..0009} stands for: numbers with as many digits as the first. */
static up_status each_shard(up_sample_index_writer *w, const char *name) {
    const char *open_brace = strchr(name, '{');
    if (!open_brace) return read_shard(w, name);
    long from, to;
    int width = 0, length = 0;
    if (sscanf(open_brace, "{%ld%n..%ld}%n", &from, &width, &to, &length) != 2 || !length || from < 0 ||
        to < from)
        return up_fail(UP_ERR_ARGUMENT, name, "wanted a range like {0000..0009} in braces");
    for (long i = from; i <= to; i++) {
        char *path;
        if (asprintf(&path, "%.*s%0*ld%s", (int)(open_brace - name), name, width - 1, i,
                     open_brace + length) < 0)
            return up_fail(UP_ERR_MEMORY, name, "no memory for a shard's name");
        up_status status = each_shard(w, path);
        free(path);
        if (status != UP_OK) return status;
    }
    return UP_OK;
}

up_status up_read_shards(up_dataset *d, up_sample_index_writer *w) {
    return each_shard(w, d->options.data);
}
#endif
