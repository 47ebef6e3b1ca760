"""Models in this package: their names, cards and settings."""

import pytest
from dots import CARD, write_dots

from mrcnn.config import Config
from mrcnn.weights import opening, shipped, transfer, zoo


@pytest.fixture
def dots(monkeypatch, tmp_path):
    """A folder of packaged weights that holds a model `dots`, a card and a file without a card."""
    folder = tmp_path / "packaged"
    folder.mkdir()
    write_dots(folder)
    monkeypatch.setattr(shipped, "PACKAGED", folder)
    return folder


def test_folder_without_cards_has_no_models(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "PACKAGED", tmp_path)
    assert shipped.shipped_models() == [] and shipped.shipped("dots") is None


def test_card_makes_a_file_a_model(dots):
    (model,) = shipped.shipped_models()
    assert (model.name, model.title, model.licence) == ("dots", "white dots", "CC0.")
    assert model.results == (0.5, 0.4, "3 images") and model.card == CARD


def test_name_opens_the_file_without_a_download(dots, monkeypatch):
    monkeypatch.setattr(zoo, "download", lambda *_, **__: pytest.fail("nothing may be downloaded"))
    assert zoo.weight_path("dots") == str(dots / "dots.h5")
    assert zoo.is_name("dots") and "dots" in zoo.names() and zoo.released("dots") is None
    assert opening.read_metadata("dots")["class_names"] == ["BG", "dot"]
    with pytest.raises(FileNotFoundError, match="Did you mean dots"):
        zoo.weight_path("dotz")


def test_existing_file_of_the_same_name_is_preferred(dots, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dots").touch()
    assert zoo.weight_path("dots") == "dots" and not zoo.is_name("dots")


def test_training_adopts_all_settings_but_name_and_classes_unless_chosen(dots):
    config = Config()
    config.NAME, config.NUM_CLASSES, config.RPN_CHANNELS = "mine", 4, 32
    config.TOP_DOWN_PYRAMID_SIZE = 64
    transfer.adopt_network(config, "dots", {"TOP_DOWN_PYRAMID_SIZE"})
    assert list(config.RPN_ANCHOR_SCALES[0]) == [8, 12]
    assert (config.NAME, config.NUM_CLASSES, config.TOP_DOWN_PYRAMID_SIZE) == ("mine", 4, 64)
    assert config.RPN_CHANNELS == 32  # the model's is the default: nothing to adopt


def test_other_backbone_is_refused_before_a_network_is_built(dots):
    config = Config()
    config.BACKBONE = "resnet50"
    with pytest.raises(ValueError, match="weights dots are of a resnet101.*BACKBONE=resnet50"):
        transfer.check_backbone(config, "dots")


def test_every_model_of_this_package_has_a_whole_card():
    for model in shipped.shipped_models():
        assert model.title and model.licence and model.weights.is_file()
        assert 0 < model.results.box_ap < 1 and model.metadata["class_names"][0] == "BG"
        for word in ("Data", "Command", "Limits", "Results", "Network"):
            assert f"\n## {word}\n" in model.card, (model.name, word)
