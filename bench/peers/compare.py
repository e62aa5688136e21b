#!/usr/bin/env python3
"""The same work by this project and by others, each in a process of its own, turn by turn in one run.

    compare.py [GROUP...] [--build build] [--python python3] [--isa avx512|avx2] [--dtype f32|bf16] [--threads N]
               [--preset base] [--turns 5] [--compiled] [--memory] [--json FILE]

Groups: encode (8 pictures), train (a step on 8 pictures, AdamW), texts (a step on 64 texts of natural lengths, which
others pad to the longest), tokens (text to ids, one thread), jpeg (files to normalised patches, one thread).
--memory: instead, of train: how much more a batch of 16 takes than one of 8. A peer that is missing is said and left
out. Prints a table; --json appends one object a line to FILE.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
GROUPS = ["encode", "train", "texts", "tokens", "jpeg"]
REST = 0.15  # seconds between turns: threads that wait by spinning have gone to sleep

# What makes PyTorch's libraries use no better instructions than AVX2. The others are left out there: with every switch
# that they have set they were still faster than the processor's AVX2 peak allows.
AVX2 = {
    "UP_CPU_ISA": "avx2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}


class Worker:
    """A process that does a turn whenever it is asked to (bench/worker.h)."""

    def __init__(self, name, command, environment):
        self.name, self.times, self.report = name, [], {}
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        hello = self.read()
        self.version = hello.get("version", "") if hello else ""
        if hello and "missing" in hello:
            print(f"compare.py: {name} is left out: {hello['missing']}", file=sys.stderr)
        self.alive = bool(hello) and "ready" in hello

    def read(self):
        line = self.process.stdout.readline()
        if line.startswith("{"):
            return json.loads(line)
        self.errors.seek(0)
        last = self.errors.read().strip().split("\n")[-1]
        print(f"compare.py: {self.name} is left out: it ended: {last}", file=sys.stderr)
        self.alive = False
        return None

    def turn(self, counts):
        if not self.alive:
            return
        time.sleep(REST)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        took = self.read()
        if took and counts:
            self.times.append((took["seconds"], took["processor"]))

    def end(self):
        if self.alive:
            self.process.stdin.close()
            self.report = self.read() or {}
        else:
            self.process.kill()
        self.process.wait()

    def result(self, **fields):
        seconds, processor = (statistics.median(t[i] for t in self.times) for i in (0, 1))
        return {
            **fields,
            "program": self.name,
            "version": self.version,
            "seconds": seconds,
            "processor": processor,
            "samples": self.report.get("samples", 0),
            "tokens": self.report.get("tokens", 0),
            "peak_mib": self.report.get("peak_mib", 0),
            "needed": self.report.get("needed", 0),
        }


def environment(o):
    env = dict(os.environ)
    if o.isa == "avx2":
        env.update(AVX2)
    elif o.isa == "base":
        env["UP_CPU_ISA"] = "base"
    env["OMP_NUM_THREADS"] = str(o.threads)
    return env


def text_lengths(o):
    """Those of the texts that bench_step has."""
    answer = subprocess.run([f"{o.build}/bench_step", "--lengths", "--texts", str(o.texts)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return answer.stdout.strip()


def texts(folder):
    """English: this project's documents and the glosses of the demo."""
    names = [os.path.join(folder, "glosses.txt")]
    with tarfile.open(os.path.join(ROOT, "demo/data/text.tar.gz")) as archive, open(names[0], "wb") as out:
        out.write(archive.extractfile("text/train.tsv").read())
    return names + sorted(glob.glob(os.path.join(ROOT, "docs/[a-z]*.md"))) + [os.path.join(ROOT, "LICENSE")]


PICTURES = """
import sys
import numpy as np
from PIL import Image
random = np.random.default_rng(1)
for i in range(24):
    rough = random.integers(0, 256, (15, 20, 3), np.uint8)
    fine = random.normal(0, 6, (480, 640, 3))
    smooth = np.asarray(Image.fromarray(rough).resize((640, 480), Image.Resampling.BICUBIC), np.float64)
    Image.fromarray(np.clip(smooth + fine, 0, 255).astype(np.uint8)).save(f"{sys.argv[1]}/{i}.jpg", quality=90)
"""


def pictures(o, folder):
    """24 JPEG files of 640 x 480, quality 90: smooth colours and noise."""
    subprocess.run([o.python, "-c", PICTURES, folder], check=True, stderr=subprocess.DEVNULL)
    return sorted(glob.glob(f"{folder}/*.jpg"))


def peer(o, name, *words):
    return [o.python, os.path.join(HERE, name), *words]


def model_flags(o):
    return ["--preset", o.preset, "--dtype", o.dtype, "--threads", str(o.threads), "--batch", str(o.batch)]


def commands(group, o, folder):
    """The programs of a group: name -> command."""
    step = [f"{o.build}/bench_step", "--serve", "--texts", str(o.texts), *model_flags(o)]
    if group in ("tokens", "jpeg"):
        files = texts(folder) if group == "tokens" else pictures(o, folder)
        ours = [f"{o.build}/bench_text", *files] if group == "tokens" else [f"{o.build}/bench_pixels", folder, "--resize", "256"]
        others = {"tokens": ("with_text.py", "tiktoken", "tokenizers"), "jpeg": ("with_pictures.py", "torchvision", "pillow")}
        program, *names = others[group]
        return {"ours": [*ours, "--serve"], **{n: peer(o, program, n, *files, "--threads", "1") for n in names}}
    flags = model_flags(o)
    if group == "texts":
        flags += ["--lengths", text_lengths(o)]
    all = {"ours": [*step, group], "torch eager": peer(o, "with_torch.py", group, *flags)}
    if o.compiled:
        all["torch compiled"] = peer(o, "with_torch.py", group, *flags, "--compile")
    if group == "encode" and o.isa != "avx2":
        all["jax"] = peer(o, "with_jax.py", group, *flags)
        all["onnxruntime"] = peer(o, "with_onnx.py", "onnxruntime", *flags)
        all["openvino"] = peer(o, "with_onnx.py", "openvino", *flags)
    return all


def run_group(group, o):
    with tempfile.TemporaryDirectory() as folder:
        try:
            programs = commands(group, o, folder)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"compare.py: {group} is left out: {error}", file=sys.stderr)
            return []
        workers = [Worker(name, command, environment(o)) for name, command in programs.items()]
        for turn in range(-o.warm, o.turns):
            for worker in workers:
                worker.turn(turn >= 0)
        for worker in workers:
            worker.end()
    one = group in ("tokens", "jpeg")
    fields = dict(compare=group, isa=o.isa, dtype=o.dtype, threads=1 if one else o.threads, preset=o.preset)
    return [w.result(**fields) for w in workers if w.times]


def print_group(results):
    if not results:
        return
    ours = next((r["seconds"] for r in results if r["program"] == "ours"), None)
    head = results[0]
    print(f"{head['compare']}: {head['preset']}, {head['dtype']}, {head['isa'] or 'best'}, {head['threads']} threads")
    for r in results:
        against = f"{r['seconds'] / ours:6.2f} x ours" if ours else ""
        if head["compare"] == "tokens" and r["tokens"] != head["tokens"]:
            against += f"  OTHER TOKENS: {r['tokens']}, ours {head['tokens']}"
        print(f"  {r['program']:15} {1e3 * r['seconds']:10.2f} ms {1e3 * r['processor']:10.2f} core ms {against}  {r['version']}", flush=True)


def peak(name, command, o):
    worker = Worker(name, command, environment(o))
    worker.turn(False)
    worker.end()
    return worker.report.get("peak_mib"), worker.version


def measure_memory(o):
    """Twice the batch against once."""
    results = []
    for name in ["ours", "torch eager"] + ["torch compiled"] * o.compiled:
        peaks = []
        for factor in (1, 2):
            o.batch *= factor
            found, version = peak(name, commands("train", o, "")[name], o)
            o.batch //= factor
            peaks.append(found)
        if None in peaks:
            continue
        results.append(dict(memory="train", program=name, version=version, dtype=o.dtype, preset=o.preset, batch=o.batch, peak_mib=peaks[0], difference_mib=peaks[1] - peaks[0]))
        print(f"memory: train, {o.preset}, {o.dtype}: {name:15} peak {peaks[0]:8.1f} MiB, {o.batch} more take {peaks[1] - peaks[0]:8.1f}  {version}", flush=True)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP")
    parser.add_argument("--build", default="build")
    parser.add_argument("--python", default="python3")
    parser.add_argument("--isa", default="", choices=["", "avx512", "avx2", "base"])
    parser.add_argument("--dtype", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--preset", default="base", choices=["base", "tiny"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--compiled", action="store_true", help="torch.compile, too, mode max-autotune")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    o = parser.parse_args()
    for group in o.groups:
        if group not in GROUPS:
            parser.error(f"{group}: wanted one of {', '.join(GROUPS)}")
    o.build = os.path.abspath(o.build)
    results = []
    if o.memory:
        results = measure_memory(o)
    else:
        for group in o.groups or GROUPS:
            found = run_group(group, o)
            print_group(found)
            results += found
    if o.json:
        with open(o.json, "a") as out:
            out.writelines(json.dumps(r) + "\n" for r in results)


main()
