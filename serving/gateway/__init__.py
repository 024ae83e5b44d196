"""The one way to an LLM: who is asked, within what time, at what cost, and what is believed of the answer."""

from serving.gateway.gateway import Answer, Gateway, Prices, Provider

__all__ = ["Answer", "Gateway", "Prices", "Provider"]
