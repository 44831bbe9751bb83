"""`spikeclip train FOLDER`: a plan for one's own pictures, the network and its twin, and what to do next."""

from __future__ import annotations

import os
import shlex
import warnings
from pathlib import Path


def own_folder(recipe: str) -> Path | None:
    """Return the folder of pictures that was given in place of a recipe, None for a recipe.

    The name of a built-in recipe never means a folder of the working directory: that is written with a slash. Raises
    `InputError` for a path that does not exist and does not end as a recipe does.
    """
    from spikeclip.errors import InputError
    from spikeclip.train.recipe import BUILT_IN

    if not recipe.strip():
        raise InputError("the name of the recipe is empty; `spikeclip train --list` names those built in")
    path = Path(recipe.strip()).expanduser()
    bare = not {"/", os.sep} & set(recipe)
    if bare and (BUILT_IN / f"{path.name}.yaml").is_file():
        if path.is_dir():
            warnings.warn(f"{path} is a built-in recipe; the folder is ./{path}", stacklevel=2)
        return None
    if path.is_dir():
        return path
    if not bare and not path.exists() and path.suffix not in (".yaml", ".yml"):
        raise InputError(f"no such folder of pictures, and no such recipe: {recipe}")
    return None


def train_on_folder(
    pictures: Path, changes: list[str], out: Path | None, *, resume: bool, overwrite: bool, twin: bool
) -> None:
    """Show the plan, train, and print the networks side by side."""
    from spikeclip.train.plan import plan_folder

    plan = plan_folder(pictures, changes)  # before PyTorch: a mistake shows at once
    folder = out or Path("runs") / pictures.resolve().name
    for line in plan.lines:
        print(line)
    print(f"result      {folder}, its recipe in recipe.json; key=value changes it", flush=True)
    from spikeclip.studies.own import PROMPTS, train_own

    rows = train_own(plan, folder, resume=resume, overwrite=overwrite, twin=twin)
    if not rows:  # in all but the first process
        return
    from spikeclip.cli.tables import print_own

    print_own(f"accuracy on {pictures}, {len(plan.classnames)} classes", rows)
    run, prompts = shlex.quote(str(folder)), shlex.quote(str(folder / PROMPTS))
    print(f"model: {folder / 'model'}   result: {folder / 'results.json'}")
    print("classify another picture:")
    print(f"  spikeclip classify PICTURE --model {run} --prompts {prompts}")
