"""Has our proxy start, and do a little of everything, for who looks what runs while it does."""

import contextlib
import tempfile
import time
import urllib.request
from pathlib import Path

from . import load
from . import scenarios as measured
from .peers import PORTS, allow_files, backends, certificates, wait_until


@contextlib.contextmanager
def place():
    """A folder with certificates, while there are apps."""
    allow_files()
    with tempfile.TemporaryDirectory(prefix="selvedge-work-") as folder:
        folder = Path(folder)
        folder.chmod(0o755)
        certificates(folder)
        apps = backends(folder / "apps")
        try:
            for name in ("BACKEND_HTTP1", "BACKEND_HTTP2"):
                wait_until(name, lambda name=name: measured._accepts(PORTS[name]))
            yield folder
        finally:
            for app in apps:
                app.stop()


def start(peer, folder, wrapper=()):
    """Has a pair start, and answer a few requests. Who of them is first, and waits for the other, is chance:
    here it is either, and one comes back after the other lost it."""
    for _ in range(3):
        with measured.Running(peer, folder, pair=True, wrapper=wrapper) as running:
            for _ in range(10):
                measured.answers(running.port, "http1.bench")
            running.processes[0].stop()
            measured.answers(running.port, "http1.bench")
            running.processes[0] = peer.start("in", folder, 0, wrapper)
            wait_until("it answers again", lambda port=running.port: measured.answers(port, "http1.bench"), 300)


def everything(peer, folder, wrapper=(), count=200):
    """Has proxies answer so many requests of each kind, and what operators ask."""
    with measured.Running(peer, folder, pair=True, wrapper=wrapper) as running:
        measured.client_of(("HTTP1", "HTTP1"), peer, folder, 8, 1, pair=True)(count=count)
        load.wrk(running.port, "http1.bench", folder, 2, 8)
        outside_of_load(folder)
    with measured.Running(peer, folder, wrapper=wrapper) as running:
        for client in ("HTTP1", "HTTP2"):
            for app in ("HTTP1", "HTTP2"):
                measured.client_of((client, app), peer, folder, 4, 8 if client == "HTTP2" else 1)(count=count)
        measured.answers(running.port, "nobody.bench")
        outside_of_load(folder)


def outside_of_load(folder):
    """What operators do: metrics, and the mesh file read again."""
    for port in (21102, 21112):
        for path in ("metrics", "ready", "live"):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=60).read()
            except OSError:
                pass
    for config in folder.glob("selvedge-*/conf.toml"):
        with open(config, "a") as mesh:
            mesh.write("# Changed.\n")
    time.sleep(3)
