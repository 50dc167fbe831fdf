"""Talks to a WebSocket echo server: websocket_client.py HOST PORT URI"""

import asyncio
import os
import sys

from websockets.asyncio.client import connect


async def main(host, port, uri):
    # The URI names the service; the connection goes to the proxy.
    async with connect(
        uri, host=host, port=int(port), max_size=1 << 22, open_timeout=20
    ) as connection:
        for message in ("a line of text", "", "\u00e4\u20ac\U0001f9f5", os.urandom(1 << 20)):
            await connection.send(message)
            assert await connection.recv() == message
        # Many at once, answered in order.
        for number in range(100):
            await connection.send(str(number))
        for number in range(100):
            assert await connection.recv() == str(number)
        # A ping is answered by the far end.
        await asyncio.wait_for(await connection.ping(), 20)
        await connection.close(4001, "done here")
    print("closed", connection.close_code, connection.close_reason)


asyncio.run(main(*sys.argv[1:]))
