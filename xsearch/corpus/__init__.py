"""Readers: files, folders, tables and datasets become documents."""
