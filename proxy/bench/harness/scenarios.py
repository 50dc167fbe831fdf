"""What is measured, one function for each kind of scenario; each adds one round of one proxy."""

import functools
import re
import socket
import ssl
import subprocess
import time

from . import load, measure
from .peers import PORTS, ROOT, all_peers, wait_until

# What the columns are called.
RATE = "requests a second"
CPU, USER, SYSTEM = "CPU µs a request", "user µs", "system µs"
CALLS, INSTRUCTIONS = "system calls a request", "instructions a request"
ALLOCATIONS, COPIED = "allocations a request", "bytes copied a request"
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


def answers(port, host):
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

    def __init__(self, peer, folder, pair=False, wrapper=(), workers=None):
        kinds = ["in", "out"] if pair else ["plain"]
        if workers:
            self.processes = [peer.start_with_workers(workers, folder)]
        else:
            self.processes = [peer.start(kind, folder, i, wrapper) for i, kind in enumerate(kinds)]
        self.port = peer.port("PAIR" if pair else "HTTP1_HTTP1")
        patience = 300 if wrapper else 15
        try:
            wait_until(f"{peer.name} answers", lambda: answers(self.port, "http1.bench"), patience)
        except TimeoutError:
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


def workers(folder, seconds, count):
    """As much as goes through so many workers, HTTP/1, all on the same two CPUs."""
    peer = all_peers()[0]
    with Running(peer, folder, workers=count) as running:
        client = client_of(("HTTP1", "HTTP1"), peer, folder, 32, 1)
        client(seconds=1)
        return running.cost(lambda: client(seconds=seconds))


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
    # What a start takes is not always the same, least of all Envoy's: many requests make it small.
    less, more = (4000, 24_000) if peer.name == "envoy" else (2000, 6000)
    collected = []
    for count in (less, more):
        wrapper = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=yes"]
        with Running(peer, folder, pair, wrapper) as running:
            client(count=count)
        collected.append(sum(measure.instructions(process.log) for process in running.processes))
    figures[INSTRUCTIONS] = (collected[1] - collected[0]) / (more - less)
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
        # Ours gives memory back after ten quiet seconds.
        time.sleep(25)
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


def _client(peer, folder, kind):
    """What opens one connection of a kind, and what is spoken on it."""
    if kind != "TLS":
        port = peer.port("TCP" if kind == "TCP" else f"{kind}_HTTP1")
        connect = lambda: socket.create_connection(("127.0.0.1", port), timeout=10)
        return connect, "HTTP2" if kind == "HTTP2" else "HTTP1"
    ours = peer.name == "selvedge"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Who it is that answers is not what is measured.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(folder / "certs" / ("mesh.pem" if ours else "client.pem"))
    # nginx's speaks HTTP/1 there.
    version, protocol = ("HTTP1", "http/1.1") if peer.name == "nginx" else ("HTTP2", "h2")
    context.set_alpn_protocols([protocol])
    name = "server.bench.cluster.local" if ours else "server.bench"

    def connect():
        plain = socket.create_connection(("127.0.0.1", PORTS["MESH"]), timeout=10)
        return context.wrap_socket(plain, server_hostname=name)

    return connect, version


def idle(peer, folder, kind, count):
    """Memory of connections that made one request and are silent since."""
    with Running(peer, folder, pair=kind == "TLS") as running:
        # Of a pair, the one that they come to.
        holder = running.processes[:1]
        connect, version = _client(peer, folder, kind)
        before = measure.resident(holder)
        clients = []
        for _ in range(count):
            client = connect()
            _exchange(client, version, "http1.bench")
            clients.append(client)
        # What was opened for them to the app is closed by then.
        time.sleep(4)
        grown = measure.resident(holder) - before
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


@functools.cache
def core_rows():
    """What `cargo bench` says of the core and of libraries: instructions, allocations and copies by row."""
    parts = ["h2 to h2, 32 at a time", "HTTP/1 exchange", "retries, timeouts and a breaker"]
    argv = ["cargo", "bench", "--locked", "--quiet", "-p", "selvedge-core", "--bench", "cost", "--", "rows", *parts]
    out = subprocess.run(argv, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    rows = re.findall(r"^ *(\d+) +([\d.]+) +(\d+)  (.+)$", out, re.M)
    return {name: {INSTRUCTIONS: int(i), ALLOCATIONS: float(a), COPIED: int(c)} for i, a, c, name in rows}


def core(beginning, end=""):
    """The row whose name begins and ends so."""
    return next(row for name, row in core_rows().items() if name.startswith(beginning) and name.endswith(end))
