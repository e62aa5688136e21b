#!/usr/bin/env python3
"""outside_runtimes.py PROGRAM SOURCE - the program's features against PyTorch (example/torch_model.py, within 1e-5) and
against ONNX Runtime on what `export --onnx` writes (within 1e-4, checked by onnx where that is installed)."""

import os
import struct
import subprocess
import sys
import tempfile
import zlib

try:
    import numpy as np
    import onnxruntime
    import torch
except ImportError as missing:
    print(f"outside_runtimes: skipped: {missing} (UP_PYTHON names another Python)")
    sys.exit(77)

program, source = sys.argv[1:3]
sys.path.insert(0, source + "/example")
import torch_model  # noqa: E402

END = 49407  # <|endoftext|>
TEXT = "a photo of a cat"
NORM = {"image": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), "video": ([0.5] * 3, [0.5] * 3)}


def run(*arguments):
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


def write_png(path, rgb):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = rgb.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in rgb)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
                   + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def onnx_features(path, name, value):
    try:
        import onnx
        onnx.checker.check_model(path, full_check=True)
    except ImportError:
        print("onnx is not installed: the graph is not checked")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {name: value})[0]


def compare(what, got, wanted, bound):
    worst = float(np.abs(got - wanted).max())
    print(f"{what}: {worst:.2e}, {bound:g} allowed")
    assert got.shape == wanted.shape and worst <= bound, what


def check(folder, preset):
    path = f"{folder}/{preset}.safetensors"
    run("init", "--preset", preset, "--seed", "1", "--out", path)
    model = torch_model.load(path)
    full, size = model.config["image_resize"], model.config["image_size"]  # the middle of the picture is seen
    edge = (full - size) // 2
    rgb = np.random.default_rng(1).integers(0, 256, (full, full, 3), dtype=np.uint8)
    rgb[: full // 2] //= 3
    write_png(folder + "/picture.png", rgb)
    mean, std = NORM["video" if model.config["frames_as_images"] > 1 else "image"]
    seen = rgb[edge : edge + size, edge : edge + size]
    pixels = ((seen / 255.0 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
    ids = np.array([[int(i) for i in run("tokenize", TEXT).split()] + [END]])
    for kind, name, value in (("text", "ids", ids), ("image", "pixels", pixels)):
        flag = ["--text", TEXT] if kind == "text" else ["--image", folder + "/picture.png"]
        run("encode", "--model", path, *flag, "--out", folder + "/out.npy")
        wanted = np.load(folder + "/out.npy")
        with torch.no_grad():
            compare(f"{preset} {kind}, PyTorch", getattr(model, kind)(torch.tensor(value)).numpy(), wanted, 1e-5)
        graph = f"{folder}/{kind}.onnx"
        run("export", path, "--onnx", kind, "--out", graph)
        both = np.concatenate([value, value])
        got = onnx_features(graph, name, both)
        compare(f"{preset} {kind}, ONNX Runtime", got, np.concatenate([wanted, wanted]), 1e-4)
        os.remove(graph)


with tempfile.TemporaryDirectory() as folder:
    for preset in sys.argv[3:] or ["tiny"]:
        check(folder, preset)
