"""Downloads, from a server on loopback; what killed processes leave."""

import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading

import pytest

from mrcnn import files

CONTENT = bytes(range(256)) * 9000  # 2.3 MB: more than one read
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        if self.path == "/absent.h5":
            self.send_error(404)
            return
        self.send_response(200)
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
    assert "another checksum" in caplog.text


def test_a_cached_file_of_an_earlier_release_is_kept(server, tmp_path):
    path = tmp_path / "whole.h5"
    path.write_bytes(b"of 2017")
    earlier = hashlib.md5(b"of 2017").hexdigest()
    assert files.download(f"{server.url}/whole.h5", path, MD5, earlier) == str(path)
    assert path.read_bytes() == b"of 2017" and server.requests == 0
    with pytest.raises(files.DownloadError, match="its MD5 must be"):  # what is fetched must be today's
        files.download(f"{server.url}/whole.h5", tmp_path / "new.h5", earlier, MD5)


def nothing_listening():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize(
    ("name", "md5", "match"),
    [
        ("cut.h5", None, "cut off after 1152000 of 2304000 bytes"),
        ("whole.h5", "0" * 32, f"its MD5 must be {'0' * 32}, received {MD5}"),
        ("absent.h5", None, "404"),
        (None, None, "refused"),
    ],
)
def test_a_failed_download_names_url_path_and_remedy_and_leaves_nothing(server, tmp_path, name, md5, match):
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


def test_parts_of_dead_processes_are_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [f"a.h5.{dead.pid}.part", f"b.h5.{os.getpid()}.part", "c.part", "d.h5"]
    for name in names:
        (tmp_path / name).touch()
    files.remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == names[1:]


def test_a_name_too_long_for_a_file_is_cut_and_told_from_others():
    assert files.short_name("a" * 100, ".json") == f"{'a' * 100}.json"
    first, second = (files.short_name("鳥" * 300 + last, ".json") for last in "ab")
    assert first != second and first.startswith("鳥" * 60) and first.endswith(".json")
    assert len(first.encode()) <= 200
