"""PyTorch: encoding, the training step on pictures, and the one on texts, padded to the longest of the batch.

bf16: encoding with weights of that type; training with f32 weights under autocast, as ours keeps them. Training is
forward, cosine cross-entropy against random targets, backward, clipping of the norm and AdamW, fused where it is."""
import os

from worker import VOCABULARY, arguments, missing, serve

options = arguments("encode", "train", "texts")
try:
    import torch
    from torch.nn import functional as F

    from encoder import Encoder
except ImportError as error:
    missing(error)

torch.manual_seed(1)
torch.set_num_threads(options.threads)
if options.compile and os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":
    import torch._inductor.config as inductor

    inductor.cpp.simdlen = 256


def batch():
    if options.step != "texts":
        encoder = Encoder(options.preset, "pictures")
        return encoder, (torch.randn(options.batch, encoder.position.shape[0], encoder.patch.in_features),)
    lengths = torch.tensor([int(n) for n in options.lengths.split(",")])
    ids = torch.randint(VOCABULARY - 1, (len(lengths), int(lengths.max())))
    there = torch.arange(1 + ids.shape[1]) <= lengths[:, None]
    return Encoder(options.preset, "texts"), (ids, there[:, None, None])


encoder, inputs = batch()
call = encoder
if options.step == "encode":
    encoder.eval().requires_grad_(False)
    if options.dtype == "bf16":
        encoder, inputs = encoder.bfloat16(), (inputs[0].bfloat16(),)
    if options.compile:
        import torch._inductor.config as inductor

        inductor.freezing = True  # weights become constants, laid out for the products
if options.compile:
    call = torch.compile(encoder, mode="max-autotune")


def encode():
    with torch.no_grad():
        return F.normalize(call(*inputs).float(), dim=-1)


targets = F.normalize(torch.randn(len(inputs[0]), encoder.leading.shape[-1]), dim=-1)
truth = torch.arange(len(targets))
fused = True
if options.step != "encode":
    try:
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    except (RuntimeError, ValueError):
        fused = False
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.05)


def train():
    with torch.autocast("cpu", torch.bfloat16, enabled=options.dtype == "bf16"):
        features = call(*inputs)
    loss = F.cross_entropy(F.normalize(features.float(), dim=-1) @ targets.T / 0.07, truth)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(encoder.parameters(), 5)
    optimizer.step()
    optimizer.zero_grad()


tokens = inputs[0].shape[0] * (1 + inputs[0].shape[1])
how = "max-autotune" if options.compile else "eager"
if options.step != "encode":
    how += ", fused AdamW" if fused else ", AdamW"
serve(encode if options.step == "encode" else train, f"torch {torch.__version__}, {how}", samples=len(inputs[0]), tokens=tokens)
