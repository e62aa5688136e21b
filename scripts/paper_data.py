#!/usr/bin/env python3
"""The 26 rows of configs/pretrain-base.yaml read eleven datasets. This makes them all, tiny, in their own layouts:

    python3 scripts/paper_data.py FOLDER

What is asked follows from what is shown: textures whose name is their class, pictures of two textures with a caption
that says both, textures that slide, texts of a small grammar. Needs the program ffmpeg."""

import functools
import io
import itertools
import json
import os
import random
import subprocess
import sys
import tarfile

SIDE = 48
CLIP_FRAMES, CLIP_RATE = 24, 12
COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220), "yellow": (230, 210, 50),
           "purple": (150, 50, 170), "white": (240, 240, 240)}
# What lies dark at (x, y): each is readable from any crop.
TEXTURES = {"plain": lambda x, y: False, "striped": lambda x, y: x // 6 % 2, "checked": lambda x, y: (x // 6 + y // 6) % 2}
KINDS = list(itertools.product(COLOURS, TEXTURES))
DIRECTIONS = {"left": (2, 0), "down": (0, -2)}

ANIMALS = [("cat", "sleeps", "sofa"), ("dog", "runs", "garden"), ("bird", "sings", "tree"), ("fish", "swims", "river"),
           ("horse", "eats", "field"), ("mouse", "hides", "kitchen")]
SIZES = ["small", "large", "old", "young", "slow", "quick"]
THINGS = ["car", "house", "chair", "book", "cup", "boat", "lamp", "coat"]


@functools.lru_cache(maxsize=None)
def texture(kind, dx=0, dy=0):
    """RGB bytes of a picture. Textures repeat after 12 pixels."""
    colour, name = kind
    light = bytes(COLOURS[colour])
    dark = bytes(v // 3 for v in light)
    return b"".join(dark if TEXTURES[name](x + dx, y + dy) else light for y in range(SIDE) for x in range(SIDE))


def pair(left, right, dx, dy):
    """The left half of one beside the right half of the other."""
    a, b = texture(left, dx, dy), texture(right, dx, dy)
    line, half = 3 * SIDE, 3 * SIDE // 2
    return b"".join(a[i:i + half] + b[i + half:i + line] for i in range(0, len(a), line))


def folder_of(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def write(path, text):
    with open(folder_of(path), "w", encoding="utf-8") as f:
        f.write(text)


def ffmpeg(frames, *out):
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{SIDE}x{SIDE}",
                    "-r", str(CLIP_RATE), "-i", "-", *out], input=b"".join(frames), check=True)


def jpegs(pictures, scratch):
    """The JPEG bytes of pictures, which one call of ffmpeg writes."""
    os.makedirs(scratch, exist_ok=True)
    ffmpeg(pictures, "-q:v", "2", "-pix_fmt", "yuvj444p", os.path.join(scratch, "%06d.jpg"))
    found = []
    for i in range(len(pictures)):
        path = os.path.join(scratch, f"{i + 1:06}.jpg")
        with open(path, "rb") as f:
            found.append(f.read())
        os.remove(path)
    os.rmdir(scratch)
    return found


def put(path, data):
    with open(folder_of(path), "wb") as f:
        f.write(data)


def pairs(rng, count):
    """Pictures of two textures, as (left, right, RGB)."""
    drawn = [rng.sample(KINDS, 2) for _ in range(count)]
    return [(left, right, pair(left, right, rng.randrange(12), rng.randrange(12))) for left, right in drawn]


def caption(left, right):
    return f"{' '.join(left)} beside {' '.join(right)}"


def imagenet(root, rng):
    ids = [f"n{i + 1:08}" for i in range(len(KINDS))]
    write(f"{root}/words.txt", "".join(f"{i} {c} {t}, {t} {c}\n" for i, (c, t) in zip(ids, KINDS)))
    rows = [(i, n, kind) for i, kind in zip(ids, KINDS) for n in range(12)]
    found = jpegs([texture(kind, rng.randrange(12), rng.randrange(12)) for _, _, kind in rows], f"{root}/scratch")
    for (wnid, n, _), data in zip(rows, found):
        put(f"{root}/train/{wnid}/{wnid}_{n}.JPEG", data)


def clip(path, kind, direction, rng):
    dx, dy = DIRECTIONS[direction]
    at = rng.randrange(12)
    ffmpeg([texture(kind, (at + dx * i) % 12, (at + dy * i) % 12) for i in range(CLIP_FRAMES)],
           "-pix_fmt", "yuv420p", "-g", "12", folder_of(path))


def clips():
    return [((colour, "striped" if d == "left" else "checked"), d) for colour in COLOURS for d in DIRECTIONS]


def kinetics(root, left_out, rng):
    lines = ["label,youtube_id,time_start,time_end,split"]
    ids = []
    for kind, direction in clips():
        for _ in range(3):
            label, ident = f"{' '.join(kind)} moving {direction}", f"clip{len(ids):07}"
            ids.append(ident)
            lines.append(f"{label},{ident},20,30,train")
            clip(f"{root}/train/{label}/{ident}_000020_000030.mp4", kind, direction, rng)
    write(f"{root}/train.csv", "\n".join(lines) + "\n")
    write(left_out, ids[-1] + "\n")


def moments(root, rng):
    lines = []
    for kind, direction in clips():
        for n in range(2):
            label = f"{'+'.join(kind)}+moving+{direction}"
            lines.append(f"{label}/{n}.mp4,{label},3,0")
            clip(f"{root}/training/{label}/{n}.mp4", kind, direction, rng)
    write(f"{root}/trainingSet.csv", "\n".join(lines) + "\n")


def books(root, rng):
    lines = []
    for _ in range(400):
        animal, verb, place = rng.choice(ANIMALS)
        colour, size = rng.choice(list(COLOURS)), rng.choice(SIZES)
        lines += [f"The {size} {colour} {animal} {verb} near the {place}.",
                  f"In the {place} the {animal} {verb}, and it is {size} and {colour}.", ""]
    write(f"{root}/train.txt", "\n".join(lines))


def paq(root, rng):
    rows = list(itertools.product(SIZES, COLOURS, THINGS))
    rng.shuffle(rows)
    write(f"{root}/PAQ.filtered.jsonl", "".join(
        json.dumps({"question": f"which {thing} is {colour} and {size}?", "answer": [f"the {size} {colour} {thing}"]}) +
        "\n" for size, colour, thing in rows))


def shards(root, form, rng):
    made = pairs(rng, 240)
    found = jpegs([rgb for _, _, rgb in made], f"{root}/scratch")
    for shard in range(2):
        with tarfile.open(folder_of(f"{root}/{shard:05}.tar"), "w", format=tarfile.USTAR_FORMAT) as tar:
            for i in range(shard, len(made), 2):
                text = form.format(caption(*made[i][:2])).encode()
                for ending, data in (("jpg", found[i]), ("txt", text)):
                    member = tarfile.TarInfo(f"{shard:05}{i:04}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def genome(root, rng):
    """A region is a half of a picture; its phrase says which and what it shows."""
    made = pairs(rng, 160)
    rows = []
    for i, (data, (left, right, _)) in enumerate(zip(jpegs([p[2] for p in made], f"{root}/scratch"), made)):
        put(f"{root}/images/{i + 1}.jpg", data)
        regions = [{"region_id": 2 * i + k, "image_id": i + 1, "phrase": phrase, "x": k * SIDE // 2, "y": 0,
                    "width": SIDE // 2, "height": SIDE}
                   for k, phrase in enumerate((f"left of it {' '.join(left)}", f"right of it {' '.join(right)}"))]
        rows.append({"id": i + 1, "regions": regions})
    write(f"{root}/region_descriptions.json", json.dumps(rows))


def coco(root, rng):
    made = pairs(rng, 240)
    rows = []
    for i, (data, (left, right, _)) in enumerate(zip(jpegs([p[2] for p in made], f"{root}/scratch"), made)):
        split = ("train", "restval", "val")[0 if i < 180 else 1 if i < 220 else 2]
        place = "train2014" if split == "train" else "val2014"
        name = f"COCO_{place}_{i:012}.jpg"
        put(f"{root}/{place}/{name}", data)
        text = caption(left, right)
        rows.append({"filepath": place, "filename": name, "split": split,
                     "sentences": [{"raw": f"A picture of {text}."}, {"raw": f"There is {text}."}]})
    write(f"{root}/dataset_coco.json", json.dumps({"images": rows}))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root, rng = sys.argv[1], random.Random(1)
    imagenet(f"{root}/imagenet21k", rng)
    kinetics(f"{root}/kinetics700", f"{root}/kinetics400/validation-ids.txt", rng)
    moments(f"{root}/moments", rng)
    books(f"{root}/bookswiki", rng)
    paq(f"{root}/paq", rng)
    for name, form in (("yfcc", "{}"), ("cc12m", "photo of {}"), ("cc3m", "{} on the wall"), ("sbu", "my {}")):
        shards(f"{root}/{name}", form, rng)
    genome(f"{root}/visualgenome", rng)
    coco(f"{root}/coco", rng)


main()
