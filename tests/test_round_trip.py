"""Weights written here and read by a new process: the same bits, under the same names."""

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
digests = {}
for weight in model.keras_model.weights:
    digests[weight.path] = hashlib.sha256(np.array(weight).tobytes()).hexdigest()
print(json.dumps(digests))
"""


def digest(values) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, np.float32).tobytes()).hexdigest()


def digests_in_a_new_process(path) -> dict[str, str]:
    """`{weight path: digest}` of the network that another process builds from the file."""
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


def digests_in_the_file(path) -> dict[str, str]:
    """`{"layer/weight": digest}` of every array of a weight file, in any group."""
    digests = {}
    with h5py.File(path) as file:

        def add(name, item):
            if isinstance(item, h5py.Dataset):
                digests[short_name(name).removesuffix(":0")] = digest(item[()])

        file.visititems(add)
    return digests


def short_name(path: str) -> str:
    """`layer/weight`, the last two parts of a weight's path."""
    return "/".join(path.split("/")[-2:])


def test_file_of_matterport_is_bit_equal_after_load_and_save(shared, reference_weights, tmp_path):
    original, copy = reference_weights, tmp_path / "copy.h5"
    with np.load(shared / "reference" / "inference_0.npz") as archive:
        config = Config.from_dict(json.loads(str(archive["config_json"])))
    model = MaskRCNN("inference", config, str(tmp_path))
    model.load_weights(original, by_name=True)
    model.save_weights(copy)

    recorded = digests_in_the_file(original)
    # ResNet50: 53 convolutions and 53 batch norms; 8 convolutions of the FPN, 3 of the RPN; heads:
    # 2 hidden and 5 mask convolutions, 1 deconvolution, 2 dense layers, 2 + 4 batch norms.
    # Convolutions and dense layers have 2 weights each, batch norms 4.
    assert len(recorded) == 53 * 2 + 53 * 4 + (8 + 3 + 2 + 5 + 1 + 2) * 2 + 6 * 4
    assert digests_in_the_file(copy) == recorded
    assert {
        short_name(path): bits for path, bits in digests_in_a_new_process(copy).items()
    } == recorded


@pytest.mark.slow
def test_resnet101_is_bit_equal_after_save_and_load(tmp_path):
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
    assert digests_in_a_new_process(path) == ours
    assert digests_in_the_file(path) == {short_name(name): bits for name, bits in ours.items()}
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
    assert expected <= {short_name(name) for name in ours}
    assert not any(name.startswith(("res4x", "bn4x")) for name in map(short_name, ours))
