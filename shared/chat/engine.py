"""Parameters of chats that engines such as vLLM take beside OpenAI's, and what contradicts what.

Source: Inflection Inference API 1.0.0, `ChatCompletionRequest`; vLLM documentation, "Extra parameters".
"""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct, json
from msgspec.structs import astuple

from shared.errors import InvalidFieldError
from shared.jobs.schemas import JobMembers
from shared.unreadable import UNREADABLE

NaturalInt = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Text = Annotated[str, Meta(min_length=1)]
_GUIDED: Final = ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structural_tag")
_RESERVED_KWARGS: Final = frozenset({"chat_template", "tokenize"})


class LogitsProcessor(Struct, kw_only=True, forbid_unknown_fields=True):
    """A processor by its qualified name."""

    qualname: str
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None


class JobParameters(JobMembers, kw_only=True):
    """What a body says of its job; used here and not sent to providers."""

    priority: Annotated[int | None, Meta(description="Lower is earlier; 0 is the user's own priority.")] = None
    request_id: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]*$")] | None = None
    timeout_sec: Annotated[float, Meta(gt=0, description="Execution time of the job.")] | None = None


class EngineParameters(JobParameters, kw_only=True):
    """Extension parameters; `null` counts as absent."""

    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None
    use_beam_search: bool | None = None
    top_k: Annotated[float, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    length_penalty: float | None = None
    stop_token_ids: list[NaturalInt] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: NaturalInt | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    prompt_logprobs: Annotated[int, Meta(ge=-1, le=20)] | None = None
    allowed_token_ids: Annotated[list[NaturalInt], Meta(min_length=1)] | None = None
    bad_words: Annotated[list[Text], Meta(max_length=128)] | None = None
    echo: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = None
    documents: Annotated[list[dict[str, str]], Meta(max_length=100)] | None = None
    chat_template: Annotated[str, Meta(max_length=65_536)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: Text | None = None
    guided_choice: Annotated[list[str], Meta(min_length=1)] | None = None
    guided_grammar: Text | None = None
    structural_tag: Text | None = None
    guided_decoding_backend: str | None = None
    guided_whitespace_pattern: str | None = None
    guided_meta: dict[str, Any] | None = None
    logits_processors: list[str | LogitsProcessor] | None = None
    return_tokens_as_token_ids: bool | None = None
    cache_salt: Text | None = None
    kv_transfer_params: dict[str, Any] | None = None
    vllm_xargs: dict[str, str | int | float] | None = None


_OWN: Final = slice(len(JobMembers.__struct_fields__), len(EngineParameters.__struct_fields__))
"""Where the parameters are among the members of a chat: those of a parent come first."""
_NOTHING: Final = (None,) * len(EngineParameters.__struct_fields__[_OWN])


def has_engine_parameters(body: EngineParameters) -> bool:
    """Return whether any is given: most requests have none, and need none of the checks."""
    return astuple(body)[_OWN] != _NOTHING


def check_engine(body: Any) -> None:
    """Raise `InvalidFieldError` if extension parameters of a chat contradict one another, or the chat."""
    if body.best_of is not None and body.best_of < (body.n or 1):
        raise _invalid("best_of", "`best_of` must not be less than `n`")
    if body.use_beam_search and body.temperature:
        raise _invalid("use_beam_search", "`use_beam_search` needs `temperature` 0")
    limit = body.max_completion_tokens or body.max_tokens
    if body.min_tokens is not None and limit is not None and body.min_tokens > limit:
        raise _invalid("min_tokens", "`min_tokens` must not be more than `max_tokens`")
    if body.prompt_logprobs is not None and body.stream:
        raise _invalid("prompt_logprobs", "`prompt_logprobs` cannot be streamed")
    if body.return_tokens_as_token_ids and not body.logprobs:
        raise _invalid("return_tokens_as_token_ids", "`return_tokens_as_token_ids` needs `logprobs: true`")
    if _RESERVED_KWARGS & (body.chat_template_kwargs or {}).keys():
        raise _invalid("chat_template_kwargs", "`chat_template` and `tokenize` are not allowed in it")
    if body.guided_choice is not None and len(set(body.guided_choice)) < len(body.guided_choice):
        raise _invalid("guided_choice", "The choices must differ")
    _check_continued(body)
    _check_guided(body)


def _check_continued(body: Any) -> None:
    if body.continue_final_message:
        if body.add_generation_prompt is not False:
            message = "`continue_final_message` needs `add_generation_prompt: false`"
            raise _invalid("continue_final_message", message)
        if body.messages[-1].role != "assistant":
            raise _invalid("continue_final_message", "The last message must be from `assistant`")


def _check_guided(body: Any) -> None:
    given = [name for name in _GUIDED if getattr(body, name) is not None]
    if len(given) > 1:
        raise _invalid(given[1], f"`{given[0]}` and `{given[1]}` exclude each other")
    if not given:
        return
    name = given[0]
    if (body.response_format or {"type": "text"}).get("type") != "text":
        raise _invalid(name, f"`{name}` and `response_format` exclude each other")
    if body.tool_choice == "required" or isinstance(body.tool_choice, dict):
        raise _invalid(name, f"`{name}` and this `tool_choice` exclude each other")
    if isinstance(body.guided_json, str):
        try:
            json.decode(body.guided_json, type=dict[str, Any])
        except UNREADABLE:
            raise _invalid("guided_json", "`guided_json` must be a JSON object") from None


def _invalid(name: str, message: str) -> InvalidFieldError:
    return InvalidFieldError(["body", name], message)
