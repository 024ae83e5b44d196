"""The one way to an LLM: who is asked, within what time, at what cost, and what is believed of the answer."""

from serving.gateway.gateway import Gateway
from serving.gateway.ports import Answer, Ask, Provider

__all__ = ["Answer", "Ask", "Gateway", "Provider"]
