"""Files that are whole after a crash or not there at all. All of it blocks: call it in a worker thread."""

import os
import shutil
from pathlib import Path


def write_file(path: Path, data: bytes, permissions: int = 0o600) -> None:
    """Replaces a file atomically and durably: temporary file, fsync, rename, fsync of the directory."""
    temporary = path.with_name(path.name + ".tmp")
    create_file(temporary, data, permissions)
    os.replace(temporary, path)
    sync_directory(path.parent)


def create_file(path: Path, data: bytes, permissions: int = 0o600) -> None:
    """Writes and syncs a file under a name that nobody reads yet; never follows a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, permissions), "wb") as file:
        os.fchmod(file.fileno(), permissions)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Removes a directory durably; one that is not there is success. Links inside are not followed."""
    if path.exists():
        shutil.rmtree(path)
        sync_directory(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """The same bytes under another name, without their cost where the file system can share them."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
