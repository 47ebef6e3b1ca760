"""Weights written here and read by a fresh process: the same bits, under the same names."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.model import MaskRCNN

ROOT = Path(__file__).resolve().parents[1]
CHILD = """
import hashlib, json, sys
import numpy as np
from mrcnn.model import MaskRCNN

model = MaskRCNN.from_weights(sys.argv[1])
bits = {weight.path: hashlib.sha256(np.array(weight).tobytes()).hexdigest() for weight in model.keras_model.weights}
print(json.dumps(bits))
"""


def digest(values) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, np.float32).tobytes()).hexdigest()


def bits_in_a_fresh_process(path) -> dict[str, str]:
    """`{weight path: digest}` of a network that another Python built and loaded from the file alone."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def bits_in_the_file(path) -> dict[str, str]:
    """`{"layer/weight": digest}` of every array of a weight file, whatever group it lies in."""
    found = {}
    with h5py.File(path) as file:

        def note(name, item):
            if isinstance(item, h5py.Dataset):
                found["/".join(name.split("/")[-2:]).removesuffix(":0")] = digest(item[()])

        file.visititems(note)
    return found


def short(path: str) -> str:
    """The last two parts of a weight's path: its layer and itself."""
    return "/".join(path.split("/")[-2:])


def test_a_file_of_the_original_comes_back_bit_equal(shared, reference_weights, tmp_path):
    original, copy = reference_weights, tmp_path / "copy.h5"
    with np.load(shared / "reference" / "inference_0.npz") as archive:
        config = Config.from_dict(json.loads(str(archive["config_json"])))
    model = MaskRCNN("inference", config, str(tmp_path))
    model.load_weights(original, by_name=True)
    model.save_weights(copy)

    recorded = bits_in_the_file(original)
    # 53 convolutions (kernel, bias) and 53 batch norms (4) of ResNet50; FPN 8 and RPN 3 convolutions; heads: 2 hidden
    # and 5 mask convolutions, 1 deconvolution, 2 dense, 2 + 4 batch norms. Convolutions and dense have 2 weights each.
    assert len(recorded) == 53 * 2 + 53 * 4 + (8 + 3 + 2 + 5 + 1 + 2) * 2 + 6 * 4
    assert bits_in_the_file(copy) == recorded
    assert {short(path): bits for path, bits in bits_in_a_fresh_process(copy).items()} == recorded


@pytest.mark.slow
def test_resnet101_comes_back_bit_equal(tmp_path):
    config = Config()
    config.NAME, config.NUM_CLASSES, config.BACKBONE = "deep", 3, "resnet101"
    config.IMAGE_MIN_DIM = config.IMAGE_MAX_DIM = 64
    config.TOP_DOWN_PYRAMID_SIZE = config.MASK_CHANNELS = config.RPN_CHANNELS = 32
    config.FPN_CLASSIF_FC_LAYERS_SIZE = 64
    model = MaskRCNN("inference", config, str(tmp_path))
    rng = np.random.default_rng(0)
    for weight in model.keras_model.weights:
        weight.assign(rng.random(weight.shape, np.float32))
    path = tmp_path / "deep.h5"
    model.keras_model.save_weights(path)

    ours = {weight.path: digest(weight) for weight in model.keras_model.weights}
    assert bits_in_a_fresh_process(path) == ours
    assert bits_in_the_file(path) == {short(name): bits for name, bits in ours.items()}
    further = [f"4{letter}" for letter in "bcdefghijklmnopqrstuvw"]
    assert len(further) == 22
    expected = {
        f"{kind}{block}_branch2{branch}/{name}"
        for block in further
        for branch in "abc"
        for kind, names in (
            ("res", ["kernel", "bias"]),
            ("bn", ["gamma", "beta", "moving_mean", "moving_variance"]),
        )
        for name in names
    }
    assert expected <= {short(name) for name in ours}
    assert not any(name.startswith(("res4x", "bn4x")) for name in map(short, ours))
