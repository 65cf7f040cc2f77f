"""Messages of a chat, as a list, as the JSON of one, or as a text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.messages import link_tool_calls, to_messages
from shared.errors import InvalidFieldError

A = {"role": "user", "content": "a"}
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text()}), min_size=1
)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ([A], "array"), (A, "array"), ('[{"role":"user","content":"a"}]', "json"),
        ('  {"role":"user","content":"a"} ', "json"), ('\ufeff[{"role":"user","content":"a"}]', "json"),
        ('{"role":"tool","role":"user","content":"a"}', "json"),
    ],
)  # fmt: skip
def test_messages_are_found(value: Any, form: str) -> None:
    assert to_messages(value) == ([A], form)


@pytest.mark.parametrize(
    "text",
    [
        "Hello!", "[1] is my footnote", '[{"content":"a"}]', "[]", "[1,2]", '{"a":1}', '"quoted"', "42", "null", "true",
        "[{", '{"role": 5}', '[{"role":"user"}, 1]', "[" * 65 + "]" * 65, ' "[{\\"role\\":\\"user\\"}]"',
        '{"role":"user","content":' + "[" * 64 + "]" * 64 + "}", "\x00",
    ],
)  # fmt: skip
def test_any_other_text_is_one_message_of_the_user(text: str) -> None:
    assert to_messages(text) == ([{"role": "user", "content": text}], "text")


@pytest.mark.parametrize("value", ["", " \n\t", "\ufeff", [], {}, {"content": "a"}, 1, None, True])
def test_nothing_else_is_a_conversation(value: Any) -> None:
    with pytest.raises(InvalidFieldError):
        to_messages(value)


@given(MESSAGES)
def test_the_json_of_messages_is_those_messages(messages: list[Any]) -> None:
    assert to_messages(json.dumps(messages))[0] == to_messages(messages)[0]


@given(st.text(min_size=1).filter(lambda text: text.strip("\ufeff \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0") != ""))
def test_a_text_that_opens_no_json_stays_as_it_is(text: str) -> None:
    if text.removeprefix("\ufeff").strip()[:1] not in ("[", "{", ""):
        assert to_messages(text)[0] == [{"role": "user", "content": text}]


def test_answers_of_tools_are_linked_to_their_calls() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "1"},
    ]

    assert link_tool_calls(messages)
    assert messages[0]["tool_calls"][0]["id"].startswith("call_")
    assert messages[1]["tool_call_id"] == messages[0]["tool_calls"][0]["id"]
    assert not link_tool_calls(messages)


@pytest.mark.parametrize(
    ("calls", "answer"),
    [
        ([], {"tool_call_id": "x"}),
        ([{"id": "a"}, {"id": "b"}], {}),
        ([], {}),
        ([{"id": "a"}], {"tool_call_id": "b"}),
        ([{"id": "a"}], {"tool_call_id": []}),
        ([{"id": ["a"]}], {}),
        (["a"], {}),
    ],
)
def test_an_answer_to_no_call_is_refused(calls: list[Any], answer: dict[str, Any]) -> None:
    with pytest.raises(InvalidFieldError):
        link_tool_calls([{"role": "assistant", "tool_calls": calls}, {"role": "tool", "content": "1", **answer}])
