"""An HTTP/1.1 server that prints what it gets, a line for each request that is complete or ends early,
and answers all with one status: record_app.py STATUS

A line is `METHOD PATH HOST SHA256 TRAILERS`, or `cut`.
"""

import sys

import http_app


class Handler(http_app.Requests):
    def do_POST(self):
        try:
            digest, trailers = self.read_body()
        except OSError:
            print("cut", flush=True)
            self.close_connection = True
            return
        print(self.command, self.path, self.headers["Host"], digest, *trailers, flush=True)
        self.answer(int(sys.argv[1]), b"wrong")

    do_GET = do_PUT = do_HEAD = do_POST


http_app.serve(Handler)
