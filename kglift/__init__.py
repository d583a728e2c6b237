"""kglift: see README.md."""
