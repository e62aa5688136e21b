"""The encoder in PyTorch: the sizes, the pre-norm layers and the tokenizers of this project's (docs/numerics.md), as
one writes it for speed: one product for queries, keys and values, the framework's own attention, and of the last
layer behind its keys and values the read-out row alone."""
import torch
from torch import nn
from torch.nn import functional as F

from worker import PRESETS, VOCABULARY


class Layer(nn.Module):
    def __init__(self, width, heads, ffn, narrow):
        super().__init__()
        self.heads, self.narrow = heads, narrow
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, ffn), nn.Linear(ffn, width)

    def split(self, x):
        rows, tokens, width = x.shape
        return x.view(rows, tokens, self.heads, width // self.heads).transpose(1, 2)

    def attend(self, normed, mask):
        width = normed.shape[-1]
        if self.narrow:
            q = F.linear(normed[:, :1], self.qkv.weight[:width], self.qkv.bias[:width])
            k, v = F.linear(normed, self.qkv.weight[width:], self.qkv.bias[width:]).chunk(2, -1)
        else:
            q, k, v = self.qkv(normed).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(self.split(q), self.split(k), self.split(v), attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def forward(self, x, mask=None):
        mixed = self.attend(self.norm1(x), mask)
        x = (x[:, :1] if self.narrow else x) + mixed
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Encoder(nn.Module):
    """Of pictures [B, cells, 3 patch^2], or of texts: ids [B, T] and which tokens there are, bool [B, 1, 1, 1 + T]."""

    def __init__(self, preset, of):
        super().__init__()
        size = PRESETS[preset]
        width = size["width"]
        self.of = of
        self.leading = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.modality = nn.Parameter(torch.randn(width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.leading_norm = nn.LayerNorm(width)
        if of == "pictures":
            self.patch = nn.Linear(size["patch"], width)
            self.position = nn.Parameter(torch.randn(size["cells"], width) * 0.02)
        else:
            self.token = nn.Embedding(VOCABULARY - 1, width)
            self.position = nn.Parameter(torch.randn(size["positions"], width) * 0.02)
        last = size["layers"] - 1
        self.layers = nn.ModuleList(
            Layer(width, size["heads"], size["ffn"], i == last) for i in range(size["layers"])
        )

    def forward(self, inputs, mask=None):
        tokens = self.patch(inputs) if self.of == "pictures" else self.token(inputs)
        tokens = self.norm(tokens + self.position[: tokens.shape[1]] + self.modality)
        leading = self.leading_norm(self.leading).expand(len(tokens), -1, -1)
        x = torch.cat([leading.to(tokens.dtype), tokens], 1)
        for layer in self.layers:
            x = layer(x, mask)
        return x[:, 0]
