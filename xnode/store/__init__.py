"""LevelDB: the key schema, one atomic batch a block, snapshots. The only room that knows plyvel."""
