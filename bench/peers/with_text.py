"""Text to CLIP's token ids on one thread, from this project's vocabulary file, by tokenizers or tiktoken: a tokenizer
that has read nothing yet, the texts whole.

tokenizers has CLIP's rules as its normaliser and pattern. tiktoken knows no end of a word: the texts are cleaned and
cut into words before the clock starts, a byte that no text has ends each word, and stands in the merges where CLIP
writes </w>; so it does less than the others, and gives the same ids."""
import gzip
import os

from worker import arguments, missing, serve

options = arguments("tokenizers", "tiktoken")
VOCABULARY_FILE = "src/data/vocabulary/bpe_simple_vocab_16e6.txt.gz"
MERGES, END = 48894, "\x01"
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
texts = [open(name, encoding="utf-8").read() for name in options.files]
size = sum(os.path.getsize(name) for name in options.files)


def alphabet():
    """CLIP's character for each byte, in the order of the ids."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def read_merges():
    lines = gzip.open(VOCABULARY_FILE, "rt", encoding="utf-8").read().split("\n")
    return [tuple(line.split()) for line in lines[1 : MERGES + 1]]


letters, merges = alphabet(), read_merges()
names = list(letters.values())
names += [n + "</w>" for n in names] + ["".join(m) for m in merges]
made, count = None, 0


def open_tokenizers():
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    tokenizer = Tokenizer(BPE({n: i for i, n in enumerate(names)}, merges, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def open_tiktoken():
    import tiktoken

    number = {letter: byte for byte, letter in letters.items()}
    end = END.encode()

    def to_bytes(name):
        ends = name.endswith("</w>")
        return bytes(number[c] for c in (name[:-4] if ends else name)) + (end if ends else b"")

    ranks = {}
    for i, name in enumerate(names):
        ranks.setdefault(to_bytes(name), i)
    encoding = tiktoken.Encoding("clip", pat_str=f"[^{END}]+{END}", mergeable_ranks=ranks, special_tokens={})
    return encoding.encode_ordinary


def cut(text):
    import regex

    return "".join(word + END for word in regex.findall(PATTERN, " ".join(text.lower().split())))


def prepare():
    global made
    made = open_tokenizers() if options.step == "tokenizers" else open_tiktoken()


def run():
    global count
    count = sum(len(made(text)) for text in texts)


try:
    if options.step == "tiktoken":
        texts = [cut(text) for text in texts]
    prepare()
    import importlib.metadata

    version = f"{options.step} {importlib.metadata.version(options.step)}"
except ImportError as error:
    missing(error)
os.environ["TOKENIZERS_PARALLELISM"] = "0"
serve(run, version, prepare, samples=size, tokens=lambda: count)
