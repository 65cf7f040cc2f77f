"""Input that no caller should send: refused in the one error shape, and nothing is left behind."""

import io
import json
from pathlib import Path
from typing import Any

from yarl import URL

from shared.jobs.schemas import TERMINAL
from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.conftest import make_settings
from tests.installation import ADMIN_KEY, Installation, open_installation
from tests.providers import ScriptedProvider, says
from tests.servers import RedisServer
from tests.waiting import eventually

CHAT = "/v1/chat/completions"
DEEP = 10_000
HUGE = 2**70


async def test_a_body_that_is_not_json_is_refused(both: Installation) -> None:
    bodies = [
        b"", b"{", b'{"model":"\xff"}', b"\xef\xbb\xbf{}", chat().encode("utf-16"), chat('"a\x01b"'),
        chat('"\\ud800"'), chat(rest=',"user":"\\udfff"'), chat(rest=',"metadata":{"a":"\\ud800"}'),
        chat(rest=',"other":"\\ud800"'), chat(rest=',"\\ud800":1'), chat(rest=',"temperature":NaN'),
        chat(rest=',"other":Infinity'), chat(rest=',"other":-Infinity'), chat(rest=',"other":' + nested(DEEP)),
        chat(rest=',"other":' + '{"a":' * DEEP + "1" + "}" * DEEP), chat(rest=',"tools":[{"a":' + nested(DEEP) + "}]"),
        chat('[{"type":"text","text":"Hi","other":' + nested(DEEP) + "}]"), chat(rest=',"\xff":1').encode("latin1"),
    ]  # fmt: skip

    for body in bodies:
        status, error = await refusal(both, body)
        assert (status, error["code"]) == (400, "invalid_json"), body[:100]
        assert error["message"] == "Request body is not valid JSON."
    assert await both.rows(JobRow) == []


async def test_text_behind_the_document_is_not_json(sluice: Installation) -> None:
    for body in (b"{} x", b"[] []", chat(rest=',"temperature":9') + "x"):
        status, error = await refusal(sluice, body)
        assert (status, error["code"]) == (400, "invalid_json"), body


async def test_a_body_that_does_not_fit_the_schema_is_refused_with_the_place(both: Installation) -> None:
    no_messages = '{"model":"simulator","messages":%s}'
    places: dict[str, list[Any]] = {
        "null": [], "[]": [], '"x"': [], "1": [], "{}": ["messages"], '{"messages":"Hi"}': ["model"],
        no_messages % "[]": ["messages"], no_messages % "{}": ["messages", "role"],
        no_messages % "[null]": ["messages", 0], no_messages % '[{"content":"Hi"}]': ["messages", 0, "role"],
        no_messages % '[{"role":"alien","content":"Hi"}]': ["messages", 0, "role"],
        chat("1"): ["messages", 0, "content"], chat("{}"): ["messages", 0, "content"],
        chat("[{}]"): ["messages", 0, "content", 0, "type"], chat(nested(DEEP)): ["messages", 0, "content", 0],
        chat(rest=',"temperature":2.1'): ["temperature"], chat(rest=',"temperature":-0.1'): ["temperature"],
        chat(rest=',"temperature":"nan"'): ["temperature"], chat(rest=',"temperature":1e400'): ["temperature"],
        chat(rest=',"top_p":1.1'): ["top_p"], chat(rest=',"presence_penalty":-2.1'): ["presence_penalty"],
        chat(rest=',"top_logprobs":2'): ["top_logprobs"],
        chat(rest=',"logprobs":false,"top_logprobs":2'): ["top_logprobs"],
        chat(rest=',"logprobs":true,"top_logprobs":21'): ["top_logprobs"],
        chat(rest=',"stop":' + json.dumps(["a"] * 17)): ["stop"], chat(rest=',"n":0'): ["n"],
        chat(rest=f',"n":{HUGE}'): ["n"], chat(rest=',"max_tokens":0'): ["max_tokens"],
        chat(rest=',"max_tokens":1e400'): ["max_tokens"], chat(rest=',"max_tokens":12.5'): ["max_tokens"],
        chat(rest=',"seed":1e400'): ["seed"], chat(rest=',"seed":' + "9" * 5000): ["seed"],
        chat(rest=',"stream":"x"'): ["stream"], chat(rest=',"stream_options":[]'): ["stream_options"],
        chat(rest=',"tools":[1]'): ["tools", 0], chat(rest=',"tool_choice":1'): ["tool_choice"],
        chat(rest=',"user":1'): ["user"], chat(rest=',"user":"' + "u" * 513 + '"'): ["user"],
        chat(rest=',"metadata":[]'): ["metadata"],
        chat(rest=',"metadata":' + json.dumps(dict.fromkeys(map(str, range(17)), "x"))): ["metadata"],
        chat(rest=',"metadata":{"' + "k" * 65 + '":"x"}'): ["metadata"],
        '{"model":"nobody","model":"simulator","messages":[{"role":"user"}],"messages":[]}': ["messages"],
    }  # fmt: skip

    for body, place in places.items():
        response = await post(both, body)
        assert response.status == 422, body[:100]
        answer = await response.json()
        assert answer["detail"][0]["loc"] == ["body", *place], body[:100]
        assert answer["error"]["code"] == "invalid_request"
        assert answer["error"]["param"] == (".".join(map(str, place)) or None)
        assert answer["error"]["message"] == answer["detail"][0]["msg"]
    assert await both.rows(JobRow) == []


async def test_the_place_of_a_bad_pair_is_its_member(sluice: Installation) -> None:
    for rest, name in ((',"metadata":{"a.b":1}', "metadata"), (',"logit_bias":{"7":101}', "logit_bias")):
        answer = await (await post(sluice, chat(rest=rest))).json()
        assert answer["detail"][0]["loc"][:2] == ["body", name]
        assert all(step not in ("", "[", "]") for step in answer["detail"][0]["loc"])


async def test_nul_characters_in_user_and_metadata_are_refused(both: Installation) -> None:
    for rest in (',"user":"a\\u0000"', ',"metadata":{"a":"\\u0000"}', ',"metadata":{"a\\u0000":"b"}'):
        status, error = await refusal(both, chat(rest=rest))
        assert (status, error["code"]) == (422, "invalid_request"), rest


async def test_nul_characters_in_new_metadata_are_refused(both: Installation) -> None:
    made = await (await both.chat(metadata={"run": "a"})).json()

    response = await both.post(f"{CHAT}/{made['id']}", {"metadata": {"run": "\x00"}})

    assert response.status == 422
    listed = await both.get(f"{CHAT}?metadata[run]=a")
    assert [item["id"] for item in (await listed.json())["data"]] == [made["id"]]


async def test_an_unknown_model_is_not_found(both: Installation) -> None:
    for model in ("nobody", "sim\\u0000", "m" * 100_000, "simulator ", "' OR 1=1"):
        status, error = await refusal(both, chat().replace("simulator", model))
        assert (status, error["code"], error["param"]) == (404, "model_not_found", "model"), model[:50]


async def test_a_model_of_another_type_is_refused(sluice: Installation) -> None:
    body = {"name": "embedder", "type": "text-embeddings-inference"}
    router = await (await sluice.post("/v1/admin/routers", body)).json()
    await sluice.add_provider(router["id"])

    response = await sluice.chat(model="embedder")

    assert response.status == 422
    assert await response.json() == {
        "error": {
            "message": "Wrong model type.", "type": "invalid_request_error", "param": "model",
            "code": "wrong_model_type",
        },
        "detail": "Wrong model type.",
    }  # fmt: skip


async def test_a_caller_without_a_usable_key_is_refused(both: Installation) -> None:
    texts = {
        None: "Not authenticated",
        "": "Invalid authentication scheme.",
        "Basic dXNlcjpwYXNz": "Invalid authentication scheme.",
        ADMIN_KEY: "Invalid authentication scheme.",
        "Bearer": "Invalid API key.",
        "Bearer  ": "Invalid API key.",
        "Bearer sk-nobody": "Invalid API key.",
        f"Bearer {ADMIN_KEY}x": "Invalid API key.",
        "Bearer \u20ac": "Invalid API key.",
    }
    for header, text in texts.items():
        headers = {} if header is None else {"Authorization": header}
        response = await both.client.post(CHAT, data=chat(), headers=headers)
        answer = await response.json()
        assert (response.status, answer["detail"], answer["error"]["code"]) == (401, text, "invalid_api_key"), header
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert await both.rows(JobRow) == []


async def test_a_body_over_the_limit_is_refused(tmp_path: Path, redis_server: RedisServer, prepared_url: str) -> None:
    settings = make_settings(tmp_path, redis_server, database_url=prepared_url, max_body_bytes=1000)
    async with open_installation(settings) as installation:
        assert (await post(installation, chat(rest=" " * (1000 - len(chat()))))).status == 200
        status, error = await refusal(installation, chat(rest=" " * (1001 - len(chat()))))
        assert (status, error["code"]) == (413, "body_too_large")


async def test_text_that_looks_like_control_tokens_is_text(both: Installation) -> None:
    text = "<|endoftext|><|im_start|>system\\n[INST]</s><s>"

    response = await post(both, chat(f'"{text}"'))

    assert response.status == 200
    assert (await response.json())["usage"]["prompt_tokens"] > 10
    await assert_all_settled(both, 1)


async def test_nul_characters_in_a_message_are_text(both: Installation) -> None:
    response = await post(both, chat('"a\\u0000b"', ',"simulator":{"text":"c\\u0000d"}'))

    answer = await response.json()
    messages = await (await both.get(f"{CHAT}/{answer['id']}/messages")).json()
    assert answer["choices"][0]["message"]["content"] == "c\x00d"
    assert messages["data"][0]["content"] == "a\x00b"
    await assert_all_settled(both, 1)


async def test_a_hundred_thousand_messages_are_answered(both: Installation) -> None:
    messages = ",".join(['{"role":"user","content":"Hi"}'] * 100_000)

    response = await post(both, f'{{"model":"simulator","messages":[{messages}]}}')

    assert response.status == 200
    await assert_all_settled(both, 1)


async def test_ten_megabytes_of_text_are_answered(both: Installation) -> None:
    response = await post(both, chat('"' + "a" * 10_000_000 + '"'))

    assert response.status == 200
    await assert_all_settled(both, 1)


async def test_numbers_that_fit_no_column_are_the_provider_s_business(both: Installation) -> None:
    rests = [
        f',"seed":{HUGE}', f',"seed":-{HUGE}',
        ',"other":1e400', f',"other":{HUGE}', ',"other":' + "9" * 5000, ',"temperature":0.' + "9" * 5000,
    ]  # fmt: skip
    for rest in rests:
        assert (await post(both, chat(rest=rest + ',"simulator":{"tokens":1}'))).status == 200, rest[:50]
    await assert_all_settled(both, len(rests))


async def test_a_number_out_of_range_inside_a_message_breaks_nothing(
    both: Installation, provider: ScriptedProvider
) -> None:
    provider.default = says("Hi", reported={})
    await both.add_model("public", provider.url)
    body = '{"model":"public","messages":[{"role":"user","content":"Hi","other":1e400}]}'

    response = await post(both, body)

    assert response.status < 500
    assert (await both.get(f"{CHAT}/{response.headers['x-job-id']}/messages")).status < 500
    await assert_all_settled(both, 1)


async def test_malformed_tools_are_not_our_failure(both: Installation) -> None:
    tool = ',"tools":[{"type":"function","function":{"name":"a"}}]'
    bodies = [
        chat(rest=',"tools":[{}]'), chat(rest=',"tools":[{"function":"x"}]'), chat(rest=',"tools":[{"function":{}}]'),
        chat(rest=tool + ',"tool_choice":{}'), chat(rest=tool + ',"tool_choice":{"function":"x"}'),
        chat('"Hi","tool_calls":"x"'), chat('"Hi","tool_calls":1'), chat('"Hi","tool_calls":[1]'),
        chat('"Hi","tool_calls":[{"function":1}]'), chat('"Hi","name":5'),
    ]  # fmt: skip
    for body in bodies:
        response = await post(both, body)
        assert response.status < 500, body
        assert (await both.get(f"{CHAT}/{response.headers['x-job-id']}/messages")).status < 500, body
    await assert_all_settled(both, len(bodies))


async def test_lenient_numbers_are_understood_by_the_simulator_too(sluice: Installation) -> None:
    for rest in (',"max_tokens":"2"', ',"max_tokens":2.0', ',"n":"1"'):
        assert (await post(sluice, chat(rest=rest))).status == 200, rest


async def test_nesting_that_was_accepted_breaks_nothing_later(sluice: Installation) -> None:
    accepted, refused = 500, DEEP
    while refused - accepted > 1:
        depth = (accepted + refused) // 2
        status = (await post(sluice, chat(rest=f',"tools":[{{"a":{nested(depth)}}}]'))).status
        accepted, refused = (depth, refused) if status == 200 else (accepted, depth)

    for depth in range(accepted - 5, accepted + 2):
        for body in (chat(rest=',"other":' + nested(depth)), chat(f'"Hi","other":{nested(depth)}')):
            response = await post(sluice, body)
            assert response.status < 500, depth
            if job_id := response.headers.get("x-job-id"):
                for path in (f"{CHAT}/{job_id}", f"{CHAT}/{job_id}/messages", f"/v1/jobs/{job_id}/result"):
                    assert (await sluice.get(path)).status < 500, (depth, path)
    assert (await sluice.get(f"{CHAT}?limit=100")).status == 200


async def test_cursors_nobody_gave_out_are_refused(both: Installation) -> None:
    job_id = (await both.chat(stream=True)).headers["x-job-id"]
    cursors = ["x", "1", "1-", "-1", "-", "1-2-3", "-1-1", "1--1", "1.0-1", "1e400-1", f"{HUGE}-1", "1-" + "9" * 5000]

    for cursor in [*cursors, "%00", "%ff", ""]:
        path = f"/v1/jobs/{job_id}/events?starting_after={cursor}"
        for accept in ("application/json", "text/event-stream"):
            status, error = await got_refusal(both, path, Accept=accept)
            assert (status, error["code"]) == (400, "invalid_cursor"), (cursor, accept)
    for path in ("/v1/jobs", CHAT):
        for cursor in ("x", "", "job_", "req_01jc8w7v3qk5m2x9t4r6y8z0ab", "%00", str(HUGE)):
            status, error = await got_refusal(both, f"{path}?after={cursor}")
            assert (status, error["code"]) == (400, "invalid_cursor"), (path, cursor)


async def test_cursors_behind_all_that_was_sent_are_refused(both: Installation) -> None:
    finished = (await both.chat(stream=True)).headers["x-job-id"]
    running = await both.chat(stream=True, simulator={"tokens": 100, "chunk_delay_ms": 50})
    await running.content.readuntil(b"\n\n")
    queued = (await (await both.chat(headers={"Prefer": "respond-async"}, simulator={"delay_ms": 3000})).json())["id"]
    cursors = [(finished, "7-3"), (finished, "1-500"), (queued, "1-5"), (queued, "9-0")]

    for job_id, cursor in [*cursors, (running.headers["x-job-id"], "9-0"), (running.headers["x-job-id"], "1-500")]:
        for accept in ("application/json", "text/event-stream"):
            status, error = await got_refusal(both, f"/v1/jobs/{job_id}/events?starting_after={cursor}", Accept=accept)
            assert (status, error["code"]) == (400, "invalid_cursor"), (job_id, cursor, accept)
    running.close()


async def test_a_cursor_in_another_spelling_is_refused(sluice: Installation) -> None:
    job_id = (await sluice.chat(stream=True)).headers["x-job-id"]

    for cursor in ("1_0-1", "%D9%A1-%D9%A1", "%201-1", "%2B1-1"):
        assert (await get(sluice, f"/v1/jobs/{job_id}/events?starting_after={cursor}")).status == 400, cursor


async def test_bad_numbers_in_paths_and_queries_are_refused(both: Installation) -> None:
    paths = [
        f"/v1/admin/{noun}/{number}" for noun in ("routers", "providers", "tokens") for number in (HUGE, "x", "1e400")
    ]
    for noun in ("/v1/jobs", CHAT, "/v1/admin/routers", "/v1/admin/providers", "/v1/admin/tokens"):
        paths += [f"{noun}?limit={number}" for number in (0, -1, 101, HUGE, "1e400", "x", "")]
    paths += [f"/v1/admin/routers?offset={number}" for number in (-1, HUGE, "x")]
    paths += ["/v1/jobs?created_after=-1", f"/v1/jobs?created_before={HUGE}", "/v1/jobs?status=x", "/v1/jobs?order=x"]

    for path in paths:
        status, error = await got_refusal(both, path)
        assert (status, error["code"]) == (422, "invalid_request"), path


async def test_ids_nobody_has_are_not_found(both: Installation) -> None:
    for job_id in (HUGE, "x", "%00", "%ff", "job_", "job_01jc8w7v3qk5m2x9t4r6y8z0ab", "j" * 5000):
        for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/events", f"{CHAT}/{job_id}", f"/v1/models/{job_id}"):
            assert (await got_refusal(both, path))[0] == 404, path


async def test_odd_filters_find_nothing(both: Installation) -> None:
    await both.chat(metadata={"run": "a"})
    queries = ["metadata[]=x", "metadata[a%22b]=x", "metadata[a%5C]=x", "metadata[a'b]=x", "metadata[a", "model=%ff"]

    for query in [*queries, "metadata[%22]=x", "metadata[%25]=x", "model='%20OR%201=1", "user=" + "u" * 5000]:
        response = await get(both, f"/v1/jobs?{query}")
        assert response.status in (200, 422), query


async def test_nul_characters_in_a_filter_break_nothing(both: Installation) -> None:
    names = ("model", "user", "kind", "batch_id", "custom_id", "metadata[a]")
    paths = [f"/v1/jobs?{name}=%00" for name in names] + [f"{CHAT}?model=%00", "/v1/jobs?metadata[%00]=x"]

    found = {path: (await get(both, path)).status for path in paths}
    found["/v1/requests"] = (await both.post("/v1/requests", {"period": 15, "endpoint": "\x00"})).status

    assert {path: status for path, status in found.items() if status >= 500} == {}


async def test_a_long_endpoint_filter_breaks_nothing(both: Installation) -> None:
    await both.chat()

    response = await both.post("/v1/requests", {"period": 15, "endpoint": "a" * 100_000})

    assert response.status in (200, 422)


def chat(content: str = '"Hi"', rest: str = "") -> str:
    """Return a body as JSON text, with `content` and `rest` put in as they are."""
    return f'{{"model":"simulator","messages":[{{"role":"user","content":{content}}}]{rest}}}'


def nested(depth: int) -> str:
    """Return lists in lists."""
    return "[" * depth + "]" * depth


async def post(installation: Installation, body: str | bytes) -> Any:
    """Post this body as a chat."""
    data = io.BytesIO(body.encode() if isinstance(body, str) else body)
    return await installation.client.post(CHAT, data=data, headers=installation.headers)


async def get(installation: Installation, path: str, **headers: str) -> Any:
    """Get a path that is escaped already."""
    url = URL(installation.url + path, encoded=True)
    return await installation.client.get(url, headers=installation.headers | headers)


async def refusal(installation: Installation, body: str | bytes) -> tuple[int, dict[str, Any]]:
    """Return status and error of a refused chat."""
    return await read_refusal(await post(installation, body))


async def got_refusal(installation: Installation, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """Return status and error of a refused read."""
    return await read_refusal(await get(installation, path, **headers))


async def read_refusal(response: Any) -> tuple[int, dict[str, Any]]:
    answer = await response.json()
    assert set(answer) == {"error", "detail"}, answer
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    return response.status, answer["error"]


async def assert_all_settled(installation: Installation, count: int) -> None:
    """Check that there are so many jobs, all over, each with one charge."""

    async def are_over() -> bool:
        return all(row.status in TERMINAL for row in await installation.rows(JobRow))

    await eventually(are_over)
    jobs, charges = await installation.rows(JobRow), await installation.rows(ChargeRow)
    assert len(jobs) == count
    assert sorted(charge.job_id for charge in charges) == sorted(job.id for job in jobs)
