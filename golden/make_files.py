"""Makes golden/files: small .npy and safetensors files written by NumPy and by the safetensors package, which
tests/test_files.c reads. Needs numpy and safetensors 0.5; run from the root of the tree: python3 golden/make_files.py"""
import hashlib
import json
import pathlib

import numpy as np
import safetensors
from numpy.lib import format as npy

folder = pathlib.Path(__file__).resolve().parent / "files"
folder.mkdir(exist_ok=True)
grid = (np.arange(6) - 2.5).reshape(2, 3)

arrays = {
    "f32": grid.astype("<f4"),
    "f64": grid.astype("<f8"),
    "i32": (grid * 2).astype("<i4"),
    "i64": (grid * 2).astype("<i8") << 40,
    "u8": np.arange(250, 256, dtype="u1"),
    "bool": np.array([True, False, True]),
    "scalar": np.array(0.1),
    "empty": np.zeros((0, 3), "<f4"),
    "fortran": np.asfortranarray(grid.astype("<f4")),
    "big_endian": grid.astype(">f4"),
    "complex": grid.astype("<c8"),
}
for name, array in arrays.items():
    np.save(folder / f"{name}.npy", array)
for major in (2, 3):
    with open(folder / f"version{major}.npy", "wb") as out:
        npy.write_array(out, arrays["f32"], version=(major, 0))

halves = np.array([0, 1, -1, 65504, 6e-8, np.inf, -np.inf, 1 / 3], "<f2")
brain = np.array([0x3F80, 0xBF80, 0x7F80, 0x0001, 0x3EAB], "<u2")
tensors = {
    "grid": {"dtype": "float32", "shape": [2, 3], "data": arrays["f32"].tobytes()},
    "halves": {"dtype": "float16", "shape": [8], "data": halves.tobytes()},
    "brain": {"dtype": "bfloat16", "shape": [5], "data": brain.tobytes()},
    "ids": {"dtype": "int64", "shape": [2, 3], "data": arrays["i64"].tobytes()},
    "scalar": {"dtype": "float64", "shape": [], "data": np.array(0.1).tobytes()},
    "empty": {"dtype": "float32", "shape": [0, 3], "data": b""},
}
(folder / "tensors.safetensors").write_bytes(safetensors.serialize(tensors, {"made by": "golden/make_files.py"}))

manifest = {}
for path in sorted(folder.iterdir()):
    if path.name == "manifest.json":
        continue
    array = arrays.get(path.stem, arrays["f32"]) if path.suffix == ".npy" else None
    about = {"shape": list(array.shape), "dtype": array.dtype.str} if array is not None else {
        name: {"shape": t["shape"], "dtype": t["dtype"]} for name, t in tensors.items()}
    manifest[path.name] = {**about, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
(folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
