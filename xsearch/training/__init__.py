"""Training: parallel data and a base model to an encoder folder that the rest of the package loads."""
