"""Scripts written for matterport's package, run with their arguments and without mocks."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import skimage.io
from coco_style import CocoConfig
from matplotlib import image as picture_file
from tiny import Squares, TinyConfig, noise_images, shake

import mrcnn.model as modellib
from mrcnn.model import MaskRCNN
from mrcnn.weights.saving import save_weights

pytestmark = pytest.mark.usefixtures("eagerly")
HERE = Path(__file__).parent
COCO_IDS = [
    i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
]  # COCO's 80 ids have gaps


@pytest.fixture
def run(monkeypatch):
    """`run("balloon.py", "train", "--logs=...")`: runs the script; returns its global variables."""

    def run_script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        np.random.seed(0)
        keras.utils.set_random_seed(0)
        return runpy.run_path(str(HERE / name), run_name="__main__")

    yield run_script
    plt.close("all")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compat")


@pytest.fixture(scope="session")
def coco_file(folder):
    """A stand-in for mask_rcnn_coco.h5: 81 classes, random weights, no config inside."""
    config = CocoConfig()
    model = MaskRCNN("inference", config, str(folder))
    rng = np.random.default_rng(0)
    scales = {"conv1": 0.02, "rpn_bbox_pred": 0.02, "mrcnn_bbox_fc": 0.3}
    for weight in model.keras_model.weights:
        layer, kind = weight.path.split("/")[-2:]
        if kind == "kernel":
            spread = scales.get(layer, 1.4) / np.sqrt(np.prod(weight.shape[:-1]))
            weight.assign(rng.normal(0, spread, weight.shape))
    return save_weights(model.keras_model, folder / "mask_rcnn_coco.h5")


def noise(seed, height, width, channels=3):
    return np.random.default_rng(seed).integers(0, 255, (height, width, channels), dtype=np.uint8)


@pytest.fixture(scope="session")
def via_folder(folder):
    """Two subsets of images; VIA 1 wrote `regions` as a dict, VIA 2 as a list; one is empty."""
    for subset in ("train", "val"):
        place = folder / "balloon" / subset
        place.mkdir(parents=True)
        entries = {}
        for i, (height, width) in enumerate([(50, 60), (64, 40), (40, 40)]):
            shape = {"name": "polygon", "all_points_x": [5, 30, 20], "all_points_y": [6, 10, 35]}
            region = {"shape_attributes": shape, "region_attributes": {}}
            regions = [{"0": region, "1": region}, [region], {}][i]
            skimage.io.imsave(place / f"{i}.png", noise(i, height, width))
            entries[f"{i}.png1"] = {
                "filename": f"{i}.png",
                "size": 1,
                "regions": regions,
                "file_attributes": {},
            }
        (place / "via_region_data.json").write_text(json.dumps(entries))
    return folder / "balloon"


@pytest.fixture(scope="session")
def nuclei_folder(folder):
    place = folder / "nuclei"
    for i in range(4):
        for kind in ("images", "masks"):
            (place / f"cells_{i}" / kind).mkdir(parents=True)
        skimage.io.imsave(
            place / f"cells_{i}" / "images" / f"cells_{i}.png", noise(i, 40 + 8 * i, 48, 4)
        )
        for j in range(3):
            mask = np.zeros((40 + 8 * i, 48), np.uint8)
            mask[4 + 12 * j : 14 + 12 * j, 8:36] = 255
            skimage.io.imsave(
                place / f"cells_{i}" / "masks" / f"{j}.png", mask, check_contrast=False
            )
    return place


@pytest.fixture(scope="session")
def coco_folder(folder):
    """Three images, 80 categories, polygons and one crowd."""
    place = folder / "coco"
    place.mkdir()
    height, width = 48, 64
    images, annotations = [], []
    crowd = np.zeros((height, width), np.uint8)
    crowd[30:46, 2:20] = 1
    counts = [
        len(run) for run in np.split(crowd.T.ravel(), np.flatnonzero(np.diff(crowd.T.ravel())) + 1)
    ]
    for i in (1, 2, 3):
        skimage.io.imsave(place / f"{i}.png", noise(i, height, width))
        images.append({"id": 100 + i, "file_name": f"{i}.png", "height": height, "width": width})
        for j, category in enumerate(COCO_IDS[i::30]):
            x, y = 4 + 14 * j, 3 + 4 * j
            polygon = [x, y, x + 24, y, x + 24, y + 22, x, y + 22]
            annotations.append(
                {
                    "image_id": 100 + i,
                    "category_id": category,
                    "segmentation": [polygon],
                    "iscrowd": 0,
                }
            )
    rle = {"size": [height, width], "counts": counts}
    annotations.append({"image_id": 101, "category_id": 90, "segmentation": rle, "iscrowd": 1})
    for i, annotation in enumerate(annotations):
        annotation |= {"id": i + 1, "area": 500.0, "bbox": [0, 0, 24, 22]}
    categories = [{"id": i, "name": f"thing {i}"} for i in COCO_IDS]
    (place / "instances.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return place


def assert_result(result, height, width):
    count = len(result["rois"])
    assert count > 0
    assert result["rois"].shape == (count, 4) and result["rois"].dtype == np.int32
    assert result["class_ids"].shape == result["scores"].shape == (count,)
    assert result["masks"].shape == (height, width, count) and result["masks"].dtype == bool


def test_balloon(run, compiled, via_folder, coco_file, folder, tmp_path, capsys):
    logs = folder / "balloon_logs"
    trained = run(
        "balloon.py", "train", f"--dataset={via_folder}", f"--weights={coco_file}", f"--logs={logs}"
    )
    out = capsys.readouterr().out
    assert "NUM_CLASSES" in out and "Training network heads" in out
    (checkpoint,) = logs.glob("balloon*/mask_rcnn_balloon_0001.h5")
    assert trained["model"].epoch == 1

    image, splash = via_folder / "val" / "0.png", tmp_path / "splash.png"
    applied = run(
        "balloon.py",
        "splash",
        "--weights=last",
        f"--image={image}",
        f"--logs={logs}",
        f"--out={splash}",
    )
    assert applied["weights_path"] == str(checkpoint)
    original, painted = skimage.io.imread(image), skimage.io.imread(splash)
    assert painted.shape == original.shape
    grey = (painted[..., 0] == painted[..., 1]) & (painted[..., 1] == painted[..., 2])
    np.testing.assert_array_equal(painted[~grey], original[~grey])


def test_nuclei(run, nuclei_folder, coco_file, tmp_path):
    logs, results = tmp_path / "logs", tmp_path / "results"
    trained = run(
        "nuclei.py",
        "train",
        f"--dataset={nuclei_folder}",
        f"--weights={coco_file}",
        f"--logs={logs}",
    )
    assert trained["model"].epoch == 2
    run(
        "nuclei.py",
        "detect",
        f"--dataset={nuclei_folder}",
        "--weights=last",
        f"--logs={logs}",
        f"--results={results}",
    )
    header, *lines = (results / "submit.csv").read_text().splitlines()
    assert header == "ImageId,EncodedPixels"
    assert {line.split(",")[0] for line in lines} == {f"cells_{i}" for i in range(4)}
    for line in lines:  # the runs lie inside their image, and do not overlap
        name, code = line.split(",")
        starts, lengths = np.array(code.split(), int).reshape(-1, 2).T
        assert np.all(starts[1:] > starts[:-1] + lengths[:-1] - 1)
        assert np.all(starts >= 1) and np.all(starts + lengths - 1 <= (40 + 8 * int(name[-1])) * 48)
    assert [picture_file.imread(results / f"cells_{i}.png").ndim for i in range(4)] == [3] * 4


def test_one_and_four_channels(run, coco_file):
    found = run("channels.py", coco_file)
    assert found["image"].shape == (64, 64, 1)
    assert found["mask"].dtype == bool and found["class_ids"].tolist() == [1]
    assert found["xray"].keras_model.get_layer("conv1").get_weights()[0].shape == (3, 3, 1, 24)
    assert_result(found["xray_result"], 50, 60)
    assert_result(found["rgbd_result"], 64, 64)
    # The depth filters are zeros, so that the detections are those of the RGB network.
    for key in ("rois", "class_ids", "masks"):
        np.testing.assert_array_equal(found["rgbd_result"][key], found["rgb_result"][key])


def test_configs(run, capsys):
    found = run("configs.py")
    early, inference, silent = found["early"], found["inference_config"], found["silent"]
    assert (early.NUM_CLASSES, early.BATCH_SIZE, early.IMAGE_SHAPE.tolist()) == (
        4,
        2,
        [128, 128, 3],
    )
    assert early.IMAGE_META_SIZE == 12 + 4
    assert (inference.NUM_CLASSES, inference.BATCH_SIZE, inference.DETECTION_MIN_CONFIDENCE) == (
        4,
        1,
        0.5,
    )
    assert (silent.BATCH_SIZE, silent.IMAGE_META_SIZE) == (1, 17)
    assert "names.txt" in capsys.readouterr().out
    assert_result(found["many"], 40, 60)
    sure = found["many"]["scores"] >= 0.99
    assert sure.sum() < len(sure)
    np.testing.assert_array_equal(found["few"]["rois"], found["many"]["rois"][sure])
    np.testing.assert_array_equal(found["again"]["rois"], found["many"]["rois"])


def test_three_stages(run, coco_file, tmp_path, caplog):
    found = run("shapes.py", tmp_path, coco_file)
    watch = found["Watch"]
    assert watch.epochs == [0, 1, 2]
    assert all(np.isfinite(list(losses.values())).all() for losses in watch.losses)
    assert {"loss", "val_loss", "rpn_class_loss", "val_mrcnn_mask_loss"} <= set(watch.losses[0])

    def changed(layers, name, part=0):
        return not np.array_equal(
            found["before"][layers][name][part], found["after"][layers][name][part]
        )

    moved = {
        layers: [
            changed(layers, name) for name in ("conv1", "res4w_branch2b", "mrcnn_class_logits")
        ]
        for layers in ("heads", "4+", "all")
    }
    assert moved == {
        "heads": [False, False, True],
        "4+": [False, True, True],
        "all": [True, True, True],
    }
    # TRAIN_BN = False, passed to the layers by the backbone's call as in matterport's: gamma (0) is
    # trained, moving mean (2) and variance (3) stay.
    assert [changed("all", "bn_conv1", part) for part in (0, 2, 3)] == [True, False, False]

    assert (tmp_path / "mask_rcnn_shapes.h5").is_file()
    names = sorted(path.name for path in tmp_path.glob("shapes*/*.h5"))
    assert names == [f"mask_rcnn_shapes_000{i}.h5" for i in (1, 2, 3)]
    assert found["model_path"].endswith(names[-1])
    assert found["model"].epoch == 3

    assert len(found["APs"]) == 3 and found["molded_APs"] == found["APs"] and found["same_boxes"]
    assert "looks already molded" in caplog.text
    assert found["nothing_left"] is None
    assert "Nothing to train" in caplog.text
    with pytest.raises(FileNotFoundError, match=r"find_last\(\)\[1\]: it returns the path"):
        found["resumed"].load_weights(found["path_of_2017"], by_name=True)


def test_coco_evaluation(run, coco_folder, coco_file, capsys):
    found = run("coco_style.py", f"--dataset={coco_folder}", f"--model={coco_file}")
    assert found["dataset_val"].class_names[:3] == ["BG", "thing 1", "thing 2"]
    assert found["box_stats"].shape == found["mask_stats"].shape == (12,)
    assert np.all((found["box_stats"] <= 1) & (found["box_stats"] >= -1))
    assert "Average Precision" in capsys.readouterr().out
    _, class_ids = found["dataset_val"].load_mask(0)
    assert class_ids[-1] == -80  # the crowd of category 90, the last


def test_demo(run, coco_file, tmp_path):
    found = run("demo.py", coco_file, tmp_path)
    for result in found["results"]:
        assert_result(result, 60, 80)
    assert picture_file.imread(tmp_path / "keywords.png").std() > 0
    assert len(found["frames"]) == 2 and found["frames"][0].shape == (60, 80, 3)
    y1, x1, y2, x2 = found["results"][0]["rois"][0]
    assert found["boxed"][y1, x1].tolist() == [255, 0, 0]
    mask = found["results"][0]["masks"][:, :, 0]
    np.testing.assert_array_equal(found["painted"][~mask], found["image"][~mask])


def test_inspect_model(run, compiled, coco_folder, coco_file):
    found = run("inspect_model.py", coco_folder, coco_file)
    rpn, mrcnn = found["rpn"], found["mrcnn"]
    assert {name: value.shape for name, value in rpn.items()} == {
        # 3 anchors at each of 16 * 16 + 8 * 8 + 4 * 4 + 2 * 2 + 1 places; PRE_NMS_LIMIT 300, 30
        # proposals
        "rpn_class": (1, 1023, 2),
        "pre_nms_anchors": (1, 300, 4),
        "refined_anchors": (1, 300, 4),
        "refined_anchors_clipped": (1, 300, 4),
        "post_nms_anchor_ix": (len(rpn["post_nms_anchor_ix"]),),
        "proposals": (1, 30, 4),
    }
    np.testing.assert_array_equal(
        np.clip(rpn["refined_anchors"], 0, 1), rpn["refined_anchors_clipped"]
    )
    kept = np.any(rpn["proposals"][0] != 0, axis=1)
    chosen = rpn["refined_anchors_clipped"][0][rpn["post_nms_anchor_ix"]]
    np.testing.assert_array_equal(chosen, rpn["proposals"][0][kept])
    assert mrcnn["probs"].shape == (1, 30, 81) and mrcnn["deltas"].shape == (1, 30, 81, 4)
    assert mrcnn["detections"].shape == (1, 10, 6) and mrcnn["masks"].shape == (1, 10, 28, 28, 81)
    np.testing.assert_array_equal(found["det_boxes"], found["r"]["rois"])
    np.testing.assert_array_equal(np.moveaxis(found["det_masks"], 0, 2), found["r"]["masks"])
    np.testing.assert_allclose(
        found["from_array"]["rpn_bbox"], found["activations"]["rpn_bbox"], rtol=1e-5, atol=1e-6
    )
    # unmold_image cuts decimals off, as the original does: 226 molded in float32 may come back as
    # 225.99999.
    assert set(np.unique(found["image"].astype(int) - found["input_image"])) <= {0, 1}
    np.testing.assert_array_equal(found["molded_result"]["rois"], found["r"]["rois"])
    assert found["unknown"] is None
    assert 0 <= found["ap_range"] <= found["AP"] <= 1
    assert 0 < found["recall"] <= 1


def test_inspect_data(run, coco_folder):
    found = run("inspect_data.py", coco_folder)
    assert found["parsed"]["original_image_shape"].tolist() == [[48, 64, 3]]
    assert found["parsed"]["scale"].tolist() == [1.0]
    assert len(found["anchors"]) == sum(found["anchors_per_level"]) == 1023
    np.testing.assert_array_equal(found["both"][0], found["plain"][0][:, ::-1])
    np.testing.assert_array_equal(
        found["both"][3][:, 1], 64 - found["plain"][3][:, 3]
    )  # mirrored: x1 is 64 - x2
    assert found["old_flag"][0].shape == (64, 64, 3)
    assert found["rpn_rois"].shape == (2, 60, 4) and found["rois"].shape == (2, 12, 4)
    assert found["mrcnn_class_ids"].shape == (2, 12) and found["mrcnn_bbox"].shape == (2, 12, 81, 4)
    assert found["mrcnn_mask"].shape == (2, 12, 28, 28, 81)
    assert found["sample_image"].dtype == np.uint8
    assert len(found["plain_inputs"]) == 7 and len(found["plain_outputs"]) == 0
    np.testing.assert_array_equal(
        found["plain_inputs"][1][0, :1], [0]
    )  # unshuffled: the first image first


def test_mean_average_precision_callback(run, coco_folder, tmp_path):
    found = run("map_callback.py", coco_folder, tmp_path)
    assert len(found["inputs"]) == 7 and len(found["outputs"]) == 0
    assert found["inputs"][0].shape == (1, 64, 64, 3)
    seen = found["Seen"].logs
    assert len(seen) == 2
    assert all(0 <= logs["val_mean_average_precision"] <= 1 and "val_loss" in logs for logs in seen)
    trained, watching = found["model"].keras_model, found["model_inference"].keras_model
    for name in ("conv1", "mrcnn_mask"):
        np.testing.assert_array_equal(
            trained.get_layer(name).get_weights()[0], watching.get_layer(name).get_weights()[0]
        )


def test_serving(run, compiled, coco_file):
    found = run("serving.py", coco_file)
    assert list(found["signature_inputs"]) == ["input_image", "input_image_meta", "input_anchors"]
    assert [shape[1:] for shape in found["output_shapes"]] == [
        (10, 6), (30, 81), (30, 81, 4), (10, 28, 28, 81), (30, 4), (None, 2), (None, 4),
    ]  # fmt: skip
    reference = found["reference"]
    assert_result(reference, 50, 60)
    np.testing.assert_array_equal(found["final_rois"], reference["rois"])
    np.testing.assert_array_equal(found["final_class_ids"], reference["class_ids"])
    np.testing.assert_allclose(found["final_scores"], reference["scores"], rtol=1e-5)
    np.testing.assert_array_equal(found["final_masks"], reference["masks"])
    facade = found["mask_rcnn"]
    assert (facade.mode, facade.model_dir, facade.epoch) == ("inference", "logs", 0)
    assert facade.anchors.shape == (1023, 4) and facade.anchors.max() > 1  # pixels
    assert facade.checkpoint_path.startswith(facade.log_dir)
    assert facade.checkpoint_path.endswith("mask_rcnn_coco_{epoch:04d}.h5")


# --- Lines of published scripts -------------------------------------------------------------------


def test_subclass_that_repeats_the_body_of_the_original_init(folder):
    class Own(MaskRCNN):
        def __init__(self, mode, config, model_dir):
            assert mode in ["training", "inference"]
            self.mode = mode
            self.config = config
            self.model_dir = model_dir
            self.set_log_dir()
            self.keras_model = self.build(mode=mode, config=config)

    config = TinyConfig(PRECISION="mixed_bfloat16")
    model = Own("inference", config, folder)
    assert model.config is config and model.class_names is None
    assert model.keras_model.get_layer("fpn_p2").compute_dtype == "bfloat16"
    assert_result(shake(model).detect(noise_images(1))[0], 64, 64)
    assert model.optimize_for_inference() > 0
    history = Own("training", TinyConfig(), folder).train(Squares(), None, 0.001, 1, "heads")
    assert np.isfinite(history.history["loss"]).all()


def plain_config(**values):
    """An object of a class that is no `Config`, as some projects have their own."""

    class Plain:
        pass

    config = Plain()
    for name in dir(TinyConfig):
        if name.isupper() and name not in ("BATCH_SIZE", "IMAGE_SHAPE", "IMAGE_META_SIZE"):
            setattr(config, name, getattr(TinyConfig, name))
    for name, value in values.items():
        setattr(config, name, value)
    return config


def test_config_that_is_no_subclass(folder):
    class Own(MaskRCNN):
        def __init__(self, config):
            self.mode, self.config, self.model_dir = "inference", config, folder
            self.set_log_dir()
            self.keras_model = self.build("inference", config)

    for model in (MaskRCNN("inference", plain_config(), folder), Own(plain_config())):
        (found,) = shake(model).detect(noise_images(1))
        assert_result(found, 64, 64)
        model.config.DETECTION_MIN_CONFIDENCE = float(found["scores"][1])
        assert len(model.detect(noise_images(1))[0]["scores"]) <= np.sum(
            found["scores"] >= found["scores"][1]
        )
    assert modellib.load_image_gt(Squares(), plain_config(), 0, use_mini_mask=False)[4].shape == (
        64,
        64,
        1,
    )
    inputs, _ = next(modellib.data_generator(Squares(), plain_config()))
    assert len(inputs) == 7
    trained = MaskRCNN("training", plain_config(), folder)
    assert np.isfinite(trained.train(Squares(), None, 0.001, 1, "heads").history["loss"]).all()


class OwnLoop(MaskRCNN):
    """A subclass with its own `train`, callbacks and history, as projects have."""

    def train(self, train_dataset, val_dataset, learning_rate, epochs, layers):
        train_generator = modellib.data_generator(
            train_dataset, self.config, shuffle=True, batch_size=2
        )
        val_generator = modellib.data_generator(
            val_dataset, self.config, shuffle=True, batch_size=2
        )
        self.set_trainable(layers)
        self.compile(learning_rate, self.config.LEARNING_MOMENTUM)
        return self.keras_model.fit_generator(
            train_generator,
            initial_epoch=self.epoch,
            epochs=epochs,
            steps_per_epoch=self.config.STEPS_PER_EPOCH,
            callbacks=[keras.callbacks.TerminateOnNaN()],
            validation_data=val_generator,
            validation_steps=self.config.VALIDATION_STEPS,
            max_queue_size=100,
            workers=0,
            use_multiprocessing=True,
        )


def test_subclass_with_its_own_train(folder):
    model = OwnLoop("training", TinyConfig(), folder)
    history = model.train(Squares(), Squares(), 0.001, 2, "mrcnn_.*").history
    assert (
        len(history["loss"]) == 2
        and np.isfinite([*history["loss"], *history["val_mrcnn_mask_loss"]]).all()
    )
    model.keras_model.fit(
        modellib.DataGenerator(Squares(), model.config), steps_per_epoch=1, verbose=0
    )


def test_names_of_the_original_module_exist():
    for name in (
        "os",
        "random",
        "datetime",
        "re",
        "math",
        "logging",
        "multiprocessing",
        "np",
        "tf",
        "keras",
        "K",
    ):
        assert getattr(modellib, name).__name__.rpartition(".")[2] in (
            name,
            "numpy",
            "tensorflow",
            "backend",
        ), name
    assert modellib.utils.Dataset is Squares.__mro__[1]
    assert modellib.KE.Layer is modellib.KL.Layer and modellib.KM.Model is keras.Model
    with pytest.raises(AttributeError, match=r"module 'mrcnn.model' has no attribute 'nothing'"):
        modellib.nothing  # noqa: B018


def test_make_predict_function_does_nothing(folder):
    MaskRCNN("inference", TinyConfig(), folder).keras_model._make_predict_function()


def test_importing_xml_etree_is_enough_for_element_tree():
    code = "import xml.etree, mrcnn.utils; print(xml.etree.ElementTree.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE.parents[1]
    )
    assert done.stdout.split() == ["xml.etree.ElementTree"], done.stderr


class ThreeClasses(CocoConfig):
    NUM_CLASSES = 3


def test_weights_with_other_classes_without_exclude(coco_file, folder, caplog):
    with pytest.raises(ValueError, match="with 81 classes for a model with 3"):
        MaskRCNN("inference", ThreeClasses(), str(folder)).load_weights(coco_file, by_name=True)
    trained = MaskRCNN("training", ThreeClasses(), str(folder))
    head = trained.keras_model.get_layer("mrcnn_class_logits").get_weights()[0]
    report = trained.load_weights(coco_file, by_name=True)
    assert {name for name, *_ in report.mismatched} == {
        "mrcnn_class_logits",
        "mrcnn_bbox_fc",
        "mrcnn_mask",
    }
    assert "mrcnn_class_logits" in caplog.text
    np.testing.assert_array_equal(
        trained.keras_model.get_layer("mrcnn_class_logits").get_weights()[0], head
    )
