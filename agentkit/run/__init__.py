"""One run: its journal, and how each decision is carried out."""
