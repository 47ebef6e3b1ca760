"""Files <-> weights: matterport's `.h5` both ways, ImageNet backbones, downloads, the report of every load.

A weight file in matterport's layout is what Keras 2 wrote: the root attribute `layer_names`, one group for
each layer with an attribute `weight_names`, and one dataset for each weight (`conv1/conv1/kernel:0`). The
layers of the nested `rpn_model` stand in its group. Layers are matched by name; nothing is assigned before
everything was checked, and nothing is read before its shape was compared with the model's.

Words: a *layer* here is a leaf (a layer of `rpn_model`, not `rpn_model` itself) that has weights; `found` is
`{layer name: [(weight name, hdf5.Stored), ...]}` as a file lists it; `changes` is `{layer name: [function, ...]}`,
each from a layer's values as read to those for the model.
"""

import difflib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from ..files import hdf5
from ..files.atomic import atomic_write
from ..files.download import download
from ..files.safe_text import clean_name, printable

logger = logging.getLogger("mrcnn")

COCO_MODEL_URL = "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5"
# As published by NVIDIA with TensorRT's sample sampleUffMaskRCNN; nobody publishes a SHA-256.
COCO_MODEL_MD5, COCO_MODEL_SIZE = "e98aaff6f99e307b5e2a8a3ff741a518", 257_557_808

_KERAS_HOST = "https://storage.googleapis.com/tensorflow/keras-applications"
# Backbone -> (address, MD5 as Keras publishes it; None where Keras publishes none). A second MD5 is of the file the
# original fetched in 2017 under the same name: whoever has it in the cache may keep it.
IMAGENET_FILES = {
    "resnet50": (
        f"{_KERAS_HOST}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "4d473c1dd8becc155b73f8504c6f6626",
        "a268eb855778b3df3c7506639542a6af",
    ),
    "resnet101": (
        f"{_KERAS_HOST}/resnet/resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "88cf7a10940856eca736dc7b7e228a21",
    ),
    "mobilenet_v2": (
        f"{_KERAS_HOST}/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        None,
    ),
}

# Bytes, as Keras shows them when it downloads the files.
IMAGENET_SIZES = {"resnet50": 94_765_736, "resnet101": 171_446_536, "mobilenet_v2": 9_406_464}

# The head layers with one row, or four, for each class. (`mrcnn_bbox`, which scripts list, has no weights.)
CLASS_HEADS = ("mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_mask")
# Each head that a network may be without -> how its layers' names begin, and the setting that leaves it out.
_HEADS = {
    "class and box head": (("mrcnn_class", "mrcnn_bbox"), "RPN_ONLY = True"),
    "mask head": (("mrcnn_mask",), "USE_MASK = False"),
}
_NOT_BACKBONE = ("fpn_", "rpn_", "mrcnn_")

_METADATA = "mrcnn_metadata"
# The Keras 2 release whose layout is written; readers only ask whether it is 1.
_LAYOUT_VERSION = "2.14.0"
# HDF5 keeps an attribute in its object header, which holds 64 KB; Keras 2 splits longer lists at this size.
_ATTRIBUTE_LIMIT = 64512

# Batch-norm epsilon of our ResNet (matterport's) and of the ResNet files of keras.applications.
_EPSILON, _APPLICATIONS_EPSILON = 1e-3, 1.001e-5


# ----------------------------------------------------------------------------------------------------------
# The report


@dataclass
class LoadReport:
    """What one load did, layer by layer.

    path: the file.
    loaded: names of the layers that now hold the file's weights.
    excluded: layers left out on request.
    mismatched: (layer, shapes in the file, shapes in the model) of layers left alone because they differ.
    missing: layers of the model that the file does not have.
    unused: layers of the file that the model does not have.
    adapted: (layer, kernel shape in the file, kernel shape in the model) of a first convolution fitted to
        another number of image channels; it is among `loaded` too.
    remapped: {class name in the file: class id in the model} of class rows that were moved.
    """

    path: str
    loaded: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    mismatched: list[tuple] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    adapted: list[tuple] = field(default_factory=list)
    remapped: dict[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        """The report as a few readable lines: the counts, then the names behind each that is not zero."""
        lines = [
            f"{self.path}: {len(self.loaded)} layers loaded, {len(self.excluded)} excluded, "
            f"{len(self.mismatched)} of another shape, {len(self.missing)} missing in the file, "
            f"{len(self.unused)} unused in the file"
        ]
        named = {
            "excluded": self.excluded,
            "of another shape (kept as initialised)": [
                _describe_mismatch(m) for m in self.mismatched
            ],
            "missing in the file (kept as initialised)": self.missing,
            "unused in the file": self.unused,
            "fitted to the image channels": [_describe_mismatch(m) for m in self.adapted],
            "classes moved": [f"{name} -> {new_id}" for name, new_id in self.remapped.items()],
        }
        lines += [f"  {title}: {_first(names)}" for title, names in named.items() if names]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()


def _describe_mismatch(entry: tuple) -> str:
    name, in_file, in_model = entry
    return f"{name} (file {in_file}, model {in_model})"


def _first(names: Iterable, count: int = 6) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(printable(name) for name in names[:count]) + more


def _near(name: str, known: Iterable[str]) -> str:
    """`' Did you mean ...?'` where one of the known names is near, else the empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


# ----------------------------------------------------------------------------------------------------------
# Writing


def save_weights(model, path: str | os.PathLike, metadata: dict | None = None) -> str:
    """The path, after all weights of a Keras model were written there in matterport's `.h5` layout.

    The file appears whole or not at all: a failure leaves what was there before.

    model: Keras model, its top-level layers become the groups of the file.
    path: file to write; missing folders are made.
    metadata: JSON-able description of the network (config, class_names, epoch, ...), kept in the file.

    Returns: path as a string.

    Raises:
        OSError: the file cannot be written (full disk, no permission).
    """
    path = os.fspath(path)
    text = None if metadata is None else json.dumps(metadata, default=_plain, indent=1)
    with atomic_write(path) as part, h5py.File(part, "w") as file:
        _write_layers(file, model)
        if text is not None:
            # A str becomes a variable-length string: it lies outside the object header and may have any size.
            file.attrs[_METADATA] = text
    return path


def read_metadata(path: str | os.PathLike) -> dict | None:
    """The description `save_weights` put into a weight file; None where there is none (matterport's files).

    Raises:
        FileNotFoundError, ValueError: no such file, not a weight file, or its description is no such one.
    """
    with _open(path) as file:
        text = hdf5.text(file, _METADATA)
    if text is None:
        return None
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad_metadata(path, f"no JSON ({error})") from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("config", {}), dict):
        raise _bad_metadata(path, "JSON without NAME: value pairs")
    names = metadata.get("class_names")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _bad_metadata(path, "class_names that are no list of names")
        metadata["class_names"] = [clean_name(name) for name in names]
    return metadata


def _bad_metadata(path: str | os.PathLike, what: str) -> ValueError:
    return ValueError(
        f"A weight file's description of its network (attribute {_METADATA}) must be as save_weights writes it. "
        f"Received: {os.fspath(path)!r} with {what}. Try another file, or removing the attribute and passing a config."
    )


def _plain(value):
    """A NumPy array or number as the plain Python value JSON knows."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"metadata must be JSON-able. Received: {value!r} of {type(value)}.")


def _write_layers(file: h5py.File, model) -> None:
    file.attrs["backend"] = np.bytes_("tensorflow")
    file.attrs["keras_version"] = np.bytes_(_LAYOUT_VERSION)
    _write_names(file, "layer_names", [layer.name for layer in model.layers])
    for layer in model.layers:
        group = file.create_group(layer.name)
        named = {
            _weight_name(leaf, variable): variable
            for leaf in _leaves(layer)
            for variable in leaf.weights
        }
        _write_names(group, "weight_names", list(named))
        for name, variable in named.items():
            group[name] = variable.numpy()


def _weight_name(layer, variable) -> str:
    """A weight's name as Keras 2 gave it: `conv1/kernel:0`."""
    parts = variable.path.split("/")
    if layer.name in parts:
        parts = parts[parts.index(layer.name) + 1 :]
    return f"{layer.name}/{'/'.join(parts)}:0"


def _write_names(group: h5py.Group, attribute: str, names: list[str]) -> None:
    """Fixed-length bytes, which any Keras 2 and h5py reads; too long a list is cut into `attribute0`, ..."""
    data = np.array([name.encode() for name in names], dtype=bytes)
    if data.nbytes <= _ATTRIBUTE_LIMIT:
        group.attrs[attribute] = data
        return
    step = _ATTRIBUTE_LIMIT // data.itemsize
    for i, start in enumerate(range(0, len(data), step)):
        group.attrs[f"{attribute}{i}"] = data[start : start + step]


# ----------------------------------------------------------------------------------------------------------
# Reading


@contextmanager
def _open(path: str | os.PathLike) -> Iterator[h5py.File]:
    """The opened weight file, or an error that says what is wrong with the path."""
    with hdf5.open_file(path) as file:
        if hdf5.has(file, "optimizer") and "about" in file.attrs:
            raise ValueError(
                f"The file must hold weights. Received: {os.fspath(path)!r}, a training state: the optimizer's "
                "variables, which a resumed training reads by itself. Try the mask_rcnn_*.h5 of the same epoch, in "
                "the same folder."
            )
        yield file


def check_file(path: str | os.PathLike) -> None:
    """Raise what loading a file would raise before any of its weights is read; no network is needed.

    Raises:
        FileNotFoundError, ValueError: no such file, or no weight file in a layout that is read here.
    """
    with _open(path) as file:
        keras3 = _is_keras3(file)
    if not keras3:
        _read_groups(path)


# Setting of the config -> the layer, and the axis of its kernel, whose length is that setting.
_SIZES = {
    "NUM_CLASSES": ("mrcnn_class_logits", -1),
    "TOP_DOWN_PYRAMID_SIZE": ("fpn_c5p5", -1),
    "RPN_CHANNELS": ("rpn_conv_shared", -1),
    "POOL_SIZE": ("mrcnn_class_conv1", 0),
    "FPN_CLASSIF_FC_LAYERS_SIZE": ("mrcnn_class_conv1", -1),
    "MASK_CHANNELS": ("mrcnn_mask_conv1", -1),
}


def check_sizes(path: str | os.PathLike, config) -> None:
    """Compare a config with the layers of a file whose weights all are to be used, before a network is built from it.

    Raises:
        FileNotFoundError, ValueError: no such file, not a weight file, or of a network of other sizes.
    """
    kernels = {}
    for group, weights in _read_groups(path).items():
        for weight_name, stored in weights:
            *_, layer, kind = ["", group, *weight_name.split("/")]
            if kind.startswith("kernel"):
                kernels[layer] = stored.shape
    for setting, (layer, axis) in _SIZES.items():
        in_file, in_config = kernels.get(layer, ()), getattr(config, setting, None)
        if not in_file or in_config in (None, in_file[axis]):
            continue
        if setting == "NUM_CLASSES":
            raise _other_classes(path, in_file[axis], in_config)
        raise ValueError(
            f"The file must be of the model's {setting}. Received: {os.fspath(path)!r} with {in_file[axis]} for a "
            f"model with {in_config}. Try {setting} = {in_file[axis]} (--config {setting}={in_file[axis]})."
        )


def _read_groups(path: str | os.PathLike) -> dict[str, list[tuple[str, hdf5.Stored]]]:
    """`{group: [(weight name, what is stored), ...]}` of a Keras 2 file, in its order, without the empty groups."""
    with _open(path) as file:
        root = _root(file)
        names = hdf5.names(root, "layer_names")
        if not names:
            raise ValueError(_not_legacy(path, file))
        # Weights outside any layer (tf.keras 2.x wrote such a group): listed, so that the report can name them.
        names += [name for name in ("top_level_model_weights",) if hdf5.has(root, name)]
        groups, total = {}, 0
        for name in dict.fromkeys(names):
            group = hdf5.group(root, name)
            weight_names = hdf5.names(group, "weight_names")
            total += len(weight_names)
            if total > hdf5.MOST_NAMES:
                raise ValueError(
                    f"A weight file must have at most {hdf5.MOST_NAMES:,} weights. Received: {os.fspath(path)!r} with "
                    "more. Try another file."
                )
            groups[name] = [(weight, hdf5.stored(group, weight)) for weight in weight_names]
    return {name: weights for name, weights in groups.items() if weights}


def _root(file: h5py.File) -> h5py.Group:
    """Where the layers stand: `model.save` of Keras 2 put them under `model_weights`."""
    return hdf5.group(file, "model_weights") if hdf5.has(file, "model_weights") else file


def _not_legacy(path: str | os.PathLike, file: h5py.File) -> str:
    if _is_keras3(file):
        return (
            f"The file must be in matterport's layout (.h5). Received: {os.fspath(path)!r}, Keras 3 weights "
            "(.weights.h5), which load_backbone_weights (--backbone-weights) reads for mobilenet_v2 "
            "alone. For another network, build it, call its keras_model.load_weights and save it as .h5."
        )
    return (
        f"The weight file must have the attribute 'layer_names'. Received: {os.fspath(path)!r} without it: "
        "an HDF5 file, but not of Keras weights. Try a .h5 that save_weights wrote."
    )


def _is_keras3(file: h5py.File) -> bool:
    return hdf5.has(file, "layers") and "layer_names" not in file.attrs


def is_backbone_file(path: str | os.PathLike) -> bool:
    """Whether a file holds a backbone alone (an ImageNet file), to be read by `load_backbone_weights`.

    True where the file has layers and none of them is one of Mask R-CNN's own (`fpn_*`, `rpn_*`, `mrcnn_*`).

    Raises:
        FileNotFoundError, ValueError: no such file, or not an HDF5 file.
    """
    with _open(path) as file:
        names = (
            list(_keras3_groups(file))
            if _is_keras3(file)
            else hdf5.names(_root(file), "layer_names")
        )
    return bool(names) and not any(map(_is_own, names))


def _keras3_groups(file: h5py.File) -> dict[str, h5py.Group]:
    """`{layer name: group of its weights}` of a Keras 3 file, which keeps the names in attributes."""
    layers, groups = hdf5.group(file, "layers"), {}
    for key in layers:
        group = hdf5.group(layers, f"{key}/vars")
        groups[hdf5.text(group, "name") or key] = group
    return groups


def _read_keras3(path: str | os.PathLike) -> dict:
    """`found` of a Keras 3 file; empty if it is none."""
    with _open(path) as file:
        if not _is_keras3(file):
            return {}
        found = {}
        for name, group in _keras3_groups(file).items():
            keys = sorted(
                group, key=lambda key: (len(key), key)
            )  # as text alone "10" comes before "2"
            found[name] = [(key, hdf5.stored(group, key)) for key in keys]
    return {name: weights for name, weights in found.items() if weights}


def _is_own(layer_name: str) -> bool:
    """Whether a layer belongs to Mask R-CNN itself, not to its backbone."""
    return layer_name.startswith(_NOT_BACKBONE)


# ----------------------------------------------------------------------------------------------------------
# Loading


def load_weights(
    model,
    path: str | os.PathLike,
    exclude: Iterable[str] | None = (),
    by_name: bool = True,
    allow_head_mismatch: bool = False,
    remap_classes: Mapping[str, int] | None = None,
    class_names: Sequence[str] | None = None,
) -> LoadReport:
    """The report of loading a Mask R-CNN's weights from a file in matterport's layout; it is logged too.

    All or nothing: a load that is refused has changed no weight.

    model: Keras model to fill.
    path: `.h5` file of this package, of matterport or of a fork of it.
    exclude: names of layers to leave as they are, for example the heads before training on other classes.
    by_name: layers are always matched by name; False also insists that the file has every layer.
    allow_head_mismatch: skip, and report, class heads that differ because NUM_CLASSES or CLASS_AGNOSTIC_* does, and
        heads that the file has not (for training).
    remap_classes: {class name in the file: class id in the model}: those classes' rows of the three class
        heads, and the background's, are copied; other rows keep the model's own values.
    class_names: the file's class names, "BG" first; by default those of its metadata.

    Returns: a LoadReport.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file; nothing, or not the whole backbone or RPN, or nothing of a head, matched; shapes
            differ; classes to remap are unknown.
    """
    path = os.fspath(path)
    layers = _layers(model)
    report = LoadReport(path)
    found = _by_layer(_read_groups(path), model)
    excluded = _excluded(exclude, model, found)
    changes = {}
    if remap_classes:
        changes = _remapped_heads(layers, found, remap_classes, _file_classes(path, class_names))
        report.remapped = dict(remap_classes)
    plan = _plan(layers, found, excluded, report, changes, resized=set(changes))
    _refuse_other_network(layers, found, report)
    _refuse_shapes(report, allow_head_mismatch)
    if not allow_head_mismatch:
        _refuse_headless(layers, found, report)
    if report.missing and not by_name:
        raise ValueError(
            f"With by_name=False the file must have every layer. Received: {path!r} without "
            f"{_first(report.missing)}. Try by_name=True."
        )
    return _carry_out(plan, report, changes)


def load_backbone_weights(model, path: str | os.PathLike, backbone: str) -> LoadReport:
    """The report of loading a backbone's ImageNet weights (a file without top); it is logged too.

    ResNet files are read with the layer names of 2017 (`res2a_branch2a`), as they are, and with those of
    today's keras.applications (`conv2_block1_1_conv`), which were trained on BGR images and with another
    batch-norm epsilon: they are converted, so that what is saved afterwards is an ordinary matterport file.
    MobileNetV2 files are those keras.applications itself reads, `.weights.h5` or `.h5`. All or nothing.

    model: Keras model to fill; the FPN, RPN and heads stay as they are.
    path: the file.
    backbone: "resnet50", "resnet101" or "mobilenet_v2": what the model is built on.

    Returns: a LoadReport of the backbone's layers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another backbone's file, or not all of the backbone's layers matched.
    """
    path = os.fspath(path)
    _check_backbone(backbone)
    layers = {name: layer for name, layer in _layers(model).items() if not _is_own(name)}
    if backbone == "mobilenet_v2":
        found, changes = _read_mobilenet(path, layers), {}
    else:
        found, changes = _as_matterport(_read_groups(path))
    report = LoadReport(path)
    plan = _plan(layers, found, set(), report, changes)
    deeper = [name for name in report.unused if re.match(r"(res|bn)\d", name)]
    if deeper and not report.missing:
        raise ValueError(
            f"The file must be of the model's backbone, {backbone}. Received: {path!r} with {len(deeper)} "
            f"further layers ({_first(deeper)}): a deeper ResNet. Try the file of {backbone}, or BACKBONE = "
            "'resnet101'."
        )
    _refuse_other_network(layers, found, report)
    _refuse_shapes(report, allow_head_mismatch=False)
    return _carry_out(plan, report, changes)


def _leaves(layer) -> list:
    """The layer itself, or for a nested model the layers inside it."""
    inner = getattr(layer, "layers", None)
    return [layer] if inner is None else [leaf for child in inner for leaf in _leaves(child)]


def _layers(model) -> dict:
    """`{name: layer}` of every leaf layer that has weights, in the model's order."""
    return {leaf.name: leaf for leaf in _leaves(model) if leaf.weights}


def _by_layer(groups: dict, model) -> dict:
    """`found`: the file's groups, with those of nested models taken apart into their inner layers."""
    nested = {layer.name for layer in model.layers if getattr(layer, "layers", None) is not None}
    found = {}
    for name, weights in groups.items():
        for weight_name, stored in weights:
            parts = weight_name.split("/")
            inner = parts[-2] if name in nested and len(parts) > 1 else name
            found.setdefault(inner, []).append((weight_name, stored))
    return found


def _excluded(exclude: Iterable[str] | None, model, found: dict) -> set[str]:
    """The leaf layers that `exclude` names; a name that neither model nor file has gives a warning."""
    names = [exclude] if isinstance(exclude, str) else list(exclude or ())
    known = {layer.name: [leaf.name for leaf in _leaves(layer)] for layer in model.layers}
    known.update({leaf.name: [leaf.name] for leaf in _leaves(model)})
    for name in names:
        if name not in known and name not in found:
            logger.warning("exclude: the model has no layer %r.%s", name, _near(name, known))
    return {leaf for name in names for leaf in known.get(name, [name])}


def _plan(
    layers: dict,
    found: dict,
    excluded: set[str],
    report: LoadReport,
    changes: dict[str, list[Callable]],
    resized: Iterable[str] = (),
) -> list[tuple]:
    """What to read, as (layer name, layer, [stored, ...]); the fate of each layer goes into the report.

    changes: the change of a first convolution's image channels is added.
    resized: names of layers whose shapes may differ, because a change fits them.
    """
    plan = []
    convolutions = (name for name, layer in layers.items() if len(layer.weights[0].shape) == 4)
    stem = next(convolutions, None)  # the one that sees the image
    for name, layer in layers.items():
        if name in excluded:
            report.excluded.append(name)
            continue
        if name not in found:
            report.missing.append(name)
            continue
        stored = _in_model_order(layer, found[name])
        in_file = [entry.shape for entry in stored]
        in_model = [tuple(variable.shape) for variable in layer.weights]
        if (
            name == stem
            and _only_channels_differ(in_file[0], in_model[0])
            and in_file[1:] == in_model[1:]
        ):
            report.adapted.append((name, in_file[0], in_model[0]))
            changes.setdefault(name, []).append(_fit_channels(in_model[0][2]))
        elif in_file != in_model and name not in resized:
            report.mismatched.append((name, in_file, in_model))
            continue
        report.loaded.append(name)
        plan.append((name, layer, stored))
    report.unused = [name for name in found if name not in layers and name not in excluded]
    return plan


def _fit_channels(channels: int) -> Callable:
    """The change of a first convolution's values to a number of image channels."""
    return lambda values: [adapt_channels(values[0], channels), *values[1:]]


def _in_model_order(layer, weights: list[tuple[str, hdf5.Stored]]) -> list[hdf5.Stored]:
    """What a layer stores in the order of the model's variables: by the name's last part, else as it stands."""
    by_kind = {name.rsplit("/", 1)[-1].split(":")[0]: stored for name, stored in weights}
    kinds = [variable.name for variable in layer.weights]
    if len(by_kind) == len(weights) == len(kinds) and set(by_kind) == set(kinds):
        return [by_kind[kind] for kind in kinds]
    return [stored for _, stored in weights]  # Keras 1 called them `conv1_W`, in the same order


def _only_channels_differ(in_file: tuple, in_model: tuple) -> bool:
    """Whether two `[height, width, in, out]` kernels differ in their input channels and in nothing else."""
    same = len(in_file) == 4 and in_file[:2] == in_model[:2] and in_file[3] == in_model[3]
    return same and in_file[2] != in_model[2]


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A first convolution's kernel for images of another number of channels.

    kernel: [height, width, in, out], the first three inputs are colours where there are three or more.
    channels: inputs wanted.

    To or from fewer than three channels, the colours' sum is spread evenly: a grey image then gives what its
    RGB copy gave. Beyond the file's channels, new ones start from the mean of the colours, which answers to
    edges whatever the channel shows. Channels the model does not have are dropped.

    Returns: [height, width, channels, out]
    """
    have = kernel.shape[2]
    colours = kernel[:, :, :3]
    if min(have, channels) < 3:
        return np.repeat(colours.sum(axis=2, keepdims=True) / channels, channels, axis=2)
    if channels <= have:
        return kernel[:, :, :channels]
    extra = np.repeat(colours.mean(axis=2, keepdims=True), channels - have, axis=2)
    return np.concatenate([kernel, extra], axis=2)


def _refuse_other_network(layers: dict, found: dict, report: LoadReport) -> None:
    """Raises where nothing matched, or not all of the backbone or of the RPN is in the file."""
    matched = len(report.loaded) + len(report.mismatched)
    if not matched and report.missing:
        raise ValueError(
            f"The file must hold weights of this model. Received: {report.path!r}, where no layer matched: "
            f"the file has {_first(found, 3)}; the model has {_first(layers, 3)}. Try the file this network "
            "was saved to."
        )
    backbone = [name for name in layers if not _is_own(name) and name not in report.excluded]
    missing = [name for name in report.missing if not _is_own(name)]
    if missing:
        raise ValueError(
            f"All {len(backbone)} backbone layers of the model must be in the file. Received: "
            f"{report.path!r} without {len(missing)} of them ({_first(missing)}); layers only the file has: "
            f"{_first(report.unused) or 'none'}. Try the BACKBONE the file was trained with (--config BACKBONE=), or "
            "in Python name the layers in exclude."
        )
    missing = [name for name in report.missing if name.startswith("rpn_")]
    if missing:
        remedy = "another file, or in Python name rpn_model in exclude to train it from scratch"
        if not any(map(_is_own, found)):
            remedy = "load_backbone_weights (--backbone-weights): the file holds a backbone alone"
        raise ValueError(
            f"The region proposal network must be in the file. Received: {report.path!r} without "
            f"{_first(missing)}. Try {remedy}."
        )


def _refuse_headless(layers: dict, found: dict, report: LoadReport) -> None:
    """Raises where the file has no layer of one of the model's heads: it is of a network without it."""
    for head, (prefixes, setting) in _HEADS.items():
        missing = [name for name in report.missing if name.startswith(prefixes)]
        if missing and not any(name.startswith(prefixes) for name in [*found, *report.excluded]):
            raise ValueError(
                f"The {head} must be in the file. Received: {report.path!r} without {_first(missing, 3)}: weights of a "
                f"network with {setting}. Try {setting} to use them as they are; to train that head from random "
                "weights, load them in mode 'training' (`mrcnn train --weights`)."
            )


def _refuse_shapes(report: LoadReport, allow_head_mismatch: bool) -> None:
    """Raises where shapes differ, except for class heads of another NUM_CLASSES where that is allowed."""
    heads = [entry for entry in report.mismatched if _classes_differ(*entry)]
    others = [entry for entry in report.mismatched if entry not in heads]
    if others:
        raise ValueError(
            f"Weights must have the model's shapes. Received: {report.path!r} with "
            f"{_first(map(_describe_mismatch, others), 3)}. Try the config the file was trained with "
            "(--config), or in Python name the layers in exclude."
        )
    if heads and not allow_head_mismatch:
        name, in_file, in_model = heads[0]
        in_file, in_model = (
            shapes[-1][-1] // _rows_per_class(name) for shapes in (in_file, in_model)
        )
        if 1 in (in_file, in_model):  # NUM_CLASSES is at least 2
            setting = "CLASS_AGNOSTIC_MASK" if name == "mrcnn_mask" else "CLASS_AGNOSTIC_BOX"
            raise ValueError(
                f"The file must be of the model's {setting} = {in_model == 1}. Received: {report.path!r}, whose {name} "
                f"has {in_file} row{'s' * (in_file > 1)} of outputs where the model has {in_model}. "
                f"Try {setting} = {in_file == 1} (--config {setting}={in_file == 1})."
            )
        raise _other_classes(report.path, in_file, in_model)


def _other_classes(path: str | os.PathLike, in_file: int, in_model: int) -> ValueError:
    return ValueError(
        f"The file must be of the model's NUM_CLASSES. Received: {os.fspath(path)!r} with {in_file} classes "
        f"for a model with {in_model} (background included). Try NUM_CLASSES = {in_file} to detect with "
        "this file; to train other classes from it, `mrcnn train --weights` with it, or in Python "
        "exclude=['mrcnn_class_logits', 'mrcnn_bbox_fc', 'mrcnn_bbox', 'mrcnn_mask'] or remap_classes."
    )


def _classes_differ(name: str, in_file: list[tuple], in_model: list[tuple]) -> bool:
    """Whether a layer is a class head that differs in its last axis, the classes, and in nothing else."""
    return name in CLASS_HEADS and [shape[:-1] for shape in in_file] == [
        shape[:-1] for shape in in_model
    ]


def _rows_per_class(head: str) -> int:
    return 4 if head == "mrcnn_bbox_fc" else 1


def _carry_out(
    plan: list[tuple], report: LoadReport, changes: dict[str, list[Callable]]
) -> LoadReport:
    """Read what is planned, change it where the model needs it otherwise, and only then assign it."""
    ready = []
    with hdf5.open_file(report.path) as file:
        for name, layer, stored in plan:
            values = [
                hdf5.read(file, entry, variable.dtype)
                for entry, variable in zip(stored, layer.weights, strict=True)
            ]
            ready.append((name, layer, values))
    for name, layer, values in ready:
        for change in changes.get(name, ()):
            values = change(values)
        for variable, value in zip(layer.weights, values, strict=True):
            variable.assign(value)
    partly = report.missing or report.mismatched or report.unused
    logger.log(logging.WARNING if partly else logging.INFO, "Loaded weights. %s", report)
    return report


# ----------------------------------------------------------------------------------------------------------
# Other classes


def _file_classes(path: str, class_names: Sequence[str] | None) -> list[str]:
    if class_names is None:
        class_names = (read_metadata(path) or {}).get("class_names")
    if not class_names:
        raise ValueError(
            f"remap_classes needs the class names of the file. Received: {path!r}, which does not carry "
            "them. Try class_names=['BG', ...], in the order it was trained with."
        )
    return list(class_names)


def _remapped_heads(
    layers: dict, found: dict, remap: Mapping[str, int], class_names: list[str]
) -> dict:
    """`changes` of the class heads: the model's own values with the rows of some of the file's classes put in.

    layers: the model's layers.
    remap: {class name in the file: class id in the model}; the background always goes to the background.
    class_names: the file's classes, background first.
    """
    absent = [head for head in CLASS_HEADS if head in layers and head not in found]
    if absent:
        raise ValueError(
            f"remap_classes needs the class heads in the file. Received: a file without {_first(absent)}."
        )
    sources, targets = _class_pairs(layers, found, remap, class_names)
    changes = {}
    for head in CLASS_HEADS:
        if head not in layers:
            continue
        layer = layers[head]
        own = [tuple(variable.shape) for variable in layer.weights]
        theirs = [stored.shape for stored in _in_model_order(layer, found[head])]
        if not _classes_differ(head, theirs, own):
            continue  # other than in classes: left for _refuse_shapes to name
        rows = _rows_per_class(head)
        if rows in (own[-1][-1], theirs[-1][-1]):  # one row for all classes: nothing moves
            continue
        changes[head] = [_move_classes(layer, sources, targets, rows)]
    return changes


def _move_classes(layer, sources: list[int], targets: list[int], rows: int) -> Callable:
    """The change of a head's values in the file to the model's own, with some classes of the file put in."""
    return lambda values: [
        _moved_classes(variable.numpy(), value, sources, targets, rows)
        for variable, value in zip(layer.weights, values, strict=True)
    ]


def _class_pairs(
    layers: dict, found: dict, remap: Mapping[str, int], class_names: list[str]
) -> tuple[list[int], list[int]]:
    """(class ids in the file, class ids in the model) of the rows to copy, after every check on them."""
    head = CLASS_HEADS[0]
    in_file = found[head][-1][1].shape[-1]
    in_model = layers[head].weights[-1].shape[-1]
    if len(class_names) != in_file:
        raise ValueError(
            f"class_names must name the file's {in_file} classes, the background 'BG' first. "
            f"Received: {len(class_names)} names ({_first(class_names)})."
        )
    for name, new_id in remap.items():
        if name not in class_names:
            near = _near(name, class_names)
            raise ValueError(
                f"remap_classes must name classes of the file. Received: {name!r}.{near}"
            )
        if not 1 <= new_id < in_model:
            raise ValueError(
                f"A new class id must be in 1..{in_model - 1}, NUM_CLASSES - 1. Received: {name!r}: {new_id}."
            )
    if len(set(remap.values())) < len(remap):
        raise ValueError(
            f"remap_classes must give each class an id of its own. Received: {dict(remap)}."
        )
    return [0, *map(class_names.index, remap)], [0, *remap.values()]


def _moved_classes(
    own: np.ndarray, theirs: np.ndarray, sources: list[int], targets: list[int], rows: int
) -> np.ndarray:
    """A copy of `own` with classes of `theirs` in it.

    own: [..., classes * rows] values of the model.
    theirs: [..., classes of the file * rows]
    sources, targets: class ids in the file and in the model.
    """
    result = own.reshape(*own.shape[:-1], -1, rows).copy()  # [..., classes, rows]
    result[..., targets, :] = theirs.reshape(*theirs.shape[:-1], -1, rows)[..., sources, :]
    return result.reshape(own.shape)


# ----------------------------------------------------------------------------------------------------------
# ImageNet


def _check_backbone(backbone: str) -> None:
    if backbone not in IMAGENET_FILES:
        raise ValueError(
            f"The backbone must be one of {', '.join(IMAGENET_FILES)}. Received: {backbone!r}. For a "
            "backbone of your own load its weights where you build it."
        )


def _as_matterport(groups: dict) -> tuple[dict, dict]:
    """`found` of a ResNet file under matterport's layer names, and the `changes` for RGB and our batch-norm epsilon."""
    found, changes = {}, {}
    for name, weights in groups.items():
        old_name = _matterport_name(name)
        if old_name is None:
            found[name] = weights
            continue
        kinds = [weight.rsplit("/", 1)[-1].split(":")[0] for weight, _ in weights]
        found[old_name] = [
            (f"{old_name}/{kind}:0", stored)
            for kind, (_, stored) in zip(kinds, weights, strict=True)
        ]
        if old_name == "conv1":
            changes[old_name] = [_bgr_to_rgb]
        elif "gamma" in kinds:
            changes[old_name] = [_with_our_epsilon]
    return found, changes


def _bgr_to_rgb(values: list[np.ndarray]) -> list[np.ndarray]:
    kernel, *others = values
    return [kernel[:, :, ::-1] if kernel.shape[2] == 3 else kernel, *others]


def _with_our_epsilon(values: list[np.ndarray]) -> list[np.ndarray]:
    """Batch norm whose gamma / sqrt(variance + epsilon) stays what it was when epsilon becomes ours."""
    gamma, beta, mean, variance = values
    wide = variance.astype(np.float64)
    factor = np.sqrt((wide + _EPSILON) / (wide + _APPLICATIONS_EPSILON))
    return [(gamma * factor).astype(gamma.dtype), beta, mean, variance]


def _matterport_name(name: str) -> str | None:
    """matterport's name of a ResNet layer of today's keras.applications; None for any other layer."""
    stem = {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}
    if name in stem:
        return stem[name]
    match = re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", name)
    if match is None:
        return None
    stage, block, branch, kind = match.groups()
    letter = chr(ord("a") + int(block) - 1)
    branch = {"0": "1", "1": "2a", "2": "2b", "3": "2c"}[branch]
    return f"{'res' if kind == 'conv' else 'bn'}{stage}{letter}_branch{branch}"


def _read_mobilenet(path: str, layers: dict) -> dict:
    """`found` of a MobileNetV2 file without top, of Keras 3 (`.weights.h5`) or Keras 2 (`.h5`).

    layers: the backbone's. Files of Keras 2 are matched in order if their names are others, as Keras does.
    """
    found = _read_keras3(path) or _read_groups(path)
    if len(found) == len(layers) and not set(found) & set(layers):
        found = dict(zip(layers, found.values(), strict=True))
    if not set(found) & set(layers):
        raise ValueError(
            "The file must hold keras.applications.MobileNetV2(include_top=False), alpha 1. "
            f"Received: {path!r}, whose layers are others ({_first(found)}). Try --weights imagenet, or in Python "
            "imagenet_weights('mobilenet_v2')."
        )
    return found


def last_checkpoint(model_dir: str | os.PathLike, name: str) -> str:
    """The path of the newest checkpoint of the newest run that has one, of the runs `<name><date>` under model_dir.

    Runs are ordered by their date, and those of one minute by the number after it (`<name><date>_2`). Other files and
    folders do not count.

    Raises: FileNotFoundError naming the folder where there is none.
    """
    folder, prefix = Path(model_dir), str(name).lower()
    runs = _numbered(folder, re.escape(prefix) + r"(\d{8})T(\d{4})(?:_(\d+))?")
    for run in reversed(runs):
        found = checkpoints(run, prefix)
        if found:
            return str(found[-1])
    raise FileNotFoundError(
        f"There must be a checkpoint of {prefix!r} to go on from. Received: the folder {folder.absolute()}, "
        f"which has {len(runs)} runs of that name and no mask_rcnn_{prefix}_<epoch>.h5 in them. "
        "Try another model_dir (--logs), or start from other weights."
    )


def checkpoints(run: str | os.PathLike, name: str) -> list[Path]:
    """The checkpoints `mask_rcnn_<name>_<epoch>.h5` in the folder of a run, ordered by their epoch."""
    return _numbered(Path(run), rf"mask_rcnn_{re.escape(str(name).lower())}_(\d+)\.h5")


def _numbered(folder: Path, pattern: str) -> list[Path]:
    """What in a folder has a name of the pattern, ordered by the numbers that the pattern's groups find."""
    found = []
    for path in folder.glob("*"):
        match = re.fullmatch(pattern, path.name, re.ASCII)
        if match:
            found.append(([int(number or 0) for number in match.groups()], path))
    return [path for _, path in sorted(found)]


def imagenet_weights(backbone: str, cache_dir: str | os.PathLike | None = None) -> str:
    """The path of a backbone's ImageNet weights, downloaded unless they are there.

    backbone: "resnet50", "resnet101" or "mobilenet_v2".
    cache_dir: folder of the downloads; by default the one Keras uses, ~/.keras/models.

    Raises:
        DownloadError: the file is not there and cannot be fetched.
    """
    _check_backbone(backbone)
    url, md5, *older = IMAGENET_FILES[backbone]
    if cache_dir is None:
        home = os.environ.get("KERAS_HOME", os.path.join(os.path.expanduser("~"), ".keras"))
        cache_dir = os.path.join(home, "models")
    return download(
        url,
        os.path.join(cache_dir, url.rsplit("/", 1)[-1]),
        md5,
        size=IMAGENET_SIZES[backbone],
        older_md5s=older,
    )
