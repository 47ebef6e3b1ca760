"""The address that a server listens on, and whether it is this machine's own."""

from __future__ import annotations

import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that does not listen yet: nobody can connect to it.

    port: 0 for a free one. Raises: OSError that names the address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only if the protocol is named, asyncio sets TCP_NODELAY: without it answers take 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError, UnicodeError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise OSError(
            f"--host and --port must be a free address of this machine. Received: {host}, port "
            f"{port} ({reason}). Try another port, or --port 0 for any free one."
        ) from error
    return listener


def url(listener: socket.socket) -> str:
    """Return the address of a bound socket as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
