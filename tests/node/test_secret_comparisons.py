"""No secret is compared with ==: that takes longer the more of it is right."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MODULES = [*(ROOT / "pfn_node").rglob("*.py"), *(ROOT / "protocol" / "pfn_protocol").rglob("*.py")]

# What is secret, or a hash of it, by the words of its name.
SECRET = re.compile(r"(^|_)(secret|secrets|token|csrf|password|passphrase|master|seed|hmac|digest_of_key)(_|$)")
# Names of that kind which hold nothing that anybody could guess at.
HARMLESS = frozenset({"token_hash"})  # looked up by SQL alone; a SHA-256 of 256 random bits


def names_in(node: ast.AST) -> Iterator[str]:
    """The identifiers that an operand consists of; of a call its function as well."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute):
            yield inner.attr


def compared_secrets(source: str) -> list[str]:
    """What is compared by value (==, !=, in, match) and is called like a secret."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and any(
            isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for operator in node.ops
        ):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            operands = [node.subject]
        else:
            continue
        if any(isinstance(operand, ast.Call) and ast.unparse(operand.func) == "len" for operand in operands):
            continue
        if any(SECRET.search(name) and name not in HARMLESS for operand in operands for name in names_in(operand)):
            found.append(f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}")
    return found


def test_no_secret_is_compared_by_value() -> None:
    found = {str(module.relative_to(ROOT)): compared_secrets(module.read_text()) for module in MODULES}

    assert {module: lines for module, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "if secret == given: pass",
        "x = self._master_hash != digest",
        "if given in (key.secret_hash,): pass",
        "match csrf_token:\n    case 'x': pass",
        "ok = hash_secret(given) == expected",
    ],
)
def test_a_comparison_by_value_would_be_found(source: str) -> None:
    assert compared_secrets(source)


@pytest.mark.parametrize("source", ["hmac.compare_digest(secret, given)", "if token is None: pass", "len(seed) == 32"])
def test_what_is_no_comparison_of_a_secret_is_let_be(source: str) -> None:
    assert compared_secrets(source) == []


def test_the_comparisons_that_matter_take_constant_time() -> None:
    """Each is there, and by compare_digest: deleting one is found here as well."""
    wanted = {"pfn_node/web/auth.py": 3, "pfn_node/web/session_tokens.py": 1}

    for module, count in wanted.items():
        assert (ROOT / module).read_text().count("hmac.compare_digest(") == count, module
