"""Starts two processes that find each other over loopback."""

import os
import pathlib
import socket
import subprocess
import sys

import padam_optax

ROOT = pathlib.Path(padam_optax.__file__).parents[1]


def coordinator() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def pair(arguments, **settings) -> list[subprocess.Popen]:
    """Two processes of Python; `arguments` maps a number to those of each."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments(number))],
            cwd=ROOT,
            env=environment | {"JAX_PLATFORMS": "cpu"} | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
