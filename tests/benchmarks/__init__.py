"""What agentkit costs beside a plain loop over httpx: `python -m tests.benchmarks` prints the table."""
