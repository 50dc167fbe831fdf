"""An HTTP/1.1 server that fails in one way, or only seems to:
failing_app.py STATUS | reset | hang | cut | slow"""

import socket
import struct
import sys
import time

import http_app

HOW = sys.argv[1]


class Handler(http_app.Requests):
    def do_GET(self):
        if HOW == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
        elif HOW == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "9")
            self.end_headers()
            self.wfile.write(b"abc")
            self.close_connection = True
        elif HOW == "slow":
            self.send_response(200)
            self.send_header("Content-Length", "999")
            self.end_headers()
            try:
                for _ in range(999):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
            except OSError:
                self.close_connection = True
        elif HOW == "hang":
            time.sleep(60)
            self.answer(200)
        else:
            self.answer(int(HOW))


class Server(http_app.Server):
    def handle_error(self, *_):
        pass


http_app.serve(Handler, Server)
