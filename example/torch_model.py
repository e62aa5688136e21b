"""torch_model.py MODEL IDS... - a model file of this project as a plain PyTorch module.

    model = load("model.safetensors")
    model.text(ids)       ids [batch, tokens], <|endoftext|> (49407) at the end    -> features [batch, D] of length 1
    model.image(pixels)   pixels [batch, 3, S, S], normalised                      -> the same

Tuned tasks (overlays), prompts and clips are left out. The file's tensors: docs/file-formats.md; formulas: docs/numerics.md.
"""

import json
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F


def read(path):
    """Configuration and tensors of a safetensors file."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    config = json.loads(header.pop("__metadata__")["config"])
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], dtype=np.float32).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(values.copy())
    return config, tensors


class Encoder(torch.nn.Module):
    def __init__(self, config, tensors):
        super().__init__()
        if config["prompts"]:
            raise ValueError("a model with prompts")
        self.config = config
        self.weights = torch.nn.ParameterDict({name.replace(".", "/"): value for name, value in tensors.items()})

    def weight(self, name):
        return self.weights[name.replace(".", "/")]

    def norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.weight(name + ".weight"), self.weight(name + ".bias"), 1e-5)

    def linear(self, name, x):
        return F.linear(x, self.weight(name + ".weight"), self.weight(name + ".bias"))

    def embed_norm(self, kind, x):
        return self.norm("embed.norm" if self.config["shared_norm"] else kind + ".norm", x)

    def layer(self, n, x):
        name, heads = f"layers.{n}.", self.config["heads"]
        scales = [self.weight(f"{name}scale{k}") if self.config["layer_scale"] else 1.0 for k in (1, 2)]
        q, k, v = self.linear(name + "attention.qkv", self.norm(name + "norm1", x)).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + scales[0] * self.linear(name + "attention.out", mixed)
        up = F.gelu(self.linear(name + "ffn.up", self.norm(name + "norm2", x)))
        return x + scales[1] * self.linear(name + "ffn.down", up)

    def encode(self, rows):
        spe = self.embed_norm("text", self.weight("text.spe.weight")).expand(len(rows), 1, -1)
        x = torch.cat([spe, rows], dim=1)
        for n in range(self.config["layers"]):
            x = self.layer(n, x)
        x = x[:, 0]
        if self.config["output_head"]:
            x = self.linear("output.proj", self.norm("output.norm", x))
        return F.normalize(x, dim=-1)

    def text(self, ids):
        x = self.weight("text.token.weight")[ids] + self.weight("text.position.weight")[: ids.shape[1]]
        return self.encode(self.embed_norm("text", x + self.weight("text.type.weight")))

    def image(self, pixels):
        size = self.config["patch"]
        patches = F.unfold(pixels, size, stride=size).transpose(1, 2)  # a patch is channel, row, column
        x = self.linear("patch", patches) + self.weight("patch.space.weight")
        if self.config["image_time"]:
            x = x + self.weight("patch.time.weight")[0]
        if self.config["visual_type"]:
            x = x + self.weight("patch.type.weight")
        return self.encode(self.embed_norm("image", x))


def load(path):
    return Encoder(*read(path)).eval()


if __name__ == "__main__":
    with torch.no_grad():
        print(load(sys.argv[1]).text(torch.tensor([[int(i) for i in sys.argv[2:]]])).tolist())
