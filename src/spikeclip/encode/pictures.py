"""The pictures that a user names, found before anything heavy is loaded."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from spikeclip.data.readers.folders import folder_files, is_picture, why_not


class Found(NamedTuple):
    """files: each once. missing: names that stand for no picture. others: what else is in folders; with the reasons."""

    files: list[Path]
    missing: dict[str, str]
    others: dict[Path, str]


def find_pictures(names: Sequence[str]) -> Found:
    """Return the picture files that names stand for.

    A name is a file, a folder (every picture in it and in its subfolders, in order, but for hidden ones) or a pattern
    such as "photos/*.jpg" of files and folders.
    """
    files: dict[Path, None] = {}
    others: dict[Path, str] = {}
    missing: dict[str, str] = {}
    for name in names:
        path = os.path.expanduser(name)
        matches = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))
        places = [Path(match) for match in matches]
        folders = [folder_files(place) for place in places if place.is_dir()]
        inside = [file for folder in folders for file in folder]
        found = [place for place in places if not place.is_dir()] + [
            file for file in inside if is_picture(file)
        ]
        if not found:
            missing[name] = "the folder holds no pictures" if folders else "no such picture"
        files |= dict.fromkeys(found)
        others |= {file: why_not(file) for file in inside if not is_picture(file)}
    return Found(list(files), missing, {file: why for file, why in others.items() if file not in files})
