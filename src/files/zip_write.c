/* zip_write.c - writes a zip archive of stored members. A member's CRC-32 stands before its bytes and is
 * known behind them, so that place is written again. Below 4 GiB, without the 64-bit fields. */
#include "files/zip.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    ALIGNMENT = 64,
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    CRC_PLACE = 14, /* in a member's header */
    MOST_MEMBERS = UINT16_MAX - 1
};
static const char padding_id[2] = {'F', 'B'}; /* the extra field that PyTorch pads with */

typedef struct member {
    char *name;
    uint32_t crc;
    size_t bytes, place;
} member;

struct up_zip_writer {
    up_file_writer *file; /* borrowed */
    size_t at;            /* bytes written */
    size_t left;          /* of the member that is open */
    member *members;
    size_t count, room;
};

static void set_number(unsigned char *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) to[i] = (unsigned char)(value >> 8 * i);
}

static up_status put(up_zip_writer *zip, const void *data, size_t bytes) {
    if (bytes > UINT32_MAX - zip->at)
        return up_fail(UP_ERR_UNSUPPORTED, zip->file->path, "would be larger than 4 GiB");
    zip->at += bytes;
    return up_file_put(zip->file, data, bytes);
}

up_status up_zip_writer_create(up_file_writer *file, up_zip_writer **out) {
    *out = calloc(1, sizeof **out);
    if (!*out) return up_fail(UP_ERR_MEMORY, file->path, "no memory for its directory");
    (*out)->file = file;
    return UP_OK;
}

void up_zip_writer_free(up_zip_writer *zip) {
    if (!zip) return;
    for (size_t i = 0; i < zip->count; i++) free(zip->members[i].name);
    free(zip->members);
    free(zip);
}

static up_status add_member(up_zip_writer *zip, const char *name, size_t bytes) {
    if (zip->count == MOST_MEMBERS)
        return up_fail(UP_ERR_UNSUPPORTED, zip->file->path, "would have more than %d members", MOST_MEMBERS);
    if (zip->count == zip->room) {
        size_t room = zip->room ? 2 * zip->room : 64;
        member *grown = realloc(zip->members, room * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, zip->file->path, "no memory for its directory");
        zip->members = grown;
        zip->room = room;
    }
    char *kept = strdup(name);
    if (!kept) return up_fail(UP_ERR_MEMORY, zip->file->path, "no memory for its directory");
    zip->members[zip->count++] = (member){.name = kept, .bytes = bytes, .place = zip->at};
    return UP_OK;
}

/* What a member's header and its row of the directory share, from the version that is needed on. */
static void set_common(unsigned char *to, const member *m, size_t extra) {
    set_number(to, 10, 2);            /* version 1.0 reads it */
    set_number(to + 6, 33u << 16, 4); /* 1 January 1980, 0:00: files do not tell when they were made */
    set_number(to + 10, m->crc, 4);
    set_number(to + 14, m->bytes, 4);
    set_number(to + 18, m->bytes, 4);
    set_number(to + 22, strlen(m->name), 2);
    set_number(to + 24, extra, 2);
}

up_status up_zip_begin(up_zip_writer *zip, const char *name, size_t bytes) {
    unsigned char header[LOCAL_SIZE] = "PK\3\4", extra[4 + ALIGNMENT] = {0};
    if (bytes > UINT32_MAX) return up_fail(UP_ERR_UNSUPPORTED, name, "is larger than 4 GiB");
    UP_TRY(add_member(zip, name, bytes));
    size_t end = zip->at + LOCAL_SIZE + strlen(name) + 4, pad = (ALIGNMENT - end % ALIGNMENT) % ALIGNMENT;
    memcpy(extra, padding_id, sizeof padding_id);
    set_number(extra + 2, pad, 2);
    memset(extra + 4, 'Z', pad);
    set_common(header + 4, &zip->members[zip->count - 1], 4 + pad);
    UP_TRY(put(zip, header, sizeof header));
    UP_TRY(put(zip, name, strlen(name)));
    UP_TRY(put(zip, extra, 4 + pad));
    zip->left = bytes;
    return UP_OK;
}

up_status up_zip_put(up_zip_writer *zip, const void *data, size_t bytes) {
    member *m = &zip->members[zip->count - 1];
    if (bytes > zip->left)
        return up_fail(UP_ERR_ARGUMENT, m->name, "%zu bytes more than its %zu", bytes - zip->left, m->bytes);
    zip->left -= bytes;
    m->crc = (uint32_t)crc32_z(m->crc, data, bytes);
    return put(zip, data, bytes);
}

up_status up_zip_end(up_zip_writer *zip) {
    member *m = &zip->members[zip->count - 1];
    unsigned char crc[4];
    FILE *stream = zip->file->stream;
    if (zip->left) return up_fail(UP_ERR_ARGUMENT, m->name, "its last %zu bytes are missing", zip->left);
    set_number(crc, m->crc, sizeof crc);
    if (fseeko(stream, (off_t)(m->place + CRC_PLACE), SEEK_SET))
        return up_fail(UP_ERR_IO, zip->file->path, "cannot seek: %s", strerror(errno));
    UP_TRY(up_file_put(zip->file, crc, sizeof crc));
    if (fseeko(stream, (off_t)zip->at, SEEK_SET))
        return up_fail(UP_ERR_IO, zip->file->path, "cannot seek: %s", strerror(errno));
    return UP_OK;
}

up_status up_zip_finish(up_zip_writer *zip) {
    unsigned char end[END_SIZE] = "PK\5\6";
    size_t begin = zip->at;
    for (size_t i = 0; i < zip->count; i++) {
        const member *m = &zip->members[i];
        unsigned char row[CENTRAL_SIZE] = "PK\1\2";
        set_number(row + 4, 10, 2);
        set_common(row + 6, m, 0);
        set_number(row + 42, m->place, 4);
        UP_TRY(put(zip, row, sizeof row));
        UP_TRY(put(zip, m->name, strlen(m->name)));
    }
    set_number(end + 8, zip->count, 2);
    set_number(end + 10, zip->count, 2);
    set_number(end + 12, zip->at - begin, 4);
    set_number(end + 16, begin, 4);
    return put(zip, end, sizeof end);
}
