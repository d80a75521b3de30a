"""A small reference publisher: it serves a folder of plugins and themes, and signs what it serves.

Also for those who write a publisher of their own: this is the contract of README.md, as short as it gets.
"""

from pathlib import Path

SAMPLES = Path(__file__).parent / "samples"  # one folder per demo author, with real, working plugins
