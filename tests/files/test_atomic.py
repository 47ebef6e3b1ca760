"""Downloads, from a server on loopback; what killed processes leave."""

import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mrcnn.files import atomic as files

CONTENT = b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 9000  # 2.3 MB: more than one read
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        if self.path == "/absent.h5":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path == "/login.h5":
            self.end_headers()
            self.wfile.write(b"\n<!DOCTYPE html><html>Log in to the hotel's wifi</html>")
            return
        if self.path != "/unannounced.h5":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/cut.h5" else CONTENT)

    def log_message(self, *args):
        """Silence: the test's output is not the place."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = 0
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", ["whole.h5", "unannounced.h5"])
@pytest.mark.parametrize("md5", [MD5, None])
def test_a_complete_download_is_kept_and_not_repeated(server, tmp_path, name, md5):
    path = tmp_path / "cache" / "models" / name
    for _ in range(2):
        assert files.download(f"{server.url}/{name}", path, md5) == str(path)
        assert path.read_bytes() == CONTENT
    assert server.requests == 1
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_a_cached_file_with_another_checksum_is_fetched_again(server, tmp_path, caplog):
    path = tmp_path / "whole.h5"
    path.write_bytes(b"half")
    files.download(f"{server.url}/whole.h5", path, MD5)
    assert path.read_bytes() == CONTENT
    assert "whole.h5 is not the released file (it must begin with" in caplog.text


def test_a_cached_file_of_an_earlier_release_is_kept(server, tmp_path):
    path = tmp_path / "whole.h5"
    path.write_bytes(b"of 2017")
    earlier = hashlib.md5(b"of 2017").hexdigest()
    assert files.download(f"{server.url}/whole.h5", path, MD5, earlier) == str(path)
    assert path.read_bytes() == b"of 2017" and server.requests == 0
    with pytest.raises(
        files.DownloadError, match="its MD5 must be"
    ):  # what is fetched must be today's
        files.download(f"{server.url}/whole.h5", tmp_path / "new.h5", earlier, MD5)


def nothing_listening():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize(
    ("name", "md5", "match"),
    [
        ("cut.h5", None, "cut off after 1152004 of 2304008 bytes"),
        ("whole.h5", "0" * 32, f"its MD5 must be {'0' * 32}, received {MD5}"),
        ("absent.h5", None, "404"),
        (None, None, "refused"),
    ],
)
def test_a_failed_download_names_url_path_and_remedy_and_leaves_nothing(
    server, tmp_path, name, md5, match
):
    url = f"{server.url}/{name}" if name else f"{nothing_listening()}/x.h5"
    path = tmp_path / "models" / "x.h5"
    with pytest.raises(files.DownloadError, match=match) as error:
        files.download(url, path, md5)
    assert isinstance(error.value, OSError)
    assert url in str(error.value)
    assert f"put it at {path}" in str(error.value)
    assert list(path.parent.iterdir()) == []


def test_a_failed_download_leaves_the_file_that_was_there(server, tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(b"old")
    with pytest.raises(files.DownloadError, match="cut off"):
        files.download(f"{server.url}/cut.h5", path, MD5)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("address", "path", "checks", "match"),
    [
        ("login.h5", "x.h5", {}, "received a web page, perhaps of a login"),
        ("login.h5", "x.bin", {}, "received a web page, perhaps of a login"),
        ("whole.h5", "x.zip", {}, r"must begin with b'PK\\x03\\x04', received b'\\x89HDF'"),
        ("whole.h5", "x.h5", {"size": 9_999_999}, "must have 9,999,999 bytes, received 2,304,008"),
        ("whole.h5", "x.h5", {"size": 99}, "more than the 99 bytes"),
        ("unannounced.h5", "x.h5", {"size": 99}, "more than the 99 bytes"),
        ("to/file:///etc/passwd", "x.bin", {}, "url 'file:///etc/passwd' is not allowed"),
        ("to/ftp://127.0.0.1:1/x", "x.bin", {}, "must begin with http or https, received ftp:"),
    ],
)
def test_a_wrong_file_is_never_kept(server, tmp_path, address, path, checks, match):
    with pytest.raises(files.DownloadError, match=match):
        files.download(f"{server.url}/{address}", tmp_path / path, **checks)
    assert list(tmp_path.iterdir()) == []


def test_only_web_addresses_are_fetched(tmp_path):
    with pytest.raises(files.DownloadError, match="must begin with http or https"):
        files.download((tmp_path / "x").as_uri(), tmp_path / "y")


def test_a_body_without_a_size_is_bounded(server, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MOST_BYTES", 1000)
    with pytest.raises(files.DownloadError, match="more than the 1,000 bytes"):
        files.download(f"{server.url}/unannounced.h5", tmp_path / "x.h5")


def test_a_redirect_is_followed(server, tmp_path):
    files.download(
        f"{server.url}/to/{server.url}/whole.h5", tmp_path / "x.h5", MD5, size=len(CONTENT)
    )
    assert (tmp_path / "x.h5").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"half", CONTENT[:-1], b"<html>log in</html>"])
def test_a_cached_file_of_another_size_or_kind_is_fetched_again(server, tmp_path, content):
    path = tmp_path / "whole.h5"
    path.write_bytes(content)
    files.download(f"{server.url}/whole.h5", path, size=len(CONTENT))
    assert path.read_bytes() == CONTENT


def test_threads_that_fetch_one_file_do_not_disturb_each_other(server, tmp_path):
    path = tmp_path / "whole.h5"
    with ThreadPoolExecutor(4) as pool:
        assert (
            list(pool.map(lambda _: files.download(f"{server.url}/whole.h5", path, MD5), range(4)))
            == [str(path)] * 4
        )
    assert path.read_bytes() == CONTENT and list(tmp_path.iterdir()) == [path]


# --- Files written here -----------------------------------------------------------------------------------------


def test_a_part_has_a_new_name_and_the_rights_of_any_new_file(tmp_path):
    path, plain = tmp_path / "a.json", tmp_path / "plain"
    plain.touch()
    with files.atomic_write(path) as first, files.atomic_write(path) as second:
        assert first != second and files._PART.fullmatch(os.path.basename(first))
        assert os.path.basename(first).startswith(
            ".a.json."
        )  # hidden from scripts that list a folder
        for part in (first, second):
            with open(part, "w") as file:
                file.write("whole")
    assert path.read_text() == "whole"
    assert path.stat().st_mode == plain.stat().st_mode


def test_the_longest_name_can_be_written(tmp_path):
    path = tmp_path / ("é" * 126 + ".h5")  # 255 bytes
    with files.atomic_write(path) as part, open(part, "w") as file:
        file.write("whole")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_a_link_in_place_of_a_part_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f"w.h5.{os.getpid()}.part").symlink_to(victim)  # the name of earlier releases
    with files.atomic_write(tmp_path / "w.h5") as part, open(part, "w") as file:
        file.write("whole")
    assert victim.read_text() == "precious"


@pytest.fixture
def dead():
    """The number of a process that is no longer there."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_parts_of_dead_processes_are_removed(tmp_path, dead):
    names = [f"b.h5.{os.getpid()}.part", f"b.h5.{os.getpid()}.0123abcd.part", "c.part", "d.h5"]
    for name in [f"a.h5.{dead}.part", f".interrupted.h5.{dead}.0123abcd.part", *names]:
        (tmp_path / name).touch()
    files.remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_what_others_named_like_parts_is_left_alone(tmp_path, dead):
    (tmp_path / "target").touch()
    (tmp_path / f"link.{dead}.part").symlink_to(tmp_path / "target")
    (tmp_path / f"folder.{dead}.part").mkdir()
    for name in (
        "x.99999999999999999999.part",
        "x.-1.part",
        "x.0.part",
        f"x.{dead}.zzz.part",
        f".{dead}.part",
    ):
        (tmp_path / name).touch()
    before = sorted(tmp_path.iterdir())
    files.remove_parts(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_failed_write_of_hdf5_is_told_in_plain_words(tmp_path):
    """On a full disk h5py raises this when it closes the file."""
    told = (
        "Can't decrement id ref count (file write failed: time = Sat Nov 28 12:00:00 2026\n, filename = 'a.h5.part', "
        "file descriptor = 5, errno = 28, error message = 'No space left on device', buf = 0x55, total write size = 2)"
    )
    match = "a.h5 must be writable. Received: No space left on device; what was there"
    with pytest.raises(OSError, match=match), files.atomic_write(str(tmp_path / "a.h5")):
        raise RuntimeError(told)
    assert files.reason(RuntimeError("Unable to open file\nmore")) == "Unable to open file"


def test_a_name_too_long_for_a_file_is_cut_and_told_from_others():
    assert files.short_name("a" * 100, ".json") == f"{'a' * 100}.json"
    first, second = (files.short_name("鳥" * 300 + last, ".json") for last in "ab")
    assert first != second and first.startswith("鳥" * 60) and first.endswith(".json")
    assert len(first.encode()) <= 200
