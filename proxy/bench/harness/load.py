"""The clients: wrk and h2load for as much as goes through, and an open loop at a fixed rate."""

import json
import re
import subprocess

from .peers import LOAD_CPU, TARGET

# What an ordinary request carries: with Host and Content-Length it has 10 fields.
FIELDS = {
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
    "accept-language": "en-GB,en;q=0.5",
    "content-type": "application/json",
    "user-agent": "bench/1.0",
    "x-forwarded-for": "192.0.2.7",
    "x-request-id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}
GRPC_FIELDS = {
    "content-type": "application/grpc",
    "te": "trailers",
    "user-agent": "grpc-go/1.60.0",
    "grpc-accept-encoding": "gzip",
}
BODY = "y" * 100


def _run(argv):
    done = subprocess.run(
        ["taskset", "-c", str(LOAD_CPU), *map(str, argv)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{argv[0]}: {done.stdout}{done.stderr}")
    return done.stdout


def wrk(port, host, folder, seconds, connections=32):
    """Requests that were answered well, and all others, over so many seconds."""
    script = folder / "wrk.lua"
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in {**FIELDS, "Host": host}.items()]
    script.write_text("\n".join(['wrk.method = "POST"', f'wrk.body = "{BODY}"', *lines]))
    out = _run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{port}/"])
    total = int(re.search(r"(\d+) requests in", out)[1])
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    failed = (int(bad[1]) if bad else 0) + (sum(map(int, errors.groups())) if errors else 0)
    return total - failed, failed


def h2load(port, host, folder, *, seconds=None, count=None, connections=8, streams=32, version=2):
    """The same with h2load, of gRPC-like calls; for so many seconds, or so many requests."""
    body = folder / "body"
    body.write_text(BODY)
    fields = GRPC_FIELDS if version == 2 else FIELDS
    argv = ["h2load", f"--clients={connections}", "--threads=1", f"--data={body}"]
    argv += [f"--duration={seconds}"] if seconds else [f"--requests={count}"]
    argv += ["--h1"] if version == 1 else [f"--max-concurrent-streams={streams}"]
    argv += [f"--header={name}: {value}" for name, value in fields.items()]
    out = _run([*argv, f"--connect-to=127.0.0.1:{port}", f"http://{host}/"])
    found = re.search(
        r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", out
    )
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", out)
    done, failed, errored = int(found[3]), int(found[5]), int(found[6])
    # "HTTP/1.1 200 " has no reason, as HAProxy makes it of an answer that came by HTTP/2: h2load reads such
    # an answer to its end, but counts it as failed and under no status. That it is a 200 was seen at the start.
    if version == 1 and done and not any(map(int, codes.groups())):
        return done - errored, errored
    return int(codes[1]), failed + int(codes[3]) + int(codes[4])


def open_loop(port, host, rate, seconds, connections=32):
    """Latencies in µs from when each request was due, at a fixed rate: see examples/openloop.rs."""
    tool = TARGET / "release" / "examples" / "openloop"
    out = _run([tool, f"127.0.0.1:{port}", host, rate, seconds, connections])
    return json.loads(out)


def download(port, times):
    """Fetches a GiB so many times; the seconds that it took."""
    urls = [f"http://127.0.0.1:{port}/big"] * times
    outs = [arg for _ in urls for arg in ("-o", "/dev/null")]
    out = _run(["curl", "-sSf", "-w", "%{time_total} %{size_download}\n", *outs, *urls])
    lines = [line.split() for line in out.splitlines()]
    assert all(int(size) == 1 << 30 for _, size in lines), out
    return sum(float(time) for time, _ in lines)
