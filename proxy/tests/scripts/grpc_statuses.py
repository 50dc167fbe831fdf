"""Calls grpc_server.py so many times at once: PORT COUNT. Prints how often each status came, by name."""

import collections
import sys

import grpc

port, count = sys.argv[1], int(sys.argv[2])
channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])
unary = channel.unary_unary("/test.Echo/Unary")
calls = [unary.future(b"hello", timeout=30) for _ in range(count)]
codes = collections.Counter(call.code().name for call in calls)
for name, times in sorted(codes.items()):
    print(name, times)
