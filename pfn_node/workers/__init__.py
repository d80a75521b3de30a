"""`pfn serve --workers N`: processes beside the node's own that answer what everybody may read.

They share its port, and read its database and its artifacts; they write nothing and hold no key. What needs more than
that (a key or session, a write, other nodes, streams of events) they do not understand: they pass the connection
itself on to the node, with what they have read of it, so that it is as if the client had come there at once.

    channel.py       between the node and one worker: messages, and connections
    starting.py      what a worker is told at its start
    rooms.py         what a worker has in the place of the rooms that only the node has
    choosing.py      which requests a worker tries
    process.py       the worker: `python -m pfn_node.workers.process`, started by
    supervising.py   the node's side: starts workers, takes what they pass on and count, and starts again what dies
"""
