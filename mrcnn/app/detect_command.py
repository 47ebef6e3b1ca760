"""`mrcnn detect`: images and videos to drawn detections, JSON and the files of other tools."""

from __future__ import annotations

import errno
import glob
import logging
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.image import read_image
from ..data.keypoints import skeleton_of
from ..drawing import pages
from ..drawing.heat_maps import draw_heat_maps
from ..files.addresses import is_url
from ..files.file_names import short_name
from ..files.image_files import SUFFIXES as IMAGE_SUFFIXES
from ..files.image_files import read_size
from ..files.safe_text import printable
from ..formats import export
from ..formats.detections_json import detection_entries
from ..formats.mask_forms import rles
from ..formats.reading import image_files
from ..inference import tracking
from ..inference.runtimes import is_exported
from .cli_support import (
    FAILED,
    OK,
    UsageError,
    error_sentence,
    failure,
    free_image_path,
    is_own_image,
    make_folder,
    save_image,
    say,
    use_views,
    write_json,
)
from .data_option import counted
from .detect_video import detect_video
from .model_option import check_model, load_to_detect
from .video import SUFFIXES as VIDEO_SUFFIXES
from .video import check_video

log = logging.getLogger("mrcnn")

# Endings of the names of written images and videos.
DRAWING, HEAT_MAP, VIDEO = "_detected.png", "_heat_map.png", "_detected.mp4"
MAX_NAMES = 20  # of failed images, in a message
WHOLE_NETWORK = 0  # --tile without a number: tiles as large as the network's input


class Tiling(NamedTuple):
    """Tiles of `side` x `side` pixels, of which neighbouring ones share `overlap` pixels."""

    side: int
    overlap: int


@dataclass
class ImagesToDetect:
    """names: all images and videos asked for, in order. failed: name -> reason.

    files: the readable images. videos: the readable videos.
    """

    names: list[str]
    files: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def run(args) -> int:
    """Run `mrcnn detect`."""
    if args.track:
        tracking.check_extra()
    images = find_images(args.images)
    _check_options(args, images)
    check_model(args.weights)
    out = make_folder(args.out, "--out")
    model, class_names = load_to_detect(args.weights, args.config, args.runtime)
    if model.config.RPN_ONLY:
        raise ValueError(
            f"mrcnn detect needs a network that knows classes. Received: {args.weights}, a region "
            "proposal network only (RPN_ONLY). Try `mrcnn evaluate`, which measures its proposals, "
            "or MaskRCNN.detect in Python."
        )
    if args.min_confidence is not None:
        model.config.DETECTION_MIN_CONFIDENCE = args.min_confidence
    use_views(model.config, args.tta)
    tiling = _tiling(args.tile, args.overlap, model.config.IMAGE_MAX_DIM)
    if args.debug and images.files:
        log.debug("Network: %s.", model.summary_line(read_size(images.files[0])))
    exports = export.Export(out, args.formats, class_names, skeleton_of(model.config))
    entries: list[dict] = []
    videos: list[dict] = []
    options = {"heat_map": args.heat_map, "tiling": tiling}
    interruption = _detect_all(model, class_names, images, out, exports, entries, options)
    if interruption is None:
        interruption = _detect_videos(model, class_names, images, out, args.track, videos)
    report = _description(model, class_names, args.weights)
    if tiling is not None:
        report["tile"], report["overlap"] = tiling
    if interruption is not None:
        report["partial"] = True
    report["images"] = entries
    if videos:
        report["videos"] = videos
    failed = [name for name in images.names if name in images.failed]
    if failed:
        report["failed"] = [{"file_name": name, "error": images.failed[name]} for name in failed]
    write_json(report, out / "detections.json")
    _say_what_was_written(out, entries, videos, exports.write())
    if interruption is not None:
        raise interruption
    return report_failures(len(images.names), failed)


def _check_options(args, images: ImagesToDetect) -> None:
    """Raise a UsageError for options that what was named cannot have."""
    if args.track and not images.videos:
        raise UsageError(
            f"--track follows objects over the frames of a video. Received: {args.images[0]}, and "
            "no video. Try without it."
        )
    _check_tile_options(args)
    for_images = {
        "--format": bool(args.formats),
        "--heat-map": args.heat_map,
        "--tile": args.tile is not None,
    }
    given = [option for option, is_given in for_images.items() if is_given]
    if images.videos and given:
        raise UsageError(
            f"{given[0]} is for images. Received: the video {images.videos[0]}. Try without it, or "
            "take the frames as images, for example with: ffmpeg -i film.mp4 frames/%06d.png"
        )


def _check_tile_options(args) -> None:
    """Raise a UsageError if --tile and --overlap do not fit together or to other options."""
    if args.tile is None:
        if args.overlap is not None:
            raise UsageError(
                "--overlap is what neighbouring tiles share. Received: "
                f"--overlap {args.overlap}, and no --tile. Try --tile too."
            )
        return
    if args.tile != WHOLE_NETWORK:
        _tiling(args.tile, args.overlap, args.tile)
    if args.heat_map:
        raise UsageError(
            "--heat-map shows an image as the network sees it at once. Received: --tile too, with "
            "which the network sees it in parts. Try one of the two."
        )
    if is_exported(args.weights) or args.runtime not in (None, "tensorflow"):
        source = args.weights if args.runtime is None else f"--runtime {args.runtime}"
        raise UsageError(
            f"--tile needs a weight file and TensorFlow. Received: {source}. Try the .h5 file, and "
            "no other --runtime."
        )


def _tiling(tile: int | None, overlap: int | None, network_side: int) -> Tiling | None:
    """The tiles of --tile and --overlap. network_side: the pixels of a tile for WHOLE_NETWORK.

    Raises: UsageError unless the overlap is smaller than a tile.
    """
    if tile is None:
        return None
    side = int(network_side) if tile == WHOLE_NETWORK else tile
    shared = side // 4 if overlap is None else overlap
    if shared >= side:
        raise UsageError(
            f"--overlap must be smaller than a tile. Received: {shared}, and tiles of {side} "
            f"pixels. Try --overlap {side // 4}, or larger tiles."
        )
    return Tiling(side, shared)


def _description(model, class_names: list[str], weights: str) -> dict:
    """What detections.json says about the network."""
    description = {
        "weights": str(weights),
        "class_names": class_names,
        "min_confidence": model.config.DETECTION_MIN_CONFIDENCE,
    }
    if model.config.has_keypoint_head():
        description["keypoint_names"] = model.config.KEYPOINT_NAMES
    if len(model.config.TTA):
        description["tta"] = list(model.config.TTA)
    return description


def _detect_all(
    model, class_names, images, out, exports, entries, options: dict[str, Any]
) -> BaseException | None:
    """Append an entry for each image; returns Ctrl-C or the write error that ended the loop early.

    An error of one image is recorded in `images.failed`, and the other images follow.

    options: keyword arguments of `detect_file`.
    """
    try:
        for file, drawing in zip(images.files, _output_paths(images.files, out), strict=True):
            try:
                entry = detect_file(model, class_names, file, drawing, exports, **options)
            except Exception as error:
                if isinstance(error, OSError) and not _is_about_the_name(error):
                    raise  # the output folder failed, not this image
                _record_failure(images.failed, file, error)
                continue
            entries.append(entry)
            log.info("%s: %s", printable(file), counted(len(entry["detections"]), "object"))
    except (KeyboardInterrupt, OSError) as error:
        log.warning(
            "Interrupted: the detections of the first %d of %d images are written.",
            len(entries),
            len(images.files),
        )
        return error
    return None


def _detect_videos(model, class_names, images, out, track, entries) -> BaseException | None:
    """Append an entry for each video; returns Ctrl-C or the write error that ended the loop early.

    An error of one video is recorded in `images.failed`, and the other videos follow.
    """
    taken: set[str] = set()
    for file in images.videos:
        drawing = free_image_path(out, short_name(file.stem, ""), VIDEO, taken)
        taken.add(drawing.name.casefold())
        try:
            entry, interrupted = detect_video(model, class_names, file, drawing, track)
        except (KeyboardInterrupt, OSError) as error:
            return error
        except Exception as error:
            _record_failure(images.failed, file, error)
            continue
        entries.append(entry)
        frames = counted(entry["frames"], "frame")
        log.info("%s: %s", printable(file), frames)
        if interrupted:
            return KeyboardInterrupt()
    return None


def _record_failure(failed: dict[str, str], file: Path, error: Exception) -> None:
    failed[str(file)] = error_sentence(error)
    log.error("%s: %s", printable(file), printable(error_sentence(error), 1000))
    log.debug("Traceback:", exc_info=True)


def _say_what_was_written(
    out: Path, images: list[dict], videos: list[dict], exported: list[Path]
) -> None:
    drawn = [counted(len(videos), "video")] if videos else []
    if images or not videos:
        drawn.insert(0, counted(len(images), "image"))
    names = [_first_part(out, path) for path in exported]
    written = ", ".join([*drawn, "detections.json", *dict.fromkeys(names)])
    say(f"Written to {out.resolve()}: {written}")


def report_failures(images: int, names: list[str]) -> int:
    """Name the first failed images on stderr; returns the exit code, OK without failures."""
    if not names:
        return OK
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    first = ", ".join(printable(name) for name in names[:MAX_NAMES])
    return failure(FAILED, "mrcnn", f"{len(names)} of {images} images failed: {first}{more}")


def _is_about_the_name(error: OSError) -> bool:
    """Whether a file could not be written because of its name, too long for example."""
    number = getattr(error.__cause__ or error, "errno", None)
    return number in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


def _first_part(folder: Path, path: Path) -> str:
    """The file or the sub-folder of `folder` that a path leads to: `via.json`, `labelme/`."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) == 1 else f"{parts[0]}/"


def find_images(words: list[str]) -> ImagesToDetect:
    """Find all images that the words name: image and video files, folders, or patterns `*.png`.

    Reads the header of each, before a network is built, which takes much longer.

    Raises: ValueError if a folder contains no images, or no image at all can be read.
    """
    names: dict[str, None] = {}  # a set that keeps the order
    for word in words:
        names.update(dict.fromkeys(_names_of(word)))
    images = ImagesToDetect(list(names))
    for name in names:
        try:
            if is_url(name):
                raise ValueError(
                    "An image must be a file on this machine. "
                    f"Received: the URL {name}. Try to download it first."
                )
            if Path(name).suffix.lower() in VIDEO_SUFFIXES:
                check_video(name)
                images.videos.append(Path(name))
                continue
            read_size(name)
            images.files.append(Path(name))
        except Exception as error:  # image libraries raise errors of any type
            images.failed[name] = error_sentence(error)
    if not images.files and not images.videos:
        raise ValueError(_no_image_readable(list(images.failed.values())))
    for name, why in images.failed.items():
        log.error("%s: %s", printable(name), printable(why, 1000))
    return images


def _no_image_readable(reasons: list[str]) -> str:
    if len(reasons) == 1:
        return reasons[0]
    lines = [f"None of the {len(reasons)} images can be read:"]
    lines += [printable(reason) for reason in reasons[:MAX_NAMES]]
    return "\n  ".join(lines)


def _names_of(word: str) -> list[str]:
    """The image names that one word of the command line stands for."""
    if is_url(word):
        return [word]
    names = []
    for path in _matches(word):
        found = _images_in(path) if path.is_dir() else [path]
        names += [str(file) for file in found]
    return names


def _matches(word: str) -> list[Path]:
    """The path itself, or the paths that match a pattern which the shell did not expand."""
    path = Path(word).expanduser()
    if os.path.exists(path) or not glob.has_magic(word):
        return [path]
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    if not found:
        raise ValueError(
            f"A pattern must match files. Received: {word}, which matches none. Try a folder."
        )
    return found


def _images_in(folder: Path) -> list[Path]:
    """The images of a folder; everything else in it is counted and logged.

    Raises: ValueError if there is no image.
    """
    images: list[Path] = []
    skipped: Counter[str] = Counter()
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            skipped["sub-folder"] += 1
        elif entry.suffix.lower() not in IMAGE_SUFFIXES or entry.name.startswith("."):
            skipped[printable(entry.suffix or entry.name, 20)] += 1
        elif is_own_image(entry):
            skipped["earlier result"] += 1
        else:
            images.append(entry)
    others = ", ".join(_counted_skip(count, what) for what, count in skipped.items())
    if not images:
        raise ValueError(_no_images_in(folder, others))
    if skipped:
        log.warning(
            "%s: %d images; skipped are %s. Sub-folders must be named themselves, images in other "
            "formats converted to JPEG or PNG. Videos must be named themselves.",
            printable(folder),
            len(images),
            others,
        )
    return images


def _counted_skip(count: int, what: str) -> str:
    """`2 sub-folders`; suffixes like `.json` have no plural."""
    return f"{count} {what}" if what.startswith(".") else counted(count, what)


def _no_images_in(folder: Path, others: str) -> str:
    """The error for a folder without images; names a folder below it that has some."""
    below = (*sorted(folder.glob("*")), *sorted(folder.glob("*/*")))
    with_images = next((path for path in below if image_files(path)), None)
    hint = f" Try the folders in it, as {printable(with_images)}." if with_images else ""
    content = f" ({others})" if others else ""
    return (
        "A folder must itself hold images. "
        f"Received: {printable(folder)}, which holds none{content}.{hint}"
    )


def _output_paths(files: list[Path], out: Path) -> list[Path]:
    """A path for each image with detections: all different, and never that of an input image."""
    real_out = os.path.realpath(out)
    in_out = [file for file in files if os.path.realpath(file.parent) == real_out]
    taken = {file.name.casefold() for file in in_out}
    paths = []
    for file in files:
        path = free_image_path(out, file.stem, DRAWING, taken)
        taken.add(path.name.casefold())
        paths.append(path)
    return paths


def detect_file(
    model,
    class_names: list[str],
    file: Path,
    drawing: Path,
    exports,
    heat_map: bool = False,
    tiling: Tiling | None = None,
) -> dict:
    """The entry of `detections.json` for one image file; writes the image with its detections.

    drawing: the path of that image. exports: the `export.Export` for other tools' files, to
    which the image is added. heat_map: also draw what the network reacts to, next to the drawing.
    tiling: the tiles in which an image that is larger than one of them is detected; None detects
    all images as a whole.

    Raises: ValueError if the image cannot be read or used, OSError if a file cannot be written.
    """
    image = read_image(file, channels=model.config.IMAGE_CHANNEL_COUNT)
    if tiling is not None and max(image.shape[:2]) > tiling.side:
        result = _detect_tiled(model, image, tiling)
    else:
        result = model.detect([image])[0]
        _warn_at_limit(file, len(result["rois"]), model.config.DETECTION_MAX_INSTANCES)
    skeleton = model.config.KEYPOINT_SKELETON
    drawn = pages.draw_result(image, result, class_names, skeleton=skeleton)
    save_image(drawn, drawing, marked=True)
    if isinstance(result.get("masks"), list):  # crops of tiles; writers read run-length codes
        result = {**result, "masks": rles(result["masks"], result["rois"], image.shape)}
    exports.add(file, image.shape[:2], result)
    entry = {
        "file_name": str(file),
        "picture": drawing.name,
        "width": int(image.shape[1]),
        "height": int(image.shape[0]),
        "detections": detection_entries(result, class_names),
    }
    if heat_map:
        path = free_image_path(drawing.parent, drawing.name.removesuffix(DRAWING), HEAT_MAP)
        save_image(draw_heat_maps(image, model.heat_maps(image)), path, marked=True)
        entry["heat_map"] = path.name
    return entry


def _detect_tiled(model, image: np.ndarray, tiling: Tiling) -> dict[str, Any]:
    """The result of an image `[H, W, C]` in tiles, with masks cut to their boxes."""
    return model.detect_tiled(image, tiling.side, tiling.overlap, verbose=1)


def _warn_at_limit(file: Path, count: int, limit: int) -> None:
    """Warn that an image may show more objects than were detected. limit: of a detection."""
    if count >= limit:
        log.warning(
            "%s: %s, as many as DETECTION_MAX_INSTANCES allows: "
            "--config DETECTION_MAX_INSTANCES=%d may find more.",
            printable(file),
            counted(count, "object"),
            2 * limit,
        )
