"""xsearch: find passages in any language for a query in any language."""
