"""An HTTP/1.1 server of the standard library: serves the files of a folder, and answers an upload
with its SHA-256: hash_app.py FOLDER [PEM], with TLS if it gets a certificate and its key."""

import hashlib
import http.server
import ssl
import sys


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        digest = hashlib.sha256()
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.take(size, digest)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            self.take(int(self.headers["Content-Length"]), digest)
        body = digest.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def take(self, size, digest):
        while size:
            piece = self.rfile.read(min(size, 1 << 16))
            if not piece:
                raise ConnectionError("the body ends early")
            digest.update(piece)
            size -= len(piece)

    def log_message(self, *args):
        pass


def make(*args):
    return Handler(*args, directory=sys.argv[1])


with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
    if len(sys.argv) > 2:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[2])
        # Whoever does not go on with a handshake holds up nobody else.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    print("%s:%d" % server.server_address)
    server.serve_forever()
