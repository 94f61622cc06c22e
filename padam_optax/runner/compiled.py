"""Keeps compiled programs on disk, so that the second run of a kind starts in seconds."""

import contextlib
import hashlib
import os
import pathlib
import platform
import re

from padam_optax.paths import expanded

# Programs that compile faster (in seconds) get no file. JAX's own default, 1, leaves out much of a small network.
_SHORTEST = 0.2
# Folders that `keep_programs` chose.
_chosen: set[str] = set()


def keep_programs(folder: str | pathlib.Path | None = None) -> pathlib.Path | None:
    """Makes JAX keep compiled programs in a folder and read them from it. Call this before anything is compiled.

    Several processes can share the folder. It only grows, and can be deleted at any time.

    Args:
      folder: The folder; it is made. By default JAX's own setting (`JAX_COMPILATION_CACHE_DIR`) if there is one, else
        `padam_optax/programs` in the user's cache folder, or no folder if that cannot be written.

    Returns:
      The folder, or None if nothing is kept.

    Raises:
      OSError: If the given folder cannot be made.
    """
    import jax

    if folder is not None:
        kept = expanded(folder).absolute()
        kept.mkdir(parents=True, exist_ok=True)
    elif (own := jax.config.values["jax_compilation_cache_dir"]) is not None:
        return pathlib.Path(own)
    else:
        import pooch

        kept = pathlib.Path(pooch.os_cache("padam_optax")) / "programs" / _processor()
        try:
            kept.mkdir(parents=True, exist_ok=True)
        except OSError:
            return None
    _chosen.add(str(kept))
    jax.config.update("jax_compilation_cache_dir", str(kept))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _SHORTEST)
    return kept


def forget_damaged(warning: str) -> bool:
    """Removes the damaged file that a warning of JAX names, if it lies in a folder that `keep_programs` chose.

    A killed process can leave one. JAX never overwrites a file: it would compile anew, with a warning, each time.

    Args:
      warning: Text of any warning.

    Returns:
      Whether the warning is of this kind. JAX then compiles the program and writes the file again.
    """
    import jax

    found = re.match(r"Error reading persistent compilation cache entry for '(\w+)'", warning)
    folder = jax.config.values["jax_compilation_cache_dir"]
    if found is None or folder is None or folder not in _chosen:
        return False
    # The warning has only the first part of the file's name; other files with it are compiled anew.
    for path in pathlib.Path(folder).glob(f"{found[1]}-*-cache"):
        path.unlink(missing_ok=True)
    return True


def _processor() -> str:
    """A name for this processor's features: computers with different processors may share a home folder."""
    text = platform.machine()
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        text += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
