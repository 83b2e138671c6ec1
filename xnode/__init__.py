"""xnode: a peer-to-peer node for leasing real virtual machines, paid on a block lattice."""

__version__ = "0.1.0"
