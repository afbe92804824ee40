import errno
import os
import resource
import signal

import pytest

import ddist.storage.atomic
from ddist.errors import DdistError
from ddist.storage.atomic import write_folder

OLD = {"a": b"old a", "b": b"old b"}
NEW = {"a": b"new a", "b": b"new b" * 5000}


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("earlier", [None, {}, OLD, {"a": b"only one"}])
def test_writes_and_replaces(tmp_path, earlier):
    path = tmp_path / "deep" / "folder"
    if earlier is not None:
        path.mkdir(parents=True)
        for name, content in earlier.items():
            (path / name).write_bytes(content)
    write_folder(path, NEW)
    assert contents(path) == NEW
    assert os.listdir(path.parent) == ["folder"]  # no temporary folder is left


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("failing", ["a", "b"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
                                   KeyboardInterrupt()])  # fmt: skip
def test_full_disk_changes_nothing(tmp_path, monkeypatch, earlier, failing, error):
    path = tmp_path / "folder"
    if earlier:
        write_folder(path, OLD)
    write_file = ddist.storage.atomic.write_file

    def full(file, content):
        write_file(file, content[:2] if file.name == failing else content)
        if file.name == failing:
            raise error

    monkeypatch.setattr(ddist.storage.atomic, "write_file", full)
    with pytest.raises((DdistError, KeyboardInterrupt)) as caught:
        write_folder(path, NEW)
    assert isinstance(error, KeyboardInterrupt) or "No space left" in str(caught.value)
    assert os.listdir(tmp_path) == (["folder"] if earlier else [])
    assert not earlier or contents(path) == OLD


def test_the_system_cuts_a_write_short(tmp_path):
    """No simulation: the kernel refuses to let a file grow beyond 4 kB."""
    path = tmp_path / "folder"
    write_folder(path, OLD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(DdistError, match="File too large"):
            write_folder(path, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["folder"]
    assert contents(path) == OLD


def test_an_earlier_version_comes_back_when_the_rename_fails(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    write_folder(path, OLD)
    rename = type(path).rename

    def fail_for_fresh(self, target):
        if self.name.endswith(".new"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(type(path), "rename", fail_for_fresh)
    with pytest.raises(DdistError, match="Input/output error"):
        write_folder(path, NEW)
    assert os.listdir(tmp_path) == ["folder"]
    assert contents(path) == OLD


def test_never_deletes_what_it_did_not_write(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DdistError, match=r"thesis\.tex"):
        write_folder(tmp_path, NEW)
    with pytest.raises(DdistError, match="a file is there"):
        write_folder(tmp_path / "thesis.tex", NEW)
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    write_folder(tmp_path / "target", OLD)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_folder(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "target") == NEW


def test_permissions_follow_the_umask(tmp_path):
    (tmp_path / "plain").mkdir()
    write_folder(tmp_path / "folder", NEW)
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "plain").stat().st_mode
