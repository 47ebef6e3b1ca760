"""The network behind a service: its own inputs and outputs, no detect().

python serving.py coco.h5
"""

import sys

import numpy as np
import tensorflow as tf
from coco_style import CocoConfig

from mrcnn import model as modellib


class ServingConfig(CocoConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1


config = ServingConfig()
with tf.device("/device:CPU:0"):
    mask_rcnn = modellib.MaskRCNN("inference", config, "logs")
mask_rcnn.load_weights(sys.argv[1], by_name=True)
keras_model = mask_rcnn.keras_model

signature_inputs = {tensor.name: tensor for tensor in keras_model.inputs}
output_shapes = [tuple(tensor.shape) for tensor in keras_model.outputs]

photo = np.random.RandomState(1).randint(0, 255, (50, 60, 3), dtype=np.uint8)
molded_images, image_metas, windows = mask_rcnn.mold_inputs([photo])
anchors = mask_rcnn.get_anchors(molded_images[0].shape)
anchors = np.broadcast_to(anchors, (config.BATCH_SIZE,) + anchors.shape)
detections, mrcnn_class, mrcnn_bbox, mrcnn_mask, rpn_rois, rpn_class, rpn_bbox = (
    keras_model.predict([molded_images, image_metas, anchors], verbose=0)
)
final_rois, final_class_ids, final_scores, final_masks = mask_rcnn.unmold_detections(
    detections[0], mrcnn_mask[0], photo.shape, molded_images[0].shape, windows[0]
)
reference = mask_rcnn.detect([photo], verbose=0)[0]
