"""An HTTP server of the standard library that answers with the address it was reached by:
echo_address.py ADDRESS PORT [PEM], with TLS if it gets a certificate and its key."""

import http.server
import socket
import socketserver
import ssl
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        text = "%s port %d for %s\n" % (
            *self.connection.getsockname()[:2],
            self.headers["Host"],
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET

    def server_bind(self):
        # That of HTTPServer asks for the name of the address, where no resolver answers.
        socketserver.TCPServer.server_bind(self)


with Server((sys.argv[1], int(sys.argv[2])), Handler) as server:
    if len(sys.argv) > 3:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[3])
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    # Where it listens, in a form that does not depend on the family.
    print("127.0.0.1:%d" % server.server_address[1])
    server.serve_forever()
