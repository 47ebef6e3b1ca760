"""Find the checkpoints of a training by their names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..config import NETWORKS


def last_checkpoint(
    model_dir: str | os.PathLike, name: str, networks: Sequence[str] = NETWORKS
) -> str:
    """Return the path of the newest checkpoint in the newest run that has one.

    Runs are the folders `<name><date>` in model_dir, ordered by date, and those of one minute by
    the number after it (`<name><date>_2`). Other files and folders are ignored.

    networks: of `config.NETWORKS`, those whose checkpoints count.

    Raises:
        FileNotFoundError: no checkpoint; the text names the folder, or the weights of a training
            that was interrupted in its first epoch.
    """
    folder, prefix = Path(model_dir), str(name).lower()
    runs = _numbered(folder, re.escape(prefix) + r"(\d{8})T(\d{4})(?:_(\d+))?")
    for run in reversed(runs):
        found = checkpoints(run, prefix, networks)
        if found:
            return str(found[-1])
    remedy = f"Try another folder (--logs) than {folder.absolute()}, or start a new training."
    interrupted = [path for run in runs for path in sorted(run.glob("interrupted*.h5"))]
    if interrupted:
        remedy = (
            f"No epoch was complete, so start a new training; with --weights {interrupted[-1]} "
            "from the weights of the interrupted one."
        )
    count = f"{len(runs)} training" + "s" * (len(runs) != 1)
    received = f"{count} of {prefix!r}, none with a checkpoint" if runs else "no such training"
    raise FileNotFoundError(
        f"There must be a training of {prefix!r} to resume, with a checkpoint "
        f"{networks[0]}_{prefix}_<epoch>.h5. Received: {received}. {remedy}"
    )


def checkpoints(
    run: str | os.PathLike, name: str, networks: Sequence[str] = NETWORKS
) -> list[Path]:
    """The checkpoints `<network>_<name>_<epoch>.h5` in the folder of a run, ordered by epoch."""
    any_network, name = "|".join(map(re.escape, networks)), re.escape(str(name).lower())
    return _numbered(Path(run), rf"(?:{any_network})_{name}_(\d+)\.h5")


def last_of_run(run: str | os.PathLike) -> Path | None:
    """Return the newest checkpoint in the folder `<name><date>` of a run; None without one."""
    match = re.fullmatch(r"(.+?)\d{8}T\d{4}(?:_\d+)?", Path(run).resolve().name, re.ASCII)
    found = [] if match is None else checkpoints(run, match[1])
    return found[-1] if found else None


def _numbered(folder: Path, pattern: str) -> list[Path]:
    """Paths in a folder whose names match, ordered by the numbers in the pattern's groups."""
    found = []
    for path in folder.glob("*"):
        match = re.fullmatch(pattern, path.name, re.ASCII)
        if match:
            numbers = [int(number or 0) for number in match.groups()]
            found.append((numbers, path))
    return [path for _, path in sorted(found)]
