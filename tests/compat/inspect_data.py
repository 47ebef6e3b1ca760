"""A tour of a dataset: masks, boxes, resizing, mini-masks, anchors, random RoIs and targets.

python inspect_data.py FOLDER
"""

import random
import sys

import matplotlib

matplotlib.use("Agg")
import coco_style as coco
import numpy as np

import mrcnn.model as modellib
from mrcnn import utils, visualize
from mrcnn.model import log

config = coco.CocoConfig()
dataset = coco.CocoDataset()
dataset.load_coco(sys.argv[1])
dataset.prepare()
for i, info in enumerate(dataset.class_info[:3]):
    print("{:3}. {:50}".format(i, info["name"]))

image_id = random.choice(dataset.image_ids)
image = dataset.load_image(image_id)
mask, class_ids = dataset.load_mask(image_id)
bbox = utils.extract_bboxes(mask)
log("image", image)
log("mask", mask)
log("class_ids", class_ids)
log("bbox", bbox)
visualize.display_instances(image, bbox, mask, class_ids, dataset.class_names)

original_shape = image.shape
image, window, scale, padding, _ = utils.resize_image(
    image, min_dim=config.IMAGE_MIN_DIM, max_dim=config.IMAGE_MAX_DIM, mode=config.IMAGE_RESIZE_MODE
)
mask = utils.resize_mask(mask, scale, padding)
print("Original shape: ", original_shape)

image, image_meta, class_ids, bbox, mask = modellib.load_image_gt(
    dataset, config, image_id, use_mini_mask=False
)
parsed = modellib.parse_image_meta(image_meta[np.newaxis])
visualize.display_images([image] + [mask[:, :, i] for i in range(min(mask.shape[-1], 7))])

from imgaug import augmenters as iaa

augmentation = iaa.Fliplr(1.0)
# Both keywords: the old flag and its successor
both = modellib.load_image_gt(
    dataset, config, 0, augment=False, augmentation=augmentation, use_mini_mask=True
)
plain = modellib.load_image_gt(
    dataset, config, 0, augment=False, augmentation=None, use_mini_mask=True
)
old_flag = modellib.load_image_gt(dataset, config, 0, augment=True, use_mini_mask=True)
image, image_meta, class_ids, bbox, mini = both
expanded = utils.expand_mask(bbox, mini, image.shape)
visualize.display_instances(image, bbox, expanded, class_ids, dataset.class_names)

backbone_shapes = modellib.compute_backbone_shapes(config, config.IMAGE_SHAPE)
anchors = utils.generate_pyramid_anchors(
    config.RPN_ANCHOR_SCALES,
    config.RPN_ANCHOR_RATIOS,
    backbone_shapes,
    config.BACKBONE_STRIDES,
    config.RPN_ANCHOR_STRIDE,
)
num_levels = len(backbone_shapes)
anchors_per_cell = len(config.RPN_ANCHOR_RATIOS)
anchors_per_level = [
    backbone_shapes[level][0] * backbone_shapes[level][1] * anchors_per_cell for level in range(5)
]

random_rois = 60
g = modellib.data_generator(
    dataset, config, shuffle=True, random_rois=random_rois, batch_size=2, detection_targets=True
)
(
    [
        normalized_images,
        image_meta,
        rpn_match,
        rpn_bbox,
        gt_class_ids,
        gt_boxes,
        gt_masks,
        rpn_rois,
        rois,
    ],
    [
        mrcnn_class_ids,
        mrcnn_bbox,
        mrcnn_mask,
    ],
) = next(g)
log("rois", rois)
log("mrcnn_class_ids", mrcnn_class_ids)
log("mrcnn_bbox", mrcnn_bbox)
log("mrcnn_mask", mrcnn_mask)
log("gt_masks", gt_masks)
log("rpn_match", rpn_match)

b = 0
sample_image = modellib.unmold_image(normalized_images[b], config)
indices = np.where(rpn_match[b] == 1)[0]
refined_anchors = utils.apply_box_deltas(
    anchors[indices], rpn_bbox[b, : len(indices)] * config.RPN_BBOX_STD_DEV
)
visualize.draw_boxes(sample_image, boxes=anchors[indices], refined_boxes=refined_anchors)

mrcnn_class_ids = mrcnn_class_ids[:, :, 0]
bbox_specific = mrcnn_bbox[b, np.arange(mrcnn_bbox.shape[1]), mrcnn_class_ids[b], :]
refined_rois = utils.apply_box_deltas(
    rois[b].astype(np.float32), bbox_specific[:, :4] * config.BBOX_STD_DEV
)
mask_specific = mrcnn_mask[b, np.arange(mrcnn_mask.shape[1]), :, :, mrcnn_class_ids[b]]
visualize.draw_rois(
    sample_image, rois[b], refined_rois, mask_specific, mrcnn_class_ids[b], dataset.class_names
)
positive_rois = np.sum(mrcnn_class_ids[b] > 0)

plain_generator = modellib.data_generator(
    dataset, config, shuffle=False, augmentation=None, batch_size=1
)
plain_inputs, plain_outputs = next(plain_generator)
rpn_target_match, rpn_target_bbox = modellib.build_rpn_targets(
    image.shape, anchors, class_ids, bbox, config
)
