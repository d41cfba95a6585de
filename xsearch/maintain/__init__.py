"""Looking after an index: verify, repair, migrate to another encoder."""
