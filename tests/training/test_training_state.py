"""Training states: valid and invalid files, and what is restored."""

from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest

from mrcnn.training import training_state


def network(seed=0):
    layer = SimpleNamespace(name="targets", seed_generator=keras.random.SeedGenerator(seed))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build([keras.Variable(np.full((2, 3), seed, "float32"), name="kernel")])
    optimizer.variables[2].assign(np.full((2, 3), seed, "float32"))
    return SimpleNamespace(optimizer=optimizer, layers=[layer])


def values(network):
    return [np.asarray(variable) for variable in training_state._variables(network).values()]


@pytest.fixture
def path(tmp_path):
    path = training_state.state_path(tmp_path, 3)
    training_state.save_state(path, network(seed=5), {"epoch": 3})
    return path


def test_state_is_restored_completely(path):
    other = network()
    assert training_state.read_record(path) == {"epoch": 3}
    assert training_state.restore_state(path, other)
    for value, expected in zip(values(other), values(network(seed=5)), strict=True):
        np.testing.assert_array_equal(value, expected)


def momentum(file):
    return next(f"optimizer/{name}" for name in file["optimizer"] if "momentum" in name)


def another_shape(file):
    name = momentum(file)
    del file[name]
    file[name] = np.zeros((3, 2), np.float32)


def another_variable(file):
    file["optimizer/0009 more"] = np.zeros(3, np.float32)


def one_less(file):
    del file[momentum(file)]


@pytest.mark.parametrize("change", [another_shape, another_variable, one_less])
def test_state_of_another_optimizer_is_not_restored(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    other = network()
    assert not training_state.restore_state(path, other)
    for value, expected in zip(values(other), values(network()), strict=True):
        np.testing.assert_array_equal(value, expected)


def nan(file):
    file[momentum(file)][0, 0] = np.nan


def outside(file):
    name = momentum(file)
    del file[name]
    file.create_dataset(name, (2, 3), "f4", external=[("/etc/passwd", 0, 24)])


def link(file):
    del file["random"]
    file["random"] = h5py.ExternalLink("/etc/other.h5", "/random")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [(nan, "are NaN or infinite"), (outside, "from another file"), (link, "a link to another")],
)
def test_unsafe_state_changes_no_variable(path, change, sentence):
    with h5py.File(path, "r+") as file:
        change(file)
    other = network()
    with pytest.raises(ValueError, match=sentence):
        training_state.restore_state(path, other)
    for value, expected in zip(values(other), values(network()), strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("about", ["", "{", "[1]", "[" * 100_000])
def test_state_without_its_record_is_refused(path, about):
    with h5py.File(path, "r+") as file:
        file.attrs["about"] = about
    with pytest.raises(
        ValueError, match="must describe its training.*training_state_0003.hdf5.*Try removing it"
    ):
        training_state.read_record(path)


def test_absent_state_is_none(tmp_path):
    assert training_state.read_record(training_state.state_path(tmp_path, 1)) is None
