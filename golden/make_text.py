#!/usr/bin/env python3
"""Writes golden/text: hard texts with their cleaned form, token ids and decoded form, by text_oracle.py.

A line of a file is one case, four fields between tabs: text, cleaned text, ids between spaces, decoded text. A byte that
is a control, a tab, a backslash or no part of UTF-8 is written \\xNN. Usage: make_text.py (no arguments, same output every
time)."""
import hashlib
import json
import platform
import random
import unicodedata
from html.entities import html5
from importlib.metadata import version
from pathlib import Path

import text_oracle
from ftfy.chardata import CHARMAP_ENCODINGS, HTML_ENTITIES

FOLDER = Path(__file__).resolve().parent / "text"
RANDOM = random.Random(2021)

SENTENCES = """\
A man riding a wave on top of a surfboard.
The QUICK Brown Fox Jumps Over The Lazy Dog
don't DON'T I'll we've they're he'd I'm it's O'Neill rock'n'roll 'tis y'all'd've
DON’T I‘LL WE’VE it‚s “quoted” ‘single’ „low“ «guillemets» ‹single› 〝prime〟 ʼnoun ʼn
2021-12-02 12:30:45 3.14159 1,000,000 50% $9.99 #hashtag @name user@example.org 1st 2nd 10th
٠١٢٣ ०१२ ๐๑๒ ①②③ ⅣⅧ ½¾ x² H₂O 〇 １２３ 𝟘𝟙𝟚 ⒈ ㊿
Straße STRASSE GROẞE Größe ß ẞ ﬀ ﬁ ﬂ ﬃ ﬄ ﬅ ﬆ Ĳsselmeer ĳs ŉ Ǆ ǅ ǆ Ǉ ǈ ǉ Ǌ ǋ ǌ Ǳ ǲ ǳ æ œ Œ
İstanbul ISPARTA ıspanak Iğdır iyi İİ Iı DİYARBAKIR
ΟΔΥΣΣΕΥΣ ΣΑΣ Σ ΑΣ. ΑΣ' ΑΣΑ Α.Σ Σ. Σ́ Α\u00adΣ ΑΣ\u00ad ΑΣ·Β ΑΣ:Β ΑΣ-Β 1Σ ªΣ ⒶΣ ⅣΣ ΑΣͅ ᾼΣ Σ\u0301Σ ΣΣ ΑΣʼ Α’Σ Α’ΣΒ
Ὀδυσσεύς ᾳ ῼ ᾼ ΐ Ά ά ͅ ᾳͅ Ͳ ϴ Ω K Å ſt 'ſ 'S
Привет, мир! ЁЖ Їжак Ўзбекистон ꙊѠ Ҕ Ӏ ӏ
שלום עולם בְּרֵאשִׁית ״ ׳ ﬡ שּׁ
مرحبا بالعالم الله ﷺ ﷲ لَا إِلٰهَ ـــ ۱۲۳ ﻻ ﺏ
नमस्ते दुनिया क़ ख़ कि क्ष ज़
வணக்கம் உலகம் கொ கோ கௌ
ಠ_ಠ ప్రపంచం ലോകം ଓଡ଼ିଆ ਪੰਜਾਬੀ ગુજરાતી বাংলা ড় ঢ় য় සිංහල
สวัสดีชาวโลก ກຳ ພາສາລາວ မြန်မာ ភាសាខ្មែរ བོད་ཡིག ཀྵ
你好，世界！中文字符　全角空格 漢字 豈 更 車 㐀 𠀀 𪚥 丽 ⼀ ⺀
こんにちは世界 カタカナ ｶﾞｷﾞｸﾞ ﾊﾟﾋﾟ ﾀﾞﾝﾎﾞｰﾙ が が ゔ ヷ 々 〆 ㍿ ㌔
안녕하세요 세계 각 각 가\u11a8 ᄀ ㄱ ﾡﾢ ￡￢￣ 한글 가\u11a7 나\u11a7\u11a8
ＦＵＬＬ　ｗｉｄｔｈ！＃＄％＆ａｍｐ；（１２３）～｡｢｣､･ ￠￥￦ ￨￩￪
Հայերեն ԵՒ և ﬓ ქართული ᲥᲐᲠᲗᲣᲚᲘ Ⴀ ⴀ አማርኛ ᏣᎳᎩ ꭰ ᓄᓇᕗᑦ ᚠᚢᚦ ᎠᎡ ꮜ
Zażółć gęślą jaźń Příliš žluťoučký kůň Ærøskøbing Þórshöfn Ðe Łódź Ŀl ŀ Ǻ Ǿ
Tiếng Việt: Nguyễn Ễ ễ ễ ễ Ậ ậ ậ ậ ồ ở ỡ Ự
é é e\u0301\u0327 e\u0327\u0301 ȩ́ ä̈ ṩ ṩ ẛ̣ q̣̇ q̇̇̇̇̇̇̇̇̇̇ Å Å Ω ； ` ≯ ≠ = ̸ <\u0338
Z̷̢̛͚a̸̱͐l̶̰͝g̵̨͑o̷͎̎ t̷e̷x̷t̷ a\u0301\u0316\u0345\u0308\u0334 \u0344 \u0340\u0341 \u0f73\u0f75\u0f81
😀 😀😀 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 1️⃣ #️⃣ ❤️ ❤ ☺︎ ™ © ® ‼ ㊗️ 🧑🏿‍🚀
x\u200by a\u200cb a\u200db \u200e\u200f\u202a\u202e\u2066\u2069 soft\u00adhyphen no\u00a0break word\u2060joiner \ufeffbom
𝒜𝓁𝓁 𝔪𝔞𝔱𝔥 𝐛𝐨𝐥𝐝 𝛂𝛃 ℵ ℝ ∀x∈ℝ: ∑∫√∞ ≤ ≥ ← → ⇒ ⟨⟩ ™ ℠ № ℃ Å
𐐀𐐨 𐌰 𒀀 𓀀 𐤀 𞤀𞤢 𖹀𖹠 𑢠 𐲀𐳀 𝄞 \U0001d15e \U0001d1bb 🀄 𛀀 𞸀 𑄮 𑂚 \U00011131\U00011127
<|startoftext|> <|endoftext|> <|mask|> <|gen|> <|spe|>
<|STARTOFTEXT|>a<|EndOfText|>b<|Gen|>c<|SPE|>d<|Mask|> <|ſpe|> <|ſtartoftext|>
x<|gen|> !<|gen|> <<|gen|>> <|gen| |gen|> <|gen|><|spe|>. < |gen|> &lt;|gen|&gt; <|gen|>'s 's<|spe|>
&amp; &amp;amp; &amp;amp;amp; &amp;amp;amp;amp; &amp;lt;b&amp;gt; &#38;#38;#233; &ampamp;
&lt;b&gt;bold&lt;/b&gt; &quot;q&quot; &apos;s &#39;s &nbsp;x &hellip; &mdash; &rsquo;s &copy;2021 &EACUTE; &NTILDE; &SZLIG;
<b>&eacute;&rsquo;s &amp;amp; &NTILDE; &nbsp; &fflig; &#8217;s</b>
AT&T R&D &notit; &notin; &notanentity; &am p; & &; &# &#; &#x; &#xg; &copy &copyright &reg &para&sect &timesx &Aacute;&aacute
&#0; &#1; &#9; &#10; &#11; &#13; &#27; &#31; &#59; &#x3b; &#127; &#128; &#129; &#150; &#159; &#160; &#xD800; &#xDFFF; &#x110000; &#99999999999999999999; &#xFDD0; &#xFFFE; &#x1F600; &#X41; &#0065
&#12a; &#x41g; &#65 &#65a &#x41 &#x41z &CounterClockwiseContourIntegral; &abcdefghijklmnopqrstuvwxyz; &abcdefghijklmnopqrstuvwx;
"'s" ''s '''s 'ſ 'ſt 'sx 'RE 'rex 'Ve 'llama 'dd 'Mm 't't't a's's 5's 's5
\x1b[31mred\x1b[0m \x1b[1;31;40mx \x1b[m \x1b[;;;;K \x1b[\u0663m \x1b[ \x1b[3 x\x1b \x1b[3;x9 \x1b[３m \x1b\x01[2Jz
nul\x00byte bell\x07 tab\tvt\x0bff\x0cx us\x1f del\x7f \x1c\x1d\x1e ￹a￺b￻ ￼ \u206a\u206f
line¶one\r¶two\rthree¶¶¶four\u2028five\u2029six
first <b> line¶second &amp;rsquo; line’s\r¶third &eacute;
&eacute; first¶second <b> &eacute;’s¶third &eacute; ’s
  leading and trailing \t¶ 
snake_case camelCase kebab-case path/to/file.txt C:\\dir\\file http://example.org/?a=1&b=2&copy=3&lt=4
!!! ??? ... --- *** ~~~ ___ ``` ### $$$ %%% ^^^ ((())) [[[]]] {{{}}} ||| \\\\\\ /// <<< >>> === +++
pneumonoultramicroscopicsilicovolcanoconiosis Donaudampfschifffahrtsgesellschaftskapitän antidisestablishmentarianism
""".split("\n")  # a pilcrow is a line break


def scripts():
    """Up to 40 letters, marks and numbers of every script, as the names of the characters tell it."""
    groups = {}
    for code in range(0x80, 0x32000):
        if unicodedata.category(chr(code))[0] in "LMN" and not 0xAC00 < code < 0xD7A3:
            groups.setdefault(unicodedata.name(chr(code), "?").split()[0], []).append(chr(code))
    for characters in groups.values():
        chosen = RANDOM.sample(characters, min(40, len(characters)))
        yield "".join(c + RANDOM.choice(["", "", "", " ", "A", "1", "-"]) for c in chosen)


def entities():
    names = ["&" + name for name in html5] + sorted(set(HTML_ENTITIES) - {"&" + name for name in html5})
    for i in range(0, len(names), 24):
        yield "|".join(names[i : i + 24])
        yield "".join(name.rstrip(";") + RANDOM.choice(";; x1=") for name in names[i : i + 24 : 5])


def repaired():
    """Every character that the repairs treat: widths, ligatures, quotes, controls, breaks; sixteen a line."""
    codes = [*range(0x00, 0xA1), 0xAD, *range(0x2000, 0x2070), *range(0xFB00, 0xFB07), 0x3000, 0xFEFF]
    codes += [*range(0xFF01, 0xFFFE)]
    for i in range(0, len(codes), 16):
        yield "".join("a%sB" % chr(code) for code in codes[i : i + 16])


def long_words():
    yield "a" * 20000
    yield "ab" * 3000 + "c"
    yield "!" * 5000
    yield "😀" * 700
    yield "".join(RANDOM.choice("etaoinshrdlu") for _ in range(8000))
    yield "가" * 500 + "e" + "\u0301\u0316" * 300
    yield "x" * 63 + " " + "x" * 64 + " " + "x" * 65 + " " + "yz" * 24 + " " + "yz" * 24 + "y " + "&amp" * 300


def mixtures():
    pool = [word.replace("¶", "\n") for line in SENTENCES for word in line.split(" ") if word]
    for _ in range(250):
        count = RANDOM.randint(2, 12)
        yield "".join(RANDOM.choice(pool) + RANDOM.choice([" ", " ", "", "\n", "  "]) for _ in range(count))


def broken():
    """Bytes that are not UTF-8: every lead byte with too few, too many and wrong followers."""
    for lead in range(0x80, 0x100):
        tails = [b"", b"\x80", b"\xbf\xbf", b"\x80\x80\x80", b"\x90\x80\x80\x80", b"\xa0\x80A", b"\x9f\xbfB", b"\xc3\xa9", b"A"]
        yield b" ".join(b"x" + bytes([lead]) + tail for tail in tails)
    yield from (b"\xff\xfe", b"caf\xc3", b"\xf0\x9f\x98", b"\xed\xa0\xbd\xed\xb8\x80", b"\xc0\x80", b"&eacut\xc3e;", b"\xf4\x90\x80\x80")


def misread(text):
    """Written in UTF-8 and read in another encoding, once or more; some of it altered on the way."""
    for _ in range(RANDOM.choice([1, 1, 1, 2, 3])):
        data = text.encode()
        if RANDOM.random() < 0.1:  # characters beyond 16 bits as two surrogates
            data = b"".join(half for c in text for half in in_halves(c))
        if RANDOM.random() < 0.15:
            data = data.replace(b"\xa0", b" ")
        if RANDOM.random() < 0.05:
            data += b"\xc0\x80"
        text = data.decode(RANDOM.choice(CHARMAP_ENCODINGS), "replace")
        if RANDOM.random() < 0.15:
            lost = RANDOM.choice("\ufffd?")
            text = "".join(lost if "\x80" <= c <= "\x9f" else c for c in text)
    return text


def in_halves(c):
    above = ord(c) - 0x10000
    for code in (0xD800 + (above >> 10), 0xDC00 + (above & 0x3FF)) if above >= 0 else (ord(c),):
        yield chr(code).encode("utf-8", "surrogatepass")


def garbled():
    """Words read in a wrong encoding, beside others that were not, and neighbours by chance."""
    words = sorted({word for line in SENTENCES for word in line.split() if 1 < len(word) < 30 and not word.isascii()})
    words += ["número", "voilà", "à", "fácil", "àquele", "€5", "£3", "“q”", "don’t", "—", "…", "naïve", "😀", "šç", "Π", "Р"] * 4
    some = lambda most: " ".join(RANDOM.choice(words) for _ in range(RANDOM.randint(0, most)))
    chance = [chr(c) for c in [*range(0x80, 0x180), *range(0x391, 0x3CE), *range(0x400, 0x460)]]
    chance += "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ√∂∆≠≈ÂÃ\ufffd░▒▓│┤Ω∑∏π∫ª abcA?.,!&\n"
    yield from ("nÃºmero", "â€œ like this â€\ufffd", "voilÃ le travail", "Ã quele Ã quilo Ã s Ã ", "Ã\xa0 Â ", "Ã\xb3&Atilde;&sup3;\n", "à¸")
    yield from ("\xed\xa0\xbd\xed\xb8\n", "Ã©\xc0\n", "Ã©\xc0\x80", "Ã©\xed\xa0\xbd\xed\xb8\x80", "ГўВЂВ\x9da", "Â° 5", " ÂµÂ")
    for _ in range(250):
        yield misread(some(4))
    for _ in range(150):
        yield some(2) + RANDOM.choice([" ", "", "\n"]) + misread(some(3)) + RANDOM.choice([" ", "", ". ", "<"]) + some(1) + misread(some(1))
    for _ in range(150):
        yield "".join(RANDOM.choice(chance) for _ in range(RANDOM.randint(1, 12)))


def escape(data):
    """\\xNN for what is not printable UTF-8; the backslash too."""
    if isinstance(data, bytes):
        return "".join(chr(b) if 32 <= b < 127 and b != 92 else "\\x%02x" % b for b in data)
    hidden = lambda c: c == "\\" or unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cn", "Co")
    return "".join("".join("\\x%02x" % b for b in c.encode()) if hidden(c) else c for c in data)


def write(name, texts, oracle):
    lines = []
    for text in texts:
        decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        ids = oracle.encode(decoded)
        fields = [escape(text), escape(text_oracle.clean(decoded)), " ".join(map(str, ids)), escape(oracle.decode(ids))]
        lines.append("\t".join(fields) + "\n")
    data = "".join(lines).encode()
    (FOLDER / name).write_bytes(data)
    return {"file": name, "cases": len(lines), "sha256": hashlib.sha256(data).hexdigest()}


def main():
    oracle = text_oracle.Oracle()
    texts = [*(line.replace("¶", "\n") for line in SENTENCES), *scripts(), *entities(), *repaired(), *long_words(), *mixtures()]
    files = [write("cases.txt", texts, oracle), write("broken.txt", broken(), oracle), write("garbled.txt", garbled(), oracle)]
    made_by = {"python": platform.python_version(), "unicode": unicodedata.unidata_version}
    made_by |= {package: version(package) for package in ("ftfy", "regex")}
    (FOLDER / "manifest.json").write_text(json.dumps({"made_by": made_by, "files": files}, indent=2) + "\n")


main()
