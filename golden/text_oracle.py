"""The released model's text rules in Python, for fixtures and differential tests: ftfy, html, regex and a plain merge loop
over CLIP's vocabulary. Exact for Unicode 15.0: Python 3.12 and regex 2023.8.8."""
import gzip
import html
from pathlib import Path

import ftfy
import regex

VOCABULARY = Path(__file__).resolve().parent.parent / "src/data/vocabulary/bpe_simple_vocab_16e6.txt.gz"
PATTERN = regex.compile(
    r"""<\|startoftext\|>|<\|endoftext\|>|<\|gen\|>|<\|spe\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""",
    regex.IGNORECASE,
)
SPECIAL = ["<|startoftext|>", "<|endoftext|>", "<|mask|>", "<|gen|>", "<|spe|>"]
MERGES = 48894


def clean(text):
    text = ftfy.fix_text(text)
    text = html.unescape(html.unescape(text)).strip()
    return regex.sub(r"\s+", " ", text).strip().lower()


def byte_letters():
    shows = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shows]
    return {byte: chr(byte) for byte in shows} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


class Oracle:
    def __init__(self):
        lines = gzip.open(VOCABULARY, "rt", encoding="utf-8").read().split("\n")[1 : MERGES + 1]
        merges = [tuple(line.split()) for line in lines]
        self.letters = byte_letters()
        letters = list(self.letters.values())
        names = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges] + SPECIAL
        self.ids = {name: i for i, name in enumerate(names)}
        self.ranks = {pair: i for i, pair in enumerate(merges)}
        self.words = {}

    def merge(self, word):
        """Merge the pair of the lowest rank everywhere, from left to right, until no pair merges."""
        parts = [self.letters[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(zip(parts, parts[1:]), key=lambda pair: self.ranks.get(pair, MERGES))
            if best not in self.ranks:
                break
            joined, i = [], 0
            while i < len(parts):
                pair = tuple(parts[i : i + 2])
                joined.append("".join(pair) if pair == best else parts[i])
                i += 2 if pair == best else 1
            parts = joined
        return [self.ids[part] for part in parts]

    def encode(self, text):
        ids = []
        for word in PATTERN.findall(clean(text)):
            if word not in self.words:
                self.words[word] = [self.ids[word]] if word in SPECIAL else self.merge(word)
            ids += self.words[word]
        return ids

    def decode(self, ids):
        bytes_of = {letter: byte for byte, letter in self.letters.items()}
        names = list(self.ids)
        out = b""
        for name in (names[i] for i in ids):
            ends = name.endswith("</w>")
            letters = name.removesuffix("</w>")
            out += name.encode() if name in SPECIAL else bytes(bytes_of[letter] for letter in letters) + b" " * ends
        return out.decode("utf-8", "replace").rstrip(" ")
