"""INFERENCE_HOME: made private, kept private, refused when it is not ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inference_local import home as homes
from inference_local.home import Home, HomeError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.prepare()
    return made


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_home_is_its_owners_alone(home: Home) -> None:
    assert _mode(home.root) == 0o700
    assert _mode(home.root / "secrets" / "secret_key") == 0o600


def test_the_secret_is_random_and_stays(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    other.prepare()
    assert len(home.secret_key()) == 64
    assert home.secret_key() != other.secret_key()
    before = home.secret_key()
    home.prepare()
    assert home.secret_key() == before


def test_a_home_that_is_open_to_others_is_closed_and_said_so(home: Home) -> None:
    home.root.chmod(0o755)
    notes = home.prepare()
    assert any("was open to others (mode 755)" in note for note in notes)
    assert _mode(home.root) == 0o700


def test_another_users_home_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: home.root.stat().st_uid + 1)
    with pytest.raises(HomeError, match="choose another folder with --home"):
        home.prepare()


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(HomeError, match=r"not empty \(it has thesis.tex\)"):
        Home(tmp_path).prepare()
    assert _mode(tmp_path) == 0o755


def test_a_home_of_a_newer_version_is_refused(home: Home) -> None:
    home.version_file.write_text(f"{homes.VERSION + 1}\n")
    with pytest.raises(HomeError, match="made by a newer version"):
        home.prepare()


def test_a_file_in_the_homes_place_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match="file: "):
        Home(tmp_path / "file").prepare()


def test_little_free_disk_is_said(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes, "LOW_DISK_BYTES", 10**18)
    assert any("MB are free" in note for note in home.prepare())


def test_only_one_can_hold_a_home(home: Home) -> None:
    with home.locked() as first, home.locked() as second:
        assert (first, second) == (True, False)
        assert home.is_in_use()
    assert not home.is_in_use()


@pytest.mark.parametrize(
    ("folder", "fits"),
    [
        ("/home/ann/.inference/run", True),
        ("/" + "x" * 92, True),
        ("/" + "x" * 93, False),
        ("/home/ann/with space/run", False),
        ("/home/änn/run", False),
        ("/home/100%/run", False),
    ],
)
def test_sockets_want_a_short_plain_path(folder: str, fits: bool) -> None:
    assert homes.fits_sockets(Path(folder)) is fits


def test_a_home_with_a_long_path_keeps_its_sockets_elsewhere(tmp_path: Path) -> None:
    home = Home(tmp_path / ("long" * 30))
    home.prepare()
    sockets = home.sockets()
    try:
        assert homes.fits_sockets(sockets)
        assert _mode(sockets) == 0o700
        assert home.sockets() == sockets
        sockets.chmod(0o755)
        opened = sockets
        sockets = home.sockets()
        assert sockets != opened
        opened.rmdir()
    finally:
        sockets.rmdir()
