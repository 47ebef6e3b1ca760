"""Tables of values and of weights."""

import numpy as np

from mrcnn.drawing import tables


def test_display_table_prints_aligned_columns(capsys):
    tables.display_table([["name", "value"], ["[a]", 2.5]])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["name", "value"], ["[a]", "2.5"]]


def test_display_weight_stats_marks_odd_weights(capsys, monkeypatch):
    class Weight:
        def __init__(self, name, values):
            self.name, self.values = name, np.array(values, np.float32)
            self.path = f"layer/{name}"

    class Layer:
        def __init__(self, *weights):
            self.weights = weights

        def get_weights(self):
            return [weight.values for weight in self.weights]

    class Conv2D(Layer):
        pass

    class Model:
        def get_trainable_layers(self):
            return [
                Conv2D(Weight("kernel", [[-1, 3]]), Weight("bias", [0, 0])),
                Layer(
                    Weight("gamma", [2, 2]), Weight("beta", [0, 4000]), Weight("sick", [0, np.nan])
                ),
            ]

    monkeypatch.setenv("COLUMNS", "200")
    tables.display_weight_stats(Model())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["WEIGHT", "NAME", "SHAPE", "MIN", "MAX", "STD"]
    # mean of -1 and 3 is 1, both 2 away from it
    assert lines[1] == ["layer/kernel", "(1,", "2)", "-1.0000", "+3.0000", "+2.0000"]
    assert lines[2][:2] == ["layer/bias", "(2,)"]
    assert [" ".join(line[1:3]) for line in lines[3:]] == ["*** dead?", "*** overflow?", "*** not"]


def test_display_table_removes_control_characters(capsys):
    tables.display_table([["[bold]cat\x1b[31m", 1]])
    assert capsys.readouterr().out.startswith("[bold]cat [31m")
