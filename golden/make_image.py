#!/usr/bin/env python3
"""Makes golden/image: small pictures in every supported form and what Pillow makes of them.

    python3 golden/make_image.py          (Pillow and numpy; made with Pillow 9.4, libjpeg-turbo 2.1.5, libwebp 1.2.4)

X.jpg, X.png, X.webp, X.gif, X.bmp, X.tif come with X.npy [height, width, 3] u8. PNGs are written by hand, so that every colour type and depth is
there, and Pillow's reading is compared with what was written (16-bit grey is the exception: Pillow clips it, here its high
byte counts). resize_*, short_*, square_*, patches_* follow Pillow's Image.resize and torchvision's Resize(int), CenterCrop,
ToTensor and Normalize on source.png.
"""
import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

import arrays

FOLDER = pathlib.Path(__file__).parent / "image"
WHITE = (255, 255, 255, 255)


def picture(width, height, seed, contrast=1.0):
    """A smooth picture with edges and some noise."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    rng = np.random.RandomState(seed)
    waves = [np.sin(f * x + g * y + p) for f, g, p in rng.uniform(-9, 9, (3, 3))]
    base = 127 + 100 * np.stack(waves, -1) + rng.normal(0, 6, (height, width, 3))
    base[height // 4 : height // 2, width // 3 : width // 2] = [250, 20, 40]
    return np.clip(127 + contrast * (base - 127), 0, 255).astype(np.uint8)


def rgb(image):
    """Any Pillow picture as RGB, alpha over white."""
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


# ---- JPEG and WebP -------------------------------------------------------------------------------------------------

def add(name, data):
    (FOLDER / name).write_bytes(data)
    arrays.save(FOLDER, name.split(".")[0], rgb(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))


def encoded(pixels, form, **options):
    stream = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(stream, form, **options)
    return stream.getvalue()


def exif(orientation, little):
    """An APP1 body of three entries, the orientation last."""
    e = "<" if little else ">"
    entries = [(0x0100, 3, 1, 24), (0x0101, 3, 1, 16), (0x0112, 3, 1, orientation)]
    body = b"".join(struct.pack(e + "HHIHH", *entry, 0) for entry in entries)
    return b"Exif\0\0" + (b"II" if little else b"MM") + struct.pack(e + "HIH", 42, 8, 3) + body + struct.pack(e + "I", 0)


def make_jpeg():
    pixels = picture(37, 29, 1)
    add("jpeg_420.jpg", encoded(pixels, "JPEG", quality=85, subsampling=2))
    add("jpeg_422.jpg", encoded(pixels, "JPEG", quality=90, subsampling=1))
    add("jpeg_444.jpg", encoded(pixels, "JPEG", quality=95, subsampling=0))
    add("jpeg_progressive.jpg", encoded(pixels, "JPEG", quality=80, progressive=True))
    add("jpeg_grey.jpg", encoded(pixels[..., 0], "JPEG", quality=90))
    cmyk = encoded(Image.fromarray(np.dstack([pixels, picture(37, 29, 2)[..., 0] // 2]), "CMYK"), "JPEG", quality=92)
    add("jpeg_cmyk.jpg", cmyk)
    adobe = cmyk.index(b"Adobe") + 11  # the transform byte: 0 = CMYK, 2 = YCCK
    add("jpeg_ycck.jpg", cmyk[:adobe] + b"\2" + cmyk[adobe + 1 :])
    for o in range(1, 9):
        add(f"jpeg_exif{o}.jpg", encoded(picture(24, 16, 3), "JPEG", quality=90, exif=exif(o, o % 2)))
    add("jpeg_trailing.jpg", encoded(picture(24, 16, 3), "JPEG", quality=90) + b"and more bytes")
    large = encoded(picture(304, 203, 4), "JPEG", quality=88, subsampling=2, exif=exif(6, 1))
    (FOLDER / "jpeg_large.jpg").write_bytes(large)  # for decoding at 1/2, 1/4 and 1/8; its pixels are not kept


def make_webp():
    pixels = picture(37, 29, 4)
    alpha = np.dstack([pixels, np.add.outer(np.arange(29) * 5, np.arange(37) * 3).astype(np.uint8)])
    add("webp_lossy.webp", encoded(pixels, "WEBP", quality=80))
    add("webp_lossless.webp", encoded(pixels, "WEBP", lossless=True))
    add("webp_alpha.webp", encoded(alpha, "WEBP", lossless=True))
    add("webp_lossy_alpha.webp", encoded(alpha, "WEBP", quality=70))


def make_still():
    """What FFmpeg decodes. The arithmetic of all of them is exact."""
    pixels = picture(37, 29, 5)
    alpha = np.dstack([pixels, np.add.outer(np.arange(29) * 5, np.arange(37) * 3).astype(np.uint8)])
    palette = Image.fromarray(pixels).quantize(32)
    add("gif_plain.gif", encoded(palette, "GIF"))
    add("gif_clear.gif", encoded(palette, "GIF", transparency=3))
    add("gif_moving.gif", encoded(palette, "GIF", save_all=True, append_images=[Image.fromarray(picture(37, 29, 6)).quantize(32)]))
    add("bmp_rgb.bmp", encoded(pixels, "BMP"))
    add("bmp_palette.bmp", encoded(palette, "BMP"))
    add("bmp_grey.bmp", encoded(pixels[..., 0], "BMP"))
    for name, compression in (("raw", "raw"), ("lzw", "tiff_lzw"), ("deflate", "tiff_adobe_deflate"), ("packbits", "packbits")):
        add(f"tiff_{name}.tif", encoded(pixels, "TIFF", compression=compression))
    add("tiff_grey.tif", encoded(pixels[..., 0], "TIFF"))
    add("tiff_palette.tif", encoded(palette, "TIFF"))
    add("tiff_alpha.tif", encoded(alpha, "TIFF"))
    add("tiff_turned.tif", encoded(pixels, "TIFF", tiffinfo={0x0112: 6}))


# ---- PNG -----------------------------------------------------------------------------------------------------------

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def rows(samples, depth):
    """Samples [height, width, channels] as PNG rows, each with filter 0."""
    out = b""
    for row in samples:
        flat = row.reshape(-1)
        if depth == 16:
            data = flat.astype(">u2").tobytes()
        elif depth == 8:
            data = flat.astype(np.uint8).tobytes()
        else:
            bits = (flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            data = np.packbits(bits.reshape(-1).astype(np.uint8)).tobytes()
        out += b"\0" + data
    return out


def png(samples, colour, depth, chunks=(), interlaced=False):
    height, width, _ = samples.shape
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    data = b"".join(rows(p, depth) for p in passes if p.size)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    body = b"".join(chunk(kind, content) for kind, content in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


def add_png(name, data, expected, pillow_agrees=True):
    """`expected` is what was written, computed here; Pillow must read the same."""
    expected = np.broadcast_to(expected, expected.shape[:2] + (3,)).astype(np.uint8)
    if pillow_agrees:
        np.testing.assert_array_equal(rgb(Image.open(io.BytesIO(data))), expected, name)
    (FOLDER / f"{name}.png").write_bytes(data)
    arrays.save(FOLDER, name, expected)


def over_white(values, alpha):
    return np.floor(values.astype(float) * alpha / 255 + (255 - alpha) + 0.5 + 1e-9)


def make_png():
    rng = np.random.RandomState(5)
    height, width = 19, 21
    pixels = picture(width, height, 6)
    alpha = rng.randint(0, 256, (height, width, 1))
    low = rng.randint(0, 256, (height, width, 4))  # low bytes of 16-bit samples: to be dropped
    for interlaced in (False, True):
        i = "_i" if interlaced else ""
        add_png("png_rgb8" + i, png(pixels, 2, 8, interlaced=interlaced), pixels)
        add_png("png_rgba8" + i, png(np.dstack([pixels, alpha]), 6, 8, interlaced=interlaced), over_white(pixels, alpha))
        for depth in (1, 2, 4, 8):
            top = (1 << depth) - 1
            grey = rng.randint(0, top + 1, (height, width, 1))
            add_png(f"png_grey{depth}{i}", png(grey, 0, depth, interlaced=interlaced), grey * 255 // top)
            table = rng.randint(0, 256, (top + 1, 3)).astype(np.uint8)
            seen = rng.randint(0, 256, (max(top - 1, 1),)).astype(np.uint8)  # fewer than colours: the rest is opaque
            colours = [(b"PLTE", table.tobytes())]
            add_png(f"png_palette{depth}{i}", png(grey, 3, depth, colours, interlaced), table[grey[..., 0]])
            full = np.append(seen, np.full(top + 1 - len(seen), 255, np.uint8))[grey]
            add_png(f"png_palette{depth}_trns{i}", png(grey, 3, depth, colours + [(b"tRNS", seen.tobytes())], interlaced),
                    over_white(table[grey[..., 0]], full))
    deep = pixels.astype(int) * 256 + low[..., :3]
    add_png("png_rgb16", png(deep, 2, 16), pixels)
    add_png("png_rgba16", png(np.dstack([deep, alpha * 256 + low[..., 3:]]), 6, 16), over_white(pixels, alpha))
    add_png("png_grey16", png(deep[..., :1], 0, 16), pixels[..., :1], pillow_agrees=False)
    add_png("png_greya16", png(np.dstack([deep[..., 0], alpha[..., 0] * 256]), 4, 16), over_white(pixels[..., :1], alpha))
    for name, colour, value in (("png_grey8_trns", 0, pixels[3, 3, :1]), ("png_rgb8_trns", 2, pixels[3, 3])):
        part = pixels[..., :1] if colour == 0 else pixels
        hidden = (part == value).all(-1, keepdims=True)
        add_png(name, png(part, colour, 8, [(b"tRNS", value.astype(">u2").tobytes())]), np.where(hidden, 255, part))
    every = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1)  # each value under each alpha
    add_png("png_greya8", png(every, 4, 8), over_white(every[..., :1], every[..., 1:]))
    gamma = [(b"gAMA", struct.pack(">I", 100000)), (b"sRGB", b"\0")]
    add_png("png_gamma", png(pixels, 2, 8, gamma), pixels)


# ---- resize, crop, patches -----------------------------------------------------------------------------------------

RESIZES = {  # (width, height, box): the same rows stand in tests/test_image.c
    "half": (31, 24, None), "double": (122, 94, None), "same": (61, 47, None), "tiny": (7, 5, None), "one": (1, 1, None),
    "wide": (150, 10, None), "tall": (9, 90, None), "across": (40, 47, None), "down": (61, 33, None),
    "box": (24, 24, (3.3, 2.7, 40.1, 33.9)), "box_up": (50, 40, (10.25, 5.5, 22.75, 17.125)),
    "box_whole": (20, 20, (11, 7, 51, 47)), "box_same": (40, 40, (11, 7, 51, 47)), "box_thin": (8, 8, (60.5, 0, 61, 47)),
}
SHORTS = {"short_20": 20, "short_47": 47, "short_70": 70}
SQUARES = {"square_mid": (24, 16, 0.5, 0.5), "square_odd": (25, 16, 0.5, 0.5), "square_corner": (24, 24, 1.0, 1.0),
           "square_some": (32, 20, 0.3, 0.85), "square_zero": (60, 17, 0.0, 0.0)}


def resize_short(image, side):
    width, height = image.size
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    return image.resize(size, Image.BICUBIC)


def offset(room, fraction):
    return int(round(room / 2.0)) if fraction == 0.5 else min(int(np.floor(fraction * (room + 1))), room)


def square(image, resize, size, fx, fy):
    image = resize_short(image, resize)
    x, y = offset(image.width - size, fx), offset(image.height - size, fy)
    return image.crop((x, y, x + size, y + size))


def patches(pixels, mean, std, side):
    planar = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    planar = (planar - np.float32(mean)[:, None, None]) / np.float32(std)[:, None, None]
    _, height, width = planar.shape
    cells = planar.reshape(3, height // side, side, width // side, side).transpose(1, 3, 0, 2, 4)
    return planar, cells.reshape(-1, 3 * side * side)


def make_resize():
    pixels = picture(61, 47, 7, contrast=1.5)
    pixels[20:40, 30:] = np.random.RandomState(8).randint(0, 2, (20, 31, 3)) * 255  # overshoots both ends
    image = Image.fromarray(pixels)
    for name, turned in (("source", image), ("source_tall", image.transpose(Image.ROTATE_90))):
        (FOLDER / f"{name}.png").write_bytes(encoded(turned, "PNG", optimize=True))
    for name, (width, height, box) in RESIZES.items():
        arrays.save(FOLDER, f"resize_{name}", np.asarray(image.resize((width, height), Image.BICUBIC, box=box)))
    tall = image.transpose(Image.ROTATE_90)
    for name, side in SHORTS.items():
        arrays.save(FOLDER, name, np.asarray(resize_short(image, side)))
        arrays.save(FOLDER, f"{name}_tall", np.asarray(resize_short(tall, side)))
    for name, how in SQUARES.items():
        arrays.save(FOLDER, name, np.asarray(square(image, *how)))
        arrays.save(FOLDER, f"{name}_tall", np.asarray(square(tall, *how)))
    crop = np.asarray(image)[3:35, 5:53]  # 48 x 32 at (5, 3)
    for name, mean, std, side in (("image", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 16), ("video", [0.5] * 3, [0.5] * 3, 8)):
        planar, cells = patches(crop, mean, std, side)
        arrays.save(FOLDER, f"planar_{name}", planar)
        arrays.save(FOLDER, f"patches_{name}", cells)


def main():
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        path.unlink()
    make_jpeg()
    make_webp()
    make_still()
    make_png()
    make_resize()
    arrays.manifest(FOLDER)


if __name__ == "__main__":
    main()
