"""Every source file has its test file."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOPS = ("memzoo", "models", "train", "data", "configs", "evals", "benchmarks")
# Run by another interpreter; what they answer is tested through the runner.
ELSEWHERE: set[str] = set()


def test_every_source_file_has_its_test():
    missing = [
        str(path.relative_to(ROOT))
        for top in TOPS
        for path in (ROOT / top).rglob("*.py")
        if path.name != "__init__.py"
        and str(path.relative_to(ROOT)) not in ELSEWHERE
        and not _twin(path).exists()
    ]
    assert not missing, f"no test file for {missing}"


def _twin(path: Path) -> Path:
    relative = path.relative_to(ROOT)
    name = f"{relative.stem.strip('_')}.py"
    return ROOT / "tests" / relative.parent / f"test_{name}"


def test_files_are_short():
    long = {
        str(path.relative_to(ROOT)): lines
        for top in (*TOPS, "tests")
        for path in (ROOT / top).rglob("*.py")
        for lines in [len(path.read_text().splitlines())]
        if lines > 400
    }
    assert not long
