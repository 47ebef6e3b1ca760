"""Training watched by the mean average precision of a second model, which also stops it.

python map_callback.py FOLDER LOGS
"""

import sys

import coco_style as coco
import keras

from mrcnn.model import DataGenerator, MaskRCNN, MeanAveragePrecisionCallback

DATASET_DIR, LOGS = sys.argv[1:3]


class TrainConfig(coco.CocoConfig):
    NAME = "watched"
    IMAGES_PER_GPU = 1


class InferenceConfig(TrainConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1


config = TrainConfig()
dataset_train = coco.CocoDataset()
dataset_train.load_coco(DATASET_DIR)
dataset_train.prepare()
dataset_val = coco.CocoDataset()
dataset_val.load_coco(DATASET_DIR)
dataset_val.prepare()

train_generator = DataGenerator(
    dataset_train, config, shuffle=True, augmentation=None, batch_size=config.BATCH_SIZE
)
inputs, outputs = train_generator[0]

model = MaskRCNN(mode="training", config=config, model_dir=LOGS)
model_inference = MaskRCNN(mode="inference", config=InferenceConfig(), model_dir=LOGS)
mean_average_precision_callback = MeanAveragePrecisionCallback(
    model,
    model_inference,
    dataset_val,
    calculate_map_at_every_X_epoch=1,
    dataset_limit=2,
    verbose=1,
)


class Seen(keras.callbacks.Callback):
    logs = []

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))


model.train(
    dataset_train,
    dataset_val,
    learning_rate=config.LEARNING_RATE,
    epochs=2,
    layers="all",
    custom_callbacks=[
        mean_average_precision_callback,
        Seen(),
        keras.callbacks.EarlyStopping(monitor="val_mean_average_precision", mode="max", patience=5),
    ],
)
