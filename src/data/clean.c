/* clean.c - text as the released models read it: repaired (repair.c), HTML references replaced twice, runs of
 * white space made one space and none at either end, lower case by the rules of Python's str.lower. */
#include "data/entities.h"
#include "data/repair.h"
#include "uniperceiver/text.h"
#include <utf8proc.h>

enum { TEXT_MOST = 1 << 30 }; /* bytes: keeps every index of the tokenizer within 32 bits */

/* What plain ASCII becomes without further thought; 0 = this text needs the long way. */
static inline char plain_form(unsigned char byte) {
    if (byte == '\t' || byte == '\n' || byte == '\f' || byte == '\r') return ' ';
    if (byte < ' ' || byte >= 0x7F || byte == '&') return 0;
    return (char)(byte >= 'A' && byte <= 'Z' ? byte + 32 : byte);
}

/* Clean ASCII in one walk into `out` (room for `length`); 0 if anything in it needs the long way. */
static int clean_plain(const char *text, size_t length, char *out, size_t *out_length) {
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        char c = plain_form((unsigned char)text[i]);
        if (!c) return 0;
        if (c != ' ' || (n && out[n - 1] != ' ')) out[n++] = c;
    }
    *out_length = n - (n && out[n - 1] == ' ');
    return 1;
}

static void collapse_space(up_codes *codes) {
    size_t n = 0;
    for (size_t i = 0; i < codes->count; i++)
        if (!up_is_space(codes->at[i]))
            codes->at[n++] = codes->at[i];
        else if (n && codes->at[n - 1] != ' ')
            codes->at[n++] = ' ';
    codes->count = n - (n && codes->at[n - 1] == ' ');
}

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

static void lower(const up_codes *text, up_codes *out) {
    for (size_t i = 0; i < text->count; i++) {
        uint32_t code = text->at[i];
        if (code < 0x80)
            up_codes_push(out, code >= 'A' && code <= 'Z' ? code + 32 : code);
        else if (code == 0x0130) {
            up_codes_push(out, 'i');
            up_codes_push(out, 0x0307);
        } /* dotted I keeps its dot */
        else if (code == 0x03A3)
            up_codes_push(out, is_final_sigma(text, i) ? 0x03C2 : 0x03C3);
        else
            up_codes_push(out, (uint32_t)utf8proc_tolower((int32_t)code));
    }
}

/* The long way: code points, in two buffers by turns. The result is left in *a. */
static int clean_codes(const char *text, size_t length, up_codes *a, up_codes *b) {
    up_codes_read(a, text, length);
    up_repair(a->at, a->count, b);
    a->count = 0;
    up_unescape(b->at, b->count, a);
    b->count = 0;
    up_unescape(a->at, a->count, b);
    a->count = 0;
    collapse_space(b);
    lower(b, a);
    return !a->failed && !b->failed;
}

up_status up_clean_text(const char *text, size_t length, char **cleaned, size_t *cleaned_length) {
    if (!cleaned || !cleaned_length || (!text && length))
        return up_fail(UP_ERR_ARGUMENT, "text", "a pointer is NULL");
    *cleaned = NULL;
    *cleaned_length = 0;
    if (length > TEXT_MOST)
        return up_fail(UP_ERR_ARGUMENT, "text", "%zu bytes, at most %d are taken at once", length, TEXT_MOST);
    char *out = malloc(length + 1);
    if (!out) return up_fail(UP_ERR_MEMORY, "text", "no memory for %zu bytes", length + 1);
    size_t n = 0;
    if (!clean_plain(text, length, out, &n)) {
        up_codes a = {0}, b = {0};
        free(out);
        int ok = clean_codes(text, length, &a, &b);
        out = ok ? malloc(a.count * 4 + 1) : NULL;
        for (size_t i = 0; out && i < a.count; i++) n += up_utf8_write(a.at[i], out + n);
        free(a.at);
        free(b.at);
        if (!out) return up_fail(UP_ERR_MEMORY, "text", "no memory to clean %zu bytes", length);
    }
    out[n] = 0;
    char *fitting = realloc(out, n + 1);
    *cleaned = fitting ? fitting : out;
    *cleaned_length = n;
    return UP_OK;
}
