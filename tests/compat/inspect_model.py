"""The tour of a trained network: anchors, proposals, refinement, masks, activations, weights.

python inspect_model.py FOLDER coco.h5
"""

import os
import sys

import matplotlib

matplotlib.use("Agg")
import coco_style as coco
import matplotlib.pyplot as plt
import numpy as np

import mrcnn.model as modellib
from mrcnn import utils, visualize
from mrcnn.model import log

DATASET_DIR, COCO_MODEL_PATH = sys.argv[1:3]
TEST_MODE = "inference"


class InferenceConfig(coco.CocoConfig().__class__):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1


config = InferenceConfig()
dataset = coco.CocoDataset()
dataset.load_coco(DATASET_DIR)
dataset.prepare()
print("Images: {}\nClasses: {}".format(len(dataset.image_ids), dataset.class_names))

model = modellib.MaskRCNN(
    mode="inference", model_dir=os.path.join(DATASET_DIR, "logs"), config=config
)
model.load_weights(COCO_MODEL_PATH, by_name=True)

image_id = dataset.image_ids[0]
image, image_meta, gt_class_id, gt_bbox, gt_mask = modellib.load_image_gt(
    dataset, config, image_id, use_mini_mask=False
)
info = dataset.image_info[image_id]
print(
    "image ID: {}.{} ({}) {}".format(
        info["source"], info["id"], image_id, dataset.image_reference(image_id)
    )
)

results = model.detect([image], verbose=1)
r = results[0]
log("gt_class_id", gt_class_id)
log("gt_bbox", gt_bbox)
log("gt_mask", gt_mask)

AP, precisions, recalls, overlaps = utils.compute_ap(
    gt_bbox, gt_class_id, gt_mask, r["rois"], r["class_ids"], r["scores"], r["masks"]
)
visualize.plot_precision_recall(AP, precisions, recalls)
visualize.plot_overlaps(gt_class_id, r["class_ids"], r["scores"], overlaps, dataset.class_names)
visualize.display_differences(
    image,
    gt_bbox,
    gt_class_id,
    gt_mask,
    r["rois"],
    r["class_ids"],
    r["scores"],
    r["masks"],
    dataset.class_names,
)
ap_range = utils.compute_ap_range(
    gt_bbox, gt_class_id, gt_mask, r["rois"], r["class_ids"], r["scores"], r["masks"], verbose=0
)

# Region proposals: targets, then predictions
target_rpn_match, target_rpn_bbox = modellib.build_rpn_targets(
    image.shape, model.anchors, gt_class_id, gt_bbox, model.config
)
log("target_rpn_match", target_rpn_match)
positive_anchor_ix = np.where(target_rpn_match[:] == 1)[0]
positive_anchors = model.anchors[positive_anchor_ix]
refined_anchors = utils.apply_box_deltas(
    positive_anchors, target_rpn_bbox[: positive_anchors.shape[0]] * model.config.RPN_BBOX_STD_DEV
)
_, ax = plt.subplots(1, figsize=(6, 6))
visualize.draw_boxes(image, boxes=positive_anchors, refined_boxes=refined_anchors, ax=ax)

pillar = model.keras_model.get_layer("ROI").output
nms_node = model.ancestor(pillar, "ROI/rpn_non_max_suppression:0")
if nms_node is None:
    nms_node = model.ancestor(pillar, "ROI/rpn_non_max_suppression/NonMaxSuppressionV2:0")
if nms_node is None:
    nms_node = model.ancestor(pillar, "ROI/rpn_non_max_suppression/NonMaxSuppressionV3:0")

rpn = model.run_graph(
    [image],
    [
        ("rpn_class", model.keras_model.get_layer("rpn_class").output),
        ("pre_nms_anchors", model.ancestor(pillar, "ROI/pre_nms_anchors:0")),
        ("refined_anchors", model.ancestor(pillar, "ROI/refined_anchors:0")),
        ("refined_anchors_clipped", model.ancestor(pillar, "ROI/refined_anchors_clipped:0")),
        ("post_nms_anchor_ix", nms_node),
        ("proposals", model.keras_model.get_layer("ROI").output),
    ],
)
limit = 20
sorted_anchor_ids = np.argsort(rpn["rpn_class"][:, :, 1].flatten())[::-1]
visualize.draw_boxes(image, boxes=model.anchors[sorted_anchor_ids[:limit]])
visualize.draw_boxes(
    image,
    boxes=utils.denorm_boxes(rpn["pre_nms_anchors"][0, :limit], image.shape[:2]),
    refined_boxes=utils.denorm_boxes(rpn["refined_anchors"][0, :limit], image.shape[:2]),
)
ixs = rpn["post_nms_anchor_ix"][:limit]
visualize.draw_boxes(
    image, refined_boxes=utils.denorm_boxes(rpn["refined_anchors_clipped"][0, ixs], image.shape[:2])
)
recall, positive_ids = utils.compute_recall(model.anchors, gt_bbox, 0.5)

# Heads
mrcnn = model.run_graph(
    [image],
    [
        ("proposals", model.keras_model.get_layer("ROI").output),
        ("probs", model.keras_model.get_layer("mrcnn_class").output),
        ("deltas", model.keras_model.get_layer("mrcnn_bbox").output),
        ("masks", model.keras_model.get_layer("mrcnn_mask").output),
        ("detections", model.keras_model.get_layer("mrcnn_detection").output),
    ],
)
det_class_ids = mrcnn["detections"][0, :, 4].astype(np.int32)
det_count = np.where(det_class_ids == 0)[0][0] if 0 in det_class_ids else len(det_class_ids)
det_class_ids = det_class_ids[:det_count]
detections = mrcnn["detections"][0, :det_count]
visualize.draw_boxes(
    image,
    refined_boxes=utils.denorm_boxes(detections[:, :4], image.shape[:2]),
    visibilities=[2] * len(detections),
    captions=["{} {:.3f}".format(dataset.class_names[int(c)], s) for c, s in detections[:, 4:6]],
    title="Detections",
)
h, w = config.IMAGE_SHAPE[:2]
proposals = np.around(mrcnn["proposals"][0] * np.array([h, w, h, w])).astype(np.int32)
roi_class_ids = np.argmax(mrcnn["probs"][0], axis=1)
roi_scores = mrcnn["probs"][0, np.arange(roi_class_ids.shape[0]), roi_class_ids]
roi_bbox_specific = mrcnn["deltas"][0, np.arange(proposals.shape[0]), roi_class_ids]
refined_proposals = utils.apply_box_deltas(
    proposals, roi_bbox_specific * config.BBOX_STD_DEV
).astype(np.int32)
det_mask_specific = np.array([mrcnn["masks"][0, i, :, :, c] for i, c in enumerate(det_class_ids)])
det_boxes = utils.denorm_boxes(detections[:, :4], image.shape[:2])
det_masks = np.array(
    [utils.unmold_mask(m, det_boxes[i], image.shape) for i, m in enumerate(det_mask_specific)]
)

# Inside: activations, for a list of images and for one molded array
molded_images, image_metas, windows = model.mold_inputs([image])
activations = model.run_graph(
    [image],
    [
        ("input_image", model.keras_model.get_layer("input_image").output),
        ("res2c_out", model.keras_model.get_layer("res2c_out").output),
        ("res3d_out", model.keras_model.get_layer("res3d_out").output),
        ("res4w_out", model.keras_model.get_layer("res4w_out").output),
        ("rpn_bbox", model.keras_model.get_layer("rpn_bbox").output),
        ("roi", model.keras_model.get_layer("ROI").output),
    ],
)
from_array = model.run_graph(
    molded_images,
    [("rpn_bbox", model.keras_model.get_layer("rpn_bbox").output)],
    image_metas=image_metas,
)
input_image = modellib.unmold_image(activations["input_image"][0], config)
visualize.display_images(np.transpose(activations["res2c_out"][0, :, :, :4], [2, 0, 1]), cols=4)

visualize.display_weight_stats(model)
LAYER_TYPES = ["Conv2D"]
layers = model.get_trainable_layers()
layers = list(filter(lambda layer: layer.__class__.__name__ in LAYER_TYPES, layers))
_, ax = plt.subplots(len(layers), 2, figsize=(6, 2 * len(layers)))
for i, layer in enumerate(layers):
    for j, w in enumerate(layer.get_weights()):
        ax[i, j].hist(w.flatten(), 50)
molded_result = model.detect_molded(molded_images, image_metas)[0]
unknown = model.ancestor(pillar, "ROI/no_such_node:0")
