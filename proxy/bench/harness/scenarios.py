"""What is measured, one function for each kind of scenario; each adds one round of one proxy."""

import socket
import subprocess
import time

from . import load, measure
from .peers import PORTS, wait_until

# What the columns are called.
RATE = "requests a second"
CPU, USER, SYSTEM = "CPU µs a request", "user µs", "system µs"
CALLS, INSTRUCTIONS = "system calls a request", "instructions a request"
MEMORY, IDLE_MEMORY, AFTER = "MB under load", "MB idle", "MB after a burst"
FAILED = "failed"

# What a client asks for, by what it speaks and what the app does. Trailers mean nothing to clients of HTTP/1.
HOSTS = {
    ("HTTP1", "HTTP1"): "http1.bench",
    ("HTTP1", "HTTP2"): "web2.bench",
    ("HTTP2", "HTTP1"): "http1.bench",
    ("HTTP2", "HTTP2"): "http2.bench",
}


def _accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(port, host):
    """Whether a request is answered with 200."""
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
            client.sendall(request)
            return client.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


class Running:
    """A proxy, or a pair of them, that is there for one measurement."""

    def __init__(self, peer, folder, pair=False, wrapper=()):
        kinds = ["in", "out"] if pair else ["plain"]
        self.processes = [peer.start(kind, folder, i, wrapper) for i, kind in enumerate(kinds)]
        self.port = peer.port("PAIR" if pair else "HTTP1_HTTP1")
        patience = 120 if wrapper else 15
        try:
            wait_until(f"{peer.name} answers", lambda: _answers(self.port, "http1.bench"), patience)
        except SystemExit:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.stop()

    def cost(self, run):
        """Runs a load; its figures, and the CPU that it took."""
        before = measure.cpu(self.processes)
        start = time.monotonic()
        done, failed = run()
        seconds = time.monotonic() - start
        user, system = (after - old for after, old in zip(measure.cpu(self.processes), before))
        return {
            RATE: done / seconds,
            CPU: (user + system) * 1e6 / done,
            USER: user * 1e6 / done,
            SYSTEM: system * 1e6 / done,
            MEMORY: measure.resident(self.processes) / 1e6,
            FAILED: failed,
        }


def client_of(scenario, peer, folder, connections, streams, pair=False):
    """The load of a scenario: a function of `seconds`, or of `count` requests."""
    client, server = ("HTTP1", "HTTP1") if pair else scenario
    port = peer.port("PAIR" if pair else f"{client}_{server}")
    host = HOSTS[client, server]
    if client == "HTTP2":
        return lambda **amount: load.h2load(
            port, host, folder, connections=connections, streams=streams, **amount
        )

    def http1(seconds=None, count=None):
        if seconds:
            return load.wrk(port, host, folder, seconds, connections)
        return load.h2load(port, host, folder, count=count, connections=connections, version=1)

    return http1


def throughput(peer, folder, seconds, scenario, connections, streams=1, pair=False):
    """As much as goes through."""
    with Running(peer, folder, pair) as running:
        client = client_of(scenario, peer, folder, connections, streams, pair)
        idle = measure.resident(running.processes) / 1e6
        client(seconds=1)
        figures = running.cost(lambda: client(seconds=seconds))
        return {IDLE_MEMORY: idle, **figures}


def counts(peer, folder, scenario, connections, streams=1, pair=False):
    """System calls and instructions of a request: they repeat, whatever else the machine does."""
    figures = {}
    client = client_of(scenario, peer, folder, connections, streams, pair)
    with Running(peer, folder, pair) as running:
        client(count=2000)
        trace = measure.Strace(running.processes, folder / "strace")
        done, _ = client(count=20_000)
        calls = trace.calls()
        figures[CALLS] = calls / done if calls and done else None
    if peer.name != "envoy":  # its allocator does not run under valgrind
        collected = []
        for count in (2000, 6000):
            wrapper = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=yes"]
            with Running(peer, folder, pair, wrapper) as running:
                client(count=count)
            collected.append(sum(measure.instructions(process.log) for process in running.processes))
        figures[INSTRUCTIONS] = (collected[1] - collected[0]) / 4000
    return figures


PERCENTILES = ("p50", "p99", "p99.9")


def direct(seconds, rate):
    """What a rate takes without a proxy."""
    measured = load.open_loop(PORTS["BACKEND_HTTP1"], "http1.bench", rate, seconds)
    return {f"{percentile} µs": measured[percentile] for percentile in PERCENTILES}


def fixed_rate(peer, folder, seconds, rate):
    """The pair at a rate that it can bear: CPU, and latency from when each request was due."""
    with Running(peer, folder, pair=True) as running:
        load.open_loop(running.port, "http1.bench", rate, 1)
        measured = {}

        def run():
            measured.update(load.open_loop(running.port, "http1.bench", rate, seconds))
            return measured["answered"], measured["failed"]

        figures = running.cost(run)
        del figures[RATE]
        return {**figures, **{f"{percentile} µs": measured[percentile] for percentile in PERCENTILES}}


def burst(peer, folder, seconds):
    """Memory of a pair: at rest, under 4,000 requests a second, in a burst of connections, and when it is over."""
    with Running(peer, folder, pair=True) as running:
        resident = lambda: measure.resident(running.processes) / 2e6
        figures = {IDLE_MEMORY: resident()}
        load.open_loop(running.port, "http1.bench", 4000, seconds)
        figures[MEMORY] = resident()
        load.wrk(running.port, "http1.bench", folder, seconds, 1000)
        figures["MB in a burst of 1,000 connections"] = resident()
        time.sleep(8)
        figures[AFTER] = resident()
        return figures


def opaque(peer, folder, gigabytes):
    """Bytes that are only passed on."""
    with Running(peer, folder) as running:
        before = measure.cpu(running.processes)
        seconds = load.download(peer.port("TCP"), gigabytes)
        used = sum(measure.cpu(running.processes)) - sum(before)
        moved = gigabytes * (1 << 30) / 1e9
        return {"CPU s a GB": used / moved, "GB a second": moved / seconds}


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def _http2_request(host):
    # GET, http and / are in HPACK's static table; the authority is a literal that is not indexed.
    block = b"\x82\x86\x84\x01" + bytes([len(host)]) + host.encode()
    return len(block).to_bytes(3, "big") + b"\1\5\0\0\0\1" + block


def _exchange(client, version, host):
    """One request on a connection, and the end of its answer."""
    if version == "HTTP1":
        client.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        while not client.recv(65536).endswith(b"x" * 100):
            pass
        return
    client.sendall(_PREFACE + _http2_request(host))
    received, acknowledged = b"", False
    while True:
        received += client.recv(65536)
        at, over = 0, False
        while len(received) >= at + 9:
            length, kind, flags = int.from_bytes(received[at : at + 3], "big"), received[at + 3], received[at + 4]
            if len(received) < at + 9 + length:
                break
            if kind == 4 and not flags & 1 and not acknowledged:
                client.sendall(b"\0\0\0\4\1\0\0\0\0")
                acknowledged = True
            over |= kind in (0, 1) and flags & 1 == 1
            at += 9 + length
        if over:
            return


def idle(peer, folder, version, count):
    """Memory of connections that made one request and are silent since."""
    with Running(peer, folder) as running:
        port = peer.port(f"{version}_HTTP1")
        before = measure.resident(running.processes)
        clients = []
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            _exchange(client, version, "http1.bench")
            clients.append(client)
        # What was opened for them to the app is closed by then.
        time.sleep(4)
        grown = measure.resident(running.processes) - before
        for client in clients:
            client.close()
        return {"bytes a connection": grown / count}


def start(peer, folder):
    """From the start of the process to its first 200, and what is on the disk."""
    begin = time.monotonic()
    with Running(peer, folder):
        took = time.monotonic() - begin
    stripped = folder / "stripped"
    subprocess.run(["strip", "-o", stripped, peer.program], check=True, capture_output=True)
    return {"ms to the first 200": took * 1000, "MB stripped": stripped.stat().st_size / 1e6}
