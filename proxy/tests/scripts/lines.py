"""A TCP server that speaks in lines, of the standard library.

lines.py upper [ADDRESS PORT]   answers each line in upper case, and the end of input with a count
lines.py banner [ADDRESS PORT]  speaks first, then answers each line with itself
"""

import socketserver
import sys


class Upper(socketserver.StreamRequestHandler):
    def handle(self):
        count = 0
        for line in self.rfile:
            self.wfile.write(line.upper())
            count += 1
        # The client has closed its side, and still reads.
        self.wfile.write(b"%d lines\n" % count)


class Banner(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 ready\r\n")
        for line in self.rfile:
            self.wfile.write(line)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


handler = {"upper": Upper, "banner": Banner}[sys.argv[1]]
address = (sys.argv[2], int(sys.argv[3])) if len(sys.argv) > 2 else ("127.0.0.1", 0)
with Server(address, handler) as server:
    print("%s:%d" % server.server_address)
    server.serve_forever()
