"""Inflection's older inference, translated in both directions by examples."""

import json
from typing import Any

import msgspec
import pytest

from shared.chat.schemas import AssistantMessage, ToolCall, ToolCallFunction
from shared.errors import UnprocessableEntityError
from shared.facades.inflection.inference import last_question, to_chat, to_reply, to_tool_calls
from shared.facades.inflection.schemas import TURN_TYPES, InferenceRequest
from tests.inflection import description, hold_against

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TURNS = {
    "Human": {"role": "user", "content": "x"},
    "Question": {"role": "user", "content": "x"},
    "AI": {"role": "assistant", "content": "x"},
    "Answer": {"role": "assistant", "content": "x"},
    "Instruction": {"role": "system", "content": "x"},
    "System": {"role": "system", "content": "x"},
    "Role": {"role": "system", "content": "Role: x"},
    "Metadata": {"role": "system", "content": "Metadata: x"},
    "Retrieval": {"role": "system", "content": "Retrieved information:\nx"},
    "LinkedWebpages": {"role": "system", "content": "Linked web pages:\nx"},
    "AI (internally)": {"role": "system", "content": "Earlier note of the assistant, not shown to the user:\nx"},
    "Options": {"role": "user", "content": "Options:\nx"},
    "Tool": {"role": "tool", "content": "x", "tool_call_id": "c"},
}


def read(**members: Any) -> InferenceRequest:
    """Return a request as the route reads it."""
    body: InferenceRequest = msgspec.convert({"context": [{"type": "Human", "text": "x"}]} | members, InferenceRequest)
    hold_against("ExternalChatBody", {"context": [{"type": "Human", "text": "x"}]} | members)
    body.check()
    return body


@pytest.mark.parametrize("kind", TURN_TYPES)
def test_every_type_of_turn_is_a_message(kind: str) -> None:
    turn = {"type": kind, "text": "x", "ts": "2026-01-01T00:00:00Z", "tool_call_id": "c"}

    assert to_chat(read(context=[turn])) == {"messages": [TURNS[kind]]}


def test_the_types_are_those_of_the_description() -> None:
    assert set(TURN_TYPES) == set(description()["components"]["schemas"]["TurnType"]["enum"]) == set(TURNS)


@pytest.mark.parametrize(
    ("members", "chat"),
    [
        ({"config": "Pi-3.1"}, {"model": "Pi-3.1"}), ({"config": "placeholder"}, {}), ({"config": ""}, {}),
        ({"temperature": 0.5, "top_p": 0.25, "max_tokens": 3}, {"temperature": 0.5, "top_p": 0.25, "max_tokens": 3}),
        ({"stop_tokens": ["a"]}, {"stop": ["a"]}), ({"stop_tokens": []}, {}), ({"tools": []}, {}),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]},
         {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
        ({"server_target": "a", "web_search": False, "temperature": None, "unknown": 1}, {}),
    ],
)  # fmt: skip
def test_members_are_translated(members: dict[str, Any], chat: dict[str, Any]) -> None:
    assert to_chat(read(**members)) == {"messages": [TURNS["Human"]]} | chat


@pytest.mark.parametrize(("texts", "schema"), [([{"a": 1}], {"a": 1}), ([{}, {"a": 1}], {"anyOf": [{}, {"a": 1}]})])
def test_schemas_are_a_response_format(texts: list[Any], schema: Any) -> None:
    chat = json.loads(msgspec.json.encode(to_chat(read(schemas=[json.dumps(text) for text in texts]))))

    assert chat["response_format"] == {"type": "json_schema", "json_schema": {"name": "schema", "schema": schema}}


def test_what_is_known_of_the_user_comes_first_and_in_order() -> None:
    person = {"user_city": "Lyon", "user_firstname": "Ada", "user_timezone": "Europe/Paris", "user_country": None}

    chat = to_chat(read(metadata=person))

    about = {"role": "system", "content": "User: timezone=Europe/Paris; first name=Ada; city=Lyon"}
    assert chat["messages"] == [about, TURNS["Human"]]
    assert to_chat(read(metadata={}))["messages"] == [TURNS["Human"]]


def test_what_was_found_stands_before_the_last_question() -> None:
    turns = [{"type": kind, "text": "x"} for kind in ("Human", "AI", "Question", "AI")]

    messages = to_chat(read(context=turns), "found")["messages"]

    found = {"role": "system", "content": "Retrieved information:\nfound"}
    assert messages == [TURNS["Human"], TURNS["AI"], found, TURNS["Question"], TURNS["AI"]]
    assert last_question(read(context=turns)) == "x"
    assert last_question(read(context=[{"type": "AI", "text": "x"}])) is None


def test_calls_of_tools_travel_with_their_turn() -> None:
    turn = {"type": "AI", "text": "", "tool_calls": [CALL]}

    assert to_chat(read(context=[turn]))["messages"] == [{"role": "assistant", "content": "", "tool_calls": [CALL]}]


@pytest.mark.parametrize(
    ("members", "place", "kind"),
    [
        ({"context": [{"type": "Tool", "text": "x"}]}, ["context", 0, "tool_call_id"], "missing"),
        ({"context": [{"type": "Alien", "text": "x"}]}, ["context", 0, "type"], "enum"),
        ({"schemas": ["{"]}, ["schemas", 0], "value_error"), ({"schemas": ["[]"]}, ["schemas", 0], "value_error"),
        ({"schemas": ["{}"], "response_format": {"type": "text"}}, ["schemas"], "value_error"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_is_refused(members: dict[str, Any], place: list[Any], kind: str) -> None:
    body = msgspec.convert({"context": [{"type": "Human", "text": "x"}]} | members, InferenceRequest)

    with pytest.raises(UnprocessableEntityError) as caught:
        body.check()

    issue = caught.value.detail()[0]
    assert (issue.loc, issue.type) == (["body", *place], kind)


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        (AssistantMessage(content="Hi"), {"text": "Hi", "tool_calls": None, "reasoning_content": None}),
        (AssistantMessage(content=None, reasoning="why"), {"text": "", "tool_calls": None, "reasoning_content": "why"}),
        (
            AssistantMessage(tool_calls=[ToolCall(id="c", function=ToolCallFunction(name="f", arguments="{}"))]),
            {"text": "", "tool_calls": [CALL], "reasoning_content": None},
        ),
    ],
)
def test_an_answer_is_a_reply(message: AssistantMessage, reply: dict[str, Any]) -> None:
    document = json.loads(msgspec.json.encode(to_reply(message, 1.5)))

    assert document == {"created": 1.5} | reply
    hold_against("ExternalChatResponse", document)


def test_a_call_without_an_id_gets_one() -> None:
    calls = to_tool_calls([{"id": None, "function": {"name": "f", "arguments": ""}}])

    assert calls is not None
    assert (calls[0].id[:5], calls[0].function.arguments) == ("call_", "{}")
