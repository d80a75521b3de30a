"""The unit for systemd and the container file: read by the real tools where there are some, and their commands run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from pfn_node.cli.local_mesh import LocalMesh
from pfn_node.settings import Settings

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "scripts" / "deploy" / "pfn.service"
CONTAINERFILE = ROOT / "scripts" / "deploy" / "Containerfile"
# systemd's own measure of what a service could do if it were taken over: 10 is anything, 2 and less is "OK".
EXPOSURE_MAX = 2.0
INSTALLED = "/opt/pfn"


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None and not os.environ.get("CI"):
        pytest.skip("NO SYSTEMD HERE, so the unit is NOT tested")
    assert found is not None, "CI needs systemd-analyze"
    return found


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with the program where it is here."""
    unit = tmp_path / "pfn.service"
    unit.write_text(UNIT.read_text().replace(f"{INSTALLED}/bin/pfn", str(Path(sys.executable).with_name("pfn"))))
    return unit


def instructions() -> list[tuple[str, str]]:
    """The instructions of the container file, in order."""
    lines = re.sub(r"\\\n\s*", "", CONTAINERFILE.read_text()).splitlines()
    found = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in found]


def health_check() -> list[str]:
    (given,) = [rest for word, rest in instructions() if word == "HEALTHCHECK"]
    command: list[str] = json.loads(given.partition("CMD ")[2])
    return command


def test_systemd_reads_the_unit_and_has_no_complaint(analyze: str, unit: Path) -> None:
    verified = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)

    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_the_service_could_do_little_if_it_were_taken_over(analyze: str, unit: Path) -> None:
    command = [analyze, "security", "--offline=true", f"--threshold={round(10 * EXPOSURE_MAX)}", str(unit)]
    judged = subprocess.run(command, capture_output=True, text=True)
    loose = subprocess.run([*command[:-1], str(_without_walls(unit))], capture_output=True, text=True)

    assert judged.returncode == 0, judged.stdout
    assert loose.returncode != 0, "a unit without its walls has to be found out"


def _without_walls(unit: Path) -> Path:
    loose = unit.with_name("loose.service")
    kept = ("[", "Type", "ExecStart", "Description")
    loose.write_text("\n".join(line for line in unit.read_text().splitlines() if line.startswith(kept)))
    return loose


def test_every_setting_that_is_given_for_an_operator_is_one() -> None:
    given = dict(
        re.findall(r"^(?:Environment=|ENV )PFN_(\w+)=(.+)$", UNIT.read_text() + CONTAINERFILE.read_text(), re.M)
    )

    assert {name.lower() for name in given} <= set(Settings.model_fields)
    Settings(**{name.lower(): value for name, value in given.items()})


def test_every_node_that_is_documented_believes_its_proxy_and_nobody_else_who_asks() -> None:
    (command,) = re.findall(r"pfn serve --data \S+ --url .*", (ROOT / "README.md").read_text())
    of_readme = re.findall(r"--trusted-proxy (\S+)", command)
    of_unit = re.findall(r"^Environment=PFN_TRUSTED_PROXY=(\S+)$", UNIT.read_text(), re.M)
    of_container = re.findall(r"-e PFN_TRUSTED_PROXY=(\S+)", CONTAINERFILE.read_text())

    assert of_readme == of_unit == ["127.0.0.1/32"]
    for given in (of_unit, of_container):
        (network,) = Settings(data=ROOT, trusted_proxy=" ".join(given)).trusted_proxy
        assert network.num_addresses == 1


def test_the_container_runs_as_nobody_and_says_how_it_is() -> None:
    words = [word for word, _ in instructions()]
    user = next(rest for word, rest in instructions() if word == "USER")
    folder = next(rest for word, rest in instructions() if word == "VOLUME")

    assert int(user.split(":")[0]) > 0
    assert words.index("USER") > max(index for index, word in enumerate(words) if word in ("RUN", "COPY"))
    assert f"--owner={user.split(':')[0]}" in CONTAINERFILE.read_text()
    assert f"PFN_DATA={folder}" in CONTAINERFILE.read_text()
    assert health_check()[0] == f"{INSTALLED}/bin/python3"


async def test_the_health_check_knows_a_node_that_serves_from_one_that_does_not(mesh: LocalMesh) -> None:
    node = await mesh.start_node()
    arguments = health_check()[1:]
    command = [sys.executable, *(word.replace("http://127.0.0.1:8470", node.node) for word in arguments)]

    serving = await trio.run_process(command, check=False)
    await mesh.nodes[0].kill()
    dead = await trio.run_process(command, check=False, capture_stderr=True)

    assert command[-1] != arguments[-1], "it asks the port that the image serves"
    assert serving.returncode == 0
    assert dead.returncode != 0


@pytest.mark.long
async def test_what_the_container_file_does_makes_a_node_that_serves(tmp_path: Path) -> None:
    """Without an engine for containers: each step is done in order, in a folder of its own instead of in an image."""
    root = tmp_path / "image"
    environment: dict[str, str] = {"PATH": os.environ["PATH"]}
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in sources:
                _copy(ROOT / source, root / target.strip("/"), into=target.endswith("/"))
        elif word == "RUN" and not rest.startswith("install --directory"):
            here = [re.sub(r"^/(opt|src)\b", f"{root}/\\1", part) for part in shlex.split(rest)]
            await trio.run_process([sys.executable if here[0] == "python3" else here[0], *here[1:]])
        elif word == "ENV":
            name, _, value = rest.partition("=")
            environment[name] = value
    environment |= {"PFN_DATA": str(tmp_path / "data"), "PFN_PORT": "0", "PFN_HOST": "127.0.0.1"}
    ((_, program),) = [one for one in instructions() if one[0] == "ENTRYPOINT"]
    ((_, arguments),) = [one for one in instructions() if one[0] == "CMD"]
    command = [f"{root}{json.loads(program)[0]}", *json.loads(arguments)]

    with (tmp_path / "log").open("wb") as log:
        process = await trio.lowlevel.open_process(
            command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        line += await process.stdout.receive_some() or (tmp_path / "log").read_bytes() + b"\n"
    checked = [word.replace("http://127.0.0.1:8470", line.decode().split()[-1]) for word in health_check()]
    healthy = await trio.run_process([f"{root}{checked[0]}", *checked[1:]], check=False)
    process.terminate()

    assert await process.wait() == 0, line
    assert healthy.returncode == 0
    await process.stdout.aclose()


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        return
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target / source.name if into else target)
