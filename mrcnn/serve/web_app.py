"""The application: the routes of the server, from a request to its answer."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
from fastapi import APIRouter, FastAPI, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .. import __version__
from ..files.safe_text import printable
from . import answers, kserve, uploads
from .admission import Accepted, Admission
from .answers import Format, Found, Masks
from .errors import RequestError
from .guard import Guard, error_response
from .metrics import Metrics
from .models import Detected, Models, ServedModel
from .settings import Settings

log = logging.getLogger("mrcnn")
router = APIRouter()

PAGE = Path(__file__).parent / "page"
DESCRIPTION = """Finds objects in images, each with a box, a class, a score and a mask.

Boxes are `[y1, x1, y2, x2]` in pixels of the upright image. Every error is `{"error": "..."}`.
400: the request; 401: the token; 408: a slow client; 413: too large; 415: not a readable image;
503: the server is full, ask again after the seconds in `Retry-After`; 504: no answer in time."""

T = TypeVar("T")


class State(NamedTuple):
    """The objects that the routes share. pool: threads that decode images and write answers."""

    settings: Settings
    metrics: Metrics
    admission: Admission
    models: Models
    pool: ThreadPoolExecutor


def make_app(state: State, host: str = "127.0.0.1", token: str | None = None) -> FastAPI:
    """Return the application. Its end closes the models.

    host: that the server listens on. token: which requests must have; None accepts all.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(state.models.close)
        await asyncio.to_thread(state.pool.shutdown)

    app = FastAPIOffline(
        title="mrcnn",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=[{"name": name} for name in ("detection", "kserve", "state")],
        docs_url="/docs",
        redoc_url=None,
        static_url="/docs-files",
        lifespan=lifespan,
    )
    app.state.server = state
    # The guard checks the token; this lets the page of OpenAPI ask for it.
    bearer = [] if token is None else [Security(HTTPBearer(auto_error=False))]
    app.include_router(router, dependencies=bearer)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_middleware(
        Guard, settings=state.settings, metrics=state.metrics, host=host, token=token
    )
    return app


# --- Errors ---------------------------------------------------------------------------------------


async def _request_error(_: Request, error: Any) -> JSONResponse:
    return error_response(error)


async def _http_error(_: Request, error: Any) -> JSONResponse:
    """Answer an error of Starlette: an unknown path, a wrong method, a damaged form."""
    sentence = f"The server must know the request. Received: {error.detail}. Try GET /docs."
    answer = error_response(RequestError(error.status_code, sentence))
    answer.headers.update(error.headers or {})
    return answer


async def _validation_error(_: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    received = printable(first.get("input"), 100)
    sentence = f"{name}: {first['msg']}. Received: {received}. Try GET /docs."
    return error_response(RequestError(400, sentence))


# --- Pages and states -----------------------------------------------------------------------------


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """Return the page."""
    return FileResponse(PAGE / "index.html")


@router.get("/health", tags=["state"])
async def health(request: Request) -> JSONResponse:
    """200 if the server detects; 503 if a batch has been running for longer than a request may."""
    state = _state(request)
    busy = state.models.busy_seconds()
    is_well = busy <= state.settings.answer_seconds
    content = {"status": "ok" if is_well else "stalled", "busy_seconds": round(busy, 3)}
    return JSONResponse(content, 200 if is_well else 503)


@router.get("/metrics", tags=["state"])
async def metrics(request: Request) -> Response:
    """Counters and times, as Prometheus reads them."""
    return Response(_state(request).metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.get("/v1/models", tags=["detection"])
async def models(request: Request) -> dict[str, Any]:
    """The models, the default one first, and the limits of a request."""
    state = _state(request)
    settings = state.settings
    return {
        "models": [model.describe() for model in state.models],
        "limits": {
            "bytes": settings.max_bytes,
            "pixels": settings.max_pixels,
            "images": settings.batch_size,
        },
    }


# --- Detection ------------------------------------------------------------------------------------

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "string", "format": "binary"}},
                    "required": ["image"],
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": {"type": "string", "description": "base64"},
                        "images": {"type": "array", "items": {"type": "string"}},
                    },
                },
                "example": {"images": [{"name": "image.png", "data": "iVBORw0KGgo..."}]},
            },
        },
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The detections", "content": {"application/json": {}, "image/png": {}}}
}


@router.post(
    "/v1/detect",
    tags=["detection"],
    openapi_extra=_BODY,
    responses=_ANSWERS,
    response_class=Response,
)
async def detect(
    request: Request,
    model: Annotated[str | None, Query(description="Default: the first of /v1/models")] = None,
    format: Annotated[
        Format, Query(description="labelme, png and jpg have one image per request")
    ] = "json",
    masks: Annotated[Masks, Query(description="The form of the masks in JSON")] = "rle",
    min_confidence: Annotated[
        float | None, Query(ge=0, le=1, description="Default: that of the model")
    ] = None,
) -> Response:
    """Find objects in the images of a form (`curl -F image=@a.jpg`) or of JSON with base64."""
    state = _state(request)
    served = state.models.get(model)

    async def answer(accepted: Accepted) -> answers.Answer:
        files = await uploads.read_uploads(request, state.settings)
        found = await _detect_files(state, served, files, accepted)
        found = [_confident(one, served, min_confidence) for one in found]
        return await _in_pool(state, answers.answer, found, served.name, format, masks)

    body, media_type = await _answered(state, answer)
    return Response(body, media_type=media_type)


@router.post("/v1/preview", tags=["detection"], openapi_extra=_BODY, response_class=Response)
async def preview(request: Request, model: str | None = None) -> Response:
    """Return the upright image as the network reads it, for browsers that cannot show TIFF."""
    state = _state(request)
    served = state.models.get(model)

    async def answer(accepted: Accepted) -> answers.Answer:
        files = await uploads.read_uploads(request, state.settings)
        images = await _decoded(state, served, files[:1], accepted)
        return await _in_pool(state, answers.encoded, images[0], "png")

    body, media_type = await _answered(state, answer)
    return Response(body, media_type=media_type)


# --- KServe V2 ------------------------------------------------------------------------------------


@router.get("/v2", tags=["kserve"])
async def server_metadata() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    return {"name": "mrcnn", "version": __version__, "extensions": ["binary_tensor_data"]}


@router.get("/v2/health/live", tags=["kserve"])
async def live() -> dict[str, bool]:
    """200 as soon as the server answers."""
    return {"live": True}


@router.get("/v2/health/ready", tags=["kserve"])
async def ready(request: Request) -> JSONResponse:
    """As /health."""
    return await health(request)


@router.get("/v2/models/{name}", tags=["kserve"])
@router.get("/v2/models/{name}/versions/{version}", tags=["kserve"])
async def model_metadata(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """Inputs and outputs of a model."""
    served = _versioned(request, name, version)
    return kserve.model_metadata(served.name, served.version, served.channels)


@router.get("/v2/models/{name}/ready", tags=["kserve"])
@router.get("/v2/models/{name}/versions/{version}/ready", tags=["kserve"])
async def model_ready(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """200 for a served model."""
    return {"name": _versioned(request, name, version).name, "ready": True}


@router.post("/v2/models/{name}/infer", tags=["kserve"], response_class=Response)
@router.post("/v2/models/{name}/versions/{version}/infer", tags=["kserve"], response_class=Response)
async def infer(request: Request, name: str, version: str | None = None) -> Response:
    """Detect in a tensor `image`: UINT8 `[H, W, C]` or `[B, H, W, C]`, or files as BYTES `[B]`."""
    state = _state(request)
    served = _versioned(request, name, version)

    async def answer(accepted: Accepted) -> kserve.InferAnswer:
        length = request.headers.get(kserve.LENGTH_HEADER)
        body = await request.body()
        wanted = await _in_pool(state, kserve.read_request, body, length, served.channels)
        if wanted.files:
            found = await _detect_files(state, served, wanted.files, accepted)
        else:
            found = await _detect_arrays(state, served, wanted.arrays, accepted)
        found = [_confident(one, served, None) for one in found]
        return await _in_pool(state, kserve.response, wanted, found, served.name)

    (body, media_type), length = await _answered(state, answer)
    headers = {} if length is None else {kserve.LENGTH_HEADER: str(length)}
    return Response(body, media_type=media_type, headers=headers)


def _versioned(request: Request, name: str, version: str | None) -> ServedModel:
    """Return the model of a name. Raises: RequestError 404 for another version than the present."""
    served = _state(request).models.get(name)
    if version is not None and version != served.version:
        raise RequestError(
            404,
            f"version must be the present one, {served.version}. "
            f"Received: {printable(version)}. Try the path without versions.",
        )
    return served


# --- From images to detections --------------------------------------------------------------------


def _state(request: Request) -> State:
    return request.app.state.server


async def _answered(state: State, answer: Callable[[Accepted], Any]) -> Any:
    """Return what `answer` gives for an accepted request.

    Raises: RequestError, for whatever happens: 503 without a place, 504 if it takes too long.
    """
    limit = state.settings.body_seconds + state.settings.answer_seconds
    try:
        with state.admission.accept() as accepted:
            return await asyncio.wait_for(answer(accepted), limit)
    except (RequestError, HTTPException):
        raise
    except asyncio.TimeoutError as error:
        raise RequestError(
            504, f"An answer must be ready within {limit:g} seconds. Received: none. Try again."
        ) from error
    except ClientDisconnect as error:  # nobody reads this answer
        raise RequestError(400, "The client closed the connection.") from error
    except Exception as error:
        log.exception("A request failed.")
        raise RequestError(
            500, "The server failed, and its log says why. Received: an image that it should take."
        ) from error


async def _in_pool(state: State, function: Callable[..., T], *args: Any) -> T:
    """Run a function in one of the threads of the pool."""
    run = functools.partial(function, *args)
    return await asyncio.get_running_loop().run_in_executor(state.pool, run)


async def _decoded(
    state: State, served: ServedModel, files: Sequence[uploads.Upload], accepted: Accepted
) -> list[np.ndarray]:
    """Return the pixels of image files, counted by their headers before they are decoded."""
    accepted.add(images=len(files) - 1)
    pixels = await _in_pool(state, uploads.check_sizes, files, state.settings)
    accepted.add(pixels=pixels)
    return await _in_pool(state, uploads.decode_images, files, served.channels)


async def _detect_files(
    state: State, served: ServedModel, files: Sequence[uploads.Upload], accepted: Accepted
) -> list[Found]:
    images = await _decoded(state, served, files, accepted)
    detected = await _detect(state, served, images)
    rows = zip(files, images, detected, strict=True)
    return [Found(file.name, image, *one) for file, image, one in rows]


async def _detect_arrays(
    state: State, served: ServedModel, images: Sequence[np.ndarray], accepted: Accepted
) -> list[Found]:
    if len(images) > state.settings.batch_size:
        raise RequestError(
            400,
            f"A request must have at most {state.settings.batch_size} images. "
            f"Received: {len(images)}. Try several requests.",
        )
    accepted.add(images=len(images) - 1, pixels=sum(image[..., 0].size for image in images))
    detected = await _detect(state, served, images)
    rows = enumerate(zip(images, detected, strict=True), start=1)
    return [Found(f"image_{i}", image, *one) for i, (image, one) in rows]


async def _detect(
    state: State, served: ServedModel, images: Sequence[np.ndarray]
) -> list[Detected]:
    """Queue images and wait for their detections."""
    queue = state.models.queues[served.name]
    futures = [asyncio.wrap_future(queue.submit(image)) for image in images]
    try:
        return await asyncio.wait_for(asyncio.gather(*futures), state.settings.answer_seconds)
    finally:
        for future in futures:
            future.cancel()  # those that are not detected yet, if one failed or time is over


def _confident(found: Found, served: ServedModel, min_confidence: float | None) -> Found:
    """Leave out the detections below a confidence; None for that of the model's config."""
    lowest = served.min_confidence if min_confidence is None else min_confidence
    return found._replace(result=found.result.above(lowest))
