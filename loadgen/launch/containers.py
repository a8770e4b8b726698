"""Engines in containers: what docker has to be told, and asked."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from loadgen.engines.engine import Command, Container, Launch
from loadgen.errors import EngineError
from loadgen.launch.inheritance import without_ours
from loadgen.launch.processes import MARK
from loadgen.live.status import Status

_TIMEOUT_S = 60.0

_LEAST = (
    # Engines run as the image's user, mostly root: images keep caches in its home, and torch looks its name up.
    # Of root's capabilities an engine needs one: to read mounted models, which belong to whoever fetched them.
    *("--cap-drop", "ALL", "--cap-add", "DAC_OVERRIDE"),
    # No setuid program gives any of them back.
    *("--security-opt", "no-new-privileges"),
)

_FIRST_UNPRIVILEGED_PORT = 1024


def why_not() -> str | None:
    """Tell why containers cannot be started here, None where they can."""
    if shutil.which("docker") is None:
        return "docker is not installed (docs.docker.com/engine/install; for GPUs the NVIDIA container toolkit too)"
    done = _docker("version", "--format", "{{.Server.Version}}")
    if done.returncode != 0:
        return f"the docker daemon does not answer ({_last_line(done)}); start it, or join the group docker"
    return None


def has_image(image: str) -> bool:
    """Whether an image is on this machine."""
    return _docker("image", "inspect", image).returncode == 0


def pull(image: str, status: Status) -> None:
    """Pull an image unless it is present; raises EngineError with the last line of docker's output if that fails."""
    if has_image(image):
        return
    status.now(f"pulling {image}")
    done = _docker("pull", image, timeout=None)
    if done.returncode != 0:
        raise EngineError(f"the image {image} is not here and cannot be pulled: {_last_line(done)}.")
    status.say(f"pulled {image}")


def digest(image: str) -> str | None:
    """Return the digest by which a registry knows an image; None for one that was built here."""
    done = _docker("image", "inspect", "--format", "{{index .RepoDigests 0}}", image)
    return done.stdout.strip() or None if done.returncode == 0 else None


def run_command(
    launch: Launch,
    inner: Command,
    *,
    name: str,
    port: int,
    gpus: Sequence[int],
    mounts: Sequence[Path],
) -> list[str]:
    """Return the ``docker run`` of one engine, reachable on loopback; folders are mounted where they lie here."""
    container = launch.runs_in
    assert isinstance(container, Container)
    command = ["docker", "run", "--rm", "--name", name, "--label", f"{MARK}={name}", *_LEAST]
    if container.port < _FIRST_UNPRIVILEGED_PORT:  # docker before 20.10 lets nobody else listen there
        command += ["--cap-add", "NET_BIND_SERVICE"]
    # A limit, not a reservation. The host's shared memory (--ipc host) would show engines that of all other processes.
    command += ["--shm-size", f"{container.shared_memory_gb}g"]
    command += ["--publish", f"127.0.0.1:{port}:{container.port}"]
    if gpus:
        command += ["--gpus", '"device=' + ",".join(map(str, gpus)) + '"']
    for mount in mounts:
        command += ["--volume", f"{mount}:{mount}" + ("" if container.writes else ":ro")]
    for variable, value in launch.variables.items():
        command += ["--env", f"{variable}={value}"]
    return [*command, *container.arguments, container.image, *inner]


def remove(name: str) -> str | None:
    """Take a container away, if it is there; tell why not, where that fails."""
    if shutil.which("docker") is None:
        return None
    done = _docker("rm", "--force", name)
    if done.returncode == 0 or "no such container" in done.stderr.lower():
        return None
    return _last_line(done)


def _docker(*arguments: str, timeout: float | None = _TIMEOUT_S) -> "subprocess.CompletedProcess[str]":
    command = ["docker", *arguments]
    try:
        return subprocess.run(  # noqa: S603
            command, env=without_ours(), capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer for {timeout:g} s")


def _last_line(done: "subprocess.CompletedProcess[str]") -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"
