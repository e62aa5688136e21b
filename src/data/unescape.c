/* unescape.c - character references (&eacute; &#233; &#xE9;) in text. Two readings of them: the HTML
 * standard's
 * ("character reference state", as Python's html.unescape), and the stricter one of the ftfy library. */
#include "data/entities.h"

enum {
    NAME_MOST = 32,
    STRICT_MOST = 24
}; /* longest name without its semicolon; longest that the strict rule takes */

static const uint16_t windows_1252[32] = {
    0x20AC, 0x0081, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0x008D, 0x017D, 0x008F, 0x0090, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x009D, 0x017E, 0x0178,
};

uint32_t up_windows_1252(uint32_t control) {
    return windows_1252[control - 0x80];
}

static int is_digit(uint32_t code) {
    return code >= '0' && code <= '9';
}
static int is_letter(uint32_t code) {
    return (code | 32) >= 'a' && (code | 32) <= 'z';
}

/* The digit's value, or 16 when it is none. */
static uint32_t hex_value(uint32_t code) {
    if (is_digit(code)) return code - '0';
    return (code | 32) >= 'a' && (code | 32) <= 'f' ? (code | 32) - 'a' + 10 : 16;
}

/* Read "&#123;" or "&#x7B;" (the semicolon may be missing) at `text`. Returns its length, or 0 if there is
 * none. */
static size_t read_number(const uint32_t *text, size_t count, uint32_t *value) {
    size_t i = 2;
    if (count < 3 || text[1] != '#') return 0;
    uint32_t base = (text[2] | 32) == 'x' ? 16 : 10;
    size_t first = base == 16 ? ++i : i;
    for (*value = 0; i < count && hex_value(text[i]) < base; i++)
        if (*value <= 0x10FFFF)
            *value = *value * base + hex_value(text[i]); /* larger ones are all the same */
    if (i == first) return 0;
    return i + (i < count && text[i] == ';');
}

/* Append what a number stands for: itself, a correction, or nothing for controls and non-characters. */
static void push_number(uint32_t value, up_codes *out) {
    if (value >= 0x80 && value <= 0x9F) {
        up_codes_push(out, up_windows_1252(value));
    } else if (value == 0 || (value >= 0xD800 && value <= 0xDFFF) || value > 0x10FFFF) {
        up_codes_push(out, UP_REPLACEMENT);
    } else {
        int control = (value < 0x20 && value != '\t' && value != '\n' && value != '\f' && value != '\r') ||
                      value == 0x7F;
        int no_character = (value >= 0xFDD0 && value <= 0xFDEF) || (value & 0xFFFE) == 0xFFFE;
        if (!control && !no_character) up_codes_push(out, value);
    }
}

static const char *find(const up_entity *table, size_t rows, const char *name, size_t length) {
    size_t low = 0, high = rows;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strncmp(table[middle].name, name, length);
        if (!order && !table[middle].name[length]) return table[middle].value;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Copy the ASCII beginning of at most `count` code points. A NUL ends it: no name holds one. */
static size_t copy_ascii(const uint32_t *text, size_t count, char *name) {
    size_t n = 0;
    for (; n < count && text[n] && text[n] < 0x80; n++) name[n] = (char)text[n];
    return n;
}

/* A named reference at `text`, a '&': the whole name if it is known, else its longest known beginning of two
 * letters or more, for names that HTML knows without a semicolon. Returns the code points consumed, 0 if
 * none. */
static size_t read_name(const uint32_t *text, size_t count, up_codes *out) {
    char name[NAME_MOST + 1];
    size_t n = 0;
    for (const uint32_t *c = text + 1; n + 1 < count && n < NAME_MOST; n++, c++)
        if (*c == '\t' || *c == '\n' || *c == '\f' || *c == ' ' || *c == '<' || *c == '&' || *c == '#' ||
            *c == ';')
            break;
    if (n && n + 1 < count && text[n + 1] == ';') n++;
    size_t ascii = copy_ascii(text + 1, n, name);
    for (size_t length = ascii; length >= 2; length--) {
        const char *value = find(up_html5_entities, up_html5_entities_count, name, length);
        if (value) {
            up_codes_read(out, value, strlen(value));
            return length + 1;
        }
    }
    return 0;
}

void up_unescape(const uint32_t *text, size_t count, up_codes *out) {
    for (size_t i = 0; i < count;) {
        size_t plain = i;
        while (i < count && text[i] != '&') i++;
        up_codes_append(out, text + plain, i - plain);
        if (i == count) return;
        uint32_t value;
        size_t used = read_number(text + i, count - i, &value);
        if (used)
            push_number(value, out);
        else
            used = read_name(text + i, count - i, out);
        if (!used) {
            up_codes_push(out, '&');
            used = 1;
        }
        i += used;
    }
}

size_t up_unescape_strict(const uint32_t *text, size_t count, up_codes *out) {
    char name[STRICT_MOST + 1];
    size_t start = count > 1 && text[1] == '#' ? 2 : 1, n = 0;
    while (start + n < count && n < STRICT_MOST && (is_digit(text[start + n]) || is_letter(text[start + n])))
        n++;
    size_t whole = start + n + 1;
    if (!n || whole > count || text[whole - 1] != ';') return 0;
    if (start == 2) {
        uint32_t value;
        if (read_number(text, count, &value) != whole || value == ';') return 0;
        push_number(value, out);
        return whole;
    }
    copy_ascii(text + 1, n + 1, name);
    const char *value = find(up_html5_entities, up_html5_entities_count, name, n + 1);
    if (!value) value = find(up_upper_entities, up_upper_entities_count, name, n + 1);
    if (!value) return 0;
    up_codes_read(out, value, strlen(value));
    return whole;
}
