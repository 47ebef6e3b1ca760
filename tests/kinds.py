"""The networks over which tests are parametrised; without TensorFlow."""

from mrcnn.config import NETWORKS

# Those of the package, and Mask R-CNN with keypoints.
KINDS = (*NETWORKS, "keypoints")

# A Cascade R-CNN; its ROI_POSITIVE_IOU is that of the first stage.
CASCADE = {"CASCADE_IOUS": (0.5, 0.6, 0.7), "ROIS_INCLUDE_GT": True}

KEYPOINTS = {
    "NUM_KEYPOINTS": 3,
    "KEYPOINT_POOL_SIZE": 7,
    "KEYPOINT_CONV_LAYERS": 2,
    "KEYPOINT_CHANNELS": 16,
    "ROIS_INCLUDE_GT": True,  # otherwise random weights find no object to learn from
}
