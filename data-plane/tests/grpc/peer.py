"""A gRPC server by grpcio that closes its connections by age, as many do in production. Prints its port."""

import sys
import threading
from concurrent import futures

import grpc

age, strikes = int(sys.argv[1]), int(sys.argv[2])
stop = threading.Event()


def unary(message, context):
    return message


def ticks(message, context):
    """The message, and again every 100 ms until the client leaves."""
    while context.is_active():
        yield message
        stop.wait(0.1)


def quiet(message, context):
    """The message, and again after as many seconds as it says."""
    yield message
    stop.wait(float(message))
    yield message


handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Ticks": grpc.unary_stream_rpc_method_handler(ticks),
    "Quiet": grpc.unary_stream_rpc_method_handler(quiet),
}
options = [
    ("grpc.so_reuseport", 0),
    ("grpc.http2.max_ping_strikes", strikes),
    ("grpc.max_connection_age_grace_ms", 60_000),
]
if age:
    options.append(("grpc.max_connection_age_ms", age))
server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=options)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("weir.test.Bytes", handlers),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
stop.set()
server.stop(0)
