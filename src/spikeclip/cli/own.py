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
    from spikeclip.studies.own import PROMPTS, own_runs, train_own

    folder = out or Path("runs") / pictures.resolve().name
    runs = own_runs(plan.config, folder, resume=resume, overwrite=overwrite, twin=twin)
    for line in plan.lines:
        print(line)
    print(f"result      {folder}, its recipe in recipe.json; key=value changes it", flush=True)
    rows = train_own(plan, runs, resume=resume, overwrite=overwrite)
    if not rows:  # in all but the first process
        return
    from spikeclip.cli.tables import print_own

    classes = len(plan.classnames)
    print_own(f"accuracy on {pictures}, {classes} classes (by chance {1 / classes:.1%})", rows)
    if rows[0]["test"] is None:
        print(plan.caution)
    run, prompts = shlex.quote(str(folder)), shlex.quote(str(folder / PROMPTS))
    print(f"model: {folder / 'model'}   result: {folder / 'results.json'}")
    print("classify another picture:")
    print(f"  spikeclip classify PICTURE --model {run} --prompts {prompts}")
