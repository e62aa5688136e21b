"""The model fixtures of golden/model: a second implementation, PyTorch at float64, written from the paper and from the
text of include/uniperceiver/*.h. It is slow and plain: every sequence runs alone with a dense mask, autograd gives the
gradients, torch.optim.AdamW the steps. Run: /usr/bin/python3 golden/make_model.py   (Debian: python3-torch)

Every configuration is also run at float32: what these honest runs lose against float64 is stored beside the values, as
the yardstick for tolerances. `stepN.terms.TASK` is the sum of |dz z| over all logits of a task: the terms whose sum is the
gradient of its temperature, and which mostly cancel.
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
TYPES = {"float64": "F64", "float32": "F32", "int32": "I32", "uint8": "U8"}
TEXT, IMAGE, VIDEO = 0, 1, 2  # kinds of rows in the expected `rows` tables
FULL, DOUBLED = 0, 1


# ---- configurations: the fields of up_config; FLAGS are the paper's ----

FLAGS = dict(shared_norm=0, image_time=0, visual_type=1, fixed_space=0, output_head=0, layer_scale=0,
             layer_scale_init=1e-3, drop_path=0.1, prompts=0, prompt_sides=2, classes=0, initial_temperature=0.07)
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


def x(*parts, read=1):
    return {"side": 0, "read": read, "parts": list(parts)}


def y(*parts):
    return {"side": 1, "read": 1, "parts": list(parts)}


def vocabulary(ids, end=48):
    return [y(text([v, end])) for v in ids]


def loss(task, labels=None, soft=0, symmetric=0, smoothing=0.0, weight=1.0):
    return dict(task=task, labels=labels, soft=soft, symmetric=symmetric, smoothing=smoothing, weight=weight)


def batch(name, sequences, loss, drop=0):
    return {"name": name, "sequences": sequences, "drop": drop, "loss": loss}


SPE = 49  # the last of the 50 ids
CLASSES = [y(text([3])), y(text([7, 8, 48])), y(text([9, 10, 11, 12, 48])), y(text([13, 48]))]


def paper_batches():
    return [
        batch("image classification", [x(image()), x(image()), x(image()), *CLASSES],
              loss("img_cls", [2, 0, -1], smoothing=0.1), drop=1),
        batch("masked words beside an image", [
            x(image(), text([5, SPE, 17, 20, SPE, 48], read=[0, 1, 0, 1, 1, 0]), read=0),
            x(image(), text([SPE, 48], read=[1, 0]), read=0), *vocabulary([4, 5, 17, 20, 21, 48])],
            loss("mlm", [0, 3, 4, -1]), drop=1),
        batch("captions", [x(image(), words([30, 31, 32, 48]), read=0), x(image(), words([33, 48]), read=0),
                           *vocabulary([30, 31, 32, 33, 34, 48])], loss("caption", [0, 1, 2, 5, 3, 5])),
        batch("image-text retrieval", [x(image()), x(image()), x(image()), y(text([1, 2, 48])), y(text([3, 48])),
                                       y(text([4, 5, 6, 7, 8, 9, 48]))],
              loss("retrieve", [0, 1, 2], symmetric=1, smoothing=0.1, weight=0.5), drop=1),
        batch("video, soft targets", [x(video(2)), x(video(1, first=1)), *CLASSES], loss("video_cls", soft=1)),
    ]


def released_batches():
    return [
        batch("question beside an image", [
            x(image(), text([11, 12, 13, 14]), text([SPE], read=[1]), read=0),
            x(image(), text([15]), text([SPE], read=[1]), read=0), *CLASSES], loss("vqa", [3, 1])),
        batch("clip from frame 1 and captions", [
            x(video(2, first=1), words([21, 22, 23, 48]), read=0), x(video(3), words([24]), read=0),
            *vocabulary([21, 22, 23, 24, 25, 26, 48])], loss("caption", [0, 1, 2, 6, 3]), drop=1),
        batch("retrieval, clamped scale", [x(image()), x(video(2)), x(text([40, 41, 48])), y(text([1, 48])),
                                           y(text([2, 3, 48])), y(image())],
              loss("retrieve", [0, 1, 2], symmetric=1, smoothing=0.1, weight=0.1)),
        batch("image classification", [x(image()), x(image()), *CLASSES],
              loss("img_cls", [1, 0], smoothing=0.1, weight=2.0), drop=1),
    ]


def prompt_batches():
    return [
        batch("classification", [x(image()), x(video(2)), *CLASSES], loss("img_cls", [1, 2], smoothing=0.1), drop=1),
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
                                             *vocabulary([4, 5, 48])], loss("mlm", [1], smoothing=0.1, weight=0.02), drop=1),
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

    normal("text.token.weight", c["vocabulary"], width)
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
    for task, scale in zip(c["tasks"], scales):
        w["logit_scale." + task] = np.array([math.log(scale)], np.float32)
    return w


def frozen(c, name):
    return c["fixed_space"] and name == "patch.space.weight"


def decays(name):
    return name == "patch.weight" or name == "output.proj.weight" or (
        name.startswith("layers.") and name.endswith((".qkv.weight", ".out.weight", ".up.weight", ".down.weight")))


# ---- a sequence's rows: kind, id, position, cell, frame (-1: has none), read, and its mask ----

def lay_out(c, sequence):
    rows, read = [(TEXT, SPE, -1, -1, -1)], [sequence["read"]]  # the leading <SPE> is bare
    role, prefix, count = [], 0, 0
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


# ---- the model, one sequence at a time ----

class Model:
    def __init__(self, c, w, dtype):
        self.c, self.dtype = c, dtype
        self.p = {k: torch.tensor(v.astype(np.float64), dtype=dtype, requires_grad=not frozen(c, k))
                  for k, v in w.items()}

    def norm(self, name, v):
        return F.layer_norm(v, v.shape[-1:], self.p[name + ".weight"], self.p[name + ".bias"], 1e-5)

    def linear(self, name, v):
        return F.linear(v, self.p[name + ".weight"], self.p[name + ".bias"])

    def embed(self, rows, patches):
        """[n, D]; patches [patch rows, C] in the order of the rows that need one."""
        p, out, k = self.p, [], 0
        for kind, token, position, cell, frame in rows:
            if kind == TEXT:
                v = p["text.token.weight"][token]
                if position >= 0:
                    v = v + p["text.position.weight"][position] + p["text.type.weight"][0]
            else:
                v = p["patch.weight"] @ patches[k] + p["patch.bias"] + p["patch.space.weight"][cell]
                k += 1
                if frame >= 0:
                    v = v + p["patch.time.weight"][frame]
                if self.c["visual_type"]:
                    v = v + p["patch.type.weight"][0]
            name = "embed" if self.c["shared_norm"] else ["text", "image", "video"][kind]
            out.append(self.norm(name + ".norm", v))
        return torch.stack(out)

    def attention(self, layer, v, mask, side):
        c, n, h = self.c, v.shape[0], self.c["heads"]
        name = f"layers.{layer}."
        q, k, val = self.linear(name + "attention.qkv", self.norm(name + "norm1", v)).chunk(3, dim=1)
        if c["prompts"]:  # the side's prompts stand before the sequence as keys and values
            first = side * c["prompts"] if c["prompt_sides"] == 2 else 0
            prompt = self.norm(name + "norm1", self.p[name + "prompts"][first:first + c["prompts"]])
            _, pk, pv = self.linear(name + "attention.qkv", prompt).chunk(3, dim=1)
            k, val = torch.cat([pk, k]), torch.cat([pv, val])
            mask = torch.cat([torch.ones(n, c["prompts"], dtype=torch.bool), mask], dim=1)
        heads = lambda t: t.reshape(t.shape[0], h, -1).transpose(0, 1)  # [h, n, D / h]
        scores = heads(q) @ heads(k).transpose(1, 2) / math.sqrt(c["width"] // h)
        weight = scores.masked_fill(~mask, -math.inf).softmax(-1)
        return self.linear(name + "attention.out", (weight @ heads(val)).transpose(0, 1).reshape(n, -1))

    def ffn(self, layer, v):
        name = f"layers.{layer}."
        return self.linear(name + "ffn.down", F.gelu(self.linear(name + "ffn.up", self.norm(name + "norm2", v))))

    def encode(self, v, mask, side, drop):
        """drop: [2 * layers] factors of this sequence. Gives the output of every layer."""
        outputs = []
        for n in range(self.c["layers"]):
            scale1, scale2 = (self.p.get(f"layers.{n}.scale{k}", 1.0) for k in (1, 2))
            v = v + drop[2 * n] * scale1 * self.attention(n, v, mask, side)
            v = v + drop[2 * n + 1] * scale2 * self.ffn(n, v)
            outputs.append(v)
        return outputs

    def run(self, b, arrays):
        """Everything of one batch: dict of tensors, the weighted loss among them."""
        embedding, outputs, sides, reads = [], [], [], []
        for s, sequence in enumerate(b["sequences"]):
            rows, read, mask, _ = lay_out(self.c, sequence)
            patches = [arrays[key] for key in sequence["patches"]]
            patches = torch.tensor(np.concatenate(patches).astype(np.float64), dtype=self.dtype) if patches else None
            drop = arrays[b["drop_name"]][:, s] if b["drop"] else np.ones(2 * self.c["layers"])
            embedding.append(self.embed(rows, patches))
            outputs.append(self.encode(embedding[-1], torch.tensor(mask).bool(), sequence["side"],
                                       torch.tensor(drop.astype(np.float64), dtype=self.dtype)))
            reads += read
            sides += [sequence["side"]] * len(rows)
        out = {"embedding": torch.cat(embedding)}
        for n in range(self.c["layers"]):
            out[f"layer{n}"] = torch.cat([o[n] for o in outputs])
        query = [i for i, r in enumerate(reads) if r and sides[i] == 0]
        target = [i for i, r in enumerate(reads) if r and sides[i] == 1]
        features = out[f"layer{self.c['layers'] - 1}"][query + target]
        if self.c["output_head"]:
            features = self.linear("output.proj", self.norm("output.norm", features))
        out["features"], out["unit"] = features, F.normalize(features, dim=1, eps=1e-12)
        scale = self.p["logit_scale." + b["loss"]["task"]].exp().clamp(max=100.0)
        out["logits"] = scale * out["unit"][:len(query)] @ out["unit"][len(query):].T
        out["logits"].retain_grad()
        out["row_loss"], out["loss"] = self.loss(b["loss"], out["logits"], arrays)
        return out

    def loss(self, l, z, arrays):
        if l["soft"]:
            p = torch.tensor(arrays[l["soft_name"]].astype(np.float64), dtype=self.dtype)
            rows = -(p * z.log_softmax(1)).sum(1)
            return rows, l["weight"] * rows.mean()
        labels = torch.tensor(l["labels"])
        entropy = lambda logits: F.cross_entropy(logits, labels, ignore_index=-1, reduction="none",
                                                 label_smoothing=l["smoothing"])
        mean = lambda rows: rows.sum() / (labels >= 0).sum()
        rows = entropy(z)
        total = (mean(rows) + mean(entropy(z.T))) / 2 if l["symmetric"] else mean(rows)
        return rows, l["weight"] * total


def accuracy(l, z):
    """Share of the counted rows whose largest logit is the labelled one, and their number."""
    if l["soft"]:
        return []
    hits = [int(z[i].argmax() == label) for i, label in enumerate(l["labels"]) if label >= 0]
    return [sum(hits) / len(hits), len(hits)]


# ---- a whole case ----

def train(c, w, batches, optimizer, arrays, dtype):
    """Three AdamW steps on the same batches. Returns name -> float64 array."""
    model = Model(c, w, dtype)
    learned = {k: v for k, v in model.p.items() if v.requires_grad}
    groups = [dict(params=[v for k, v in learned.items() if decays(k) == d],
                   weight_decay=optimizer["decay"] if d else 0.0) for d in (False, True)]
    adam = torch.optim.AdamW(groups, lr=optimizer["lr"], betas=(optimizer["beta1"], optimizer["beta2"]),
                             eps=optimizer["eps"])
    out, losses = {}, [[] for _ in batches]
    for step in range(STEPS):
        for v in learned.values():
            v.grad = torch.zeros_like(v)
        terms = {task: 0.0 for task in c["tasks"]}
        for i, b in enumerate(batches):
            values = model.run(b, arrays)
            values["loss"].backward()
            terms[b["loss"]["task"]] += float((values["logits"].grad * values["logits"]).abs().sum())
            losses[i].append(values.pop("loss").item())
            if step == 0:
                out.update({f"batch{i}.{k}": v.detach().numpy() for k, v in values.items()})
                out[f"batch{i}.accuracy"] = np.array(accuracy(b["loss"], values["logits"]))
        out.update({f"step{step}.gradient.{k}": v.grad.numpy().copy() for k, v in learned.items()})
        out.update({f"step{step}.terms.{k}": np.array([v]) for k, v in terms.items()})
        norm = math.sqrt(sum(float((v.grad.double() ** 2).sum()) for v in learned.values()))
        out[f"step{step}.norm"] = np.array([norm])
        if optimizer["max_norm"]:
            torch.nn.utils.clip_grad_norm_(learned.values(), optimizer["max_norm"])
        adam.step()
        out.update({f"step{step}.weight.{k}": v.detach().numpy().copy() for k, v in learned.items()})
    out.update({f"batch{i}.loss": np.array(l) for i, l in enumerate(losses)})
    return {k: np.asarray(v, np.float64) for k, v in out.items()}


def inputs(c, batches, rng):
    """Patches, drop-path factors and soft targets, float32; their names are noted in the batches."""
    arrays, pixels, cells = {}, 3 * c["patch"] ** 2, (c["image_size"] // c["patch"]) ** 2
    for i, b in enumerate(batches):
        queries = targets = 0
        for s, sequence in enumerate(b["sequences"]):
            sequence["patches"] = []
            for k, part in enumerate(sequence["parts"]):
                if part["part"] in ("image", "video"):
                    name = part["patches"] = f"batch{i}.sequence{s}.part{k}"
                    arrays[name] = rng.standard_normal((part.get("frames", 1) * cells, pixels)).astype(np.float32)
                    sequence["patches"].append(name)
            count = sum(lay_out(c, sequence)[1])
            queries, targets = queries + count * (sequence["side"] == 0), targets + count * (sequence["side"] == 1)
        if b["drop"]:
            b["drop_name"] = f"batch{i}.drop"
            keep = rng.random_sample((2 * c["layers"], len(b["sequences"]))) > 0.2
            arrays[b["drop_name"]] = (keep / np.float32(1 - c["drop_path"])).astype(np.float32)
        if b["loss"]["soft"]:
            b["loss"]["soft_name"] = f"batch{i}.soft"
            p = np.exp(rng.standard_normal((queries, targets)))
            arrays[b["loss"]["soft_name"]] = (p / p.sum(1, keepdims=True)).astype(np.float32)
        if b["loss"]["labels"]:
            assert len(b["loss"]["labels"]) == queries and max(b["loss"]["labels"]) < targets, b["name"]
    return arrays


def layout_tables(c, batches):
    out = {}
    for i, b in enumerate(batches):
        table, sequences, query, target = [], [], [], []
        for s, sequence in enumerate(b["sequences"]):
            rows, read, mask, (kind, prefix, count) = lay_out(c, sequence)
            sequences.append([len(table), len(rows), kind, prefix, count, sequence["side"]])
            (target if sequence["side"] else query).extend(len(table) + r for r, on in enumerate(read) if on)
            table += rows
            out[f"batch{i}.mask{s}"] = mask
        for name, value in dict(rows=table, sequences=sequences, queries=query, targets=target).items():
            out[f"batch{i}.{name}"] = np.array(value, np.int32)
    return out


RESIDUAL_ROWS = re.compile(r"(patch|attention\.out|ffn\.down)\.(weight|bias)$")
RESIDUAL_COLUMNS = re.compile(
    r"(token|position|type|space|time|qkv|up|proj|norm\d?)\.weight$|norm\d?\.bias$|\.scale\d$|\.prompts$|"
    r"^batch\d+\.(embedding|layer\d+)$")


def shuffle(c, tensors, hidden, width):
    """The same model with the hidden units of its FFNs and the channels of its residual stream in another order: sums
    round differently."""
    def one(name, v):
        columns = RESIDUAL_COLUMNS.search(name) or (
            re.search(r"^batch\d+\.(features|unit)$", name) and not c["output_head"])
        v = v[width] if RESIDUAL_ROWS.search(name) else v
        v = v[..., width] if columns else v
        v = v[hidden] if ".ffn.up." in name else v
        return v[:, hidden] if name.endswith(".ffn.down.weight") else v
    return {name: one(name, v) for name, v in tensors.items()}


def f32_runs(c, w, batches, optimizer, arrays, rng):
    """Eight honest float32 runs of a case."""
    for _ in range(8):
        hidden, width = rng.permutation(c["ffn"]), rng.permutation(c["width"])
        run = train(c, shuffle(c, w, hidden, width), batches, optimizer, arrays, torch.float32)
        yield shuffle(c, run, np.argsort(hidden), np.argsort(width))


def f32_errors(batches, exact, runs):
    """What float32 loses, the worst of some runs: the largest relative error (in norm) of a tensor, forward and among the gradients, and in a
    loss. A loss is one number, right by luck now and then; its yardstick is what the logits lose, twice the largest
    error of one. The temperatures' gradients, sums of terms that cancel, are left out: theirs are the terms."""
    worst = {"f32.forward": 0.0, "f32.gradient": 0.0, "f32.loss": 0.0}

    def note(kind, error):
        worst["f32." + kind] = max(worst["f32." + kind], float(error))

    for single, (k, v) in itertools.product(runs, exact.items()):
        error = np.linalg.norm(single[k] - v) / max(np.linalg.norm(v), 1e-300)
        if ".gradient." in k and ".logit_scale." not in k:
            note("gradient", error)
        elif k.startswith("batch") and not k.endswith(("loss", "accuracy")):
            note("forward", error)
    for single, (i, b) in itertools.product(runs, enumerate(batches)):
        off = 2 * np.abs(single[f"batch{i}.logits"] - exact[f"batch{i}.logits"]).max()
        rows = exact[f"batch{i}.row_loss"]
        note("loss", max(off * b["loss"]["weight"] / exact[f"batch{i}.loss"].min(),
                         off * math.sqrt(len(rows)) / np.linalg.norm(rows)))
    return {k: np.array([v]) for k, v in worst.items()}


# ---- files ----

def write_safetensors(path, tensors, metadata):
    header, offset = {"__metadata__": metadata} if metadata else {}, 0
    for name, v in tensors.items():
        header[name] = {"dtype": TYPES[str(v.dtype)], "shape": list(v.shape), "data_offsets": [offset, offset + v.nbytes]}
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


def main():
    files = {}

    def note(path, tensors=None):
        data = open(os.path.join(HERE, path), "rb").read()
        files[path] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "tensors": tensors or {}}

    for seed, (name, (c, scales, batches, optimizer)) in enumerate(CASES.items()):
        rng = np.random.RandomState(1000 + seed)
        folder = os.path.join(HERE, name)
        os.makedirs(folder, exist_ok=True)
        w = weights(c, scales, rng)
        batches = json.loads(json.dumps(batches))  # configurations share lists of batches; the notes are their own
        arrays = inputs(c, batches, rng)
        exact = train(c, w, batches, optimizer, arrays, torch.float64)
        errors = f32_errors(batches, exact, list(f32_runs(c, w, batches, optimizer, arrays, rng)))
        expected = {**layout_tables(c, batches), **exact, **errors}
        write_json(os.path.join(folder, "config.json"), c)
        write_json(os.path.join(folder, "case.json"), {"optimizer": optimizer, "steps": STEPS, "batches": batches})
        note(f"{name}/config.json")
        note(f"{name}/case.json")
        for file, tensors, metadata in (("weights", w, metadata_of(c)), ("inputs", arrays, None),
                                        ("expected", expected, None)):
            path = f"{name}/{file}.safetensors"
            note(path, write_safetensors(os.path.join(HERE, path), tensors, metadata))
        print(f"{name}: {sum(v.size for v in w.values())} parameters; float32 loses {errors['f32.forward'][0]:.1e} "
              f"forward, {errors['f32.loss'][0]:.1e} in losses, {errors['f32.gradient'][0]:.1e} in gradients; norm {exact['step0.norm'][0]:.3g}; losses "
              + " ".join(f"{exact[f'batch{i}.loss'][0]:.3f}" for i in range(len(batches))))
    write_json(os.path.join(HERE, "manifest.json"), {"made_by": "golden/make_model.py", "torch": torch.__version__,
                                                     "numpy": np.__version__, "files": files})


def metadata_of(c):
    return {"config": json.dumps(c)}


if __name__ == "__main__":
    main()
