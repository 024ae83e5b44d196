"""What a customer is not shown, disguised or not, and the innocent words that hold it."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.workspace import Workspace
from serving.gateway.safety import WordModerator

moderator = WordModerator()


@pytest.mark.parametrize(
    "text",
    [
        *("what the fuck", "SHITTY wine", "you asshole!!!", "bullshit, really", "son of a bitch", "cunts"),
        *(
            "sh1t happens",
            "b!tch",
            "$hit",
            "a55hole",
            "fuuuuuck",
            "f.u.c.k",
            "f u c k",
            "f-u-c-k you",
            "f**k",
            "you f#ck",
        ),
        *("motherf*cker", "fück", "fυck", "fuсk", "f\u200buck", "ｆｕｃｋ", "fu\u00adck", "𝐟𝐮𝐜𝐤"),
        *("merde alors", "Scheiße", "hurensohn", "vaffanculo", "mierda", "foda-se", "kurwa", "сука-блядь", "putain"),
        '{"text": "fuck this"}',
    ],
)
def test_profanity_is_found_however_it_is_written(text: str) -> None:
    assert moderator.unsafe(text) == "profanity"


@pytest.mark.parametrize(
    "text",
    [
        *("nigg3r", "n1gga", "faggots", "k i k e", "raghead", "Untermenschen", "n*gger"),
        *("kill all muslims", "Jews are vermin", "gas the Jews", "death to all immigrants", "Sieg Heil!"),
        *("black people should be lynched", "women are inferior", "the fucking faggots"),
    ],
)
def test_hate_is_found_and_goes_before_profanity(text: str) -> None:
    assert moderator.unsafe(text) == "hate"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Scunthorpe",
            "Penistone",
            "Essex bass",
            "Moby Dick",
            "Dick's Sporting",
            "Arsenal",
            "Titleist",
            "assassin",
            "class",
        ),
        *("cocktail sauce", "peacock", "Hancock", "cock-a-leekie", "shiitake mushrooms", "shitake", "Fat Bastard wine"),
        *(
            "assorted nuts",
            "kaffir lime",
            "Maine Coon kibble",
            "sauerkraut",
            "puttanesca",
            "Spic and Span",
            "bass, ass-orted",
        ),
        *(
            "Cumberland sausage",
            "cumin",
            "Pussy Willow",
            "cono de helado",
            "frijoles negros",
            "batard loaf",
            "analysis",
        ),
        *(
            "Kills 99.9% of germs",
            "black beans are great",
            "white meat",
            "women's vitamins",
            "Mexican food",
            "Christian cards",
        ),
        *("5 x 4 a 55", "f & k", "a b c", "1-2-3", "", "***", "w**k", "12* pack", "b_h", "S M L XL", "vitamin a d e k"),
    ],
)
def test_innocent_words_stay(text: str) -> None:
    assert moderator.unsafe(text) == ""


def test_no_real_product_is_taken_for_an_insult(trained_workspace: Workspace) -> None:
    items = pl.read_parquet(trained_workspace.items)
    texts = {value for column in items.columns for value in items[column].cast(pl.String).drop_nulls().unique()}
    assert len(texts) > 5_000
    assert {text for text in texts if moderator.unsafe(text)} == set()


@given(st.text(max_size=200))
def test_any_text_can_be_judged(text: str) -> None:
    assert moderator.unsafe(text) in ("", "profanity", "hate")
