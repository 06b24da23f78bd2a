"""One end of a WebSocket by Python's `websockets`: `peer.py serve`, or `peer.py talk URL [CA]`."""

import asyncio
import random
import ssl
import sys

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

LIMITS = {"max_size": None, "compression": None, "ping_interval": None}


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def serve_forever():
    async with serve(echo, "127.0.0.1", 0, **LIMITS) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


async def talk(url, authority):
    context = ssl.create_default_context(cafile=authority) if authority else None
    async with connect(url, ssl=context, server_hostname="a.example" if context else None, **LIMITS) as socket:
        large = random.Random(7).randbytes(16 << 20)
        for said in ["", "grüße, \U0001f30a", b"", bytes(range(256)), "x" * 125, "x" * 126, "x" * 65536, large]:
            await socket.send(said)
            assert await socket.recv() == said, f"another message of {len(said)}"
        await socket.send(["in ", "", "fragments"])
        assert await socket.recv() == "in fragments"
        await socket.send([b"\0", large, b"\1"])
        assert await socket.recv() == b"\0" + large + b"\1", "another message in fragments"
        # One after the other, and their answers in this order.
        pings = [await socket.ping(bytes([n])) for n in range(20)]
        for ping in pings:
            await ping
        await socket.close(4002, "enough")
        assert (socket.close_code, socket.close_reason) == (4002, "enough"), socket.close_code
    print("ok", websockets.__version__, flush=True)


if sys.argv[1] == "serve":
    asyncio.run(serve_forever())
else:
    asyncio.run(talk(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
