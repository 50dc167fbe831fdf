"""A gRPC server (bytes in, bytes out) that is well or fails in one way:
grpc_failing_server.py well | unavailable | reset | hang | slow | busy

reset: its connections are reset as soon as a call comes. slow: an answer begins, and its message takes for
ever. busy: every call is answered in HTTP, with a 503, as a proxy in front of it would."""

import socket
import struct
import sys
import threading
import time
from concurrent import futures

import grpc

HOW = sys.argv[1]


def unary(request, context):
    if HOW == "unavailable":
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
    if HOW == "hang":
        while context.is_active():
            time.sleep(0.01)
    return request


def slow(request, context):
    context.send_initial_metadata((("x-begun", "1"),))
    while context.is_active():
        time.sleep(0.01)
    yield request


def serve_grpc():
    kind = grpc.unary_stream_rpc_method_handler(slow) if HOW == "slow" else (
        grpc.unary_unary_rpc_method_handler(unary)
    )
    server = grpc.server(futures.ThreadPoolExecutor(64))
    handlers = grpc.method_handlers_generic_handler("test.Echo", {"Unary": kind})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def serve_frames(connection):
    """Reads HTTP/2 for as long as it takes to see a call."""
    with connection, connection.makefile("rb") as file:
        try:
            file.read(24)
            connection.sendall(frame(4, 0, 0))
            while head := file.read(9):
                length, kind = int.from_bytes(head[:3], "big"), head[3]
                flags, stream = head[4], int.from_bytes(head[5:9], "big")
                payload = file.read(length)
                if kind == 4 and not flags & 1:
                    connection.sendall(frame(4, 1, 0))
                elif kind == 6 and not flags & 1:
                    connection.sendall(frame(6, 1, 0, payload))
                elif kind == 1 and HOW == "reset":
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
                elif kind == 1:
                    # :status 503, a literal with the name of the static table's entry 8.
                    connection.sendall(frame(1, 5, stream, b"\x08\x03503"))
                elif kind == 0 and length:
                    credit = struct.pack(">I", length)
                    connection.sendall(frame(8, 0, 0, credit))
        except OSError:
            pass


def serve_sockets():
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print("%s:%d" % listener.getsockname(), flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve_frames, args=(connection,), daemon=True).start()


serve_sockets() if HOW in ("reset", "busy") else serve_grpc()
