"""The image store as a whole: what is in it, putting an image there, taking one away.

Whoever puts or takes holds the store's lock alone; whoever makes a machine of an image holds it with others. A crash
leaves no image behind that is there by half: it gets its name last, and what is unfinished has a name of its own, which
the next addition clears away.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from xnode.core.faults import CallerFault, Fault, OperatorFault, WrongState
from xnode.core.market import GuestImage
from xnode.vm import images, machine_files, state
from xnode.vm.durable import remove_tree, sync_directory
from xnode.vm.images import Image

IMAGES_MAX: Final = 256  # in one store
_UNFINISHED: Final = ".adding-"
_GOING: Final = ".gone"


class Found(NamedTuple):
    """One directory of the store: the image, or what is wrong with its manifest; `kinds` are the links to it."""

    name: str
    kinds: tuple[str, ...]
    image: Image | None
    flaw: str = ""


@contextlib.contextmanager
def locked(store: Path, *, alone: bool) -> Iterator[None]:
    """The store's lock, by flock on its directory: it ends with the process, however that ends. Blocks."""
    descriptor = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def survey(store: Path) -> list[Found]:
    """All that is in the store, sorted by name; damaged ones too."""
    if not store.is_dir():
        return []
    paths = [path for path in sorted(store.iterdir()) if not path.name.startswith(".")]
    links: dict[str, list[str]] = {}
    for path in paths:
        if path.is_symlink():
            links.setdefault(path.resolve().name, []).append(path.name)
    directories = [path for path in paths if path.is_dir() and not path.is_symlink()][:IMAGES_MAX]
    return [_look(store, path.name, tuple(links.get(path.name, ()))) for path in directories]


def _look(store: Path, name: str, kinds: tuple[str, ...]) -> Found:
    try:
        return Found(name, kinds, images.open_image(store, name))
    except Fault as fault:
        return Found(name, kinds, None, str(fault))


class StoreOffer:
    """What a provider offers from its store: read again whenever something has come or gone there."""

    def __init__(self, store: Path, default: str, only: tuple[str, ...] = ()) -> None:
        self._store = store
        self._default = default
        self._only = {default, *only} if only else set()
        self._changed_at = -1
        self._images: tuple[GuestImage, ...] = ()

    def images(self) -> tuple[GuestImage, ...]:
        """Every kind that this host can boot, or those that the operator has named; the default one first."""
        changed_at = self._store.stat().st_mtime_ns if self._store.is_dir() else 0
        if changed_at != self._changed_at:
            self._changed_at = changed_at
            found = [item for item in _bootable(self._store) if not self._only or item.name in self._only]
            self._images = tuple(sorted(found, key=lambda item: (item.name != self._default, item.name)))
        return self._images


def _bootable(store: Path) -> Iterator[GuestImage]:
    for found in survey(store):
        if found.image is not None and found.image.architecture == images.host_architecture():
            for kind in found.kinds:
                yield GuestImage(kind, *found.image.least)


@contextlib.contextmanager
def unfinished(store: Path) -> Iterator[Path]:
    """A directory in the store to make an image in; removed at the end, or by the next addition after a crash."""
    store.mkdir(parents=True, exist_ok=True)
    with locked(store, alone=True):
        _sweep(store)
        work = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=store))
        mark = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(mark, fcntl.LOCK_EX)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(mark)


def _sweep(store: Path) -> None:
    """Removes what additions left that are no more: nobody holds its lock."""
    for path in (*store.glob(f"{_UNFINISHED}*"), *store.glob(f".*{_GOING}")):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(path)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


def install(store: Path, made: Path, name: str, kind: str) -> Image:
    """Gives a finished directory its name, durably, and lets its kind lead to it; one that is there and whole stays."""
    final = store / name
    for path in made.iterdir():
        path.chmod(0o644)
        _sync(path)
    made.chmod(0o755)
    sync_directory(made)
    with locked(store, alone=True):
        if not _is_whole(store, name):
            remove_tree(final)
            if len(survey(store)) >= IMAGES_MAX:
                raise OperatorFault("store_full", f"{store} holds {IMAGES_MAX} images: remove some")
            made.rename(final)
        point(store / kind, name)
        sync_directory(store)
    return images.open_image(store, name)


def _is_whole(store: Path, name: str) -> bool:
    try:
        images.verify(images.open_image(store, name))
    except Fault:
        return False
    return True


def point(link: Path, name: str) -> None:
    """Makes a kind's name lead to this image."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    os.replace(temporary, link)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(store: Path, name: str, machines: Path) -> str:
    """Takes an image away, damaged or not, with the links to it; its full name.

    Raises OperatorFault(image_missing), CallerFault(bad_image_name), WrongState(image_in_use).
    """
    directory = (store / images.check_name(name)).resolve()
    if directory.parent != store.resolve():
        raise CallerFault("bad_image_name", f"{name} leads out of the image store")
    if not directory.is_dir():
        raise OperatorFault("image_missing", f"there is no image {name!r} in {store}; xnode image list shows them")
    with locked(store, alone=True):
        if users := _users(machines, directory.name):
            message = f"image {directory.name} is used by {', '.join(users)}: wait until their leases have ended"
            raise WrongState("image_in_use", message)
        for link in [path for path in store.iterdir() if path.is_symlink() and path.resolve() == directory]:
            link.unlink()
        going = store / f".{directory.name}{_GOING}"
        directory.rename(going)
        sync_directory(store)
        remove_tree(going)
    return directory.name


def _users(machines: Path, name: str) -> list[str]:
    """The machines of an image; one whose record can't be read may be of any."""
    if not machines.is_dir():
        return []
    users = []
    for directory in machine_files.machine_directories(machines):
        try:
            record = state.load(directory)
        except Fault:
            users.append(f"{directory.name[:12]} (its record can't be read)")
            continue
        if record.image == name:
            users.append(record.machine("").name)
    return users


def verify_all(store: Path, names: tuple[str, ...], report: Callable[[str, str], None]) -> bool:
    """Holds every file of these images (of all, where none is named) against its manifest; False where one is damaged.

    `report` gets each image's name and what is wrong with it, "" for nothing.
    """
    sound = True
    for name in names or tuple(found.name for found in survey(store)):
        flaw = ""
        try:
            images.verify(images.open_image(store, name))
        except Fault as fault:
            flaw, sound = str(fault), False
        report(name, flaw)
    return sound
