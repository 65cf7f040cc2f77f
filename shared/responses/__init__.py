"""responses: OpenAI's Responses API.

schemas   what is asked and answered
items     input with ids, as it is stored; references to items of earlier responses
to_chat   request → chat request
from_chat pieces of a chat answer → events and items
events    the numbered events of a response's stream
objects   the response object, in any state
"""
