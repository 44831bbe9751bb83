"""The pictures that a user names, found before anything heavy is loaded."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from spikeclip.data.readers.folders import picture_files


def find_pictures(names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the picture files that names stand for, each once, and the names that stand for none.

    A name is a file, a folder (every picture in it and in its subfolders, in order, but for hidden ones) or a pattern
    such as "photos/*.jpg".
    """
    found: dict[Path, None] = {}
    missing = []
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            files = picture_files(path)
        elif path.exists():
            files = [path]
        else:
            files = [Path(f) for f in sorted(glob.glob(str(path), recursive=True)) if Path(f).is_file()]
        if not files:
            missing.append(name)
        found.update(dict.fromkeys(files))
    return list(found), missing
