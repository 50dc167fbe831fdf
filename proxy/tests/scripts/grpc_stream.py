"""One bidirectional stream of grpc_server.py that is busy for a while: PORT AUTHORITY SECONDS.

Every message has to come back before the next is sent."""

import sys
import time

import grpc

port, authority, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
options = [("grpc.default_authority", authority), ("grpc.enable_http_proxy", 0)]
channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
both = channel.stream_stream("/test.Echo/Both")

sent = []
deadline = time.monotonic() + seconds


def messages():
    while time.monotonic() < deadline:
        message = b"message %d" % len(sent)
        sent.append(message)
        yield message
        while len(sent) > len(received):
            time.sleep(0.001)
        time.sleep(0.01)


received = []
for answer in both(messages(), timeout=seconds + 60):
    assert answer == sent[len(received)][::-1], answer
    received.append(answer)
assert len(received) == len(sent)
print(f"one stream, {len(received)} messages")
