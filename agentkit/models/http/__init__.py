"""HTTP: connections, proxies, and the bytes of a reply as they come."""
