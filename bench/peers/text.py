"""Text to token ids, one core: bench_text beside tiktoken and tokenizers, on the same text, in turns.

    python3 bench/peers/text.py [--bench build/bench_text] [--rounds N] [--json] [FILE]

Each is given CLIP's vocabulary and pattern. The peers have less to do than ours, which repairs characters, replaces HTML
references and cleans white space and case. tiktoken gets text that is lower-case already and has a space behind each word,
where CLIP's tokens have their end of a word (preparing it by Python's regex is a row of its own); tokenizers lower-cases and normalises (NFC) by itself. They take lines in
chunks of about 64 KB. Each round makes every tokenizer anew, so that no word has been met ("cold"). Processor time of one
thread; medians over rounds. Without FILE, bench_text makes the text.
"""
import argparse
import gzip
import json
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import regex
import tiktoken
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, Regex

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATTERN = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"""
MERGES = 48894
CHUNK = 1 << 16


def read_merges():
    with gzip.open(ROOT / "src/data/vocabulary/bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        return [tuple(line.split()) for line in file.read().split("\n")[1 : MERGES + 1]]


def byte_letters():
    shows = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shows]
    return {byte: chr(byte) for byte in shows} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def names_of(merges):
    letters = list(byte_letters().values())
    return letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]


def make_tiktoken(merges):
    """tiktoken knows no word ends. Here a word ends with a space, which its last letter takes up first of all."""
    byte_of = {letter: bytes([byte]) for byte, letter in byte_letters().items()}
    spell = lambda name: b"".join(byte_of[c] for c in name.removesuffix("</w>")) + b" " * name.endswith("</w>")
    ranks = {spell(name): i for i, name in enumerate(names_of(merges))}
    return lambda: tiktoken.Encoding("clip", pat_str=f"(?:{PATTERN}) ", mergeable_ranks=ranks, special_tokens={})


def make_tokenizers(merges):
    vocabulary = {name: i for i, name in enumerate(names_of(merges))}

    def make():
        made = tokenizers.Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>"))
        made.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        return made

    return make


def cut(text):
    chunks, start = [], 0
    while start < len(text):
        end = text.find("\n", start + CHUNK)
        end = len(text) if end < 0 else end + 1
        chunks.append(text[start:end])
        start = end
    return chunks


def seconds_of(encode, chunks):
    start = time.thread_time()
    tokens = sum(encode(chunk) for chunk in chunks)
    return time.thread_time() - start, tokens


def prepare(chunks):
    """The text as tiktoken needs it, and the seconds that this takes."""
    pattern = regex.compile(PATTERN)
    start = time.thread_time()
    words = ["".join(word + " " for word in pattern.findall(chunk.lower())) for chunk in chunks]
    return words, time.thread_time() - start


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def measure(options, path):
    text = pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    size = pathlib.Path(path).stat().st_size
    merges = read_merges()
    of_tiktoken, of_tokenizers = make_tiktoken(merges), make_tokenizers(merges)
    chunks = cut(text)
    words, preparation = prepare(chunks)
    few = size if options.all else min(size, 4 << 20)  # tokenizers is slow: a part is enough
    part = [chunk for i, chunk in enumerate(chunks) if i * CHUNK < few]
    part_size = sum(len(chunk.encode()) for chunk in part)
    rates = {}
    for _ in range(options.rounds):
        found = json.loads(subprocess.run([options.bench, "--json", "--rounds", "1", str(path)], check=True, stdout=subprocess.PIPE).stdout)
        for kind in ("whole_cold", "lines_cold", "whole_warm", "lines_warm"):
            rates.setdefault("ours, " + kind.replace("_", ", "), []).append(found[kind + "_mb_s"])
        peer = of_tiktoken()
        for state in ("cold", "warm"):
            seconds, tokens = seconds_of(lambda chunk: len(peer.encode_ordinary(chunk)), words)
            rates.setdefault("tiktoken, " + state, []).append(1e-6 * size / seconds)
            if state == "cold":
                rates.setdefault("tiktoken and preparing", []).append(1e-6 * size / (seconds + preparation))
        peer = of_tokenizers()
        seconds, _ = seconds_of(lambda chunk: len(peer.encode(chunk)), part)
        rates.setdefault("tokenizers, cold", []).append(1e-6 * part_size / seconds)
    return size, found["tokens"], tokens, {name: statistics.median(values) for name, values in rates.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bench_text", help="the program bench_text")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--all", action="store_true", help="give tokenizers all of the text, not its first 4 MB")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("file", nargs="?", help="a text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        path = options.file or f"{made}/text"
        if not options.file:
            subprocess.run([options.bench, "--write", path], check=True)
        size, tokens, peer_tokens, rates = measure(options, path)
    versions = {"tiktoken": tiktoken.__version__, "tokenizers": tokenizers.__version__}
    if options.json:
        print(json.dumps({"processor": processor(), "bytes": size, "tokens": tokens, "tiktoken_tokens": peer_tokens,
                          "versions": versions, "mb_s": rates}))
        return
    print(f"{processor()}, one thread, {size} bytes, {tokens} tokens (tiktoken: {peer_tokens});",
          ", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{'':24}{'MB/s':>10}{'ours ahead':>12}")
    for name, rate in rates.items():
        print(f"{name:24}{rate:10.2f}{rates['ours, whole, cold'] / rate:12.1f}")


if __name__ == "__main__":
    main()
