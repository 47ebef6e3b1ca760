"""Names for new files."""

from mrcnn.files.file_names import free_name, short_name


def test_free_name_counts_until_no_file_has_the_name(tmp_path):
    path = tmp_path / "a.json"
    assert free_name(str(path)) == str(path)
    for name in ("a.json", "a_2.json"):
        (tmp_path / name).touch()
    assert free_name(str(path)) == str(tmp_path / "a_3.json")


def test_long_names_are_cut_and_stay_different():
    assert short_name("a" * 100, ".json") == f"{'a' * 100}.json"
    first, second = (short_name("鳥" * 300 + last, ".json") for last in "ab")
    assert first != second and first.startswith("鳥" * 60) and first.endswith(".json")
    assert len(first.encode()) <= 200
