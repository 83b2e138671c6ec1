"""The checks of many blocks that need no ledger: form, work, signature; on all cores, off the event loop."""
