"""Opens the machine driver that the settings name. A provider that can't boot anything does not start."""

import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from xnode.config import Config, DataDir
from xnode.core.faults import OperatorFault
from xnode.core.market import GuestImage
from xnode.vm.image_store import StoreOffer
from xnode.vm.images import open_image
from xnode.vm.internet_rules import InternetTerms, parse_terms
from xnode.vm.lima import LimaDriver
from xnode.vm.lima_settings import LimaSettings
from xnode.vm.limits import LIMA_DISK_GB_MIN, LIMA_MEMORY_MB_MIN
from xnode.vm.machine_users import UserRange
from xnode.vm.qemu import QemuDriver
from xnode.vm.qemu_settings import QemuSettings


@asynccontextmanager
async def open_driver(data_dir: DataDir, config: Config) -> AsyncIterator[QemuDriver | LimaDriver]:
    """The driver until the block is left; machines run on after that. Raises OperatorFault that says what to do."""
    if config.machine_driver == LimaDriver.name:
        async with LimaDriver.open(lima_settings(data_dir, config), time.time_ns, secrets.token_bytes) as lima:
            yield lima
    else:
        settings = qemu_settings(data_dir, config)
        _check_default(settings.image_store, settings.default_image)
        async with QemuDriver.open(settings, time.time_ns, secrets.token_bytes) as qemu:
            yield qemu


def _check_default(store: Path, name: str) -> None:
    """Raises OperatorFault(image_missing) that names those which are there instead."""
    try:
        open_image(store, name)
    except OperatorFault as fault:
        there = ", ".join(image.name for image in StoreOffer(store, name).images())
        if not there or fault.code != "image_missing":
            raise
        hint = f"{fault}, or set machine_image in config.toml to one that is there ({there})"
        raise OperatorFault(fault.code, hint) from fault


def offered_images(data_dir: DataDir, config: Config) -> Callable[[], tuple[GuestImage, ...]]:
    """What leases may name: the image store's, or Lima's one image under the name of the default."""
    if config.machine_driver == LimaDriver.name:
        only = GuestImage(config.machine_image, LIMA_MEMORY_MB_MIN, LIMA_DISK_GB_MIN)
        return lambda: (only,)
    return StoreOffer(data_dir.image_store(config), config.machine_image, config.machine_images).images


def qemu_settings(data_dir: DataDir, config: Config) -> QemuSettings:
    """What the settings say of QEMU."""
    return QemuSettings(
        root=data_dir.machines,
        image_store=data_dir.image_store(config),
        default_image=config.machine_image,
        accelerator=_accelerator(config),
        boot_timeout=float(config.machine_boot_timeout_s),
        max_machines=config.machines_max,
        users=UserRange(config.machine_uid_first, config.machine_uid_count if os.geteuid() == 0 else 0),
        disk_reserve_bytes=config.machine_disk_reserve_gb << 30,
        memory_reserve_mb=config.machine_memory_reserve_mb,
        internet=internet_terms(config),
    )


def internet_terms(config: Config) -> InternetTerms | None:
    """What the operator opens, None for nothing; raises OperatorFault(bad_config)."""
    if config.internet == "none":
        return None
    return parse_terms(
        config.internet_resolver, config.internet_closed, config.internet_links,
        opens_smtp=config.internet_smtp, mbit=config.internet_mbit,
    )  # fmt: skip


def lima_settings(data_dir: DataDir, config: Config) -> LimaSettings:
    """What the settings say of Lima; raises OperatorFault(lima_isolates_less) unless the operator has agreed."""
    if not config.lima_weaker_isolation:
        message = (
            "guests under Lima reach what listens on this host's loopback, and the internet: set"
            ' lima_weaker_isolation = true if that is acceptable, or machine_driver = "qemu"'
        )
        raise OperatorFault("lima_isolates_less", message)
    if config.internet != "none":
        message = (
            "guests under Lima reach the internet by Lima's own means, and what else they reach can't be closed:"
            ' set machine_driver = "qemu", or take internet = "open" out of the settings'
        )
        raise OperatorFault("internet_not_by_lima", message)
    return LimaSettings(
        root=data_dir.lima / "machines",
        home=Path(config.lima_home) if config.lima_home else data_dir.lima / "home",
        image=config.lima_image,
        image_digest=config.lima_image_digest,
        image_name=config.machine_image,
        limactl=config.lima_limactl or os.environ.get("LIMACTL", ""),
        user=config.lima_user,
        accelerator=_accelerator(config),
        boot_timeout=float(config.machine_boot_timeout_s),
        max_machines=config.machines_max,
        disk_reserve_bytes=config.machine_disk_reserve_gb << 30,
        memory_reserve_mb=config.machine_memory_reserve_mb,
    )


def _accelerator(config: Config) -> str:
    return "" if config.machine_accelerator == "auto" else config.machine_accelerator
