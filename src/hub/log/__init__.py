"""The only truth: positions without a gap, immutable, sealed, and proving itself."""
