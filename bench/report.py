#!/usr/bin/env python3
"""report.py FOLDER SECONDS [quick]: the page docs/benchmarks.md from the lines that scripts/benchmarks.sh measured, in
so many seconds; 0: parts of several runs, of which some may lack groups."""
import json
import os
import sys

folder, took = sys.argv[1], int(sys.argv[2])
quick = len(sys.argv) > 3 and sys.argv[3] == "quick"


def read(name):
    path = os.path.join(folder, name + ".jsonl")
    if not os.path.exists(path):
        return []
    with open(path) as lines:
        return [json.loads(line) for line in lines if line.startswith("{")]


peaks, operations, steps = read("peak"), read("ops"), read("steps")
memory, peers = read("memory"), read("peers")


def table(head, rows):
    if not rows:
        print("Not measured in this run.\n")
        return
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def percent(share):
    return f"{100 * share:.0f}%"


def number(value, digits=3):
    """About so many digits, without an exponent."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def milliseconds(seconds):
    return number(1e3 * seconds, 4)


def core_peak(isa, dtype, threads):
    found = [p for p in peaks if p.get("peak") == "flops" and (p["isa"], p["dtype"]) == (isa, dtype)]
    found = [p["core_gflops"] for p in found if p["threads"] >= threads] or [p["core_gflops"] for p in found]
    return found[0] if found else None


def best_isa():
    return next((p["isa"] for p in peaks if p.get("peak") == "flops"), "")


def sorted_results(rows):
    """A row a measurement: of equal ones the last."""
    keys = ("step", "preset", "threads", "isa", "dtype", "operation", "samples", "backend")
    return list({tuple(r.get(k) for k in keys): r for r in rows}.values())


def machine():
    print("## The machine\n")
    m = next((p["machine"] for p in peaks if "machine" in p), None)
    if m:
        print(f"{m['model']}, {m['features']}; {m['processors']} processors, {m['memory_gib']:.0f} GiB; caches: L1d "
              f"{m['l1d'] >> 10} KiB, L2 {m['l2'] >> 10} KiB, L3 {m['l3'] >> 10} KiB; {m['system']}.\n")
    rows = [(p["isa"], p["dtype"], p["instruction"], p["threads"], number(p["gflops"], 4), number(p["core_gflops"], 4))
            for p in peaks if p.get("peak") == "flops"]
    print("Multiply-adds by micro-kernel, 2 FLOP each. What the clock says, and of one core's own time:\n")
    table(["instructions", "type", "instruction", "threads", "GFLOP/s", "a core"], rows)
    rows = [(p["stream"], p["threads"], number(p["gbps"]), number(p["core_gbps"])) for p in peaks if p.get("peak") == "bandwidth"]
    print("Memory, arrays of several times the last cache:\n")
    table(["loop", "threads", "GB/s", "a core"], rows)


def operation_tables():
    print("## Operations\n")
    print("Products as a share of the FMA peak of that run, the others of a copy's bandwidth (over 100%: the tensors stay in "
          "the caches). `core share`: by the processor time of all threads, which other work on the machine disturbs less.\n")
    rows = sorted_results([o for o in operations if "operation" in o])
    kinds = list(dict.fromkeys((o["isa"], o["dtype"], o["threads"]) for o in rows))
    for isa, dtype, threads in kinds:
        print(f"### {isa}, {dtype}, {threads} thread{'s' * (threads > 1)}\n")
        table(["operation", "ms", "GFLOP/s", "GB/s", "share", "core share", "of"],
              [(o["operation"], number(o["ms"], 4), number(o["gflops"]), number(o["gbps"]), percent(o["share"]), percent(o["core_share"]), o["of"])
               for o in rows if (o["isa"], o["dtype"], o["threads"]) == (isa, dtype, threads)])


def step_tables():
    print("## Steps\n")
    print("GFLOP/s of needed arithmetic (`ref/model/arithmetic.h`: the last layer at read-out rows alone), as a share of the FMA "
          "peak of that run. Activations: of the encoders that the step uses. Peak: of the whole process.\n")
    rows = sorted_results([s for s in steps if "step" in s])
    for preset in dict.fromkeys(s["preset"] for s in rows):
        print(f"### {preset}\n")
        shown = []
        for s in (s for s in rows if s["preset"] == preset):
            counted = s["needed"] > 0
            shown.append((s["step"], s["isa"], s["dtype"], s["threads"], milliseconds(s["seconds"]),
                          f"{number(s['samples'] / s['seconds'])} {s['unit']}", number(s["tokens"] / s["seconds"]),
                          number(s["gflops"]) if counted else "", percent(s["share"]) if counted else "",
                          percent(s["core_share"]) if counted else "", number(s["activations_mib"]) if s["activations_mib"] else "", number(s["peak_mib"], 4)))
        table(["step", "instructions", "type", "threads", "ms", "a second", "tokens/s", "GFLOP/s", "share", "core share", "activations MiB", "peak MiB"], shown)
    what = {s["step"]: f"`{s['step']}` {s['what']}" for s in rows}
    print("; ".join(what.values()) + ".\n" if what else "")


def of(results, program):
    return next((r for r in results if r["program"] == program), None)


def groups():
    """(group, isa, dtype, threads, preset) -> results of one run."""
    found = {}
    for r in (r for r in peers if "compare" in r):
        key = (r["compare"], r["isa"] or best_isa(), r["dtype"], r["threads"], r["preset"])
        found.setdefault(key, {})[r["program"]] = r
    return {key: list(programs.values()) for key, programs in found.items()}


def peer_tables():
    print("## The same work in other programs\n")
    print("In turns within one run. A ratio over 1: ours takes so much less time. Pictures: the same sizes, 197 tokens, the last "
          "layer at the read-out row alone in every program; weights are random. bf16: encoding with weights of that type, "
          "training under autocast. Training: cosine cross-entropy, norm clipped, AdamW (PyTorch's fused one). Texts: ours "
          "packed, PyTorch's padded to the longest of the batch with a mask; lengths log-normal, mean 15, deviation 8. AVX2: "
          "`ATEN_CPU_CAPABILITY` and the like ask PyTorch for it; programs that no switch holds to it are left out. "
          "tiktoken gets texts cleaned and cut beforehand, and does less than the others.\n")
    rows = []
    for (group, isa, dtype, threads, preset), results in groups().items():
        ours = of(results, "ours")
        peak = core_peak(isa, dtype, threads)
        for r in results:
            ratio = core_ratio = share = ""
            if ours:
                ratio = f"{r['seconds'] / ours['seconds']:.2f}"
                core_ratio = f"{r['processor'] / ours['processor']:.2f}"
            if ours and ours["needed"] and peak:
                share = percent(1e-9 * ours["needed"] / r["seconds"] / (peak * threads)) if group != "texts" else ""
            one = group in ("tokens", "jpeg")
            rate = number(r["samples"] / r["seconds"] / (1e6 if group == "tokens" else 1))
            unit = {"tokens": "MB", "jpeg": "pictures", "texts": "texts"}.get(group, "pictures")
            rows.append((group, "" if one else isa, "" if one else dtype, threads, r["version"] or "ours", milliseconds(r["seconds"]), f"{rate} {unit}", share, ratio, core_ratio))
    table(["work", "instructions", "type", "threads", "program", "ms", "a second", "share", "ratio", "by core time"], rows)


def memory_tables():
    print("## Activations of a training step\n")
    print("What 8 more pictures in a batch add to the largest resident memory, each batch in a process of its own.\n")
    table(["type", "program", "peak at 8, MiB", "8 more, MiB"],
          [(m["dtype"], m["version"] or "ours", number(m["peak_mib"], 4), number(m["difference_mib"], 4)) for m in memory if "memory" in m])


def least(values):
    values = list(values)
    return min(values) if values else None


def summary():
    print("## In short\n")
    rows = []
    threads = max([s["threads"] for s in steps if "step" in s] or [0])
    preset = next((s["preset"] for s in steps if "step" in s), "base")
    kinds = [(isa, dtype) for isa in ("avx512", "avx2", "base") for dtype in ("f32", "bf16")]

    def line(what, value_of):
        values = [value_of(isa, dtype) for isa, dtype in kinds]
        rows.append([what] + [v if v else "" for v in values])

    def operations_share(words):
        def value(isa, dtype):
            shares = [o["core_share"] for o in operations if o.get("isa") == isa and o.get("dtype") == dtype and o.get("threads") == threads
                      and any(w in o.get("operation", "") for w in ("qkv", "projection", "ffn")) and o["operation"].endswith("bwd") == words]
            return f"{percent(min(shares))} to {percent(max(shares))}" if shares else None
        return value

    def step_of(name, isa, dtype, n=None, key="core_share"):
        found = [s for s in steps if s.get("step") == name and s["preset"] == preset and (s["isa"], s["dtype"], s["threads"]) == (isa, dtype, n or threads)]
        return found[-1] if found else None

    def share(name):
        def value(isa, dtype):
            s = step_of(name, isa, dtype)
            return f"{percent(s['share'])} ({percent(s['core_share'])} by core time)" if s else None
        return value

    def scaling(name):
        def value(isa, dtype):
            one, all = step_of(name, isa, dtype, 1), step_of(name, isa, dtype)
            return f"{one['seconds'] / all['seconds']:.2f}" if one and all and threads > 1 else None
        return value

    def ratio(group):
        def value(isa, dtype):
            results = next((r for k, r in groups().items() if k[:4] == (group, isa, dtype, threads)), [])
            ours, best = of(results, "ours"), least(r["seconds"] for r in results if r["program"] != "ours")
            return f"{best / ours['seconds']:.2f}" if ours and best else None
        return value

    line("linear layers forward, share of FMA peak by core time", operations_share(False))
    line("linear layers backward", operations_share(True))
    line("encode, share of FMA peak", share("encode"))
    line("encode, the best other program's time over ours", ratio("encode"))
    line("training step, share of FMA peak", share("train"))
    line("training step, the best other program's time over ours", ratio("train"))
    line("training step on texts of natural lengths, padded PyTorch's time over ours", ratio("texts"))
    line("encode, one thread's time over all threads'", scaling("encode"))
    line("training step, one thread's time over all threads'", scaling("train"))
    kept = [i for i, _ in enumerate(kinds) if any(r[1 + i] for r in rows)]
    print(f"{preset}, {threads} threads:\n")
    table(["what"] + [" ".join(kinds[i]) for i in kept], [[r[0]] + [r[1 + i] for i in kept] for r in rows if any(r[1:])])
    single_figures()


def single_figures():
    rows = []
    found = [s for s in steps if s.get("step") == "vocabulary"]
    for s in found:
        executed = s["executed"] / s["needed"] * s["share"]
        rows.append((f"vocabulary with backward, {s['samples']:,.0f} entries, {s['isa']} {s['dtype']}: executed arithmetic, share of FMA peak", percent(executed)))
        rows.append(("the same, peak of the whole process", f"{number(s['peak_mib'])} MiB"))
    cached = {(s["isa"], s["dtype"]): s for s in steps if s.get("step") == "beam"}
    for s in (s for s in steps if s.get("step") == "beam_whole"):
        ours = cached.get((s["isa"], s["dtype"]))
        if ours:
            rows.append((f"caption, beam 5, 20 words, {s['isa']} {s['dtype']}: whole sequences' time over cached keys'", f"{s['seconds'] / ours['seconds']:.1f}"))
    for dtype in ("f32", "bf16"):
        of_type = [m for m in memory if m.get("dtype") == dtype]
        ours, best = of(of_type, "ours"), least(m["difference_mib"] for m in of_type if m["program"] != "ours")
        if ours and best:
            rows.append((f"activations of a training step, {dtype}: ours over the least of PyTorch's", f"{ours['difference_mib'] / best:.2f}"))
    for key, results in groups().items():
        ours = of(results, "ours")
        if key[0] in ("tokens", "jpeg") and ours:
            unit = "MB" if key[0] == "tokens" else "pictures"
            rate = number(ours["samples"] / ours["seconds"] / (1e6 if key[0] == "tokens" else 1))
            others = ", ".join(f"{r['seconds'] / ours['seconds']:.2f} times {r['program']}" for r in results if r is not ours)
            rows.append((f"{'text to tokens, cold' if key[0] == 'tokens' else 'JPEG to normalised patches'}, one thread", f"{rate} {unit} a second; {others}"))
    table(["what", "measured"], rows)


print("# Benchmarks\n")
when = f"in {took // 60} minutes {took % 60} seconds" if took else "in several runs, not all of them whole"
print(f"Made by `scripts/benchmarks.sh{' --quick' if quick else ''}` {when}; not to be edited. Medians of turns: programs, types "
      "and instruction sets of a row alternate. How to read and repeat them: [CONTRIBUTING.md](../CONTRIBUTING.md), `--help` of each program in `bench/`.\n")
summary()
machine()
step_tables()
peer_tables()
memory_tables()
operation_tables()
