"""The budgets of the design, and what of them was met in one run, beside what its peers took."""

from . import scenarios as measured
from .report import show

# Budget; the scenario and column that show it; the most that it may be, or who has to be above it. A
# figure that has to be reached and not to be stayed below says so.
AT_MOST, AT_LEAST, BELOW = "at most", "at least", "below"

BUDGETS = [
    ("HTTP/2 to HTTP/2 in the core, a unary gRPC call, 32 at a time: instructions",
     "core-http2", measured.INSTRUCTIONS, AT_MOST, 25_000),
    ("… allocations", "core-http2", measured.ALLOCATIONS, AT_MOST, 5),
    ("… with a route, retries and a breaker: instructions", "core-http2-policy", measured.INSTRUCTIONS, AT_MOST, 25_000),
    ("HTTP/1 to HTTP/1 in the core, 10 fields, 100 bytes: instructions",
     "core-http1", measured.INSTRUCTIONS, AT_MOST, 12_000),
    ("… allocations", "core-http1", measured.ALLOCATIONS, AT_MOST, 2),
    ("… with a route, retries and a breaker: instructions", "core-http1-policy", measured.INSTRUCTIONS, AT_MOST, 12_000),
    ("Process, user space, HTTP/1 to HTTP/1: instructions", "http1", measured.INSTRUCTIONS, BELOW, ["nginx"]),
    ("Process, user space, HTTP/2 to HTTP/2: instructions",
     "http2", measured.INSTRUCTIONS, BELOW, ["nginx", "haproxy"]),
    ("System calls a request, HTTP/1, 32 connections", "http1", measured.CALLS, AT_MOST, 4.1),
    ("Pair in mutual TLS at 4,000 requests a second: CPU µs a request, both", "pair-4000", measured.CPU, AT_MOST, 70),
    ("Pair in mutual TLS on one core: most requests a second", "pair", measured.RATE, AT_LEAST, 50_000),
    ("Opaque TCP: CPU s a GB", "tcp", "CPU s a GB", AT_MOST, 0.34),
    ("An idle HTTP/1 connection: bytes", "idle-http1-9800", "bytes a connection", AT_MOST, 1000),
    ("An idle HTTP/2 connection: bytes", "idle-http2-9800", "bytes a connection", AT_MOST, 4096),
    ("Resident memory, idle: MB", "burst", measured.IDLE_MEMORY, AT_MOST, 6),
    ("Resident memory, at 4,000 requests a second in mutual TLS: MB", "burst", measured.MEMORY, AT_MOST, 10),
    ("Binary, stripped: MB", "start", "MB stripped", AT_MOST, 8),
    ("Start to the first 200: ms", "start", "ms to the first 200", AT_MOST, 10),
]  # fmt: skip


def table(results):
    """Those that this run can tell about."""
    by_name = {result.name: result for result in results}
    lines = []
    for title, scenario, column, kind, bound in BUDGETS:
        # A quick run holds fewer connections.
        result = by_name.get(scenario) or by_name.get(scenario.replace("9800", "1000"))
        ours = result.of("selvedge", column) if result else None
        if ours is None:
            continue
        peers = [(peer, result.of(peer, column)) for peer in result.rounds if peer not in ("selvedge", "direct")]
        beside = "; ".join(f"{peer} {show(value)}" for peer, value in peers if value is not None)
        lines.append(f"| {title} | {_words(kind, bound)} | {show(ours)} | {_met(result, column, kind, bound, ours)} | {beside} |")
    if not lines:
        return ""
    head = ["| | budget | selvedge | | beside it |", "|---|---:|---:|---|---|"]
    return "## Budgets\n\n" + "\n".join(head + lines) + "\n"


def _words(kind, bound):
    return f"below {' and '.join(bound)}" if kind == BELOW else f"{kind} {bound:,}"


def _met(result, column, kind, bound, ours):
    if kind == BELOW:
        above = [result.of(peer, column) for peer in bound]
        if None in above:
            return "not measured"
        met = ours < min(above)
    else:
        met = ours <= bound if kind == AT_MOST else ours >= bound
    return "met" if met else "**not met**"
