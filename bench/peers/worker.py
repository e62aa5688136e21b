"""What the workers share: the protocol of bench/worker.h, and the sizes of the models.

A worker makes ready, prints a line of JSON, does one turn for each line of its input, answers each with the time
that it took, and reports at the end. One whose package is missing prints {"missing": why}.
"""
import argparse
import json
import os
import resource
import sys
import time

PRESETS = {
    "base": dict(layers=12, width=768, heads=12, ffn=3072, cells=196, patch=768, positions=256),
    "tiny": dict(layers=4, width=128, heads=4, ffn=512, cells=16, patch=192, positions=64),
}
VOCABULARY = 49411


def arguments(*steps):
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=steps)
    parser.add_argument("--preset", choices=PRESETS, default="base")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the process may use")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lengths", default="", help="of the texts, with commas")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    allowed = sorted(os.sched_getaffinity(0))
    options.threads = min(options.threads or len(allowed), len(allowed))
    os.sched_setaffinity(0, allowed[: options.threads])
    return options


def answer(**fields):
    print(json.dumps(fields), flush=True)


def missing(why):
    answer(missing=str(why))
    sys.exit(0)


def serve(run, version, prepare=None, **report):
    """Turns until the input ends. `prepare` goes before each, uncounted."""
    answer(ready=1, version=version)
    for _ in sys.stdin:
        if prepare:
            prepare()
        start, work = time.perf_counter(), time.process_time()
        run()
        answer(seconds=time.perf_counter() - start, processor=time.process_time() - work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer(peak_mib=peak, **{k: v() if callable(v) else v for k, v in report.items()})
