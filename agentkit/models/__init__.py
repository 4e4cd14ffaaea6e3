"""Models: the chat-completions client with its wire format and profiles, and the scripted double."""
