"""`DetectionModel`: what users do with a network: build it, load weights, train, detect.

A subclass is a network: it says in `_build` what its graph is.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np

from .config import ANY_SIZE_MODES, Config, as_config
from .data.dataset import Dataset
from .data.keypoints import adopt_skeleton
from .export.report import Report
from .inference.complexity import Complexity, count_parameters, network_complexity
from .inference.detection_methods import DetectionMethods
from .inference.timing import seconds_of_detection
from .nn.initial_weights import draw_initial_weights
from .nn.layers import FLOAT32, Anchors, PyramidAnchors
from .training.distributed import training_strategy
from .training.loop import Stage, TrainingData, train
from .training.optimizer import compile_network
from .training.reports import peak_memory_mb
from .training.run import TrainingRun
from .training.trainable import leaves, set_trainable
from .weights import checkpoints, imagenet, loading, saving
from .weights.checks import check_sizes
from .weights.file_config import config_of_file, warn_of_other_settings
from .weights.load_report import LoadReport
from .weights.opening import AnyWeightFile, open_weights

Model = TypeVar("Model", bound="DetectionModel")
logger = logging.getLogger("mrcnn")

# The module and the class of each of `config.NETWORKS`.
CLASSES = {
    "mask_rcnn": ("model", "MaskRCNN"),
    "retinanet": ("retinanet", "RetinaNet"),
    "fcos": ("fcos", "FCOS"),
}


def model_class(config: Config) -> type[DetectionModel]:
    """The class of a config's network: `MaskRCNN` for NETWORK = "mask_rcnn"."""
    module, name = CLASSES[config.NETWORK]
    return getattr(importlib.import_module(f"mrcnn.{module}"), name)


def load(weights: str | os.PathLike, config: Config | None = None) -> DetectionModel:
    """Return the network of a weight file, or of a name that `mrcnn weights` lists, for `detect`.

    weights, config: as for `DetectionModel.from_weights`. Batch norm is fused, see
        `optimize_for_inference`.

        mrcnn.load("shapes.h5").detect("image.png").save("found.png")
    """
    model = DetectionModel.from_weights(weights, config)
    model.optimize_for_inference()
    return model


def _run_attribute(name):
    """A property that reads and sets an attribute of the `TrainingRun`."""
    return property(
        lambda model: getattr(model._run, name),
        lambda model, value: setattr(model._run, name, value),
    )


class DetectionModel(DetectionMethods):
    """A network and what users do with it: build, load weights, train, detect.

    mode: "training" or "inference". config: a `Config`. model_dir: where training writes its logs.
    `keras_model` is the Keras network, `class_names` come from the weight file or the dataset.

    Subclasses set `network_name`, of `config.NETWORKS`, and define `read_outputs` and `_build`.
    """

    network_name: str
    _run: TrainingRun

    # matterport's names for attributes of the training run.
    epoch = _run_attribute("epoch")
    log_dir = _run_attribute("folder")
    checkpoint_path = _run_attribute("checkpoint_path")

    def __new__(cls, *args, **kwargs):
        # Subclasses that repeat the body of matterport's __init__ do not call the one below.
        model = super().__new__(cls)
        model._run = TrainingRun(network_name=cls.network_name)
        return model

    def __init__(self, mode: str, config: Any, model_dir: str | os.PathLike = "logs"):
        self.mode = mode
        self.config = config
        self.model_dir = str(model_dir)
        self.set_log_dir()
        self.keras_model = self.build(mode=mode, config=config)

    @property
    def config(self) -> Config:
        """The settings; an object of another class becomes a `Config` with its values."""
        return self._config

    @config.setter
    def config(self, config: Any) -> None:
        self._config, self._given_config = as_config(config), config

    @classmethod
    def from_weights(
        cls: type[Model],
        path: str | os.PathLike,
        config: Config | None = None,
        model_dir: str | os.PathLike = "logs",
        mode: str = "inference",
    ) -> Model:
        """Build the model that a weight file describes, and load its weights.

        path: an `.h5` file written by this package, or a name that `mrcnn weights` lists, whose
            file is downloaded unless it is in the cache; other files need a `config`.
        """
        with open_weights(path) as file:
            if config is None:
                config = config_of_file(file)
                if mode == "inference":
                    config.GPU_COUNT = config.IMAGES_PER_GPU = config.BATCH_SIZE = 1
            if mode == "inference":
                check_sizes(file, config)
            # DetectionModel.from_weights builds the network that the file is for.
            network = model_class(config) if cls is DetectionModel else cls
            model = network(mode, config, model_dir)
            model._load(file)
        return model

    def build(self, mode: str, config: Any) -> keras.Model:
        """Build the Keras network of a mode, "training" or "inference"."""
        if mode not in ("training", "inference"):
            raise ValueError(f"mode must be 'training' or 'inference'. Received: {mode!r}.")
        _ensure_log_handler()
        # The layers read the thresholds of self.config, so they must have that very object.
        config = self.config if config is self._given_config else as_config(config)
        self._name_network(config)
        config.validate()
        config.check_names()
        scope = contextlib.nullcontext()
        if mode == "training":
            scope = training_strategy(config).scope()
        policy_before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(config.PRECISION)
        try:
            with scope:
                network = self._build(mode, config)
                draw_initial_weights(leaves(network), config.INITIAL_WEIGHTS)
        finally:
            keras.config.set_dtype_policy(policy_before)
        network.describe = self.metadata
        return network

    def _name_network(self, config: Config) -> None:
        """Write the network's name into the config. Raises: ValueError if it names another one."""
        if config.NETWORK not in (self.network_name, Config.NETWORK):
            raise ValueError(
                f"{type(self).__name__} needs a config with NETWORK = {self.network_name!r}. "
                f"Received: {config.NETWORK!r}. Try DetectionModel.from_weights for a file, or "
                "detection_model.model_class(config)."
            )
        config.NETWORK = self.network_name
        if not config.has_rpn():
            config.USE_MASK = False

    def _build(self, mode: str, config: Config) -> keras.Model:
        """Build the graph; the scope of devices and the precision are set."""
        raise NotImplementedError

    def anchors_of(self, image: Any, levels: list, config: Config, in_pixels: bool = False) -> Any:
        """`[B, A, 4]` the anchors: fixed, or from the sizes of the levels if images keep theirs.

        in_pixels: not normalized.
        """
        if config.IMAGE_RESIZE_MODE in ANY_SIZE_MODES:
            return PyramidAnchors(config, in_pixels, name="anchors", **FLOAT32)([image, *levels])
        fixed = self.get_anchors(tuple(config.IMAGE_SHAPE))
        return Anchors(self.anchors if in_pixels else fixed, name="anchors", **FLOAT32)(image)

    # --- Weights and log folders ---

    def find_last(self) -> str:
        """Return the path of the newest checkpoint of this network under model_dir.

        Raises: FileNotFoundError that names the folder if there is no checkpoint.
        """
        name = str(self.config.NAME)
        return checkpoints.last_checkpoint(self.model_dir, name, [self.network_name])

    def load_weights(
        self,
        filepath: str | os.PathLike,
        by_name: bool = False,
        exclude: Sequence[str] | None = None,
        remap_classes: dict[str, int] | None = None,
    ) -> LoadReport:
        """Load a weight file; return and log which layers were loaded.

        filepath: matterport's `.h5`, one written here, a backbone's ImageNet file, or a name that
            `mrcnn weights` lists.
        by_name: unused, layers are always matched by name.
        exclude: names of layers to skip.
        remap_classes: class name in the file -> class id here, to keep the rows of known classes.

        Raises: ValueError if the file is of another network; see `weights.loading`.
        """
        with open_weights(filepath) as file:
            return self._load(file, exclude, remap_classes)

    def _load(
        self,
        file: AnyWeightFile,
        exclude: Sequence[str] | None = None,
        remap_classes: dict[str, int] | None = None,
    ) -> LoadReport:
        training_mode = self.mode == "training"
        if training_mode and file.kind == "backbone":
            return self._load_backbone(file)
        metadata = file.metadata
        warn_of_other_settings(file, self.config)
        # A detection in another thread sees the former weights or these, never a mixture.
        with self.detector.weights_lock.writing():
            report = loading.load_weights(
                self.keras_model,
                file,
                exclude=exclude or (),
                allow_head_mismatch=training_mode,
                remap_classes=remap_classes,
            )
            if self._fused is not None:
                self.optimize_for_inference()
        if exclude and not training_mode:
            logger.warning(
                "Layers were excluded in inference mode: %s stay random.", ", ".join(exclude)
            )
        self.class_names = metadata.get("class_names", self.class_names)
        self.set_log_dir(file.path)
        self._run.resume = self.epoch > 0
        return report

    def _load_backbone(self, file: AnyWeightFile | str | os.PathLike) -> LoadReport:
        config = self.config
        return loading.load_backbone_weights(
            self.keras_model, file, config.BACKBONE, config.STD_PIXEL
        )

    def load_backbone_weights(self, filepath: str | os.PathLike) -> LoadReport:
        """Load a file that contains only the backbone, as `keras.applications` publishes them."""
        return self._load_backbone(filepath)

    def save_weights(self, filepath: str | os.PathLike) -> None:
        """Write an `.h5` file in matterport's layout, with the config and class names.

        With the suffix `.pth` write torchvision's state dict; see `weights.saving.save_torch`.
        """
        saving.save_weights(self.keras_model, filepath, metadata=self.metadata())

    def metadata(self) -> dict:
        """Return the description of the network that weight files contain."""
        return {"config": self.config.to_dict(), "class_names": self.class_names}

    def get_imagenet_weights(self) -> str:
        """Return the path of the backbone's ImageNet file; download it unless it is cached."""
        return imagenet.imagenet_weights(self.config.BACKBONE)

    def set_log_dir(self, model_path: str | os.PathLike | None = None) -> None:
        """Name the log folder and the checkpoints of the next training; no folder is created yet.

        model_path: a checkpoint `<log folder>/<network>_<name>_<epoch>.h5`, whose folder and epoch
            the training continues; None or another path starts a new run.
        """
        name = str(self.config.NAME)
        training_mode = self.mode == "training"
        if model_path is None or not self._run.continue_from(str(model_path), name):
            self._run.start_new(self.model_dir, name, claim=training_mode)
        elif training_mode:
            logger.info("Resuming after epoch %d in %s", self.epoch, self.log_dir)

    # --- Training ---

    def compile(self, learning_rate: float, momentum: float) -> None:
        """Compile the network with a new optimizer; `train` does it by itself."""
        compile_network(self.keras_model, self.config, learning_rate, momentum)

    def set_trainable(self, layer_regex: str, keras_model=None, indent=0, verbose: int = 1) -> None:
        """Make exactly the layers trainable whose names match the regex.

        keras_model: default the whole network. indent: unused.
        verbose: as for `training.trainable.set_trainable`.
        """
        set_trainable(keras_model or self.keras_model, layer_regex, self.config, verbose=verbose)

    def train(
        self,
        train_dataset: Dataset,
        val_dataset: Dataset | None,
        learning_rate: float,
        epochs: int,
        layers: str,
        augmentation=None,
        custom_callbacks: Iterable[keras.callbacks.Callback] | None = None,
        no_augmentation_sources: Iterable[str] | None = None,
    ) -> keras.callbacks.History | None:
        """Train up to an epoch.

        train_dataset, val_dataset: prepared; val_dataset may be None.
        epochs: the epoch to reach, counted from the first `train` call or the loaded checkpoint.
        layers: "heads", "3+", "4+", "5+", "all", or a regex of layer names.
        augmentation: an imgaug augmenter, an albumentations transform, or a callable
            `(image, masks, rng) -> (image, masks)`.
        no_augmentation_sources: names of sources whose images are not augmented.

        Returns: Keras' history; None if the epoch has been reached already.
        """
        if self.mode != "training":
            raise ValueError(
                "train() needs a model in training mode. "
                f"Try {type(self).__name__}(mode='training', ...)."
            )
        run = self._run
        run.network, run.config = self.keras_model, self.config
        self.class_names = list(getattr(train_dataset, "class_names", [])) or self.class_names
        run.class_names = self.class_names
        adopt_skeleton(self.config, train_dataset)
        data = TrainingData(train_dataset, val_dataset, augmentation, no_augmentation_sources)
        stage = Stage(learning_rate, epochs, layers)
        return train(run, data, stage, self._make_inference_model, custom_callbacks)

    def _make_inference_model(self) -> DetectionModel:
        """Return a model of the same network in inference mode, for one image per batch."""
        config = copy.copy(self.config)
        config.GPU_COUNT = config.IMAGES_PER_GPU = config.BATCH_SIZE = 1
        return type(self)("inference", config, self.model_dir)

    # --- Other runtimes ---

    def export(
        self,
        path: str | os.PathLike,
        format: str,
        precision: str = "float32",
        size: Sequence[int] | None = None,
        batch: int | None = 1,
        images: Iterable[Any] = (),
        calibration: Dataset | Iterable[Any] = (),
    ) -> Report:
        """Write the network as a file of another runtime, if it detects there what `detect` does.

        The file takes `[B, H, W, C]` uint8 images that are not resized, and gives boxes in their
        pixels, class ids, scores, soft masks and counts. DETECTION_* are those of the config.
        A description is written to `path` + ".json".

        format: "saved_model", "onnx", "openvino" or "litert". All but the first need the extra
            [export].
        precision: of the kernels, "float32" or "float16"; "int8" needs `calibration`.
        size: `(height, width)` of the images; None for any size, if the resize mode is "square".
        batch: images at once; None for any number.
        images: arrays on which the file is compared with `detect`; default: generated shapes.
        calibration: arrays of images like those to detect in; or a prepared dataset, on which the
            file may lose at most 0.01 of average precision.

        Returns: the comparison; `print(report.text())` is a table.

        Raises: ValueError if the file detects something else; then it is not kept.
        """
        self._need_inference("export")
        from .export.exporting import export_model

        return export_model(self, path, format, precision, size, batch, images, calibration)

    # --- Looking inside ---

    def complexity(self, image_shape: Sequence[int] | None = None) -> Complexity:
        """Count the parameters, and the GFLOP of a detection in one image.

        image_shape: (height, width) of the network's input; default IMAGE_SHAPE.
        """
        self._need_inference("complexity")
        shape = list(self.config.IMAGE_SHAPE if image_shape is None else image_shape)
        return network_complexity(self.keras_model, shape)

    def summary_line(self, image_shape: Sequence[int] | None = None, repeats: int = 3) -> str:
        """Return a line about the network: parameters, GFLOP, milliseconds, peak memory.

        In training mode only the parameters.

        image_shape: (height, width) of an image to detect in; default IMAGE_SHAPE.
        repeats: detections of a black image, after a first one, of which the median time is given;
            0: none, and no time.
        """
        network = f"{self.network_name} with {_function_name(self.config.BACKBONE)}"
        parts = [f"{network}: {count_parameters(self.keras_model) / 1e6:,.2f} million parameters"]
        if self.mode == "inference":
            height, width = (self.config.IMAGE_SHAPE if image_shape is None else image_shape)[:2]
            image = np.zeros((height, width, self.config.IMAGE_CHANNEL_COUNT), np.uint8)
            inside = self.mold_images([image])[0].image.shape[:2]
            gflop = self.complexity(inside).gflop
            size = f"{height} x {width} pixels ({inside[0]} x {inside[1]} in the network)"
            parts.append(f"{gflop:,.1f} GFLOP for an image of {size}")
            if repeats:
                seconds = seconds_of_detection(self.detect, image, repeats)
                parts.append(f"{1000 * seconds:,.0f} ms")
            peak = peak_memory_mb()
            if peak is not None:
                parts.append(f"peak memory of the process {peak / 1000:,.1f} GB")
        return ", ".join(parts)

    def find_trainable_layer(self, layer: Any) -> Any:
        """Return the layer, or the layer that it wraps."""
        while hasattr(layer, "layer"):
            layer = layer.layer
        return layer

    def get_trainable_layers(self) -> list:
        """Return all layers that have weights."""
        layers = [self.find_trainable_layer(layer) for layer in self.keras_model.layers]
        return [layer for layer in layers if layer.get_weights()]


def _function_name(backbone: Any) -> str:
    return getattr(backbone, "__name__", str(backbone))


def _ensure_log_handler() -> None:
    """Print log lines on stderr, unless the program has set up logging itself."""
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(logging.INFO)


# --- Networks that Keras saves and loads whole ---


def network_from_config(mode: str, config: dict, custom_objects: dict | None) -> keras.Model:
    """Rebuild the network of a whole Keras file from what `Network.get_config` wrote there.

    Raises: ValueError if the backbone is a function of the user's that `custom_objects` lacks.
    """
    settings = Config.from_dict(config["config"])
    for setting in ("BACKBONE", "COMPUTE_BACKBONE_SHAPE"):
        value = getattr(settings, setting)
        if isinstance(value, str) and ":" in value:
            setattr(settings, setting, _registered_function(setting, value, custom_objects))
    model = model_class(settings)(mode, settings)
    model.class_names = config["class_names"]
    for layer in leaves(model.keras_model):
        layer.trainable = layer.name not in config["frozen"]
    return model.keras_model


def _registered_function(setting: str, value: str, custom_objects):
    """The function that a config calls `"module:name"`, by its name among the custom objects."""
    name = value.rpartition(":")[2]
    function = keras.saving.get_registered_object(name, custom_objects)
    if function is None:
        raise ValueError(
            f"A network with a {setting} function of your own cannot be rebuilt from its file "
            f"without that function. Received: {value}. "
            f'Try custom_objects={{"{name}": your function}}.'
        )
    return function
