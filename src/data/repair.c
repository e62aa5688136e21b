/* repair.c - ftfy.fix_text: character references, wrong decodings (mojibake.c), C1 controls, Latin ligatures,
 * full and half width, curly quotes, line breaks, terminal escapes, control characters, and NFC, again and
 * again until nothing changes. Line by line, as ftfy does. */
#include "data/repair.h"

#include "data/entities.h"
#include "data/mojibake.h"
#include <utf8proc.h>

enum {
    SEGMENT_MOST = 1000000, /* code points repaired at once; a longer line is cut, as ftfy cuts it */
    ROUNDS_MOST = 64 /* ftfy has no bound: this one only meets references nested deeper, "&amp;amp;amp;..." */
};

static const struct {
    uint16_t code, parts[3];
} ligatures[] = {
    {0x0132, {'I', 'J'}},    {0x0133, {'i', 'j'}},    {0x0149, {0x02BC, 'n'}},   {0x01C4, {'D', 0x017D}},
    {0x01C5, {'D', 0x017E}}, {0x01C6, {'d', 0x017E}}, {0x01C7, {'L', 'J'}},      {0x01C8, {'L', 'j'}},
    {0x01C9, {'l', 'j'}},    {0x01CA, {'N', 'J'}},    {0x01CB, {'N', 'j'}},      {0x01CC, {'n', 'j'}},
    {0x01F1, {'D', 'Z'}},    {0x01F2, {'D', 'z'}},    {0x01F3, {'d', 'z'}},      {0xFB00, {'f', 'f'}},
    {0xFB01, {'f', 'i'}},    {0xFB02, {'f', 'l'}},    {0xFB03, {'f', 'f', 'i'}}, {0xFB04, {'f', 'f', 'l'}},
    {0xFB05, {0x017F, 't'}}, {0xFB06, {'s', 't'}},
};

static uint32_t uncurl(uint32_t code) {
    if (code == 0x02BC || (code >= 0x2018 && code <= 0x201B)) return '\'';
    return code >= 0x201C && code <= 0x201F ? '"' : code;
}

/* Append what one code point becomes by itself. */
static void push_repaired(uint32_t code, up_codes *out) {
    if (code >= 0x80 && code <= 0x9F) code = up_windows_1252(code);
    if ((code >= 0x0132 && code <= 0x01F3) || (code >= 0xFB00 && code <= 0xFB06))
        for (size_t i = 0; i < sizeof ligatures / sizeof ligatures[0]; i++)
            if (ligatures[i].code == code) {
                for (int k = 0; k < 3 && ligatures[i].parts[k]; k++)
                    up_codes_push(out, uncurl(ligatures[i].parts[k]));
                return;
            }
    if (code == 0x3000) code = ' ';
    if (code == 0x2028 || code == 0x2029 || code == 0x85) code = '\n';
    if (code > 0xFF00 && code < 0xFFF0) { /* full and half width: the compatibility form */
        utf8proc_int32_t parts[4];
        int boundary = 0;
        utf8proc_ssize_t n =
            utf8proc_decompose_char((int32_t)code, parts, 4, UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE, &boundary);
        for (utf8proc_ssize_t i = 0; i < n && i < 4; i++) up_codes_push(out, uncurl((uint32_t)parts[i]));
    } else {
        up_codes_push(out, uncurl(code));
    }
}

/* One walk for references, one for characters and line breaks. */
static void replace_references(const up_codes *from, up_codes *to) {
    for (size_t i = 0; i < from->count;) {
        size_t used = from->at[i] == '&' ? up_unescape_strict(from->at + i, from->count - i, to) : 0;
        if (!used) up_codes_push(to, from->at[i++]);
        i += used;
    }
}

static void replace_characters(const up_codes *from, up_codes *to) {
    for (size_t i = 0; i < from->count; i++) {
        uint32_t code = from->at[i];
        if (code == '\r') {
            if (i + 1 == from->count || from->at[i + 1] != '\n') up_codes_push(to, '\n');
        } else if (code < 0x80) {
            up_codes_push(to, code);
        } else {
            push_repaired(code, to);
        }
    }
}

static int is_control(uint32_t code) {
    if (code < 0x80)
        return (code < 0x20 && code != '\t' && code != '\n' && code != '\f' && code != '\r') || code == 0x7F;
    return (code >= 0x206A && code <= 0x206F) || code == 0xFEFF || (code >= 0xFFF9 && code <= 0xFFFC);
}

/* The length of a terminal escape, ESC [ digits and semicolons, a letter; 0 if none stands at `text`. */
static size_t terminal_escape(const uint32_t *text, size_t count) {
    size_t i = 2;
    if (count < 3 || text[0] != 0x1B || text[1] != '[') return 0;
    while (i < count && (text[i] == ';' || utf8proc_category((int32_t)text[i]) == UTF8PROC_CATEGORY_ND)) i++;
    return i < count && (text[i] | 32) >= 'a' && (text[i] | 32) <= 'z' ? i + 1 : 0;
}

static void remove_controls(up_codes *codes) {
    size_t kept = 0;
    for (size_t i = 0; i < codes->count;) {
        size_t escape = terminal_escape(codes->at + i, codes->count - i);
        if (!escape && !is_control(codes->at[i])) codes->at[kept++] = codes->at[i];
        i += escape ? escape : 1;
    }
    codes->count = kept;
}

static unsigned combining_class(uint32_t code) {
    return (unsigned)utf8proc_get_property((int32_t)code)->combining_class & 0xFF;
}

/* Sort a run of marks by combining class, stable and in linear time however long it is. */
static void order_marks(uint32_t *marks, size_t count, up_codes *spare) {
    size_t starts[257] = {0}, i = 1;
    while (i < count && combining_class(marks[i - 1]) <= combining_class(marks[i])) i++;
    spare->count = 0;
    if (i >= count || !up_codes_reserve(spare, count)) return;
    for (i = 0; i < count; i++) starts[combining_class(marks[i]) + 1]++;
    for (i = 1; i < 257; i++) starts[i] += starts[i - 1];
    for (i = 0; i < count; i++) spare->at[starts[combining_class(marks[i])]++] = marks[i];
    memcpy(marks, spare->at, count * sizeof *marks);
}

/* Compose ordered text, piece by piece between the vowels U+11A7: they compose with nothing, but some
 * versions of utf8proc take one for the empty final consonant of the syllable before it. */
static void compose_pairs(up_codes *codes) {
    size_t kept = 0;
    for (size_t at = 0, end; at < codes->count; at = end + 1) {
        for (end = at; end < codes->count && codes->at[end] != 0x11A7;) end++;
        memmove(codes->at + kept, codes->at + at, (end - at) * sizeof *codes->at);
        utf8proc_ssize_t n =
            utf8proc_normalize_utf32((utf8proc_int32_t *)codes->at + kept, (utf8proc_ssize_t)(end - at),
                                     UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        kept += n < 0 ? end - at : (size_t)n;
        if (end < codes->count) codes->at[kept++] = 0x11A7;
    }
    codes->count = kept;
}

/* Canonical composition (Unicode annex 15): decompose, order the marks, compose. `spare` is room to work in.
 */
static void compose(const up_codes *from, up_codes *to, up_codes *spare) {
    for (size_t i = 0; i < from->count; i++) {
        utf8proc_int32_t parts[8];
        int boundary = 0;
        if (from->at[i] < 0xC0) {
            up_codes_push(to, from->at[i]);
            continue;
        }
        utf8proc_ssize_t n =
            utf8proc_decompose_char((int32_t)from->at[i], parts, 8, UTF8PROC_DECOMPOSE, &boundary);
        for (utf8proc_ssize_t k = 0; k < n && k < 8; k++) up_codes_push(to, (uint32_t)parts[k]);
    }
    for (size_t i = 0, run = 0; i <= to->count; i++)
        if (i == to->count || to->at[i] < 0x300 || !combining_class(to->at[i])) {
            if (i > run + 1) order_marks(to->at + run, i - run, spare);
            run = i + 1;
        }
    if (!to->failed) compose_pairs(to);
}

static void swap(up_repairer *work) {
    up_codes done = work->next;
    work->next = work->text;
    work->text = done;
    work->next.count = 0;
}

static int any(const up_codes *codes, uint32_t least, uint32_t most) {
    for (size_t i = 0; i < codes->count; i++)
        if (codes->at[i] >= least && codes->at[i] <= most) return 1;
    return 0;
}

/* Code points that no repair changes, whatever stands beside them: they have no other composed form, are no
 * marks and compose with nothing before them. Only the large ranges; others take the longer way to the same
 * end. */
static inline int is_settled(uint32_t code) {
    if (code < 0x7F) return code != '&' && (code >= ' ' || code == '\t' || code == '\n' || code == '\f');
    return (code >= 0xA0 && code < 0x132) ||    /* Latin-1 and what follows, to the first ligature */
           (code >= 0x388 && code < 0x483) ||   /* Greek, Cyrillic */
           (code >= 0x4E00 && code < 0xA000) || /* Han */
           (code >= 0xAC00 && code < 0xD7A4);   /* Hangul syllables */
}

static int all_settled(const uint32_t *text, size_t count) {
    size_t i = 0;
    while (i < count && is_settled(text[i])) i++;
    return i == count;
}

/* One round over work->text. */
static void repair_round(up_repairer *work, int references) {
    work->next.count = 0;
    if (references && any(&work->text, '&', '&')) {
        replace_references(&work->text, &work->next);
        swap(work);
    }
    up_ungarble(&work->text);
    replace_characters(&work->text, &work->next);
    swap(work);
    remove_controls(&work->text);
    if (any(&work->text, 0x300, 0x10FFFF)) {
        compose(&work->text, &work->next, &work->spare);
        swap(work);
    }
}

static void repair_segment(up_repairer *work, const uint32_t *text, size_t count, int references,
                           up_codes *out) {
    up_codes *before = &work->before;
    if (all_settled(text, count) && !up_is_garbled(text, count)) {
        up_codes_append(out, text, count);
        return;
    }
    work->text.count = 0;
    before->count = 0;
    up_codes_append(&work->text, text, count);
    up_codes_append(before, text, count);
    for (int round = 0; round < ROUNDS_MOST; round++) {
        repair_round(work, references);
        if (all_settled(work->text.at, work->text.count) && !up_is_garbled(work->text.at, work->text.count))
            break;
        size_t size = work->text.count * sizeof *before->at;
        if (work->text.count == before->count && (!size || !memcmp(work->text.at, before->at, size))) break;
        before->count = 0;
        up_codes_append(before, work->text.at, work->text.count);
    }
    up_codes_append(out, work->text.at, work->text.count);
    out->failed |= work->text.failed | work->next.failed | work->spare.failed | before->failed;
}

void up_repair(up_repairer *repairer, const uint32_t *line, size_t count, int *references, up_codes *out) {
    for (size_t at = 0, size; at < count; at += size) {
        size = count - at < SEGMENT_MOST ? count - at : SEGMENT_MOST;
        for (size_t i = 0; i < size && *references; i++) *references = line[at + i] != '<';
        repair_segment(repairer, line + at, size, *references, out);
    }
}

void up_repairer_free(up_repairer *repairer) {
    free(repairer->text.at);
    free(repairer->next.at);
    free(repairer->spare.at);
    free(repairer->before.at);
}
