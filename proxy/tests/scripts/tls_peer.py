"""One end of a TLS connection, by OpenSSL through Python's ssl. Prints what it sees, a line each.

tls_peer.py client PORT [options]  sends one request, prints the answer or why there is none
tls_peer.py server [options]       prints its address, then a line per connection; expects a transport header
"""

import argparse
import socket
import ssl
import threading
import time

parser = argparse.ArgumentParser()
parser.add_argument("mode", choices=["client", "server"])
parser.add_argument("port", type=int, nargs="?", default=0)
parser.add_argument("--anchors", required=True)
parser.add_argument("--name", help="what the client asks for (SNI)")
parser.add_argument("--certificate")
parser.add_argument("--key")
parser.add_argument("--tls12", action="store_true")
parser.add_argument("--alpn")
parser.add_argument("--send", default="GET /reflect HTTP/1.1\\r\\nHost: app\\r\\nConnection: close\\r\\n\\r\\n")
parser.add_argument("--end", choices=["notify", "early", "silent", "hello"], default="notify")
options = parser.parse_args()


def context(purpose):
    made = ssl.SSLContext(purpose)
    made.check_hostname = False
    made.load_verify_locations(options.anchors)
    if options.certificate:
        made.load_cert_chain(options.certificate, options.key)
    if options.tls12:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
    if options.alpn:
        made.set_alpn_protocols([options.alpn])
    # Python has no names for some alerts.
    made._msg_callback = note_alert
    return made


alerts = threading.local()


def note_alert(_, direction, version, content_type, message_type, data):
    if direction == "read" and content_type == 21:
        alerts.last = data[1]


def why(error):
    if getattr(alerts, "last", None):
        return f"alert {alerts.last}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or type(error).__name__).lower()
    return {ConnectionResetError: "reset", BrokenPipeError: "reset"}.get(type(error), repr(error))


def client():
    stream = socket.create_connection(("127.0.0.1", options.port), timeout=20)
    made = context(ssl.PROTOCOL_TLS_CLIENT)
    if options.end == "hello":
        # The first message, and nothing more.
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = made.wrap_bio(incoming, outgoing, server_hostname=options.name)
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            pass
        stream.sendall(outgoing.read())
        stream.shutdown(socket.SHUT_WR)
        records = b""
        while piece := stream.recv(65536):
            records += piece
        # Its ServerHello and what follows, of which nothing was answered.
        return f"closed after {records[:3].hex()}"
    tls = made.wrap_socket(stream, server_hostname=options.name)
    tls.sendall(options.send.encode().decode("unicode_escape").encode())
    if options.end == "silent":
        time.sleep(0.2)
        # A FIN, and no close_notify before it.
        tls._sslobj = None
        stream = socket.socket(fileno=tls.detach())
        stream.close()
        return "closed"
    if options.end == "early":
        # Says that it has said all, and waits until the other side has too.
        tls.unwrap().close()
        return "closed"
    answer = b""
    try:
        while piece := tls.recv(65536):
            answer += piece
    except OSError:
        if not answer:
            raise
    tls.close()
    return answer.decode() or "closed"


def serve(stream, made):
    stream.settimeout(20)
    tls = made.wrap_socket(stream, server_side=True)
    sans = [text for _, text in (tls.getpeercert() or {}).get("subjectAltName", ())]
    # "transport.l5d.io/v1" CRLF CRLF, a length in 32 bits, and so much.
    head, start = b"", 27
    while len(head) < start or len(head) < start + int.from_bytes(head[start - 4 : start], "big"):
        piece = tls.recv(4096)
        if not piece:
            return f"closed {tls.selected_alpn_protocol()} {sans}"
        head += piece
    seen = f"{tls.selected_alpn_protocol()} {head[:23]!r} {head[start:].hex()} {sans}"
    tls.sendall(b"partial")
    if options.end == "silent":
        tls._sslobj = None
        socket.socket(fileno=tls.detach()).close()
    else:
        tls.unwrap().close()
    return seen


def server():
    made = context(ssl.PROTOCOL_TLS_SERVER)
    made.verify_mode = ssl.CERT_REQUIRED
    made.set_alpn_protocols(["transport.l5d.io/v1"])

    def converse(stream):
        try:
            print(serve(stream, made), flush=True)
        except OSError as error:
            print(why(error), flush=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        print("%s:%d" % listener.getsockname(), flush=True)
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=converse, args=(stream,), daemon=True).start()


if options.mode == "server":
    server()
try:
    print(client())
except OSError as error:
    print(why(error))
