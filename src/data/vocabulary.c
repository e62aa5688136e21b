/* vocabulary.c - reads CLIP's list of merges (Radford et al. 2021): a header line, then one pair of symbols a
 * line, in the order in which they merge. A symbol spells bytes as printable characters, with "</w>" where it
 * ends a word. */
#include "data/vocabulary.h"

#include "data/codes.h"
#include "files/file.h"

#include <errno.h>
#include <unistd.h>
#include <zlib.h>

enum {
    FILE_MOST = 64 << 20,  /* bytes of merges, unpacked */
    SYMBOL_MOST = 1024,    /* bytes that one token may spell */
    INDEX_SLOTS = 1 << 17, /* tokens by spelling, while loading */
    LETTERS = 256 + 68 /* code points that stand for bytes: 68 bytes are not printable and go beyond 255 */
};

/* The compressed list, as it lies in src/data/vocabulary/. */
__asm__(".pushsection .rodata\n.balign 4\n"
        ".hidden up_vocabulary_gz_size\n.global up_vocabulary_gz_size\n"
        ".hidden up_vocabulary_gz\n.global up_vocabulary_gz\n"
        "up_vocabulary_gz_size: .long up_vocabulary_gz_end - up_vocabulary_gz\n"
        "up_vocabulary_gz: .incbin \"" UP_VOCABULARY_GZ "\"\n"
        "up_vocabulary_gz_end:\n.popsection\n");
extern const uint32_t up_vocabulary_gz_size;
extern const unsigned char up_vocabulary_gz[];

static up_status unpack_compiled_in(char **text, size_t *size) {
    const unsigned char *tail =
        up_vocabulary_gz + up_vocabulary_gz_size - 4; /* the unpacked size, little endian */
    *size = tail[0] | (size_t)tail[1] << 8 | (size_t)tail[2] << 16 | (size_t)tail[3] << 24;
    z_stream stream = {.next_in = (unsigned char *)up_vocabulary_gz, .avail_in = up_vocabulary_gz_size};
    if (!(*text = malloc(*size + 1)))
        return up_fail(UP_ERR_MEMORY, "vocabulary", "no memory for %zu bytes", *size);
    stream.next_out = (unsigned char *)*text;
    stream.avail_out = (unsigned)*size;
    int code = inflateInit2(&stream, 15 + 16);
    if (code == Z_OK) {
        code = inflate(&stream, Z_FINISH);
        inflateEnd(&stream);
    }
    if (code == Z_STREAM_END) return UP_OK;
    return up_fail(UP_ERR_FORMAT, "vocabulary", "the compiled-in list does not unpack (zlib %d)", code);
}

static up_status read_packed(const char *path, gzFile file, char **text, size_t *size) {
    for (size_t room = 1 << 20;; room *= 2) {
        char *grown = room <= FILE_MOST ? realloc(*text, room + 1) : NULL;
        if (!grown && room > FILE_MOST)
            return up_fail(UP_ERR_FORMAT, path, "unpacks to over %d MiB, too much for a vocabulary",
                           FILE_MOST >> 20);
        if (!grown) return up_fail(UP_ERR_MEMORY, path, "no memory for %zu bytes", room);
        *text = grown;
        int got = gzread(file, *text + *size, (unsigned)(room - *size)), code;
        const char *why = gzerror(file, &code);
        if (code == Z_ERRNO) return up_fail(UP_ERR_IO, path, "%s", strerror(errno));
        if (code == Z_MEM_ERROR) return up_fail(UP_ERR_MEMORY, path, "no memory to unpack it");
        if (got < 0 || code != Z_OK) return up_fail(UP_ERR_FORMAT, path, "broken gzip data: %s", why);
        *size += (size_t)got;
        if (*size < room) return UP_OK;
    }
}

static up_status read_file(const char *path, char **text, size_t *size) {
    int descriptor;
    int64_t bytes;
    UP_TRY(up_file_open(path, &descriptor, &bytes));
    gzFile file = gzdopen(descriptor, "rb");
    if (!file) {
        close(descriptor);
        return up_fail(UP_ERR_MEMORY, path, "no memory to unpack it");
    }
    up_status status = read_packed(path, file, text, size);
    if (gzclose(file) != Z_OK && status == UP_OK)
        return up_fail(UP_ERR_FORMAT, path, "the gzip data end too soon");
    return status;
}

/* Which code point stands for which byte: printable Latin-1 for itself, the others for 256 and up in turn.
 * Tokens of single bytes are numbered in the order of printable ones first. */
static void number_bytes(up_vocabulary *out, int16_t letters[LETTERS]) {
    int id = 0, beyond = 256;
    for (int printable = 1; printable >= 0; printable--)
        for (int byte = 0; byte < 256; byte++) {
            int shows = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
            if (shows != printable) continue;
            letters[shows ? byte : beyond++] = (int16_t)byte;
            out->byte_ids[byte] = (uint16_t)id++;
        }
}

/* Make room for a token's bytes and note where they go. */
static up_status add_token(up_vocabulary *out, uint32_t id, size_t length, int ends) {
    if (out->room - out->used < length) {
        size_t room = out->room * 2 + SYMBOL_MOST;
        char *grown = realloc(out->bytes, room);
        if (!grown) return up_fail(UP_ERR_MEMORY, "vocabulary", "no memory for %zu bytes", room);
        out->bytes = grown;
        out->room = room;
    }
    out->tokens[id] = (up_token){(uint32_t)out->used, (uint16_t)length, (uint16_t)ends};
    out->used += length;
    return UP_OK;
}

/* The slot of a spelling in the index: it holds the token's id, or UP_PLAIN_TOKENS where there is none. */
static uint32_t *index_slot(const up_vocabulary *v, uint32_t *index, const char *bytes, size_t length,
                            int ends) {
    uint32_t slot = (uint32_t)(up_hash_bytes(bytes, length) + (uint64_t)ends) & (INDEX_SLOTS - 1);
    for (; index[slot] != UP_PLAIN_TOKENS; slot = (slot + 1) & (INDEX_SLOTS - 1)) {
        const up_token *token = &v->tokens[index[slot]];
        if (token->length == length && token->ends == ends && !memcmp(v->bytes + token->at, bytes, length))
            break;
    }
    return &index[slot];
}

static up_status add_bytes(up_vocabulary *out, uint32_t *index) {
    for (int ends = 0; ends < 2; ends++)
        for (int byte = 0; byte < 256; byte++) {
            char c = (char)byte;
            uint32_t id = out->byte_ids[byte] + 256u * (unsigned)ends,
                     *slot = index_slot(out, index, &c, 1, ends);
            UP_TRY(add_token(out, id, 1, ends));
            out->bytes[out->tokens[id].at] = c;
            *slot = id;
        }
    return UP_OK;
}

/* Read the next symbol of a line and look it up; UP_PLAIN_TOKENS if it is none. Moves *at behind it. */
static uint32_t read_symbol(const up_vocabulary *v, uint32_t *index, const int16_t *letters, const char **at,
                            const char *end) {
    char bytes[SYMBOL_MOST];
    size_t n = 0;
    while (*at < end && **at == ' ') ++*at;
    const char *stop = *at;
    while (stop < end && *stop != ' ' && *stop != '\r') stop++;
    int ends = stop - *at > 4 && !memcmp(stop - 4, "</w>", 4);
    for (const char *spelled = stop - 4 * ends; *at < spelled;) {
        uint32_t code;
        *at += up_utf8_read(*at, (size_t)(spelled - *at), &code);
        if (code >= LETTERS || letters[code] < 0 || n == SYMBOL_MOST) return UP_PLAIN_TOKENS;
        bytes[n++] = (char)letters[code];
    }
    *at = stop;
    return n ? *index_slot(v, index, bytes, n, ends) : UP_PLAIN_TOKENS;
}

/* Join two tokens into token 512 + rank. */
static const char *add_merge(up_vocabulary *v, uint32_t *index, uint32_t rank, uint32_t left, uint32_t right,
                             up_status *status) {
    up_token a = v->tokens[left], b = v->tokens[right];
    size_t length = (size_t)a.length + b.length;
    if (a.ends) return "its first symbol ends a word";
    if (length > SYMBOL_MOST) return "the pair spells too many bytes";
    if ((*status = add_token(v, 512 + rank, length, b.ends)) != UP_OK) return NULL;
    char *bytes = v->bytes + v->tokens[512 + rank].at;
    memcpy(bytes, v->bytes + a.at, a.length);
    memcpy(bytes + a.length, v->bytes + b.at, b.length);
    uint32_t *slot = index_slot(v, index, bytes, length, b.ends);
    if (*slot != UP_PLAIN_TOKENS) return "an earlier pair spells the same";
    *slot = 512 + rank;
    *up_pair_slot(v, left, right) = (up_pair){left << 16 | right, rank};
    return NULL;
}

static up_status parse(const char *name, const char *text, size_t size, up_vocabulary *out, uint32_t *index) {
    int16_t letters[LETTERS];
    const char *at = text, *end = text + size;
    memset(letters, -1, sizeof letters);
    number_bytes(out, letters);
    UP_TRY(add_bytes(out, index));
    for (uint32_t line = 1; line <= UP_MERGES + 1; line++) {
        const char *stop = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
        if (!stop) stop = end;
        if (at == end)
            return up_fail(UP_ERR_FORMAT, name, "%u lines, a vocabulary has at least %d", line - 1,
                           UP_MERGES + 1);
        if (line > 1) {
            up_status status = UP_OK;
            uint32_t left = read_symbol(out, index, letters, &at, stop), right = UP_PLAIN_TOKENS;
            if (left != UP_PLAIN_TOKENS) right = read_symbol(out, index, letters, &at, stop);
            while (at < stop && (*at == ' ' || *at == '\r')) at++;
            const char *why = "not two symbols made by the lines before";
            if (right != UP_PLAIN_TOKENS && at == stop)
                why = add_merge(out, index, line - 2, left, right, &status);
            if (why) return up_fail(UP_ERR_FORMAT, name, "line %u: %s", line, why);
            UP_TRY(status);
        }
        at = stop < end ? stop + 1 : end;
    }
    return UP_OK;
}

up_status up_vocabulary_load(const char *path, up_vocabulary *out) {
    const char *name = path ? path : "vocabulary";
    up_status status = UP_OK;
    char *text = NULL;
    size_t size = 0;
    uint32_t *index = malloc(INDEX_SLOTS * sizeof *index);
    memset(out, 0, sizeof *out);
    out->tokens = malloc(UP_PLAIN_TOKENS * sizeof *out->tokens);
    out->pairs = malloc(sizeof *out->pairs << UP_MERGE_BITS);
    if (!index || !out->tokens || !out->pairs)
        UP_GO(up_fail(UP_ERR_MEMORY, name, "no memory for its tables"));
    for (size_t i = 0; i < INDEX_SLOTS; i++) index[i] = UP_PLAIN_TOKENS;
    for (size_t i = 0; i < (size_t)1 << UP_MERGE_BITS; i++) out->pairs[i] = (up_pair){0, UP_MERGES};
    UP_GO(path ? read_file(path, &text, &size) : unpack_compiled_in(&text, &size));
    UP_GO(parse(name, text, size, out, index));
done:
    free(text);
    free(index);
    if (status != UP_OK) up_vocabulary_free(out);
    return status;
}

void up_vocabulary_free(up_vocabulary *vocabulary) {
    free(vocabulary->bytes);
    free(vocabulary->tokens);
    free(vocabulary->pairs);
    memset(vocabulary, 0, sizeof *vocabulary);
}
