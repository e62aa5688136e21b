/* clean.c - text as the released models read it: repaired (repair.c), HTML references replaced twice, runs of
 * white space made one space and none at either end, lower case by the rules of Python's str.lower. */
#include "data/clean.h"

#include "data/entities.h"
#include "uniperceiver/text.h"
#include <utf8proc.h>

enum {
    TEXT_MOST = 1 << 30, /* bytes: keeps every index of the tokenizer within 32 bits */
    WINDOW = 1 << 14, /* bytes looked through at a time: they are still in the cache when they are encoded */
    BLOCK = 64
};

/* Property Case_Ignorable: marks, formats, modifiers and the punctuation inside words. */
static int is_case_ignorable(uint32_t code) {
    static const uint16_t inside_words[] = {'\'',   '.',    ':',    0x00B7, 0x0387, 0x055F,
                                            0x05F4, 0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                            0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
    for (size_t i = 0; i < sizeof inside_words / sizeof inside_words[0]; i++)
        if (inside_words[i] == code) return 1;
    utf8proc_category_t category = utf8proc_category((int32_t)code);
    return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_ME ||
           category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_LM ||
           category == UTF8PROC_CATEGORY_SK;
}

/* Property Cased, of code points that are not case-ignorable: letters with case, ordinals, Roman and ringed
 * letters. */
static int is_cased(uint32_t code) {
    utf8proc_category_t category = utf8proc_category((int32_t)code);
    if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LT) return 1;
    return code == 0xAA || code == 0xBA || (code >= 0x2160 && code <= 0x217F) ||
           (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) ||
           (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189);
}

/* Condition Final_Sigma of Unicode's SpecialCasing: a cased letter before it and none behind it. */
static int is_final_sigma(const up_codes *text, size_t at) {
    size_t before = at, behind = at + 1;
    while (before > 0 && is_case_ignorable(text->at[before - 1])) before--;
    if (!before || !is_cased(text->at[before - 1])) return 0;
    while (behind < text->count && is_case_ignorable(text->at[behind])) behind++;
    return behind == text->count || !is_cased(text->at[behind]);
}

/* Write a line in lower case as UTF-8, at most four bytes for each code point; returns how many. White space
 * of all kinds becomes spaces. */
static size_t write_lower(const up_codes *text, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < text->count; i++) {
        uint32_t code = text->at[i];
        if (code < 0x80) {
            out[n++] = (char)(code >= 'A' && code <= 'Z' ? code + 32 : code);
        } else if (code == 0x0130) { /* dotted I keeps its dot */
            out[n++] = 'i';
            n += up_utf8_write(0x0307, out + n);
        } else if (code == 0x03A3) {
            n += up_utf8_write(is_final_sigma(text, i) ? 0x03C2 : 0x03C3, out + n);
        } else if (up_is_space(code)) {
            out[n++] = ' ';
        } else {
            n += up_utf8_write((uint32_t)utf8proc_tolower((int32_t)code), out + n);
        }
    }
    return n;
}

/* --- plain lines --- */

static inline unsigned is_special(unsigned char byte) {
    unsigned space = (byte == '\t') | (byte == '\n') | (byte == '\f') | (byte == '\r');
    return (byte >= 0x7F) | (byte == '&') | ((byte < ' ') & !space);
}

/* How many bytes at the beginning need no cleaning. */
static size_t plain_bytes(const char *text, size_t size) {
    size_t n = 0;
    for (; size - n >= BLOCK; n += BLOCK) {
        unsigned char found = 0; /* without a way out, so that compilers make vectors of it */
        for (size_t i = 0; i < BLOCK; i++) found |= (unsigned char)is_special((unsigned char)text[n + i]);
        if (found) break;
    }
    while (n < size && !is_special((unsigned char)text[n])) n++;
    return n;
}

/* How many bytes the plain lines at the beginning have: about a window of them, 0 if the first one is not. */
static size_t plain_lines(const char *text, size_t size) {
    for (size_t seen = 0; seen < size;) {
        size_t window = size - seen < WINDOW ? size - seen : WINDOW, plain = plain_bytes(text + seen, window);
        if (seen + plain == size) return size;
        const char *end = memrchr(text + seen, '\n', plain);
        if (end) return (size_t)(end - text) + 1;
        if (plain < window) return 0;
        seen += window;
    }
    return 0;
}

/* --- the others --- */

static int has_reference(const up_codes *codes) {
    size_t i = 0;
    while (i < codes->count && codes->at[i] != '&') i++;
    return i < codes->count;
}

/* One line, in two buffers by turns. Returns the one that holds the result. */
static const up_codes *clean_codes(up_cleaner *c, const char *line, size_t size) {
    up_codes *from = &c->next, *to = &c->codes;
    from->count = 0;
    up_codes_read(from, line, size);
    to->count = 0;
    up_repair(&c->repairer, from->at, from->count, &c->references, to);
    for (int times = 0; times < 2 && has_reference(to); times++) {
        up_codes *repaired = to;
        to = from;
        from = repaired;
        to->count = 0;
        up_unescape(from->at, from->count, to);
    }
    return to;
}

static up_status clean_line(up_cleaner *c, const char *line, size_t size, const char **cleaned,
                            size_t *cleaned_size) {
    const up_codes *codes = clean_codes(c, line, size);
    size_t room = codes->count * 4 + 1;
    if (room > c->room) {
        free(c->line);
        c->line = malloc(room);
        c->room = c->line ? room : 0;
    }
    if (c->codes.failed || c->next.failed || !c->line)
        return up_fail(UP_ERR_MEMORY, "text", "no memory to clean %zu bytes", size);
    *cleaned_size = write_lower(codes, c->line);
    c->line[(*cleaned_size)++] = '\n';
    *cleaned = c->line;
    return UP_OK;
}

/* --- piece by piece --- */

up_cleaner up_cleaner_make(const char *text, size_t size) {
    return (up_cleaner){.text = text, .size = size, .references = 1};
}

void up_cleaner_free(up_cleaner *cleaner) {
    up_repairer_free(&cleaner->repairer);
    free(cleaner->codes.at);
    free(cleaner->next.at);
    free(cleaner->line);
}

up_status up_cleaner_next(up_cleaner *c, const char **piece, size_t *size) {
    *piece = NULL;
    *size = 0;
    if (c->at == c->size) return UP_OK;
    const char *start = c->text + c->at;
    size_t plain = plain_lines(start, c->size - c->at);
    if (plain) {
        *piece = start;
        *size = plain;
        c->at += plain;
        return UP_OK;
    }
    const char *end = memchr(start, '\n', c->size - c->at);
    c->at = end ? (size_t)(end - c->text) + 1 : c->size;
    if (c->references && memchr(c->text + c->searched, '<', (size_t)(start - c->text) - c->searched))
        c->references = 0;
    c->searched = c->at;
    return clean_line(c, start, (size_t)(c->text + c->at - start), piece, size);
}

up_status up_check_text(const char *text, size_t length) {
    if (!text && length) return up_fail(UP_ERR_ARGUMENT, "text", "a pointer is NULL");
    if (length <= TEXT_MOST) return UP_OK;
    return up_fail(UP_ERR_ARGUMENT, "text", "%zu bytes, at most %d are taken at once", length, TEXT_MOST);
}

/* --- the whole --- */

/* Append a piece in lower case, with one space for each run of white space. */
static void append_piece(const char *piece, size_t size, char *out, size_t *count) {
    size_t n = *count;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)piece[i];
        if (c >= 'A' && c <= 'Z') c = (unsigned char)(c + 32);
        if (c >= 0x80 || !up_is_space(c)) /* wider white space was replaced */
            out[n++] = (char)c;
        else if (n && out[n - 1] != ' ')
            out[n++] = ' ';
    }
    *count = n;
}

static up_status append_pieces(up_cleaner *cleaner, char **out, size_t *count) {
    size_t room = 0, size;
    const char *piece;
    do {
        UP_TRY(up_cleaner_next(cleaner, &piece, &size));
        if (!*out || size > room - *count) {
            size_t rest = cleaner->size - cleaner->at;
            room = *count + *count / 2 + size + rest + 1;
            char *grown = realloc(*out, room);
            if (!grown) return up_fail(UP_ERR_MEMORY, "text", "no memory for %zu bytes", room);
            *out = grown;
        }
        append_piece(piece, size, *out, count);
    } while (piece);
    return UP_OK;
}

up_status up_clean_text(const char *text, size_t length, char **cleaned, size_t *cleaned_length) {
    if (!cleaned || !cleaned_length) return up_fail(UP_ERR_ARGUMENT, "text", "a pointer is NULL");
    *cleaned = NULL;
    *cleaned_length = 0;
    UP_TRY(up_check_text(text, length));
    up_cleaner cleaner = up_cleaner_make(text, length);
    char *out = NULL;
    size_t n = 0;
    up_status status = append_pieces(&cleaner, &out, &n);
    up_cleaner_free(&cleaner);
    if (status != UP_OK) {
        free(out);
        return status;
    }
    n -= n && out[n - 1] == ' ';
    out[n] = 0;
    char *fitting = realloc(out, n + 1);
    *cleaned = fitting ? fitting : out;
    *cleaned_length = n;
    return UP_OK;
}
