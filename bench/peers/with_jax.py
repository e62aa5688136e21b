"""JAX: the picture encoder, compiled by XLA; of the last layer behind its keys and values the read-out row alone.
XLA takes as many threads as the process may use processors."""
from worker import PRESETS, arguments, missing, serve

options = arguments("encode")
try:
    import jax
    from jax import numpy as jnp
except ImportError as error:
    missing(error)

size = PRESETS[options.preset]
WIDTH, HEADS = size["width"], size["heads"]
DTYPE = jnp.bfloat16 if options.dtype == "bf16" else jnp.float32
keys = iter(jax.random.split(jax.random.key(1), 1000))


def weight(*shape):
    return (jax.random.normal(next(keys), shape) * 0.02).astype(DTYPE)


def linear(inputs, outputs):
    return weight(inputs, outputs), weight(outputs)


def layer():
    return dict(
        norm1=(weight(WIDTH), weight(WIDTH)),
        norm2=(weight(WIDTH), weight(WIDTH)),
        q=linear(WIDTH, WIDTH),
        kv=linear(WIDTH, 2 * WIDTH),
        qkv=linear(WIDTH, 3 * WIDTH),
        out=linear(WIDTH, WIDTH),
        up=linear(WIDTH, size["ffn"]),
        down=linear(size["ffn"], WIDTH),
    )


def norm(x, p):
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    return (centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)).astype(x.dtype) * p[0] + p[1]


def apply(x, p):
    return x @ p[0] + p[1]


def split(x):
    return x.reshape(x.shape[0], x.shape[1], HEADS, WIDTH // HEADS)


def forward_layer(x, p, narrow):
    normed = norm(x, p["norm1"])
    if narrow:
        q, (k, v) = apply(normed[:, :1], p["q"]), jnp.split(apply(normed, p["kv"]), 2, -1)
        x = x[:, :1]
    else:
        q, k, v = jnp.split(apply(normed, p["qkv"]), 3, -1)
    mixed = jax.nn.dot_product_attention(split(q), split(k), split(v))
    x = x + apply(mixed.reshape(*mixed.shape[:2], WIDTH), p["out"])
    return x + apply(jax.nn.gelu(apply(norm(x, p["norm2"]), p["up"]), approximate=False), p["down"])


@jax.jit
def forward(weights, pictures):
    tokens = norm(apply(pictures, weights["patch"]) + weights["position"], weights["norm"])
    leading = jnp.broadcast_to(norm(weights["leading"], weights["norm"]), (len(pictures), 1, WIDTH))
    x = jnp.concatenate([leading, tokens], 1)
    for p in weights["layers"][:-1]:
        x = forward_layer(x, p, False)
    return forward_layer(x, weights["layers"][-1], True)[:, 0]


weights = dict(
    patch=linear(size["patch"], WIDTH),
    position=weight(size["cells"], WIDTH),
    leading=weight(1, 1, WIDTH),
    norm=(weight(WIDTH), weight(WIDTH)),
    layers=[layer() for _ in range(size["layers"])],
)
pictures = jax.random.normal(next(keys), (options.batch, size["cells"], size["patch"])).astype(DTYPE)
serve(
    lambda: forward(weights, pictures).block_until_ready(),
    f"jax {jax.__version__}",
    samples=options.batch,
    tokens=options.batch * (1 + size["cells"]),
)
