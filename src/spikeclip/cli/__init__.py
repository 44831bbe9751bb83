"""The `spikeclip` command: one file per subcommand, and the one place where an error becomes one line.

Nothing here imports PyTorch at module level, so that `spikeclip --help` answers at once.
"""

from __future__ import annotations

import difflib
import io
import os
import sys
import traceback
import warnings
from functools import partial
from typing import Annotated, Any

import typer

from spikeclip import __version__
from spikeclip.cli import (
    ablate,
    cache,
    classify,
    convert,
    data,
    demo,
    energy,
    evaluate,
    index,
    info,
    interpolate,
    lower,
    search,
    serve,
    sweep,
    teacher,
    train,
    verify,
)
from spikeclip.errors import NO_MEMORY, InputError, Interrupted, is_out_of_memory, missing_module, printable
from spikeclip.files import full_disk, is_full_disk

BAD_INPUT, BAD_USAGE, INTERRUPTED = 1, 2, 130
"""Exit codes: a file, recipe or label that does not fit; a wrong option or command; Ctrl-C."""

_CommandError = typer.BadParameter.__mro__[2]  # click's, which typer carries but does not name

app = typer.Typer(
    name="spikeclip",
    help="Train, evaluate and run CLIP-style spiking neural networks.",
    epilog="""Examples:

\b
  spikeclip demo                                        all steps in minutes, nothing to download
  spikeclip train cifar10 seed=1                        train from a recipe, built in or a file
  spikeclip evaluate runs/cifar10 --data cifar10
  spikeclip classify cat.jpg --labels "cat,dog,truck"    with the model that comes with the package
  spikeclip index ~/Pictures && spikeclip search "a red bus"

SPIKECLIP_DEBUG=1 shows the full traceback of an error.""",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command in (
    data,
    train,
    sweep,
    ablate,
    teacher,
    convert,
    evaluate,
    classify,
    index,
    search,
    serve,
    interpolate,
    lower,
    verify,
    energy,
    info,
    cache,
    demo,
):
    name = command.__name__.rsplit(".", 1)[-1]
    if hasattr(command, "app"):
        app.add_typer(command.app, name=name, help=command.HELP, epilog=command.EXAMPLES)
    else:
        app.command(name, help=command.HELP, epilog=command.EXAMPLES)(getattr(command, name))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"spikeclip {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, or 1 for bad input, 2 for wrong usage, 130 after Ctrl-C.

    Whatever goes wrong is one line on stderr that starts with "Error:"; SPIKECLIP_DEBUG=1 adds the traceback.
    """
    warnings.showwarning = partial(_warn, set())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: no name makes printing fail
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="spikeclip", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # `spikeclip info ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        message, code = explain(error)
        if os.environ.get("SPIKECLIP_DEBUG", "0") not in ("", "0"):
            traceback.print_exc()
        print(f"Error: {message}", file=sys.stderr)
    if code == INTERRUPTED:
        print("Interrupted.", file=sys.stderr)
    raise SystemExit(code or 0)


def explain(error: Exception) -> tuple[str, int]:
    """Return the one line that tells a user what went wrong, and the exit code."""
    if isinstance(error, _CommandError):
        return _usage(error), BAD_USAGE
    if isinstance(error, ModuleNotFoundError):
        error = missing_module(error)
    if isinstance(error, InputError):
        return _one_line(str(error)), BAD_INPUT
    if isinstance(error, OSError) and is_full_disk(error):
        return str(full_disk(error)), BAD_INPUT
    if isinstance(error, OSError) and error.strerror:
        file = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{file}", BAD_INPUT
    if is_out_of_memory(error):
        return NO_MEMORY, BAD_INPUT
    kind = type(error).__name__
    return f"{kind}: {_one_line(str(error))} (SPIKECLIP_DEBUG=1 shows where; please report it)", BAD_INPUT


def _usage(error: Any) -> str:
    """Say what is wrong with the command line: the near option or command, or where the help is."""
    message, context = _one_line(error.format_message()).rstrip("."), getattr(error, "ctx", None)
    if hasattr(error, "option_name") and hasattr(error, "possibilities") and context is not None:
        options = [name for parameter in context.command.params for name in parameter.opts if name[0] == "-"]
        near = difflib.get_close_matches(error.option_name, options, n=1, cutoff=0.5)
        message = f"no such option: {error.option_name}"
        if near:
            return f"{message}; did you mean {near[0]}?"
    message = message[0].lower() + message[1:]
    if message.endswith("?"):
        return message
    return f"{message} (see {getattr(context, 'command_path', 'spikeclip')} --help)"


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _warn(told: set[str], message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
    """Print a warning as one line, unless it was `told` before in this command."""
    line = _one_line(str(message))
    if line not in told:
        told.add(line)
        print(f"Warning: {line}", file=sys.stderr)
