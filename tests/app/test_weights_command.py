"""`mrcnn weights`: the table, downloads, wrong names."""

import re

import pytest
from command_line import no_tensorflow, run
from dots import CARD, write_dots

from mrcnn.app import cli
from mrcnn.weights import shipped, zoo
from mrcnn.weights.zoo_table import RELEASED


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    no_tensorflow(monkeypatch)
    (tmp_path / "packaged").mkdir()
    monkeypatch.setattr(shipped, "PACKAGED", tmp_path / "packaged")
    return tmp_path / "models"


def test_table_has_a_row_for_each_name_and_says_what_is_cached(cache, capsys):
    cache.mkdir()
    (cache / "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth").touch()
    assert run("weights") == cli.OK
    lines = capsys.readouterr().out.splitlines()
    columns = [re.split(r"\s{2,}", line) for line in lines[: 1 + len(RELEASED)]]
    assert columns[0] == ["name", "classes", "box AP", "mask AP", "size", "in the cache"]
    assert [row[0] for row in columns[1:]] == [row.name for row in RELEASED]
    assert columns[2][1:] == ["80", "0.379", "0.346", "178 MB", "yes"]
    assert columns[4][1:] == ["80", "0.370", "-", "168 MB", "no"]
    assert f"    file: {cache / 'mask_rcnn_coco.h5'}" in lines


def test_models_of_the_package_come_first(cache, capsys):
    write_dots(shipped.PACKAGED)
    assert run("weights") == cli.OK
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", lines[1])[:4] == ["dots", "1", "0.500", "0.400"]
    assert lines[1].endswith("in the package") and lines[2].startswith(RELEASED[0].name)
    assert f"    file: {shipped.PACKAGED / 'dots.h5'}" in lines


def test_card_of_a_model_is_printed(cache, capsys):
    write_dots(shipped.PACKAGED)
    assert run("weights", "dots") == cli.OK
    assert capsys.readouterr().out == f"{CARD}\n{shipped.PACKAGED / 'dots.h5'}\n"
    assert run("weights", "dotz") == cli.USAGE
    assert "Try dots" in capsys.readouterr().err


def test_names_are_downloaded_and_their_paths_printed(cache, capsys, monkeypatch):
    monkeypatch.setattr(zoo, "download", lambda url, path, **checks: path)
    assert run("weights", "coco", "mask_rcnn_R_50_FPN_3x") == cli.OK
    paths = [str(cache / name) for name in ("mask_rcnn_coco.h5", "model_final_f10217.pkl")]
    assert capsys.readouterr().out.splitlines() == paths


def test_wrong_name_is_refused_before_a_download(cache, capsys, monkeypatch):
    monkeypatch.setattr(zoo, "download", lambda *_, **__: pytest.fail("nothing may be downloaded"))
    assert run("weights", "coco", "mask_rcnn_R_50_FPN") == cli.USAGE
    assert "Try mask_rcnn_R_50_FPN_3x" in capsys.readouterr().err
