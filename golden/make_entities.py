#!/usr/bin/env python3
"""Writes src/data/entities.c: HTML5's named character references (Python's html.entities) and the upper-case spellings
that ftfy accepts besides. Needs Python 3.12 (Unicode 15.0, as the rest of the text fixtures). Usage: make_entities.py
> src/data/entities.c"""
import html
from html.entities import html5


def upper_spellings():
    """An all lower-case name, written in capitals, that is no name of its own: its value in capitals."""
    for name, value in html5.items():
        upper = name.upper()
        if name.endswith(";") and name == name.lower() and html.unescape("&" + upper) == "&" + upper:
            yield upper, value.upper()


def table(name, rows):
    print("const up_entity %s[] = {" % name)
    line = ""
    for key, value in sorted(rows):
        item = '{"%s", "%s"},' % (key, "".join("\\%03o" % byte for byte in value.encode()))
        if len(line) + len(item) > 104:
            print("    " + line.rstrip())
            line = ""
        line += item + " "
    print("    " + line.rstrip() + "\n};")
    print("const size_t %s_count = sizeof %s / sizeof %s[0];" % (name, name, name))


print("""/* entities.c - HTML's named character references, sorted by name (made by golden/make_entities.py, do not edit).
 * A name with ';' needs it; values are UTF-8. Source: the HTML standard's list, as Python's html.entities has it. */
#include "data/entities.h"

/* clang-format off */""")
table("up_html5_entities", html5.items())
print()
table("up_upper_entities", upper_spellings())
