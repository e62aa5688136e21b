"""Writes the arrays of a fixture folder and its manifest: name, shape, dtype and the SHA-256 of every file."""
import hashlib
import json
import pathlib

import numpy as np


def save(folder, name, array):
    np.save(pathlib.Path(folder) / f"{name}.npy", np.ascontiguousarray(array))


def manifest(folder):
    folder, rows = pathlib.Path(folder), {}
    for path in sorted(folder.iterdir()):
        if path.name == "manifest.json":
            continue
        row = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        if path.suffix == ".npy":
            array = np.load(path)
            row.update(shape=list(array.shape), dtype=str(array.dtype))
        rows[path.name] = row
    (folder / "manifest.json").write_text(json.dumps(rows, indent=1) + "\n")
