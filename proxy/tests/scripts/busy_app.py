"""An HTTP/1.1 server that answers everything with one status, at once or after so many seconds, so many
at once, the others after each other: busy_app.py STATUS [SECONDS [AT_ONCE]]"""

import contextlib
import sys
import threading
import time

import http_app

STATUS, SECONDS, AT_ONCE = (sys.argv[1:] + ["0", "0"])[:3]
PLACES = threading.Semaphore(int(AT_ONCE)) if int(AT_ONCE) else contextlib.nullcontext()


class Handler(http_app.Requests):
    def do_GET(self):
        with PLACES:
            time.sleep(float(SECONDS))
        self.answer(int(STATUS))


http_app.serve(Handler)
