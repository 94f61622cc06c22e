"""A disk that is full, as far as one process goes."""

import contextlib
import resource


@contextlib.contextmanager
def largest_file(size: int):
    """No file can grow beyond `size` bytes meanwhile; Python ignores the signal that comes before the error."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
