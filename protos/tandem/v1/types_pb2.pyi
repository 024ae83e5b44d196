from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_ACCEPT: _ClassVar[Verdict]
    VERDICT_REVIEW: _ClassVar[Verdict]
    VERDICT_REJECT: _ClassVar[Verdict]
VERDICT_UNSPECIFIED: Verdict
VERDICT_ACCEPT: Verdict
VERDICT_REVIEW: Verdict
VERDICT_REJECT: Verdict

class Stage(_message.Message):
    __slots__ = ("name", "ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    ms: float
    def __init__(self, name: _Optional[str] = ..., ms: _Optional[float] = ...) -> None: ...

class Degradation(_message.Message):
    __slots__ = ("stage", "cause")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    stage: str
    cause: str
    def __init__(self, stage: _Optional[str] = ..., cause: _Optional[str] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens", "cost", "cached", "model")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    cost: float
    cached: bool
    model: str
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., cost: _Optional[float] = ..., cached: _Optional[bool] = ..., model: _Optional[str] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("feature", "value", "contribution")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    feature: str
    value: float
    contribution: float
    def __init__(self, feature: _Optional[str] = ..., value: _Optional[float] = ..., contribution: _Optional[float] = ...) -> None: ...

class Proof(_message.Message):
    __slots__ = ("predicate", "args", "rule", "source", "premises", "conditions")
    PREDICATE_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PREMISES_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    predicate: str
    args: _containers.RepeatedScalarFieldContainer[str]
    rule: str
    source: str
    premises: _containers.RepeatedCompositeFieldContainer[Proof]
    conditions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, predicate: _Optional[str] = ..., args: _Optional[_Iterable[str]] = ..., rule: _Optional[str] = ..., source: _Optional[str] = ..., premises: _Optional[_Iterable[_Union[Proof, _Mapping]]] = ..., conditions: _Optional[_Iterable[str]] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("group", "certified", "evidence", "score", "threshold", "precision", "confidence", "units", "accepted", "wrong", "lower_bound", "reason")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CERTIFIED_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    LOWER_BOUND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    group: str
    certified: str
    evidence: str
    score: float
    threshold: float
    precision: float
    confidence: float
    units: int
    accepted: int
    wrong: int
    lower_bound: float
    reason: str
    def __init__(self, group: _Optional[str] = ..., certified: _Optional[str] = ..., evidence: _Optional[str] = ..., score: _Optional[float] = ..., threshold: _Optional[float] = ..., precision: _Optional[float] = ..., confidence: _Optional[float] = ..., units: _Optional[int] = ..., accepted: _Optional[int] = ..., wrong: _Optional[int] = ..., lower_bound: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class Guardrail(_message.Message):
    __slots__ = ("probability", "verdict", "llm_logprob")
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    LLM_LOGPROB_FIELD_NUMBER: _ClassVar[int]
    probability: float
    verdict: Verdict
    llm_logprob: float
    def __init__(self, probability: _Optional[float] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., llm_logprob: _Optional[float] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("item_id", "title", "text", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    title: str
    text: str
    attributes: _containers.ScalarMap[str, str]
    def __init__(self, item_id: _Optional[str] = ..., title: _Optional[str] = ..., text: _Optional[str] = ..., attributes: _Optional[_Mapping[str, str]] = ...) -> None: ...
