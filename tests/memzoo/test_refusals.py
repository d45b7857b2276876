"""Wrong calls give one line each and leave no files."""

import shlex

import pytest

LAYER = "--model.pattern.0.layers.0"

REFUSED = [
    ("train", 2, "train needs a CONFIG as its first argument; "),
    ("describe --json", 2, "describe needs a CONFIG as its first argument; "),
    ("eval", 2, "eval needs a RUN as its first argument; "),
    ("generate --tokens 3", 2, "generate needs a RUN as its first argument; "),
    ("train ''", 2, "train needs a CONFIG as its first argument; "),
    ("train ' ' --steps 1", 2, "train needs a CONFIG as its first argument; "),
    ("describe ''", 2, "describe needs a CONFIG as its first argument; "),
    ("eval ''", 2, "eval needs a RUN as its first argument; "),
    ("generate ''", 2, "generate needs a RUN as its first argument; "),
    ("check ''", 2, "check takes one Python file, which defines layer configs; "),
    ("list ''", 2, "'' does not belong to an option; `memzoo list --help` lists"),
    ("train mqar-attention ''", 2, "'' does not belong to an option; `memzoo train mq"),
    ("train mqar-attention --runs ''", 2, "--runs is empty; give a path, or "),
    ("train mqar-attention --name ''", 2, "name is empty; give a plain folder name, "),
    ("train mqar-attention --name .", 2, "name is '.'; give a plain folder name, su"),
    ("train mqar-attention --name a/b", 2, "name is 'a/b'; give a plain folder nam"),
    ("eval x --load-state ''", 2, "--load-state is empty; give a path, or "),
    ("eval x --stream --save-state ''", 2, "--save-state is empty; give a path, or "),
    ("eval x --stream ''", 2, "stream is ('',), and a name in it is empty; name fil"),
    ("eval x --stream a ' '", 2, "stream is ('a', ' '), and a name in it is empty; "),
    ("eval x --lengths 16,,32", 2, "--lengths is '16,,32', and one of its items is "),
    ("generate x --load-state ''", 2, "--load-state is empty; give a path, or "),
    ("recall --output ''", 2, "--output is empty; give a path, or "),
    ("recall --name ''", 2, "name is empty; give a plain folder name, such as my-ru"),
    ("recall --name .", 2, "name is '.'; give a plain folder name, such as my-run"),
    ("recall --layers attention,,delta_net", 2, "--layers is 'attention,,delta_net', "),
    ("recall --seeds 1,,2", 2, "--seeds is '1,,2', and one of its items is empty; wr"),
    ("recall --ablate ' '", 2, "ablate is ' '; no ablation; known: "),
    ("demo --output ''", 2, "--output is empty; give a path, or "),
    ("demo --name ''", 2, "name is empty; give a plain folder name, such as my-run"),
    ("demo --name a/b", 2, "name is 'a/b'; give a plain folder name, such as my-run"),
    ("bench --peers ''", 2, "--peers is empty; give a path, or "),
    ("bench --markdown ''", 2, "--markdown is empty; give a path, or "),
    ("bench --python '' --prepare", 2, "--python is empty; give a path, or "),
    ("bench --rows ''", 2, "rows is an empty list; give at least one item, or l"),
    ("check", 2, "check takes one Python file, which defines layer configs; "),
    ("check a.py b.py", 2, "check takes one Python file"),
    ("check no.py", 2, "no.py is not a Python file; give one that exists"),
    (
        "train mqar-atention",
        2,
        "'mqar-atention' is not a preset, Python file, run or c",
    ),
    ("train no.py", 2, "no.py is not a Python file; give one that exists"),
    ("train no.json", 2, "no.json does not exist; give a run's folder or its config"),
    ("train .", 2, "config.json does not exist; give a run's folder or its config.j"),
    ("train mqar-attention --stepz 3", 2, "unknown option --stepz; did you mean --st"),
    (
        "train mqar-attention --steps abc",
        2,
        "--steps is 'abc'; it must be a whole numb",
    ),
    ("train mqar-attention --steps 0", 2, "steps is 0; give a whole number, 1 or more"),
    ("train mqar-attention --seed 4294967296", 2, "seed is 4294967296; give a number"),
    (
        f"train mqar-attention {LAYER}.num-heads 7",
        2,
        "num_heads 7 does not divide width 64; choose a divisor or set head_size",
    ),
    (f"describe mqar-attention {LAYER}.num-heads 7", 2, "num_heads 7 does not divide"),
    ("train mqar-attention --model.width 65", 2, "head_size is 65, which is odd; make"),
    ("train mqar-attention --task.num-pairs 99", 2, "task: num_pairs is 99; with num_"),
    (
        "train mqar-attention --mesh.tensor 99",
        2,
        "mesh.fsdp 1 x mesh.tensor 99 = 99 do",
    ),
    ("train mqar-attention --devices 0", 2, "--devices is 0; give 1 or more"),
    ("train mqar-attention --devices 3", 2, "--devices comes too late, since this pro"),
    ("recall --layers nothing", 2, "layer 'nothing' is not known; known: armt, "),
    ("list more", 2, "'more' does not belong to an option; `memzoo list --help` li"),
    (f"train {'n' * 300}", 2, f"{'n' * 300}: File name too long; give another path"),
    (f"eval {'n' * 300}", 2, f"{'n' * 300}: File name too long; give another path"),
    (f"check {'n' * 300}.py", 2, f"{'n' * 300}.py: File name too long; give another"),
    ("train mqar-attention --name ../x", 2, "name is '../x'; give a plain folder na"),
    (
        "describe mqar-attention --model.width 99999999",
        2,
        "model: width is 99999999; give 16777216 or less",
    ),
    ("eval nowhere", 4, "nowhere is not a run: "),
    ("generate nowhere", 4, "nowhere is not a run: "),
]


@pytest.mark.parametrize(("words", "code", "line"), REFUSED, ids=lambda _: "")
def test_refusals(call, tmp_path, monkeypatch, words, code, line):
    monkeypatch.chdir(tmp_path)
    found, out, err = call(*shlex.split(words))
    assert err.startswith(f"memzoo: {line}"), err
    assert err.count("\n") == 1 and out == ""
    assert found == code
    assert list(tmp_path.iterdir()) == []
