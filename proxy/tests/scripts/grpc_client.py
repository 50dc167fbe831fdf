"""Calls every kind of method of grpc_server.py: PORT AUTHORITY [PEM], with TLS if it gets a
certificate to trust. Prints a line per call."""

import queue
import sys
import time

import grpc

port, authority = sys.argv[1], sys.argv[2]
options = [
    ("grpc.default_authority", authority),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]
if len(sys.argv) > 3:
    with open(sys.argv[3], "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options.append(("grpc.ssl_target_name_override", authority))
    channel = grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=options)
else:
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)


def method(kind, name):
    return getattr(channel, kind)(f"/test.Echo/{name}")


unary, fail, slow = (method("unary_unary", name) for name in ("Unary", "Fail", "Slow"))

for size in (0, 1, 100, 20_000, 4 << 20):
    message = bytes(index % 251 for index in range(size % 1009)) * max(1, size // max(1, size % 1009))
    response, call = unary.with_call(message, timeout=30, metadata=(("x-call", "7"),))
    assert response == message, size
    assert dict(call.initial_metadata())["x-seen"] == "7"
    assert dict(call.trailing_metadata())["x-length"] == str(len(message))
print("unary")

try:
    fail(b"x", timeout=10)
    raise SystemExit("no error")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
    assert error.details() == "not today: ä %", error
print("trailers only")

start = time.monotonic()
try:
    slow(b"x", timeout=0.3)
    raise SystemExit("no deadline")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
print("deadline")

call = slow.future(b"x", timeout=30)
time.sleep(0.2)
call.cancel()
assert call.cancelled()
print("cancel")

messages = list(method("unary_stream", "Down")(b"5000", timeout=60))
assert messages == [number.to_bytes(4, "big") * 250 for number in range(5000)]
print("server streaming")

total = method("stream_unary", "Up")((b"y" * 10 for _ in range(20_000)), timeout=60)
assert total == b"200000", total
print("client streaming")

waiting = queue.Queue()
answers = method("stream_stream", "Both")(iter(waiting.get, None), timeout=60)
for number in range(500):
    message = f"message {number}".encode()
    waiting.put(message)
    assert next(answers) == message[::-1]
waiting.put(None)
assert list(answers) == []
print("bidirectional")

calls = [unary.future(str(number).encode(), timeout=60) for number in range(400)]
assert [int(call.result()) for call in calls] == list(range(400))
print("400 at once")
