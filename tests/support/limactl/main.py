"""An honest double of `limactl` (Lima 2): its commands, exit statuses, states, names and JSON, with a real guest.

What it keeps to was read from Lima's source; where real Lima is lenient, an unknown key of the document, it is strict.
Run by tests/support/lima_double.py, as a program of its own, never as root.
"""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support.limactl import guest
from tests.support.limactl.instances import FIELDS, Instance, check_name, home, known
from tests.support.limactl.keys import Refused, check, parse

START_SECONDS = 600.0
UNITS = {"s": 1, "m": 60, "h": 3600}


class Words(NamedTuple):
    """A command's flags, without their hyphens, and the rest."""

    flags: dict[str, str]
    rest: list[str]


def main(arguments: list[str]) -> int:
    """The exit status; every refusal is 1, with its reason on standard error."""
    try:
        if os.geteuid() == 0:
            raise Refused("must not run as the root user")
        common, words = _split(arguments, {"tty": 1, "log-format": 1, "log-level": 1, "y": 0}, until_word=True)
        if not words:
            raise Refused("no command")
        command = COMMANDS.get(words[0])
        if command is None:
            raise Refused(f'unknown command "{words[0]}" for "limactl"')
        run, takes, stops_at_word = command
        flags, rest = _split(words[1:], {"tty": 1, "y": 0, **takes}, until_word=stops_at_word)
        return run(Words({**common, **flags}, rest))
    except Refused as refused:
        _say(f'time="now" level=fatal msg="{refused}"')
        return 1


def _split(words: list[str], takes: dict[str, int], *, until_word: bool) -> tuple[dict[str, str], list[str]]:
    """Flags and the rest; `takes` says which have a value. An unknown one is refused."""
    flags: dict[str, str] = {}
    rest: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-") or word == "-":
            rest.append(word)
            if until_word:
                return flags, rest + left
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if name not in takes:
            raise Refused(f"unknown flag: {word}")
        if takes[name] and not equals and name != "tty":
            value = left.pop(0) if left else ""
        flags[name] = value
    return flags, rest


def _create(words: Words) -> int:
    name = words.flags.get("name", "")
    if words.rest == ["-"] and not name:
        raise Refused("must pass instance name with --name when reading template from stdin")
    if len(words.rest) != 1:
        raise Refused("create takes one template")
    if words.flags.get("tty") != "false" and "y" not in words.flags:
        raise Refused("the double has no terminal to ask on: pass --tty=false")
    text = sys.stdin.read() if words.rest == ["-"] else Path(words.rest[0]).read_text()
    Instance(name).create(text)
    return 0


def _start(words: Words) -> int:
    instance = _one(words)
    if instance.pid:
        _say(f'level=info msg="The instance {instance.name!r} is already running."')
        return 0
    guest.start(instance, _seconds(words.flags["timeout"]) if "timeout" in words.flags else START_SECONDS)
    return 0


def _stop(words: Words) -> int:
    instance = _one(words)
    force = "f" in words.flags or "force" in words.flags
    if not instance.pid and not force:
        raise Refused(f'expected status "Running", got {instance.status!r} (maybe use `limactl stop -f`?)')
    if instance.pid:
        guest.stop(instance, force=force)
    return 0


def _delete(words: Words) -> int:
    force = "f" in words.flags or "force" in words.flags
    for name in words.rest:
        instance = Instance(name)
        if not instance.exists:
            _say(f'level=warning msg="Ignoring non-existent instance {name!r}"')
            continue
        if instance.is_protected:
            raise Refused(f"instance {name!r} is protected to prohibit accidental removal")
        if instance.pid and not force:
            raise Refused(f'expected status "Stopped", got "Running" for {name!r}')
        if instance.pid:
            guest.stop(instance, force=True)
        instance.remove()
    return 0


def _shell(words: Words) -> int:
    name, *command = words.rest or [""]
    instance = _one(Words(words.flags, [name]))
    if not instance.pid:
        raise Refused(f"instance {name!r} is stopped, run `limactl start {name}` to start the instance")
    return guest.shell(instance, words.flags.get("workdir", "/"), command)


def _list(words: Words) -> int:
    if "list-fields" in words.flags:
        sys.stdout.write("\n".join(FIELDS) + "\n")
        return 0
    found = known()
    if not found and not words.rest:
        _say('level=warning msg="No instance found. Run `limactl create` to create an instance."')
    if words.rest:
        found = [instance for instance in found if instance.name in words.rest]
    for instance in found:
        line = instance.as_json() if "json" in words.flags else f"{instance.name} {instance.status}"
        sys.stdout.write(line + "\n")
    if missing := set(words.rest) - {instance.name for instance in found}:
        _say(f'level=warning msg="No instance matching {", ".join(sorted(missing))} found."')
        raise Refused("unmatched instances")
    return 0


def _protect(words: Words) -> int:
    (_one(words).directory / "protected").touch()
    return 0


def _unprotect(words: Words) -> int:
    (_one(words).directory / "protected").unlink(missing_ok=True)
    return 0


def _validate(words: Words) -> int:
    for path in words.rest:
        check(parse(Path(path).read_text()))
    return 0


def _one(words: Words) -> Instance:
    if len(words.rest) != 1:
        raise Refused(f"accepts 1 arg, received {len(words.rest)}")
    check_name(words.rest[0])
    instance = Instance(words.rest[0])
    if not instance.exists:
        raise Refused(f"instance {instance.name!r} does not exist, run `limactl create {instance.name}` to create it")
    return instance


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9.]+)([smh])", text)
    if not found:
        raise Refused(f'invalid argument "{text}" for "--timeout" flag')
    return float(found[1]) * UNITS[found[2]]


Command = tuple[Callable[[Words], int], dict[str, int], bool]
COMMANDS: dict[str, Command] = {
    "create": (_create, {"name": 1}, False),
    "start": (_start, {"timeout": 1}, False),
    "stop": (_stop, {"f": 0, "force": 0}, False),
    "delete": (_delete, {"f": 0, "force": 0}, False),
    "shell": (_shell, {"workdir": 1}, True),
    "list": (_list, {"json": 0, "list-fields": 0}, False),
    "protect": (_protect, {}, False),
    "unprotect": (_unprotect, {}, False),
    "validate": (_validate, {}, False),
}

if __name__ == "__main__":
    home()
    sys.exit(main(sys.argv[1:]))
