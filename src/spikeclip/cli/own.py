"""`spikeclip train FOLDER`: a plan for one's own pictures, the network and its twin, and what to do next."""

from __future__ import annotations

import shlex
from pathlib import Path


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
