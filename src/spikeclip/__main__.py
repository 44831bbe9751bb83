"""`python -m spikeclip` is the `spikeclip` command."""

from spikeclip.cli import main

if __name__ == "__main__":
    main()
