"""What a model can call: the decorator, tools and registries, what a running tool is told, and how long it may take."""
