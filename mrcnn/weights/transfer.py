"""What weights bring to a training on other data: the settings of their network, known classes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Sequence
from typing import Any

from .. import presets
from ..config import Config
from .opening import read_metadata
from .shipped import shipped
from .zoo import is_name, released
from .zoo_table import RELEASED

logger = logging.getLogger("mrcnn")

# Which keypoints there are, the data says.
_OF_DATA = ("NUM_KEYPOINTS", "KEYPOINT_NAMES", "KEYPOINT_SKELETON")


def adopt_network(config: Config, weights: str, chosen: Collection[str]) -> None:
    """Give a config the settings of the network that weights are of.

    config: changed in place.
    weights: a name of released weights, or a file.
    chosen: settings that stay as they are, except a BACKBONE that only the config's class sets.
        A BACKBONE function of the user's stays too, because a file has only its name.
    """
    adopted = []
    for name, value in network_settings(weights).items():
        if name == "BACKBONE" and isinstance(value, str) and ":" in value:
            continue
        if name not in chosen or (name == "BACKBONE" and name not in vars(config)):
            setattr(config, name, copy.copy(value))
            adopted.append(name)
    if adopted:
        logger.info("%d settings are those of the network of %s.", len(adopted), weights)


def network_settings(weights: str) -> dict[str, Any]:
    """Return the settings of a network with a preset; nothing for weights of matterport's network.

    Of a model of this package all of its settings.

    weights: as for `adopt_network`; a name is not downloaded.
    """
    model = shipped(weights)
    if model is not None:
        return model.settings
    row = released(weights)
    if row is not None:
        settings = row.network_settings
        return {name: value for name, value in settings.items() if name not in _OF_DATA}
    values = (read_metadata(weights) or {}).get("config", {})
    network = values.get("NETWORK", Config.NETWORK)
    is_matterport = values.get("PROPOSAL_SELECTION") != "per_level"
    if network not in presets.OF_NETWORK or (network == Config.NETWORK and is_matterport):
        return {}
    config = Config.from_dict(values)
    names = {name for preset in presets.OF_NETWORK[network] for name in preset}
    names |= {"USE_MASK", "CASCADE_IOUS", "ROI_POSITIVE_IOU"}
    return {name: getattr(config, name) for name in sorted(names)}


def check_network(config: Config, weights: str, chosen: Collection[str]) -> None:
    """Compare a chosen NETWORK with weights that have a name, before they are downloaded.

    config, chosen: as for `adopt_network`.

    Raises:
        ValueError: the weights are of another network.
    """
    if "NETWORK" not in chosen or not is_name(weights):
        return
    network = network_settings(weights).get("NETWORK", Config.NETWORK)
    received = config.NETWORK
    rows = {row.network_settings.get("NETWORK", Config.NETWORK): row for row in reversed(RELEASED)}
    if network != received and received in rows:  # Config.validate reports unknown networks
        raise ValueError(
            f"The weights {weights} need the network {network}. "
            f"Received: {received}, by --network or --config. "
            f"Try --weights {rows[received].name}, or leave out the network."
        )


def check_backbone(config: Config, weights: str) -> None:
    """Compare a config with weights that have a name, before they are downloaded.

    config: before or after `adopt_network`.

    Raises:
        ValueError: the weights are of another backbone.
    """
    if not is_name(weights):
        return
    settings = network_settings(weights)
    backbone = settings.get("BACKBONE", Config.BACKBONE)
    will_be_adopted = "BACKBONE" in settings and "BACKBONE" not in vars(config)
    if backbone != config.BACKBONE and not will_be_adopted:
        raise ValueError(
            f"The weights {weights} are of a {_name(backbone)}. "
            f"Received: BACKBONE={_name(config.BACKBONE)}. "
            "Try --weights imagenet, or leave out BACKBONE and PRESET."
        )


def _name(backbone: Any) -> str:
    return getattr(backbone, "__name__", backbone)


def kept_classes(weights: str, class_names: Sequence[str]) -> dict[str, int]:
    """Return class name in the weights -> class id in the data, for the classes that both have.

    Upper and lower case are the same.

    weights: as for `adopt_network`.
    class_names: of the data, background first.

    Raises:
        ValueError: the weights have no class names, or none of the data's.
    """
    row = released(weights)
    if row is not None:
        names = row.class_names
    else:
        names = (read_metadata(weights) or {}).get("class_names") or []
    if not names:
        raise ValueError(
            f"--keep-classes needs weights with class names. Received: {weights}, which has none. "
            "Try to leave out --keep-classes, or in Python mrcnn.weights.loading.load_weights("
            "model.keras_model, FILE, remap_classes={NAME: ID}, class_names=['BG', ...])."
        )
    known = {name.casefold(): name for name in names[1:]}
    kept = {}
    for class_id, name in enumerate(class_names):
        if class_id > 0 and name.casefold() in known:
            kept[known[name.casefold()]] = class_id
    if not kept:
        raise ValueError(
            "To keep classes, the weights and the data must have classes of the same name. "
            f"Received: {weights} with {', '.join(names[1:6])} ..., "
            f"data with {', '.join(class_names[1:6])}. "
            "Try to name the classes as the weights do, or to leave out --keep-classes."
        )
    return kept
