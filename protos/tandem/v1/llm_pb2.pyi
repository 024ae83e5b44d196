from protos.tandem.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LLMStatusRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class LLMTarget(_message.Message):
    __slots__ = ("name", "engine", "model", "place", "healthy", "breaker", "running", "max_concurrency", "output_tokens_per_s", "cause")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_PER_S_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    name: str
    engine: str
    model: str
    place: str
    healthy: bool
    breaker: str
    running: int
    max_concurrency: int
    output_tokens_per_s: float
    cause: str
    def __init__(self, name: _Optional[str] = ..., engine: _Optional[str] = ..., model: _Optional[str] = ..., place: _Optional[str] = ..., healthy: _Optional[bool] = ..., breaker: _Optional[str] = ..., running: _Optional[int] = ..., max_concurrency: _Optional[int] = ..., output_tokens_per_s: _Optional[float] = ..., cause: _Optional[str] = ...) -> None: ...

class LLMStatusReply(_message.Message):
    __slots__ = ("request_id", "release", "targets")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    release: str
    targets: _containers.RepeatedCompositeFieldContainer[LLMTarget]
    def __init__(self, request_id: _Optional[str] = ..., release: _Optional[str] = ..., targets: _Optional[_Iterable[_Union[LLMTarget, _Mapping]]] = ...) -> None: ...

class LLMAskRequest(_message.Message):
    __slots__ = ("request_id", "deadline_ms", "tenant", "user_id", "system", "prompt", "max_tokens", "json_schema", "temperature")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    deadline_ms: int
    tenant: str
    user_id: str
    system: str
    prompt: str
    max_tokens: int
    json_schema: str
    temperature: float
    def __init__(self, request_id: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., tenant: _Optional[str] = ..., user_id: _Optional[str] = ..., system: _Optional[str] = ..., prompt: _Optional[str] = ..., max_tokens: _Optional[int] = ..., json_schema: _Optional[str] = ..., temperature: _Optional[float] = ...) -> None: ...

class LLMAskReply(_message.Message):
    __slots__ = ("request_id", "release", "text", "finish", "target", "cache", "attempts", "repaired", "usage", "stages")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    release: str
    text: str
    finish: str
    target: str
    cache: str
    attempts: int
    repaired: bool
    usage: _types_pb2.Usage
    stages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Stage]
    def __init__(self, request_id: _Optional[str] = ..., release: _Optional[str] = ..., text: _Optional[str] = ..., finish: _Optional[str] = ..., target: _Optional[str] = ..., cache: _Optional[str] = ..., attempts: _Optional[int] = ..., repaired: _Optional[bool] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., stages: _Optional[_Iterable[_Union[_types_pb2.Stage, _Mapping]]] = ...) -> None: ...

class LLMCostRequest(_message.Message):
    __slots__ = ("request_id", "days", "tenant")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    days: int
    tenant: str
    def __init__(self, request_id: _Optional[str] = ..., days: _Optional[int] = ..., tenant: _Optional[str] = ...) -> None: ...

class LLMSpend(_message.Message):
    __slots__ = ("day", "tenant", "task", "job", "target", "model", "calls", "prompt_tokens", "completion_tokens", "cost")
    DAY_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    day: str
    tenant: str
    task: str
    job: str
    target: str
    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    def __init__(self, day: _Optional[str] = ..., tenant: _Optional[str] = ..., task: _Optional[str] = ..., job: _Optional[str] = ..., target: _Optional[str] = ..., model: _Optional[str] = ..., calls: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., cost: _Optional[float] = ...) -> None: ...

class LLMCostReply(_message.Message):
    __slots__ = ("request_id", "spent")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    spent: _containers.RepeatedCompositeFieldContainer[LLMSpend]
    def __init__(self, request_id: _Optional[str] = ..., spent: _Optional[_Iterable[_Union[LLMSpend, _Mapping]]] = ...) -> None: ...

class LLMContextRequest(_message.Message):
    __slots__ = ("request_id", "of")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    of: str
    def __init__(self, request_id: _Optional[str] = ..., of: _Optional[str] = ...) -> None: ...

class LLMContext(_message.Message):
    __slots__ = ("time", "task", "tenant", "prompt", "target", "system", "user", "parameters", "answer", "model", "cache", "error", "verdicts")
    TIME_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    time: float
    task: str
    tenant: str
    prompt: str
    target: str
    system: str
    user: str
    parameters: str
    answer: str
    model: str
    cache: str
    error: str
    verdicts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, time: _Optional[float] = ..., task: _Optional[str] = ..., tenant: _Optional[str] = ..., prompt: _Optional[str] = ..., target: _Optional[str] = ..., system: _Optional[str] = ..., user: _Optional[str] = ..., parameters: _Optional[str] = ..., answer: _Optional[str] = ..., model: _Optional[str] = ..., cache: _Optional[str] = ..., error: _Optional[str] = ..., verdicts: _Optional[_Iterable[str]] = ...) -> None: ...

class LLMContextReply(_message.Message):
    __slots__ = ("request_id", "contexts")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    contexts: _containers.RepeatedCompositeFieldContainer[LLMContext]
    def __init__(self, request_id: _Optional[str] = ..., contexts: _Optional[_Iterable[_Union[LLMContext, _Mapping]]] = ...) -> None: ...
