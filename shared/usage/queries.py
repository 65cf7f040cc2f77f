"""Reads of the ledger.  The session comes first; nothing here commits."""

from typing import Any, Final

from sqlalchemy import case, func
from sqlalchemy import select as sa_select
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.jobs.schemas import (
    AUDIO_SPEECH,
    CHAT_ATTRIBUTES,
    CHAT_COMPLETION,
    COMPLETION,
    EMBEDDING,
    INFERENCE,
    RESPONSE,
)
from shared.keys.tables import KeyRow
from shared.routers.tables import RouterRow
from shared.usage.closes import ListClosesQuery
from shared.usage.newest import IS_NEWEST
from shared.usage.records import ListUsageQuery
from shared.usage.schemas import MICRO, NANO_PER_UNIT, Impacts, ModelUsage, MonthUsage
from shared.usage.tables import ChargeRow, CloseRow, UsageRecordRow

_CHAT_KINDS: Final = (CHAT_COMPLETION, CHAT_ATTRIBUTES, INFERENCE, COMPLETION, RESPONSE, EMBEDDING)
"""Whose tokens a month's `chat` counts; those of reranking, transcription and OCR are in `by_model` alone."""


async def get_month_usage(
    session: AsyncSession, user_id: int, from_ms: int, until_ms: int, key_id: int | None = None
) -> MonthUsage:
    """Return what a user was charged and what his jobs consumed in [from, until), with one key or all of them."""
    rows = await _sum_charges(session, _of(ChargeRow, user_id, from_ms, until_ms, key_id))
    consumed = select(
        func.sum(UsageRecordRow.energy_nwh), func.sum(UsageRecordRow.operational_ng + UsageRecordRow.embodied_ng)
    ).where(*_of(UsageRecordRow, user_id, from_ms, until_ms, key_id), IS_NEWEST)
    energy_nwh, carbon_ng = (await session.exec(consumed)).one()
    return MonthUsage(
        chat=sum(chat for *_, chat, _, _ in rows),
        tts=sum(characters - small for *_, characters, small in rows),
        tts_sm=sum(small for *_, small in rows),
        image=0.0,
        image_sm=0.0,
        requests=sum(count for _, count, *_ in rows),
        cost=sum(micros for *_, micros, _, _, _ in rows) / MICRO,
        impacts=Impacts(kWh=int(energy_nwh or 0) / NANO_PER_UNIT, kgCO2eq=int(carbon_ng or 0) / NANO_PER_UNIT),
        by_model=[
            ModelUsage(model=name, requests=count, input_tokens=prompt, output_tokens=completion, cost=micros / MICRO)
            for name, count, prompt, completion, micros, *_ in rows
        ],
    )


def _of(table: Any, user_id: int, from_ms: int, until_ms: int, key_id: int | None) -> list[Any]:
    conditions = [table.user_id == user_id, table.created_ms >= from_ms, table.created_ms < until_ms]
    return conditions if key_id is None else [*conditions, table.key_id == key_id]


async def _sum_charges(session: AsyncSession, conditions: list[Any]) -> list[tuple[Any, ...]]:
    """Return by model: jobs, prompt and completion tokens, micro-units, tokens of chats, characters: all, of small."""
    is_small = col(ChargeRow.router_id).in_(select(RouterRow.id).where(col(RouterRow.is_small)))
    is_speech, is_chat = col(ChargeRow.kind) == AUDIO_SPEECH, col(ChargeRow.kind).in_(_CHAT_KINDS)
    statement: Any = (
        sa_select(
            col(ChargeRow.router_name),
            func.count(),
            func.sum(ChargeRow.prompt_tokens),
            func.sum(ChargeRow.completion_tokens),
            func.sum(ChargeRow.amount_micros),
            func.sum(case((is_chat, col(ChargeRow.prompt_tokens) + col(ChargeRow.completion_tokens)), else_=0)),
            func.sum(case((is_speech, col(ChargeRow.prompt_tokens)), else_=0)),
            func.sum(case((is_speech & is_small, col(ChargeRow.prompt_tokens)), else_=0)),
        )
        .where(*conditions)
        .group_by(col(ChargeRow.router_name))
        .order_by(col(ChargeRow.router_name))
    )
    return [
        (name, n, 0 if s else int(p or 0), 0 if s else int(c or 0), *(int(one or 0) for one in (m, chat, s, sm)))
        for name, n, p, c, m, chat, s, sm in await session.exec(statement)
    ]


async def list_usage_records(
    session: AsyncSession, user_id: int, from_ms: int, until_ms: int, query: ListUsageQuery
) -> tuple[list[tuple[UsageRecordRow, str | None]], int]:
    """Return one page of successful attempts in [from, until) with the names of their keys, newest first, and how many.

    Of a restated record the last form counts.
    """
    conditions: list[Any] = [
        UsageRecordRow.user_id == user_id, UsageRecordRow.created_ms >= from_ms, UsageRecordRow.created_ms < until_ms,
        UsageRecordRow.status == "succeeded", IS_NEWEST,
    ]  # fmt: skip
    if query.endpoint is not None:
        conditions.append(UsageRecordRow.endpoint == query.endpoint)
    statement = (
        select(UsageRecordRow, KeyRow.name)
        .join(KeyRow, col(KeyRow.id) == UsageRecordRow.key_id, isouter=True)
        .where(*conditions)
        .order_by(col(UsageRecordRow.created_ms).desc(), col(UsageRecordRow.id).desc())
    )
    rows = (await session.exec(statement.offset(query.offset).limit(query.limit))).all()
    total = (await session.exec(select(func.count()).select_from(UsageRecordRow).where(*conditions))).one()
    return [(record, name) for record, name in rows], total


async def list_closes(session: AsyncSession, query: ListClosesQuery) -> tuple[list[CloseRow], int]:
    """Return one page of closes, newest month and revision first, and how many there are."""
    conditions = [] if query.month is None else [CloseRow.month == query.month]
    statement = select(CloseRow).where(*conditions).order_by(col(CloseRow.month).desc(), col(CloseRow.revision).desc())
    rows = (await session.exec(statement.offset(query.offset).limit(query.limit))).all()
    total = (await session.exec(select(func.count()).select_from(CloseRow).where(*conditions))).one()
    return list(rows), total


async def find_close(session: AsyncSession, month: str, revision: int | None) -> CloseRow | None:
    """Return a close, the newest of the month if none is named; None if it is absent."""
    statement = select(CloseRow).where(CloseRow.month == month).order_by(col(CloseRow.revision).desc()).limit(1)
    if revision is not None:
        statement = statement.where(CloseRow.revision == revision)
    return (await session.exec(statement)).first()
