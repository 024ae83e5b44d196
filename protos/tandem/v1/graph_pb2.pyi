from protos.tandem.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FactKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FACT_KIND_UNSPECIFIED: _ClassVar[FactKind]
    FACT_KIND_ASSERTED: _ClassVar[FactKind]
    FACT_KIND_DERIVED: _ClassVar[FactKind]
    FACT_KIND_PREDICTED: _ClassVar[FactKind]
FACT_KIND_UNSPECIFIED: FactKind
FACT_KIND_ASSERTED: FactKind
FACT_KIND_DERIVED: FactKind
FACT_KIND_PREDICTED: FactKind

class Fact(_message.Message):
    __slots__ = ("predicate", "args")
    PREDICATE_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    predicate: str
    args: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, predicate: _Optional[str] = ..., args: _Optional[_Iterable[str]] = ...) -> None: ...

class QueryRequest(_message.Message):
    __slots__ = ("request_id", "deadline_ms", "tenant", "pattern", "page_size", "page_token", "literals")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LITERALS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    deadline_ms: int
    tenant: str
    pattern: Fact
    page_size: int
    page_token: str
    literals: str
    def __init__(self, request_id: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., tenant: _Optional[str] = ..., pattern: _Optional[_Union[Fact, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., literals: _Optional[str] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class QueryReply(_message.Message):
    __slots__ = ("request_id", "release", "facts", "next_page_token", "stages", "variables", "answers")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    release: str
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    next_page_token: str
    stages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Stage]
    variables: _containers.RepeatedScalarFieldContainer[str]
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    def __init__(self, request_id: _Optional[str] = ..., release: _Optional[str] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., stages: _Optional[_Iterable[_Union[_types_pb2.Stage, _Mapping]]] = ..., variables: _Optional[_Iterable[str]] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("request_id", "deadline_ms", "tenant", "fact")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    FACT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    deadline_ms: int
    tenant: str
    fact: Fact
    def __init__(self, request_id: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., tenant: _Optional[str] = ..., fact: _Optional[_Union[Fact, _Mapping]] = ...) -> None: ...

class ProofStep(_message.Message):
    __slots__ = ("fact", "kind", "rule", "source", "probability", "premises", "absent", "aggregates")
    FACT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    PREMISES_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    AGGREGATES_FIELD_NUMBER: _ClassVar[int]
    fact: Fact
    kind: FactKind
    rule: str
    source: str
    probability: float
    premises: _containers.RepeatedScalarFieldContainer[int]
    absent: _containers.RepeatedCompositeFieldContainer[Fact]
    aggregates: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, fact: _Optional[_Union[Fact, _Mapping]] = ..., kind: _Optional[_Union[FactKind, str]] = ..., rule: _Optional[str] = ..., source: _Optional[str] = ..., probability: _Optional[float] = ..., premises: _Optional[_Iterable[int]] = ..., absent: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., aggregates: _Optional[_Iterable[str]] = ...) -> None: ...

class ExplainReply(_message.Message):
    __slots__ = ("request_id", "release", "steps", "stages")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    release: str
    steps: _containers.RepeatedCompositeFieldContainer[ProofStep]
    stages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Stage]
    def __init__(self, request_id: _Optional[str] = ..., release: _Optional[str] = ..., steps: _Optional[_Iterable[_Union[ProofStep, _Mapping]]] = ..., stages: _Optional[_Iterable[_Union[_types_pb2.Stage, _Mapping]]] = ...) -> None: ...

class Assertion(_message.Message):
    __slots__ = ("fact", "probability")
    FACT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    fact: Fact
    probability: float
    def __init__(self, fact: _Optional[_Union[Fact, _Mapping]] = ..., probability: _Optional[float] = ...) -> None: ...

class AssertRequest(_message.Message):
    __slots__ = ("request_id", "tenant", "facts", "source")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    tenant: str
    facts: _containers.RepeatedCompositeFieldContainer[Assertion]
    source: str
    def __init__(self, request_id: _Optional[str] = ..., tenant: _Optional[str] = ..., facts: _Optional[_Iterable[_Union[Assertion, _Mapping]]] = ..., source: _Optional[str] = ...) -> None: ...

class AssertReply(_message.Message):
    __slots__ = ("request_id", "recorded", "unchanged")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    recorded: int
    unchanged: int
    def __init__(self, request_id: _Optional[str] = ..., recorded: _Optional[int] = ..., unchanged: _Optional[int] = ...) -> None: ...

class RetractRequest(_message.Message):
    __slots__ = ("request_id", "tenant", "facts", "source")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    tenant: str
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    source: str
    def __init__(self, request_id: _Optional[str] = ..., tenant: _Optional[str] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., source: _Optional[str] = ...) -> None: ...

class RetractReply(_message.Message):
    __slots__ = ("request_id", "retracted", "unknown")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RETRACTED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    retracted: int
    unknown: _containers.RepeatedCompositeFieldContainer[Fact]
    def __init__(self, request_id: _Optional[str] = ..., retracted: _Optional[int] = ..., unknown: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ...) -> None: ...
