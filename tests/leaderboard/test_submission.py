"""The reader opens plain files of the right names and sizes, and nothing else."""

from __future__ import annotations

import lzma
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from prosegym.envs.errors import CorruptData
from prosegym.leaderboard import submission as reader
from prosegym.leaderboard.submission import Card, Refused
from prosegym.leaderboard.submit import submit
from prosegym.leaderboard.verify import verify


def refused(folder: Path, words: str) -> None:
    report = verify(folder, workers=0, progress=False)
    assert not report.ok
    assert words in "\n".join(report.problems), report.problems


def test_read_returns_what_was_written(honest: Path) -> None:
    found, digest = reader.read(honest)
    assert reader.encode(found) == (honest / "submission.json").read_bytes()
    assert len(digest) == 64 and found.card == Card(agent="Ours", track="zero-shot")
    assert sum(1 for _ in reader.lines(honest, found.results[0])) == 8


def linked_manifest(folder: Path) -> None:
    shutil.move(folder / "submission.json", folder.parent / "real.json")
    (folder / "submission.json").symlink_to(folder.parent / "real.json")


def linked_episodes(folder: Path) -> None:
    shutil.move(folder / "episodes/0.jsonl", folder.parent / "real.jsonl")
    (folder / "episodes/0.jsonl").symlink_to(folder.parent / "real.jsonl")


def linked_folder(folder: Path) -> None:
    shutil.move(folder / "episodes", folder.parent / "real")
    (folder / "episodes").symlink_to(folder.parent / "real", target_is_directory=True)


def pipe(folder: Path) -> None:
    (folder / "episodes/0.jsonl").unlink()
    os.mkfifo(folder / "episodes/0.jsonl")


def sparse(name: str, size: int) -> Callable[[Path], None]:
    def grow(folder: Path) -> None:
        os.truncate(folder / name, size)

    return grow


def a_folder(folder: Path) -> None:
    (folder / "submission.json").unlink()
    (folder / "submission.json").mkdir()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (linked_manifest, "'submission.json' is a link"),
        (linked_episodes, "'0.jsonl' is a link"),
        (linked_folder, "'episodes' is a link"),
        (pipe, "not a plain file"),
        (sparse("submission.json", 2 << 20), "has 2,097,152 bytes; at most 1,048,576 are read"),
        (sparse("episodes/0.jsonl", 1 << 40), "has 1,099,511,627,776 bytes; at most 268,435,456 are read"),
        (sparse("episodes/0.jsonl", 30 << 20), "bytes that are declared"),
        (a_folder, "'submission.json' should be a file"),
        (lambda folder: (folder / "submission.json").unlink(), "is not a submission (no submission.json)"),
        (lambda folder: (folder / "episodes/0.jsonl").unlink(), "lacks '0.jsonl'"),
        (lambda folder: (folder / "setup.py").write_text("boom"), "holds 'setup.py', which"),
        (lambda folder: (folder / "episodes/1.jsonl").write_text("{}"), "holds '1.jsonl', which"),
        (lambda folder: shutil.rmtree(folder), "is not a submission (no submission.json)"),
    ],
)
def test_a_folder_with_anything_else_in_it(honest: Path, spoil: Callable[[Path], None], words: str) -> None:
    spoil(honest)
    refused(honest, words)


def reseal(folder: Path, data: bytes, **values: object) -> None:
    """Put an xz file in the place of the plain one."""
    path = folder / "episodes/0.jsonl.xz"
    (folder / "episodes/0.jsonl").unlink()
    path.write_bytes(data)
    found = msgspec.json.decode((folder / "submission.json").read_bytes())
    found["results"][0] |= {"file": path.name, "sha256": reader.file_digest(path), **values}
    (folder / "submission.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"
    )


def huge_dictionary() -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    packer = lzma.LZMACompressor(lzma.FORMAT_XZ, filters=filters)
    return packer.compress(b"{}\n") + packer.flush()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: lzma.compress(b"0" * (1 << 28), preset=1), "bytes that are declared"),
        (lambda data: lzma.compress(b"\n" * (1 << 26), preset=1), "holds more than the 8 episodes declared"),
        (lambda data: lzma.compress(data)[:-20], "cut short"),
        (lambda data: lzma.compress(data) * 2, "goes on after the end of its xz stream"),
        (lambda data: lzma.compress(data, lzma.FORMAT_ALONE), "not an xz file"),
        (lambda data: b"PK\x03\x04" + data, "not an xz file"),
        (lambda data: b"", "cut short"),
    ],
)
def test_bombs_and_broken_archives(honest: Path, change: Callable[[bytes], bytes], words: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = change((honest / "episodes/0.jsonl").read_bytes())
    reseal(honest, data)
    refused(honest, words)
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    )  # KiB; the bomb itself is 256 MiB


def test_a_line_without_end(honest: Path) -> None:
    reseal(honest, lzma.compress(b"0" * (1 << 26), preset=1), size=1 << 26)
    refused(honest, "episodes/0.jsonl.xz:1 is longer than 8,388,608 bytes")


def test_a_dictionary_of_a_gigabyte_is_not_allocated(honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reseal(honest, huge_dictionary())
    refused(honest, "not an xz file that can be read: Memory usage limit exceeded")


def test_card_files(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text('{ "track": "trained",\n "agent": "A", "base_model": "none" }')
    card = reader.read_card(path)
    assert card == Card(agent="A", track="trained", base_model="none")
    assert reader.missing(card) == [
        "about", "authors", "training_data", "training_panels", "hardware", "tokens", "cost", "code", "license",
    ]  # fmt: skip
    path.write_text('{"track": "trained", "agent": "A", "gpu": 1}')
    with pytest.raises(CorruptData, match="unknown field `gpu`"):
        reader.read_card(path)
    with pytest.raises(CorruptData, match="cannot read"):
        reader.read_card(tmp_path / "none.json")


def mutated(data: bytes, generator: random.Random) -> bytes:
    """Some bytes changed, taken out, doubled, or put in the place of others."""
    out = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 5))):
        at = generator.randrange(len(out))
        span = generator.choice((1, 1, 4, 30, 300))
        match generator.randrange(5):
            case 0:
                out[at] = generator.randrange(256)
            case 1:
                del out[at : at + span]
            case 2:
                out[at:at] = out[at : at + span]
            case 3:
                out[at : at + 1] = generator.choice(TOKENS)
            case _:
                start = generator.randrange(len(out))
                out[at : at + span] = out[start : start + span]
        if not out:
            out = bytearray(b"x")
    return bytes(out)


TOKENS = (
    b"null", b"[[[[", b"{}", b"1e999", b"-1", b"NaN", b'"', b"\\u0000", b"\\ud83d", b"\x00", b"\n", b"../",
    b"9" * 400, b'"a":', b"\xff", b"true", b"<script>", "\u202e".encode(),
)  # fmt: skip


def fuzz(folder: Path, count: int) -> str:
    """Verify that many mutations of a submission; the counts and the slowest, in words."""
    generator = random.Random(9)
    manifest, episodes = folder / "submission.json", folder / "episodes/0.jsonl"
    whole = {path: path.read_bytes() for path in (manifest, episodes)}
    passed, slowest = 0, 0.0
    for _ in range(count):
        path = generator.choice((manifest, manifest, episodes))
        data = mutated(whole[path], generator)
        path.write_bytes(data)
        began = time.monotonic()
        report = verify(folder, workers=0, progress=False)
        slowest = max(slowest, time.monotonic() - began)
        assert slowest < 10
        passed += report.ok
        assert report.problems or report.ok
        # What passes differs from the honest one in the card's free texts at most.
        assert not report.ok or path == manifest or data == whole[path]
        path.write_bytes(whole[path])
    assert passed < count / 2
    return f"{count} mutations, {count - passed} refused, {passed} harmless; the slowest took {slowest:.2f} s"


def test_mutated_submissions_are_refused_or_harmless(honest: Path) -> None:
    fuzz(honest, 300)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_mutations_in_a_gigabyte(
    runs: dict[str, Path], tmp_path: Path, panel_folder: Path
) -> None:
    folder = submit([runs["random"]], tmp_path / "s", Card(agent="Ours", track="zero-shot"))
    code = (
        "import resource, sys; from pathlib import Path\n"
        "import lockbox, prosegym.envs as e\n"
        "e.ENVS['prosegym/Lockbox-v1'] = 'lockbox:make'; e.register_envs()\n"
        "from prosegym.envs import panels; panels.FOLDER = Path(sys.argv[2])\n"
        "sys.path.insert(0, sys.argv[3])\n"
        "import test_submission as t\n"
        "print(t.fuzz(Path(sys.argv[1]), 100_000))\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(f'peak memory {peak >> 10} MiB')\n"
        "assert peak < 1 << 20\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root / 'tests'}"}
    subprocess.run(
        [sys.executable, "-c", code, str(folder), str(panel_folder), str(Path(__file__).parent)],
        check=True,
        env=environment,
    )


def test_refused_is_one_line(honest: Path) -> None:
    (honest / "submission.json").write_text("{")
    with pytest.raises(Refused) as caught:
        reader.read(honest)
    assert "\n" not in str(caught.value)
