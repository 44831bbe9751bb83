"""The `spikeclip` command, and `python -m spikeclip`: stopped from the first moment on, it says so in one line."""

import sys


def main() -> None:
    """Run the command line, see `spikeclip.cli.main`."""
    try:
        from spikeclip.cli import main as command  # takes most of the time of `--help`

        command()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
