"""JPEG to normalised patches, one core: bench_pixels beside torchvision and Pillow, on the same files, in turns.

    python3 bench/peers/pixels.py --bench build/bench_pixels [--rounds N] [--seconds S] [--json] [FOLDER]

torchvision: decode_jpeg, then resize (bicubic, antialias) of the short side, centre crop, float, normalise, all on
uint8 tensors as its presets do. Pillow: open, convert, resize, crop; then numpy's array, scaled and normalised.
Both then cut 16 x 16 patches. Ours is given in both forms: patches of bytes (what its model takes) and of floats.
Processor time of one thread; medians over rounds. Without FOLDER, bench_pixels makes the pictures.
"""
import argparse
import io
import json
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time

import numpy
import PIL
import PIL.features
import PIL.Image
import torch
import torchvision
import torchvision.io
from torchvision.transforms.v2 import functional as F

SIZE, PATCH = 224, 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
torch_mean = torch.tensor(MEAN).view(3, 1, 1)
torch_std = torch.tensor(STD).view(3, 1, 1)
numpy_mean = numpy.array(MEAN, numpy.float32)
numpy_std = numpy.array(STD, numpy.float32)


def with_torchvision(encoded):
    x = torchvision.io.decode_jpeg(encoded, mode=torchvision.io.ImageReadMode.RGB)
    x = F.resize(x, [SIZE], interpolation=F.InterpolationMode.BICUBIC, antialias=True)
    x = F.center_crop(x, [SIZE, SIZE])
    x = F.normalize(F.to_dtype(x, torch.float32, scale=True), MEAN, STD)
    n = SIZE // PATCH
    return x.view(3, n, PATCH, n, PATCH).permute(1, 3, 0, 2, 4).reshape(n * n, -1)


def with_pillow(encoded):
    x = PIL.Image.open(io.BytesIO(encoded)).convert("RGB")
    short = min(x.size)
    x = x.resize((x.width * SIZE // short, x.height * SIZE // short), PIL.Image.BICUBIC)
    left, top = round((x.width - SIZE) / 2), round((x.height - SIZE) / 2)
    x = numpy.asarray(x.crop((left, top, left + SIZE, top + SIZE)), numpy.float32)
    x = (x / 255 - numpy_mean) / numpy_std
    n = SIZE // PATCH
    return numpy.ascontiguousarray(x.reshape(n, PATCH, n, PATCH, 3).transpose(0, 2, 4, 1, 3)).reshape(n * n, -1)


def seconds_a_picture(function, inputs, seconds):
    done, begun = 0, time.thread_time()
    while time.thread_time() - begun < seconds:
        for encoded in inputs:
            function(encoded)
        done += len(inputs)
    return (time.thread_time() - begun) / done


def ours(bench, folder, seconds):
    command = [bench, "--json", "--seconds", str(seconds), str(folder)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return 1 / found["pictures_per_second"], 1 / found["float_pictures_per_second"]


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def measure(options, folder):
    files = [p.read_bytes() for p in sorted(pathlib.Path(folder).iterdir()) if p.suffix in (".jpg", ".jpeg", ".JPEG")]
    tensors = [torch.frombuffer(bytearray(f), dtype=torch.uint8) for f in files]
    for function, inputs in ((with_torchvision, tensors), (with_pillow, files)):
        seconds_a_picture(function, inputs, 0.1)
    times = {"ours, bytes": [], "ours, floats": [], "torchvision": [], "Pillow": []}
    for _ in range(options.rounds):
        as_bytes, as_floats = ours(options.bench, folder, options.seconds)
        times["ours, bytes"].append(as_bytes)
        times["ours, floats"].append(as_floats)
        times["torchvision"].append(seconds_a_picture(with_torchvision, tensors, options.seconds))
        times["Pillow"].append(seconds_a_picture(with_pillow, files, options.seconds))
    return len(files), {name: statistics.median(values) for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bench_pixels", help="the program bench_pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each, in each round")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("folder", nargs="?", help="of JPEG files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        if not options.folder:
            subprocess.run([options.bench, "--write", made], check=True)
        count, medians = measure(options, options.folder or made)
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "Pillow": PIL.__version__,
                "Pillow's libjpeg-turbo": PIL.features.version_feature("libjpeg_turbo") or "none"}
    if options.json:
        rates = {name: 1 / value for name, value in medians.items()}
        print(json.dumps({"processor": processor(), "pictures": count, "versions": versions, "pictures_per_second": rates}))
        return
    print(f"{processor()}, one thread, {count} pictures;", ", ".join(f"{k} {v}" for k, v in versions.items()))
    print(f"{'':16}{'ms':>10}{'pictures/s':>12}{'bytes ahead':>13}{'floats ahead':>14}")
    for name, value in medians.items():
        ahead = [value / medians[f"ours, {form}"] for form in ("bytes", "floats")]
        print(f"{name:16}{1e3 * value:10.3f}{1 / value:12.1f}{ahead[0]:13.2f}{ahead[1]:14.2f}")


if __name__ == "__main__":
    main()
