"""Write image files atomically, and recognize those that this package wrote."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from .atomic import atomic_write

if TYPE_CHECKING:
    import numpy as np

# At the start of the PNG files that `save_image` marks.
_MARK = ("Software", "mrcnn")


def save_image(image: np.ndarray, path: str | Path, marked: bool = False) -> None:
    """Write an image `[H, W, 3]` uint8 atomically, and create its folder.

    marked: let `is_own_image` recognize the file, which must be a PNG.
    """
    # Pillow loads slowly, and the command must answer a wrong option at once.
    from PIL import Image, PngImagePlugin

    file_format = Image.registered_extensions().get(Path(path).suffix.lower())
    if file_format is None:
        raise ValueError(
            f"An image's name must end in .png or .jpg. Received: {path}. Try {path}.png."
        )
    options = {}
    if marked:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text(*_MARK)
    with atomic_write(path) as part:
        Image.fromarray(image).save(part, format=file_format, **options)


def is_own_image(path: str | Path) -> bool:
    """Whether a file is an image that `save_image` marked."""
    try:
        with open(path, "rb") as file:
            return b"tEXt" + "\0".join(_MARK).encode() in file.read(100)
    except OSError:
        return False


def free_image_path(
    folder: str | Path, stem: str, ending: str = ".png", taken: Collection[str] = ()
) -> Path:
    """A path `<stem><ending>` in a folder, or `<stem>_2<ending>` and so on if a file has that name.

    An image that `save_image` marked may be overwritten; any other file may be the user's.

    taken: names that must not be used, in lower case.
    """
    path, count = Path(folder, f"{stem}{ending}"), 1
    while path.name.casefold() in taken or (os.path.exists(path) and not is_own_image(path)):
        count += 1
        path = path.with_name(f"{stem}_{count}{ending}")
    return path
