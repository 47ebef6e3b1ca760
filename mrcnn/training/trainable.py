"""Which layers are trainable: the choices "heads", "5+", "4+", "3+", "all", or a regex."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import keras

from ..config import Config
from ..nn.backbones import BACKBONES

log = logging.getLogger("mrcnn")

HEADS = r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)|(retinanet\_.*)|(fcos\_.*)"


def layer_regex(layers: str) -> str:
    """Return the regex of layer names for "heads", "5+", "4+", "3+" or "all".

    Any other string is a regex already and is returned as it is.
    """
    if layers == "all":
        return ".*"
    if layers == "heads":
        return HEADS
    if re.fullmatch(r"[345]\+", layers):
        return f"{_stage_regex(layers[0])}|{HEADS}"
    return layers


def _stage_regex(first: str) -> str:
    """Return the regex of the layers of every backbone's stages from `first` ("3", "4", "5") on."""
    regexes = []
    for backbone in BACKBONES.values():
        regexes += [regex for stage, regex in backbone.stages.items() if stage >= first]
    return "|".join(dict.fromkeys(regexes))


def set_trainable(network: keras.Model, regex: str, config: Config, verbose: int = 1) -> list[str]:
    """Make exactly the layers trainable whose names match the regex.

    Batch-norm layers of keras.applications stay frozen while TRAIN_BN is False.

    verbose: 0 is silent, 1 logs the number of layers, 2 their names as well.

    Returns: the names of the trainable layers that have weights.
    Raises: ValueError if no layer matches.
    """
    trainable, frozen = [], 0
    for layer in leaves(network):
        layer.trainable = bool(re.fullmatch(regex, layer.name))
        if layer.trainable and config.TRAIN_BN is False and _is_plain_batch_norm(layer):
            layer.trainable = False
            frozen += 1
        if layer.trainable and layer.weights:
            trainable.append(layer)
    if not trainable:
        raise ValueError(
            "layers must be 'heads', '3+', '4+', '5+', 'all' or a regex that matches a layer. "
            f"Received: {regex!r}, which matches no layer. Try 'heads'."
        )
    if verbose:
        _log_trainable(network, trainable, frozen, verbose)
    return [layer.name for layer in trainable]


def leaves(network: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yield the layers of the network and of the models in it.

    The models themselves become trainable, so that each of their layers decides for itself.
    """
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            layer.trainable = True
            yield from leaves(layer)
        else:
            yield layer


def _is_plain_batch_norm(layer) -> bool:
    """Whether the layer is Keras' own batch norm, not ours with its `train_bn`."""
    is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
    return is_batch_norm and not hasattr(layer, "train_bn")


def _log_trainable(network, trainable, frozen, verbose) -> None:
    if verbose > 1:
        for layer in trainable:
            log.info("%-30s (%s)", layer.name, type(layer).__name__)
    note = ""
    if frozen:
        note = f"; {frozen} batch-norm layers of the backbone stay frozen because TRAIN_BN is False"
    count = sum(bool(layer.weights) for layer in leaves(network))
    log.info("Training %d of %d layers with weights%s", len(trainable), count, note)
