"""An HTTP/1.1 server: serves the files of a folder, and answers an upload with its SHA-256:
hash_app.py FOLDER [PEM], with TLS if it gets a certificate and its key."""

import http.server
import ssl
import sys

import http_app


class Handler(http_app.Requests, http.server.SimpleHTTPRequestHandler):
    def do_POST(self):
        digest, _ = self.read_body()
        self.answer(200, digest.encode())


def make(*args):
    return Handler(*args, directory=sys.argv[1])


context = None
if len(sys.argv) > 2:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[2])
http_app.serve(make, tls=context)
