from protos.tandem.v1 import recommender_pb2 as _recommender_pb2
from protos.tandem.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CaseKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CASE_KIND_UNSPECIFIED: _ClassVar[CaseKind]
    CASE_KIND_REVIEW: _ClassVar[CaseKind]
    CASE_KIND_AUDIT: _ClassVar[CaseKind]

class CaseState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CASE_STATE_UNSPECIFIED: _ClassVar[CaseState]
    CASE_STATE_OPEN: _ClassVar[CaseState]
    CASE_STATE_CLAIMED: _ClassVar[CaseState]
    CASE_STATE_RESOLVED: _ClassVar[CaseState]

class Saying(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAYING_UNSPECIFIED: _ClassVar[Saying]
    SAYING_ACCEPT: _ClassVar[Saying]
    SAYING_CORRECT: _ClassVar[Saying]
    SAYING_REJECT: _ClassVar[Saying]

class CaseOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CASE_ORDER_UNCERTAIN: _ClassVar[CaseOrder]
    CASE_ORDER_OLDEST: _ClassVar[CaseOrder]
CASE_KIND_UNSPECIFIED: CaseKind
CASE_KIND_REVIEW: CaseKind
CASE_KIND_AUDIT: CaseKind
CASE_STATE_UNSPECIFIED: CaseState
CASE_STATE_OPEN: CaseState
CASE_STATE_CLAIMED: CaseState
CASE_STATE_RESOLVED: CaseState
SAYING_UNSPECIFIED: Saying
SAYING_ACCEPT: Saying
SAYING_CORRECT: Saying
SAYING_REJECT: Saying
CASE_ORDER_UNCERTAIN: CaseOrder
CASE_ORDER_OLDEST: CaseOrder

class Word(_message.Message):
    __slots__ = ("saying", "correction", "person", "reason", "time")
    SAYING_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_FIELD_NUMBER: _ClassVar[int]
    PERSON_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    saying: Saying
    correction: str
    person: str
    reason: str
    time: float
    def __init__(self, saying: _Optional[_Union[Saying, str]] = ..., correction: _Optional[str] = ..., person: _Optional[str] = ..., reason: _Optional[str] = ..., time: _Optional[float] = ...) -> None: ...

class Case(_message.Message):
    __slots__ = ("case_id", "kind", "state", "item", "tag", "probability", "group", "sources", "evidence", "reasons", "facts", "release", "prompt", "model", "arrived", "claimed_by", "claimed_until", "history", "promised", "unit")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_BY_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_UNTIL_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PROMISED_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    case_id: int
    kind: CaseKind
    state: CaseState
    item: _types_pb2.Item
    tag: str
    probability: float
    group: str
    sources: _containers.RepeatedScalarFieldContainer[str]
    evidence: _recommender_pb2.Evidence
    reasons: _containers.RepeatedCompositeFieldContainer[_types_pb2.Reason]
    facts: _containers.RepeatedScalarFieldContainer[str]
    release: str
    prompt: str
    model: str
    arrived: float
    claimed_by: str
    claimed_until: float
    history: _containers.RepeatedCompositeFieldContainer[Word]
    promised: float
    unit: str
    def __init__(self, case_id: _Optional[int] = ..., kind: _Optional[_Union[CaseKind, str]] = ..., state: _Optional[_Union[CaseState, str]] = ..., item: _Optional[_Union[_types_pb2.Item, _Mapping]] = ..., tag: _Optional[str] = ..., probability: _Optional[float] = ..., group: _Optional[str] = ..., sources: _Optional[_Iterable[str]] = ..., evidence: _Optional[_Union[_recommender_pb2.Evidence, _Mapping]] = ..., reasons: _Optional[_Iterable[_Union[_types_pb2.Reason, _Mapping]]] = ..., facts: _Optional[_Iterable[str]] = ..., release: _Optional[str] = ..., prompt: _Optional[str] = ..., model: _Optional[str] = ..., arrived: _Optional[float] = ..., claimed_by: _Optional[str] = ..., claimed_until: _Optional[float] = ..., history: _Optional[_Iterable[_Union[Word, _Mapping]]] = ..., promised: _Optional[float] = ..., unit: _Optional[str] = ...) -> None: ...

class CaseFilter(_message.Message):
    __slots__ = ("kind", "state", "saying", "group", "release", "item_id", "person", "order")
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SAYING_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    PERSON_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    kind: CaseKind
    state: CaseState
    saying: Saying
    group: str
    release: str
    item_id: str
    person: str
    order: CaseOrder
    def __init__(self, kind: _Optional[_Union[CaseKind, str]] = ..., state: _Optional[_Union[CaseState, str]] = ..., saying: _Optional[_Union[Saying, str]] = ..., group: _Optional[str] = ..., release: _Optional[str] = ..., item_id: _Optional[str] = ..., person: _Optional[str] = ..., order: _Optional[_Union[CaseOrder, str]] = ...) -> None: ...

class ListCasesRequest(_message.Message):
    __slots__ = ("request_id", "filter", "page_size", "page_token")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    filter: CaseFilter
    page_size: int
    page_token: str
    def __init__(self, request_id: _Optional[str] = ..., filter: _Optional[_Union[CaseFilter, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCasesReply(_message.Message):
    __slots__ = ("request_id", "cases", "next_page_token", "total")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    cases: _containers.RepeatedCompositeFieldContainer[Case]
    next_page_token: str
    total: int
    def __init__(self, request_id: _Optional[str] = ..., cases: _Optional[_Iterable[_Union[Case, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total: _Optional[int] = ...) -> None: ...

class ClaimRequest(_message.Message):
    __slots__ = ("request_id", "person", "case_ids", "filter", "count", "lease_s")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PERSON_FIELD_NUMBER: _ClassVar[int]
    CASE_IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    person: str
    case_ids: _containers.RepeatedScalarFieldContainer[int]
    filter: CaseFilter
    count: int
    lease_s: float
    def __init__(self, request_id: _Optional[str] = ..., person: _Optional[str] = ..., case_ids: _Optional[_Iterable[int]] = ..., filter: _Optional[_Union[CaseFilter, _Mapping]] = ..., count: _Optional[int] = ..., lease_s: _Optional[float] = ...) -> None: ...

class ClaimReply(_message.Message):
    __slots__ = ("request_id", "cases")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CASES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    cases: _containers.RepeatedCompositeFieldContainer[Case]
    def __init__(self, request_id: _Optional[str] = ..., cases: _Optional[_Iterable[_Union[Case, _Mapping]]] = ...) -> None: ...

class ResolveRequest(_message.Message):
    __slots__ = ("request_id", "case_id", "person", "saying", "correction", "reason", "overrule")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    PERSON_FIELD_NUMBER: _ClassVar[int]
    SAYING_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OVERRULE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    case_id: int
    person: str
    saying: Saying
    correction: str
    reason: str
    overrule: bool
    def __init__(self, request_id: _Optional[str] = ..., case_id: _Optional[int] = ..., person: _Optional[str] = ..., saying: _Optional[_Union[Saying, str]] = ..., correction: _Optional[str] = ..., reason: _Optional[str] = ..., overrule: _Optional[bool] = ...) -> None: ...

class ResolveReply(_message.Message):
    __slots__ = ("request_id", "case", "unchanged", "switched")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CASE_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    SWITCHED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    case: Case
    unchanged: bool
    switched: str
    def __init__(self, request_id: _Optional[str] = ..., case: _Optional[_Union[Case, _Mapping]] = ..., unchanged: _Optional[bool] = ..., switched: _Optional[str] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("request_id", "case_id", "person")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    PERSON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    case_id: int
    person: str
    def __init__(self, request_id: _Optional[str] = ..., case_id: _Optional[int] = ..., person: _Optional[str] = ...) -> None: ...

class ReleaseReply(_message.Message):
    __slots__ = ("request_id", "released")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    released: bool
    def __init__(self, request_id: _Optional[str] = ..., released: _Optional[bool] = ...) -> None: ...

class AuditRequest(_message.Message):
    __slots__ = ("request_id", "release")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    release: str
    def __init__(self, request_id: _Optional[str] = ..., release: _Optional[str] = ...) -> None: ...

class Switch(_message.Message):
    __slots__ = ("person", "time", "reason")
    PERSON_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    person: str
    time: float
    reason: str
    def __init__(self, person: _Optional[str] = ..., time: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class AuditedGroup(_message.Message):
    __slots__ = ("group", "release", "audited", "wrong", "cases", "pending", "promise", "precision", "lower", "evidence", "enough", "standing", "switched")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    AUDITED_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    CASES_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    PROMISE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    LOWER_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    ENOUGH_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    SWITCHED_FIELD_NUMBER: _ClassVar[int]
    group: str
    release: str
    audited: int
    wrong: int
    cases: int
    pending: int
    promise: float
    precision: float
    lower: float
    evidence: float
    enough: int
    standing: str
    switched: Switch
    def __init__(self, group: _Optional[str] = ..., release: _Optional[str] = ..., audited: _Optional[int] = ..., wrong: _Optional[int] = ..., cases: _Optional[int] = ..., pending: _Optional[int] = ..., promise: _Optional[float] = ..., precision: _Optional[float] = ..., lower: _Optional[float] = ..., evidence: _Optional[float] = ..., enough: _Optional[int] = ..., standing: _Optional[str] = ..., switched: _Optional[_Union[Switch, _Mapping]] = ...) -> None: ...

class AuditReply(_message.Message):
    __slots__ = ("request_id", "groups", "rate", "confidence")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    groups: _containers.RepeatedCompositeFieldContainer[AuditedGroup]
    rate: float
    confidence: float
    def __init__(self, request_id: _Optional[str] = ..., groups: _Optional[_Iterable[_Union[AuditedGroup, _Mapping]]] = ..., rate: _Optional[float] = ..., confidence: _Optional[float] = ...) -> None: ...

class ResetRequest(_message.Message):
    __slots__ = ("request_id", "group", "person", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    PERSON_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    group: str
    person: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., group: _Optional[str] = ..., person: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ResetReply(_message.Message):
    __slots__ = ("request_id", "group")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    group: str
    def __init__(self, request_id: _Optional[str] = ..., group: _Optional[str] = ...) -> None: ...
