"""Checkpoints are found by their names."""

import pytest

from mrcnn.config import NETWORKS
from mrcnn.weights.checkpoints import last_checkpoint, last_of_run


@pytest.mark.parametrize(
    ("files", "last"),
    [
        (["a20260101T0000/mask_rcnn_a_9999.h5", "a20260101T0000/mask_rcnn_a_10000.h5"], 1),
        (["a20260101T0000/mask_rcnn_a_0005.h5", "a20260101T0000/mask_rcnn_b_0009.h5"], 0),
        (["a20260101T0000/mask_rcnn_a_0005.h5", "a20260101T0000/mask_rcnn_a_0006_copy.h5"], 0),
        (["a20260101T0000/mask_rcnn_a_0005.h5", "a20260101T0000/mask_rcnn_a_0006.json"], 0),
        (["a20260102T0000/mask_rcnn_a_0005.h5", "a20260102T0000_old/mask_rcnn_a_0006.h5"], 0),
        (["a20260102T0000/mask_rcnn_a_0005.h5", "a20260102T0000_2/mask_rcnn_a_0001.h5"], 1),
        (["a20260102T0000_10/mask_rcnn_a_0001.h5", "a20260102T0000_9/mask_rcnn_a_0001.h5"], 0),
        (["a20260102T0001/mask_rcnn_a_0001.h5", "a20260102T0000_2/mask_rcnn_a_0002.h5"], 0),
        (["a20260102T0000/mask_rcnn_a_0001.h5", "a20260103T0000/best.h5"], 0),
        (["a20260102T0000/mask_rcnn_a_0001.h5", "a_b20260103T0000/mask_rcnn_a_b_0001.h5"], 0),
    ],
)
def test_last_checkpoint_has_the_highest_epoch_of_the_newest_run(files, last, tmp_path):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert last_checkpoint(tmp_path, "A") == str(tmp_path / files[last])


def test_checkpoints_of_other_networks_do_not_count(tmp_path):
    """Two networks trained on the same data write to one folder; RetinaNet came last."""
    files = {}
    for day, network in enumerate(NETWORKS[:2], start=1):
        file = tmp_path / f"a2026010{day}T0000" / f"{network}_a_0001.h5"
        file.parent.mkdir()
        file.touch()
        files[network] = str(file)
    assert last_checkpoint(tmp_path, "a") == files["retinanet"]
    for network, file in files.items():
        assert last_checkpoint(tmp_path, "a", [network]) == file
    with pytest.raises(FileNotFoundError, match="fcos_a_<epoch>.h5. Received: 2 trainings"):
        last_checkpoint(tmp_path, "a", ["fcos"])


def test_last_of_run(tmp_path):
    run = tmp_path / "a_b20260101T0000_2"
    assert last_of_run(run) is None  # not there yet
    run.mkdir()
    assert last_of_run(run) is None
    for name in ("mask_rcnn_a_b_0001.h5", "fcos_a_b_0010.h5", "mask_rcnn_a_0011.h5", "best.h5"):
        (run / name).touch()
    assert last_of_run(run) == run / "fcos_a_b_0010.h5"
    assert last_of_run(tmp_path) is None  # not the folder of a run
