"""Talks to a WebSocket echo server over extended CONNECT (RFC 8441): HOST PORT URI.

Two sessions on one connection, beside which a plain request is answered."""

import os
import socket
import sys
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

host, port, uri = sys.argv[1:]
uri = urlsplit(uri)
wire = socket.create_connection((host, int(port)), timeout=20)
h2 = H2Connection(H2Configuration(client_side=True))
h2.initiate_connection()
streams = {}


class Stream:
    """What has arrived on a stream."""

    def __init__(self, headers, end):
        self.id = h2.get_next_available_stream_id()
        self.status, self.data, self.ended = None, bytearray(), False
        streams[self.id] = self
        h2.send_headers(self.id, headers, end_stream=end)

    def send(self, data):
        while data:
            size = min(h2.local_flow_control_window(self.id), h2.max_outbound_frame_size, len(data))
            if size == 0:
                turn()
                continue
            h2.send_data(self.id, data[:size])
            data = data[size:]
        flush()


def flush():
    wire.sendall(h2.data_to_send())


def turn():
    """Reads once, and notes what came."""
    flush()
    data = wire.recv(65536)
    assert data, "the connection ended"
    for event in h2.receive_data(data):
        stream = streams.get(getattr(event, "stream_id", None))
        if isinstance(event, ResponseReceived):
            stream.status = dict(event.headers)[b":status"]
        elif isinstance(event, DataReceived):
            stream.data += event.data
            h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            stream.ended = True
        elif isinstance(event, StreamReset):
            raise SystemExit(f"stream {event.stream_id} was reset: {event.error_code}")
        else:
            assert isinstance(event, (RemoteSettingsChanged, WindowUpdated)) or stream is None
    flush()


def request(method, extra, end):
    head = [(":method", method), (":scheme", "http"), (":authority", uri.netloc)]
    return Stream(head + [(":path", uri.path)] + extra, end)


class WebSocket:
    def __init__(self):
        extra = [(":protocol", "websocket"), ("sec-websocket-version", "13")]
        self.stream = request("CONNECT", extra, False)
        self.session = Connection(ConnectionType.CLIENT)

    def opened(self):
        while self.stream.status is None:
            turn()
        assert self.stream.status == b"200", self.stream.status
        assert not self.stream.ended

    def send(self, event):
        self.stream.send(self.session.send(event))

    def receive(self):
        """The next whole message, or what else the far end says."""
        parts = None
        while True:
            for event in self.session.events():
                if not isinstance(event, (TextMessage, BytesMessage)):
                    return event
                parts = event.data if parts is None else parts + event.data
                if event.message_finished:
                    return parts
            while not self.stream.data:
                turn()
            self.session.receive_data(bytes(self.stream.data))
            self.stream.data.clear()


while not h2.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL):
    turn()
one, two = WebSocket(), WebSocket()
for each in (one, two):
    each.opened()
for message in ("a line of text", "", "\u00e4\u20ac\U0001f9f5", os.urandom(1 << 20)):
    kind = TextMessage if isinstance(message, str) else BytesMessage
    for each in (one, two):
        each.send(kind(data=message))
    for each in (two, one):
        assert each.receive() == message
one.send(Ping(payload=b"there?"))
answer = one.receive()
assert isinstance(answer, Pong) and answer.payload == b"there?", answer
one.send(CloseConnection(code=4001, reason="done here"))
answer = one.receive()
assert isinstance(answer, CloseConnection), answer
# The server closes its connection after that (RFC 6455, section 7.1.1): the stream ends.
while not one.stream.ended:
    turn()
two.send(TextMessage(data="still here"))
assert two.receive() == "still here"
# The client goes first, without a closing handshake.
h2.reset_stream(two.stream.id, 8)
flush()
plain = request("GET", [], True)
while not plain.ended:
    turn()
print("closed", answer.code, answer.reason, "and", plain.status.decode())
