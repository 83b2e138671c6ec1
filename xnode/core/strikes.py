"""How often a lease's machine has failed: what decides on another try, and on who pays (protocol section 12).

Theory of operation. A boot that fails is the host's fault or the guest's. Before acceptance that makes no difference:
the consumer goes elsewhere. After it the guest belongs to its consumer, who may have broken it, so only boots that
the host spoilt keep the provider from settling. A machine that boots and falls again is restarted, three times in a
row; one that has run steadily begins anew.

    event                                   failed   broken   restarts
    boot of an accepted lease begins        -        -        +1, the first of a row of tries only
    boot failed, the host's fault           +1       -        -
    boot failed, the guest's                -        +1       -
    boot succeeded                          0        0        -
    its consumer asks for a boot            -        0        0
    running for STEADY                      0        0        0
"""

from typing import Final, NamedTuple

from xnode.core.values import NS

BOOTS_MAX: Final = 3  # failed ones in a row of an accepted lease's machine
RESTARTS_MAX: Final = 3  # of a machine that boots and falls, before it has run steadily
STEADY: Final = 600 * NS  # ns of running after which earlier falls are forgotten
COUNT_MAX: Final = 255

# What a consumer with root in its guest can bring about.
GUEST_FAULTS: Final = frozenset(
    {"guest_panicked", "machine_exited", "boot_timeout", "ssh_unreachable", "wrong_host_key"}
)


class Strikes(NamedTuple):
    """Boots that failed in a row by the host's fault and by the guest's; restarts since it last ran steadily."""

    failed: int = 0
    broken: int = 0
    restarts: int = 0

    @property
    def boots(self) -> int:
        """All failed boots in a row."""
        return self.failed + self.broken

    @property
    def may_restart(self) -> bool:
        """Whether an accepted lease's machine is booted once more."""
        return self.boots < BOOTS_MAX and (self.boots > 0 or self.restarts < RESTARTS_MAX)

    @property
    def is_unpaid(self) -> bool:
        """Whether the host could not give what was leased."""
        return self.failed >= BOOTS_MAX


NONE: Final = Strikes()


def on_restart(strikes: Strikes) -> Strikes:
    """An accepted lease's machine is about to boot."""
    return strikes if strikes.boots else strikes._replace(restarts=_more(strikes.restarts))


def on_failed_boot(strikes: Strikes, code: str) -> Strikes:
    """A boot failed with this fault code."""
    if code in GUEST_FAULTS:
        return strikes._replace(broken=_more(strikes.broken))
    return strikes._replace(failed=_more(strikes.failed))


def on_boot(strikes: Strikes) -> Strikes:
    """A boot succeeded."""
    return strikes._replace(failed=0, broken=0)


def on_asked(strikes: Strikes) -> Strikes:
    """Its consumer tells it to start: what it did to its guest is forgotten, what the host spoilt is not."""
    return strikes._replace(broken=0, restarts=0)


def on_running(strikes: Strikes, since: int, now: int) -> Strikes:
    """It runs, since `since` (ns)."""
    return NONE if now - since >= STEADY else strikes


def describe(strikes: Strikes) -> str:
    """Why it is not booted again, for people."""
    if strikes.boots >= BOOTS_MAX:
        return f"{strikes.boots} boots have failed; it is not tried again"
    return f"it fell {strikes.restarts} times within {STEADY // NS} s; it is not started again"


def _more(count: int) -> int:
    return min(count + 1, COUNT_MAX)
