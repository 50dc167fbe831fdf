"""Reads HTTP/1 with h11.

In: records of a byte (0 requests, 1 responses to GET, 2 to HEAD, 3 to CONNECT), the length (32 bits,
big end first) and so many bytes, after which the connection ends. Out: for each record a line of
JSON, what was read of it, bytes in hexadecimal.
"""

import json
import struct
import sys

import h11

MOST_BYTES = 1 << 20
METHODS = {1: "GET", 2: "HEAD", 3: "CONNECT"}


def pairs(headers):
    return [[bytes(name).hex(), bytes(value).hex()] for name, value in headers]


def ask(connection, kind):
    target = "a.example:80" if kind == 3 else "/"
    headers = [("Host", "a.example")]
    connection.send(h11.Request(method=METHODS[kind], target=target, headers=headers))
    connection.send(h11.EndOfMessage())


def answer(connection):
    if connection.our_state in (h11.SEND_RESPONSE, h11.IDLE):
        headers = [("Content-Length", "0")]
        connection.send(h11.Response(status_code=404, headers=headers))
        connection.send(h11.EndOfMessage())


def read(kind, data):
    messages, error, message = [], None, None
    role = h11.CLIENT if kind else h11.SERVER
    connection = h11.Connection(our_role=role, max_incomplete_event_size=MOST_BYTES)
    try:
        if kind:
            ask(connection, kind)
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                start = [event.method.hex(), event.target.hex()]
                message = {"start": start, "fields": pairs(event.headers), "body": b""}
            elif isinstance(event, h11.Response):
                start = [event.status_code]
                message = {"start": start, "fields": pairs(event.headers), "body": b""}
            elif isinstance(event, h11.Data):
                message["body"] += event.data
            elif isinstance(event, h11.EndOfMessage):
                message["body"] = message["body"].hex()
                message["trailers"] = pairs(event.headers)
                messages.append(message)
                if not kind:
                    answer(connection)
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    break
                connection.start_next_cycle()
                if kind:
                    ask(connection, kind)
            elif not isinstance(event, h11.InformationalResponse):
                break
    except h11.RemoteProtocolError as problem:
        error = str(problem)
    # A connection that ends between two messages is no error.
    if error is not None and messages and "without sending complete" in error:
        error = None
    return {"messages": messages, "error": error}


def main():
    data = sys.stdin.buffer.read()
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from(">BI", data, at)
        print(json.dumps(read(kind, data[at + 5 : at + 5 + length])))
        at += 5 + length


main()
