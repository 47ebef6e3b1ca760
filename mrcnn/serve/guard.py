"""ASGI middleware in front of the application: who may ask, how much, and how slowly.

Also counts the answers, because it sees those of every kind.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from ..files.safe_text import printable
from .addresses import is_loopback
from .errors import RequestError
from .metrics import Metrics
from .settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# What everybody may see: the page, which asks for the token, and whether the server lives.
PUBLIC = frozenset(["/", "/health", "/v2/health/live", "/v2/health/ready", "/openapi.json"])
PUBLIC_FOLDERS = ("/page/", "/docs")
METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])

# No script, style or image of another address; the page of this server in no other page.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The page of OpenAPI has a script in its HTML.
DOCS_POLICY = PAGE_POLICY.replace("'self';", "'self' 'unsafe-inline';", 2)


class Guard:
    """Refuses requests before the application sees them, and bounds the bodies that it reads.

    host: that the server listens on. token: which clients must send; None accepts all.
    """

    def __init__(
        self, app: Any, settings: Settings, metrics: Metrics, host: str, token: str | None
    ):
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.host = host
        self.token = token

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = LimitedBody(receive, self.settings)
        send = self._counting(scope, send)
        try:
            self.check(scope["method"], scope["path"], headers)
        except RequestError as error:
            await error_response(error)(scope, body.receive, send)
            return
        await self.app(scope, body.receive, send)

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Check a request by its head. Raises: RequestError 401, 403, 413."""
        if self.token is None:
            self._check_browser(method, headers)
        elif path not in PUBLIC and not path.startswith(PUBLIC_FOLDERS):
            self._check_token(headers)
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > self.settings.max_bytes:
            raise too_many_bytes(self.settings, f"{int(length):,}")

    def _check_token(self, headers: Headers) -> None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        expected = (self.token or "").encode()
        is_right = hmac.compare_digest(token.strip().encode("utf-8", "replace"), expected)
        if scheme.lower() != "bearer" or not is_right:
            raise RequestError(
                401,
                "A request must have the server's token in the header Authorization. Received: "
                f"{'another one' if token else 'none'}. Try Authorization: Bearer TOKEN.",
            )

    def _check_browser(self, method: str, headers: Headers) -> None:
        """Refuse pages of other sites, which a browser lets send requests to this machine.

        One of them may even have a name that leads here (DNS rebinding): then Host names it.
        """
        name = _host_name(headers.get("host", ""))
        if is_loopback(self.host) and name and not is_loopback(name):
            raise RequestError(
                403,
                f"Host must be this machine, as the server has no token. Received: "
                f"{printable(name)}. Try http://{self.host}, or a server with --token.",
            )
        origin = headers.get("origin")
        is_foreign = origin is not None and origin.partition("//")[2] != headers.get("host", "")
        if method == "POST" and is_foreign:
            raise RequestError(
                403,
                "A page of another site cannot use a server without a token. "
                f"Received: the origin {printable(origin)}. Try a server with --token.",
            )

    def _counting(self, scope: MutableMapping[str, Any], send: Send) -> Send:
        """Return `send` that counts the answer, and adds the headers of every answer."""
        start = time.perf_counter()

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_security_headers(scope)]
                self._count(scope, message["status"], time.perf_counter() - start)
            # A client that does not read must not hold its answer in memory without end.
            await asyncio.wait_for(send(message), self.settings.answer_seconds)

        return counting

    def _count(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        path = getattr(scope.get("route"), "path", "other")  # a route's, never a client's text
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.requests.labels(method, path, str(status)).inc()
        self.metrics.request_seconds.labels(path).observe(seconds)


def _host_name(host: str) -> str:
    """Return the name in a Host header, without its port; "" without one."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return "an invalid name"


def _security_headers(scope: MutableMapping[str, Any]) -> list[tuple[bytes, bytes]]:
    policy = DOCS_POLICY if scope["path"].startswith("/docs") else PAGE_POLICY
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    ]


class LimitedBody:
    """The body of a request, which must end within `max_bytes` and `body_seconds`."""

    def __init__(self, receive: Receive, settings: Settings):
        self._receive = receive
        self._settings = settings
        self._bytes = 0
        self._is_whole = False
        self._deadline = time.monotonic() + settings.body_seconds

    async def receive(self) -> Message:
        """Return the next part. Raises: RequestError 408, 413."""
        if self._is_whole:
            return await self._receive()
        try:
            remaining = self._deadline - time.monotonic()
            message = await asyncio.wait_for(self._receive(), max(remaining, 0.001))
        except asyncio.TimeoutError as error:
            raise RequestError(
                408,
                f"A body must come within {self._settings.body_seconds:g} seconds. "
                f"Received: {self._bytes:,} bytes until then. Try a faster connection.",
            ) from error
        self._bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._bytes > self._settings.max_bytes:
            raise too_many_bytes(self._settings, f"{self._bytes:,} and more")
        return message


def too_many_bytes(settings: Settings, received: str) -> RequestError:
    """Return the error of a body that is too large. received: its number of bytes."""
    return RequestError(
        413,
        f"A request must have at most {settings.max_bytes:,} bytes. Received: {received}. "
        "Try one image per request, a smaller image, or JPEG.",
    )


def error_response(error: RequestError) -> JSONResponse:
    """Return the answer to a request that failed, in the form of KServe's protocol."""
    return JSONResponse({"error": error.sentence}, error.status, headers=error.headers)
