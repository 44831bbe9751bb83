import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "spikeclip",
        "spikeclip.cli",
        "spikeclip.config",
        "spikeclip.errors",
        "spikeclip.data.tokenizer",
        "spikeclip.data.sources",
        "spikeclip.energy.account",
        "spikeclip.energy.report",
        "spikeclip.graph.verify",
    ],
)
def test_pytorch_is_imported_only_when_needed(module):
    code = f"import sys, {module}; print(*{{'torch', 'transformers'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_public_name_is_there():
    import spikeclip

    for name in spikeclip.__all__:
        assert getattr(spikeclip, name) is not None
        assert name in dir(spikeclip)
    with pytest.raises(AttributeError, match="no attribute 'encode'"):
        spikeclip.encode  # noqa: B018
