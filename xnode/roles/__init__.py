"""What a node does about what the ledger says: replica, author, timekeeper, provider, consumer."""
