"""A gRPC server without generated code: bytes in, bytes out. Prints the address it listens on.

grpc_server.py [PEM], with TLS if it gets a certificate and its key.
"""

import sys
import time
from concurrent import futures

import grpc


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-seen", metadata.get("x-call", "")),))
    context.set_trailing_metadata((("x-length", str(len(request))),))
    return request


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: ä %")


def slow(request, context):
    ended = []
    context.add_callback(lambda: ended.append(True))
    while not ended:
        time.sleep(0.01)
    # Its client gave it a third of a second, or half a minute and then up.
    left = context.time_remaining()
    print("slow ended:", "deadline" if left is not None and left < 5 else "cancel", flush=True)
    return request


def down(request, context):
    count = int(request)
    for number in range(count):
        yield number.to_bytes(4, "big") * 250


def up(requests, context):
    total = 0
    for request in requests:
        total += len(request)
    return str(total).encode()


def both(requests, context):
    for request in requests:
        yield request[::-1]


handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}
options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
server = grpc.server(futures.ThreadPoolExecutor(16), options=options)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
if len(sys.argv) > 1:
    with open(sys.argv[1], "rb") as file:
        pem = file.read()
    credentials = grpc.ssl_server_credentials([(pem, pem)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"127.0.0.1:{port}", flush=True)
server.wait_for_termination()
