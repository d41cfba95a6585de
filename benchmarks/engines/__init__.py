"""The engines of ``store.py``, a file a kind; each imports its library where it uses it."""
