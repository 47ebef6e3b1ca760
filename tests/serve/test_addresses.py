"""Addresses of a server."""

import contextlib
import socket

import pytest

from mrcnn.serve.addresses import bind, is_loopback, url


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "::1"])
def test_addresses_of_this_machine_only(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "a.org", "127.0.0.1.a.org"])
def test_addresses_that_others_reach(host):
    assert not is_loopback(host)


def test_bound_socket_takes_no_connection_yet():
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert url(listener) == f"http://127.0.0.1:{port}"
        with pytest.raises(OSError), contextlib.closing(socket.create_connection(("", port))):
            pass


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), ("127.0.0.1", 99_999)])
def test_unusable_address_is_named(host, port):
    with pytest.raises(OSError, match=f"Received: {host}, port {port}"):
        bind(host, port)


def test_taken_port_is_named():
    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=rf"port {port} \("):
            bind("127.0.0.1", port)
