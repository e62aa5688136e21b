#!/usr/bin/env python3
"""Makes golden/augment: what Pillow makes of a small picture under every operation of RandAugment.

    python3 golden/make_augment.py        (Pillow, NumPy and timm; made with Pillow 13.0, timm 1.0.31)

OP.npy [n, height, width, 3] u8: source.npy under OP with each of OP_values.npy [n], called as timm calls Pillow in
`rand-m9-mstd0.5-inc1` (bicubic, the mean colour where nothing lies). magnitudes.npy [ops, 2, 101]: the value that timm makes
of the magnitudes 0, 0.1, ... 10, of either sign (NaN: the operation has none). crops.npy: torchvision's resized_crop, in the
order of the boxes (left, top, width, height) of crop_boxes.npy. The order of the operations is timm's.
"""
import pathlib
from unittest import mock

import numpy as np
from PIL import Image
from timm.data import auto_augment

import arrays

FOLDER = pathlib.Path(__file__).parent / "augment"
FILL = (124, 116, 104)
HOW = {"resample": Image.BICUBIC, "fillcolor": FILL}
OPS = auto_augment._RAND_INCREASING_TRANSFORMS
VALUES = {
    "Rotate": (-27.3, 4.5, 0, 30, -0.4), "PosterizeIncreasing": (8, 4, 3, 1), "SolarizeIncreasing": (256, 200, 26, 0),
    "SolarizeAdd": (0, 57, 110), "ColorIncreasing": (0.1, 0.55, 1.81, 1), "ContrastIncreasing": (0.1, 0.55, 1.81),
    "BrightnessIncreasing": (0.1, 0.55, 1.81), "SharpnessIncreasing": (0.1, 0.55, 1.81), "ShearX": (-0.27, 0.1, 0.3),
    "ShearY": (-0.27, 0.1, 0.3), "TranslateXRel": (-0.405, 0.1, 0.45), "TranslateYRel": (-0.405, 0.1, 0.45),
}
BOXES = ((0, 0, 41, 30), (7, 5, 13, 17), (20, 3, 21, 9), (40, 29, 1, 1), (1, 1, 24, 24))
SIDE = 24


def picture():
    """Smooth, with edges, noise, a narrow range in one channel and a few values alone in another."""
    y, x = np.mgrid[0:30, 0:41] / 41
    rng = np.random.RandomState(11)
    waves = [np.sin(f * x + g * y + p) for f, g, p in rng.uniform(-9, 9, (3, 3))]
    base = np.clip(127 + 100 * np.stack(waves, -1) + rng.normal(0, 6, (30, 41, 3)), 0, 255)
    base[7:15, 13:20] = [250, 20, 40]
    base[..., 1] = 60 + base[..., 1] / 3
    base[..., 2] = np.round(base[..., 2] / 85) * 85
    return base.astype(np.uint8)


def applied(op, image, value):
    arguments = () if value is None else (value,)
    options = HOW if op in ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel") else {}
    return np.asarray(auto_augment.NAME_TO_OP[op](image, *arguments, **options))


def make_ops(image):
    for op in OPS:
        values = VALUES.get(op, (None,))
        arrays.save(FOLDER, op, np.stack([applied(op, image, value) for value in values]))
        if op in VALUES:
            arrays.save(FOLDER, op + "_values", np.array(values, np.float64))
    flat = Image.new("RGB", (5, 4), (7, 200, 200))  # one value a channel: nothing to stretch or to equalize
    arrays.save(FOLDER, "flat", np.stack([applied(op, flat, None) for op in ("AutoContrast", "Equalize")]))


def make_magnitudes():
    table = np.full((len(OPS), 2, 101), np.nan)
    for i, op in enumerate(OPS):
        level = auto_augment.LEVEL_TO_ARG[op]
        for negative in (0, 1):
            with mock.patch("random.random", lambda: float(negative)):  # _randomly_negate: above a half is negated
                for m in range(101):
                    if level:
                        table[i, negative, m] = level(m / 10, {"translate_pct": 0.45})[0]
    arrays.save(FOLDER, "magnitudes", table)


def make_crops(image):
    crops = [image.crop((x, y, x + w, y + h)).resize((SIDE, SIDE), Image.BICUBIC) for x, y, w, h in BOXES]
    arrays.save(FOLDER, "crops", np.stack([np.asarray(crop) for crop in crops]))
    arrays.save(FOLDER, "crop_boxes", np.array(BOXES, np.int32))


def main():
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        path.unlink()
    image = Image.fromarray(picture())
    arrays.save(FOLDER, "source", np.asarray(image))
    make_ops(image)
    make_magnitudes()
    make_crops(image)
    arrays.manifest(FOLDER)


if __name__ == "__main__":
    main()
