"""What an operator can set.

Flags win over the environment (PFN_*), that over the TOML file (--config), that over these defaults.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pfn_node.store_urls import check_store_url
from pfn_protocol.errors import Refusal
from pfn_protocol.names import parse_instance_url

SCHEME_SLASHES = 2  # of https://host
MASTER_KEY_CHARACTERS_MIN = 32
# Of 32 random characters, even of hex digits, more are left in all but one of a billion.
TELLING_CHARACTERS_MIN = 12
DIFFERENT_CHARACTERS_MIN = 6
# What stands in examples, compose files and tutorials, and is copied from there.
_WEAK_WORDS = (
    "changeme",
    "changethis",
    "replaceme",
    "password",
    "passwort",
    "masterkey",
    "adminkey",
    "apikey",
    "supersecret",
    "topsecret",
    "secret",
    "example",
    "default",
    "insecure",
    "letmein",
    "qwerty",
    "development",
    "pfn",
    "your",
    "here",
)


# Variables of this project's other programs: of commands that ask a node, and of tests and scripts.
_OTHER_VARIABLES = frozenset(("PFN_NODE", "PFN_KEY", "PFN_CHROMIUM"))
_OTHER_PREFIXES = ("PFN_TEST_", "PFN_FUZZ_")
# Neither a URL, nor with a port, nor a pattern: none of these would ever match.
_HOST_NAME = re.compile(r"[^\s/:@*?#\[\]]+")

# Where a setting came from; `program`: from whoever started the node in code, as tests do.
Origin = Literal["flag", "environment", "file", "default", "program"]


class Settings(BaseSettings):
    """Every setting of a node. Times in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="PFN_", extra="ignore", frozen=True)

    data: Path = Field(description="Folder of the node's key, database and artifacts; created at the first start.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8470, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    url: str | None = Field(
        None, description="The node's public URL; defaults to the bound address, but not for a wildcard host."
    )
    mesh: str = Field(
        "main",
        min_length=1,
        max_length=32,
        pattern=r"^[a-z0-9-]+$",
        description="Name of the mesh; nodes of other meshes are refused.",
    )
    join: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Nodes to join, as URL or URL#did:key:...; joining pins the node's key."
    )
    allow_private_networks: bool = Field(
        False, description="Dial http, any port, IP literals, private and loopback addresses."
    )
    allowed_host: Annotated[tuple[str, ...], NoDecode] = Field((), description="Further Host names to answer to.")
    trusted_proxy: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (), description="Networks whose X-Forwarded-For is believed."
    )
    master_key: SecretStr | None = Field(
        None,
        description="Makes API keys through POST /federation/create-admin-key; at least 32 characters. Never a flag.",
    )
    private_key: SecretStr | None = Field(
        None, description="The node's key as PKCS8 PEM; taken into a new data folder at its first start."
    )
    log_json: bool = Field(False, description="Log lines as JSON.")
    trust_depth: int = Field(
        1,
        ge=1,
        le=3,
        description="1: only directly pinned nodes back bytes. 2-3: two pin paths that share no key do as well.",
    )

    wordpress_upstream: str | None = Field(
        None,
        description="Where what this node does not know itself is asked for sites that are pointed at it: "
        "https://api.wordpress.org. Without it they hear nothing of WordPress' own updates.",
    )

    health_check_seconds: float = Field(
        300, gt=0, description="How often a registered source is asked whether it is up."
    )
    sync_seconds: float = Field(3600, gt=0, description="How often a subscribed source is synced.")
    verification_seconds: float = Field(
        86400, gt=0, description="How often a registered source has to prove its key again."
    )

    artifact_bytes_max: int = Field(100 * 2**20, gt=0, description="Largest plugin zip that is mirrored.")
    artifact_seconds_max: float = Field(
        600, gt=0, description="Total deadline of one download from a publisher or mirror."
    )
    transfer_bytes_per_second_min: int = Field(
        16 * 2**10, ge=0, description="A download slower than this (averaged over 20 s) is given up."
    )
    cache_bytes_max: int = Field(
        2 * 2**30,
        ge=0,
        description="Room for artifacts fetched for anonymous demand; the least recently used go first.",
    )
    artifacts: str | None = Field(
        None,
        description="URL of an object store that plugin zips are kept in, instead of the data folder: "
        "s3://bucket/prefix. Its credentials come from the environment alone (AWS_ACCESS_KEY_ID and the like).",
    )
    artifact_delivery: Literal["stream", "redirect"] = Field(
        "stream",
        description="How zips leave that store: through this node, which checks every byte, or from the store itself, "
        "by a presigned URL to which public downloads are redirected.",
    )
    scrub_bytes_per_second: int = Field(
        4 * 2**20, ge=0, description="How fast what is on the disk is read again to find damage; 0: never."
    )
    source_plugins_max: int = Field(500, gt=0, description="Plugins taken from one author-data answer.")

    body_bytes_max: int = Field(1 * 2**20, gt=0, description="Largest request body of the JSON API.")
    requests_per_minute: int = Field(600, gt=0, description="Requests per minute and address; loopback is exempt.")
    key_requests_per_minute: int = Field(
        600, gt=0, description="Requests per minute with one API key, from wherever; loopback is exempt."
    )
    auth_failures_per_minute: int = Field(
        10, gt=0, description="Wrong keys per minute and address; then even a right one waits. Loopback is exempt."
    )
    verifications_per_minute: int = Field(
        60,
        gt=0,
        description="Calls per minute and address that make the node check signatures or read whole files "
        "(verify, releases); loopback is exempt.",
    )
    peer_verifications_per_second: int = Field(
        200, gt=0, description="Announcements per second that one node may push here, unless you joined or pinned it."
    )
    node_verifications_per_second: int = Field(
        2000, gt=0, description="The same of all such nodes together; each costs a signature check."
    )
    workers: int = Field(
        0, ge=0, le=64, description="Processes beside the node's own that answer what everybody may read."
    )
    connections_max: int = Field(
        4096, gt=0, description="Open connections; fewer if the limit on open files is low. Each takes about 40 kB."
    )
    stop_seconds: float = Field(
        1.0, ge=0, le=600, description="How long requests that run (downloads above all) are waited for at the end."
    )
    connections_per_address_max: int = Field(64, gt=0, description="Open connections per address; loopback is exempt.")

    _origins: dict[str, Origin] = PrivateAttr(default_factory=dict)

    def origin_of(self, name: str) -> Origin:
        """Where the value of a setting came from."""
        return self._origins.get(name, "program" if name in self.model_fields_set else "default")

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_switch(cls, value: object, info: ValidationInfo) -> object:
        """True would be taken for the number 1, and an empty variable for the present folder."""
        asked = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and asked in (int, float):
            raise ValueError("expected a number, not true or false")
        if value == "" and asked is Path:
            raise ValueError("it is empty; name a folder")
        return value

    @field_validator("url")
    @classmethod
    def _can_be_announced(cls, value: str | None) -> str | None:
        """In the one spelling that nodes take; with any other the mesh would not hear of this one."""
        try:
            return parse_instance_url(value, allow_http=True) if value else None
        except Refusal as error:
            raise ValueError(error.sentence) from None

    @field_validator("allowed_host")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _HOST_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no host's name; give one alone, without scheme, port or *")
        return value

    @field_validator("trusted_proxy", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        """In sentences that say which one is wrong."""
        given = _each(value)
        return [ip_network(str(one)) for one in given] if isinstance(given, list | tuple) else given

    @field_validator("join", "allowed_host", mode="before")
    @classmethod
    def _split(cls, value: object) -> Any:
        return _each(value)

    @field_validator("wordpress_upstream")
    @classmethod
    def _one_host(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Only a host, over https: what it answers goes to sites as it is."""
        if value is None:
            return None
        try:
            url = parse_instance_url(value, allow_http=bool(info.data.get("allow_private_networks")))
        except Refusal as error:
            raise ValueError(error.sentence) from None
        if url.count("/") > SCHEME_SLASHES:
            raise ValueError("expected the URL of a host alone, without a path, such as https://api.wordpress.org")
        return url

    @field_validator("artifacts")
    @classmethod
    def _shows_no_secret(cls, value: str | None) -> str | None:
        return check_store_url(value) if value else None

    @field_validator("master_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < MASTER_KEY_CHARACTERS_MIN:
            raise ValueError(
                f"the master key (PFN_MASTER_KEY) has fewer than {MASTER_KEY_CHARACTERS_MIN} characters; "
                "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        if value is not None and is_weak(value.get_secret_value()):
            raise ValueError(
                "the master key (PFN_MASTER_KEY) can be guessed: it is a word of examples or repeats itself; "
                "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        return value


def _each(value: object) -> Any:
    """The environment gives lists as text, separated by commas or spaces."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def is_weak(key: str) -> bool:
    """Whether little is left of a key without the words of examples, repetitions and runs of neighbours."""
    text = "".join(character for character in key.casefold() if character.isalnum())
    for word in _WEAK_WORDS:
        text = text.replace(word, "")
    telling = [after for before, after in pairwise(text) if ord(after) - ord(before) not in (-1, 0, 1)]
    return len(telling) < TELLING_CHARACTERS_MIN or len(set(telling)) < DIFFERENT_CHARACTERS_MIN


class SettingsError(Exception):
    """What the operator gave cannot be used; one line for each mistake."""


def load_settings(flags: Mapping[str, Any], config: Path | None = None) -> Settings:
    """Settings from flags (None = not given), the environment, the TOML file and the defaults, in this order.

    Raises SettingsError that names every wrong value, and every word of the file that is not a setting.
    """
    file = _read_config(config) if config else {}
    origins: dict[str, Origin] = {}

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            given_in_file = InitSettingsSource(settings_cls, init_kwargs=file)
            layers: dict[Origin, PydanticBaseSettingsSource] = {
                "flag": init_settings,
                "environment": env_settings,
                "file": given_in_file,
            }
            for origin, layer in layers.items():  # the first that gives a setting wins
                for name in layer():
                    origins.setdefault(name, origin)
            return tuple(layers.values())

    try:
        settings = Layered(**{name: value for name, value in flags.items() if value is not None})
        settings._origins.update(origins)
        return settings
    except ValidationError as error:
        raise SettingsError("\n".join(map(_said, error.errors(include_input=False)))) from error


def _said(found: ErrorDetails) -> str:
    """A mistake in one line that says where, and what to do."""
    name = ".".join(map(str, found["loc"]))
    if found["type"] == "missing":
        flag, variable = name.replace("_", "-"), name.upper()
        return f"{name} is missing; give it with --{flag}, as PFN_{variable}, or in the file of --config"
    return f"{name}: {found['msg'].removeprefix('Value error, ')}"


def _read_config(config: Path) -> dict[str, object]:
    try:
        values: dict[str, object] = tomllib.loads(config.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the configuration {config}: {error}") from error
    unknown = sorted(set(values) - set(Settings.model_fields))
    if unknown:
        named = ", ".join(_beside_nearest(name, nearest_setting(name)) for name in unknown)
        raise SettingsError(f"{config}: not a setting: {named}; known are {', '.join(Settings.model_fields)}")
    return values


def unknown_variables(names: Iterable[str]) -> dict[str, str | None]:
    """Names of variables (PFN_*) that nothing reads, each with the one that was probably meant."""
    known = {f"PFN_{name.upper()}" for name in Settings.model_fields} | _OTHER_VARIABLES
    unknown = [
        name
        for name in sorted(names)
        if name.upper().startswith("PFN_") and name.upper() not in known and not name.startswith(_OTHER_PREFIXES)
    ]
    return {name: _variable(nearest_setting(name[len("PFN_") :])) for name in unknown}


def _variable(setting: str | None) -> str | None:
    return None if setting is None else f"PFN_{setting.upper()}"


def nearest_setting(name: str) -> str | None:
    """The setting whose name is most like this one, if any is."""
    return next(iter(get_close_matches(name.lower().replace("-", "_"), Settings.model_fields, n=1)), None)


def _beside_nearest(name: str, nearest: str | None) -> str:
    return name if nearest is None else f"{name} (did you mean {nearest}?)"
