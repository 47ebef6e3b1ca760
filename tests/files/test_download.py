"""Downloads from a server on the loopback address."""

import hashlib
import http.server
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mrcnn.files import download as downloads
from mrcnn.files.download import DownloadError, download

CONTENT = b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 9000  # 2.3 MB: more than one read
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        self.server.ranges.append((self.headers.get("Range"), self.headers.get("If-Range")))
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        if self.path == "/absent.h5":
            self.send_error(404)
            return
        if self.path.startswith("/flaky/"):
            self.send_a_third(self.path.removeprefix("/flaky/"))
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

    def send_a_third(self, kind):
        """Answer with a third of the file at most, then close the connection.

        kind: "range": the rest is sent if it is asked for; "whole": always from the start, and
        all of it from the second request on; "changed": the file changes after the first request;
        "other": an answer to a range that is not the one asked for; "once": no answer to the rest.
        """
        wanted = self.headers.get("Range")
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        etag = '"2"' if kind == "changed" and self.server.requests > 1 else '"1"'
        content = CONTENT[::-1] if etag == '"2"' else CONTENT
        third = len(content) // 3
        if kind == "whole" or self.headers.get("If-Range", etag) != etag:
            first, third = 0, third * 3 if self.server.requests > 1 else third
        if kind == "once" and wanted:
            self.close_connection = True
            return
        self.send_response(206 if first else 200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(content) - first))
        if first:
            begin = first + (kind == "other")
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {begin}-{last}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[first : first + third])

    def log_message(self, *args):
        """Keep the output of the test free of log lines."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "_PAUSE", 0)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = 0
    server.ranges = []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", ["whole.h5", "unannounced.h5"])
@pytest.mark.parametrize("md5", [MD5, None])
def test_complete_download_is_kept_and_not_repeated(server, tmp_path, name, md5):
    path = tmp_path / "cache" / "models" / name
    for _ in range(2):
        assert download(f"{server.url}/{name}", path, md5) == str(path)
        assert path.read_bytes() == CONTENT
    assert server.requests == 1
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_cached_file_with_another_checksum_is_downloaded_again(server, tmp_path, caplog):
    path = tmp_path / "whole.h5"
    path.write_bytes(b"half")
    download(f"{server.url}/whole.h5", path, MD5)
    assert path.read_bytes() == CONTENT
    assert "whole.h5 is not the released file (it must begin with" in caplog.text


def test_cached_file_of_an_earlier_release_is_kept(server, tmp_path):
    path = tmp_path / "whole.h5"
    path.write_bytes(b"of 2017")
    earlier = hashlib.md5(b"of 2017").hexdigest()
    assert download(f"{server.url}/whole.h5", path, MD5, older_md5s=[earlier]) == str(path)
    assert path.read_bytes() == b"of 2017" and server.requests == 0
    # A new download must be today's release.
    with pytest.raises(DownloadError, match="its MD5 must be"):
        download(f"{server.url}/whole.h5", tmp_path / "new.h5", earlier, older_md5s=[MD5])


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
def test_failed_download_names_url_path_and_remedy_and_leaves_no_file(
    server, tmp_path, name, md5, match
):
    url = f"{server.url}/{name}" if name else f"{nothing_listening()}/x.h5"
    path = tmp_path / "models" / "x.h5"
    with pytest.raises(DownloadError, match=match) as error:
        download(url, path, md5)
    assert isinstance(error.value, OSError)
    assert url in str(error.value)
    assert f"put it at {path}" in str(error.value)
    assert list(path.parent.iterdir()) == []


def test_failed_download_keeps_the_old_file(server, tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(b"old")
    with pytest.raises(DownloadError, match="cut off"):
        download(f"{server.url}/cut.h5", path, MD5)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("address", "path", "checks", "match"),
    [
        ("login.h5", "x.h5", {}, "received a web page, perhaps of a login"),
        ("login.h5", "x.bin", {}, "received a web page, perhaps of a login"),
        ("login.h5", "x.pth", {"sha256": SHA256}, "received a web page, perhaps of a login"),
        ("whole.h5", "x.zip", {}, r"must begin with b'PK\\x03\\x04', received b'\\x89HDF'"),
        ("whole.h5", "x.h5", {"size": 9_999_999}, "must have 9,999,999 bytes, received 2,304,008"),
        ("whole.h5", "x.h5", {"size": 99}, "more than the 99 bytes"),
        ("unannounced.h5", "x.h5", {"size": 99}, "more than the 99 bytes"),
        ("to/file:///etc/passwd", "x.bin", {}, "url 'file:///etc/passwd' is not allowed"),
        ("to/ftp://127.0.0.1:1/x", "x.bin", {}, "must begin with http or https, received ftp:"),
    ],
)
def test_wrong_file_is_never_kept(server, tmp_path, address, path, checks, match):
    with pytest.raises(DownloadError, match=match):
        download(f"{server.url}/{address}", tmp_path / path, **checks)
    assert list(tmp_path.iterdir()) == []


def test_only_http_addresses_are_downloaded(tmp_path):
    with pytest.raises(DownloadError, match="must begin with http or https"):
        download((tmp_path / "x").as_uri(), tmp_path / "y")


def test_response_without_a_size_is_limited(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_MOST_BYTES", 1000)
    with pytest.raises(DownloadError, match="more than the 1,000 bytes"):
        download(f"{server.url}/unannounced.h5", tmp_path / "x.h5")


def test_redirect_is_followed(server, tmp_path):
    download(f"{server.url}/to/{server.url}/whole.h5", tmp_path / "x.h5", MD5, size=len(CONTENT))
    assert (tmp_path / "x.h5").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"half", CONTENT[:-1], b"<html>log in</html>"])
def test_cached_file_of_another_size_or_kind_is_downloaded_again(server, tmp_path, content):
    path = tmp_path / "whole.h5"
    path.write_bytes(content)
    download(f"{server.url}/whole.h5", path, size=len(CONTENT))
    assert path.read_bytes() == CONTENT


def test_threads_may_download_the_same_file(server, tmp_path):
    path = tmp_path / "whole.h5"
    with ThreadPoolExecutor(4) as pool:
        assert (
            list(pool.map(lambda _: download(f"{server.url}/whole.h5", path, MD5), range(4)))
            == [str(path)] * 4
        )
    assert path.read_bytes() == CONTENT and list(tmp_path.iterdir()) == [path]


# --- Resumed downloads ---


def test_lost_connection_is_resumed_where_it_ended(server, tmp_path, caplog):
    path = tmp_path / "x.h5"
    download(f"{server.url}/flaky/range", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    # 2304008 bytes = 3 * 768002 + 2: the fourth request brings the last two.
    wanted = [(f"bytes={768002 * i}-", '"1"') for i in (1, 2, 3)]
    assert server.ranges == [(None, None), *wanted]
    assert "cut off after 768002 of 2304008 bytes; resuming" in caplog.text


def test_server_that_ignores_ranges_starts_over(server, tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    content = CONTENT[: len(CONTENT) // 3 * 3]  # all that this server sends
    monkeypatch.setattr(f"{__name__}.CONTENT", content)
    download(f"{server.url}/flaky/whole", path, sha256=hashlib.sha256(content).hexdigest())
    assert path.read_bytes() == content and server.requests == 2


def test_file_that_changed_meanwhile_is_downloaded_from_its_start(server, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.CONTENT", CONTENT[: len(CONTENT) // 3 * 3])
    path = tmp_path / "x.bin"
    download(f"{server.url}/flaky/changed", path)
    assert path.read_bytes() == CONTENT[: len(CONTENT) // 3 * 3][::-1]
    assert server.ranges == [(None, None), ("bytes=768002-", '"1"')]


@pytest.mark.parametrize(
    ("kind", "match", "requests"),
    [("other", "another part than the one asked for", 2), ("once", "cut off after 768002", 5)],
)
def test_failed_resumption_leaves_no_file(server, tmp_path, kind, match, requests):
    with pytest.raises(DownloadError, match=match):
        download(f"{server.url}/flaky/{kind}", tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == [] and server.requests == requests


# --- SHA-256 ---


@pytest.mark.parametrize("digits", [8, 64])
def test_first_digits_of_the_sha256_are_enough(server, tmp_path, digits):
    path = tmp_path / "whole.h5"
    for _ in range(2):
        download(f"{server.url}/whole.h5", path, sha256=SHA256[:digits])
    assert server.requests == 1


@pytest.mark.parametrize(
    ("sha256", "rule"), [("bf2d0c1e", "begin with bf2d0c1e"), ("0" * 64, f"be {'0' * 64}")]
)
def test_file_with_another_sha256_is_not_kept(server, tmp_path, sha256, rule):
    with pytest.raises(DownloadError, match=f"its SHA-256 must {rule}, received {SHA256}"):
        download(f"{server.url}/whole.h5", tmp_path / "x.h5", sha256=sha256)
    assert list(tmp_path.iterdir()) == []


def test_cached_file_with_another_sha256_is_downloaded_again(server, tmp_path):
    path = tmp_path / "whole.h5"
    path.write_bytes(CONTENT[:-1] + b"x")
    download(f"{server.url}/whole.h5", path, size=len(CONTENT), sha256=SHA256[:8])
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("suffix", "head", "is_right"),
    [
        (".pth", b"PK\x03\x04", True),
        (".pth", b"\x80\x02\x8a\nl\xfc", True),  # a pickle of protocol 2
        (".pth", b"\x89HDF", False),
        (".pkl", b"\x80\x04", True),
        (".pkl", b"PK\x03\x04", False),
    ],
)
def test_torch_file_begins_as_an_archive_or_a_pickle(tmp_path, suffix, head, is_right):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(head + bytes(600))
    if is_right:
        assert download("http://127.0.0.1:9/x", path) == str(path)
        return
    with pytest.raises(DownloadError, match="refused"):
        download(f"{nothing_listening()}/x", path)
