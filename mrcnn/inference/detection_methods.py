"""`DetectionMethods`: matterport's methods of detection, which hand on to a `Detector`.

A model class inherits them, so that scripts written for matterport's `MaskRCNN` work with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import numpy as np

from ..config import Config
from .detector import AnchorCache, Detector
from .fuse_batch_norm import BatchNormFusedModel
from .image_inputs import OneImage, is_one_image
from .postprocessing import unmold_proposals
from .preprocessing import Molded
from .result import Result


class DetectionMethods:
    """Base of model classes. Subclasses set the attributes below and define `read_outputs`.

    mode: "training" or "inference". config: a `Config`. keras_model: the network.
    class_names: by class id, background first, or None.
    anchors: `[A, (y1, x1, y2, x2)]` the anchors of the last `get_anchors` in pixels.

    Any method may be replaced in a subclass or on an object: detection then uses it.
    """

    mode: str
    config: Config
    keras_model: Any
    class_names: list[str] | None
    anchors: np.ndarray
    read_outputs: Callable[[Any, Config], list]

    _anchors: AnchorCache
    _detector: Detector | None
    _detector_lock: threading.Lock
    _fused: BatchNormFusedModel | None  # the network that detects instead of keras_model

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        # Subclasses that repeat the body of matterport's __init__ do not call ours.
        model = super().__new__(cls)
        model.class_names = None
        model._anchors = AnchorCache()
        model._detector = None
        model._detector_lock = threading.Lock()
        model._fused = None
        return model

    @property
    def detector(self) -> Detector:
        """The `Detector` of `keras_model`, with the present config and class names."""
        with self._detector_lock:
            detector = self._detector
            if detector is None or detector.network is not self.keras_model:
                detector = Detector(
                    self.keras_model, self.config, read_outputs=type(self).read_outputs
                )
                self._detector = detector
            detector.config = self.config
            detector.class_names = self.class_names
            return detector

    def _need_inference(self, method: str) -> None:
        if self.mode != "inference":
            raise ValueError(
                f"{method}() needs a model in inference mode. "
                f"Try {type(self).__name__}(mode='inference', ...)."
            )

    # --- Detection ---

    @overload
    def detect(
        self, images: OneImage, verbose: int = 0, batch_size: int | None = None, masks: str = "full"
    ) -> Result: ...

    @overload  # one image or several
    def detect(
        self,
        images: np.ndarray,
        verbose: int = 0,
        batch_size: int | None = None,
        masks: str = "full",
    ) -> Any: ...

    @overload
    def detect(
        self,
        images: Iterable[Any],
        verbose: int = 0,
        batch_size: int | None = None,
        masks: str = "full",
    ) -> list[Result]: ...

    def detect(
        self, images: Any, verbose: int = 0, batch_size: int | None = None, masks: str = "full"
    ) -> Any:
        """Detect objects in images of any number and any sizes; with `Config.TTA` in several views.

        images: a list of images; or a generator of them, which is read at most one batch ahead of
            the network. An image is an array `[H, W, C]` uint8, the path of a file, or an image of
            Pillow. One image without a list gives its result without a list.
        verbose: 1 prints the inputs and the milliseconds of each step.
        batch_size: how many images the network sees at once, if they have the same molded size;
            default BATCH_SIZE.
        masks: "full", or a form that takes less memory, "crop" or "rle"; "soft" for probabilities.

        Returns: one `Result` per image: a dict, in pixels of the original image, best score first:
            rois: `[N, (y1, x1, y2, x2)]` int32, or float32 with CONTINUOUS_BOXES.
            class_ids: `[N]` int32. scores: `[N]` float32.
            masks: "full": `[H, W, N]` bool. "crop": a list of N `[h, w]` bool, each mask in the
            pixels that its roi touches. "rle": a list of N run-length codes as COCO stores them.
            "soft": a list of N `(y, x, probabilities [h, w])`, of the pixels from (y, x) on.
            Missing if USE_MASK is False.
            keypoints: `[N, K, (y, x, score)]` float32 with NUM_KEYPOINTS, in pixels counted from
            the corner of the image: the center of its first pixel is (0.5, 0.5). A score is a
            logit, which grows with the network's certainty.
            With RPN_ONLY only rois and scores (objectness) of the proposals.
        """
        self._need_inference("detect")
        if is_one_image(images, self.config.IMAGE_CHANNEL_COUNT):
            (result,) = self.detector.detect([images], verbose, batch_size, masks, steps=self)
            return result
        return self.detector.detect(images, verbose, batch_size, masks, steps=self)

    def detect_molded(self, molded_images: Any, image_metas: Any, verbose: int = 0) -> list[Result]:
        """Detect objects in images that are already molded; see `Detector.detect_molded`."""
        self._need_inference("detect_molded")
        return self.detector.detect_molded(molded_images, image_metas, verbose, steps=self)

    def detect_tiled(
        self, image: Any, tile: int | None = None, overlap: int | None = None, verbose: int = 0
    ) -> Result:
        """Detect objects in an image of any size, tile by tile; see `Detector.detect_tiled`."""
        self._need_inference("detect_tiled")
        return self.detector.detect_tiled(image, tile, overlap, verbose, steps=self)

    def optimize_for_inference(self) -> int:
        """Let `detect` use a copy of the network with batch norm fused into its convolutions.

        `keras_model`, and what is saved of it, stays as it is. `load_weights` fuses the new
        weights too; after any other change of weights call it again. Scores stay within 1e-4.

        Returns: the number of fused convolutions.
        """
        self._need_inference("optimize_for_inference")
        with self.detector.weights_lock.writing():
            fused = self._fused
            if fused is not None and fused.source is self.keras_model:
                fused.update_weights()
            else:
                fused = self._fused = BatchNormFusedModel(self.keras_model)
            self.detector.run_with(fused)
        return len(fused.convolutions)

    # --- The steps of a detection ---

    def mold_images(self, images: Sequence[Any], zoom: float = 1.0) -> list[Molded]:
        """Return one `Molded` per image; uses `mold_inputs` if that is replaced.

        zoom: see `Detector.mold_images`.
        """
        if getattr(self.mold_inputs, "__func__", None) is DetectionMethods.mold_inputs:
            return self.detector.mold_images(images, zoom)
        if zoom != 1:
            raise ValueError(
                "Scales of TTA need the mold_inputs of this package. "
                f"Received: {zoom}, and another mold_inputs. Try TTA = ('flip',)."
            )
        molded_images, metas, windows = self.mold_inputs(images)
        shapes = [np.shape(image) for image in images]
        rows = zip(molded_images, metas, windows, shapes, strict=True)
        return [Molded(*row) for row in rows]

    def mold_inputs(self, images: Sequence[Any]) -> tuple[Any, np.ndarray, np.ndarray]:
        """Return molded_images, image_metas and windows; see `Detector.mold_inputs`."""
        return self.detector.mold_inputs(images)

    def get_anchors(self, image_shape: Sequence[int]) -> np.ndarray:
        """`[A, (y1, x1, y2, x2)]` normalized anchors for a molded image of this shape; cached.

        `self.anchors` becomes the same anchors in pixels.
        """
        anchors = self._anchors.get(image_shape, self.config)
        self.anchors = anchors.pixels
        return anchors.normalized

    def predict(self, inputs: Sequence[Any]) -> list[np.ndarray]:
        """Run the network on a list of its inputs; see `Detector.predict`."""
        return self.detector.predict(inputs)

    def unmold_detections(
        self,
        detections: np.ndarray,
        mrcnn_mask: np.ndarray | None,
        original_image_shape: Sequence[int],
        image_shape: Sequence[int],
        window: Any,
        masks: str = "full",
    ) -> tuple:
        """Return one image's boxes, class_ids, scores and masks in its own pixels.

        See `postprocessing.unmold_detections`.
        """
        return self.detector.unmold_detections(
            detections, mrcnn_mask, original_image_shape, image_shape, window, masks
        )

    def unmold_proposals(
        self,
        proposals: np.ndarray,
        original_image_shape: Sequence[int],
        image_shape: Sequence[int],
        window: Any,
    ) -> dict[str, np.ndarray]:
        """One image's proposals in its pixels; see `postprocessing.unmold_proposals`."""
        shapes = (original_image_shape, image_shape, window)
        return unmold_proposals(proposals, *shapes, self.config.CONTINUOUS_BOXES)

    # --- Looking inside ---

    def heat_maps(self, image: Any) -> dict[str, np.ndarray]:
        """Name of a pyramid level -> `[H, W]` float32 in 0..1: what the network reacts to.

        See `Detector.heat_maps`.
        """
        self._need_inference("heat_maps")
        return self.detector.heat_maps(image, steps=self)

    def run_graph(
        self, images: Any, outputs: Iterable[tuple[str, Any]], image_metas: Any = None
    ) -> dict[str, np.ndarray]:
        """Return the values of any tensors of the network, by name; see `Detector.run_graph`."""
        self._need_inference("run_graph")
        return self.detector.run_graph(images, outputs, image_metas, steps=self)
