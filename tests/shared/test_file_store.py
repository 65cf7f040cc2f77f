"""Where large inputs are kept."""

import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.files.store import FileGoneError, FileStore, FileStoreError, open_file_store
from shared.ids import new_ulid
from shared.settings import Settings, SettingsError
from tests.api.test_retention import sweep
from tests.conftest import make_settings
from tests.faults.processes import free_port
from tests.installation import Installation, open_installation
from tests.providers import ScriptedProvider, sends
from tests.recordings import bytes_of, recording, transcribe
from tests.s3 import serve_objects
from tests.servers import RedisServer

HOUR_S = 3600


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return open_file_store(Settings(data_dir=str(tmp_path)))


async def pieces(*parts: bytes, then: Exception | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if then is not None:
        raise then


async def read(store: FileStore, job_id: str) -> bytes:
    stored = await store.open(job_id)
    data = b"".join([chunk async for chunk in stored.chunks])
    assert len(data) == stored.size_bytes
    return data


async def test_what_was_written_in_pieces_is_read_as_a_whole(store: FileStore) -> None:
    await store.write("a", pieces(b"one ", b"x" * 6_000_000, b" two"))

    assert await read(store, "a") == b"one " + b"x" * 6_000_000 + b" two"


async def test_an_error_on_the_way_leaves_nothing_and_is_passed_on(store: FileStore, tmp_path: Path) -> None:
    for error in (ValueError("too large"), OSError("the caller has gone")):
        with pytest.raises(type(error), match=str(error)):
            await store.write("a", pieces(b"x" * 6_000_000, b"y", then=error))

    with pytest.raises(FileGoneError):
        await read(store, "a")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_deleting_what_is_not_there_is_no_error(store: FileStore) -> None:
    await store.put("a", b"x")

    await store.delete(["nobody", "a", "a"])

    with pytest.raises(FileGoneError):
        await read(store, "a")


async def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    store = open_file_store(Settings(data_dir=str(tmp_path)))
    (tmp_path / "files" / "jobs").write_text("in the way")

    with pytest.raises(FileStoreError):
        await store.put("a", b"x")
    with pytest.raises(FileStoreError):
        await store.write("a", pieces(b"x"))


async def test_the_url_names_another_folder(tmp_path: Path) -> None:
    store = open_file_store(Settings(file_store_url=f"file://{tmp_path}/other/place"))

    await store.put("a", b"x")

    assert (tmp_path / "other/place/jobs/a").read_bytes() == b"x"


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "file:///dev/null/x"])
def test_a_url_that_cannot_be_used_is_refused_by_name(url: str) -> None:
    with pytest.raises(SettingsError, match="SLUICE_FILE_STORE_URL"):
        open_file_store(Settings(file_store_url=url))


async def test_files_without_a_job_are_swept_after_an_hour(idle: Installation) -> None:
    old, young = new_ulid(), new_ulid()
    job_id = (await (await idle.chat(headers={"Prefer": "respond-async"})).json())["id"].removeprefix("job_")
    folder = Path(idle.state.settings.data_dir) / "files/jobs"
    for name in (old, young, job_id):
        await idle.state.files.put(name, b"x")
    for name in (old, job_id):
        os.utime(folder / name, (time.time() - HOUR_S - 1,) * 2)

    await sweep(idle)

    assert {path.name for path in folder.iterdir()} == {young, job_id}


def use_bucket(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    values = {"ENDPOINT_URL": url, "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)


async def test_a_bucket_keeps_files_as_a_folder_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve_objects() as bucket:
        use_bucket(monkeypatch, bucket.url)
        store = open_file_store(Settings(file_store_url="s3://bucket/prefix"))

        await store.write("a", pieces(b"one ", b"x" * 16_000_000))
        await store.put("b", b"two")
        with pytest.raises(ValueError, match="too large"):
            await store.write("c", pieces(b"x" * 16_000_000, then=ValueError("too large")))

        assert await bucket.unfinished_uploads() == 0
        assert await read(store, "a") == b"one " + b"x" * 16_000_000
        now, hour = datetime.now(UTC), timedelta(hours=1)
        assert [page async for page in store.older_than(now + hour)] == [["a", "b"]]
        assert [page async for page in store.older_than(now - hour)] == [[]]
        await store.delete(["a", "b", "nobody"])
        with pytest.raises(FileGoneError):
            await store.open("a")
        assert [page async for page in store.older_than(now + hour)] == []


async def test_a_bucket_that_does_not_answer_is_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    use_bucket(monkeypatch, f"http://127.0.0.1:{free_port()}")
    store = open_file_store(Settings(file_store_url="s3://bucket/prefix"))

    with pytest.raises(FileStoreError):
        await store.open("a")


async def test_a_recording_goes_through_a_bucket_and_leaves_with_its_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_server: RedisServer, provider: ScriptedProvider
) -> None:
    provider.default = sends(b'{"text": "Hello"}')
    data = recording(600)
    async with serve_objects() as bucket:
        use_bucket(monkeypatch, bucket.url)
        settings = make_settings(tmp_path, redis_server, file_store_url="s3://bucket/prefix")
        async with open_installation(settings) as sluice:
            await sluice.add_model("ears", provider.url, router_type="automatic-speech-recognition")

            response = await transcribe(sluice, data, model="ears")

            assert (response.status, provider.bodies) == (200, [data])
            job_id = response.headers["x-job-id"].removeprefix("job_")
            assert await bytes_of(sluice, job_id) == data
            assert (await sluice.delete(f"/v1/jobs/job_{job_id}")).status == 200
            with pytest.raises(FileGoneError):
                await sluice.state.files.open(job_id)
