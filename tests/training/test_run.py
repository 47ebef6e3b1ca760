"""Log folders and checkpoint paths of runs."""

import datetime
import os

import pytest
from tiny import TinyConfig, shake
from tiny_training import build

from mrcnn.model import MaskRCNN
from mrcnn.training import run as training_run

pytestmark = pytest.mark.usefixtures("eagerly")


def test_find_last_names_the_folder_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        build(tmp_path).find_last()
    (tmp_path / "tiny20240101T0000").mkdir()
    with pytest.raises(FileNotFoundError, match="1 training of .*, none with a checkpoint"):
        build(tmp_path).find_last()


def test_index_into_find_last_is_explained(tmp_path, dataset):
    """Scripts of 2017 write find_last()[1]."""
    model = build(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"find_last\(\) instead of find_last\(\)\[1\]"):
        model.load_weights("/logs/tiny20240101T0000/mask_rcnn_tiny_0001.h5"[1], by_name=True)


def test_runs_of_one_minute_get_separate_folders(tmp_path, dataset, monkeypatch):
    """Named in one process before either trains; and two processes that took one name."""

    class Minute(datetime.datetime):
        @classmethod
        def now(cls):
            return cls(2026, 1, 1, 12, 30)

    monkeypatch.setattr(training_run.datetime, "datetime", Minute)

    def named():
        return shake(MaskRCNN("training", TinyConfig(STEPS_PER_EPOCH=1), tmp_path))

    first, second = named(), named()
    assert [os.path.basename(model.log_dir) for model in (first, second)] == [
        "tiny20260101T1230",
        "tiny20260101T1230_2",
    ]
    assert second.checkpoint_path == f"{second.log_dir}/mask_rcnn_tiny_{{epoch:04d}}.h5"
    first.set_log_dir()
    assert first.log_dir.endswith("T1230")  # a name that is its own and unused is kept
    assert MaskRCNN("inference", TinyConfig(), tmp_path).log_dir.endswith(
        "T1230"
    )  # does not write there

    os.makedirs(second.log_dir)  # by another process, after the name was taken
    for model, folder in ((second, "tiny20260101T1230_3"), (first, "tiny20260101T1230")):
        model.train(dataset, None, 0.001, 1, "heads")
        assert sorted(os.listdir(tmp_path / folder))[:2] == ["losses.csv", "mask_rcnn_tiny_0001.h5"]
    first.train(dataset, None, 0.001, 2, "heads")  # the next stage of a run stays
    assert os.path.isfile(tmp_path / "tiny20260101T1230" / "mask_rcnn_tiny_0002.h5")
    resumed = named()
    resumed.load_weights(tmp_path / "tiny20260101T1230_3" / "mask_rcnn_tiny_0001.h5")
    assert (resumed.epoch, resumed.log_dir) == (1, str(tmp_path / "tiny20260101T1230_3"))
    resumed.train(dataset, None, 0.001, 2, "heads")
    assert os.path.isfile(tmp_path / "tiny20260101T1230_3" / "mask_rcnn_tiny_0002.h5")


def test_folder_set_by_the_user_is_kept(tmp_path, dataset):
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    model.log_dir = str(tmp_path / "mine")
    os.makedirs(model.log_dir)
    model.checkpoint_path = os.path.join(model.log_dir, "mask_rcnn_tiny_{epoch:04d}.h5")
    model.train(dataset, None, 0.001, 1, "heads")
    assert os.path.isfile(tmp_path / "mine" / "mask_rcnn_tiny_0001.h5")


@pytest.mark.parametrize(
    "path, epoch",
    [
        ("/logs/coco20171029T2315_2/mask_rcnn_coco_0003.h5", 3),
        ("/path/to/logs/coco20171029T2315/mask_rcnn_coco_0001.h5", 1),
        ("logs/balloon20180801T0917/mask_rcnn_balloon_0030.h5", 30),
        (r"C:\logs\shapes20200101T0000\mask_rcnn_shapes_0123.h5", 123),
        ("/logs/my-data_220200101T0000/mask_rcnn_my-data_2_0007.h5", 7),
        ("/logs/coco20171029T2315/mask_rcnn_coco_12345.h5", 12345),
        ("/weights/mask_rcnn_coco.h5", 0),
        ("/weights/mask_rcnn_balloon_0030.h5", 0),
        (None, 0),
    ],
)
def test_checkpoint_path_gives_the_epoch(tmp_path, path, epoch):
    model = MaskRCNN.__new__(MaskRCNN)
    model.mode, model.config, model.model_dir = "training", TinyConfig(), str(tmp_path)
    model.set_log_dir(path)
    assert model.epoch == epoch
    if epoch:
        assert model.log_dir == os.path.dirname(path.replace("\\", "/")) or "\\" in path
    else:
        assert model.log_dir.startswith(str(tmp_path / "tiny"))
