"""image_meta, the row of numbers that travels with an image."""

import numpy as np
from keras import ops

from mrcnn.nn.image_meta import compose_image_meta, parse_image_meta, split_image_meta


def test_image_meta_comes_back_from_arrays_and_tensors():
    meta = compose_image_meta(7, (480, 640, 3), (256, 256, 3), (32, 0, 224, 256), 0.4, [1, 0, 1])
    np.testing.assert_allclose(meta, [7, 480, 640, 3, 256, 256, 3, 32, 0, 224, 256, 0.4, 1, 0, 1])
    parsed = parse_image_meta(meta[None])
    assert parsed["image_id"].tolist() == [7] and parsed["image_id"].dtype == np.int32
    assert parsed["window"].tolist() == [[32, 0, 224, 256]]
    assert parsed["scale"].dtype == np.float32 and np.isclose(parsed["scale"][0], 0.4)
    assert parsed["active_class_ids"].tolist() == [[1, 0, 1]]
    of_tensor = split_image_meta(ops.convert_to_tensor(meta[None].astype(np.float32)))
    for name, column in parsed.items():
        np.testing.assert_allclose(ops.convert_to_numpy(of_tensor[name]), column, rtol=1e-6)
