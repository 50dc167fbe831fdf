"""What the HTTP/1.1 servers of these tests share: requests are read whole, answers have a length, and
the first line that is printed says where it listens. Of the standard library."""

import hashlib
import http.server


class Requests(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def read_body(self):
        """The SHA-256 of a body, and its trailers. ConnectionError: it ends early."""
        digest, trailers = hashlib.sha256(), []
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.line().split(b";")[0], 16):
                self.take(size, digest)
                self.line()
            while line := self.line().strip():
                trailers.append(line.decode().lower())
        else:
            self.take(int(self.headers.get("Content-Length", "0")), digest)
        return digest.hexdigest(), trailers

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

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def serve(handler, kind=Server, tls=None):
    """Serves for ever, in TLS if `tls` is its context."""
    server = kind(("127.0.0.1", 0), handler)
    if tls:
        # Whoever does not go on with a handshake holds up nobody else.
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    print("%s:%d" % server.server_address, flush=True)
    server.serve_forever()
