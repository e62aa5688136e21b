#!/usr/bin/env python3
"""Writes src/data/mojibake_tables.c: what ftfy (6.3) knows of text that was decoded by a wrong encoding. The sets of
characters and the encodings are taken from the library; RULES below says in the notation of this file which neighbours are
unlikely (ftfy.badness), and CHECK compares it with the library's own pattern on random text.

Usage: make_mojibake.py > src/data/mojibake_tables.c"""
import random
import re
import sys

from ftfy.badness import BADNESS_RE, MOJIBAKE_CATEGORIES
from ftfy.chardata import CHARMAP_ENCODINGS, UTF8_CLUES

# One rule a line, the neighbours between bars, each the sets and (in quotes) characters that it may be.
# START: nothing stands before the rest. WORD: \\w. NOT_LATIN: all but A-Z, a-z. NOT_NEWLINE: all but that.
RULES = """
c1
bad lower_accented upper_accented box start_punctuation end_punctuation currency numeric law | bad
latin | lower_common upper_common | bad
bad | lower_accented upper_accented box start_punctuation end_punctuation currency numeric law
lower_accented lower_common box end_punctuation currency numeric | upper_accented
box end_punctuation currency numeric | lower_accented
lower_accented box end_punctuation | currency
space | upper_accented | currency
upper_accented box | numeric law
lower_accented upper_accented box currency end_punctuation | start_punctuation | numeric
lower_accented upper_accented currency numeric box law | end_punctuation | start_punctuation
currency numeric box | start_punctuation
latin_small | upper_accented | start_punctuation currency
box | kaomoji
lower_accented upper_accented currency numeric start_punctuation end_punctuation law | box
box | end_punctuation
lower_accented upper_accented | start_punctuation end_punctuation | WORD
'Œœ' | NOT_LATIN
upper_accented | '°'
'ÂÃÎÐ' | start_punctuation end_punctuation '€œŠš¢£Ÿž\xa0\xad®©°·»–—´'
'×' | '²³'
'ØÙ' | common currency bad numeric start_punctuation 'ŸŠ®°µ»' | 'ØÙ' | common currency bad numeric start_punctuation 'ŸŠ®°µ»'
'à' | '²µ¹¼½¾'
'√' | '±∂†≠®™´≤≥¥µø'
'≈' | '°¢'
'‚' | 'Ä' | 'ìîïòôúùû†°¢π'
'‚' | 'âó' | 'àä°ê'
'в' | 'Ђ'
'ВГРС' | c1 bad start_punctuation end_punctuation currency '°µ' | 'ВГРС'
'Г' | 'ў' | 'В' | 'Ђ' | 'В' | NOT_NEWLINE | latin ' '
'Ã' | '\xa0¡'
latin_small | 'ÃÂ' | ' '
latin_small | space | 'ÃÂ' | ' '
START | 'ÃÂ' | ' '
latin_small end_punctuation '.,?!' | 'Â' | start_punctuation end_punctuation ' '
'β' | '€' | '™\xa0Ά\xad®°'
'ΒΓΞΟ' | c1 bad start_punctuation end_punctuation currency '°' | 'ΒΓΞΟ'
'ā' | '€'
"""
START = "START"
SPECIAL = ["WORD", "NOT_LATIN", "NOT_NEWLINE"]
MOST = 0x10000


def members(characters):
    pattern = re.compile("[" + characters + "]")
    return {code for code in range(MOST) if not 0xD800 <= code < 0xE000 and pattern.match(chr(code))}


SETS = {name: members(characters) for name, characters in MOJIBAKE_CATEGORIES.items()}
SETS |= {"latin": members("A-Za-z"), "latin_small": members("a-z"), "space": members(r"\s")}
SETS |= {name: members(characters) for name, characters in UTF8_CLUES.items()}
FIRSTS = [SETS["utf8_first_of_%d" % n] for n in (2, 3, 4)]
assert not any(FIRSTS[a] & FIRSTS[b] for a, b in ((0, 1), (0, 2), (1, 2)))
BITS = {name: i for i, name in enumerate([*SPECIAL, *SETS])}


def bit_of(word):
    """The bit of a set's name, or of characters between quotes, which become a set of their own."""
    if word not in BITS:
        assert word[0] == "'" == word[-1], word
        BITS[word] = len(BITS)
        SETS[word] = {ord(c) for c in word[1:-1]}
    return 1 << BITS[word]


def read_rules():
    """Of each rule whether it stands at the start, and its parts."""
    for line in RULES.strip().split("\n"):
        anchored = line.startswith(START)
        line = line.removeprefix(START + " |")
        yield anchored, [sum(map(bit_of, set(re.findall(r"'[^']*'|\S+", part)))) for part in line.split("|")]


def bits_of(code):
    return sum(1 << BITS[name] for name, codes in SETS.items() if code in codes)


def check(rules):
    """The rules find what the library finds."""
    table = [bits_of(code) for code in range(MOST)]

    def all_bits(c):
        bits = table[ord(c)] if ord(c) < MOST else 0
        bits |= (c.isalnum() or c == "_") << BITS["WORD"] | (c != "\n") << BITS["NOT_NEWLINE"]
        return bits | (not (c.isascii() and c.isalpha())) << BITS["NOT_LATIN"]

    def is_bad(text):
        row = [*map(all_bits, text)]
        for at in range(len(row)):
            for anchored, rule in rules:
                if not (anchored and at) and at + len(rule) <= len(row) and all(row[at + i] & part for i, part in enumerate(rule)):
                    return True
        return False

    source = random.Random(1)
    pool = [chr(c) for c in range(MOST) if table[c]] + list(" aA.\n漢")
    wide = [c for c in pool if not c.isascii()]
    fitting = {part: [c for c in pool if all_bits(c) & part] or [""] for _, rule in rules for part in rule}
    for _ in range(60000):  # any characters, and such as nearly or wholly fit a rule
        text = [source.choice(wide if source.random() < 0.5 else pool) for _ in range(source.randint(1, 5))]
        if source.random() < 0.6:
            text[source.randint(0, 1) :] = [source.choice(fitting[part]) for part in source.choice(rules)[1]]
            if source.random() < 0.5:
                text[source.randrange(len(text))] = source.choice(pool)
        text = "".join(text)
        assert is_bad(text) == bool(BADNESS_RE.search(text)), repr(text)


def write_rules(rules):
    specials = sum(1 << BITS[name] for name in SPECIAL)
    print("const up_garble_rule up_garble_rules[] = {")
    for anchored, rule in rules:
        print("    {%d, {%s}}," % (anchored, ", ".join("0x%X" % part for part in rule)))
    print("};")
    free = sum(1 << r for r, (_, rule) in enumerate(rules) if len(rule) == 1 or rule[1] & specials)
    print("const uint64_t up_garble_any_second = 0x%X;\n" % free)


def write_sets(rules):
    print("const up_char_sets up_garble_sets[] = {")
    runs = []
    for code in range(MOST):
        bits = bits_of(code)
        if bits and runs and runs[-1][1] == code - 1 and runs[-1][2] == bits:
            runs[-1][1] = code
        elif bits:
            runs.append([code, code, bits])
    for first, last, bits in runs:
        as_first = sum(1 << r for r, (_, rule) in enumerate(rules) if rule[0] & bits)
        as_second = sum(1 << r for r, (_, rule) in enumerate(rules) if len(rule) > 1 and rule[1] & bits)
        print("    {0x%04X, 0x%04X, 0x%X, 0x%X, 0x%X}," % (first, last, bits, as_first, as_second))
    print("};\nconst size_t up_garble_set_count = sizeof up_garble_sets / sizeof up_garble_sets[0];\n")


def write_encodings():
    print("const up_charmap up_charmaps[] = {")
    for name in CHARMAP_ENCODINGS:
        codes = [ord(c) for c in bytes(range(128, 256)).decode(name)]
        print("    {\n        .name = \"%s\",\n        .sloppy = %d,\n        .codes = {" % (name, name.startswith("sloppy")))
        for i in range(0, 128, 12):
            print("            %s," % ", ".join("0x%04X" % code for code in codes[i : i + 12]))
        print("        },\n    },")
    print("};\nconst size_t up_charmap_count = sizeof up_charmaps / sizeof up_charmaps[0];")


def main():
    rules = list(read_rules())
    assert len(BITS) <= 64 and len(rules) <= 64 and max(len(rule) for _, rule in rules) <= 7
    check(rules)
    print("""/* mojibake_tables.c - characters and encodings of garbled text, as the ftfy library (6.3) has them (made by
 * golden/make_mojibake.py, do not edit). */
#include "data/mojibake.h"

/* clang-format off */""")
    write_rules(rules)
    write_sets(rules)
    write_encodings()
    constants = {name: BITS[name] for name in SPECIAL} | {name: BITS[name] for name in UTF8_CLUES}
    print("\n".join("    UP_GARBLE_%s = %d," % (name.upper(), bit) for name, bit in constants.items()), file=sys.stderr)


if __name__ == "__main__":
    main()
