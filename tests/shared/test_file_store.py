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
from tests.installation import Installation
from tests.s3 import serve_objects

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


async def test_a_bucket_keeps_files_as_a_folder_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve_objects() as bucket:
        for name, value in (("ENDPOINT_URL", bucket.url), ("ALLOW_HTTP", "true"), ("ACCESS_KEY_ID", "a")):
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        store = open_file_store(Settings(file_store_url="s3://bucket/prefix"))

        await store.write("a", pieces(b"one ", b"x" * 6_000_000))
        await store.put("b", b"two")
        with pytest.raises(ValueError, match="too large"):
            await store.write("c", pieces(b"x" * 6_000_000, then=ValueError("too large")))

        assert sorted(bucket.objects) == ["prefix/jobs/a", "prefix/jobs/b"]
        assert bucket.parts == {}
        assert await read(store, "a") == b"one " + b"x" * 6_000_000
        later = datetime.now(UTC) + timedelta(hours=1)
        assert [page async for page in store.older_than(later)] == [["a", "b"]]
        await store.delete(["a", "b", "nobody"])
        with pytest.raises(FileGoneError):
            await read(store, "a")
        assert bucket.objects == {}
