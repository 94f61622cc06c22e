"""`padam`, and `python -m padam_optax`: says which extra is missing before anything else can fail."""

import importlib.util
import os
import sys

_NEEDED = ("flax", "matplotlib", "orbax", "rich", "scipy", "sklearn", "typer")


def main() -> None:
    """Runs the command line; exits with 1 if the extra `experiments` is not installed, 2 if nothing can be printed."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"padam needs packages that are not installed ({', '.join(missing)}):"
            ' pip install "padam_optax[experiments]"'
        )
    from padam_optax.cli import app
    from padam_optax.cli.console import end_at_once, fall_back

    fall_back()
    try:
        app()
    except SystemExit:
        end_at_once()
        raise
    except OSError as error:
        # Commands report this themselves: here the help met a full disk. What is left to print would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(f"Error: Standard output cannot be written: {error.strerror}.", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
