"""So many callers at once of grpc_failing_server.py, one call after the other, for so long, and on a
busy machine longer: PORT AUTHORITY CALLERS SECONDS. Prints how many calls there were, how many failed, the longest in
milliseconds, and how often each status came."""

import collections
import sys
import threading
import time

import grpc

port, authority = sys.argv[1:3]
callers, seconds = int(sys.argv[3]), float(sys.argv[4])
options = [("grpc.default_authority", authority), ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
unary = channel.unary_unary("/test.Echo/Unary")
end = time.monotonic() + seconds
# With fewer calls no share of them says much.
ENOUGH, LAST = 300, end + 20
codes, longest, lock = collections.Counter(), 0.0, threading.Lock()


def goes_on():
    now = time.monotonic()
    return now < end or now < LAST and sum(codes.values()) < ENOUGH


def call():
    global longest
    while goes_on():
        begin = time.monotonic()
        try:
            code = "OK" if unary(b"hello", timeout=20) == b"hello" else "WRONG"
        except grpc.RpcError as error:
            code = error.code().name
        took = time.monotonic() - begin
        with lock:
            codes[code] += 1
            longest = max(longest, took)
        time.sleep(0.005)


threads = [threading.Thread(target=call) for _ in range(callers)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
total = sum(codes.values())
print(total, total - codes["OK"], int(longest * 1000), dict(codes))
