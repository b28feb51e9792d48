"""Tokens of sentences, and what a text transformer makes of them."""

from __future__ import annotations

import logging

import pytest
import torch

from mask2former_ext.contract import TASKS
from mask2former_ext.layers.text_encoder import TextEncoder, task_tokens, tokenize
from mask2former_ext.models.oneformer import task_of

START, END = 49406, 49407


@pytest.fixture(scope="module")
def vocabulary():
    tokenizer = pytest.importorskip("open_clip.tokenizer", reason="CLIP's vocabulary is in the extra 'oneformer'")
    return tokenizer.SimpleTokenizer()


def an_encoder(width: int = 64) -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(width=width, num_layers=2, context_length=8, vocab_size=100).eval()


@pytest.mark.parametrize("task", TASKS)
def test_the_constant_of_a_task_is_what_the_vocabulary_gives(vocabulary, task):
    assert torch.equal(task_tokens(task, 77), vocabulary([f"The task is {task}"], 77)[0])


@pytest.mark.parametrize("text", ["a photo with a wall", "an instance photo", "a photo with a  Chest-of-drawers, 2nd"])
def test_a_text_has_the_tokens_that_clip_gives_it(vocabulary, text):
    assert torch.equal(tokenize([text], 77)[0], vocabulary([text], 77)[0])


@pytest.mark.parametrize("sentence", ["panoptic", "The task is panoptic", "PANOPTIC, please"])
def test_a_task_is_found_in_any_sentence_and_case(sentence):
    assert task_of(sentence) == "panoptic"


@pytest.mark.parametrize("sentence", ["depth", "", "semantic or instance"])
def test_a_sentence_that_does_not_name_one_task_is_refused(sentence):
    with pytest.raises(ValueError, match="must name one of semantic, instance, panoptic"):
        task_of(sentence)


def test_a_short_length_cuts_words_but_not_the_ends():
    # start, "the task is", end of the five words
    assert task_tokens("semantic", 5).tolist() == [START, 518, 10549, 533, END]


def test_a_text_that_is_too_long_is_cut_and_said_once(vocabulary, caplog):
    text = "a photo with a " + "very " * 20 + "long name"
    with caplog.at_level(logging.WARNING):
        tokens = tokenize([text, text], 10)
        tokenize([text], 10)
    assert tokens[0].tolist() == [START, *vocabulary.encode(text)[:8], END]
    assert [record.message.count("18 tokens too long") for record in caplog.records] == [1]


def test_an_embedding_is_the_sentences_whatever_stands_behind_its_end():
    encoder, sentence = an_encoder(), [98, 5, 7, 99]
    behind = torch.tensor([[*sentence, 0, 0], [*sentence, 3, 4]])
    first, second = encoder(behind)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, encoder(torch.tensor([sentence]))[0])


def test_an_embedding_depends_on_every_word_and_their_order():
    encoder = an_encoder()
    one, other, swapped = encoder(torch.tensor([[98, 5, 7, 99], [98, 6, 7, 99], [98, 7, 5, 99]]))
    assert not torch.allclose(one, other) and not torch.allclose(one, swapped)


def test_a_width_that_has_no_whole_heads_is_refused():
    with pytest.raises(ValueError, match="WIDTH must be a multiple of 64, got 96"):
        an_encoder(width=96)


def test_without_the_package_of_the_vocabulary_its_extra_is_named(monkeypatch):
    from mask2former_ext.layers import text_encoder

    monkeypatch.setitem(__import__("sys").modules, "open_clip.tokenizer", None)
    text_encoder._vocabulary.cache_clear()
    with pytest.raises(ImportError, match=r"pip install -e '.\[oneformer\]'"):
        tokenize(["a sentence that no other test has"], 77)
