"""One run: its state, the decisions and steps, its journal, its ledger, and its result."""
