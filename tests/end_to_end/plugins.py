"""Folders of plugins for the end-to-end tests: small, valid, and as many as a test wants."""

from pathlib import Path


def write_plugin(folder: Path, slug: str, version: str, tags: tuple[str, ...] = ("tools",), filler: str = "") -> None:
    """Write or overwrite one plugin folder."""
    plugin = folder / slug
    plugin.mkdir(parents=True, exist_ok=True)
    title = slug.replace("-", " ").title()
    (plugin / f"{slug}.php").write_text(
        f"<?php\n/**\n * Plugin Name: {title}\n * Version: {version}\n * Description: Adds {title}.\n"
        f" * License: GPL-3.0\n */\n\nif ( ! defined( 'ABSPATH' ) ) {{ exit; }}\n{filler}\n"
    )
    (plugin / "readme.txt").write_text(
        f"=== {title} ===\nTags: {', '.join(tags)}\nStable tag: {version}\n\nAdds {title}.\n"
    )
