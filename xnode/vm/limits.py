"""Every maximum and every patience of this room, with its unit (spec: machines)."""

from typing import Final

BOOT_TIMEOUT_SECONDS: Final = 120.0  # from spawn to the first login; a tiny guest needs 3.5 to 6 s under emulation
LOGIN_TIMEOUT_SECONDS: Final = 40.0  # from the console's marker to the first login
LOGIN_ATTEMPT_SECONDS: Final = 15.0  # one attempt; emulated guests take up to 2 s for the key exchange
DIAL_SECONDS: Final = 5.0  # to a port on loopback
LOGIN_PAUSE_SECONDS: Final = 0.1  # between attempts: hammering an SSH server gets one throttled
CONSOLE_POLL_SECONDS: Final = 0.02
STATUS_POLL_SECONDS: Final = 1.0  # how often a booting machine's QEMU is asked whether it still runs
POWER_OFF_SECONDS: Final = 20.0  # after the power button; a stock systemd guest needs 2.5 s
QUIT_SECONDS: Final = 5.0  # after QMP `quit`, and again after SIGKILL
PROCESS_POLL_SECONDS: Final = 0.05
QMP_SECONDS: Final = 5.0  # one short conversation with QEMU's monitor
QMP_READY_SECONDS: Final = 15.0  # from spawn until QEMU has opened its monitor socket

MACHINES_MAX: Final = 32
DISK_RESERVE_BYTES: Final = 2 << 30  # host disk that no machine's promised size may eat
MEMORY_RESERVE_MB: Final = 512  # host memory likewise
OVERHEAD_MB: Final = 288  # of QEMU itself, beyond the guest's memory: what its cgroup allows
TRANSLATIONS_MB: Final = 96  # of them for emulated code; QEMU's own default grows to 1024
CPU_PERIOD_US: Final = 100_000
CPU_EXTRA_MILLI: Final = 250  # thousandths of a CPU, for QEMU's own work beside the virtual CPUs
RESUME_FREE_BYTES: Final = 64 << 20  # free disk at which a machine that stopped for want of it goes on
DISK_GB_MIN: Final = 1
CONSOLE_BYTES_MAX: Final = 1 << 20  # above this the console file is emptied at the next look
CONSOLE_TAIL_BYTES: Final = 4096
CONSOLE_TAIL_LINES: Final = 12
CONSOLE_PART_BYTES_MAX: Final = 64 << 10
CONSOLE_PATIENCE_SECONDS_MAX: Final = 60.0
CONSOLE_FOLLOW_SECONDS: Final = 0.2  # between looks for more
FIGURES_SECONDS: Final = 8.0  # how long the guest has to tell its own
ARRIVAL_SECONDS: Final = 20.0  # until a spare's guest has taken the lease's name and key
RECORD_BYTES_MAX: Final = 64 << 10

LIMACTL_SECONDS: Final = 60.0  # one command that waits for nothing
LIMA_FETCH_SECONDS: Final = 900.0  # Lima may have to fetch the image, once for all machines
LIMA_SEED_SECONDS: Final = 60.0  # to give a guest its keys
LIMA_MEMORY_MB_MIN: Final = 512  # what a cloud image needs
LIMA_DISK_GB_MIN: Final = 4  # the image itself must fit
LIMA_CONSOLE_BYTES_MAX: Final = 64 << 20  # Lima's QEMU does not append, so what is emptied keeps its length

COMMAND_BYTES_MAX: Final = 64 << 10  # Linux takes at most 128 KiB in one argument
COMMAND_SECONDS_MAX: Final = 3600.0
COMMANDS_AT_ONCE_MAX: Final = 8  # a machine
COMMAND_GRACE_SECONDS: Final = 5.0  # the guest's own timer gets this much longer before its provider gives up
STREAM_LINGER_SECONDS: Final = 1.0  # a command has ended, but something that it started still holds its output
OUTPUT_BYTES_MAX: Final = 1 << 20  # a stream

INTERNET_CONNECTIONS_MAX: Final = 1_024  # of one machine, at once: each takes a place in the host's table of them
INTERNET_NEW_PER_SECOND_MAX: Final = 100  # connections that a machine may begin, once the burst is used up
INTERNET_NEW_BURST: Final = 500
INTERNET_TOOL_SECONDS: Final = 10.0  # one call of ip, nft or tc: 5 to 20 ms
INTERNET_UPKEEP_SECONDS: Final = 30  # how often the host's rules are written anew
INTERNET_ANSWER_SECONDS: Final = 3.0  # for the resolver to answer `xnode doctor`

PROBE_SECONDS: Final = 10.0  # the KVM probe, its interpreter's start included
KVM_INSTRUCTIONS_PER_SECOND_MIN: Final = 50_000_000
