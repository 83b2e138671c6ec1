"""One node's process: started in a session of its own, found again by number and time of birth, ended with patience."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil

from xnode.config import DataDir

STOP_TIMEOUT_S: Final = 10.0  # from SIGTERM to SIGKILL
KILL_TIMEOUT_S: Final = 5.0
LOG_TAIL_LINES: Final = 20
LOG_TAIL_BYTES: Final = 65_536
PROCESS_FILE: Final = "process.json"


class NodeProcess:
    """The process of one data directory, whoever started it."""

    def __init__(self, data_dir: DataDir) -> None:
        self.data_dir = data_dir
        self._file = data_dir.root / PROCESS_FILE
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the node; its output goes to the end of node.log. Does nothing where it runs."""
        if self.pid() is not None:
            return
        self.data_dir.run.unlink(missing_ok=True)  # that of a killed run: whoever waits must not read it
        command = [sys.executable, "-m", "xnode_cmd.main", "run", "--data-dir", str(self.data_dir.root)]
        with self.data_dir.log.open("ab") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.data_dir.root,
            )
        born = psutil.Process(self._child.pid).create_time()
        self._file.write_text(json.dumps({"pid": self._child.pid, "born": born}) + "\n")

    def pid(self) -> int | None:
        """The number of the running process, or None."""
        pid = self._living()
        if pid is None and self._child is not None:
            self._child.poll()  # our own dead child would else stay a zombie
        return pid

    def _living(self) -> int | None:
        try:
            record = json.loads(self._file.read_text())
            process = psutil.Process(int(record["pid"]))
            alive = process.create_time() == record["born"] and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return None
        return process.pid if alive else None

    def send(self, number: signal.Signals) -> None:
        """Signals the process where it runs."""
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended by itself
                psutil.Process(pid).send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Whether it is gone within `seconds`; our own child is reaped then."""
        with contextlib.suppress(subprocess.TimeoutExpired, psutil.TimeoutExpired, psutil.NoSuchProcess):
            if self._child is not None:
                self._child.wait(seconds)
            pid = self.pid()  # it may be another that somebody else has started since
            if pid is not None:
                psutil.Process(pid).wait(seconds)
        return self.pid() is None

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.send(signal.SIGKILL)
        self.wait(KILL_TIMEOUT_S)

    def log_tail(self) -> str:
        """The last lines of its log."""
        return tail(self.data_dir.log)


def tail(path: Path) -> str:
    """The last lines of a file that may be long, or a word on why there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return f"({path}: {error.strerror})"
    return "\n".join(lines[-LOG_TAIL_LINES:]) or "(nothing)"


def end_machines(data_dir: DataDir) -> int:
    """Kills the virtual machines that a provider left running, and says how many."""
    ours = running_machines(data_dir)
    for process in ours:
        try:
            process.kill()
            process.wait(KILL_TIMEOUT_S)
        except psutil.Error:
            continue  # gone by itself
    return len(ours)


def running_machines(data_dir: DataDir) -> list[psutil.Process]:
    """The QEMU processes that work in this provider's folder of machines, also where the folder is gone."""
    return [process for process in psutil.process_iter() if _is_machine_of(process, data_dir.machines)]


def _is_machine_of(process: psutil.Process, machines: Path) -> bool:
    try:
        words = process.cmdline()
        # The command line holds relative names only (vm/qemu_command), so the working directory tells.
        return bool(words) and "qemu" in Path(words[0]).name and machines.resolve() in Path(process.cwd()).parents
    except psutil.Error:
        return False
