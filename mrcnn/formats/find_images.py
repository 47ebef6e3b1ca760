"""Finds the image files that an annotation file names, on any system and in the usual folders."""

from __future__ import annotations

import os
import re
import urllib.parse
from pathlib import Path

IMAGES_TRIED = 20  # of an annotation file, to choose the folder of its images
MAX_FOLDERS = 10  # of a file name that are tried; longer paths lose their first folders


def usual_folders(path: Path) -> list[Path]:
    """Return the folders in which tools put the images of an annotation file, most usual first.

    COCO: annotations/instances_val2017.json and val2017/. CVAT, Datumaro, Ultralytics:
    annotations/instances_val.json and images/ or images/val/. mmdetection: annotations/val.json and
    val/. Roboflow: valid/_annotations.coco.json next to the images. Label Studio: result.json and
    images/.
    """
    subset = re.sub("^instances_", "", path.stem)
    here, above = path.parent, path.parent.parent
    is_instances = path.stem.startswith("instances_")
    if not is_instances and not re.search("annot|label", here.name, re.IGNORECASE):
        return [here, here / "images", here / subset, here / "images" / subset]
    folders = [above / subset, here / subset, here, here / "images"]
    folders += [above / "images" / subset, here / "images" / subset, above / "images", above]
    return folders if is_instances else [here, *folders]


def images_folder(names: dict[str, str], path: Path, images_dir: str | Path | None) -> Path:
    """Return the folder that contains most of a sample of the images; the first of equal ones.

    names: key -> file name. path: the annotation file. images_dir: the folder, if it is known.
    """
    if images_dir is not None:
        return Path(images_dir)
    step = max(1, len(names) // IMAGES_TRIED)
    sample = dict(list(names.items())[::step])
    return max(usual_folders(path), key=lambda folder: len(ImageSearch(folder).find(sample)))


def path_parts(name: str) -> list[str]:
    """Return the folders and the name of a file name, without any `..` or root.

    The name may come from Windows, a URL or another machine.
    """
    if re.match(r"[a-z]+://", name, re.IGNORECASE):
        name = urllib.parse.unquote(name.split("?")[0].split("//", 1)[1])
    parts = [part for part in re.split(r"[\\/]", name) if part not in ("", ".")]
    if ".." in parts:
        last = len(parts) - parts[::-1].index("..")
        parts = parts[last:]
    return [part for part in parts[-MAX_FOLDERS:] if not part.endswith(":")]  # C:


class ImageSearch:
    """Finds named files in one folder and below.

    A relative name with `..` is followed out of the folder, as `mrcnn detect --format coco` writes
    it; an absolute name is not.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._names_in: dict[Path, dict[str, str]] = {}  # folder -> lower-case name -> name

    def find(self, names: dict[str, str]) -> dict[str, Path]:
        """Return key -> path of the files that exist.

        A file is searched as it is named, then without its first folders, then in other case. No
        file is found for two keys unless both name it in full.

        names: key -> file name.
        """
        found = {}
        for key, name in names.items():
            file = self._as_named(name)
            if file is not None:
                found[key] = file
        taken = set(found.values())
        for key, name in names.items():
            if key in found:
                continue
            file = self._by_end(path_parts(name))
            if file is not None and file not in taken:
                found[key] = file
                taken.add(file)
        return found

    def _as_named(self, name: str) -> Path | None:
        if re.match(r"\.\.[\\/]", name):
            file = self.folder / name.replace("\\", "/")
        else:
            file = self.folder.joinpath(*path_parts(name))
        return file if os.path.isfile(file) else None

    def _by_end(self, parts: list[str]) -> Path | None:
        files = [self.folder.joinpath(*parts[i:]) for i in range(len(parts))]
        for file in files:
            if os.path.isfile(file):
                return file
        for file in files:
            name = self._names_of(file.parent).get(file.name.lower())
            if name is not None and os.path.isfile(file.parent / name):
                return file.parent / name
        return None

    def _names_of(self, folder: Path) -> dict[str, str]:
        """Return lower-case name -> name of the files in a folder, listed once."""
        if folder not in self._names_in:
            names = os.listdir(folder) if os.path.isdir(folder) else []
            self._names_in[folder] = {name.lower(): name for name in names}
        return self._names_in[folder]
