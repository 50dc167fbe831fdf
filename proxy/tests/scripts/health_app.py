"""A gRPC server with nothing but the health protocol, without generated code: health_app.py STATUS.
Not called grpc_health, which grpc itself would import.
Prints the address it listens on."""

import sys
from concurrent import futures

import grpc

STATUSES = {"SERVING": b"\x08\x01", "NOT_SERVING": b"\x08\x02"}
ASKED = b"\x0a\x0aan.example"


def check(request, context):
    if request != ASKED:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
    return STATUSES[sys.argv[1]]


handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
service = grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)
server.add_generic_rpc_handlers((service,))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"127.0.0.1:{port}", flush=True)
server.wait_for_termination()
