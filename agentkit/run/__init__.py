"""One run: its state, what is decided and done next, its journal, its ledger, and what it comes to."""
