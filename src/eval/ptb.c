/* ptb.c - a scanner: at each place every rule says how far it would read, and the longest wins, as in the
 * generated scanner that it is compared with (golden/captions.py). Written from its published rules and its
 * output; telephone numbers and marks of several lines are not known. */
#include "eval/ptb.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>

/* --- text: malloc'ed bytes that grow --- */

typedef struct bytes {
    char *data;
    size_t size, room;
} bytes;

static up_status put(bytes *b, const char *data, size_t size) {
    if (b->size + size + 1 > b->room) {
        size_t room = 2 * (b->size + size) + 64;
        char *grown = realloc(b->data, room);
        if (!grown) return up_fail(UP_ERR_MEMORY, "caption", "%zu bytes wanted", room);
        b->data = grown;
        b->room = room;
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = 0;
    return UP_OK;
}

static up_status put_text(bytes *b, const char *text) {
    return put(b, text, strlen(text));
}

/* --- one way to write each sign --- */

/* Dashes, dots and double quotes are no words, so they become spaces. */
static const struct {
    const char *from, *to;
} signs[] = {
    {"&amp;", "&"},        {"&lt;", "<"},       {"&gt;", ">"},       {"&quot;", " "},     {"&apos;", "'"},
    {"&nbsp;", " "},       {"\u00A0", " "},     {"\u2018", "'"},     {"\u2019", "'"},     {"\u201C", " "},
    {"\u201D", " "},       {"\u201E", " "},     {"\u00AB", " "},     {"\u00BB", " "},     {"\u2013", " "},
    {"\u2014", " "},       {"\u2026", " "},     {"\u00BD", " 1/2 "}, {"\u00BC", " 1/4 "}, {"\u00BE", " 3/4 "},
    {"\u2153", " 1/3 "},   {"\u2154", " 2/3 "}, {"\u00A3", " # "},   {"\u20AC", " $ "},   {"\u00A5", " $ "},
    {"\u00A2", " cents "}, {"\u00AD", ""},      {"\u2039", " "},     {"\u203A", " "},     {"``", " "},
    {"''", " "},           {"\"", " "},
};
enum { SIGNS = sizeof signs / sizeof *signs };

static up_status put_sign(bytes *b, const char *text, size_t size, size_t *used) {
    for (size_t i = 0; i < SIGNS; i++) {
        size_t length = strlen(signs[i].from);
        if (length > size || memcmp(text, signs[i].from, length)) continue;
        *used = length;
        return put_text(b, signs[i].to);
    }
    utf8proc_int32_t point;
    utf8proc_ssize_t length =
        utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &point);
    *used = length > 0 ? (size_t)length : 1;
    if (length <= 0 || point < ' ') return put(b, " ", 1);
    return put(b, text, *used);
}

static up_status write_plain(const char *text, size_t size, bytes *out) {
    UP_TRY(put(out, "", 0));
    for (size_t i = 0, used; i < size; i += used) {
        used = 1;
        char c = text[i];
        int plain = c == ' ' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        UP_TRY(plain ? put(out, &c, 1) : put_sign(out, text + i, size - i, &used));
    }
    return UP_OK;
}

/* --- how far a rule reads: from a place to a place, or 0 --- */

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int is_ascii_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Bytes of the letter that stands there, 0: none does. */
static size_t letter(const char *s) {
    utf8proc_int32_t point;
    if (!(*s & 0x80)) return is_ascii_letter(*s);
    utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)s, -1, &point);
    if (length <= 0) return 0;
    utf8proc_category_t kind = utf8proc_category(point);
    return (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO) || kind == UTF8PROC_CATEGORY_MN ||
                   kind == UTF8PROC_CATEGORY_MC
               ? (size_t)length
               : 0;
}

static size_t letters_or_digits(const char *s) {
    size_t at = 0, more;
    while ((more = is_digit(s[at]) ? 1 : letter(s + at)) ||
           (at && s[at] == '_' && (letter(s + at + 1) || is_digit(s[at + 1]))))
        at += more ? more : 1;
    return at;
}

static size_t ascii_letters(const char *s) {
    size_t at = 0;
    while (is_ascii_letter(s[at])) at++;
    return at;
}

static size_t digits(const char *s) {
    size_t at = 0;
    while (is_digit(s[at])) at++;
    return at;
}

/* Letters first; "walking.Next" is one word. */
static size_t word(const char *s) {
    size_t at = letter(s) ? letters_or_digits(s) : 0;
    while (at && s[at] && strchr(".!?", s[at]) && letter(s + at + 1)) at += 1 + letters_or_digits(s + at + 1);
    return at;
}

/* 1,000.5  10:30  .5 */
static size_t number_without_sign(const char *s) {
    size_t at = digits(s);
    while (s[at] && strchr(".,:", s[at]) && is_digit(s[at + 1])) at += 1 + digits(s + at + 1);
    return at;
}

static size_t number(const char *s) {
    size_t sign = *s == '-' || *s == '+', rest = number_without_sign(s + sign);
    return rest ? sign + rest : 0;
}

/* u.s.  p.m. */
static size_t acronym(const char *s) {
    size_t at = is_ascii_letter(*s);
    while (at && s[at] == '.' && is_ascii_letter(s[at + 1]) && !is_ascii_letter(s[at + 2])) at += 2;
    return at < 3 ? 0 : at + (s[at] == '.');
}

/* o'clock: one of a few letters, an apostrophe, a letter. */
static size_t elision(const char *s) {
    return *s && strchr("dDoOlL", *s) && s[1] == '\'' && (letter(s + 2) || is_digit(s[2])) ? 2 : 0;
}

/* 1,000.5, without a colon or a leading dot. */
static size_t amount(const char *s) {
    size_t at = digits(s);
    while (at && (s[at] == '.' || s[at] == ',') && is_digit(s[at + 1])) at += 1 + digits(s + at + 1);
    return at;
}

static size_t longest(const size_t *lengths, size_t count) {
    size_t best = 0;
    for (size_t i = 0; i < count; i++) best = lengths[i] > best ? lengths[i] : best;
    return best;
}

/* black-and-white, 10-year-old, 1-2-3, U.S.-made */
static size_t hyphenated(const char *s) {
    size_t first = elision(s), more;
    const size_t begins[] = {first + letters_or_digits(s + first), word(s), amount(s), acronym(s)};
    size_t at = longest(begins, 4);
    while (at > first && s[at] == '-') {
        size_t skip = 1 + elision(s + at + 1);
        const size_t parts[] = {letters_or_digits(s + at + skip), acronym(s + at + skip)};
        more = longest(parts, 2);
        if (!more) break;
        at += skip + more;
    }
    return at > first ? at : 0;
}

/* A part of "and/or": ASCII letters and digits, then at most two parts of letters behind hyphens. */
static size_t slash_part(const char *s) {
    size_t at = 0;
    while (is_digit(s[at]) || is_ascii_letter(s[at])) at++;
    for (int i = 0; i < 2 && at && s[at] == '-' && is_ascii_letter(s[at + 1]); i++)
        at += 1 + ascii_letters(s + at + 1);
    return at;
}

static size_t slashed(const char *s) {
    size_t at = slash_part(s);
    int parts = 0;
    while (at && parts < 2 && s[at] == '/' && slash_part(s + at + 1)) {
        at += 1 + slash_part(s + at + 1);
        parts++;
    }
    return parts ? at : 0;
}

static size_t few_digits(const char *s) {
    size_t n = digits(s);
    return n <= 4 ? n : 0;
}

/* 1 1/2 */
static size_t fraction(const char *s) {
    size_t at = few_digits(s);
    if (at && (s[at] == ' ' || s[at] == '-') && few_digits(s + at + 1)) at += 1 + few_digits(s + at + 1);
    if (!at || s[at] != '/' || !few_digits(s + at + 1)) return 0;
    return at + 1 + few_digits(s + at + 1);
}

/* AT&T, R&B */
static size_t with_ampersand(const char *s) {
    size_t at = 0;
    int joined = 0;
    for (;;) {
        size_t first = at;
        while (s[at] >= 'A' && s[at] <= 'Z') at++;
        if (at == first) return 0;
        if ((s[at] != '&' && s[at] != '+') || s[at + 1] < 'A' || s[at + 1] > 'Z') return joined ? at : 0;
        joined = 1;
        at++;
    }
}

static size_t address(const char *s) {
    size_t http = !strncasecmp(s, "http://", 7) ? 7 : !strncasecmp(s, "https://", 8) ? 8 : 0;
    size_t end = http;
    if (!http && strncasecmp(s, "www.", 4)) return 0;
    while (s[end] && !strchr(" \"<>|()", s[end])) end++;
    while (end && strchr(".!?,-{}", s[end - 1])) end--;
    return end > http + 4 ? end : 0;
}

static size_t mail(const char *s) {
    size_t at = 0, dot = 0;
    while (is_digit(s[at]) || is_ascii_letter(s[at]) || (at && s[at] && strchr("._-+", s[at]))) at++;
    if (!at || s[at] != '@') return 0;
    for (at++; is_digit(s[at]) || is_ascii_letter(s[at]) || s[at] == '-' || s[at] == '.'; at++)
        if (s[at] == '.' && is_ascii_letter(s[at + 1])) dot = at;
    return dot ? dot + 1 + ascii_letters(s + dot + 1) : 0;
}

static size_t tagged(const char *s) {
    size_t at = 1;
    if ((*s != '#' && *s != '@') || !(is_ascii_letter(s[1]) || s[1] == '_')) return 0;
    while (is_ascii_letter(s[at]) || is_digit(s[at]) || s[at] == '_') at++;
    return at;
}

static size_t markup(const char *s) {
    size_t at = s[1] == '/' ? 2 : 1;
    if (*s != '<' || !(is_ascii_letter(s[at]) || (s[1] == '!' && is_ascii_letter(s[2])))) return 0;
    while (s[at] && !strchr("<>", s[at])) at++;
    return s[at] == '>' ? at + 1 : 0;
}

static size_t smiley(const char *s) {
    size_t at = *s == '<' || *s == '>';
    if (!s[at] || !strchr(":;=", s[at])) return 0;
    at++;
    if (s[at] && strchr("-o*'", s[at])) at++;
    return s[at] && strchr("()DPdpO\\{@|[]", s[at]) ? at + 1 : 0;
}

/* Upper case before a dollar, as in US$. */
static size_t dollar(const char *s) {
    size_t at = 0;
    while (s[at] >= 'A' && s[at] <= 'Z') at++;
    return s[at] == '$' ? at + 1 : 0;
}

static size_t run(const char *s, const char *of) {
    return *s ? strspn(s, of) : 0;
}

static size_t questions(const char *s) {
    return run(s, "?!");
}

static size_t stars(const char *s) {
    return run(s, "*");
}

static size_t hashes(const char *s) {
    return run(s, "#");
}

/* Words that keep their dot: always, where a capital begins them, before a number. */
static const char *const dotted =
    " adj adm adv al ala alex apr aug ave bhd brig calif cf cie co col conn corp cos cpl ct dak dec det dr "
    "drs "
    "ens esq est etc ext feb fla fri ft ga gen gov hon inc ind jan jos jr jul jun kan ky lt ltd maj mar md "
    "messrs mme mo mon mont mr mrs ms mt neb nev nov oct penn pfc ph plc pres prof pvt rd rep rev rt sen "
    "sens "
    "sep sept seq sfc sgt spc sq sr st ste sys tel thu thurs tue tues va vs vt wed wis wm wyo mfg mtg pte "
    "pty ";
static const char *const dotted_names = " ark az del ill la mass miss ore pa tex wash ";
static const char *const dotted_numbers = " art ca fig no nos op pp prop ";

static int is_listed(const char *list, const char *s, size_t size) {
    char entry[16] = " ";
    if (size + 3 > sizeof entry) return 0;
    for (size_t i = 0; i < size; i++) entry[i + 1] = (char)(s[i] | 0x20);
    memcpy(entry + size + 1, " ", 2);
    return strstr(list, entry) != NULL;
}

static size_t abbreviation(const char *s) {
    size_t size = ascii_letters(s);
    if (!size || s[size] != '.') return 0;
    if (!strncasecmp(s, "ph.d", 4) && !letter(s + 4)) return 4 + (s[4] == '.');
    size_t behind = size + 1 + strspn(s + size + 1, " ");
    int kept = size == 1 || is_listed(dotted, s, size);
    kept |= *s < 'a' && is_listed(dotted_names, s, size);
    kept |= is_digit(s[behind]) && is_listed(dotted_numbers, s, size);
    return kept ? size + 1 : 0;
}

/* --- apostrophes --- */

static int ends_word(const char *s) {
    return !letter(s);
}

/* The n't of a word begins there, in bytes from s; 0: it has none. */
static size_t negated(const char *s) {
    size_t size = ascii_letters(s);
    if (size < 2 || (s[size - 1] | 0x20) != 'n' || (s[size - 2] | 0x20) == 'n') return 0;
    if (s[size] != '\'' || (s[size + 1] | 0x20) != 't' || letter(s + size + 2)) return 0;
    return size - 1;
}

static size_t auxiliary(const char *s) {
    static const char *const endings[] = {"'s", "'m", "'d", "'re", "'ve", "'ll"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t size = strlen(endings[i]);
        if (!strncasecmp(s, endings[i], size) && ends_word(s + size)) return size;
    }
    return 0;
}

/* n't, 'n', 'em, '90s and the like, standing alone. */
static size_t shortened(const char *s) {
    if (!strncasecmp(s, "n't", 3) && ends_word(s + 3)) return 3;
    if (!strncasecmp(s, "ol'", 3) && ends_word(s + 3)) return 3;
    if (!strncasecmp(s, "'n'", 3)) return 3;
    if (!strncasecmp(s, "'n", 2) && ends_word(s + 2)) return 2;
    if (!strncasecmp(s, "'em", 3) && ends_word(s + 3)) return 3;
    if (*s && strchr("lLdDjJ", *s) && s[1] == '\'') return 2;
    if (*s == '\'' && s[1] >= '2' && s[1] <= '9' && is_digit(s[2]) && !is_digit(s[3]))
        return s[2] == '0' && s[3] == 's' ? 4 : 3;
    return auxiliary(s);
}

/* Names such as O'Reilly, words such as ma'am, y'all: the part that is one word with its apostrophe. */
static size_t inner_apostrophe(const char *s) {
    size_t size = ascii_letters(s);
    if (!size || s[size] != '\'') return 0;
    const char *rest = s + size + 1;
    size_t more = ascii_letters(rest);
    if (size == 1 && (*s | 0x20) == 'y' && more) return 2;
    if (elision(s)) return 2 + letters_or_digits(s + 2);
    if (size == 1 && ((*s >= 'A' && *s <= 'X' && *s != 'I') || *s == 'n') && more >= 2) return 2 + more;
    if (size > 1 && strchr("aeiouyAEIOUY", s[size - 1]) && more && (strchr("aeiou", *rest) || *rest <= 'Z'))
        return size + 1 + more;
    return 0;
}

/* --- words of two --- */

static const struct {
    const char *whole;
    size_t first; /* bytes of the first */
} pairs[] = {{"cannot", 3}, {"gonna", 3}, {"gotta", 3}, {"lemme", 3}, {"gimme", 3},
             {"wanna", 3},  {"'tis", 2},  {"'twas", 2}, {"d'ye", 2},  {"more'n", 4}};

static size_t pair_at(const char *s, size_t *first) {
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        size_t size = strlen(pairs[i].whole);
        if (strncasecmp(s, pairs[i].whole, size) || letter(s + size) || is_digit(s[size])) continue;
        *first = pairs[i].first;
        return size;
    }
    return 0;
}

/* --- the scanner --- */

typedef size_t (*rule)(const char *s);
static const rule rules[] = {
    word,    number, acronym,      hyphenated, slashed,         fraction, with_ampersand,
    address, mail,   tagged,       markup,     smiley,          dollar,   questions,
    stars,   hashes, abbreviation, shortened,  inner_apostrophe};

static const struct {
    char sign;
    const char *word;
} brackets[] = {{'(', "-lrb-"}, {')', "-rrb-"}, {'[', "-lsb-"},
                {']', "-rsb-"}, {'{', "-lcb-"}, {'}', "-rcb-"}};

/* Signs that are no words when they stand alone. */
static int is_dropped(const char *s, size_t size) {
    return size == 1 && strchr("'`.?!,:-;", *s) != NULL;
}

static up_status put_small(bytes *out, const char *s, size_t size) {
    for (size_t i = 0; i < size;) {
        utf8proc_int32_t point;
        utf8proc_uint8_t small[4];
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(size - i), &point);
        if (used <= 0) return UP_OK; /* cannot be: write_plain left none */
        i += (size_t)used;
        point = point == ' ' ? 0xA0 : utf8proc_tolower(point);
        UP_TRY(put(out, (const char *)small, (size_t)utf8proc_encode_char(point, small)));
    }
    return UP_OK;
}

static const char *bracket_word(char sign) {
    for (size_t i = 0; i < sizeof brackets / sizeof *brackets; i++)
        if (brackets[i].sign == sign) return brackets[i].word;
    return NULL;
}

static up_status put_word(bytes *out, const char *s, size_t size) {
    if (is_dropped(s, size)) return UP_OK;
    if (out->size) UP_TRY(put(out, " ", 1));
    for (size_t i = 0, more; i < size; i += more) {
        const char *name = bracket_word(s[i]);
        for (more = 1; !name && i + more < size && !bracket_word(s[i + more]);) more++;
        UP_TRY(name ? put_text(out, name) : put_small(out, s + i, more));
    }
    return UP_OK;
}

static size_t character(const char *s) {
    utf8proc_int32_t point;
    utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)s, -1, &point);
    return length > 0 ? (size_t)length : 1;
}

/* Put what stands there, and go on behind it. */
static up_status take(bytes *out, const char **at) {
    const char *s = *at;
    size_t best = 0, first = 0, pair = pair_at(s, &first);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        size_t read = rules[i](s);
        if (read > best) best = read;
    }
    if (!pair && (first = negated(s)) && first + 3 > best) pair = first + 3;
    if (pair && pair >= best) {
        *at += pair;
        UP_TRY(put_word(out, s, first));
        return put_word(out, s + first, pair - first);
    }
    if (!best) best = character(s);
    *at += best;
    return put_word(out, s, best);
}

up_status up_ptb_tokenize(const char *text, size_t size, char **words) {
    bytes plain = {0}, out = {0};
    up_status status = UP_OK;
    *words = NULL;
    UP_GO(write_plain(text, size, &plain));
    UP_GO(put(&out, "", 0));
    for (const char *at = plain.data; *at;) {
        size_t skipped = strspn(at, " ");
        size_t dots = strspn(at, ".");
        if (dots > 1) skipped = dots;
        size_t dashes = strspn(at, "-");
        if (dashes > 1) skipped = dashes;
        at += skipped;
        if (!skipped) UP_GO(take(&out, &at));
    }
    *words = out.data;
    out.data = NULL;
done:
    free(plain.data);
    free(out.data);
    return status;
}
