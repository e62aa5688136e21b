/* events.c - TFRecord: length (8 bytes, little endian), its masked CRC-32C, the data, its masked CRC-32C.
 * The data is an Event in the wire format of protocol buffers: 1 wall_time (double), 2 step (varint),
 * 3 file_version (text), 5 summary {1 value {1 tag (text), 2 simple_value (float)}}, 7 session_log {1
 * status}.
 */
#include "files/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TAG_SIZE = 256, SESSION_START = 1 };
enum { WIRE_VARINT = 0, WIRE_DOUBLE = 1, WIRE_BYTES = 2, WIRE_FLOAT = 5 };

/* ---- bytes ---- */

typedef struct bytes {
    unsigned char *data;
    size_t count, room;
    int failed; /* no memory */
} bytes;

static void put(bytes *b, const void *data, size_t count) {
    if (b->count + count > b->room) {
        size_t room = 2 * b->room + count + 256;
        unsigned char *grown = realloc(b->data, room);
        b->failed |= !grown;
        if (!grown) return;
        b->data = grown;
        b->room = room;
    }
    memcpy(b->data + b->count, data, count);
    b->count += count;
}

static void put_little(bytes *b, uint64_t value, int count) {
    unsigned char out[8];
    for (int i = 0; i < count; i++) out[i] = (unsigned char)(value >> 8 * i);
    put(b, out, (size_t)count);
}

static void put_varint(bytes *b, uint64_t value) {
    for (; value >= 0x80; value >>= 7) put_little(b, (value & 0x7f) | 0x80, 1);
    put_little(b, value, 1);
}

static void put_key(bytes *b, int field, int wire) {
    put_varint(b, (uint64_t)(field << 3 | wire));
}

static void put_double(bytes *b, int field, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(b, field, WIRE_DOUBLE);
    put_little(b, bits, 8);
}

static void put_float(bytes *b, int field, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(b, field, WIRE_FLOAT);
    put_little(b, bits, 4);
}

static void put_bytes(bytes *b, int field, const void *data, size_t count) {
    put_key(b, field, WIRE_BYTES);
    put_varint(b, count);
    put(b, data, count);
}

/* ---- records ---- */

/* CRC-32C (Castagnoli), bit by bit: events are small. */
static uint32_t crc32c(const unsigned char *data, size_t count) {
    uint32_t crc = ~0u;
    for (size_t i = 0; i < count; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

/* A sum of data that holds sums is to be no sum of theirs. */
static uint32_t masked(uint32_t crc) {
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void put_record(bytes *b, const bytes *event) {
    size_t start = b->count;
    b->failed |= event->failed;
    put_little(b, event->count, 8);
    if (b->failed) return;
    put_little(b, masked(crc32c(b->data + start, 8)), 4);
    put(b, event->data, event->count);
    put_little(b, masked(crc32c(event->data, event->count)), 4);
}

/* One write, so that a reader sees whole records; what a full disk has cut goes again. */
static up_status append(const up_events *e, const bytes *b) {
    off_t before = lseek(e->file, 0, SEEK_END);
    if (b->failed) return up_fail(UP_ERR_MEMORY, e->path, "no memory for an event");
    for (size_t done = 0; done < b->count;) {
        ssize_t wrote = write(e->file, b->data + done, b->count - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) {
            up_status status = up_fail(UP_ERR_IO, e->path, "cannot write: %s", strerror(errno));
            if (done && ftruncate(e->file, before))
                return up_fail(UP_ERR_IO, e->path, "cannot write, and its last record is torn: %s",
                               strerror(errno));
            return status;
        }
        done += (size_t)wrote;
    }
    return UP_OK;
}

static double time_of_day(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void put_time(bytes *event, int64_t step) {
    put_double(event, 1, time_of_day());
    put_key(event, 2, WIRE_VARINT);
    put_varint(event, (uint64_t)step);
}

/* The version of the format, and where this process begins. */
static up_status write_head(const up_events *e, int64_t first) {
    static const char version[] = "brain.Event:2";
    static const unsigned char started[] = {1 << 3 | WIRE_VARINT, SESSION_START};
    bytes file = {0}, event = {0};
    put_double(&event, 1, time_of_day());
    put_bytes(&event, 3, version, sizeof version - 1);
    put_record(&file, &event);
    event.count = 0;
    put_time(&event, first);
    put_bytes(&event, 7, started, sizeof started);
    put_record(&file, &event);
    up_status status = append(e, &file);
    free(file.data);
    free(event.data);
    return status;
}

up_status up_events_open(const char *folder, int64_t first, up_events *e) {
    char host[65] = "localhost";
    *e = (up_events){0};
    gethostname(host, sizeof host - 1);
    if (asprintf(&e->path, "%s/events.out.tfevents.%010lld.%s.%ld", folder, (long long)time(NULL), host,
                 (long)getpid()) < 0) {
        e->path = NULL;
        return up_fail(UP_ERR_MEMORY, folder, "no memory for a name in it");
    }
    e->file = open(e->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    up_status status =
        e->file < 0 ? up_fail(UP_ERR_IO, e->path, "cannot write: %s", strerror(errno)) : write_head(e, first);
    if (status != UP_OK) up_events_close(e);
    return status;
}

void up_events_close(up_events *e) {
    if (e->path && e->file >= 0) close(e->file);
    free(e->path);
    *e = (up_events){0};
}

/* ---- scalars ---- */

static void put_scalar(bytes *summary, const char *tag, double value) {
    bytes entry = {0};
    put_bytes(&entry, 1, tag, strlen(tag));
    put_float(&entry, 2, (float)value);
    summary->failed |= entry.failed;
    if (!entry.failed) put_bytes(summary, 1, entry.data, entry.count);
    free(entry.data);
}

static void put_numbers(bytes *summary, const char *prefix, json_t *object) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        char tag[TAG_SIZE];
        snprintf(tag, sizeof tag, "%s%s%s", prefix, *prefix ? "/" : "", key);
        if (json_is_object(value) && strlen(tag) + 1 < sizeof tag) put_numbers(summary, tag, value);
        if (json_is_number(value) && strcmp(tag, "step")) put_scalar(summary, tag, json_number_value(value));
    }
}

up_status up_events_write(up_events *e, int64_t step, const json_t *object) {
    bytes file = {0}, event = {0}, summary = {0};
    put_numbers(&summary, "", (json_t *)(uintptr_t)object); /* jansson's iterators take no const */
    put_time(&event, step);
    event.failed |= summary.failed;
    if (!event.failed) put_bytes(&event, 5, summary.data, summary.count);
    put_record(&file, &event);
    up_status status = append(e, &file);
    free(file.data);
    free(event.data);
    free(summary.data);
    return status;
}
