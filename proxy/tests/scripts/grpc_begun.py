"""Begins a stream of grpc_server.py and waits for how it ends: PORT AUTHORITY. Prints "begun", then the
status."""

import queue
import sys

import grpc

port, authority = sys.argv[1], sys.argv[2]
options = [("grpc.default_authority", authority), ("grpc.enable_http_proxy", 0)]
channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
messages = queue.Queue()
messages.put(b"message")
call = channel.stream_stream("/test.Echo/Both")(iter(messages.get, None), timeout=60)
assert next(call) == b"egassem"
print("begun", flush=True)
try:
    print("answered", next(call), flush=True)
except grpc.RpcError as error:
    print(f"{error.code().name}: {error.details()}", flush=True)
