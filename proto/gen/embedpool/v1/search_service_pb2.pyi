from embedpool.v1 import embedding_service_pb2 as _embedding_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchRequest(_message.Message):
    __slots__ = ("texts", "vectors", "k", "columns", "filter", "passages")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    vectors: _embedding_service_pb2.Vectors
    k: int
    columns: _containers.RepeatedScalarFieldContainer[str]
    filter: str
    passages: bool
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., vectors: _Optional[_Union[_embedding_service_pb2.Vectors, _Mapping]] = ..., k: _Optional[int] = ..., columns: _Optional[_Iterable[str]] = ..., filter: _Optional[str] = ..., passages: _Optional[bool] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("results", "generation", "model_fingerprint", "timing")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Hits]
    generation: str
    model_fingerprint: str
    timing: SearchTiming
    def __init__(self, results: _Optional[_Iterable[_Union[Hits, _Mapping]]] = ..., generation: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., timing: _Optional[_Union[SearchTiming, _Mapping]] = ...) -> None: ...

class Hits(_message.Message):
    __slots__ = ("hits",)
    HITS_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    def __init__(self, hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("doc_id", "score", "columns", "passage")
    class ColumnsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ColumnValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ColumnValue, _Mapping]] = ...) -> None: ...
    DOC_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_FIELD_NUMBER: _ClassVar[int]
    doc_id: str
    score: float
    columns: _containers.MessageMap[str, ColumnValue]
    passage: Passage
    def __init__(self, doc_id: _Optional[str] = ..., score: _Optional[float] = ..., columns: _Optional[_Mapping[str, ColumnValue]] = ..., passage: _Optional[_Union[Passage, _Mapping]] = ...) -> None: ...

class Passage(_message.Message):
    __slots__ = ("start", "stop")
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    start: int
    stop: int
    def __init__(self, start: _Optional[int] = ..., stop: _Optional[int] = ...) -> None: ...

class ColumnValue(_message.Message):
    __slots__ = ("string", "int64", "double", "bool", "bytes", "json")
    STRING_FIELD_NUMBER: _ClassVar[int]
    INT64_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_FIELD_NUMBER: _ClassVar[int]
    BOOL_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    string: str
    int64: int
    double: float
    bool: bool
    bytes: bytes
    json: str
    def __init__(self, string: _Optional[str] = ..., int64: _Optional[int] = ..., double: _Optional[float] = ..., bool: _Optional[bool] = ..., bytes: _Optional[bytes] = ..., json: _Optional[str] = ...) -> None: ...

class SearchTiming(_message.Message):
    __slots__ = ("embed_ns", "search_ns", "documents_ns")
    EMBED_NS_FIELD_NUMBER: _ClassVar[int]
    SEARCH_NS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_NS_FIELD_NUMBER: _ClassVar[int]
    embed_ns: int
    search_ns: int
    documents_ns: int
    def __init__(self, embed_ns: _Optional[int] = ..., search_ns: _Optional[int] = ..., documents_ns: _Optional[int] = ...) -> None: ...

class GetIndexRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetIndexResponse(_message.Message):
    __slots__ = ("documents", "vectors", "dim", "key", "generation", "model_fingerprint", "model_name", "search_parameters", "columns", "versions", "max_k")
    class SearchParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    SEARCH_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_K_FIELD_NUMBER: _ClassVar[int]
    documents: int
    vectors: int
    dim: int
    key: str
    generation: str
    model_fingerprint: str
    model_name: str
    search_parameters: _containers.ScalarMap[str, int]
    columns: _containers.RepeatedScalarFieldContainer[str]
    versions: _containers.ScalarMap[str, str]
    max_k: int
    def __init__(self, documents: _Optional[int] = ..., vectors: _Optional[int] = ..., dim: _Optional[int] = ..., key: _Optional[str] = ..., generation: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., model_name: _Optional[str] = ..., search_parameters: _Optional[_Mapping[str, int]] = ..., columns: _Optional[_Iterable[str]] = ..., versions: _Optional[_Mapping[str, str]] = ..., max_k: _Optional[int] = ...) -> None: ...
