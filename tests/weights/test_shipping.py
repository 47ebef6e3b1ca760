"""From a checkpoint to a model in this package."""

import json

import h5py
import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.weights import shipping
from mrcnn.weights.saving import write_layers
from mrcnn.weights.shipped import Shipped
from mrcnn.weights.weight_file import METADATA, WeightFile

CARD = "# dots: white dots\n\nLicence: CC0.\n\n## Data\n\nDrawn.\n"


def write_checkpoint(path, kernel, with_metadata=True):
    config = Config()
    config.NAME, config.NUM_CLASSES, config.SEED, config.STEPS_PER_EPOCH = "run", 2, 7, 5
    config.TOP_DOWN_PYRAMID_SIZE = 48
    with h5py.File(path, "w") as file:
        write_layers(file, {"conv1": {"conv1/kernel:0": np.asarray(kernel, np.float32)}, "add": {}})
        if with_metadata:
            description = {"config": config.to_dict(), "class_names": ["BG", "dot"]}
            file.attrs[METADATA] = json.dumps(description)


def write_metrics(path, **changes):
    ap = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl"), 0.51234)
    metrics = {
        "data": "/home/me/nuclei/val", "weights": "/tmp/dots.h5", "images": 3, "objects": 12,
        "partial_of": None, "failed": [], "min_confidence": 0.05, "box": ap, "mask": ap,
        "kaggle_score": 0.4, "per_class": [{"name": "dot"}],
    }  # fmt: skip
    path.write_text(json.dumps({**metrics, **changes}))


@pytest.fixture
def packed(tmp_path):
    """A packed model, the metrics of it, and a card."""
    write_checkpoint(tmp_path / "mask_rcnn_run_0003.h5", [[1 / 3, 70.0]])
    shipping.pack(tmp_path / "mask_rcnn_run_0003.h5", tmp_path / "dots.h5")
    write_metrics(tmp_path / "metrics.json")
    (tmp_path / "card.md").write_text(CARD)
    (tmp_path / "package").mkdir()
    return tmp_path


def ship(folder):
    card = folder / "card.md"
    return shipping.ship(folder / "dots.h5", folder / "metrics.json", card, folder / "package")


def test_packed_file_has_float16_numbers_and_the_settings_of_its_use(packed):
    with WeightFile(packed / "dots.h5") as file:
        settings = file.metadata["config"]
        ((name, stored),) = file.layers["conv1"]
        np.testing.assert_array_equal(file.read(stored, "float16"), np.float16([[1 / 3, 70.0]]))
        np.testing.assert_allclose(file.read(stored, "float32"), [[1 / 3, 70.0]], rtol=2**-11)
    assert name == "conv1/kernel:0" and settings["NAME"] == "dots"
    assert settings["TOP_DOWN_PYRAMID_SIZE"] == 48 and not set(shipping.OF_RUN) & set(settings)
    with h5py.File(packed / "dots.h5") as file:
        assert file["conv1/conv1/kernel:0"].dtype == np.float16


def test_settings_of_the_command_line_replace_those_of_the_training(packed, capsys):
    words = ["DETECTION_NMS=gaussian", 'TTA=["flip"]', "IMAGE_MIN_SCALE=2"]
    checkpoint = str(packed / "mask_rcnn_run_0003.h5")
    shipping.main(["pack", checkpoint, str(packed / "dots.h5"), *words])
    with WeightFile(packed / "dots.h5") as file:
        config = file.metadata["config"]
    assert (config["DETECTION_NMS"], config["TTA"], config["IMAGE_MIN_SCALE"]) == (
        "gaussian",
        ["flip"],
        2,
    )
    with pytest.raises(ValueError, match="DETECTION_NMS must be"):
        shipping.main(["pack", checkpoint, str(packed / "dots.h5"), "DETECTION_NMS=none"])


@pytest.mark.parametrize(
    ("kernel", "with_metadata", "message"),
    [
        ([[70_000.0]], True, "must fit into float16.*conv1/kernel:0"),
        ([[1.0]], False, "needs the config and the class names"),
    ],
)
def test_checkpoint_that_cannot_be_packed_leaves_no_file(tmp_path, kernel, with_metadata, message):
    write_checkpoint(tmp_path / "run.h5", kernel, with_metadata)
    with pytest.raises(ValueError, match=message):
        shipping.pack(tmp_path / "run.h5", tmp_path / "dots.h5")
    assert [file.name for file in tmp_path.iterdir()] == ["run.h5"]


def test_shipped_model_has_its_card_and_results(packed):
    ship(packed)
    model = Shipped("dots", packed / "package" / "dots.h5", packed / "package" / "dots.md")
    assert model.results == (0.512, 0.512, "3 images of nuclei/val, 12 objects")
    assert (model.title, model.licence) == ("white dots", "CC0.")
    assert "| mask | 0.512 | 0.512" in model.card and "Bowl: 0.400." in model.card
    assert "2 numbers in float16" in model.card and "/home/me" not in model.card
    assert model.settings == {"TOP_DOWN_PYRAMID_SIZE": 48}


def test_size_that_no_object_has_is_none_in_the_card(packed):
    ap = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm"), 0.5)
    write_metrics(packed / "metrics.json", box={**ap, "APl": None})
    ship(packed)
    card = (packed / "package" / "dots.md").read_text()
    assert "| box | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 | none |" in card


@pytest.mark.parametrize("changes", [{"weights": "other.h5"}, {"partial_of": 9}, {"failed": [1]}])
def test_results_of_another_file_or_of_a_part_are_refused(packed, changes):
    write_metrics(packed / "metrics.json", **changes)
    with pytest.raises(ValueError, match="results must be those of the packed file"):
        ship(packed)
    assert list((packed / "package").iterdir()) == []


@pytest.mark.parametrize("card", ["# spots: white\n\nLicence: CC0.\n", "# dots: white dots\n"])
def test_card_without_title_or_licence_is_refused(packed, card):
    (packed / "card.md").write_text(card)
    with pytest.raises(ValueError, match="A card must begin with '# dots: '"):
        ship(packed)


def test_model_that_is_too_large_is_refused(packed, monkeypatch):
    monkeypatch.setattr(shipping, "LARGEST_FILE", 100)
    with pytest.raises(ValueError, match="must have at most 100 bytes"):
        ship(packed)


def test_package_that_would_be_too_large_is_refused_but_not_for_the_file_it_replaces(
    packed, monkeypatch
):
    ship(packed)
    size = (packed / "package" / "dots.h5").stat().st_size
    monkeypatch.setattr(shipping, "LARGEST_FOLDER", size + 50_000)  # the card has less
    ship(packed)
    (packed / "package" / "other.h5").write_bytes(bytes(100_000))
    with pytest.raises(ValueError, match="bytes together"):
        ship(packed)
