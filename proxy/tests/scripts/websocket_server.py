"""A WebSocket echo server. After each connection it prints how that was closed."""

import asyncio

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError


async def echo(connection):
    print("host", connection.request.headers["Host"])
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosedError:
        pass
    print("closed", connection.close_code, connection.close_reason)


async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=1 << 22) as server:
        print("%s:%d" % server.sockets[0].getsockname())
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
