/* mojibake.c - mojibake.h. One step after the other, until the text stays the same. */
#include "data/mojibake.h"

#include "data/entities.h"
#include <utf8proc.h>

enum { LOST = 0x1A, NO_BREAK = 0xA0 };

/* --- unlikely neighbours --- */

static const up_char_sets *find_sets(uint32_t code) {
    size_t low = 0, high = up_garble_set_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (up_garble_sets[middle].last < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < up_garble_set_count && up_garble_sets[low].first <= code ? &up_garble_sets[low] : NULL;
}

static uint64_t sets_of(uint32_t code) {
    const up_char_sets *found = find_sets(code);
    uint64_t sets = found ? found->sets : 0;
    utf8proc_category_t category = utf8proc_category((int32_t)code);
    int letter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
    int number = category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
    int latin = (code | 32) >= 'a' && (code | 32) <= 'z';
    if (letter || number || code == '_') sets |= (uint64_t)1 << UP_GARBLE_WORD;
    if (!latin) sets |= (uint64_t)1 << UP_GARBLE_NOT_LATIN;
    if (code != '\n') sets |= (uint64_t)1 << UP_GARBLE_NOT_NEWLINE;
    return sets;
}

static int has_set(uint32_t code, int bit) {
    const up_char_sets *found = find_sets(code);
    return found && (found->sets >> bit & 1);
}

static int rule_fits(const up_garble_rule *rule, const uint32_t *text, size_t count, size_t at) {
    if (rule->at_start && at) return 0;
    for (size_t n = 0; n < UP_GARBLE_PARTS && rule->parts[n]; n++)
        if (at + n >= count || !(sets_of(text[at + n]) & rule->parts[n])) return 0;
    return 1;
}

/* Whether any rule fits the characters from `at` on, whose first two are in these sets: few rules do. */
static int any_rule(const uint32_t *text, size_t count, size_t at, const up_char_sets *first,
                    const up_char_sets *second) {
    if (!first) return 0;
    uint64_t rules = first->as_first & ((second ? second->as_second : 0) | up_garble_any_second);
    for (; rules; rules &= rules - 1)
        if (rule_fits(&up_garble_rules[__builtin_ctzll(rules)], text, count, at)) return 1;
    return 0;
}

/* One of the first three characters of every rule is beyond ASCII: rules are tried where that may be so. */
int up_is_garbled(const uint32_t *text, size_t count) {
    size_t at = 0, known = SIZE_MAX; /* the next place, and the one whose sets are `second` */
    const up_char_sets *second = NULL;
    for (size_t wide = 0; wide < count; wide++) {
        if (text[wide] < 0x80) continue;
        if (at + 2 < wide) at = wide - 2;
        for (; at <= wide; at++) {
            const up_char_sets *first = at == known ? second : find_sets(text[at]);
            known = at + 1;
            second = known < count ? find_sets(text[known]) : NULL;
            if (any_rule(text, count, at, first, second)) return 1;
        }
    }
    return 0;
}

/* --- bytes --- */

typedef struct bytes {
    unsigned char *at;
    size_t count;
} bytes;

/* The text as bytes of an encoding, into `out`, which has room; 0 if it has characters that the encoding
 * lacks. */
static int to_bytes(const up_codes *text, const up_charmap *map, bytes *out) {
    out->count = 0;
    for (size_t i = 0; i < text->count; i++) {
        uint32_t code = text->at[i];
        unsigned byte = 0;
        if (code == LOST && map->sloppy) return 0;
        if (code < 0x80) {
            out->at[out->count++] = (unsigned char)code;
            continue;
        }
        while (byte < 128 && map->codes[byte] != code) byte++;
        if (code == UP_REPLACEMENT && map->sloppy)
            byte = LOST;
        else if (byte == 128)
            return 0;
        else
            byte += 0x80;
        out->at[out->count++] = (unsigned char)byte;
    }
    return 1;
}

/* --- patterns of bytes --- */

typedef struct byte_range {
    unsigned char least, most;
} byte_range;
enum { PLACES = 6, RANGES = 4 };
typedef byte_range byte_pattern[PLACES][RANGES]; /* what may stand at each place; zeros behind the last */

static int in_ranges(const byte_range ranges[RANGES], unsigned char byte) {
    for (int r = 0; r < RANGES && ranges[r].most; r++)
        if (byte >= ranges[r].least && byte <= ranges[r].most) return 1;
    return 0;
}

/* How many bytes at `at` the first pattern that fits has; 0 if none fits. */
static size_t match_bytes(const byte_pattern *patterns, size_t count, const unsigned char *at, size_t size) {
    for (size_t p = 0; p < count; p++) {
        size_t n = 0;
        while (n < PLACES && patterns[p][n][0].most && n < size && in_ranges(patterns[p][n], at[n])) n++;
        if (n == PLACES || !patterns[p][n][0].most) return n;
    }
    return 0;
}

/* clang-format off */
#define IS(byte) {byte, byte}
#define ALTERED_FOLLOWS {{0x80, 0x84}, {0x86, 0x9F}, {0xA1, 0xBF}}
#define FOLLOWS {{0x80, 0xBF}}
#define SPACE {IS(' ')}
#define GONE {IS(LOST), IS('?')}
#define GONE_OR_FOLLOWS {IS(LOST), IS('?'), {0x80, 0xBF}}
#define LOST_OR_FOLLOWS {IS(LOST), {0x80, 0xBF}}

/* UTF-8 in which a no-break space, byte A0, became a space. */
static const byte_pattern altered[] = {
    {{{0xC2, 0xC3}, IS(0xC5), IS(0xCE), IS(0xD0)}, SPACE},
    {{IS(0xD9)}, SPACE},
    {{{0xE2, 0xE3}}, SPACE, ALTERED_FOLLOWS},
    {{{0xE0, 0xE3}}, ALTERED_FOLLOWS, SPACE},
    {{IS(0xF0)}, SPACE, FOLLOWS, FOLLOWS},
    {{IS(0xF0)}, FOLLOWS, SPACE, FOLLOWS},
    {{IS(0xF0)}, FOLLOWS, FOLLOWS, SPACE},
};

/* UTF-8 of which bytes were lost: they were read as U+FFFD, or one as a question mark. */
static const byte_pattern lossy[] = {
    {{{0xC2, 0xDF}}, {IS(LOST)}},
    {{{0xC2, 0xC3}}, {IS('?')}},
    {{IS(0xED)}, {{0xA0, 0xAF}}, GONE, {IS(0xED)}, {{0xB0, 0xBF}}, GONE_OR_FOLLOWS},
    {{IS(0xED)}, {{0xA0, 0xAF}}, GONE_OR_FOLLOWS, {IS(0xED)}, {{0xB0, 0xBF}}, GONE},
    {{{0xE0, 0xEF}}, GONE, LOST_OR_FOLLOWS},
    {{{0xE0, 0xEF}}, LOST_OR_FOLLOWS, GONE},
    {{{0xF0, 0xF4}}, GONE, LOST_OR_FOLLOWS, LOST_OR_FOLLOWS},
    {{{0xF0, 0xF4}}, LOST_OR_FOLLOWS, GONE, LOST_OR_FOLLOWS},
    {{{0xF0, 0xF4}}, LOST_OR_FOLLOWS, LOST_OR_FOLLOWS, GONE},
    {{IS(LOST)}},
};
/* clang-format on */

/* Whether "a grave, space" is a word of its own here, which has lost its no-break space and keeps this one:
 * not before what goes on as a Portuguese or Italian word. `at` stands behind both bytes. */
static int is_word_a(const unsigned char *at, size_t size) {
    static const char *const goes_on[] = {" ", "quele", "quela", "quilo", "s "};
    for (size_t i = 0; i < sizeof goes_on / sizeof goes_on[0]; i++)
        if (size >= strlen(goes_on[i]) && !memcmp(at, goes_on[i], strlen(goes_on[i]))) return 0;
    return 1;
}

/* Put no-break spaces back. `to` has room for a half more than `from` has. */
static void restore_spaces(const bytes *from, bytes *to) {
    to->count = 0;
    for (size_t i = 0; i < from->count;) {
        const unsigned char *at = from->at + i;
        size_t rest = from->count - i;
        size_t used = match_bytes(altered, sizeof altered / sizeof altered[0], at, rest);
        for (size_t k = 0; k < used; k++) to->at[to->count++] = at[k] == ' ' ? NO_BREAK : at[k];
        if (used == 2 && at[0] == 0xC3 && is_word_a(at + 2, rest - 2)) to->at[to->count++] = ' ';
        if (!used) to->at[to->count++] = at[0];
        i += used ? used : 1;
    }
}

/* Make sequences with lost bytes U+FFFD. `to` has room for three times what `from` has. */
static void replace_lossy(const bytes *from, bytes *to) {
    to->count = 0;
    for (size_t i = 0; i < from->count;) {
        size_t used = match_bytes(lossy, sizeof lossy / sizeof lossy[0], from->at + i, from->count - i);
        if (used) {
            memcpy(to->at + to->count, "\xEF\xBF\xBD", 3);
            to->count += 3;
            i += used;
        } else {
            to->at[to->count++] = from->at[i++];
        }
    }
}

/* --- bytes to text --- */

/* Two surrogates of three bytes each (CESU-8). The pattern that ftfy searches for takes a line feed that ends
 * the text for the last byte. */
static int is_pair(const unsigned char *at, size_t size) {
    return size >= 6 && at[0] == 0xED && at[1] >= 0xA0 && at[1] <= 0xAF && at[2] >= 0x80 && at[2] <= 0xBF &&
           at[3] == 0xED && at[4] >= 0xB0 && at[4] <= 0xBF &&
           ((at[5] >= 0x80 && at[5] <= 0xBF) || (size == 6 && at[5] == '\n'));
}

/* NUL in two bytes, with the same exception. */
static int is_long_nul(const unsigned char *at, size_t size) {
    return size >= 2 && at[0] == 0xC0 && (at[1] == 0x80 || (size == 2 && at[1] == '\n'));
}

/* Read UTF-8, its variants included; 0 if it is none. */
static int read_strict(const bytes *from, up_codes *out) {
    out->count = 0;
    for (size_t i = 0; i < from->count;) {
        const unsigned char *at = from->at + i;
        size_t rest = from->count - i;
        uint32_t code;
        if (is_pair(at, rest)) {
            up_codes_push(out, 0x10000 + ((at[1] & 0x0Fu) << 16) + ((at[2] & 0x3Fu) << 10) +
                                   ((at[4] & 0x0Fu) << 6) + (at[5] & 0x3Fu));
            i += 6;
        } else if (is_long_nul(at, rest)) {
            up_codes_push(out, 0);
            i += 2;
        } else {
            i += up_utf8_read((const char *)at, rest, &code);
            if (code == UP_REPLACEMENT && memcmp(at, "\xEF\xBF\xBD", rest < 3 ? rest : 3)) return 0;
            if (code == UP_REPLACEMENT && rest < 3) return 0;
            up_codes_push(out, code);
        }
    }
    return 1;
}

/* --- the steps --- */

static int is_altered(const bytes *text) {
    for (size_t i = 0; i < text->count; i++)
        if (match_bytes(altered, sizeof altered / sizeof altered[0], text->at + i, text->count - i)) return 1;
    return 0;
}

/* The text read anew through one encoding, into `out`; 0 if that gives no UTF-8. */
static int through(const up_codes *text, const up_charmap *map, bytes work[2], up_codes *out) {
    bytes *from = &work[0], *to = &work[1];
    if (!to_bytes(text, map, from)) return 0;
    if (strcmp(map->name, "macroman") != 0 && is_altered(from)) {
        restore_spaces(from, to);
        bytes *restored = to;
        to = from;
        from = restored;
    }
    if (map->sloppy) {
        replace_lossy(from, to);
        from = to;
    }
    return read_strict(from, out);
}

static int through_any(const up_codes *text, up_codes *out) {
    size_t room = text->count * 5 + 8; /* half more, then three times that */
    bytes work[2] = {{malloc(room), 0}, {malloc(room), 0}};
    int done = 0;
    if (!work[0].at || !work[1].at) out->failed = 1;
    for (size_t i = 0; i < up_charmap_count && !done && !out->failed; i++)
        done = through(text, &up_charmaps[i], work, out);
    free(work[0].at);
    free(work[1].at);
    return done;
}

/* How many characters from `at` on look like whole sequences of UTF-8 that was read in an encoding. */
static size_t sequences_at(const up_codes *text, size_t at) {
    size_t n = 0;
    if (at && has_set(text->at[at - 1], UP_GARBLE_CONTINUATION_STRICT)) return 0;
    for (;;) {
        size_t left = text->count - at - n, length = 2, k = 1;
        while (left && length < 5 && !has_set(text->at[at + n], UP_GARBLE_FIRST_OF_2 + (int)length - 2))
            length++;
        if (!left || length == 5 || length > left) return n;
        while (k < length && has_set(text->at[at + n + k], UP_GARBLE_CONTINUATION)) k++;
        if (k < length) return n;
        n += length;
    }
}

/* Set the parts right that look like UTF-8, each by itself. */
static void ungarble_parts(const up_codes *text, up_codes *out) {
    up_codes part = {0};
    out->count = 0;
    for (size_t i = 0; i < text->count;) {
        size_t n = sequences_at(text, i);
        part.count = 0;
        up_codes_append(&part, text->at + i, n ? n : 1);
        if (n && n < text->count && up_is_garbled(part.at, part.count)) up_ungarble(&part);
        up_codes_append(out, part.at, part.count);
        i += n ? n : 1;
    }
    out->failed |= part.failed;
    free(part.at);
}

/* Read C1 controls as windows-1252. `strict`: 0 unless all characters are Latin-1, and those assigned there.
 */
static int read_controls(const up_codes *text, int strict, up_codes *out) {
    out->count = 0;
    for (size_t i = 0; i < text->count; i++) {
        uint32_t code = text->at[i];
        int control = code >= 0x80 && code <= 0x9F;
        if (strict && (code > 0xFF || (control && up_windows_1252(code) == code))) return 0;
        up_codes_push(out, control ? up_windows_1252(code) : code);
    }
    return 1;
}

static int same_codes(const up_codes *a, const up_codes *b) {
    return a->count == b->count && (!a->count || !memcmp(a->at, b->at, a->count * sizeof *a->at));
}

/* One step, into `out`: the first that can be taken. */
static void step(const up_codes *text, up_codes *out) {
    if (through_any(text, out) || out->failed) return;
    ungarble_parts(text, out);
    if (!same_codes(text, out)) return;
    if (read_controls(text, 1, out) && !same_codes(text, out)) return;
    read_controls(text, 0, out);
}

void up_ungarble(up_codes *text) {
    up_codes next = {0};
    while (up_is_garbled(text->at, text->count)) {
        step(text, &next);
        if (next.failed || same_codes(text, &next)) break;
        up_codes before = *text;
        *text = next;
        next = before;
    }
    text->failed |= next.failed;
    free(next.at);
}
