"""Write protocol/vectors; with --check only say whether that would change anything, and exit with 1 if so."""

import sys
from pathlib import Path

from tests.protocol.vectors.files import texts

FOLDER = Path(__file__).resolve().parents[3] / "protocol" / "vectors"


def main(*, check: bool) -> int:
    """Return the exit status."""
    wanted = texts()
    stored = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    if check:
        changed = sorted(name for name in wanted | stored if wanted.get(name) != stored.get(name))
        sys.stdout.writelines(
            f"protocol/vectors/{name} is not what the cases say; run scripts/vectors\n" for name in changed
        )
        return 1 if changed else 0
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    for name in stored.keys() - wanted.keys():
        (FOLDER / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
