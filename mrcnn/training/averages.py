"""Exponential moving averages of the weights (EMA_DECAY; Polyak and Juditsky 1992).

Keras' own averages (`use_ema` and `SwapEMAWeights`) cannot replace these. Their decay is constant,
so that the random start is forgotten slowly. If a callback stops the training, the final weights
are not the averages. No public argument says that loaded weights are averages.
"""

from __future__ import annotations

import keras
import tensorflow as tf


def add_average_variables(network: keras.Model) -> dict[str, keras.Variable]:
    """Add an average of each trainable weight to the optimizer's variables, and so to its state.

    Returns: `{path of the weight: its average}`; an average starts as the weight.
    """
    optimizer = getattr(network.optimizer, "inner_optimizer", network.optimizer)
    averages = {}
    for weight in network.trainable_variables:
        averages[weight.path] = optimizer.add_variable_from_reference(weight, name="average")
        averages[weight.path].assign(weight)
    return averages


class WeightAverages(keras.callbacks.Callback):
    """Averages the weights over the steps, and puts the averages into the network between epochs.

    So validation, callbacks and checkpoints see the averages. Meanwhile the training weights wait
    in the average variables, and so in the training state of the checkpoint. The decay grows with
    the steps up to `decay`, so that the random start is soon forgotten.

    averages: `{path of the weight: its average}`, from `add_average_variables`.
    swapped: whether the network has the averages now, as after loading a checkpoint and its state.
    """

    def __init__(self, network: keras.Model, decay: float, averages: dict, swapped: bool):
        super().__init__()
        self.optimizer = network.optimizer
        self.decay, self.swapped = decay, swapped
        weights = [weight for weight in network.weights if weight.path in averages]
        self.pairs = [(weight, averages[weight.path]) for weight in weights]

        @tf.function
        def update(share):
            for weight, average in self.pairs:
                average.assign(average + (weight - average) * share)

        self.update = update

    def on_train_batch_end(self, batch, logs=None):
        steps = int(self.optimizer.iterations.numpy())
        decay = min(self.decay, (1 + steps) / (10 + steps))
        self.update(tf.constant(1.0 - decay))

    def on_epoch_begin(self, epoch, logs=None):
        if self.swapped:
            self._swap()

    def on_test_begin(self, logs=None):
        self._show_averages()

    def on_epoch_end(self, epoch, logs=None):
        self._show_averages()

    def _show_averages(self) -> None:
        if not self.swapped:
            self._swap()

    def _swap(self) -> None:
        self.swapped = not self.swapped
        for weight, average in self.pairs:
            value = weight.numpy()
            weight.assign(average)
            average.assign(value)
