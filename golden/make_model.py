"""The model fixtures of golden/model: a second implementation, PyTorch at float64, written from the paper and the text
of include/uniperceiver/*.h. It is slow and plain: every sequence runs alone with a dense mask, autograd gives the
gradients, torch.optim.AdamW the steps. Run: /usr/bin/python3 golden/make_model.py   (Debian: python3-torch)

Every configuration is also run at float32, and with its activations stored as bfloat16 and as float16: what these
honest runs lose against float64 is stored beside the values, as the yardstick for tolerances. `stepN.terms.TASK` is the
sum of |dz s| over all logits of a task, s their part that the temperature scales: the terms whose sum is the gradient of
its temperature, and which mostly cancel.
"""
import hashlib
import itertools
import json
import math
import os
import re
import struct

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "model")
STEPS = 3
LOSS_SCALE = {"bf16": 1.0, "f16": 1024.0}  # of the gradients at half precision
HALF = {"bf16": torch.bfloat16, "f16": torch.float16}
TYPES = {"float64": "F64", "float32": "F32", "int32": "I32", "uint8": "U8"}
TEXT, IMAGE, VIDEO = 0, 1, 2  # kinds of rows in the expected `rows` tables
FULL, DOUBLED = 0, 1


# ---- configurations: the fields of up_config; FLAGS are the paper's ----

FLAGS = dict(frames_as_images=0, shared_norm=0, image_time=0, visual_type=1, fixed_space=0, output_head=0,
             layer_scale=0, layer_scale_init=1e-3, drop_path=0.1, prompts=0, prompt_sides=2, classes=0, initial_temperature=0.07)
RELEASED = dict(shared_norm=1, image_time=1, visual_type=0, fixed_space=1, output_head=1, layer_scale=1)


def configuration(layers, width, heads, ffn, image_size, frames, tasks, **flags):
    sizes = dict(layers=layers, width=width, heads=heads, ffn=ffn, vocabulary=50, text_positions=16,
                 image_size=image_size, patch=4, frames=frames, image_resize=image_size, video_resize=image_size,
                 video_stride=1)
    return {"preset": "golden", **sizes, **FLAGS, **flags, "tasks": tasks}


# ---- sequences: what a batch is made of, as case.json stores it ----

def text(ids, first=0, read=None):
    return {"part": "text", "ids": ids, "first_position": first, "read": read}


def words(ids):
    return {"part": "words_and_slots", "ids": ids}


def image():
    return {"part": "image"}


def video(frames, first=0):
    return {"part": "video", "frames": frames, "first_frame": first}


def pixels(part):
    """The same part as bytes, which the model normalises."""
    return {**part, "bytes": 1}


def x(*parts, read=1):
    return {"side": 0, "read": read, "parts": list(parts)}


def y(*parts):
    return {"side": 1, "read": 1, "parts": list(parts)}


def vocabulary(ids, end=48):
    return [y(text([v, end])) for v in ids]


def loss(task, labels=None, soft=0, symmetric=0, smoothing=0.0, weight=1.0, shares=0, bias=0, groups=None, head=0):
    """labels: an index a query, or with `shares` a pair. groups: those of the queries and those of the targets.
    `soft`, `shares` and `bias` are drawn; case.json has the names of their arrays there."""
    return dict(task=task, labels=labels, shares=shares, soft=soft, groups=groups, bias=bias, symmetric=symmetric,
                head=head, smoothing=smoothing, weight=weight)


def batch(name, sequences, loss, drop="", set_of=-1, x_of=-1):
    """drop: the sides whose sequences drop branches. set_of, x_of: the batch with the same target set, with the same
    inputs (which are not listed again, and stand right before); -1: none before."""
    return {"name": name, "sequences": sequences, "drop": drop, "set_of": set_of, "x_of": x_of, "loss": loss}


SPE = -1  # UP_ID_SPE: no id of the token table
CLASSES = [y(text([3])), y(text([7, 8, 48])), y(text([9, 10, 11, 12, 48])), y(text([13, 48]))]


def paper_batches():
    return [
        batch("image classification", [x(image()), x(image()), x(image()), *CLASSES],
              loss("img_cls", [2, 0, -1], smoothing=0.1), drop="x"),
        batch("masked words beside an image", [
            x(image(), text([5, SPE, 17, 20, SPE, 48], read=[0, 1, 0, 1, 1, 0]), read=0),
            x(image(), text([SPE, 48], read=[1, 0]), read=0), *vocabulary([4, 5, 17, 20, 21, 48])],
            loss("mlm", [0, 3, 4, -1]), drop="x"),
        batch("captions", [x(image(), words([30, 31, 32, 48]), read=0), x(image(), words([33, 48]), read=0),
                           *vocabulary([30, 31, 32, 33, 34, 48])], loss("caption", [0, 1, 2, 5, 3, 5])),
        batch("image-text retrieval", [x(image()), x(image()), x(image()), y(text([1, 2, 48])), y(text([3, 48])),
                                       y(text([4, 5, 6, 7, 8, 9, 48]))],
              loss("retrieve", [0, 1, 2], symmetric=1, smoothing=0.1, weight=0.5), drop="xy"),
        batch("video, soft targets", [x(video(2)), x(video(1, first=1)), *CLASSES],
              loss("video_cls", soft=1), set_of=0),
    ]


def released_batches():
    return [
        batch("question beside an image", [
            x(image(), text([11, 12, 13, 14]), text([SPE], read=[1]), read=0),
            x(image(), text([15]), text([SPE], read=[1]), read=0), *CLASSES], loss("vqa", [3, 1])),
        batch("clip from frame 1 and captions", [
            x(video(2, first=1), words([21, 22, 23, 48]), read=0), x(video(3), words([24]), read=0),
            *vocabulary([21, 22, 23, 24, 25, 26, 48])], loss("caption", [0, 1, 2, 6, 3]), drop="xy"),
        batch("retrieval, clamped scale", [x(image()), x(video(2)), x(text([40, 41, 48])), y(text([1, 48])),
                                           y(text([2, 3, 48])), y(image())],
              loss("retrieve", [0, 1, 2], symmetric=1, smoothing=0.1, weight=0.1)),
        batch("image classification", [x(image()), x(image()), *CLASSES],
              loss("img_cls", [1, 0], smoothing=0.1, weight=2.0), drop="x"),
    ]


def prompt_batches():
    return [
        batch("classification", [x(image()), x(video(2)), *CLASSES], loss("img_cls", [1, 2], smoothing=0.1), drop="xy"),
        batch("words behind text", [x(text([6, 7, 8]), words([30, 31, 48]), read=0), x(words([32]), read=0),
                                    *vocabulary([30, 31, 32, 48])], loss("caption", [0, 1, 3, 2])),
    ]


def text_batches():
    long = [(7 * i) % 48 for i in range(15)]
    return [
        batch("text retrieval, one token to sixteen", [x(), x(text([5])), x(text(long)), x(text([9, 9, 9, 48])),
                                                       y(text([SPE])), y(text([5, 48])), y(text(long[::-1])), y()],
              loss("retrieve", [0, 1, 2, 3], symmetric=1, weight=0.7)),
        batch("words alone", [x(words([10, 11, 12, 13, 48]), read=0), x(words([10]), read=0),
                              *vocabulary(range(8, 20)), *vocabulary([48])],
              loss("lm", [2, 3, 4, 5, 12, -1], smoothing=0.1)),
        batch("masked words and the first token", [x(text([5, SPE, SPE, 48], read=[0, 1, 1, 0])),
                                                   *vocabulary([5, 6, 7])], loss("mlm", soft=1)),
    ]


def mixed_batches():
    return [
        batch("video-text retrieval", [x(video(2)), x(video(2)), y(text([1, 48])), y(text([2, 3, 48]))],
              loss("retrieve", [0, 1], symmetric=1, smoothing=0.1)),
        batch("masked words beside a clip", [x(video(1), text([4, SPE, 48], read=[0, 1, 0]), read=0),
                                             *vocabulary([4, 5, 48])],
              loss("mlm", [1], smoothing=0.1, weight=0.02), drop="x"),
    ]


def loss_batches():
    """Each way to say what is true: pairs with shares, groups, biases; a set of all words, and one used twice."""
    texts = [y(text([1, 2, 48])), y(text([3, 48])), y(text([1, 2, 48])), y(text([4, 5, 6, 48])), y(text([3, 48]))]
    return [
        batch("mixed pictures", [*(x(pixels(image())) for _ in range(4)), *CLASSES],
              loss("img_cls", [[0, 2], [1, 1], [-1, -1], [3, 0]], shares=1, smoothing=0.1), drop="x"),
        batch("the same pictures and texts", texts, loss("retrieve", [3, -1, 4, 1], weight=0.7), x_of=0),
        batch("mixed clips, a bias a target, the classes again", [x(pixels(video(1))), x(pixels(video(2))), *CLASSES],
              loss("img_cls", [[2, 3], [3, 0]], shares=1, bias=1, weight=0.5), set_of=0),
        batch("equal texts are no negatives", [x(image()), x(image()), x(text([9])), x(image()), *texts,
                                              y(text([7, 48]))],
              loss("retrieve", [0, 4, 5, -1], smoothing=0.1, groups=[[0, 1, -1, 0], [0, 1, 0, -1, 1, 2]])),
        batch("both directions, with groups", [x(video(1)), x(image()), x(image()), x(text([8, 9])), x(image()),
                                               *texts],
              loss("retrieve", [0, 1, 2, 3, 4], symmetric=1, smoothing=0.1, weight=0.5,
                   groups=[[0, 1, 0, -1, 1], [0, 1, -1, 0, 1]]), drop="xy"),
        batch("several captions of a picture: pairs and groups", [x(image()), x(image()), x(image()), *texts],
              loss("retrieve", [[0, 2], [3, 1], [4, 0]], shares=1, bias=1, groups=[[0, 3, 1], [0, 1, 0, 3, 1]])),
        batch("all words, sampled: a bias", [x(image(), words([30, 31, 48]), read=0), x(words([2, 3]), read=0),
                                             *vocabulary(range(49))],
              loss("caption", [30, 31, 48, 2, 3], bias=1), drop="x"),
        batch("soft targets with a bias", [x(text([20, 21, 48])), x(), y(text([3])), y(text([4, 5]))],
              loss("img_cls", soft=1, bias=1, weight=0.3)),
    ]


def head_batches():
    """Equation 4, beside losses without the head."""
    return [
        batch("image classification with a head", [x(pixels(image())), x(image()), x(image()), x(image()), *CLASSES],
              loss("img_cls", [2, 0, -1, 1], head=1, smoothing=0.1), drop="x"),
        batch("the same pictures, another scale", CLASSES, loss("video_cls", [1, 3, 2, -1], head=1, weight=0.4),
              set_of=0, x_of=0),
        batch("mixed clips with a head, another scale", [x(pixels(video(2))), x(pixels(video(1, first=1))), *CLASSES],
              loss("video_cls", [[1, 3], [0, 2]], shares=1, bias=1, head=1, weight=0.6), set_of=0),
        batch("the same scale without the head", [x(image(), text([5, SPE, 48], read=[0, 1, 0]), read=0),
                                                  *vocabulary([4, 5, 48])], loss("img_cls", [1])),
        batch("soft targets with a head, clamped scale", [x(image()), x(text([5, 6, 48])), *CLASSES],
              loss("vqa", soft=1, head=1, weight=0.005)),
    ]


def tuned_batches(classes):
    """Two tuned tasks differ in their classes and in all that is their own."""
    return [
        batch("classification with a head", [x(image()), x(video(2)), x(image()), *CLASSES[:classes]],
              loss("img_cls", [1, 2, 0], head=1, smoothing=0.1), drop="x"),
        batch("captions", [x(image(), words([30, 31, 48]), read=0), *vocabulary([30, 31, 32, 33, 48])],
              loss("caption", [0, 1, 4], smoothing=0.1)),
        batch("retrieval, text and pictures on both sides", [x(image()), x(text([3, 4, 48])), y(text([1, SPE, 48])),
                                                           y(image())],
              loss("retrieve", [0, 1], symmetric=1)),
    ]


def adamw(lr, beta2, eps, decay, max_norm):
    return dict(lr=lr, beta1=0.9, beta2=beta2, eps=eps, decay=decay, max_norm=max_norm)


# name: configuration, temperatures' scale exp(.) before the clamp, batches, optimiser
CASES = {
    "paper": (configuration(2, 16, 2, 32, 8, 2, ["img_cls", "mlm", "caption", "retrieve", "video_cls", "unused"]),
              [8, 5, 6, 10, 4, 3], paper_batches(), adamw(1e-3, 0.999, 1e-8, 0.05, 0.5)),
    "released": (configuration(2, 32, 4, 64, 12, 3, ["vqa", "caption", "retrieve", "img_cls"], **RELEASED),
                 [1 / 0.07, 10, 150, 5], released_batches(), adamw(1e-3, 0.95, 1e-6, 0.2, 0.1)),
    "prompts": (configuration(3, 16, 4, 24, 8, 2, ["img_cls", "caption"], prompts=3),
                [6, 4], prompt_batches(), adamw(5e-3, 0.95, 1e-6, 0.1, 100.0)),
    "prompts-released": (configuration(2, 16, 2, 32, 12, 2, ["img_cls", "caption"], **{
        **RELEASED, "prompts": 2, "prompt_sides": 1}), [6, 4], prompt_batches(), adamw(2e-3, 0.999, 1e-6, 0.2, 1.0)),
    "text": (configuration(3, 24, 3, 40, 8, 2, ["retrieve", "lm", "mlm"], visual_type=0, layer_scale=1),
             [7, 5, 3], text_batches(), adamw(1e-3, 0.98, 1e-6, 0.01, 0.0)),
    "mixed": (configuration(2, 20, 1, 36, 12, 2, ["retrieve", "mlm"], shared_norm=1, image_time=1, fixed_space=1),
              [5, 102], mixed_batches(), adamw(1e-3, 0.999, 1e-8, 0.05, 0.05)),
    "losses": (configuration(2, 16, 4, 24, 8, 2, ["img_cls", "caption", "retrieve"]), [6, 8, 5], loss_batches(),
               adamw(1e-3, 0.999, 1e-8, 0.05, 1.0)),
    "head": (configuration(2, 16, 2, 24, 8, 2, ["img_cls", "video_cls", "vqa"], **{
        **RELEASED, "classes": 4, "layer_scale": 0, "frames_as_images": 1}), [6, 4, 110], head_batches(),
             adamw(1e-3, 0.98, 1e-6, 0.1, 2.0)),
}

# Tuned tasks over the weights of another configuration: that one, flags of their own, scales, batches, optimiser, and
# whether temperatures learn, which Table 9 does not count.
TUNED = {
    "tuned-pictures": ("paper", dict(prompts=3, prompt_sides=2, classes=4), [7, 3, 5, 6, 4, 2], tuned_batches(4),
                       adamw(5e-3, 0.95, 1e-6, 0.1, 1.0), True),
    "tuned-table9": ("paper", dict(prompts=2, prompt_sides=2, classes=3), [5, 8, 4, 9, 6, 2], tuned_batches(3),
                     adamw(2e-3, 0.999, 1e-8, 0.05, 0.0), False),
}


# ---- weights ----

def weights(c, scales, rng):
    """Name -> float32 array. Nothing is left at a value that hides a mistake: norms, biases and scales are random."""
    width, pixels, cells = c["width"], 3 * c["patch"] ** 2, (c["image_size"] // c["patch"]) ** 2
    w = {}

    def normal(name, *shape, std=1.0, mean=0.0):
        w[name] = (mean + std * rng.standard_normal(shape)).astype(np.float32)

    def norm(name):
        normal(name + ".weight", width, std=0.2, mean=1.0)
        normal(name + ".bias", width, std=0.2)

    def linear(name, rows, cols):
        normal(name + ".weight", rows, cols, std=1.1 / math.sqrt(cols))
        normal(name + ".bias", rows, std=0.2)

    normal("text.token.weight", c["vocabulary"] - 1, width)
    normal("text.spe.weight", width)
    normal("text.position.weight", c["text_positions"], width, std=0.5)
    normal("text.type.weight", 1, width, std=0.3)
    for name in ["embed.norm"] if c["shared_norm"] else ["text.norm", "image.norm", "video.norm"]:
        norm(name)
    linear("patch", width, pixels)
    normal("patch.space.weight", cells, width, std=0.5)
    normal("patch.time.weight", c["frames"], width, std=0.5)
    if c["visual_type"]:
        normal("patch.type.weight", 1, width, std=0.3)
    for n in range(c["layers"]):
        p = f"layers.{n}."
        norm(p + "norm1")
        linear(p + "attention.qkv", 3 * width, width)
        linear(p + "attention.out", width, width)
        norm(p + "norm2")
        linear(p + "ffn.up", c["ffn"], width)
        linear(p + "ffn.down", width, c["ffn"])
        if c["layer_scale"]:
            normal(p + "scale1", width, std=0.2, mean=0.7)
            normal(p + "scale2", width, std=0.2, mean=0.7)
        if c["prompts"]:
            normal(p + "prompts", c["prompt_sides"] * c["prompts"], width)
    if c["output_head"]:
        norm("output.norm")
        linear("output.proj", width, width)
    if c["classes"]:
        linear("head", c["classes"], width)
        normal("head.alpha", 1, std=0.2, mean=0.8)
    for task, scale in zip(c["tasks"], scales):
        w["logit_scale." + task] = np.array([math.log(scale)], np.float32)
    return w


def learning(c, w):
    """Names of what learns: all but a fixed table."""
    return {name for name in w if not (c["fixed_space"] and name == "patch.space.weight")}


def own(name):
    """Whether a tuned task has this tensor of its own: the four groups of Table 9, and temperatures."""
    return name == "text.spe.weight" or name.startswith(("head.", "logit_scale.")) or name.endswith(".prompts") or (
        re.search(r"(?<!output\.)norm\d?\.(weight|bias)$", name) is not None)


def decays(name):
    return name in ("patch.weight", "output.proj.weight", "head.weight") or (
        name.startswith("layers.") and name.endswith((".qkv.weight", ".out.weight", ".up.weight", ".down.weight")))


# ---- a sequence's rows: kind, id, position, cell, frame (-1: has none), read, and its mask ----

def lay_out(c, sequence):
    rows, read = [(TEXT, SPE, -1, -1, -1)], [sequence["read"]]  # the leading <SPE> is bare
    prefix, count = 0, 0
    cells = (c["image_size"] // c["patch"]) ** 2
    for part in sequence["parts"]:
        ids = part.get("ids", [])
        if part["part"] == "text":
            rows += [(TEXT, v, part["first_position"] + i, -1, -1) for i, v in enumerate(ids)]
            read += part["read"] or [0] * len(ids)
        elif part["part"] == "image":
            rows += [(IMAGE, -1, -1, cell, 0 if c["image_time"] else -1) for cell in range(cells)]
            read += [0] * cells
        elif part["part"] == "video":
            for f in range(part["frames"]):
                rows += [(VIDEO, -1, -1, cell, part["first_frame"] + f) for cell in range(cells)]
            read += [0] * (cells * part["frames"])
        else:
            prefix, count = len(rows), len(ids)
            rows += [(TEXT, v, i, -1, -1) for i, v in enumerate(ids)]
            rows += [(TEXT, SPE, i, -1, -1) for i in range(count)]
            read += [0] * count + [1] * count
    n = len(rows)
    mask = np.ones((n, n), np.uint8)
    if count:
        mask[:] = 0
        word, slot = prefix, prefix + count  # where words and slots begin
        mask[:, :prefix] = 1                 # all see the prefix
        for i in range(count):
            mask[word + i, word:word + i + 1] = 1
            mask[slot + i, word:word + i] = 1
            mask[slot + i, slot + i] = 1
    return rows, read, mask, (DOUBLED if count else FULL, prefix, count)


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def patches_of(c, part, arrays):
    """[patch rows, C] values: as they are given, or bytes normalised by channel (a patch is channel, row, column)."""
    values = arrays[part["patches"]].astype(np.float64)
    if "bytes" not in part:
        return values
    pictures = part["part"] == "image" or c["frames_as_images"]
    mean, std = (MEAN, STD) if pictures else (np.full(3, 0.5), np.full(3, 0.5))
    area = c["patch"] ** 2
    return (values / 255 - mean.repeat(area)) / std.repeat(area)


def side_of(b, side):
    """Number in the batch and description of the sequences of one side."""
    return [(s, sequence) for s, sequence in enumerate(b["sequences"]) if sequence["side"] == side]


# ---- half precision: what a program loses that keeps its activations and their gradients as bf16 or f16 ----

class Store(torch.autograd.Function):
    """A tensor that lies in memory as `half`: its value is rounded, and so is its gradient."""

    @staticmethod
    def forward(ctx, v, half):
        ctx.half = half
        return v.to(half).to(v.dtype)

    @staticmethod
    def backward(ctx, g):
        return g.to(ctx.half).to(g.dtype), None


class StoredGelu(torch.autograd.Function):
    """GELU where the value before it is kept as `half` for the way back; `early`: it is rounded on the way forth too."""

    @staticmethod
    def forward(ctx, v, half, early):
        kept = v.to(half).to(v.dtype)
        ctx.save_for_backward(kept)
        ctx.half = half
        return F.gelu(kept if early else v)

    @staticmethod
    def backward(ctx, g):
        kept, = ctx.saved_tensors
        slope = 0.5 * (1 + torch.erf(kept / math.sqrt(2))) + kept * torch.exp(-kept * kept / 2) / math.sqrt(2 * math.pi)
        return (g * slope).to(ctx.half).to(g.dtype), None, None


class StoredAttention(torch.autograd.Function):
    """softmax(scale q k' + mask) v where the output lies in memory as `half`. Two habits of fast programs: the
    probabilities and the gradients of the scores are rounded before they are multiplied (`narrow`), and the sum of p dp
    is taken from the stored output (`shortcut`)."""

    @staticmethod
    def forward(ctx, q, k, v, mask, scale, half, narrow, shortcut):
        p = (scale * q @ k.transpose(1, 2)).masked_fill(~mask, -math.inf).softmax(-1)
        ctx.round = lambda t: t.to(half).to(t.dtype)
        out = ctx.round((ctx.round(p) if narrow else p) @ v)
        ctx.save_for_backward(q, k, v, p, out)
        ctx.scale, ctx.narrow, ctx.shortcut = scale, narrow, shortcut
        return out

    @staticmethod
    def backward(ctx, g):
        q, k, v, p, out = ctx.saved_tensors
        g = ctx.round(g)
        dp = g @ v.transpose(1, 2)
        ds = ctx.scale * p * (dp - ((g * out) if ctx.shortcut else (p * dp)).sum(-1, keepdim=True))
        if ctx.narrow:
            p, ds = ctx.round(p), ctx.round(ds)
        return ds @ k, ds.transpose(1, 2) @ q, p.transpose(1, 2) @ g, None, None, None, None, None


# ---- the model, one sequence at a time ----

class Model:
    """half: None, or how activations are stored: a dict of `type` and of the habits `weights` (those of linear layers
    are rounded too, and the pixels), `early`, `narrow`, `shortcut`."""

    def __init__(self, c, w, dtype, learns, half=None):
        self.c, self.dtype, self.half = c, dtype, half
        self.p = {k: torch.tensor(v.astype(np.float64), dtype=dtype, requires_grad=k in learns) for k, v in w.items()}

    def store(self, v):
        return Store.apply(v, self.half["type"]) if self.half else v

    def narrow(self, v):
        """Of a weight, which keeps its gradient as it is."""
        if not self.half or not self.half["weights"]:
            return v
        return v + (v.detach().to(self.half["type"]).to(v.dtype) - v.detach())

    def norm(self, name, v):
        return self.store(F.layer_norm(v, v.shape[-1:], self.p[name + ".weight"], self.p[name + ".bias"], 1e-5))

    def linear(self, name, v):
        return F.linear(v, self.narrow(self.p[name + ".weight"]), self.p[name + ".bias"])

    def embed(self, rows, patches):
        """[n, D]; patches [patch rows, C] in the order of the rows that need one."""
        p, out, k = self.p, [], 0
        for kind, token, position, cell, frame in rows:
            if kind == TEXT:
                v = p["text.spe.weight"] if token == SPE else p["text.token.weight"][token]
                if position >= 0:
                    v = v + p["text.position.weight"][position] + p["text.type.weight"][0]
            else:
                v = self.narrow(p["patch.weight"]) @ self.narrow(patches[k]) + p["patch.bias"]
                v = v + p["patch.space.weight"][cell]
                k += 1
                if frame >= 0:
                    v = v + p["patch.time.weight"][frame]
                if self.c["visual_type"]:
                    v = v + p["patch.type.weight"][0]
            name = "embed" if self.c["shared_norm"] else ["text", "image", "video"][kind]
            out.append(self.norm(name + ".norm", self.store(v)))
        return torch.stack(out)

    def prompts(self, layer, side):
        """Keys and values of the side's prompts."""
        first = side * self.c["prompts"] if self.c["prompt_sides"] == 2 else 0
        name = f"layers.{layer}."
        prompt = self.norm(name + "norm1", self.p[name + "prompts"][first:first + self.c["prompts"]])
        return self.store(self.linear(name + "attention.qkv", prompt)).chunk(3, dim=1)[1:]

    def attention(self, layer, v, mask, prompts):
        c, n, h = self.c, v.shape[0], self.c["heads"]
        name = f"layers.{layer}."
        q, k, val = self.store(self.linear(name + "attention.qkv", self.norm(name + "norm1", v))).chunk(3, dim=1)
        if prompts:  # they stand before the sequence as keys and values
            k, val = torch.cat([prompts[0], k]), torch.cat([prompts[1], val])
            mask = torch.cat([torch.ones(n, c["prompts"], dtype=torch.bool), mask], dim=1)
        heads = lambda t: t.reshape(t.shape[0], h, -1).transpose(0, 1)  # [h, n, D / h]
        scale = 1 / math.sqrt(c["width"] // h)
        if self.half:
            out = StoredAttention.apply(heads(q), heads(k), heads(val), mask, scale, self.half["type"],
                                        self.half["narrow"], self.half["shortcut"])
        else:
            scores = heads(q) @ heads(k).transpose(1, 2) * scale
            out = scores.masked_fill(~mask, -math.inf).softmax(-1) @ heads(val)
        return self.store(self.linear(name + "attention.out", out.transpose(0, 1).reshape(n, -1)))

    def ffn(self, layer, v):
        name = f"layers.{layer}."
        v = self.linear(name + "ffn.up", self.norm(name + "norm2", v))
        v = self.store(StoredGelu.apply(v, self.half["type"], self.half["early"])) if self.half else F.gelu(v)
        return self.store(self.linear(name + "ffn.down", v))

    def encode(self, v, mask, prompts, drop):
        """drop: [2 * layers] factors of this sequence. Gives the output of every layer."""
        outputs = []
        for n in range(self.c["layers"]):
            scale1, scale2 = (self.p.get(f"layers.{n}.scale{k}", 1.0) for k in (1, 2))
            v = self.store(v + drop[2 * n] * scale1 * self.attention(n, v, mask, prompts[n]))
            v = self.store(v + drop[2 * n + 1] * scale2 * self.ffn(n, v))
            outputs.append(v)
        return outputs

    def encode_side(self, b, side, arrays):
        """The sequences of one side: dict of tensors."""
        layers = range(self.c["layers"])
        prompts = [self.prompts(n, side) if self.c["prompts"] else None for n in layers]
        embedding, outputs, reads = [], [], []
        for s, (number, sequence) in enumerate(side_of(b, side)):
            rows, read, mask, _ = lay_out(self.c, sequence)
            patches = [patches_of(self.c, part, arrays) for part in sequence["parts"] if "patches" in part]
            patches = torch.tensor(np.concatenate(patches), dtype=self.dtype) if patches else None
            name = b["drop_names"][side]
            drop = arrays[name][:, s] if name else np.ones(2 * self.c["layers"])
            embedding.append(self.embed(rows, patches))
            outputs.append(self.encode(embedding[-1], torch.tensor(mask).bool(), prompts,
                                       torch.tensor(drop.astype(np.float64), dtype=self.dtype)))
            reads += read
        out = {"embedding": torch.cat(embedding)}
        out.update({f"layer{n}": torch.cat([o[n] for o in outputs]) for n in layers})
        features = out[f"layer{self.c['layers'] - 1}"][[i for i, r in enumerate(reads) if r]]
        if self.c["output_head"]:
            features = self.linear("output.proj", self.norm("output.norm", features))
        out["features"], out["unit"] = features, F.normalize(features, dim=1, eps=1e-12)
        out["features"].retain_grad()
        out["unit"].retain_grad()
        return out

    def run(self, b, arrays):
        """Everything of one batch: dict of tensors, the weighted loss among them."""
        x, y = (self.encode_side(b, side, arrays) for side in (0, 1))
        out = {**{f"x.{k}": v for k, v in x.items()}, **{f"y.{k}": v for k, v in y.items()}}
        l = b["loss"]
        similarity = self.p["logit_scale." + l["task"]].exp().clamp(max=100.0) * x["unit"] @ y["unit"].T
        if l["head"]:  # equation 4
            similarity = self.p["head.alpha"] * similarity
        similarity.retain_grad()
        z = similarity
        if l["head"]:
            z = z + x["features"] @ self.p["head.weight"].T + self.p["head.bias"]
        if l["bias"]:
            z = z + torch.tensor(arrays[l["bias"]].astype(np.float64), dtype=self.dtype)
        out["similarity"], out["logits"] = similarity, z
        out["row_loss"], out["loss"] = self.loss(l, z, arrays)
        return out

    def loss(self, l, z, arrays):
        queries, targets = z.shape
        groups = l["groups"] or [[-1] * queries, [-1] * targets]
        share = truth(l, queries, targets, arrays)
        rows, counted = self.entropy(z, share, groups, l["smoothing"])
        total = rows.sum() / counted
        if l["symmetric"]:
            back, counted = self.entropy(z.T, share.T, groups[::-1], l["smoothing"])
            total = (total + back.sum() / counted) / 2
        return rows, l["weight"] * total

    def entropy(self, z, share, groups, smoothing):
        """Cross-entropy of each row, and how many rows count: those with a true target."""
        rows = []
        for i, row in enumerate(share):
            true = [j for j in range(len(row)) if row[j] > 0]
            # targets of the query's own group are no negatives
            count = [j for j in range(len(row)) if j in true or groups[0][i] < 0 or groups[1][j] != groups[0][i]]
            q = torch.tensor((1 - smoothing) * row[count] + smoothing / len(count), dtype=self.dtype)
            rows.append(-(q * z[i, count].log_softmax(0)).sum() if true else 0 * z[i].sum())
        return torch.stack(rows), sum(row.sum() > 0 for row in share)


def truth(l, queries, targets, arrays):
    """[Q, V]: each target's share of what is true of a query; all 0: the query is left out."""
    if l["soft"]:
        return arrays[l["soft"]].astype(np.float64)
    out = np.zeros((queries, targets))
    for i, label in enumerate(l["labels"]):
        pair = label if isinstance(label, list) else [label]
        for k, j in enumerate(pair):
            if pair[0] >= 0:
                out[i, j] += arrays[l["shares"]][i, k] if l["shares"] else 1.0
    return out


def accuracy(l, z):
    """Share of the counted rows whose largest logit is the labelled one (of two, the first), and their number."""
    if l["soft"]:
        return []
    first = [label[0] if isinstance(label, list) else label for label in l["labels"]]
    groups = l["groups"] or [[-1] * z.shape[0], [-1] * z.shape[1]]
    hits = []
    for i, label in enumerate(first):
        if label >= 0:
            pair = l["labels"][i] if isinstance(l["labels"][i], list) else [label]
            count = [j for j in range(z.shape[1]) if j in pair or groups[0][i] < 0 or groups[1][j] != groups[0][i]]
            hits.append(int(max(count, key=lambda j: z[i, j]) == label))
    return [sum(hits) / len(hits), len(hits)]


# ---- a whole case ----

def backward(model, batches, arrays, scale=1.0):
    """Values, losses and the sums of gradients of all batches. Returns name -> tensor, and the losses."""
    for v in model.p.values():
        v.grad = torch.zeros_like(v) if v.requires_grad else None
    out, losses = {}, []
    terms = {task: 0.0 for task in model.c["tasks"]}
    if model.c["classes"]:
        terms["head.alpha"] = 0.0
    for i, b in enumerate(batches):
        values = model.run(b, arrays)
        (scale * values["loss"]).backward()
        similarity = values.pop("similarity")
        sum_of_terms = float((similarity.grad * similarity).abs().sum()) / scale
        terms[b["loss"]["task"]] += sum_of_terms
        if b["loss"]["head"]:
            terms["head.alpha"] += sum_of_terms / abs(float(model.p["head.alpha"]))
        losses.append(values.pop("loss").item())
        out.update({f"batch{i}.{k}": v.detach() for k, v in values.items()})
        out[f"batch{i}.accuracy"] = torch.tensor(accuracy(b["loss"], values["logits"]), dtype=torch.float64)
        for side in "xy":
            out[f"batch{i}.{side}.dunit"] = values[f"{side}.unit"].grad / scale
            out[f"batch{i}.{side}.dfeatures"] = values[f"{side}.features"].grad / scale
    for v in model.p.values():
        if v.requires_grad:
            v.grad /= scale
    out.update({f"gradient.{k}": v.grad.clone() for k, v in model.p.items() if v.requires_grad})
    out.update({f"terms.{k}": torch.tensor([v], dtype=torch.float64) for k, v in terms.items()})
    return out, losses


def arrays_of(tensors, step):
    """As float64 arrays; values of batches once, at step 0, and those of a step under its number."""
    named = {k if k.startswith("batch") else f"step{step}.{k}": v for k, v in tensors.items()
             if step == 0 or not k.startswith("batch")}
    return {k: np.asarray(v.detach().numpy(), np.float64).copy() for k, v in named.items()}


def train(c, w, batches, optimizer, arrays, dtype, learns):
    """Three AdamW steps on the same batches. Returns name -> float64 array."""
    model = Model(c, w, dtype, learns)
    learned = {k: v for k, v in model.p.items() if v.requires_grad}
    groups = [dict(params=[v for k, v in learned.items() if decays(k) == d],
                   weight_decay=optimizer["decay"] if d else 0.0) for d in (False, True)]
    adam = torch.optim.AdamW([g for g in groups if g["params"]], lr=optimizer["lr"],
                             betas=(optimizer["beta1"], optimizer["beta2"]), eps=optimizer["eps"])
    out, losses = {}, []
    for step in range(STEPS):
        values, loss = backward(model, batches, arrays)
        out.update(arrays_of(values, step))
        losses.append(loss)
        norm = math.sqrt(sum(float((v.grad.double() ** 2).sum()) for v in learned.values()))
        out[f"step{step}.norm"] = np.array([norm])
        if optimizer["max_norm"]:
            torch.nn.utils.clip_grad_norm_(learned.values(), optimizer["max_norm"])
        adam.step()
        out.update(arrays_of({f"weight.{k}": v for k, v in learned.items()}, step))
    out.update({f"batch{i}.loss": np.array([l[i] for l in losses]) for i in range(len(batches))})
    return out


def inputs(c, batches, rng):
    """Patches, drop-path factors, soft targets, shares and biases, float32; their names are noted in the batches."""
    arrays, pixels, cells = {}, 3 * c["patch"] ** 2, (c["image_size"] // c["patch"]) ** 2
    for i, b in enumerate(batches):
        b["drop_names"] = ["", ""]
        for s, sequence in enumerate(b["sequences"]):
            for k, part in enumerate(sequence["parts"]):
                if part["part"] in ("image", "video"):
                    name = part["patches"] = f"batch{i}.sequence{s}.part{k}"
                    shape = (part.get("frames", 1) * cells, pixels)
                    arrays[name] = (rng.randint(0, 256, shape).astype(np.uint8) if "bytes" in part
                                    else rng.standard_normal(shape).astype(np.float32))
        if b["x_of"] >= 0:
            assert not side_of(b, 0) and "x" not in b["drop"] and b["x_of"] in (i - 1, batches[i - 1]["x_of"])
            b["sequences"] = [x for _, x in side_of(batches[b["x_of"]], 0)] + b["sequences"]
            b["drop_names"][0] = batches[b["x_of"]]["drop_names"][0]
        counts = [sum(sum(lay_out(c, sequence)[1]) for _, sequence in side_of(b, side)) for side in (0, 1)]
        if b["drop"]:
            keep = rng.random_sample((2 * c["layers"], len(b["sequences"]))) > 0.2
            factors = (keep / np.float32(1 - c["drop_path"])).astype(np.float32)
            for side, letter in enumerate("xy"):
                if letter in b["drop"]:
                    b["drop_names"][side] = f"batch{i}.{letter}.drop"
                    arrays[b["drop_names"][side]] = factors[:, [s for s, _ in side_of(b, side)]]
        draw_truth(i, b["loss"], counts, arrays, rng)
        if b["set_of"] >= 0:
            assert [s for _, s in side_of(b, 1)] == [s for _, s in side_of(batches[b["set_of"]], 1)], b["name"]
            assert "y" not in b["drop"] + batches[b["set_of"]]["drop"]
    return arrays


def draw_truth(i, l, counts, arrays, rng):
    def name(kind, values):
        l[kind] = f"batch{i}.{kind}"
        arrays[l[kind]] = values.astype(np.float32)

    if l["soft"]:
        p = np.exp(rng.standard_normal(counts))
        name("soft", p / p.sum(1, keepdims=True))
    if l["shares"]:
        first = rng.random_sample((counts[0], 1))
        name("shares", np.concatenate([first, 1 - first], axis=1))
    if l["bias"]:
        name("bias", rng.standard_normal(counts[1]))
    if l["labels"]:
        labels = np.array(l["labels"])
        assert len(labels) == counts[0] and labels.max() < counts[1] and (labels.ndim == 2) == bool(l["shares"])
    if l["groups"]:
        assert [len(g) for g in l["groups"]] == counts
    assert not l["symmetric"] or (l["labels"] == list(range(counts[1])) and not l["bias"])


def layout_tables(c, batches):
    out = {}
    for i, b in enumerate(batches):
        for side, letter in enumerate("xy"):
            table, sequences, readouts = [], [], []
            for s, (_, sequence) in enumerate(side_of(b, side)):
                rows, read, mask, (kind, prefix, count) = lay_out(c, sequence)
                sequences.append([len(table), len(rows), kind, prefix, count, side])
                readouts.extend(len(table) + r for r, on in enumerate(read) if on)
                table += rows
                out[f"batch{i}.{letter}.mask{s}"] = mask
            for name, value in dict(rows=table, sequences=sequences, readouts=readouts).items():
                out[f"batch{i}.{letter}.{name}"] = np.array(value, np.int32)
    return out


# ---- yardsticks: what honest runs lose ----

RESIDUAL_ROWS = re.compile(r"(patch|attention\.out|ffn\.down)\.(weight|bias)$")
RESIDUAL_COLUMNS = re.compile(
    r"(token|spe|position|type|space|time|qkv|up|proj|norm\d?)\.weight$|norm\d?\.bias$|\.scale\d$|\.prompts$|"
    r"^batch\d+\.[xy]\.(embedding|layer\d+)$")
FEATURE_COLUMNS = re.compile(r"^batch\d+\.[xy]\.(features|unit|dunit|dfeatures)$|head\.weight$")


def shuffle(c, tensors, hidden, width):
    """The same model with the hidden units of its FFNs and the channels of its residual stream in another order: sums
    round differently."""
    def one(name, v):
        columns = RESIDUAL_COLUMNS.search(name) or (FEATURE_COLUMNS.search(name) and not c["output_head"])
        v = v[width] if RESIDUAL_ROWS.search(name) else v
        v = v[..., width] if columns else v
        v = v[hidden] if ".ffn.up." in name else v
        return v[:, hidden] if name.endswith(".ffn.down.weight") else v
    return {name: one(name, v) for name, v in tensors.items()}


def f32_runs(c, w, batches, optimizer, arrays, learns, rng):
    """Eight honest float32 runs of a case."""
    for _ in range(8):
        hidden, width = rng.permutation(c["ffn"]), rng.permutation(c["width"])
        run = train(c, shuffle(c, w, hidden, width), batches, optimizer, arrays, torch.float32, learns)
        yield shuffle(c, run, np.argsort(hidden), np.argsort(width))


def half_run(c, w, batches, arrays, learns, kind, habits, scale):
    half = dict(zip(("weights", "early", "narrow", "shortcut"), habits), type=kind)
    return arrays_of(backward(Model(c, w, torch.float64, learns, half), batches, arrays, scale)[0], 0)


def half_runs(kind, c, w, batches, arrays, learns):
    """One step's gradients with every habit of programs that store activations as `kind`; sums at float64."""
    return [half_run(c, w, batches, arrays, learns, HALF[kind], habits, LOSS_SCALE[kind])
            for habits in itertools.product((False, True), repeat=4)]


def relative(got, want):
    error = np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-300)
    assert math.isfinite(error)
    return error


def check_half(c, w, batches, arrays, learns, exact):
    """Where nothing is rounded the half-precision program gives what autograd gives, with every habit."""
    for habits in itertools.product((False, True), repeat=4):
        run = half_run(c, w, batches, arrays, learns, torch.float64, habits, 1.0)
        for k, v in run.items():
            assert np.linalg.norm(v - exact[k]) <= 1e-11 * (np.linalg.norm(exact[k]) + 1), k


def errors(kind, batches, exact, runs):
    """What `kind` loses, the worst of some runs, as a relative error in norm: of a tensor on the way forth; of the
    gradient of one parameter, of all parameters together, and, batch by batch, of features and of losses. A loss is one
    number, right by luck now and then; its yardstick is what the logits lose, twice the largest error of one. The
    gradients of temperatures and of alpha are sums of terms that cancel: their errors are parts of the terms."""
    keys = list(runs[0])
    values = [k for k in keys if re.search(r"^batch\d+\.([xy]\.(?!dunit|dfeatures)|logits)", k)]
    learned = [k for k in keys if re.search(r"\.gradient\.(?!logit_scale|head\.alpha)", k)]
    factors = [(k, k.replace("gradient.logit_scale", "terms").replace("gradient.head", "terms.head")) for k in keys
               if re.search(r"\.gradient\.(logit_scale|head\.alpha)", k)]
    steps = sorted({k.split(".")[0] for k in learned})
    joined = lambda run, step: np.concatenate([run[k].ravel() for k in learned if k.startswith(step + ".")])
    features, losses = np.zeros(len(batches)), np.zeros(len(batches))
    for run, (i, b) in itertools.product(runs, enumerate(batches)):
        for k in (f"batch{i}.{side}.{what}" for side in "xy" for what in ("dunit", "dfeatures")):
            features[i] = max(features[i], relative(run[k], exact[k]))
        off = 2 * np.abs(run[f"batch{i}.logits"] - exact[f"batch{i}.logits"]).max()
        rows = exact[f"batch{i}.row_loss"]
        losses[i] = max(losses[i], off * b["loss"]["weight"] / exact[f"batch{i}.loss"].min(),
                        off * math.sqrt(len(rows)) / np.linalg.norm(rows))
    return {f"{kind}.forward": np.array([max(relative(run[k], exact[k]) for run in runs for k in values)]),
            f"{kind}.gradient": np.array([max(relative(run[k], exact[k]) for run in runs for k in learned)]),
            f"{kind}.all": np.array([max(relative(joined(run, t), joined(exact, t)) for run in runs for t in steps)]),
            f"{kind}.factor": np.array([max(float(abs(run[k] - exact[k])[0]) / max(exact[terms][0], 1e-300)
                                            for run in runs for k, terms in factors)] if factors else [0.0]),
            f"{kind}.features": features, f"{kind}.loss": losses}


# ---- files ----

def write_safetensors(path, tensors, metadata):
    header, offset = {"__metadata__": metadata} if metadata else {}, 0
    for name, v in tensors.items():
        header[name] = {"dtype": TYPES[str(v.dtype)], "shape": list(v.shape),
                        "data_offsets": [offset, offset + v.nbytes]}
        offset += v.nbytes
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for v in tensors.values():
            f.write(np.ascontiguousarray(v).tobytes())
    return {name: f"{TYPES[str(v.dtype)]} {list(v.shape)}" for name, v in tensors.items()}


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1, sort_keys=False)
        f.write("\n")


def write_case(name, c, w, own, case, batches, optimizer, learns, rng):
    """A folder: configuration, case, the weights that are its own, inputs, expected values. Returns file -> tensors."""
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    batches = json.loads(json.dumps(batches))  # configurations share lists of batches; the notes are their own
    arrays = inputs(c, batches, rng)
    exact = train(c, w, batches, optimizer, arrays, torch.float64, learns)
    lost = errors("f32", batches, exact, list(f32_runs(c, w, batches, optimizer, arrays, learns, rng)))
    for kind in HALF:
        lost.update(errors(kind, batches, exact, half_runs(kind, c, w, batches, arrays, learns)))
    stored = half_run(c, w, batches, arrays, learns, torch.float32, (False,) * 4, 1.0)
    lost["stored.loss"] = errors("stored", batches, exact, [stored])["stored.loss"]
    check_half(c, w, batches, arrays, learns, exact)
    kept = {k: v for k, v in exact.items() if not k.endswith(".logits")}
    write_json(os.path.join(folder, "config.json"), c)
    write_json(os.path.join(folder, "case.json"), {**case, "optimizer": optimizer, "steps": STEPS, "batches": batches})
    files = {"config.json": {}, "case.json": {}}
    for file, tensors, metadata in (("weights", own, metadata_of(c)), ("inputs", arrays, None),
                                    ("expected", {**layout_tables(c, batches), **kept, **lost}, None)):
        path = f"{file}.safetensors"
        files[path] = write_safetensors(os.path.join(folder, path), tensors, metadata)
    print(f"{name}: {sum(v.size for v in own.values())} parameters; norm {exact['step0.norm'][0]:.3g}; losses "
          + " ".join(f"{exact[f'batch{i}.loss'][0]:.3f}" for i in range(len(batches))))
    for kind in ("f32", *HALF):
        list_of = lambda what: " ".join(f"{v:.1e}" for v in lost[f"{kind}.{what}"])
        print(f"    {kind} loses {list_of('forward')} forward, {list_of('gradient')} in a gradient, "
              f"{list_of('all')} in all, {list_of('factor')} of terms, "
              f"{list_of('features')} in those of features, {list_of('loss')} in losses")
    return files


def main():
    files, kept = {}, {}

    def note(name, made):
        for path, tensors in made.items():
            data = open(os.path.join(HERE, name, path), "rb").read()
            files[f"{name}/{path}"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data),
                                       "tensors": tensors}

    for seed, (name, (c, scales, batches, optimizer)) in enumerate(CASES.items()):
        rng = np.random.RandomState(1000 + seed)
        w = kept[name] = weights(c, scales, rng)
        note(name, write_case(name, c, w, w, {}, batches, optimizer, learning(c, w), rng))
    for seed, (name, (base, flags, scales, batches, optimizer, temperatures)) in enumerate(TUNED.items()):
        rng = np.random.RandomState(2000 + seed)
        c = {**CASES[base][0], **flags}
        mine = {k: v for k, v in weights(c, scales, rng).items() if own(k)}
        learns = {k for k in mine if temperatures or not k.startswith("logit_scale.")}
        case = {"base": base, "learns": sorted(learns)}
        note(name, write_case(name, c, {**kept[base], **mine}, mine, case, batches, optimizer, learns, rng))
    write_json(os.path.join(HERE, "manifest.json"), {"made_by": "golden/make_model.py", "torch": torch.__version__,
                                                     "numpy": np.__version__, "files": files})


def metadata_of(c):
    return {"config": json.dumps(c)}


if __name__ == "__main__":
    main()
