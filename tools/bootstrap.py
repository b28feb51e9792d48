"""Set up an environment for this checkout, once, then run a command in it. Standard library only.

    python3 tools/bootstrap.py [--extras test] [-- ARGUMENTS OF PYTHON]

The environment is `.venv` in the checkout, or what VENV (a virtual environment) or PYTHON (an interpreter) names.
Set-up is three steps: the environment, this package with its dependencies, Detectron2. A stamp in the environment,
keyed to the content of the files that decide the set-up, says that it is done.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETUP_FILES = ["setup.py", "pyproject.toml", "embedded/pyproject.toml", "tools/bootstrap.py"]
STAMP_NAME = "mask2former_ext-setup.json"
OLDEST_PYTHON = (3, 10)

DETECTRON2_URL = "https://github.com/facebookresearch/detectron2"
DETECTRON2_COMMIT = "02b5c4e295e990042a714712c21dc79b731e8833"
PROBE_SECONDS = 9
BUILD_TOOLS = ["setuptools>=77.0.3,<81", "wheel", "ninja"]
# A download that all but stops (under 1 kB/s for a minute) is given up, and no password is prompted for.
GIT_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_HTTP_LOW_SPEED_LIMIT": "1000", "GIT_HTTP_LOW_SPEED_TIME": "60"}

MEANING = {
    "real": "Detectron2 itself: all of its API.",
    "embedded": "this project's own small Detectron2 (embedded/): all that this project and scripts like its own use. "
    "Importing a part that it leaves out raises an ImportError that says how to install the real one.",
}
INSPECT_DETECTRON2 = """
import json, detectron2, detectron2.config, detectron2.layers
kind = "embedded" if getattr(detectron2, "__embedded__", False) else "real"
print(json.dumps({"kind": kind, "version": detectron2.__version__}))
"""


class SetupError(Exception):
    """Set-up cannot go on; the message says what is missing and what to do about it."""


def say(message: str) -> None:
    print(f"[set-up] {message}", flush=True)


class Environment:
    """A Python environment: `python` runs in it; `ours` says that it is the checkout's .venv, which we may remake."""

    def __init__(self, python: Path, prefix: Path, ours: bool):
        self.python, self.prefix, self.ours = python, prefix, ours

    def run(self, *arguments: str, log: Path | None = None) -> bool:
        """Run python with `arguments`, its output on the terminal and, if given, in `log`; True if it succeeded."""
        command = [str(self.python), *arguments]
        if log is None:
            return subprocess.call(command, stdin=subprocess.DEVNULL) == 0
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", env={**os.environ, **GIT_ENVIRONMENT},
            )  # fmt: skip
            assert process.stdout is not None, "stdout is a pipe"
            for line in process.stdout:
                file.write(line)
                print(line, end="", flush=True)
        return process.wait() == 0

    def ask(self, code: str) -> str | None:
        """What `code` prints there, or None if it fails or there is no such Python."""
        if not self.python.exists():
            return None
        done = subprocess.run([str(self.python), "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return done.stdout.strip() if done.returncode == 0 else None

    def pip(self, *arguments: str) -> None:
        if not self.run("-m", "pip", *arguments):
            raise SetupError(f"pip {' '.join(arguments)} failed in {self.prefix}; its own message is above")


def choose_environment(variables: dict[str, str], root: Path = ROOT) -> Environment:
    """The environment that VENV or PYTHON names, which is printed and must exist, else the checkout's .venv."""
    venv, python = variables.get("VENV", ""), variables.get("PYTHON", "")
    if venv and python:
        raise SetupError(f"VENV={venv} and PYTHON={python} both name an environment: give one of them")
    if not venv and not python:
        return Environment(root / ".venv/bin/python", root / ".venv", ours=True)
    name = f"VENV={venv}" if venv else f"PYTHON={python}"
    found = shutil.which(str(Path(venv).absolute() / "bin/python") if venv else os.path.expanduser(python))
    if found is None:
        raise SetupError(f"{name}: no Python there. Give the folder of a virtual environment or a Python interpreter")
    environment = Environment(Path(found).absolute(), Path(), ours=False)
    answer = environment.ask("import json, sys; print(json.dumps([sys.prefix, sys.version_info[:2]]))")
    if answer is None:
        raise SetupError(f"{name}: {found} does not run")
    prefix, version = json.loads(answer)
    if tuple(version) < OLDEST_PYTHON:
        raise SetupError(f"{name}: that is Python {version[0]}.{version[1]}; 3.{OLDEST_PYTHON[1]} or newer is needed")
    environment.prefix = Path(prefix)
    say(f"{name}: using that environment ({prefix}) instead of .venv")
    return environment


def find_base_python() -> str:
    """An interpreter, new enough, to make .venv with: this one, else the newest known one on the PATH."""
    if sys.version_info >= OLDEST_PYTHON:
        return sys.executable
    for minor in range(14, OLDEST_PYTHON[1] - 1, -1):
        candidate = shutil.which(f"python3.{minor}")
        if candidate and subprocess.call([candidate, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            return candidate
    raise SetupError(f"Python >= 3.{OLDEST_PYTHON[1]} is needed; {sys.executable} is {sys.version.split()[0]}")


def make_environment(environment: Environment) -> None:
    """Make .venv if it is not there or does not run, and give the environment a pip if it has none."""
    if environment.ours and environment.ask("") is None:
        base = find_base_python()
        say(f"making {environment.prefix} with {base}")
        # Without pip at first: where the system keeps ensurepip in a package of its own, venv would fail half-way.
        if subprocess.call([base, "-m", "venv", "--clear", "--without-pip", str(environment.prefix)]) != 0:
            raise SetupError(f"{base} could not make a virtual environment in {environment.prefix}")
    has_pip = "import pip"
    if environment.ask(has_pip) is not None:
        return
    if environment.ask("import ensurepip") is not None:
        environment.run("-m", "ensurepip", "--default-pip")
    elif environment.ours:
        packages = environment.ask("import sysconfig; print(sysconfig.get_path('purelib'))")
        subprocess.call([find_base_python(), "-m", "pip", "install", "--target", str(packages), "pip"])
    if environment.ask(has_pip) is None:
        raise SetupError(f"{environment.prefix} has no pip and none could be put there: install pip, then try again")


def probe_repository(url: str = DETECTRON2_URL, seconds: float = PROBE_SECONDS) -> str | None:
    """None if the repository answers within `seconds`, else the reason. The time is a hard limit."""
    if shutil.which("git") is None:
        return "git is not installed"
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as errors:
        # A session of its own: git's helper processes, which do the waiting, are ended with it.
        process = subprocess.Popen(
            ["git", "ls-remote", url, "HEAD"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            start_new_session=True, env={**os.environ, **GIT_ENVIRONMENT},
        )  # fmt: skip
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"{url} did not answer within {seconds:g} seconds"
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    return None if code == 0 else f"{url} cannot be reached ({lines[-1] if lines else f'git ended with {code}'})"


def find_compiler() -> str | None:
    """The C++ compiler that a build would use, or None."""
    return shutil.which((os.environ.get("CXX") or "c++").split()[0]) or shutil.which("g++")


class Detectron2Steps:
    """What choosing a Detectron2 for an environment does to the world; each method is a step of `choose_detectron2`."""

    def __init__(self, environment: Environment, root: Path = ROOT):
        self.environment, self.root = environment, root
        self.log = root / "output/setup/detectron2-build.log"

    def installed(self) -> dict[str, str] | None:
        """Kind ("real" or "embedded") and version of the Detectron2 that can be imported there, or None."""
        answer = self.environment.ask(INSPECT_DETECTRON2)
        return json.loads(answer.splitlines()[-1]) if answer else None

    def obstacle_to_real(self) -> str | None:
        """Why the real one cannot be built here, or None."""
        return "there is no C++ compiler" if find_compiler() is None else probe_repository()

    def build_real(self) -> dict[str, str] | None:
        """Kind and version once it is built and can be imported; else None, and nothing of it is left installed."""
        say(f"building Detectron2 at {DETECTRON2_COMMIT[:7]}: some minutes; the log is {self.log}")
        self.environment.pip("install", *BUILD_TOOLS)
        source = f"detectron2 @ git+{DETECTRON2_URL}@{DETECTRON2_COMMIT}"
        if not self.environment.run("-m", "pip", "install", "-v", "--no-build-isolation", source, log=self.log):
            return None
        found = self.installed()
        if not found:
            self.environment.pip("uninstall", "-y", "detectron2")
        return found

    def install_embedded(self) -> None:
        self.environment.pip("install", "-e", str(self.root / "embedded"))


def choose_detectron2(steps: Detectron2Steps) -> dict[str, str]:
    """Take the first that works: the one installed, the real one, the embedded one; returns kind, version and why."""
    found = steps.installed()
    if found:
        return {**found, "why": "it was already installed"}
    why = steps.obstacle_to_real()
    if why is None:
        found = steps.build_real()
        if found:
            return {**found, "why": "its public repository answered and it was built"}
        why = f"the real one's build failed; its log is kept in {steps.log}"
        say(why)
    steps.install_embedded()
    found = steps.installed()
    if not found or found["kind"] != "embedded":
        raise SetupError(
            "Detectron2 was installed and cannot be imported. An older, broken one may stand before it: "
            "`pip uninstall detectron2` in this environment, then try again"
        )
    return {**found, "why": why}


def setup_key(environment: Environment, root: Path = ROOT) -> str:
    """Changes with the content of the set-up files, with the checkout's place and with the interpreter."""
    digest = hashlib.sha256()
    for name in SETUP_FILES:
        digest.update(hashlib.sha256((root / name).read_bytes()).digest())
    digest.update(f"{root}|{environment.prefix}|{os.path.realpath(environment.python)}".encode())
    return digest.hexdigest()


def read_stamp(environment: Environment, key: str) -> set[str] | None:
    """The extras that are set up under `key`, or None if set-up has not been done under it."""
    path = environment.prefix / STAMP_NAME
    if not path.is_file() or not environment.python.exists():
        return None
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None  # cut off while it was written: set-up is done again
    return set(stamp["extras"]) if stamp.get("key") == key else None


def set_up(environment: Environment, extras: set[str], root: Path = ROOT) -> None:
    """Bring `environment` up to date with the checkout, unless its stamp says that it is."""
    done = read_stamp(environment, setup_key(environment, root))
    if done is not None and extras <= done:
        return say(f"nothing to do: {environment.prefix} is up to date")
    start, extras = time.monotonic(), extras | (done or set())
    say(f"step 1 of 3: the environment, {environment.prefix}")
    make_environment(environment)
    say("step 2 of 3: this package and its dependencies (PyTorch is a large download)")
    if not environment.ours:
        say(f"what it lacks of them is installed into {environment.prefix}")
    environment.pip("install", "-e", f"{root}[{','.join(sorted(extras))}]" if extras else str(root))
    say("step 3 of 3: Detectron2")
    choice = choose_detectron2(Detectron2Steps(environment, root))
    say(f"Detectron2: the {choice['kind']} one, version {choice['version']}, because {choice['why']}")
    say(f"That is {MEANING[choice['kind']]}")
    stamp = {"key": setup_key(environment, root), "extras": sorted(extras)}
    (environment.prefix / STAMP_NAME).write_text(json.dumps(stamp), encoding="utf-8")
    say(f"done in {time.monotonic() - start:.0f} s; not needed again until {', '.join(SETUP_FILES)} change")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="extras of pyproject.toml to install, separated by commas")
    parser.add_argument("command", nargs="*", help="what to run with the environment's Python, after --")
    arguments = parser.parse_args()
    try:
        environment = choose_environment(dict(os.environ))
        set_up(environment, {name for name in arguments.extras.split(",") if name})
    except SetupError as error:
        sys.exit(f"[set-up] {error}")
    if arguments.command:
        os.chdir(ROOT)
        os.execv(environment.python, [str(environment.python), *arguments.command])


if __name__ == "__main__":
    main()
