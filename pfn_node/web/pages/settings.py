"""/admin/settings: every setting as it is in force, and where it came from."""

from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from pfn_node.settings import Settings
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.pages.rendering import size
from pfn_node.web.services import Services

pages = Pages()

ORIGINS = {
    "flag": "a flag of the command",
    "environment": "the environment",
    "file": "the TOML file",
    "default": "the default",
    "program": "the program that started the node",
}


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A setting. `value` never holds a secret, only whether one is set."""

    name: str
    value: str
    origin: str
    came_from: str
    says: str
    variable: str


@pages.get("/admin/settings", "settings.html", title="Settings", menu="admin", scope="keys")
async def show_settings(services: Services, visitor: Visitor) -> dict[str, Any]:
    rows = setting_rows(services.settings)
    return {"settings": rows, "changed": sum(1 for row in rows if row.origin != "default"), "url": services.url}


def setting_rows(settings: Settings) -> list[SettingRow]:
    """Every setting in the order in which they are declared."""
    return [_row(settings, name, field) for name, field in Settings.model_fields.items()]


def _row(settings: Settings, name: str, field: FieldInfo) -> SettingRow:
    origin = settings.origin_of(name)
    value = getattr(settings, name)
    shown = written(value, is_secret="SecretStr" in str(field.annotation))
    if "_bytes_" in name and isinstance(value, int):
        shown = f"{shown} ({size(value)})"
    return SettingRow(name, shown, origin, ORIGINS[origin], field.description or "", f"PFN_{name.upper()}")


def written(value: object, *, is_secret: bool = False) -> str:
    """A value as people read it."""
    if is_secret or isinstance(value, SecretStr):
        return "not set" if value is None else "set, not shown"
    match value:
        case None | ():
            return "none"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(map(str, value))
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,g}"
        case _:
            return str(value)
