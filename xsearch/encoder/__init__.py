"""Encoders: text to unit vectors, in one space for all languages."""
