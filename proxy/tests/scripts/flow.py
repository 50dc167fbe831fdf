"""Both ends of TCP connections that carry much, of the standard library.

flow.py serve                    on a connection: reads "BYTES\n", sends as many while it reads what
                                 comes, then the SHA-1 of that; says "reset" if that is how it ends.
                                 Of "-BYTES\n" it sends that many, and resets
flow.py flood                    sends as many, and closes its side; before that at once if "e" comes,
                                 and resets if anything else does
flow.py ask ADDRESS PORT DOWN UP [PAUSE]
                                 sends UP bytes and closes its side, while it reads DOWN, and stops
                                 reading for PAUSE seconds now and then; says what came, or "reset"
flow.py leave ADDRESS PORT DOWN  resets when DOWN bytes came of a thousand times as many
flow.py talk ADDRESS PORT COUNT  sends so many short messages, each when the last one was echoed
flow.py echo                     a server for that
"""

import hashlib
import random
import select
import socket
import socketserver
import struct
import sys
import threading
import time

# A prime: no two blocks that a proxy may read are the same.
BLOCK = random.Random(1).randbytes(1_000_003)


def blocks(total):
    """What is sent, in parts."""
    while total > 0:
        yield BLOCK[: min(total, len(BLOCK))]
        total -= len(BLOCK)


def digest(total):
    sha = hashlib.sha1()
    for block in blocks(total):
        sha.update(block)
    return sha.hexdigest()


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def pour(connection, total):
    """Sends in another thread."""

    def run():
        try:
            for block in blocks(total):
                connection.sendall(block)
        except OSError:
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


class Flow(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            total = int(self.rfile.readline())
            sender = pour(self.connection, abs(total))
            if total < 0:
                sender.join()
                return reset(self.connection)
            sha = hashlib.sha1()
            while data := self.rfile.read1(1 << 18):
                sha.update(data)
            sender.join()
            self.wfile.write(sha.hexdigest().encode())
        except OSError:
            print("reset")


class Flood(socketserver.BaseRequestHandler):
    def handle(self):
        line = b""
        while not line.endswith(b"\n"):
            byte = self.request.recv(1)
            if not byte:
                return
            line += byte
        self.request.setblocking(False)
        for block in map(memoryview, blocks(int(line))):
            while block:
                readable, _, _ = select.select([self.request], [self.request], [])
                if readable:
                    if self.request.recv(1) == b"e":
                        return self.end()
                    return reset(self.request)
                # As much as fits: a third of a large buffer at least.
                block = block[self.request.send(block) :]
        self.end()

    def end(self):
        self.request.shutdown(socket.SHUT_WR)
        select.select([self.request], [], [])


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def shutdown_request(self, request):
        # As it ended: a FIN before the reset of `serve` would be another end.
        self.close_request(request)


def ask(connection, down, up, pause):
    connection.sendall(b"%d\n" % down)

    def send():
        pour(connection, up).join()
        connection.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    sha, got, last, stop = hashlib.sha1(), 0, b"", 1 << 23
    try:
        while data := connection.recv(1 << 18):
            sha.update(data[: max(0, down - got)])
            last += data[max(0, down - got) :]
            got += len(data)
            if pause and got > stop:
                stop *= 2
                time.sleep(pause)
    except ConnectionResetError:
        return print("reset")
    print("%d bytes" % got)
    print("theirs", "arrived" if sha.hexdigest() == digest(down) else "is another")
    print("ours", "arrived" if last.decode() == digest(up) else "is another")


words = sys.argv[1:]
SERVERS = {"serve": Flow, "flood": Flood, "echo": Echo}
if words[0] in SERVERS:
    with Server(("127.0.0.1", 0), SERVERS[words[0]]) as server:
        print("%s:%d" % server.server_address)
        server.serve_forever()
else:
    client = socket.create_connection((words[1], int(words[2])), timeout=60)
    count = int(words[3])
    if words[0] == "ask":
        ask(client, count, int(words[4]), float(words[5]) if len(words) > 5 else 0)
    elif words[0] == "leave":
        client.sendall(b"%d\n" % (1000 * count))
        got = 0
        while got < count:
            got += len(client.recv(1 << 18))
        reset(client)
    else:
        for number in range(count):
            message = b"%099d\n" % number
            client.sendall(message)
            answer = b""
            while len(answer) < len(message):
                answer += client.recv(1 << 16)
            assert answer == message, answer
        print("%d messages" % count)
