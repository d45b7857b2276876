"""Tokens from a model, one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.configs.experiment import ExperimentConfig
from memzoo.data.text import TextConfig
from memzoo.errors import MemzooError, NonFiniteError
from memzoo.evals.state_file import save_state
from memzoo.evals.stream import begin, stream
from memzoo.generate import (
    BEGIN,
    GenerateOptions,
    _text,
    _text_prompt,
    generate,
    generate_command,
)
from memzoo.models.attention import AttentionConfig
from memzoo.models.block import Group
from memzoo.models.interface import SequenceInfo
from memzoo.models.language_model import LanguageModelConfig
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.models.prefix_linear_attention import PrefixLinearAttentionConfig
from memzoo.train import runs
from memzoo.train.runs import LoadedRun

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.fixture(scope="module")
def model():
    layers = (LinearAttentionConfig(num_heads=2), AttentionConfig(num_heads=2))
    config = LanguageModelConfig(
        vocab_size=32, width=16, pattern=(Group(layers=layers),), mlp_width=16
    )
    return config.build(nnx.Rngs(3))


def made(model, prompt=PROMPT, **options):
    return list(generate(model, prompt, **{"tokens": 6, "temperature": 0.0} | options))


def test_temperature_zero_is_greedy_decoding(model):
    """Each token is the most probable one of a forward pass over earlier tokens."""
    found = made(model)
    tokens = jnp.asarray([PROMPT + found], jnp.int32)
    read = nnx.jit(lambda m: m(tokens, m.init_state(1, tokens.shape[1]))[0])
    best = jnp.argmax(read(model)[0], axis=-1).tolist()
    assert found == best[len(PROMPT) - 1 : -1] == made(model, seed=7)


def test_a_prompt_can_be_a_prefix():
    """Each token is the most probable one after a prompt that is read as a prefix."""
    layers = (
        PrefixLinearAttentionConfig(num_heads=2, feature_size=3),
        AttentionConfig(num_heads=2),
    )
    model = LanguageModelConfig(
        vocab_size=32, width=16, pattern=(Group(layers=layers),), mlp_width=16
    ).build(nnx.Rngs(3))
    found = made(model, prefix=True)
    tokens = jnp.asarray([PROMPT + found], jnp.int32)
    prefix = jnp.arange(tokens.shape[1])[None] < len(PROMPT)

    @nnx.jit
    def read(m):
        state = m.init_state(1, tokens.shape[1])
        return m(tokens, state, SequenceInfo(prefix=prefix))[0]

    best = jnp.argmax(read(model)[0], axis=-1).tolist()
    assert found == best[len(PROMPT) - 1 : -1]


def test_a_prefix_needs_a_layer_that_accepts_it(model):
    with pytest.raises(MemzooError, match="no layer of the model accepts a prefix"):
        # The error comes before the first token is requested.
        generate(model, PROMPT, tokens=6, temperature=0.0, prefix=True)


def test_tokens_come_one_by_one(model):
    stream = generate(model, PROMPT, tokens=6, temperature=1.0)
    first = [next(stream) for _ in range(3)]
    assert first == made(model, temperature=1.0)[:3]
    # Other options do not change a draw.
    assert first == made(model, temperature=1.0, tokens=3)


def test_draws_follow_the_seed(model):
    drawn = [made(model, temperature=1.0, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert made(model, temperature=5.0, top_k=1) == made(model)


def test_padding_of_the_vocabulary_is_never_drawn(model):
    drawn = made(model, temperature=50.0, tokens=6, vocab_size=10)
    assert max(drawn) < 10 <= max(made(model, temperature=50.0, tokens=6))


@pytest.mark.parametrize("token", [-1, 32])
def test_tokens_outside_the_vocabulary_are_refused(model, token):
    with pytest.raises(
        MemzooError, match=f"token {token} of the prompt is not in .* of 32; give"
    ):
        made(model, [1, token])
    with pytest.raises(MemzooError, match=r"not in the vocabulary of 8; .* 0 to 7"):
        made(model, [8], vocab_size=8)


def test_an_empty_prompt_is_refused(model):
    with pytest.raises(MemzooError, match="the prompt is empty; give at least one"):
        made(model, [])


def test_attention_refuses_to_overflow(model):
    state = model.init_state(1, 4)
    model.check_capacity(state, 4)
    with pytest.raises(ValueError, match=r"5 .*4|4 .*5"):
        model.check_capacity(state, 5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokens", 0),
        ("tokens", 10**9 + 1),
        ("temperature", -0.5),
        ("temperature", float("inf")),
        ("temperature", float("nan")),
        ("top_k", 0),
        ("seed", -1),
        ("seed", 2**32),
        ("checkpoint", -1),
    ],
)
def test_options_that_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"^{field} is {value}; give "):
        GenerateOptions(**{field: value})


@pytest.mark.parametrize("options", [{"temperature": -1.0}, {"top_k": 0}])
def test_draws_that_are_refused(model, options):
    with pytest.raises(ValueError, match=r"^\w+ is .*; give "):
        # The error comes before the first token is requested.
        generate(model, PROMPT, **{"tokens": 6, "temperature": 1.0} | options)


def test_tiny_temperatures_are_greedy_decoding(model):
    assert made(model, temperature=1e-39) == made(model)


def test_text_is_decoded_character_by_character():
    said = "é€🙂 end"
    pieces = list(_text(iter([*said.encode(), BEGIN, 65])))
    assert "".join(pieces) == said
    assert set(said) <= set(pieces)  # each as soon as it is complete


def test_bytes_that_are_no_text_are_marked_and_no_more():
    stream = [0xFF, *b"ab", *"€".encode()[:2], *b"c", 0xE2]
    assert "".join(_text(iter(stream))) == "�ab�c�"


def test_a_prompt_is_bytes_behind_a_beginning():
    assert _text_prompt("é") == [BEGIN, 0xC3, 0xA9]
    assert _text_prompt("") == [BEGIN]
    assert _text_prompt("\udcff") == [BEGIN, 0xFF]  # an argument that is not UTF-8


def test_a_document_that_was_read_goes_on(model):
    """A prompt after a carried state equals the whole prompt, read at once."""
    carried = begin(model, PROMPT[0], 20)
    carried = stream(model, [np.array(PROMPT[1:5])], carried, piece=3).carried
    found = made(model, PROMPT[4:], carried=carried)
    assert found == made(model)
    with pytest.raises(MemzooError, match="24 tokens do not fit, it has room for 20"):
        made(model, PROMPT[4:], carried=carried, tokens=16)


def diverged(model, prompt):
    """Return a document whose memory is no longer finite."""
    carried = begin(model, prompt[0], 20)
    state = jax.tree.map(
        lambda a: a * jnp.nan if a.dtype == jnp.float32 else a, carried.state
    )
    return carried._replace(state=state)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_scores_that_are_not_finite_end_it(model, temperature):
    options = {"temperature": temperature, "top_k": 3}
    with pytest.raises(NonFiniteError, match="scores of token 1 are not finite") as end:
        made(model, carried=diverged(model, PROMPT), **options)
    assert end.value.exit_code == 3


def test_text_goes_on_from_a_file(monkeypatch, tmp_path, capsys):
    layer = LinearAttentionConfig(num_heads=1)
    config = ExperimentConfig(
        name="a-run",
        model=LanguageModelConfig(
            vocab_size=257, width=8, pattern=(Group(layers=(layer,)),)
        ),
        task=TextConfig(length=16),
    )
    text = config.model.build(nnx.Rngs(0))
    loaded = LoadedRun(config, text, 1)
    monkeypatch.setattr(runs, "load_run", lambda *a, **k: loaded)
    start = begin(text, BEGIN, 16)
    tokens = np.frombuffer(b"def f(", np.uint8)
    save_state(tmp_path / "s", stream(text, [tokens], start, piece=8).carried)
    said = []
    for prompt, state in (("def f(x", None), ("x", tmp_path / "s")):
        options = GenerateOptions(
            prompt=prompt, tokens=5, temperature=0.0, load_state=state
        )
        assert generate_command(tmp_path, options) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == "def f(" + said[1]
    # Output before an error stays on a separate line.
    found = (diverged(text, [BEGIN]), {})
    monkeypatch.setattr("memzoo.generate.load_state", lambda *_: found)
    with pytest.raises(NonFiniteError, match="scores of token 1 are not finite"):
        generate_command(tmp_path, options)
    assert capsys.readouterr() == ("x\n", "")
    with pytest.raises(ValueError, match="prefix is yes; a prefix begins a document"):
        GenerateOptions(load_state=tmp_path / "s", prefix="yes")
