from protos.tandem.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TagClaim(_message.Message):
    __slots__ = ("item", "tag", "vocabulary")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    item: _types_pb2.Item
    tag: str
    vocabulary: str
    def __init__(self, item: _Optional[_Union[_types_pb2.Item, _Mapping]] = ..., tag: _Optional[str] = ..., vocabulary: _Optional[str] = ...) -> None: ...

class CandidateClaim(_message.Message):
    __slots__ = ("profile_text", "item_id")
    PROFILE_TEXT_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    profile_text: str
    item_id: str
    def __init__(self, profile_text: _Optional[str] = ..., item_id: _Optional[str] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("tag", "candidate", "llm_logprob")
    TAG_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    LLM_LOGPROB_FIELD_NUMBER: _ClassVar[int]
    tag: TagClaim
    candidate: CandidateClaim
    llm_logprob: float
    def __init__(self, tag: _Optional[_Union[TagClaim, _Mapping]] = ..., candidate: _Optional[_Union[CandidateClaim, _Mapping]] = ..., llm_logprob: _Optional[float] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("request_id", "deadline_ms", "tenant", "claims")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    deadline_ms: int
    tenant: str
    claims: _containers.RepeatedCompositeFieldContainer[Claim]
    def __init__(self, request_id: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., tenant: _Optional[str] = ..., claims: _Optional[_Iterable[_Union[Claim, _Mapping]]] = ...) -> None: ...

class Judgement(_message.Message):
    __slots__ = ("probability", "verdict", "reasons", "facts", "decided_by", "certificate")
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    probability: float
    verdict: _types_pb2.Verdict
    reasons: _containers.RepeatedCompositeFieldContainer[_types_pb2.Reason]
    facts: _containers.RepeatedCompositeFieldContainer[_types_pb2.Proof]
    decided_by: str
    certificate: _types_pb2.Certificate
    def __init__(self, probability: _Optional[float] = ..., verdict: _Optional[_Union[_types_pb2.Verdict, str]] = ..., reasons: _Optional[_Iterable[_Union[_types_pb2.Reason, _Mapping]]] = ..., facts: _Optional[_Iterable[_Union[_types_pb2.Proof, _Mapping]]] = ..., decided_by: _Optional[str] = ..., certificate: _Optional[_Union[_types_pb2.Certificate, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ScoreReply(_message.Message):
    __slots__ = ("request_id", "release", "judgements", "stages", "degraded", "failure")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    JUDGEMENTS_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    release: str
    judgements: _containers.RepeatedCompositeFieldContainer[Judgement]
    stages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Stage]
    degraded: _containers.RepeatedCompositeFieldContainer[_types_pb2.Degradation]
    failure: Failure
    def __init__(self, request_id: _Optional[str] = ..., release: _Optional[str] = ..., judgements: _Optional[_Iterable[_Union[Judgement, _Mapping]]] = ..., stages: _Optional[_Iterable[_Union[_types_pb2.Stage, _Mapping]]] = ..., degraded: _Optional[_Iterable[_Union[_types_pb2.Degradation, _Mapping]]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...
