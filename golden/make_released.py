"""The checkpoints of golden/released: the weights of golden/model/released under the names and shapes of the authors'
released models, as torch.save writes them, once plain and once as DeepSpeed lays them out. The names are written here a
second time. Run: python3 golden/make_released.py   (PyTorch 2)
"""
import argparse
import collections
import json
import os
import re

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
OUTER = {
    "text.position.weight": "token_embed.embeddings_pos.position_embeddings.weight",
    "embed.norm.": "token_embed.embeddings_norm.",
    "patch.space.weight": "video_embed.embeddings_st_pos.spatial_pos_embed.weight",
    "patch.time.weight": "video_embed.embeddings_st_pos.temporal_pos_embed.weight",
    "patch.bias": "video_embed.embeddings.bias",
    "output.norm.": "loss_prepare.ln_post.",
    "output.proj.": "loss_prepare.proj.",
}
LAYER = {"attention.qkv.": "self_attn.in_proj_", "attention.out.": "self_attn.out_proj.", "ffn.up.": "linear1.",
         "ffn.down.": "linear2.", "scale1": "gamma_1", "scale2": "gamma_2"}


def read_safetensors(path):
    """Name -> float32 tensor."""
    raw = open(path, "rb").read()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    return {name: torch.from_numpy(np.frombuffer(raw, np.float32, offset=8 + size + e["data_offsets"][0],
                                                 count=int(np.prod(e["shape"]))).reshape(e["shape"]).copy())
            for name, e in header.items()}


def released(own, patch):
    """Tensors of this project -> state dict of the released names."""
    width = own["text.token.weight"].shape[1]
    out = collections.OrderedDict()
    out["token_embed.embeddings.weight"] = torch.cat([own["text.token.weight"], own["text.spe.weight"].reshape(1, -1)])
    unused = torch.full((1, width), 7.5)  # the second type and the type of patches, which nothing adds
    out["token_embed.embeddings_token_type.weight"] = torch.cat([own["text.type.weight"].reshape(1, -1), unused])
    out["video_embed.embeddings_type.weight"] = unused.clone()
    out["video_embed.embeddings.weight"] = own["patch.weight"].reshape(width, 3, patch, patch)
    for name, value in own.items():
        layer = re.match(r"layers\.(\d+)\.(.*)", name)
        if layer:
            rest = layer[2]
            for a, b in LAYER.items():
                rest = rest.replace(a, b)
            out[f"fused_encoder.layers.{layer[1]}.{rest}"] = value
        elif name.startswith("logit_scale."):
            out["loss_prepare.logit_scale_" + name[len("logit_scale."):]] = value.reshape(())
        else:
            for a, b in OUTER.items():
                if name.startswith(a):
                    out[name.replace(a, b)] = value
    return out


def plain(state):
    return {"model": {k: torch.nn.Parameter(v) for k, v in state.items()}, "iteration": 245000}


def deepspeed(state):
    args = argparse.Namespace(lr=1e-3, betas=[0.9, 0.95], zero=None)
    return {"module": state, "args": args, "global_steps": 10 ** 11, "lr_scheduler": {"last": np.float64(0.5)}}


if __name__ == "__main__":
    folder = os.path.join(HERE, "released")
    os.makedirs(folder, exist_ok=True)
    weights = released(read_safetensors(os.path.join(HERE, "model", "released", "weights.safetensors")), 4)
    torch.save(plain(weights), os.path.join(folder, "plain.pth"))
    torch.save(deepspeed(weights), os.path.join(folder, "deepspeed.pth"))
