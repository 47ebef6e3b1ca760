"""`mrcnn split`: a dataset divided into training and validation images, as files."""

from __future__ import annotations

import logging
from pathlib import Path

from ..data.split import divide, draw_split
from ..formats.split_files import write_lists, write_split
from .cli_support import OK, UsageError, make_folder, say
from .data_option import data_options, log_data, open_data, require_images
from .split_option import log_split

log = logging.getLogger("mrcnn")


def run(args) -> int:
    """Run `mrcnn split`."""
    dataset = open_data(args.data, **data_options(args))
    require_images(dataset, args.data)
    count = len(dataset.image_ids)
    if args.data == "shapes" or count < 2:
        raise UsageError(
            f"DATA must be at least two image files. Received: {args.data}, {count} images."
        )
    log_data("Data", dataset)
    split = draw_split(dataset, args.share, args.split_seed, args.split_by == "names")
    log_split(split, args.share, args.split_seed)
    train, val = divide(dataset, split)
    log_data("Train", train)
    log_data("Val", val)
    out = make_folder(args.out, "--out")
    drawn = {"share": args.share, "seed": args.split_seed, "by": args.split_by}
    files = [write_split(out, split, **drawn)]
    files += write_lists(out, Path(args.data), dataset, split)
    names = ", ".join(file.relative_to(out).as_posix() for file in files)
    say(f"{len(split.train)} images to train on, {len(split.val)} to validate on: {names} in {out}")
    log.info("Next: mrcnn train %s --split %s", args.data, files[0])
    return OK
