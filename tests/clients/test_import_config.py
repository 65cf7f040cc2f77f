"""scripts/sluice import-config: models of other gateways become models here."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.installation import ADMIN_KEY, FIRST_MODELS, Installation
from tests.providers import ScriptedProvider

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts/cli"))
import from_litellm  # noqa: E402

LITELLM = ROOT / "tests/data/configs/litellm.yaml"
OPENGATELLM = ROOT / "tests/data/configs/opengatellm.yml"
SECRETS = ("sk-of-the-lab-0123456789", "sk-of-the-cloud-9876543210")


async def run(sluice: Installation, *arguments: str) -> tuple[int, list[str], str]:
    """Import a file; returns exit code, lines and errors, in which no secret is."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "scripts/cli/main.py"), "--url", f"{sluice.url}/v1", "--key", ADMIN_KEY,
        "import-config", *arguments, env=os.environ | {"LAB_KEY": SECRETS[0]},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    shown = output.decode()
    assert not [secret for secret in (*SECRETS, "sk-1234") if secret in shown]
    return process.returncode or 0, shown.splitlines(), errors.decode()


async def models(sluice: Installation) -> dict[str, Any]:
    """Return the routers that did not exist at the first start, by name, with their `providers`."""
    routers = (await (await sluice.get("/v1/admin/routers?limit=100")).json())["data"]
    providers = (await (await sluice.get("/v1/admin/providers?limit=100")).json())["data"]
    return {
        one["name"]: one | {"providers": [p for p in providers if p["router_id"] == one["id"]]}
        for one in routers
        if one["name"] not in FIRST_MODELS
    }


async def test_a_configuration_of_litellm_is_carried_over(sluice: Installation) -> None:
    code, lines, errors = await run(sluice, str(LITELLM), "--no-probe")

    made = await models(sluice)
    assert (code, errors) == (1, ""), "a variable is not set"
    assert set(made) == {"llama", "vectors", "backup"}
    llama, vectors = made["llama"], made["vectors"]
    assert (llama["type"], llama["aliases"], llama["tools"]) == ("text-generation", ["gpt-4", "hidden-llama"], True)
    assert (llama["cost_prompt_tokens"], llama["cost_completion_tokens"]) == (0.6, 0.8)
    assert llama["default_parameters"] == {"temperature": 0.2, "stop": ["END"]}
    assert (llama["load_balancing_strategy"], llama["fallback"]) == ("weighted", made["backup"]["id"])
    lab, cloud = llama["providers"]
    assert (lab["type"], lab["url"], lab["timeout"]) == ("vllm", "http://127.0.0.1:8000/", 13)
    assert (lab["model_name"], lab["weight"]) == ("meta-llama/Llama-3.3-70B-Instruct", 60)
    assert (lab["qos_metric"], lab["qos_limit"]) == ("inflight", 8)
    assert (cloud["type"], cloud["url"], cloud["timeout"]) == ("openai", "http://127.0.0.1:9999/", 30)
    assert (cloud["model_name"], cloud["weight"]) == ("llama-3.3-70b", 600)
    assert lab["key"] != cloud["key"]
    assert (vectors["type"], vectors["cost_prompt_tokens"]) == ("text-embeddings-inference", 0.02)
    assert vectors["providers"][0]["url"] == "http://127.0.0.1:11434/"
    assert "model_list[0]: router llama: made" in lines
    assert "model_list[0]: fallback of llama: backup: made" in lines
    assert "model_list[4].litellm_params.api_key: FAILED: the environment has no NOT_SET" in lines


@pytest.mark.parametrize(
    "start",
    [
        "model_list[0].litellm_params.rpm: not carried over: a limit of a deployment; limits belong to roles (here",
        "model_list[1] cost_prompt_tokens: not carried over: llama has 0.6 from model_list[0]",
        "model_list[5]: not carried over: there is no adapter for bedrock",
        "model_list[6]: not carried over: there is no type of router for the mode image_generation",
        "model_list[7]: not carried over: a router has one name",
        "router_settings.model_group_alias.lost: not carried over: claude",
        "router_settings.fallbacks.llama: vectors: not carried over: a router has one fallback",
        "general_settings.master_key: not carried over: set SLUICE_ADMIN_KEY",
        "litellm_settings.num_retries: not carried over: a job has three attempts",
        "litellm_settings.success_callback: not carried over: has no counterpart",
    ],
)
async def test_what_litellm_has_alone_is_told_with_the_reason(sluice: Installation, start: str) -> None:
    _, lines, _ = await run(sluice, str(LITELLM), "--dry-run")

    assert [line for line in lines if line.startswith(start)], lines


DEPLOYMENT = "model_name: ours, litellm_params: {model: openai/m, api_base: 'http://127.0.0.1:9', "
NO_WEIGHT = "counts only with simple-shuffle, among several deployments that all have one above 0"
LIMIT = "a limit of a deployment; limits belong to roles"


@pytest.mark.parametrize(
    ("deployments", "strategy", "used", "reports"),
    [
        (("weight: 2, rpm: 9", "weight: 1"), "simple-shuffle", [2, 1], [f"[0].litellm_params.rpm: {LIMIT}"]),
        (("weight: 2", "rpm: 9"), "simple-shuffle", [], [
            f"[0].litellm_params.weight: {NO_WEIGHT}", f"[1].litellm_params.rpm: {LIMIT}"]),
        (("weight: 2", "weight: 0"), "simple-shuffle", [], [
            f"[0].litellm_params.weight: {NO_WEIGHT}", f"[1].litellm_params.weight: {NO_WEIGHT}"]),
        (("tpm: 500, weight: 7", "tpm: os.environ/TPM"), "simple-shuffle", [500, 250], [
            f"[0].litellm_params.weight: {NO_WEIGHT}", f"[0].litellm_params.tpm: {LIMIT} (here it is the weight)",
            f"[1].litellm_params.tpm: {LIMIT} (here it is the weight)"]),
        (("weight: 2", "weight: 1"), "least-busy", [], [
            f"[0].litellm_params.weight: {NO_WEIGHT}", f"[1].litellm_params.weight: {NO_WEIGHT}"]),
        (("weight: 2",), "simple-shuffle", [], [f"[0].litellm_params.weight: {NO_WEIGHT}"]),
    ],
)  # fmt: skip
def test_a_weight_is_reported_as_what_became_of_it(
    deployments: tuple[str, ...], strategy: str, used: list[int], reports: list[str]
) -> None:
    members = [yaml.safe_load(f"{{{DEPLOYMENT}{one}}}, model_info: {{mode: chat}}}}") for one in deployments]

    plan = from_litellm.read({"model_list": members, "router_settings": {"routing_strategy": strategy}}, {"TPM": "250"})

    router = plan.routers["ours"]
    assert (router.body["load_balancing_strategy"] == "weighted") is bool(used)
    assert [one.body["weight"] for one in router.providers if "weight" in one.body] == used
    assert sorted(f"{where}: {why}" for where, why in plan.left_out) == sorted(f"model_list{one}" for one in reports)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("timeout: abc", "litellm_params.timeout: 'abc' is no number."),
        ("weight: heavy", "litellm_params.weight: 'heavy' is no number."),
        ("rpm: os.environ/NOT_SET", "litellm_params.rpm: FAILED: the environment has no NOT_SET"),
        ("input_cost_per_token: 1e999999", "input_cost_per_token: '1e999999' is no number."),
    ],
)
async def test_a_member_that_is_no_number_fails_its_deployment_alone(
    sluice: Installation, tmp_path: Path, member: str, message: str
) -> None:
    text = "".join(f"  - {{{DEPLOYMENT}{one}}}}}\n" for one in (member, "timeout: 7"))
    (tmp_path / "config.yaml").write_text(f"model_list:\n{text}")

    code, lines, errors = await run(sluice, str(tmp_path / "config.yaml"), "--no-probe")

    assert (code, errors) == (1, "")
    assert [line for line in lines if line.startswith("model_list[0]") and line.endswith(message)], lines
    assert "model_list[1]: router ours: made" in lines
    assert [one["timeout"] for one in (await models(sluice))["ours"]["providers"]] == [7]


async def test_a_price_that_is_no_number_fails_its_model_of_opengatellm_alone(
    sluice: Installation, tmp_path: Path
) -> None:
    text = "models: [{name: odd, type: text-generation, cost_prompt_tokens: .nan}, {name: good, type: text-generation}]"
    (tmp_path / "config.yml").write_text(text)

    code, lines, errors = await run(sluice, str(tmp_path / "config.yml"))

    assert (code, errors) == (1, "")
    assert "models[0]: FAILED: cost_prompt_tokens: nan is no number." in lines
    assert set(await models(sluice)) == {"good"}


async def test_a_configuration_of_opengatellm_is_carried_over(sluice: Installation) -> None:
    code, lines, errors = await run(sluice, str(OPENGATELLM), "--no-probe")

    made = await models(sluice)
    assert (code, errors) == (1, ""), "a variable is not set"
    chat, ranks = made["small-chat"], made["ranks"]
    assert (chat["type"], chat["aliases"]) == ("text-generation", ["small", "tiny"])
    assert (chat["cost_prompt_tokens"], chat["cost_completion_tokens"]) == (0.1, 0.3)
    assert chat["load_balancing_strategy"] == "least_busy"
    (provider,) = chat["providers"]
    expected = {
        "type": "vllm", "url": "http://127.0.0.1:8000/", "model_name": "org/small-chat", "timeout": 60,
        "model_hosting_zone": "FRA", "model_total_params": 8, "model_active_params": 8, "qos_metric": "inflight",
        "qos_limit": 5,
    }  # fmt: skip
    assert {name: provider[name] for name in expected} == expected
    assert (ranks["type"], ranks["providers"][0]["type"]) == ("text-classification", "tei")
    assert "models[0].providers[1].key: FAILED: the environment has no NOT_SET" in lines
    assert [line for line in lines if line.startswith("models[0].providers[2]: not carried over: providers are called")]
    assert "models[0].owned_by: not carried over: routers have no such member" in lines
    assert "settings.app_title: not carried over: set SLUICE_APP_TITLE" in lines


@pytest.mark.parametrize("file", [LITELLM, OPENGATELLM])
async def test_a_dry_run_changes_nothing_and_says_the_same(sluice: Installation, file: Path) -> None:
    _, foretold, _ = await run(sluice, str(file), "--dry-run", "--no-probe")
    before = await models(sluice)
    _, done, _ = await run(sluice, str(file), "--no-probe")

    assert before == {}
    assert [line.replace("would be made", "made") for line in foretold] == done


async def test_a_second_import_makes_nothing_twice(sluice: Installation) -> None:
    await run(sluice, str(LITELLM), "--no-probe")
    before = await models(sluice)

    _, lines, _ = await run(sluice, str(LITELLM), "--no-probe")

    assert await models(sluice) == before | {name: one | {"updated": any_number()} for name, one in before.items()}
    assert "model_list[0]: router llama: exists already, left as it is" in lines
    assert len([line for line in lines if line.endswith("exists already, left as it is")]) == 7


async def test_imported_models_answer_users_of_a_role_that_got_them(
    sluice: Installation, provider: ScriptedProvider, tmp_path: Path
) -> None:
    text = f"""
    model_list:
      - model_name: ours
        litellm_params: {{model: openai/org/model-b, api_base: {provider.url}v1, api_key: sk-upstream}}
        model_info: {{mode: chat}}
    """
    (tmp_path / "config.yaml").write_text(text)

    code, lines, _ = await run(sluice, str(tmp_path / "config.yaml"), "--grant", "2")

    key = (await (await sluice.post("/v1/admin/tokens", {"name": "app", "user": 2})).json())["key"]
    reply = await sluice.chat(model="ours", headers={"Authorization": f"Bearer {key}"})
    assert code == 0, lines
    assert reply.status == 200, await reply.text()
    assert provider.headers[-1]["Authorization"] == "Bearer sk-upstream"
    assert provider.requests[-1]["model"] == "org/model-b"


async def test_models_are_granted_to_a_role_by_its_name(sluice: Installation, tmp_path: Path) -> None:
    role = (await (await sluice.post("/v1/admin/roles", {"name": "writers"})).json())["id"]
    (tmp_path / "config.yml").write_text("models: [{name: ours, type: text-generation}]")

    unknown = await run(sluice, str(tmp_path / "config.yml"), "--grant", "writers", "--grant", "readers")
    before = await models(sluice)
    code, lines, _ = await run(sluice, str(tmp_path / "config.yml"), "--grant", "writers")

    assert unknown == (1, [], "No role is called `readers`.\n")
    assert before == {}
    assert (code, lines[-1]) == (0, f"--grant: role {role}: made")
    limits = (await (await sluice.get(f"/v1/admin/roles/{role}")).json())["limits"]
    assert [(one["router"], one["value"]) for one in limits] == [((await models(sluice))["ours"]["id"], None)]


async def test_what_the_api_refuses_is_told_and_the_rest_is_made(sluice: Installation, tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(
        """
        models:
          - {name: bad, type: text-to-music, providers: []}
          - {name: good, type: text-generation, providers: [{type: vllm, url: "http://127.0.0.1:9", model_name: m}]}
        """
    )

    code, lines, _ = await run(sluice, str(tmp_path / "config.yml"), "--no-probe")

    assert code == 1
    assert lines[0].startswith("models[0]: router bad: FAILED: 422: Invalid enum value")
    assert set(await models(sluice)) == {"good"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "while parsing"), ("- a", "it is no configuration"), ("a: 1", "neither `model_list`"),
     ("model_list: [1]", "Expected `object`, got `int` - at `model_list[0]`"), ("a: 2026-99-99", "month must be in"),
     ("model_list: [{model_info: {mode: [chat]}}]", "got `array` - at `model_list[0].model_info.mode`"),
     ("{model_list: [], router_settings: {fallbacks: [{a: b}]}}", "at `router_settings.fallbacks[0]"),
     ("models: [{type: text-generation}]", "missing required field `name` - at `models[0]`")],
)  # fmt: skip
async def test_a_file_that_is_no_configuration_is_an_error(
    sluice: Installation, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "config.yaml").write_text(text)

    code, lines, errors = await run(sluice, str(tmp_path / "config.yaml"))

    assert (code, lines) == (1, [])
    assert message in errors
    assert "Traceback" not in errors


class any_number:  # noqa: N801  # reads as a value
    """Equal to every number."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int | float)

    __hash__ = None  # type: ignore[assignment]
