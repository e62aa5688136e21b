"""Uni-Perceiver from Python, over the installed shared library: numpy in and out, no build step.

    import uniperceiver
    with uniperceiver.load("model.safetensors") as model:
        model.classify({"image": open("cat.jpg", "rb").read()}, ["cat", "dog"])
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from typing import Mapping, Sequence, Union

import numpy as np

__all__ = ["Error", "Model", "load"]

# A text, or the parts of one input in their order: {"image": bytes, "text": "..."}.
Input = Union[str, Mapping[str, Union[str, bytes]]]

_KINDS = {"text": 0, "image": 1, "video": 2}


class _LoadOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("backend", c_char_p),
        ("threads", c_int),
        ("vocabulary", c_char_p),
        ("max_pixels", c_int64),
        ("overlay", c_char_p),
        ("precision", c_int),
        ("map", c_int),
        ("cache", c_char_p),
    ]


class _Part(Structure):
    _fields_ = [("kind", c_int), ("data", c_char_p), ("size", c_size_t), ("frames", c_int), ("name", c_char_p)]


class _Input(Structure):
    _fields_ = [("parts", POINTER(_Part)), ("count", c_int), ("slot", c_int)]


class _Caption(Structure):
    _fields_ = [("text", c_char_p), ("log_probability", c_double), ("words", c_int), ("ids", POINTER(c_int32))]


class Error(RuntimeError):
    """What the library says of a failure."""


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(os.environ.get("UP_LIBRARY", "libuniperceiver.so.0.1"))
    library.up_last_error.restype = c_char_p
    library.up_session_close.argtypes = [c_void_p]
    library.up_session_width.argtypes = [c_void_p]
    library.up_caption_free.argtypes = [POINTER(_Caption)]
    library.up_model_load.argtypes = [c_char_p, POINTER(_LoadOptions), POINTER(c_void_p)]
    library.up_encode.argtypes = [c_void_p, POINTER(_Input), c_int, c_int, POINTER(c_float)]
    library.up_classify.argtypes = [c_void_p, POINTER(_Input), POINTER(c_char_p), c_int, POINTER(c_float)]
    library.up_caption_input.argtypes = [c_void_p, POINTER(_Input), c_void_p, POINTER(_Caption)]
    return library


def _input(given: Input, slot: bool = False) -> _Input:
    parts = {"text": given} if isinstance(given, str) else given
    list_ = (_Part * len(parts))()
    for at, (kind, value) in enumerate(parts.items()):
        if kind not in _KINDS:
            raise Error(f'a part of an input is "{kind}"; wanted one of {", ".join(_KINDS)}')
        data = value.encode() if isinstance(value, str) else bytes(value)
        list_[at] = _Part(_KINDS[kind], data, len(data), 0, None)
    return _Input(list_, len(parts), int(slot))


class Model:
    """A model ready for use. Not for two threads at once."""

    def __init__(self, path: str, tuned: str | None = None, backend: str = "cpu", threads: int = 0) -> None:
        self._session = c_void_p()
        self._library = _library()
        options = _LoadOptions(
            size=ctypes.sizeof(_LoadOptions),
            backend=backend.encode(),
            threads=threads,
            overlay=os.fsencode(tuned) if tuned else None,
        )
        self._check(self._library.up_model_load(os.fsencode(path), byref(options), byref(self._session)))

    def _check(self, status: int) -> None:
        if status:
            raise Error(self._library.up_last_error().decode())

    def close(self) -> None:
        self._library.up_session_close(self._session)
        self._session = c_void_p()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def width(self) -> int:
        """Length of a feature."""
        return self._library.up_session_width(self._session)

    def encode(self, inputs: Sequence[Input], target: bool = False) -> np.ndarray:
        """Features of length 1: float32 [len(inputs), width]."""
        list_ = (_Input * len(inputs))(*(_input(i) for i in inputs))
        out = np.empty((len(inputs), self.width), np.float32)
        place = out.ctypes.data_as(POINTER(c_float))
        self._check(self._library.up_encode(self._session, list_, len(inputs), int(target), place))
        return out

    def _compare(self, one: _Input, labels: Sequence[str]) -> np.ndarray:
        texts = (c_char_p * len(labels))(*(label.encode() for label in labels))
        out = np.empty(len(labels), np.float32)
        place = out.ctypes.data_as(POINTER(c_float))
        self._check(self._library.up_classify(self._session, byref(one), texts, len(labels), place))
        return out

    def classify(self, given: Input, labels: Sequence[str]) -> np.ndarray:
        """The probability of each label."""
        return self._compare(_input(given), labels)

    def vqa(self, image: bytes, question: str, answers: Sequence[str]) -> np.ndarray:
        """The probability of each answer to a question about a picture."""
        return self._compare(_input({"image": image, "text": question}, slot=True), answers)

    def caption(self, given: Input) -> str:
        """The most probable description, or continuation of a text."""
        caption = _Caption()
        self._check(self._library.up_caption_input(self._session, byref(_input(given)), None, byref(caption)))
        text = (caption.text or b"").decode()
        self._library.up_caption_free(byref(caption))
        return text


def load(path: str, tuned: str | None = None, backend: str = "cpu", threads: int = 0) -> Model:
    """The model of a file, with a tuned task over it."""
    return Model(path, tuned, backend, threads)
