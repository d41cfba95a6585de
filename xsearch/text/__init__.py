"""Text: its language, its normal form, and the passages it is cut into."""
