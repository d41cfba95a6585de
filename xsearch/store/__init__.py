"""The store: what is on disk, and its one commit point."""
