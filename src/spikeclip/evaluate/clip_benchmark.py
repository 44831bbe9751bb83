"""Our models on CLIP_benchmark's own code path (github.com/LAION-AI/CLIP_benchmark), which is no dependency of ours.

Its command line with our models in it:

    python -m spikeclip.evaluate.clip_benchmark eval --model_type spikeclip --model spikeclip --pretrained runs/cifar10
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from PIL import Image
from torch import Tensor

from spikeclip.data.transforms import preprocess
from spikeclip.errors import InputError
from spikeclip.model import SpikeCLIP, from_pretrained

MODEL_TYPE = "spikeclip"


def register() -> None:
    """Add the model type `spikeclip` to CLIP_benchmark; raises `InputError` where it is not installed."""
    try:
        from clip_benchmark import models  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            f"CLIP_benchmark cannot be imported ({error}): pip install clip_benchmark"
        ) from error
    models.TYPE2FUNC[MODEL_TYPE] = load
    if MODEL_TYPE not in models.MODEL_TYPES:
        models.MODEL_TYPES.append(MODEL_TYPE)


def load(
    model_name: str = MODEL_TYPE, pretrained: str = "", cache_dir: str | None = None, device: str = "cpu"
) -> tuple[SpikeCLIP, Callable[[Image.Image], Tensor], Callable[[str | list[str]], Tensor]]:
    """Return what CLIP_benchmark expects of a loader: model, transform of a picture, tokenizer.

    pretrained: a saved model, the folder of a run or a name on the Hugging Face hub. model_name and cache_dir are
    not read. Raises `InputError` where there is no spiking model.
    """
    model = from_pretrained(pretrained)
    if model.taught.templates:
        prompts = ", ".join(map(repr, model.taught.templates[:3]))
        warnings.warn(
            f"{pretrained} was taught with the prompts {prompts}, and CLIP_benchmark asks with its own: "
            "--custom_template_file names a file of others",
            stacklevel=2,
        )
    settings = model.config.image

    def transform(picture: Image.Image) -> Tensor:
        return preprocess([picture], settings.image_size, settings.mean, settings.std)[0]

    return model.to(device), transform, model.tokenize


if __name__ == "__main__":
    register()
    from clip_benchmark.cli import main  # pyright: ignore[reportMissingImports]

    main()
