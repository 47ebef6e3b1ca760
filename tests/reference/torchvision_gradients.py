"""Gradients of torchvision's training steps in float64: `torchvision_gradients.npz`.

Two runs of torchvision in float32, on two machines or with two memory layouts, differ by up to
9e-3 in norms of gradients and 4e-2 in projections: the second versions' batch norm makes each
activation depend on all others, and ReLU cuts those within rounding of 0. In float64 the gradients
are the same everywhere to seven digits. To write the file again:

    export MRCNN_SHARED=../shared PEERS_PYTHON=../peers/bin/python
    PYTHONPATH=tests python tests/reference/torchvision_gradients.py

PEERS_PYTHON names a Python with torch and torchvision.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("torchvision_gradients.npz")

TORCH = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
import numpy as np, torch, torchvision
from torchvision.models.detection.image_list import ImageList

folder, network, inputs, eps, result = sys.argv[1:]
spec = spec_from_file_location("rebuild", f"{folder}/rebuild.py")
rebuild = module_from_spec(spec)
spec.loader.exec_module(rebuild)
file = dict(np.load(f"{folder}/train/{network}.npz"))
inputs = np.load(inputs)
options = {"box_batch_size_per_image": 64} if "rcnn" in network else {}
options |= {"num_classes": 2 if "keypoints" in file else 91}
options |= {"trainable_backbone_layers": 5 if network.endswith("_v2") else 3}
model = getattr(torchvision.models.detection, network)(
    weights=None, weights_backbone=None, min_size=320, max_size=544, **options
)
if not network.endswith("_v2"):
    for module in list(model.modules()):
        for child, norm in list(module.named_children()):
            if isinstance(norm, torch.nn.BatchNorm2d):
                frozen = torchvision.ops.misc.FrozenBatchNorm2d(norm.num_features, eps=float(eps))
                setattr(module, child, frozen)
tensors = {key: torch.from_numpy(np.array(x)) for key, x in rebuild.state_dict(network).items()}
if not network.endswith("_v2"):
    tensors = {key: x for key, x in tensors.items() if "num_batches_tracked" not in key}
model.load_state_dict(tensors, strict=True)
model = model.double().train()
torch.randperm = lambda count, **options: torch.arange(count)  # the first candidates
labels = torch.from_numpy(file["labels"]).long()
target = {"boxes": torch.from_numpy(file["boxes"]), "labels": labels}
if "masks" in file:
    target["masks"] = torch.from_numpy(np.unpackbits(file["masks"], axis=-1))
if "keypoints" in file:
    target["keypoints"] = torch.from_numpy(file["keypoints"])
if "proposals" in file:
    proposals = torch.from_numpy(inputs["proposals"])
    model.rpn.filter_proposals = lambda *_: ([proposals], [torch.ones(len(proposals))])
resize = model.transform.float().forward
image = torch.from_numpy(inputs["image"]).permute(0, 3, 1, 2).double()

def transform(images, targets):
    images, targets = resize(images, targets)
    targets[0]["boxes"] = torch.from_numpy(inputs["boxes"])
    return ImageList(image, images.image_sizes), targets

model.transform.forward = transform
losses = model([torch.zeros(3, 480, 640)], [target])
sum(losses.values()).backward()
for key, value in losses.items():
    difference = abs(value.item() / float(file[f"loss_{key}"]) - 1)
    assert difference < 1e-4, (key, difference)
gradients = {key: x.grad.numpy() for key, x in model.named_parameters() if x.grad is not None}
rows = [gradients[key] for key in file["grad_names"]]
rows = [(np.linalg.norm(x), np.sum(x.ravel() * np.cos(np.arange(x.size)))) for x in rows]
np.save(result, np.array(rows))
"""


def read(network: str) -> np.ndarray:
    """`[N, (norm, projection)]` of the tensors, in the order of `grad_names` of the recording."""
    with np.load(FILE) as file:
        return file[network]


def main() -> None:
    """Write the file; needs torch and the full recordings."""
    import test_torchvision_training as step

    rows = {}
    for network in step.MODELS:
        with tempfile.TemporaryDirectory() as folder:
            inputs, result = Path(folder, "inputs.npz"), Path(folder, "rows.npy")
            config = step.config_of(network)
            np.savez(inputs, **step.inputs_in_float64(network))
            arguments = [step.REFERENCE, network, inputs, config.NORM_EPSILON, result]
            command = [os.environ["PEERS_PYTHON"], "-c", TORCH, *map(str, arguments)]
            subprocess.run(command, check=True)
            rows[network] = np.load(result)
        print(network, len(rows[network]), file=sys.stderr)
    np.savez_compressed(FILE, **rows)


if __name__ == "__main__":
    main()
