"""`padam`, and `python -m padam_optax`: says which extra is missing before anything else can fail."""

import importlib.util
import sys

_NEEDED = ("flax", "matplotlib", "orbax", "rich", "scipy", "sklearn", "typer")


def main() -> None:
    """Runs the command line; exits with 1 if the extra `experiments` is not installed."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"padam needs packages that are not installed ({', '.join(missing)}):"
            ' pip install "padam_optax[experiments]"'
        )
    from padam_optax.cli import app
    from padam_optax.cli.console import fall_back

    fall_back()
    app()


if __name__ == "__main__":
    main()
