"""The libp2p host, gossip, sync, rpc, the tunnel stream, peers and directory. The only room that knows libp2p."""
