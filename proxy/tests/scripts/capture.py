"""Writes every frame that crosses an interface to a file, until SIGTERM: INTERFACE FILE MARK.

Makes the file MARK once it watches."""

import pathlib
import signal
import socket
import sys

EVERY_PROTOCOL = 0x0003


class Enough(Exception):
    pass


def end(*_):
    raise Enough


signal.signal(signal.SIGTERM, end)
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL)) as link:
    link.bind((sys.argv[1], 0))
    with open(sys.argv[2], "wb") as frames:
        pathlib.Path(sys.argv[3]).touch()
        try:
            while True:
                frames.write(link.recv(1 << 16))
        except Enough:
            link.setblocking(False)
            try:
                while True:
                    frames.write(link.recv(1 << 16))
            except BlockingIOError:
                pass
