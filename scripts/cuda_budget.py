#!/usr/bin/env python3
"""cuda_budget.py - what a training step at Base costs the cuda backend, counted from the shapes: arithmetic, bytes, and the
floors that the datasheets of three GPUs set on them. Prints the tables of docs/cuda.md. Nothing here is measured."""

LAYERS, D, H, F, WORDS, PARAMETERS = 12, 768, 12, 3072, 49411, 123_952_136
E = 2  # bytes of an activation: f16 or bf16
# attention_tensor.cu: rows that stay in a block, rows that pass in a tile; attention.cu: keys at most that a warp has in registers
STAYING, PASSING, FEW = 64, 32, 4

# Datasheets, SXM boards, dense: 16-bit tensor and f32 TFLOP/s, GB/s; f32 multiply-adds of an SM in a cycle. Shared memory
# gives an SM 128 bytes in each of these cycles.
GPUS = {
    "V100": (125, 15.7, 900, 64),
    "A100 80 GB": (312, 19.5, 2039, 64),
    "H100": (989, 67, 3350, 128),
}
# name, sequences, tokens of one, keys of one, rows that predict among the whole vocabulary, passes forward
STEPS = [
    ("128 pictures", 128, 197, 197, 0, 1),
    ("128 captions of 20 words", 128, 197 + 2 * 20, 197 + 2 * 20, 128 * 20, 1),
    ("16 clips of 8 frames", 16, 8 * 196 + 1, 8 * 196 + 1, 0, 1),
    ("the whole vocabulary, once", WORDS, 3, 3, 0, 2),
]


KINDS = ("flop", "shared", "f32", "shuffles", "size")


def part(name, **amounts):
    """flop: 16-bit products; shared: bytes of shared memory; f32: f32 arithmetic; shuffles: of a warp; size: bytes of memory."""
    return {"name": name, **{kind: amounts.get(kind, 0) for kind in KINDS}}


def attention(sequences, tokens, keys):
    """Forward and backward: on tensor cores in tiles, whole ones; or by a warp for each head, 5 shuffles a sum."""
    rows, tiles = E * sequences * tokens * D, -(-tokens // STAYING)
    if keys <= FEW:
        area = sequences * tokens * FEW
        return ({"f32": 4 * area * D, "shuffles": 5 * area * H, "size": 5 * rows},
                {"f32": 10 * area * D, "shuffles": 10 * area * H, "size": 10 * rows})
    pairs = sequences * tiles * STAYING * -(-keys // PASSING) * PASSING  # of queries and keys, for each head
    # Of a strip of 16 rows and a tile, in KiB: 8 of fragments to 2 of scores in a product with a head's width; 2 of scores are
    # read, 2 of weights written; 2 + 4 of fragments in a weighted sum. A weight is two numbers, so its products count twice.
    strip, dots, scores, weights, sums = 16 * PASSING, 8 + 2, 2, 2, 2 + 4
    forward = dots + scores + weights + sums
    backward = 2 * (2 * dots + 2 * scores) + weights + sums + 2 * dots + 2 * scores + 2 * (weights + sums)
    return ({"flop": 6 * pairs * D, "shared": forward * 1024 * pairs * H / strip, "size": 3 * rows + 2 * rows * tiles},
            {"flop": 24 * pairs * D, "shared": backward * 1024 * pairs * H / strip, "size": 9 * rows + 6 * rows * tiles})


def parts(sequences, tokens, keys, predicting, passes):
    n = sequences * tokens
    rows, wide = E * n * D, E * n * F  # bytes of one matrix
    forward, backward = attention(sequences, tokens, keys)
    again = keys <= 256
    times = passes + (1 if again else 0)
    out = [
        part("products of the linear maps", flop=(passes + 2) * 2 * n * D * (4 * D + 2 * F),
             size=passes * (2 * 4 * E * D * D + rows * 3 + wide) + 2 * (rows * 8 + wide * 4)),
        part("bias, GELU, rounding of their results (`up_finish_linear`)", size=passes * (8 * n * (5 * D + F) + 5 * rows + 2 * wide)),
        part("attention forward, and once more on the way back" if again else "attention forward",
             **{kind: times * v for kind, v in forward.items()}),
        part("attention backward", **backward),
        part("layer norm, both ways", size=2 * (passes * 2 * rows + 6 * rows)),
        part("residual, both ways", size=2 * (passes * 3 * rows + 3 * rows)),
        part("GELU backward, sums of biases", size=3 * wide + 5 * rows + wide),
    ]
    for p in out:
        for kind in KINDS:
            p[kind] *= LAYERS
    # logits twice, both gradients; features and logits are f32
    out.append(part("similarities and cross-entropy in f32", f32=8 * predicting * D * WORDS, size=5 * 4 * predicting * WORDS))
    return out


def step_end():
    # norm: the gradient once; AdamW: weight, gradient, m, v read and written; weights in 16 bits written
    return part("norm, AdamW, weights in 16 bits, once a step", size=PARAMETERS * (4 + 32) + 85_017_600 * (4 + E))


def floor(p, gpu):
    """Milliseconds: arithmetic, bytes of shared memory or of memory, whatever is longest."""
    tensor, f32, bandwidth, fma = GPUS[gpu]
    work = p["flop"] / tensor + p["f32"] / f32 + p["shuffles"] * 2 * fma / f32
    shared = p["shared"] / (f32 / (2 * fma) * 128)
    return max(work / 1e9, shared / 1e9, p["size"] / bandwidth / 1e6)


def main():
    print("| step | tokens | linear maps, 16 bits | attention, 16 bits | similarities, f32 | bytes |\n|---|---|---|---|---|---|")
    for name, *shape in STEPS:
        all_parts = parts(*shape)
        total = {kind: sum(p[kind] for p in all_parts) for kind in KINDS}
        attended = sum(p["flop"] + p["f32"] for p in all_parts if p["name"].startswith("attention"))
        print(f"| {name} | {shape[0] * shape[1]:,} | {all_parts[0]['flop'] / 1e12:.2f} TFLOP | "
              f"{attended / 1e12:.2f} TFLOP | {all_parts[-1]['f32'] / 1e12:.2f} TFLOP | {total['size'] / 1e9:.1f} GB |")
    for name, *shape in STEPS:
        all_parts = parts(*shape) + [step_end()]
        print(f"\n{name[0].upper() + name[1:]}:\n\n| part | " + " | ".join(GPUS) + " |\n|---|" + "---|" * len(GPUS))
        totals = {gpu: sum(floor(p, gpu) for p in all_parts) for gpu in GPUS}
        for p in all_parts:
            if any(p[kind] for kind in KINDS):
                cells = [f"{floor(p, gpu):.1f} ms, {100 * floor(p, gpu) / totals[gpu]:.0f}%" for gpu in GPUS]
                print(f"| {p['name']} | " + " | ".join(cells) + " |")
        print("| all, one after the other | " + " | ".join(f"{totals[gpu]:.1f} ms" for gpu in GPUS) + " |")


main()
