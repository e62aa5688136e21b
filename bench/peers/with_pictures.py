"""JPEG pictures to normalised patches [cells, 3 patch^2] on one thread, by torchvision or Pillow: decode, short side to
256 (bicubic, antialiased), the 224 x 224 square of the middle, mean and standard deviation, patches."""
import io

from worker import arguments, missing, serve

options = arguments("torchvision", "pillow")
RESIZE, SIZE, PATCH = 256, 224, 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GRID = SIZE // PATCH
files = [open(name, "rb").read() for name in options.files]

if options.step == "torchvision":
    try:
        import torch
        import torchvision
        from torchvision.io import ImageReadMode, decode_jpeg
        from torchvision.transforms.v2 import functional as T
    except ImportError as error:
        missing(error)
    torch.set_num_threads(1)
    version = f"torchvision {torchvision.__version__}"
    encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]

    def patches(data):
        picture = decode_jpeg(data, ImageReadMode.RGB)
        picture = T.resize(picture, RESIZE, T.InterpolationMode.BICUBIC, antialias=True)
        picture = T.normalize(T.to_dtype(T.center_crop(picture, SIZE), torch.float32, scale=True), MEAN, STD)
        return picture.reshape(3, GRID, PATCH, GRID, PATCH).permute(1, 3, 0, 2, 4).reshape(GRID * GRID, -1)

else:
    try:
        import numpy as np
        import PIL
        from PIL import Image
    except ImportError as error:
        missing(error)
    version = f"pillow {PIL.__version__}"
    encoded = files
    mean, std = np.float32(MEAN), np.float32(STD)

    def patches(data):
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        width, height = picture.size
        scale = RESIZE / min(width, height)
        picture = picture.resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
        left, top = round((picture.width - SIZE) / 2), round((picture.height - SIZE) / 2)
        values = np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)), np.float32)
        values = (values / np.float32(255) - mean) / std
        return np.ascontiguousarray(values.reshape(GRID, PATCH, GRID, PATCH, 3).transpose(0, 2, 4, 1, 3)).reshape(GRID * GRID, -1)


def run():
    for data in encoded:
        patches(data)


serve(run, version, samples=len(files), tokens=0)
