"""CONFIG: presets, Python files, config.json and folders of runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from memzoo.configs.presets import PRESETS
from memzoo.configs.resolve import read_config_json, resolve
from memzoo.configs.serialise import to_json
from memzoo.data.task import SPLITS
from memzoo.errors import MemzooError

PRESET = PRESETS["mqar-attention"]()
GOOD = """
import dataclasses
from memzoo.configs.presets import PRESETS
config = dataclasses.replace(PRESETS["mqar-attention"](), name="mine", steps=7)
"""


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content)
        return path

    return write


def record(**fields):
    return json.dumps(
        {"schema": 1, "status": "done", "config": to_json(PRESET)} | fields
    )


def refusal(path, exit_code=2):
    with pytest.raises(MemzooError) as caught:
        resolve(str(path))
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.exit_code == exit_code
    return line


def test_a_preset_by_name():
    assert resolve("mqar-attention") == PRESET


def test_a_name_that_is_nothing():
    line = refusal("mqar-atention")
    assert line.startswith(
        "'mqar-atention' is not a preset, Python file, run or config.js"
    )
    assert "did you mean mqar-attention" in line
    assert "known: ballet-gated-delta-net, " in refusal("zzz")


def test_a_run_and_its_config_json(write, tmp_path):
    path = write("config.json", record())
    assert resolve(str(path)) == resolve(str(tmp_path)) == PRESET
    assert read_config_json(path) == PRESET


def test_a_python_file(write):
    assert resolve(str(write("mine.py", GOOD))).name == "mine"
    assert resolve(str(write("mine.py", "never read again"))).steps == 7


def test_a_python_file_with_a_function(write):
    body = GOOD.replace("config = ", "made = ") + "def config():\n    return made\n"
    assert resolve(str(write("made.py", body))).name == "mine"


def test_missing_files(tmp_path):
    assert refusal(tmp_path / "no.py") == (
        f"{tmp_path}/no.py is not a Python file; give one that exists"
    )
    assert refusal(tmp_path / "no.json") == (
        f"{tmp_path}/no.json does not exist; give a run's folder or its config.json"
    )
    assert refusal(tmp_path).startswith(f"{tmp_path}/config.json does not exist")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "import nosuchmodule",
            ", line 1, cannot be imported: ModuleNotFoundError: No mod",
        ),
        (
            "\n\n1 / 0",
            ", line 3, cannot be imported: ZeroDivisionError: division by zero",
        ),
        ("def (", " cannot be imported: SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", ", line 1, cannot be imported: SystemExit: 3"),
        (
            "raise ValueError('two\\nlines')",
            "cannot be imported: ValueError: two lines",
        ),
        ("other = 3", " has no ExperimentConfig called `config`; add one:"),
        ("config = {}", " has no ExperimentConfig called `config`; add one:"),
        ("def config(): return 3", " has no ExperimentConfig called `config`; add"),
        (
            "def config(a): pass",
            " config() fails: TypeError: config() missing 1 requir",
        ),
        ("import sys\nconfig = sys.exit", " config() fails: SystemExit: "),
        (
            "from memzoo.configs.experiment import OptimizerConfig\n"
            "config = lambda: OptimizerConfig(beta1=3.0)",
            "line 2, config() fails: InputError: beta1 is 3.0; give a number",
        ),
    ],
)
def test_python_files_that_are_no_experiment(write, body, message):
    path = write("wrong.py", body)
    line = refusal(path)
    assert line.startswith(str(path)) and message in line
    assert "wrong" not in sys.modules or "import" not in message


def test_a_name_that_is_taken(write):
    line = refusal(write("json.py", GOOD))
    assert "would hide the module 'json', which is already loaded; rename" in line


def test_modules_are_found_beside_the_file(write):
    write("beside_it.py", "steps = 11")
    body = GOOD.replace("steps=7", "steps=beside_it.steps")
    assert resolve(str(write("uses.py", "import beside_it\n" + body))).steps == 11


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", " is not JSON (Expecting value: line 1 column 1 (char 0)); restore it"),
        (record()[:100], " is not JSON (Unterminated string"),
        ("[" * 100_000, " is not JSON ("),
        ("3", " is not a JSON object; give a run's config.json"),
        ("[]", " is not a JSON object; give a run's config.json"),
        (record(schema=2), " has schema 2 and this memzoo reads 1; use the version"),
        ("{}", " has schema None and this memzoo reads 1"),
        ('{"schema": 1}', " lacks the field 'config'; give a run's config.json"),
        (record(checksum="00"), " has changed since memzoo wrote it: its config does"),
        (record(config=[]), ": config is []; it must be an object"),
        (record(config={"name": "x"}), ": config lacks the field 'model'; add it"),
    ],
    ids=lambda _: "",
)
def test_damaged_config_json(write, content, message):
    path = write("config.json", content)
    line = refusal(path)
    assert line.startswith(str(path) + message)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe\x00{")
    assert refusal(path).startswith(f"{path} is not JSON ('utf-8' codec can't decode")


def test_a_file_that_may_not_be_read(write, monkeypatch):
    path = write("config.json", record())

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_text", denied)
    assert refusal(path, exit_code=1) == (
        f"cannot read {path}: Permission denied; fix its permissions"
    )


def test_a_folder_for_a_config(tmp_path):
    path = tmp_path / "config.json"
    path.mkdir()
    said = refusal(path / "..")
    assert said.endswith(
        "config.json is not a file (Is a directory); give a run's config.json"
    )


def test_a_class_outside_needs_trust(write, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write("own_task.py", "raise SystemExit(0)")
    content = json.loads(record())
    content["config"]["task"]["type"] = "own_task:Task"
    path = write("config.json", json.dumps(content))
    line = refusal(path)
    assert line.startswith(f"{path}: config.task is of type own_task:Task, which is ")
    assert "add --trust if you trust that code" in line
    # With trust it is imported; the current folder is searched last.
    with pytest.raises(MemzooError, match=r"cannot be imported \(SystemExit: 0\)"):
        resolve(str(path), trust=True)
    assert sys.path[-1] == ""


CONFIG = """
from memzoo.configs.experiment import ExperimentConfig
from memzoo.data import FolderConfig, MqarConfig
from memzoo.models import AttentionConfig, MixtureOfMemoriesConfig
from memzoo.models.block import Group
from memzoo.models.language_model import LanguageModelConfig

def made(layer=AttentionConfig(), task=MqarConfig(), model={{}}, **fields):
    group = Group(layers=(layer,))
    sizes = dict(vocab_size=1024, width=16, pattern=(group,)) | model
    given = dict(name="x", model=LanguageModelConfig(**sizes), task=task) | fields
    return ExperimentConfig(**given)

config = {}
"""
WRONG = {
    "made(optimizer=None)": "optimizer is None; it must be OptimizerConfig",
    "made(model=dict(width=64.0))": "width is 64.0; give a whole number",
    "made(model=dict(width='64'))": "width is '64'; give a whole number",
    "made(model=dict(pattern=('attention',)))": "pattern.0 is 'attention'; it must",
    "made(layer=AttentionConfig)": "pattern.layers[0] is <class 'memzoo.models.attent",
    "made(layer=AttentionConfig(num_heads='2'))": "num_heads is '2'; it must be int",
    "made(layer=MixtureOfMemoriesConfig(memory=3))": "memory is 3; it must be the conf",
    "made(task=MqarConfig(num_pairs=[1, 8]))": "MqarConfig.num_pairs is [1, 8]; it m",
    "made(task=MqarConfig(power='x'))": "MqarConfig.power is 'x'; it must be float",
    "made(task=MqarConfig())(3)": "TypeError: 'ExperimentConfig' object is not callab",
    "made(task=None)": "task is None; it must be the config of a task",
    "lambda: made(mesh=3)": "config() fails: InputError: mesh is 3; it must be MeshCo",
    "lambda: made(task=MqarConfig(length='x'))": "MqarConfig.length is 'x'; it must b",
}


def test_values_of_the_wrong_type_are_named(tmp_path):
    """Runs in a new process: in tests every constructor checks its arguments."""
    for number, body in enumerate(WRONG):
        (tmp_path / f"wrong{number}.py").write_text(CONFIG.format(body))
    program = (
        "from memzoo.errors import MemzooError\n"
        "from memzoo.configs.resolve import resolve\n"
        f"for number in range({len(WRONG)}):\n"
        "    try:\n"
        "        print('accepted', resolve(f'wrong{number}.py'))\n"
        "    except MemzooError as error:\n"
        "        print(error)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(WRONG)
    for number, (line, message) in enumerate(zip(lines, WRONG.values(), strict=True)):
        assert line.startswith(f"wrong{number}.py, line ") and message in line


@pytest.mark.parametrize("name", ["my_text", "my_dataset"])
def test_the_examples_of_ones_own_text_resolve(name, monkeypatch):
    root = Path(__file__).parent.parent.parent
    monkeypatch.chdir(root)
    config = resolve(f"docs/examples/{name}.py")
    page = (root / "docs" / "your-own-text.md").read_text()
    assert f"memzoo train docs/examples/{name}.py" in page
    if name == "my_text":
        for split in SPLITS:
            assert len(config.task.build(split)) > 0
