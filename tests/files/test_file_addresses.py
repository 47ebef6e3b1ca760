"""Addresses: which ones are accepted, listed and read, with fsspec's file system in memory."""

import pytest

from mrcnn.files import addresses


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("s3://bucket/a.png", True),
        ("HTTPS://host/a.png", True),
        ("a.png", False),
        ("C:/images/a.png", False),
        ("/a//b.png", False),
    ],
)
def test_is_url(word, expected):
    assert addresses.is_url(word) is expected


@pytest.mark.parametrize(
    "address", ["reference://a.png", "zip://a.png::s3://b/c.zip", "github://o:r@/a", "shell://ls"]
)
def test_other_protocols_are_refused(address):
    with pytest.raises(ValueError, match="must start with one of"):
        addresses.check_address(address)
    with pytest.raises(ValueError, match="must start with one of"):
        addresses.read_address(address)


@pytest.fixture
def memory():
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    names = ("b/2.png", "b/1.png", "a/1.png", "a.txt")
    for name in names:
        system.pipe(f"/images/{name}", name.encode())
    yield
    system.rm("/images", recursive=True)


def test_a_folder_lists_the_files_below_it_in_order(memory):
    assert list(addresses.list_address("memory://images")) == [
        "memory:///images/a.txt",
        "memory:///images/a/1.png",
        "memory:///images/b/1.png",
        "memory:///images/b/2.png",
    ]


def test_a_pattern_lists_its_matches(memory):
    assert list(addresses.list_address("memory://images/*/1.png")) == [
        "memory:///images/a/1.png",
        "memory:///images/b/1.png",
    ]


def test_a_file_is_itself_and_is_read(memory):
    (name,) = addresses.list_address("memory://images/a/1.png")
    assert addresses.read_address(name) == b"a/1.png"


def test_a_missing_file_is_named(memory):
    with pytest.raises(ValueError, match=r"Received: memory://images/none.png \(FileNotFound"):
        addresses.read_address("memory://images/none.png")


def test_a_file_that_is_too_large_is_refused(memory, monkeypatch):
    monkeypatch.setattr(addresses, "MOST_BYTES", 6)
    with pytest.raises(ValueError, match="at most 6 bytes"):
        addresses.read_address("memory://images/a/1.png")


def test_a_missing_package_is_named(monkeypatch):
    def missing():
        raise ImportError("No module named 'fsspec'")

    monkeypatch.setattr(addresses, "_fsspec", missing)
    with pytest.raises(ValueError, match="pip install fsspec"):
        addresses.read_address("s3://bucket/a.png")
