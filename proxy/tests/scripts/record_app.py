"""An HTTP/1.1 server of the standard library that prints what it gets, a line for each request that
is complete or ends early, and answers all with one status: record_app.py STATUS

A line is `METHOD PATH HOST SHA256 TRAILERS`, or `cut`.
"""

import hashlib
import http.server
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        digest, trailers = hashlib.sha256(), []
        try:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                while size := int(self.line().split(b";")[0], 16):
                    self.take(size, digest)
                    self.line()
                while line := self.line().strip():
                    trailers.append(line.decode().lower())
            else:
                self.take(int(self.headers.get("Content-Length", "0")), digest)
        except OSError:
            print("cut", flush=True)
            self.close_connection = True
            return
        words = [self.command, self.path, self.headers["Host"], digest.hexdigest(), *trailers]
        print(*words, flush=True)
        self.send_response(int(sys.argv[1]))
        self.send_header("Content-Length", "5")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"wrong")

    do_GET = do_PUT = do_HEAD = do_POST

    def line(self):
        line = self.rfile.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the body ends early")
        return line

    def take(self, size, digest):
        while size:
            piece = self.rfile.read(min(size, 1 << 16))
            if not piece:
                raise ConnectionError("the body ends early")
            digest.update(piece)
            size -= len(piece)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", 0), Handler)
print("127.0.0.1:%d" % server.server_address[1], flush=True)
server.serve_forever()
