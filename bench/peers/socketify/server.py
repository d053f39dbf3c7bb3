"""uWebSockets, through its Python binding socketify, as a broadcast server.

usage: python server.py PORT

POST /broadcast sends the body to every client of /ws. Python sees each publish once; the fan-out
is uWebSockets' own topic tree, in C++.
"""

import sys

from socketify import App, AppListenOptions, CompressOptions, OpCode

TOPIC = "all"

app = App()


def broadcast(response, request):
    chunks = []

    def on_data(response, chunk, is_end):
        if chunk:
            chunks.append(chunk)
        if is_end:
            app.publish(TOPIC, b"".join(chunks), OpCode.TEXT)
            response.write_status(202).end(b"")

    response.on_data(on_data)


app.post("/broadcast", broadcast)
app.ws(
    "/ws",
    {
        "compression": CompressOptions.DISABLED,
        # Past this uWebSockets leaves messages out; the comparison is about servers that don't.
        "max_backpressure": 64 * 1024 * 1024,
        "idle_timeout": 0,
        "open": lambda client: client.subscribe(TOPIC),
    },
)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
# app.run() polls without rest while there is traffic, since asyncio and libuv take turns; nothing
# here needs asyncio, and libuv's own loop waits in the kernel, as uWebSockets does in C++.
app.loop.uv_loop.run()
