"""Checks import and export at full size against PyTorch: python3 golden/released.py PROGRAM [base|large]...
For each size a checkpoint of random weights with the released names and shapes, plain and as DeepSpeed lays it out, is
imported; features of a text, a picture, a clip and a picture with words and a slot are compared with those of
make_model.py's model at float64; the export is loaded with weights_only=True, and its names and values compared.
Prints the largest differences and the peak of memory; ends with 1 where one is too large.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

import make_model
import make_released

SIZES = {"base": (12, 768, 12, 3072), "large": (24, 1024, 16, 4096)}
TASKS = ["img_cls", "video_cls", "text_mlm", "text_caption", "caption", "mlm", "retrieve", "tqa_mlm", "tqa_caption",
         "tqa_retrieve", "downstream"]
LIMIT = 1e-5  # of features of length 1
IDS, FRAMES = [320, 1125, 539, 49407], 2


def make(size):
    """Configuration and weights under this project's names."""
    layers, width, heads, ffn = SIZES[size]
    c = make_model.configuration(layers, width, heads, ffn, 224, 8, TASKS, **make_model.RELEASED)
    c.update(vocabulary=49411, text_positions=512, patch=16)
    return c, make_model.weights(c, [10] * len(TASKS), np.random.default_rng(7))


# A process counts the memory of the one that it was forked from, so a small one starts the program.
LAUNCH = "import os, sys; p = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:]); _, s, u = os.wait4(p, 0); print(s, u.ru_maxrss)"


def run(*command):
    """Runs it; its peak memory in bytes."""
    done = subprocess.run([sys.executable, "-c", LAUNCH, *command], stdout=subprocess.PIPE, text=True, check=True)
    status, peak = map(int, done.stdout.split()[-2:])
    if status:
        sys.exit(f"{' '.join(command)}: status {status}")
    return peak * 1024


def cut(pixels):
    """[frames, 3, S, S] -> [frames * cells, 3 p p], as a convolution of stride p sees them."""
    return F.unfold(torch.from_numpy(pixels), 16, stride=16).transpose(1, 2).reshape(-1, 768).numpy()


def expected(c, w, sequence, patches):
    m = make_model.Model(c, w, torch.float64, set(w))
    arrays = {"patches": patches} if patches is not None else {}
    b = {"sequences": [sequence], "drop_names": ["", ""]}
    return m.encode_side(b, 0, arrays)["unit"].detach().numpy()[0]


def check_features(program, model, c, w, folder):
    rng = np.random.default_rng(3)
    picture = rng.standard_normal((1, 3, 224, 224)).astype(np.float32)
    clip = rng.standard_normal((FRAMES, 3, 224, 224)).astype(np.float32)
    files = {name: os.path.join(folder, name + ".npy") for name in ("picture", "clip", "out")}
    np.save(files["picture"], picture[0])
    np.save(files["clip"], clip)
    ids = " ".join(map(str, IDS))
    seen = {"patches": "patches"}
    text, slot = make_model.text(IDS), make_model.text([make_model.SPE], read=[1])
    cases = {
        "text": (["--ids", ids], make_model.x(text), None),
        "picture": (["--image", files["picture"]], make_model.x({**make_model.image(), **seen}), cut(picture)),
        "clip": (["--video", files["clip"]], make_model.x({**make_model.video(FRAMES), **seen}), cut(clip)),
        "picture, words, slot": (["--image", files["picture"], "--ids", ids, "--join", "--slot"],
                                 make_model.x({**make_model.image(), **seen}, text, slot, read=0), cut(picture)),
    }
    worst = 0
    for name, (flags, sequence, patches) in cases.items():
        run(program, "encode", "--model", model, *flags, "--out", files["out"])
        difference = float(np.abs(np.load(files["out"])[0] - expected(c, w, sequence, patches)).max())
        print(f"  {name}: largest difference {difference:.2e}")
        worst = max(worst, difference) if difference == difference else np.inf
    return worst <= LIMIT


def check_export(path, state):
    loaded = torch.load(path, weights_only=True)["model"]
    zeroed = {"video_embed.embeddings_type.weight": slice(0, 1), "token_embed.embeddings_token_type.weight": slice(1, 2)}
    good = set(loaded) == set(state)
    for name, value in state.items():
        wanted = value.clone()
        if name in zeroed:
            wanted[zeroed[name]] = 0
        good = good and torch.equal(loaded[name], wanted)
    print(f"  export: {len(loaded)} tensors, names and bits {'equal' if good else 'DIFFER'}")
    return good


def check(program, size, folder):
    c, w = make(size)
    state = make_released.released({k: torch.from_numpy(v) for k, v in w.items()}, 16)
    good = True
    for layout in (make_released.plain, make_released.deepspeed):
        source, model, back = (os.path.join(folder, n) for n in ("source.pth", "model.safetensors", "back.pth"))
        torch.save(layout(state), source)
        ratio = [run(program, "import", source, "--out", model) / os.path.getsize(source)]
        ratio.append(run(program, "export", model, "--out", back) / os.path.getsize(source))
        print(f"{size}, {layout.__name__}: peak memory by size of the file: import {ratio[0]:.2f}, export {ratio[1]:.2f}")
        good &= max(ratio) < 1.3
        good &= check_export(back, state)
        run(program, "import", source, "--image-size", "160", "--out", model)
        own = make_released.read_safetensors(model)["patch.space.weight"]
        grid = torch.from_numpy(w["patch.space.weight"]).reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(grid, size=(10, 10), mode="bilinear", align_corners=False)[0].flatten(1).T
        difference = float((own - resized).abs().max())
        print(f"  position table of 160 pixels: largest difference {difference:.2e}")
        good &= difference <= LIMIT
    run(program, "import", source, "--out", model)
    return good & check_features(program, model, c, w, folder)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        results = [check(os.path.abspath(sys.argv[1]), size, temporary) for size in sys.argv[2:] or SIZES]
    sys.exit(not all(results))
