"""The networks over which tests are parametrised; without TensorFlow."""

from mrcnn.config import NETWORKS

# Those of the package, and Mask R-CNN with keypoints.
KINDS = (*NETWORKS, "keypoints")

KEYPOINTS = {
    "NUM_KEYPOINTS": 3,
    "KEYPOINT_POOL_SIZE": 7,
    "KEYPOINT_CONV_LAYERS": 2,
    "KEYPOINT_CHANNELS": 16,
    "ROIS_INCLUDE_GT": True,  # otherwise random weights find no object to learn from
}
