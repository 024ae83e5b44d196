"""Which attribute each word of a title belongs to, by logistic regression on the words around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from training.tagging.kernels import IntArray
from training.tagging.oamine import AttributeData, Title
from training.tagging.views import Matrix


class WordModel:
    """Probability of each attribute of the category for each word of a title, by logistic regression on the words
    around it. The last column is for words of no attribute."""

    def __init__(self, data: AttributeData, train: IntArray) -> None:
        from sklearn.feature_extraction import DictVectorizer
        from sklearn.linear_model import LogisticRegression

        self._models: dict[str, tuple[Any, Any, int]] = {}
        asked = [data.titles[index] for index in train.tolist()]
        for category in sorted({title.category for title in asked}):
            codes = data.attributes(category)
            titles = [title for title in asked if title.category == category]
            vectorizer = DictVectorizer(dtype=np.float32)
            matrix = vectorizer.fit_transform([word for title in titles for word in _words(title)])
            gold = np.concatenate([_codes(title, codes) for title in titles])
            model = LogisticRegression(C=3.0, max_iter=60, tol=1e-2).fit(matrix, gold)
            self._models[category] = (vectorizer, model, len(codes))

    def predict(self, title: Title) -> Matrix:
        """Probabilities [words, attributes + 1], attributes by name."""
        vectorizer, model, attributes = self._models[title.category]
        found = np.zeros((len(title.tokens), attributes + 1), np.float32)
        found[:, model.classes_] = model.predict_proba(vectorizer.transform(_words(title)))
        return found


def _codes(title: Title, codes: Mapping[str, int]) -> IntArray:
    gold = np.full(len(title.tokens), len(codes), np.int64)
    for attribute, value in title.gold.items():
        for first, last in title.places(value)[:1]:
            gold[first : last + 1] = codes[attribute]
    return gold


def _words(title: Title) -> list[dict[str, float]]:
    texts = [title.text[start:end].lower() for start, end in title.tokens]
    shapes = [shape(title.text[start:end]) for start, end in title.tokens]
    padded = ["<<", "<", *texts, ">", ">>"]
    kinds = ["", "", *shapes, "", ""]
    many = len(texts)
    return [
        {
            f"is {text}": 1.0,
            f"ends {text[-3:]}": 0.5,
            f"begins {text[:3]}": 0.5,
            f"shape {shapes[at]}": 1.0,
            f"after {padded[at + 1]}": 1.0,
            f"before {padded[at + 3]}": 1.0,
            f"after 2 {padded[at]}": 0.5,
            f"before 2 {padded[at + 4]}": 0.5,
            f"shapes {kinds[at + 1]} {shapes[at]} {kinds[at + 3]}": 0.5,
            f"place {min(at, 5)}": 1.0,
            f"fifth {5 * at // many}": 1.0,
        }
        for at, text in enumerate(texts)
    ]


def shape(word: str) -> str:
    if any(letter.isdigit() for letter in word):
        return "digits" if word.isdigit() else "mixed"
    if not word[0].isalpha():
        return word
    return "upper" if word.isupper() else "title" if word[0].isupper() else "lower"
