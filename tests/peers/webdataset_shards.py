#!/usr/bin/env python3
"""webdataset_shards.py PROGRAM - tar shards as Python's tarfile and the webdataset package write them, read by
webdataset and by PROGRAM (tests/peers/list_samples.c): same samples, same order, same bytes. Exit code 77 where the
package is not installed."""
import hashlib
import io
import json
import random
import subprocess
import sys
import tarfile
import tempfile

try:
    import webdataset
except ImportError:
    print("webdataset is not installed")
    sys.exit(77)

IMAGES, TEXTS = ("jpg", "png", "webp"), ("txt",)


def write(folder, seed):
    """Shards of several tar formats, long names (PAX and GNU), folders, members that are passed over."""
    draw = random.Random(seed)
    for shard, style in enumerate((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        with tarfile.open(f"{folder}/part-{shard:04d}.tar", "w", format=style) as tar:
            for i in range(200):
                key = f"dir.{shard}/" + "k" * draw.choice((1, 60)) + f"{i:05d}"
                if style != tarfile.USTAR_FORMAT and i % 7 == 0:
                    key = "long" * 40 + key
                members = {draw.choice(IMAGES): draw.randbytes(draw.randrange(3000)),
                           "txt": f"caption {i} of {shard} é".encode(),
                           "seg.png": b"passed over"}
                for ending in draw.sample(sorted(members), len(members)):
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(members[ending])
                    tar.addfile(info, io.BytesIO(members[ending]))
    with webdataset.TarWriter(f"{folder}/part-0003.tar") as sink:
        for i in range(100):
            sink.write({"__key__": f"w{i:04d}", "jpg": draw.randbytes(500), "txt": f"written {i}"})


def theirs(pattern):
    for sample in webdataset.WebDataset(pattern, shardshuffle=False):
        line = {"key": sample["__key__"]}
        for ending, value in sample.items():
            if ending in IMAGES:
                line["image"] = hashlib.sha256(value).hexdigest()
            if ending in TEXTS:
                line["text"] = value.decode()
        yield line


def main():
    with tempfile.TemporaryDirectory() as folder:
        write(folder, 1)
        pattern = f"{folder}/part-{{0000..0003}}.tar"
        ours = subprocess.run([sys.argv[1], pattern], check=True, capture_output=True, text=True).stdout
        found = []
        for line in ours.splitlines():
            sample = json.loads(line)
            if "image" in sample:
                sample["image"] = hashlib.sha256(bytes.fromhex(sample["image"])).hexdigest()
            found.append(sample)
        wanted = list(theirs(pattern))
        differ = sum(a != b for a, b in zip(found, wanted))
        print(f"{len(wanted)} samples by webdataset {webdataset.__version__}, {len(found)} here, {differ} differ")
        if differ:
            print(next((a, b) for a, b in zip(found, wanted) if a != b))
        sys.exit(differ > 0 or len(found) != len(wanted) or not found)


main()
