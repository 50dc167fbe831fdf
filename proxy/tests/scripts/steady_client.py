"""Sends so many requests a second through a proxy, whatever comes back: AUTHORITY PORT RATE SECONDS.
Prints how many it sent and how many were answered 200."""

import http.client
import sys
import threading
import time

authority = sys.argv[1]
port, rate, seconds = (int(word) for word in sys.argv[2:5])
THREADS = 8
begin = time.monotonic() + 0.1
counts = [[0, 0] for _ in range(THREADS)]


def send(thread):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for nth in range(thread, rate * seconds, THREADS):
        time.sleep(max(0.0, begin + nth / rate - time.monotonic()))
        counts[thread][0] += 1
        try:
            connection.request("GET", "/name", headers={"Host": authority})
            answer = connection.getresponse()
            answer.read()
            counts[thread][1] += answer.status == 200
        except OSError:
            connection.close()


threads = [threading.Thread(target=send, args=(thread,)) for thread in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sum(asked for asked, _ in counts), sum(good for _, good in counts))
