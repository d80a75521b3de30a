"""The house itself: the picture in the README is the tree, every room stays in bounds, every script is described."""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = (ROOT / "pfn_node", ROOT / "protocol" / "pfn_protocol")
ONLY_WAY_OUT = ROOT / "pfn_node" / "outbound.py"


def modules() -> list[Path]:
    return sorted(file for package in PACKAGES for file in package.rglob("*.py") if "samples" not in file.parts)


def imported_names(file: Path) -> set[str]:
    """The top-level names that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def rooms_in_picture() -> set[str]:
    """The paths that README's picture of the rooms names: nesting is two spaces, text after two spaces is comment."""
    text = (ROOT / "README.md").read_text()
    picture = re.search(r"## The rooms.*?```text\n(.*?)```", text, re.DOTALL)
    assert picture, "README.md has no picture of the rooms"
    paths: set[str] = set()
    folders: list[str] = []
    for line in picture.group(1).splitlines():
        depth = (len(line) - len(line.lstrip(" "))) // 2
        names = re.match(r"\s*((?:[\w.*-]+/?)(?: [\w.*-]+\.\w+)*)", line)
        if not line.strip() or names is None:
            continue
        for name in names.group(1).split(" "):
            folders[depth:] = [name.rstrip("/")] if name.endswith("/") else []
            paths.add("/".join([*folders[:depth], name.rstrip("/")]))
    return paths


def test_the_picture_of_the_rooms_is_the_tree() -> None:
    files = {file.relative_to(ROOT).as_posix() for file in modules() if file.name not in ("__init__.py", "__main__.py")}

    drawn = {path for path in rooms_in_picture() if path.endswith(".py")}

    assert drawn == files


def test_what_the_picture_names_besides_modules_exists() -> None:
    missing = [path for path in rooms_in_picture() if "*" not in path and not (ROOT / path).exists()]

    assert missing == []


def test_one_module_is_the_only_way_out() -> None:
    users = [file.relative_to(ROOT).as_posix() for file in modules() if imported_names(file) & {"httpx", "httpcore"}]

    assert users == ["pfn_node/outbound.py"]


def test_the_top_level_holds_what_the_layout_allows() -> None:
    allowed = {"pyproject.toml", "pfn_node", "protocol", "tests", "scripts", "README.md", "LICENSE"}

    found = {entry.name for entry in ROOT.iterdir() if not entry.name.startswith(".")}

    assert found - allowed <= {"htmlcov", "build", "dist", "node_modules"}


def test_every_script_is_described() -> None:
    scripts = {entry.name for entry in (ROOT / "scripts").iterdir() if entry.is_file()} - {"README.md"}
    described = set(re.findall(r"^\| `([\w-]+)` \|", (ROOT / "scripts" / "README.md").read_text(), re.MULTILINE))

    assert described == scripts


def test_the_server_whose_internals_are_mended_is_pinned_exactly() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]

    for name in ("hypercorn", "quart-trio", "quart", "h11"):
        assert any(re.match(rf"{name}==\d", requirement) for requirement in wanted), name


def test_every_setting_says_what_it_is_for() -> None:
    from pfn_node.settings import Settings

    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_no_file_outgrows_its_room() -> None:
    # A screenful times ten: beyond this a file has two subjects.
    long = {
        file.relative_to(ROOT).as_posix(): lines
        for file in modules()
        if (lines := len(file.read_text().splitlines())) > 430
    }

    assert long == {}
