from agentkit_pytest import deepseek

__all__ = ["deepseek"]
