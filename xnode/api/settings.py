"""What the operator decides about the HTTP API, and the room's constants."""

from typing import Final, NamedTuple

CONNECTIONS_MAX: Final = 1000  # open HTTP connections; one more is told 503 and closed
CONNECTIONS_PER_CLIENT_MAX: Final = 250  # of them from one client address; loopback may have them all
CALLS_MAX: Final = 1000  # calls into the node that may be under way at once
HEAD_BYTES_MAX: Final = 64 * 1024  # a request's line and headers, trailers too
MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024  # a request on the wire, chunk sizes included
EARLY_BYTES_MAX: Final = 256 * 1024  # kept for a tunnel that is not open yet; then the client's TCP window closes
IDLE_SECONDS: Final = 30.0  # within which a connection must bring a whole request head
BODY_SECONDS: Final = 30.0  # within which a request's body must be here
ADDRESSES_MAX: Final = 10_000  # client addresses whose request rate is remembered
LIST_DEFAULT: Final = 100
LIST_MAX: Final = 1000


class ApiSettings(NamedTuple):
    """`bind` is an IP address or "localhost", `port` 0 lets the system choose; `grace` in whole seconds.

    `token` is the operator's secret, or None where none was made. `hosts` are names besides localhost and IP addresses
    by which this node may be called; `cors_origins` are the web pages' origins that may use it.
    """

    bind: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    cors_origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    body_bytes_max: int = 1024 * 1024
    grace: int = 5
    rate: float = 100.0  # requests a second for one client address
    burst: float = 500.0  # saved up at most
    followers_max: int = 100  # event streams at once
    followers_per_client_max: int = 20  # of them for one client address; loopback may have them all
    console_followers_max: int = 16
    console_followers_per_client_max: int = 8
    tunnels_max: int = 1000  # through this API, to whichever provider
    tunnels_per_client_max: int = 64

    def __repr__(self) -> str:
        """Never shows the token."""
        return f"ApiSettings(bind={self.bind!r}, port={self.port}, token={'set' if self.token else 'none'})"
