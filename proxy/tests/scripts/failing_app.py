"""An HTTP/1.1 server of the standard library that fails in one way, or only seems to:
failing_app.py STATUS | reset | hang | cut"""

import http.server
import socket
import struct
import sys
import time

HOW = sys.argv[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if HOW == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            return
        if HOW == "hang":
            time.sleep(60)
        self.send_response(200 if HOW in ("hang", "cut") else int(HOW))
        self.send_header("Content-Length", "9" if HOW == "cut" else "0")
        self.end_headers()
        if HOW == "cut":
            self.wfile.write(b"abc")
            self.close_connection = True

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Handler)
print("127.0.0.1:%d" % server.server_address[1], flush=True)
server.serve_forever()
