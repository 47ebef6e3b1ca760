"""Photos in, pictures out: every way of showing instances.

python demo.py coco.h5 FOLDER
"""

import os
import sys

import matplotlib

matplotlib.use("Agg")
import coco_style as coco
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import mrcnn.model as modellib
from mrcnn import utils, visualize

COCO_MODEL_PATH, OUT = sys.argv[1:3]
if not os.path.exists(COCO_MODEL_PATH):
    utils.download_trained_weights(COCO_MODEL_PATH)


class InferenceConfig(coco.CocoConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 2


config = InferenceConfig()
config.display()
with tf.device("/cpu:0"):
    model = modellib.MaskRCNN(mode="inference", model_dir="logs", config=config)
model.load_weights(COCO_MODEL_PATH, by_name=True)

class_names = ["BG"] + ["thing %d" % i for i in range(1, 81)]
images = [np.random.RandomState(i).randint(0, 255, (60, 80, 3), dtype=np.uint8) for i in range(2)]
results = model.detect(images, verbose=1)
r, image = results[0], images[0]

visualize.display_instances(image, r["rois"], r["masks"], r["class_ids"], class_names, r["scores"])
visualize.display_instances(image, r["rois"], r["masks"], r["class_ids"], class_names)
_, ax = plt.subplots(1, figsize=(6, 6))
colors = visualize.random_colors(len(r["rois"]))
visualize.display_instances(
    captions=["%d" % i for i in r["class_ids"]],
    colors=colors,
    show_mask=True,
    ax=ax,
    figsize=(6, 6),
    title="all by keyword",
    scores=r["scores"],
    class_names=class_names,
    class_ids=r["class_ids"],
    masks=r["masks"],
    boxes=r["rois"],
    image=image,
    show_bbox=True,
)
plt.savefig(os.path.join(OUT, "keywords.png"))
visualize.display_images(
    [image] + [r["masks"][:, :, i] for i in range(2)], titles=["photo", "0", "1"], cols=3
)
visualize.display_top_masks(image, r["masks"], r["class_ids"], class_names, limit=2)
visualize.draw_boxes(
    image, boxes=r["rois"], captions=[class_names[i] for i in r["class_ids"]], title="boxes"
)
boxed = visualize.draw_box(image.copy(), r["rois"][0], [255, 0, 0])
painted = visualize.apply_mask(image.copy(), r["masks"][:, :, 0], colors[0], alpha=0.5)
visualize.display_weight_stats(model)

# A film: frames one by one, drawn with OpenCV-like loops over the result
frames = []
for frame in images:
    r = model.detect([frame])[0]
    for i in range(r["rois"].shape[0]):
        if not np.any(r["rois"][i]):
            continue
        y1, x1, y2, x2 = r["rois"][i]
        label = class_names[r["class_ids"][i]]
        frame = visualize.apply_mask(frame.copy(), r["masks"][:, :, i], colors[0])
        caption = "{} {:.2f}".format(label, r["scores"][i]) if r["scores"] is not None else label
    frames.append(frame)
