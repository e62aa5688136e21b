/* zip.c - reads the directory of a zip archive (APPNOTE.TXT of PKWARE, 4.3 and 4.5.3: 64-bit sizes) that lies
 * in memory. Nothing is unpacked to files. What the directory says is believed only where the members' own
 * headers and the archive's size agree. */
#include "files/zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    LOCAL_SIGNATURE = 0x04034b50,
    CENTRAL_SIGNATURE = 0x02014b50,
    END_SIGNATURE = 0x06054b50,
    END64_SIGNATURE = 0x06064b50,
    LOCATOR64_SIGNATURE = 0x07064b50,
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    END64_SIZE = 56,
    LOCATOR64_SIZE = 20,
    EXTRA64 = 1,
    FLAG_ENCRYPTED = 1,
    METHOD_STORED = 0,
    METHOD_DEFLATED = 8,
    MOST_INFLATED = 1032 /* bytes that one deflated byte can stand for, at most */
};

struct up_zip {
    const char *path; /* borrowed */
    const unsigned char *data;
    size_t size, count;
    up_zip_member *members;        /* [count], by place */
    const up_zip_member **by_name; /* [count] */
};

/* Little-endian, from bytes that are there. */
static uint64_t number_at(const unsigned char *from, int bytes) {
    uint64_t value = 0;
    for (int i = bytes; i-- > 0;) value = value << 8 | from[i];
    return value;
}

static up_status broken(const up_zip *zip, const char *what) {
    return up_fail(UP_ERR_FORMAT, zip->path, "%s: not a sound zip archive", what);
}

/* --- where the directory is --- */

typedef struct directory {
    uint64_t entries, bytes, begin;
    size_t limit; /* what stands behind it begins here */
} directory;

/* The record at the very end; a comment may follow it. */
static const unsigned char *find_end(const up_zip *zip) {
    size_t comment = 0;
    for (; comment <= UINT16_MAX && comment + END_SIZE <= zip->size; comment++) {
        const unsigned char *at = zip->data + zip->size - END_SIZE - comment;
        if (number_at(at, 4) == END_SIGNATURE && number_at(at + 20, 2) == comment) return at;
    }
    return NULL;
}

static up_status find_directory64(const up_zip *zip, const unsigned char *end, directory *d) {
    const unsigned char *locator = end - LOCATOR64_SIZE;
    size_t before = (size_t)(locator - zip->data);
    uint64_t at = number_at(locator + 8, 8);
    if (at > before || before - at < END64_SIZE) return broken(zip, "its 64-bit directory lies outside");
    const unsigned char *record = zip->data + at;
    if (number_at(record, 4) != END64_SIGNATURE) return broken(zip, "its 64-bit directory is not there");
    if (number_at(record + 16, 4) || number_at(record + 20, 4)) return broken(zip, "it has several disks");
    d->entries = number_at(record + 32, 8);
    d->bytes = number_at(record + 40, 8);
    d->begin = number_at(record + 48, 8);
    d->limit = (size_t)at;
    return UP_OK;
}

static up_status find_directory(const up_zip *zip, directory *d) {
    const unsigned char *end = find_end(zip);
    if (!end) return broken(zip, "it has no directory at its end");
    if (number_at(end + 4, 2) || number_at(end + 6, 2)) return broken(zip, "it has several disks");
    d->entries = number_at(end + 10, 2);
    d->bytes = number_at(end + 12, 4);
    d->begin = number_at(end + 16, 4);
    d->limit = (size_t)(end - zip->data);
    if (d->limit >= LOCATOR64_SIZE && number_at(end - LOCATOR64_SIZE, 4) == LOCATOR64_SIGNATURE)
        UP_TRY(find_directory64(zip, end, d));
    if (d->bytes > d->limit || d->begin != d->limit - d->bytes)
        return broken(zip, "its directory does not end where it should");
    if (d->entries > d->bytes / CENTRAL_SIZE) return broken(zip, "its directory lists more than it can hold");
    return UP_OK;
}

/* --- one member --- */

/* A name of parts between slashes, none of which leads out of the folder, and which can be shown. */
static int is_sound_name(const unsigned char *name, size_t length) {
    if (!length || name[0] == '/') return 0;
    for (size_t i = 0; i < length; i++)
        if (name[i] < ' ' || name[i] == '\\' || name[i] == ':' || name[i] == 0x7f) return 0;
    for (size_t first = 0, i = 0; i <= length; i++) {
        if (i < length && name[i] != '/') continue;
        if (i - first == 2 && name[first] == '.' && name[first + 1] == '.') return 0;
        first = i + 1;
    }
    return 1;
}

/* Sizes and place that do not fit into 32 bits stand in an extra field, in this order. */
static up_status read_extra64(const up_zip *zip, const unsigned char *extra, size_t length,
                              uint64_t values[3]) {
    int wanted = 0;
    for (int i = 0; i < 3; i++) wanted += values[i] == UINT32_MAX;
    while (wanted && length >= 4) {
        size_t id = number_at(extra, 2), size = number_at(extra + 2, 2);
        if (size > length - 4) return broken(zip, "an extra field is longer than its place");
        if (id == EXTRA64) {
            if (size < 8 * (size_t)wanted) return broken(zip, "a 64-bit size is missing");
            const unsigned char *from = extra + 4;
            for (int i = 0; i < 3; i++) {
                if (values[i] != UINT32_MAX) continue;
                values[i] = number_at(from, 8);
                from += 8;
            }
            return UP_OK;
        }
        extra += 4 + size;
        length -= 4 + size;
    }
    return UP_OK;
}

/* The header before a member's bytes must be of the same member; *begin is where the bytes are. */
static up_status find_bytes(const up_zip *zip, uint64_t place, size_t limit, const unsigned char *central,
                            up_zip_member *m) {
    size_t length = number_at(central + 28, 2);
    if (place > limit || limit - place < LOCAL_SIZE) return broken(zip, "a member lies outside");
    const unsigned char *local = zip->data + place;
    if (number_at(local, 4) != LOCAL_SIGNATURE) return broken(zip, "a member is not where it should be");
    size_t header = LOCAL_SIZE + number_at(local + 26, 2) + number_at(local + 28, 2);
    if (limit - place < header) return broken(zip, "a member lies outside");
    if (number_at(local + 26, 2) != length || memcmp(local + LOCAL_SIZE, central + CENTRAL_SIZE, length) ||
        number_at(local + 8, 2) != number_at(central + 10, 2))
        return broken(zip, "a member is not the one that the directory says");
    m->begin = (size_t)place + header;
    if (m->packed > limit - m->begin) return broken(zip, "a member is longer than the archive");
    return UP_OK;
}

static up_status read_member(const up_zip *zip, const unsigned char *central, size_t limit,
                             up_zip_member *m) {
    char shown[128];
    size_t length = number_at(central + 28, 2);
    uint64_t values[3] = {number_at(central + 24, 4), number_at(central + 20, 4), number_at(central + 42, 4)};
    unsigned method = (unsigned)number_at(central + 10, 2);
    const unsigned char *name = central + CENTRAL_SIZE;
    up_printable((const char *)name, length, shown, sizeof shown);
    if (!is_sound_name(name, length))
        return up_fail(UP_ERR_FORMAT, zip->path, "a member's name leads elsewhere: \"%s\"", shown);
    if (number_at(central + 8, 2) & FLAG_ENCRYPTED)
        return up_fail(UP_ERR_UNSUPPORTED, zip->path, "member \"%s\" is encrypted", shown);
    if (method != METHOD_STORED && method != METHOD_DEFLATED)
        return up_fail(UP_ERR_UNSUPPORTED, zip->path,
                       "member \"%s\" is packed by method %u; wanted stored or "
                       "deflated",
                       shown, method);
    UP_TRY(read_extra64(zip, name + length, number_at(central + 30, 2), values));
    m->deflated = method == METHOD_DEFLATED;
    m->bytes = values[0];
    m->packed = values[1];
    m->crc = (uint32_t)number_at(central + 16, 4);
    UP_TRY(find_bytes(zip, values[2], limit, central, m));
    if (m->deflated ? m->bytes / MOST_INFLATED > m->packed : m->bytes != m->packed)
        return up_fail(UP_ERR_FORMAT, zip->path, "member \"%s\" cannot be %zu bytes in %zu", shown, m->bytes,
                       m->packed);
    m->name = strndup((const char *)name, length);
    return m->name ? UP_OK : up_fail(UP_ERR_MEMORY, zip->path, "no memory for a member's name");
}

/* --- all of them --- */

static int compare_place(const void *a, const void *b) {
    const up_zip_member *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static int compare_name(const void *a, const void *b) {
    return strcmp((*(const up_zip_member *const *)a)->name, (*(const up_zip_member *const *)b)->name);
}

static up_status check_members(const up_zip *zip) {
    for (size_t i = 1; i < zip->count; i++) {
        const up_zip_member *before = &zip->members[i - 1], *m = &zip->members[i];
        if (before->packed + LOCAL_SIZE + strlen(m->name) > m->begin - before->begin)
            return up_fail(UP_ERR_FORMAT, zip->path, "members \"%.100s\" and \"%.100s\" overlap",
                           before->name, m->name);
        if (!strcmp(zip->by_name[i - 1]->name, zip->by_name[i]->name))
            return up_fail(UP_ERR_FORMAT, zip->path, "member \"%.100s\" stands twice", zip->by_name[i]->name);
    }
    return UP_OK;
}

static up_status read_directory(up_zip *zip) {
    directory d = {0};
    UP_TRY(find_directory(zip, &d));
    zip->members = calloc((size_t)d.entries + 1, sizeof *zip->members);
    zip->by_name = calloc((size_t)d.entries + 1, sizeof *zip->by_name);
    if (!zip->members || !zip->by_name)
        return up_fail(UP_ERR_MEMORY, zip->path, "no memory for its directory");
    const unsigned char *at = zip->data + d.begin;
    size_t left = (size_t)d.bytes;
    for (uint64_t i = 0; i < d.entries; i++) {
        if (left < CENTRAL_SIZE || number_at(at, 4) != CENTRAL_SIGNATURE)
            return broken(zip, "its directory is damaged");
        size_t entry = CENTRAL_SIZE + number_at(at + 28, 2) + number_at(at + 30, 2) + number_at(at + 32, 2);
        if (left < entry) return broken(zip, "its directory is damaged");
        UP_TRY(read_member(zip, at, (size_t)d.begin, &zip->members[zip->count]));
        zip->count++;
        at += entry;
        left -= entry;
    }
    qsort(zip->members, zip->count, sizeof *zip->members, compare_place);
    for (size_t i = 0; i < zip->count; i++) zip->by_name[i] = &zip->members[i];
    qsort(zip->by_name, zip->count, sizeof *zip->by_name, compare_name);
    return check_members(zip);
}

up_status up_zip_open(const char *path, const void *data, size_t size, up_zip **out) {
    *out = NULL;
    up_zip *zip = calloc(1, sizeof *zip);
    if (!zip) return up_fail(UP_ERR_MEMORY, path, "no memory for its directory");
    zip->path = path;
    zip->data = data;
    zip->size = size;
    up_status status = read_directory(zip);
    if (status == UP_OK)
        *out = zip;
    else
        up_zip_close(zip);
    return status;
}

void up_zip_close(up_zip *zip) {
    if (!zip) return;
    for (size_t i = 0; zip->members && i < zip->count; i++) free(zip->members[i].name);
    free(zip->members);
    free(zip->by_name);
    free(zip);
}

size_t up_zip_count(const up_zip *zip) {
    return zip->count;
}

const up_zip_member *up_zip_at(const up_zip *zip, size_t i) {
    return i < zip->count ? &zip->members[i] : NULL;
}

const up_zip_member *up_zip_find(const up_zip *zip, const char *name) {
    const up_zip_member wanted = {.name = (char *)name}, *key = &wanted;
    const up_zip_member **found = bsearch(&key, zip->by_name, zip->count, sizeof *zip->by_name, compare_name);
    return found ? *found : NULL;
}

/* --- the bytes --- */

/* zlib counts in 32 bits. */
static size_t at_once(size_t left) {
    enum { STEP = 1 << 30 };
    return left < STEP ? left : STEP;
}

/* 1 where `from` inflates to exactly m->bytes bytes at `to`. */
static int inflate_exactly(const unsigned char *from, const up_zip_member *m, unsigned char *to) {
    z_stream stream = {0};
    size_t taken = 0, made = 0;
    int answer = Z_OK;
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return 0; /* a bare stream without zlib's header */
    while (answer == Z_OK) {
        stream.next_in = (unsigned char *)from + taken;
        stream.avail_in = (uInt)at_once(m->packed - taken);
        stream.next_out = to + made;
        stream.avail_out = (uInt)at_once(m->bytes - made);
        answer = inflate(&stream, Z_NO_FLUSH);
        taken = (size_t)(stream.next_in - from);
        made = (size_t)(stream.next_out - to);
    }
    inflateEnd(&stream);
    return answer == Z_STREAM_END && taken == m->packed && made == m->bytes;
}

/* A fuzzer cannot guess checksums; what lies behind them is to be reached all the same. */
static int right_crc(const unsigned char *data, const up_zip_member *m) {
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    (void)data;
    (void)m;
    return 1;
#else
    return crc32_z(0, data, m->bytes) == m->crc;
#endif
}

up_status up_zip_read(const up_zip *zip, const up_zip_member *m, const void **data, void **owned) {
    *owned = NULL;
    *data = zip->data + m->begin;
    if (m->deflated) {
        *owned = malloc(m->bytes + 1);
        if (!*owned) return up_fail(UP_ERR_MEMORY, zip->path, "\"%s\": %zu bytes wanted", m->name, m->bytes);
        *data = *owned;
        if (!inflate_exactly(zip->data + m->begin, m, *owned)) {
            free(*owned);
            *owned = NULL;
            return up_fail(UP_ERR_FORMAT, zip->path, "member \"%s\" does not inflate to %zu bytes", m->name,
                           m->bytes);
        }
    }
    if (right_crc(*data, m)) return UP_OK;
    free(*owned);
    *owned = NULL;
    return up_fail(UP_ERR_FORMAT, zip->path, "member \"%s\" is damaged: its CRC-32 differs", m->name);
}
