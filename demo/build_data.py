#!/usr/bin/python3
"""Builds the demo's data, demo/data/{fashion,questions,emoji,text,clips}.tar.gz and manifest.json, from Debian packages.

Which packages, which licences and the exact commands: demo/README.md. The same packages give the same bytes: every
choice comes from a seeded generator over a sorted list, and archives carry no time of their own.
"""
import argparse
import collections
import concurrent.futures
import gzip
import hashlib
import heapq
import io
import json
import os
import random
import re
import subprocess
import tarfile
import tempfile
import xml.etree.ElementTree

from fontTools.ttLib import TTFont
from PIL import Image

FASHION = "/usr/share/datasets/fashion-mnist/"
FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
CLDR = "/usr/share/unicode/cldr/common/"
WORDNET = "/usr/share/wordnet/"
PACKAGES = "dataset-fashion-mnist", "fonts-noto-color-emoji", "unicode-cldr-core", "wordnet-base"

VOCABULARY = 1500  # ids that language modelling may use, the end token among them
CANVAS = 48  # pixels a side of emoji pictures and clips
FRAMES = 16
TAKES = 2  # clips of each training pair of emoji and motion
TEST_PER_TOPIC = 20  # glosses, or a fifth of the topic where it is small
TEST_SHARE = 0.15  # of the person x skin tone x gender combinations

CLASSES = "t-shirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot".split(",")
# Of each class: the answers to QUESTIONS.
QUESTIONS = "where is it worn?", "is it a shoe?"
ANSWERS = {
    "t-shirt": ("body", "no"), "trouser": ("legs", "no"), "pullover": ("body", "no"), "dress": ("body", "no"),
    "coat": ("body", "no"), "sandal": ("feet", "yes"), "shirt": ("body", "no"), "sneaker": ("feet", "yes"),
    "bag": ("hand", "no"), "ankle boot": ("feet", "yes"),
}
TONES = {
    "\U0001f3fb": "light skin tone",
    "\U0001f3fc": "medium-light skin tone",
    "\U0001f3fd": "medium skin tone",
    "\U0001f3fe": "medium-dark skin tone",
    "\U0001f3ff": "dark skin tone",
}

# Names whose person and gender the rule of person_of() does not find.
PERSONS = {
    "person": ("person", "person"), "man": ("person", "man"), "woman": ("person", "woman"),
    "older person": ("older", "person"), "old man": ("older", "man"), "old woman": ("older", "woman"),
    "child": ("child", "person"), "boy": ("child", "man"), "girl": ("child", "woman"),
    "merperson": ("merperson", "person"), "merman": ("merperson", "man"), "mermaid": ("merperson", "woman"),
    "person with crown": ("royal", "person"), "prince": ("royal", "man"), "princess": ("royal", "woman"),
    "mx claus": ("claus", "person"), "Santa Claus": ("claus", "man"), "Mrs. Claus": ("claus", "woman"),
    "breast-feeding": ("breast-feeding", "woman"), "baby": ("baby", ""), "baby angel": ("baby angel", ""),
    "ninja": ("ninja", ""), "snowboarder": ("snowboarder", ""), "horse racing": ("horse racing", ""),
}

# Lexicographer files of WordNet (lexnames(5)) by number, as a plain word.
TOPICS = {
    0: "quality", 1: "relation", 2: "manner", 3: "thing", 4: "action", 5: "animal", 6: "object", 7: "quality",
    8: "body", 9: "thought", 10: "communication", 11: "event", 12: "feeling", 13: "food", 14: "group", 15: "place",
    16: "motive", 17: "nature", 18: "person", 19: "phenomenon", 20: "plant", 21: "money", 22: "process",
    23: "quantity", 24: "relation", 25: "shape", 26: "state", 27: "substance", 28: "time", 29: "body", 30: "change",
    31: "thought", 32: "communication", 33: "contest", 34: "eating", 35: "touch", 36: "making", 37: "feeling",
    38: "movement", 39: "sense", 40: "money", 41: "society", 42: "being", 43: "weather", 44: "quality",
}

MOTIONS = ("moving left", "moving right", "moving up", "moving down", "growing", "shrinking", "turning clockwise",
           "turning counterclockwise", "blinking", "shaking")

# What the clips show. An asterisk: looks alike when turned, so it is never shown turning.
ACTORS = """
red apple,green apple,banana,pear,strawberry,watermelon,grapes,cherries,pineapple,lemon,carrot,ear of corn,mushroom,
bread,hamburger,pizza,hot dog,ice cream,candy,hot beverage,wine glass,beer mug,honey pot,dog face,cat face,
mouse face,rabbit face,fox,bear,panda,tiger face,lion,cow face,pig face,frog,monkey face,chicken,penguin,bird,duck,
owl,horse,elephant,snail,butterfly,bug,honeybee,turtle,snake,octopus,crab,fish,whale,shark,rooster,turkey,
evergreen tree,palm tree,cactus,four leaf clover*,maple leaf,rose,sunflower*,automobile,taxi,bus,police car,
ambulance,tractor,bicycle,airplane,helicopter,rocket,sailboat,house,castle,star,full moon*,crescent moon,sun*,cloud,
umbrella,fire,snowflake*,rainbow,soccer ball*,basketball*,baseball*,tennis*,teddy bear,balloon,kite,wrapped gift,
guitar,drum,bell,key,hammer,scissors,pencil,open book,light bulb,telephone,camera,television,crown,top hat,glasses,
t-shirt,dress,running shoe,backpack,gem stone,red heart,robot,ghost,trophy,money bag,door,chair,bed
"""


class Tokenizer:
    """CLIP's byte-pair encoding as far as the clean one-line texts here need it."""

    PATTERN = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+")

    def __init__(self, path):
        lines = gzip.open(path, "rt", encoding="utf-8").read().split("\n")
        merges = [tuple(line.split()) for line in lines[1:48895]]
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [b for b in range(256) if b not in printable]
        self.letter = {b: chr(b) for b in printable}
        self.letter.update({b: chr(256 + n) for n, b in enumerate(others)})
        letters = [self.letter[b] for b in printable + others]
        tokens = letters + [c + "</w>" for c in letters] + ["".join(pair) for pair in merges]
        self.id = {token: n for n, token in enumerate(tokens)}
        self.rank = {pair: n for n, pair in enumerate(merges)}
        self.cache = {}

    def word(self, word):
        if word not in self.cache:
            parts = [self.letter[b] for b in word.encode()]
            parts[-1] += "</w>"
            while len(parts) > 1:
                best = min(zip(parts, parts[1:]), key=lambda pair: self.rank.get(pair, len(self.rank)))
                if best not in self.rank:
                    break
                parts = self.merge(parts, best)
            self.cache[word] = [self.id[part] for part in parts]
        return self.cache[word]

    @staticmethod
    def merge(parts, pair):
        out = []
        for part in parts:
            if out and (out[-1], part) == pair:
                out[-1] += part  # cannot be the left half of the same pair: the merged part is longer
            else:
                out.append(part)
        return out

    def __call__(self, text):
        return [i for word in self.PATTERN.findall(text.lower()) for i in self.word(word)]


# --- files ---


def table(columns, rows):
    lines = ["\t".join(columns)] + ["\t".join(row[c] for c in columns) for row in rows]
    assert all(line.count("\t") == len(columns) - 1 and "\n" not in line for line in lines)
    return ("\n".join(lines) + "\n").encode()


def pack(path, files):
    """Writes {name: bytes} as a tar.gz that depends on nothing else."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(files[name]), 0o644
            tar.addfile(info, io.BytesIO(files[name]))
    with open(path, "wb") as f:
        f.write(gzip.compress(out.getvalue(), 9, mtime=0))


def numbered(rows, column, folder, ending, encode):
    """Names the file of each row, relative to the list beside its folder, encodes it, and returns {path: bytes}."""
    for n, row in enumerate(rows):
        row[column] = f"{os.path.basename(folder)}/{n:05d}.{ending}"
    paths = [f"{os.path.dirname(folder)}/{row[column]}" for row in rows]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(paths, pool.map(encode, rows)))


# --- Fashion-MNIST ---


def fashion_rows(part, per_class, rng):
    pixels = gzip.open(f"{FASHION}{part}-images-idx3-ubyte.gz").read()[16:]
    labels = gzip.open(f"{FASHION}{part}-labels-idx1-ubyte.gz").read()[8:]
    of_class = [[n for n, label in enumerate(labels) if label == c] for c in range(len(CLASSES))]
    chosen = sorted(n for group in of_class for n in rng.sample(group, per_class))
    return [{"label": CLASSES[labels[n]], "pixels": pixels[n * 784:(n + 1) * 784]} for n in chosen]


def fashion_png(row):
    out = io.BytesIO()  # pixels stored as they are: the archive then packs all pictures together, 9% smaller
    Image.frombytes("L", (28, 28), row["pixels"]).save(out, "PNG", compress_level=0)
    return out.getvalue()


def build_fashion():
    rng, files, counts = random.Random(1), {}, {}
    for split, part, per_class in (("train", "train", 1000), ("test", "t10k", 100)):
        rows = fashion_rows(part, per_class, rng)
        files.update(numbered(rows, "image", f"fashion/{split}", "png", fashion_png))
        files[f"fashion/{split}.tsv"] = table(["image", "label"], rows)
        counts[f"fashion/{split}.tsv"] = len(rows)
    return files, counts


def question_rows(pictures, rng):
    """One question about each picture: `pictures` are rows of a list beside which the archive's folder will lie."""
    rows = []
    for picture in pictures:
        n = rng.randrange(len(QUESTIONS))
        rows.append({"image": "../fashion/" + picture["image"], "question": QUESTIONS[n],
                     "answer": ANSWERS[picture["label"]][n]})
    return rows


def build_questions(fashion):
    """Of the lists of build_fashion(): their pictures, asked about."""
    rng, files, counts = random.Random(5), {}, {}
    for split in ("train", "test"):
        columns, *lines = (line.split("\t") for line in fashion[f"fashion/{split}.tsv"].decode().splitlines())
        rows = question_rows([dict(zip(columns, line)) for line in lines], rng)
        files[f"questions/{split}.tsv"] = table(["image", "question", "answer"], rows)
        counts[f"questions/{split}.tsv"] = len(rows)
    return files, counts


# --- emoji ---


class EmojiFont:
    """The colour bitmaps of the font, by character sequence."""

    def __init__(self):
        font = TTFont(FONT)
        self.cmap = font.getBestCmap()
        self.bitmaps = font["CBDT"].strikeData[0]
        self.ligatures = {}  # its first lookup has all sequences but the families composed of parts
        for table_ in font["GSUB"].table.LookupList.Lookup[0].SubTable:
            for first, ligatures in table_.ligatures.items():
                self.ligatures.update({(first, *each.Component): each.LigGlyph for each in ligatures})

    def glyph(self, text):
        glyphs = tuple(self.cmap.get(ord(c)) for c in text if c != "\ufe0f")
        glyph = glyphs[0] if len(glyphs) == 1 else self.ligatures.get(glyphs)
        return glyph if glyph in self.bitmaps else None

    def picture(self, text):
        image = Image.open(io.BytesIO(self.bitmaps[self.glyph(text)].imageData)).convert("RGBA")
        square = Image.new("RGBA", (max(image.size),) * 2, (255, 255, 255, 0))
        square.paste(image, ((square.width - image.width) // 2, (square.height - image.height) // 2))
        return square


def cldr_annotations():
    names, keywords = {}, {}
    for folder in ("annotations", "annotationsDerived"):
        for item in xml.etree.ElementTree.parse(f"{CLDR}{folder}/en.xml").iter("annotation"):
            into = names if item.get("type") == "tts" else keywords
            into[item.get("cp")] = item.text.replace("\u2019", "'").strip()
    return names, keywords


def person_of(name, names):
    """The person and the gender that a name without tone tells, e.g. ("astronaut", "woman"), or two empty strings."""
    if name in PERSONS:
        return PERSONS[name]
    match = re.fullmatch(r"(?:(deaf|pregnant) )?(man|woman|person)(?:: | |$)(.*)", name)
    if match and " and " not in name:
        return (match[1] or match[3], match[2])
    return (name, "person") if f"woman {name}" in names else ("", "")


def emoji_rows(font):
    names, keywords = cldr_annotations()
    known, rows, drawn = set(names.values()), [], set()
    for text in sorted(names, key=lambda text: (len(text), text)):
        tones = [c for c in text if c in TONES]
        name = names[text]
        if not font.glyph(text) or len(tones) > 1 or text.isascii() or re.match("flag: |keycap: |Japanese ", name):
            continue
        bitmap = font.bitmaps[font.glyph(text)].imageData
        if bitmap in drawn:  # the font draws the snowboarder alike in every tone
            continue
        drawn.add(bitmap)
        tone = TONES[tones[0]] if tones else ""
        alone = tone and len(text) > 1
        plain = name.replace(f": {tone}, ", ": ").replace(f": {tone}", "") if alone else name
        person, gender = person_of(plain, known)
        rows.append({"text": text, "name": name, "keywords": keywords.get(text, name), "person": person,
                     "skin_tone": tone, "gender": gender})
    return rows


def hold_out(rows, rng):
    """Splits off TEST_SHARE of the toned combinations of each person; returns train and test."""
    groups = collections.defaultdict(list)
    for row in rows:
        if row["person"] and row["skin_tone"]:
            groups[row["person"]].append(row)
    test, due = set(), 0.0
    for person in sorted(groups):
        due += TEST_SHARE * len(groups[person])
        for row in rng.sample(groups[person], int(due)):
            test.add(row["text"])
        due -= int(due)
    return [r for r in rows if r["text"] not in test], [r for r in rows if r["text"] in test]


def emoji_jpeg(font):
    """The encoder of emoji pictures: over white, 4:4:4."""

    def encode(row):
        square = font.picture(row["text"])
        white = Image.new("RGBA", square.size, "white")
        white.alpha_composite(square)
        out = io.BytesIO()  # the standard code tables, not optimised ones: the archive packs equal headers away
        white.convert("RGB").resize((CANVAS, CANVAS), Image.LANCZOS).save(out, "JPEG", quality=85, subsampling=0)
        return out.getvalue()
    return encode


def build_emoji(font, train, test, vocabulary, tokenizer):
    columns = ["image", "name", "keywords", "person", "skin_tone", "gender"]
    files = numbered(train, "image", "emoji/train", "jpg", emoji_jpeg(font))
    files.update(numbered(test, "image", "emoji/test", "jpg", emoji_jpeg(font)))
    captions = [row for row in train if vocabulary.issuperset(tokenizer(row["name"]))]
    counts = {}
    for name, rows in (("train", train), ("test", test), ("captions", captions)):
        files[f"emoji/{name}.tsv"] = table(columns, rows)
        counts[f"emoji/{name}.tsv"] = len(rows)
    return files, counts


# --- WordNet ---


def gloss_rows(tokenizer):
    rows, seen = [], set()
    for part in ("noun", "verb", "adj", "adv"):
        for line in open(f"{WORDNET}data.{part}", encoding="utf-8"):
            if line.startswith("  "):  # the licence
                continue
            head, text = line.rstrip().split(" | ", 1)
            fields = head.split()
            word = re.sub(r"\(\w+\)$", "", fields[4]).replace("_", " ")
            gloss = re.split(r"; \"|: \"|;? *$", text)[0].strip()
            tokens = tokenizer(gloss)
            if not gloss.isascii() or '"' in gloss or gloss in seen:
                continue
            if 4 <= len(tokens) <= 24 and len(tokenizer(word)) <= 4:
                seen.add(gloss)
                rows.append({"word": word, "gloss": gloss, "topic": TOPICS[int(fields[1])], "ids": frozenset(tokens)})
    return rows


def choose_vocabulary(texts, fixed, size):
    """Peels: the id that the fewest texts use goes, and those texts with it, until `size` ids are left.

    texts: (ids, weight) of each candidate text; fixed: ids that stay. Returns the ids left.
    """
    users, weight = collections.defaultdict(set), collections.Counter()
    for n, (ids, w) in enumerate(texts):
        for i in ids:
            users[i].add(n)
            weight[i] += w
    heap = [(weight[i], i) for i in users if i not in fixed]
    heapq.heapify(heap)
    left = set(users) | fixed
    while len(left) > size:
        w, i = heapq.heappop(heap)
        if i not in left or w != weight[i]:
            continue
        left.discard(i)
        for n in list(users[i]):
            for j in texts[n][0]:
                users[j].discard(n)
                weight[j] -= texts[n][1]
                if j in left and j not in fixed:
                    heapq.heappush(heap, (weight[j], j))
    return left


def build_text(rows, vocabulary, tokenizer):
    rng = random.Random(3)
    rows = [row for row in rows if row["ids"] <= vocabulary]
    rng.shuffle(rows)
    # A test word is one that can be known: of tokens that occur in other glosses or words, and once in the test.
    # Topics are about even there, so that naming the topic cannot be done by naming the commonest.
    uses = collections.Counter(i for row in rows for i in row["ids"] | set(tokenizer(row["word"])))
    have, of_topic = collections.Counter(row["topic"] for row in rows), collections.Counter()
    test, words = [], set()
    for row in rows:
        topic, known = row["topic"], all(uses[i] > 1 for i in [*row["ids"], *tokenizer(row["word"])])
        if known and row["word"] not in words and of_topic[topic] < min(TEST_PER_TOPIC, have[topic] // 5):
            test.append(row)
            words.add(row["word"])
            of_topic[topic] += 1
    held = {row["gloss"] for row in test}
    train = [row for row in rows if row["gloss"] not in held]
    files, counts = {}, {}
    for name, part in (("train", train), ("test", test)):
        files[f"text/{name}.tsv"] = table(["word", "gloss", "topic"], part)
        counts[f"text/{name}.tsv"] = len(part)
    return files, counts


# --- synthetic clips ---


def motion_path(motion, rng):
    """Sixteen poses (x, y, size, degrees counterclockwise, visible); x, y are the centre, in pixels."""
    at = [n / (FRAMES - 1) for n in range(FRAMES)]
    size, way = rng.uniform(15, 21), rng.uniform(20, 25)
    if motion.startswith("turning"):
        size *= 1.4  # it stays where it is: there is room
    if motion == "growing" or motion == "shrinking":
        small, large = rng.uniform(7, 12), rng.uniform(32, 42)
        sizes = [small + (large - small) * t for t in at]
        sizes = sizes[::-1] if motion == "shrinking" else sizes
        size = large
    else:
        sizes = [size] * FRAMES
    dx = {"moving left": -way, "moving right": way}.get(motion, 0)
    dy = {"moving up": -way, "moving down": way}.get(motion, 0)
    margin = size * (0.71 if motion.startswith("turning") else 0.5)
    low, high = margin + 1, CANVAS - margin - 1

    def start(d):
        return rng.uniform(low - min(d, 0), max(low - min(d, 0), high - max(d, 0)))
    x0, y0, turn, angle = start(dx), start(dy), 0, rng.uniform(-12, 12)
    if motion.startswith("turning"):
        turn = rng.uniform(170, 250) * (-1 if motion == "turning clockwise" else 1)
    period, phase, swing = rng.choice([5, 6, 7]), rng.randrange(6), rng.uniform(5, 8)
    xs = [x0 + dx * t for t in at]
    if motion == "shaking":
        xs = [x0 + (swing if (n + phase) % period < period / 2 else -swing) for n in range(FRAMES)]
    seen = [motion != "blinking" or (n + phase) % period < period / 2 for n in range(FRAMES)]
    return [(xs[n], y0 + dy * at[n], sizes[n], angle + turn * at[n], seen[n]) for n in range(FRAMES)]


def draw_frame(sprite, ground, pose):
    x, y, size, degrees, visible = pose
    k = 4  # drawn four times as large, so that quarters of a pixel count
    frame = Image.new("RGBA", (CANVAS * k,) * 2, ground)
    if visible:
        side = round(size * k)
        drawn = sprite.resize((side, side), Image.LANCZOS).rotate(degrees, Image.BICUBIC, expand=True)
        layer = Image.new("RGBA", frame.size, (255, 255, 255, 0))
        layer.paste(drawn, (round(x * k - drawn.width / 2), round(y * k - drawn.height / 2)))
        frame.alpha_composite(layer)
    return frame.convert("RGB").resize((CANVAS, CANVAS), Image.BOX).tobytes()


def encode_clip(frames):
    with tempfile.TemporaryDirectory() as folder:  # the container is finished by seeking back: no pipe
        path = os.path.join(folder, "clip.mp4")
        subprocess.run(
            ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{CANVAS}x{CANVAS}", "-r", "16",
             "-i", "-", "-c:v", "libx264", "-preset", "veryslow", "-threads", "1", "-crf", "20", "-pix_fmt", "yuv420p",
             "-x264-params", f"bframes=0:keyint={FRAMES}:scenecut=0", "-bsf:v", "filter_units=remove_types=6",
             "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart", path],
            input=b"".join(frames), check=True)
        with open(path, "rb") as f:
            return f.read()


def clip_encoder(font):
    def encode(row):
        rng = random.Random(f"{row['caption']} {row['take']}")
        ground = tuple(rng.randrange(225, 256) for _ in range(3)) if rng.random() < 0.5 else (255, 255, 255)
        sprite = font.picture(row["text"])
        return encode_clip([draw_frame(sprite, ground, pose) for pose in motion_path(row["motion"], rng)])
    return encode


def actors():
    """{name: may turn}"""
    names = [name.strip() for name in ACTORS.replace("\n", "").split(",")]
    return {name.rstrip("*"): not name.endswith("*") for name in names}


def build_clips(font, emoji):
    rng = random.Random(4)
    text_of = {row["name"]: row["text"] for row in emoji}
    rows = [{"name": name, "motion": motion, "caption": f"{name} {motion}", "text": text_of[name], "take": 0}
            for name, turns in sorted(actors().items()) for motion in MOTIONS
            if turns or not motion.startswith("turning")]
    rng.shuffle(rows)
    test, of_motion, of_name = [], collections.Counter(), collections.Counter()
    for row in rows:  # every emoji and every motion is trained, in other pairs
        if of_motion[row["motion"]] < 16 and of_name[row["name"]] < 2:
            test.append(row)
            of_motion[row["motion"]] += 1
            of_name[row["name"]] += 1
    held = {row["caption"] for row in test}
    train = [{**row, "take": take} for row in rows if row["caption"] not in held for take in range(TAKES)]
    files, counts = {}, {}
    for name, part in (("train", train), ("test", test)):
        files.update(numbered(part, "video", f"clips/{name}", "mp4", clip_encoder(font)))
        files[f"clips/{name}.tsv"] = table(["video", "motion", "name", "caption"], part)
        counts[f"clips/{name}.tsv"] = len(part)
    return files, counts


# --- all ---


def copy_licences(folder):
    os.makedirs(folder, exist_ok=True)
    for package in PACKAGES:
        with open(f"/usr/share/doc/{package}/copyright", "rb") as f, open(f"{folder}/{package}.txt", "wb") as out:
            out.write(f.read())


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocabulary", required=True, help="bpe_simple_vocab_16e6.txt.gz, CLIP's byte-pair merges")
    parser.add_argument("--out", default=os.path.join(here, "data"))
    options = parser.parse_args()

    tokenizer, font = Tokenizer(options.vocabulary), EmojiFont()
    emoji, glosses = emoji_rows(font), gloss_rows(tokenizer)
    names = {row["name"] for row in emoji}
    missing = sorted(set(actors()) - names)
    assert not missing, f"clips: no emoji of these names: {missing}"

    end_token = 49407
    fixed = {end_token}
    for text in [row["name"] for row in emoji if row["person"] or row["skin_tone"]] + list(actors()) + list(MOTIONS):
        fixed.update(tokenizer(text))
    candidates = [(row["ids"], 1) for row in glosses]
    candidates += [(frozenset(tokenizer(name)), 2) for name in sorted(names)]  # a caption is worth two glosses
    vocabulary = choose_vocabulary(candidates, fixed, VOCABULARY)

    train, test = hold_out(emoji, random.Random(2))
    fashion = build_fashion()
    parts = {
        "fashion": fashion,
        "questions": build_questions(fashion[0]),
        "emoji": build_emoji(font, train, test, vocabulary, tokenizer),
        "text": build_text(glosses, vocabulary, tokenizer),
        "clips": build_clips(font, train),
    }
    copy_licences(os.path.join(options.out, "licences"))
    manifest = {"language_model_ids": len(vocabulary), "archives": {}}
    for name, (files, counts) in parts.items():
        path = os.path.join(options.out, f"{name}.tar.gz")
        pack(path, files)
        with open(path, "rb") as f:
            content = f.read()
        manifest["archives"][f"{name}.tar.gz"] = {
            "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "rows": counts}
    with open(os.path.join(options.out, "manifest.json"), "w") as f:
        f.write(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
