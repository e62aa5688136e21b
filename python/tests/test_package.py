#!/usr/bin/env python3
"""test_package.py PROGRAM SOURCE - the package against the program: the same features, probabilities, captions."""

import subprocess
import sys
import tempfile

import numpy as np

program, source = sys.argv[1:3]
sys.path.insert(0, source + "/python")
import uniperceiver  # noqa: E402

picture = source + "/golden/image/jpeg_420.jpg"


def run(*arguments):
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


with tempfile.TemporaryDirectory() as folder:
    path = folder + "/tiny.safetensors"
    run("init", "--preset", "tiny", "--seed", "1", "--out", path)
    image = open(picture, "rb").read()
    with uniperceiver.load(path) as model:
        run("encode", "--model", path, "--image", picture, "--out", folder + "/out.npy")
        features = model.encode([{"image": image}, "a cat"])
        assert features.shape == (2, model.width)
        np.testing.assert_array_equal(features[0], np.load(folder + "/out.npy")[0])
        lines = run("classify", "--model", path, "--image", picture, "--labels", "cat,dog").splitlines()
        told = {line.split("\t")[1]: float(line.split("\t")[2]) for line in lines}
        got = model.classify({"image": image}, ["cat", "dog"])
        np.testing.assert_allclose(got, [told["cat"], told["dog"]], atol=1e-6)
        answers = model.vqa(image, "what is it?", ["cat", "dog"])
        assert abs(answers.sum() - 1) < 1e-5
        assert model.caption({"image": image}) in run("caption", "--model", path, "--image", picture)
        for wrong in (lambda: model.classify("a", []), lambda: model.encode([{"sound": b""}])):
            try:
                wrong()
                raise AssertionError("a wrong call was not refused")
            except uniperceiver.Error as error:
                assert str(error)
    try:
        uniperceiver.load(folder + "/none")
        raise AssertionError("a file that is not there was loaded")
    except uniperceiver.Error as error:
        assert "none" in str(error)
print("python: features, probabilities and captions are the program's")
