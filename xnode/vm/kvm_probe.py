"""Measures what KVM can do: `python -m xnode.vm.kvm_probe` prints guest instructions a second, or exits with 1.

/dev/kvm exists on hosts where it interprets the guest at a millionth of a processor's speed, so its presence proves
nothing. The probe runs a counting loop in real mode for at most two seconds. It may hang in the kernel: run it in a
child with a timeout. Numbers and layouts: the kernel's Documentation/virt/kvm/api.rst, x86-64.
"""

import ctypes
import fcntl
import mmap
import os
import signal
import struct
import sys
import time
from typing import Final

_GET_API_VERSION: Final = 0xAE00
_CREATE_VM: Final = 0xAE01
_GET_VCPU_MMAP_SIZE: Final = 0xAE04
_CREATE_VCPU: Final = 0xAE41
_RUN: Final = 0xAE80
_SET_USER_MEMORY_REGION: Final = 0x4020AE46
_GET_REGS: Final = 0x8090AE81
_SET_REGS: Final = 0x4090AE82
_GET_SREGS: Final = 0x8138AE83
_SET_SREGS: Final = 0x4138AE84
_CODE_ADDRESS: Final = 0x1000
_REGISTERS: Final = 18  # rax rbx rcx rdx rsi rdi rsp rbp r8-r15 rip rflags
_TURNS: Final = 20_000_000
_LIMIT_SECONDS: Final = 2.0


def measure() -> float:
    """Guest instructions a second; raises OSError where KVM can't be used at all."""
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    if fcntl.ioctl(kvm, _GET_API_VERSION) != 12:
        raise OSError("another KVM interface")
    machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
    memory = _load_code(machine)
    vcpu = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    shared = mmap.mmap(vcpu, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE), mmap.MAP_SHARED)
    _set_registers(vcpu)
    seconds = _run(vcpu)
    left = struct.unpack_from("<Q", fcntl.ioctl(vcpu, _GET_REGS, bytes(8 * _REGISTERS)), 16)[0] & 0xFFFFFFFF
    del memory, shared  # the guest used them until here
    return float((_TURNS - left) * 2 / seconds)


def _load_code(machine: int) -> mmap.mmap:
    memory = mmap.mmap(-1, 4096)
    code = b"\x66\xb9" + struct.pack("<I", _TURNS) + b"\x66\x49\x75\xfc\xf4"  # mov ecx, turns; dec ecx; jnz; hlt
    memory[: len(code)] = code
    host_address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    region = struct.pack("<IIQQQ", 0, 0, _CODE_ADDRESS, 4096, host_address)
    fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, region)
    return memory


def _set_registers(vcpu: int) -> None:
    special = bytearray(312)
    fcntl.ioctl(vcpu, _GET_SREGS, special)
    struct.pack_into("<QIH", special, 0, 0, 0xFFFF, 0)  # the code segment starts at 0
    fcntl.ioctl(vcpu, _SET_SREGS, bytes(special))
    registers = [0] * _REGISTERS
    registers[16], registers[17] = _CODE_ADDRESS, 2
    fcntl.ioctl(vcpu, _SET_REGS, struct.pack(f"<{_REGISTERS}Q", *registers))


def _run(vcpu: int) -> float:
    """Runs until the loop's end or the alarm, which interrupts the call; returns seconds."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, _LIMIT_SECONDS)
    started = time.perf_counter()
    ctypes.CDLL(None, use_errno=True).ioctl(vcpu, _RUN, 0)
    seconds = time.perf_counter() - started
    signal.setitimer(signal.ITIMER_REAL, 0)
    return seconds


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{measure():.0f}\n")
    except OSError as error:
        sys.exit(f"KVM can't be used: {error}")
