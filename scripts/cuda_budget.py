#!/usr/bin/env python3
"""cuda_budget.py - what a training step at Base costs the cuda backend, counted from the shapes: arithmetic, bytes, and the
floors that the datasheets of three GPUs set on them. Prints the tables of docs/cuda.md. Nothing here is measured."""

LAYERS, D, H, F, WORDS, PARAMETERS = 12, 768, 12, 3072, 49411, 123_952_136
E = 2  # bytes of an activation: f16 or bf16
TILE, FEW = 32, 4  # rows of a tile of attention.cu; keys at most that a warp has in registers

# Datasheets, SXM boards, dense: 16-bit tensor and f32 TFLOP/s, GB/s; f32 multiply-adds of an SM in a cycle.
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


def shared_rate(fma):
    """Multiply-adds that the tiles of attention.cu can feed: a warp's loads from shared memory, one a cycle and SM."""
    dots = 8 / 6  # 4 rows by 2 others: 6 loads
    sums = 16 / 8  # 4 rows by 4 columns: 8 loads
    return min(1, 32 * dots / fma), min(1, 32 * sums / fma)


KINDS = ("flop", "dots", "sums", "f32", "shuffles", "size")


def part(name, **amounts):
    """flop: 16-bit products; dots, sums: f32 from shared memory in attention; f32: other f32; shuffles: of a warp; size: bytes."""
    return {"name": name, **{kind: amounts.get(kind, 0) for kind in KINDS}}


def attention(sequences, tokens, keys):
    """Forward and backward: in tiles, whole ones; or by a warp for each head, 5 shuffles a sum."""
    rows, tiles = E * sequences * tokens * D, -(-tokens // TILE)
    if keys <= FEW:
        area = sequences * tokens * FEW
        return ({"f32": 4 * area * D, "shuffles": 5 * area * H, "size": 5 * rows},
                {"f32": 10 * area * D, "shuffles": 10 * area * H, "size": 10 * rows})
    area = sequences * tiles * -(-keys // TILE) * TILE * TILE
    return ({"dots": 2 * area * D, "sums": 2 * area * D, "size": 3 * rows + 2 * rows * tiles},
            {"dots": 12 * area * D, "sums": 6 * area * D, "size": 9 * rows + 16 * rows * tiles})


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
    """Milliseconds: arithmetic or bytes, whatever is longer."""
    tensor, f32, bandwidth, fma = GPUS[gpu]
    dots, sums = shared_rate(fma)
    work = p["flop"] / tensor + p["f32"] / f32 + p["dots"] / (f32 * dots) + p["sums"] / (f32 * sums) + p["shuffles"] * 2 * fma / f32
    return max(work / 1e9, p["size"] / bandwidth / 1e6)


def main():
    print("| step | tokens | products, 16 bits | attention, f32 | similarities, f32 | bytes |\n|---|---|---|---|---|---|")
    for name, *shape in STEPS:
        all_parts = parts(*shape)
        total = {kind: sum(p[kind] for p in all_parts) for kind in KINDS}
        plain = total["dots"] + total["sums"] + sum(p["f32"] for p in all_parts[:-1])
        print(f"| {name} | {shape[0] * shape[1]:,} | {total['flop'] / 1e12:.2f} TFLOP | "
              f"{plain / 1e12:.2f} TFLOP | {all_parts[-1]['f32'] / 1e12:.2f} TFLOP | {total['size'] / 1e9:.1f} GB |")
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
