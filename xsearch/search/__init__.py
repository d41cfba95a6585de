"""Search: a query becomes ranked hits."""
