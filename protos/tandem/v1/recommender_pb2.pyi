from protos.tandem.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Constraints(_message.Message):
    __slots__ = ("avoid", "require", "exclude_items")
    AVOID_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEMS_FIELD_NUMBER: _ClassVar[int]
    avoid: _containers.RepeatedScalarFieldContainer[str]
    require: _containers.RepeatedScalarFieldContainer[str]
    exclude_items: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, avoid: _Optional[_Iterable[str]] = ..., require: _Optional[_Iterable[str]] = ..., exclude_items: _Optional[_Iterable[str]] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("request_id", "deadline_ms", "tenant", "user_id", "profile_text", "k", "constraints", "at", "explain", "new_only", "place")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PROFILE_TEXT_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    NEW_ONLY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    deadline_ms: int
    tenant: str
    user_id: str
    profile_text: str
    k: int
    constraints: Constraints
    at: int
    explain: bool
    new_only: bool
    place: str
    def __init__(self, request_id: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., tenant: _Optional[str] = ..., user_id: _Optional[str] = ..., profile_text: _Optional[str] = ..., k: _Optional[int] = ..., constraints: _Optional[_Union[Constraints, _Mapping]] = ..., at: _Optional[int] = ..., explain: _Optional[bool] = ..., new_only: _Optional[bool] = ..., place: _Optional[str] = ...) -> None: ...

class RecommendedItem(_message.Message):
    __slots__ = ("item_id", "title", "score", "sources", "decided_by", "reasons", "facts", "guardrail", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    GUARDRAIL_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    title: str
    score: float
    sources: _containers.RepeatedScalarFieldContainer[str]
    decided_by: str
    reasons: _containers.RepeatedCompositeFieldContainer[_types_pb2.Reason]
    facts: _containers.RepeatedCompositeFieldContainer[_types_pb2.Proof]
    guardrail: _types_pb2.Guardrail
    attributes: _containers.ScalarMap[str, str]
    def __init__(self, item_id: _Optional[str] = ..., title: _Optional[str] = ..., score: _Optional[float] = ..., sources: _Optional[_Iterable[str]] = ..., decided_by: _Optional[str] = ..., reasons: _Optional[_Iterable[_Union[_types_pb2.Reason, _Mapping]]] = ..., facts: _Optional[_Iterable[_Union[_types_pb2.Proof, _Mapping]]] = ..., guardrail: _Optional[_Union[_types_pb2.Guardrail, _Mapping]] = ..., attributes: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RecommendReply(_message.Message):
    __slots__ = ("request_id", "release", "items", "path", "stages", "degraded", "usage", "facts", "unknown_items", "shortfall", "as_of")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ITEMS_FIELD_NUMBER: _ClassVar[int]
    SHORTFALL_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    release: str
    items: _containers.RepeatedCompositeFieldContainer[RecommendedItem]
    path: str
    stages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Stage]
    degraded: _containers.RepeatedCompositeFieldContainer[_types_pb2.Degradation]
    usage: _types_pb2.Usage
    facts: _containers.RepeatedCompositeFieldContainer[_types_pb2.Proof]
    unknown_items: _containers.RepeatedScalarFieldContainer[str]
    shortfall: str
    as_of: int
    def __init__(self, request_id: _Optional[str] = ..., release: _Optional[str] = ..., items: _Optional[_Iterable[_Union[RecommendedItem, _Mapping]]] = ..., path: _Optional[str] = ..., stages: _Optional[_Iterable[_Union[_types_pb2.Stage, _Mapping]]] = ..., degraded: _Optional[_Iterable[_Union[_types_pb2.Degradation, _Mapping]]] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., facts: _Optional[_Iterable[_Union[_types_pb2.Proof, _Mapping]]] = ..., unknown_items: _Optional[_Iterable[str]] = ..., shortfall: _Optional[str] = ..., as_of: _Optional[int] = ...) -> None: ...

class TagRequest(_message.Message):
    __slots__ = ("request_id", "deadline_ms", "tenant", "item", "max_tags", "vocabulary")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    MAX_TAGS_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    deadline_ms: int
    tenant: str
    item: _types_pb2.Item
    max_tags: int
    vocabulary: str
    def __init__(self, request_id: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., tenant: _Optional[str] = ..., item: _Optional[_Union[_types_pb2.Item, _Mapping]] = ..., max_tags: _Optional[int] = ..., vocabulary: _Optional[str] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("field", "start", "end", "text")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    field: str
    start: int
    end: int
    text: str
    def __init__(self, field: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class Tag(_message.Message):
    __slots__ = ("tag", "probability", "verdict", "sources", "evidence", "facts", "reasons", "llm_logprob", "decided_by", "certificate")
    TAG_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    LLM_LOGPROB_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    tag: str
    probability: float
    verdict: _types_pb2.Verdict
    sources: _containers.RepeatedScalarFieldContainer[str]
    evidence: Evidence
    facts: _containers.RepeatedCompositeFieldContainer[_types_pb2.Proof]
    reasons: _containers.RepeatedCompositeFieldContainer[_types_pb2.Reason]
    llm_logprob: float
    decided_by: str
    certificate: _types_pb2.Certificate
    def __init__(self, tag: _Optional[str] = ..., probability: _Optional[float] = ..., verdict: _Optional[_Union[_types_pb2.Verdict, str]] = ..., sources: _Optional[_Iterable[str]] = ..., evidence: _Optional[_Union[Evidence, _Mapping]] = ..., facts: _Optional[_Iterable[_Union[_types_pb2.Proof, _Mapping]]] = ..., reasons: _Optional[_Iterable[_Union[_types_pb2.Reason, _Mapping]]] = ..., llm_logprob: _Optional[float] = ..., decided_by: _Optional[str] = ..., certificate: _Optional[_Union[_types_pb2.Certificate, _Mapping]] = ...) -> None: ...

class AttributeValue(_message.Message):
    __slots__ = ("attribute", "value", "number", "unit", "probability", "verdict", "sources", "evidence", "certificate", "llm_logprob")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    LLM_LOGPROB_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    value: str
    number: float
    unit: str
    probability: float
    verdict: _types_pb2.Verdict
    sources: _containers.RepeatedScalarFieldContainer[str]
    evidence: Evidence
    certificate: _types_pb2.Certificate
    llm_logprob: float
    def __init__(self, attribute: _Optional[str] = ..., value: _Optional[str] = ..., number: _Optional[float] = ..., unit: _Optional[str] = ..., probability: _Optional[float] = ..., verdict: _Optional[_Union[_types_pb2.Verdict, str]] = ..., sources: _Optional[_Iterable[str]] = ..., evidence: _Optional[_Union[Evidence, _Mapping]] = ..., certificate: _Optional[_Union[_types_pb2.Certificate, _Mapping]] = ..., llm_logprob: _Optional[float] = ...) -> None: ...

class TagReply(_message.Message):
    __slots__ = ("request_id", "release", "tags", "abstained", "stages", "degraded", "usage", "attributes")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ABSTAINED_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    release: str
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    abstained: bool
    stages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Stage]
    degraded: _containers.RepeatedCompositeFieldContainer[_types_pb2.Degradation]
    usage: _types_pb2.Usage
    attributes: _containers.RepeatedCompositeFieldContainer[AttributeValue]
    def __init__(self, request_id: _Optional[str] = ..., release: _Optional[str] = ..., tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ..., abstained: _Optional[bool] = ..., stages: _Optional[_Iterable[_Union[_types_pb2.Stage, _Mapping]]] = ..., degraded: _Optional[_Iterable[_Union[_types_pb2.Degradation, _Mapping]]] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., attributes: _Optional[_Iterable[_Union[AttributeValue, _Mapping]]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("event_id", "user_id", "item_id", "kind", "value", "timestamp", "session_id", "place", "price")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    user_id: str
    item_id: str
    kind: str
    value: float
    timestamp: int
    session_id: str
    place: str
    price: float
    def __init__(self, event_id: _Optional[str] = ..., user_id: _Optional[str] = ..., item_id: _Optional[str] = ..., kind: _Optional[str] = ..., value: _Optional[float] = ..., timestamp: _Optional[int] = ..., session_id: _Optional[str] = ..., place: _Optional[str] = ..., price: _Optional[float] = ...) -> None: ...

class RecordEventsRequest(_message.Message):
    __slots__ = ("request_id", "events")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, request_id: _Optional[str] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class RecordEventsReply(_message.Message):
    __slots__ = ("request_id", "recorded", "duplicates", "unknown_items", "degraded")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ITEMS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    recorded: int
    duplicates: int
    unknown_items: _containers.RepeatedScalarFieldContainer[str]
    degraded: _containers.RepeatedCompositeFieldContainer[_types_pb2.Degradation]
    def __init__(self, request_id: _Optional[str] = ..., recorded: _Optional[int] = ..., duplicates: _Optional[int] = ..., unknown_items: _Optional[_Iterable[str]] = ..., degraded: _Optional[_Iterable[_Union[_types_pb2.Degradation, _Mapping]]] = ...) -> None: ...

class UpsertItemsRequest(_message.Message):
    __slots__ = ("request_id", "items")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    items: _containers.RepeatedCompositeFieldContainer[_types_pb2.Item]
    def __init__(self, request_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[_types_pb2.Item, _Mapping]]] = ...) -> None: ...

class RejectedItem(_message.Message):
    __slots__ = ("item_id", "reason")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    reason: str
    def __init__(self, item_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class UpsertItemsReply(_message.Message):
    __slots__ = ("request_id", "recorded", "updated", "unchanged", "rejected", "unknown_attributes")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    recorded: int
    updated: int
    unchanged: int
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedItem]
    unknown_attributes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., recorded: _Optional[int] = ..., updated: _Optional[int] = ..., unchanged: _Optional[int] = ..., rejected: _Optional[_Iterable[_Union[RejectedItem, _Mapping]]] = ..., unknown_attributes: _Optional[_Iterable[str]] = ...) -> None: ...
