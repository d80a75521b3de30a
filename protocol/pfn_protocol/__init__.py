"""The agreement between nodes of the Plugin Federation Network: what they say, sign, accept and count.

This package decides; it never does. It has no clock, socket, disk or dice: time (`now_ms`, milliseconds since
1970) and randomness (`random.Random`) are arguments. `SPEC.md`, beside this package, states its rules by number.
"""
