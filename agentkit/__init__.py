"""agentkit: agents built on function calling."""
