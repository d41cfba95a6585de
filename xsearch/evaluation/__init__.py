"""Evaluation: tasks, metrics and what they say, always by language pair."""
