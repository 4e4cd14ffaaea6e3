"""HTTP: transports, connections, proxies, and reading the bytes of a reply."""
