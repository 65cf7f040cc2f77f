"""Wire types of POST /v1/ocr.  Source: Mistral API reference, "OCR", with the superset of the contracts."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from shared.errors import InvalidFieldError
from shared.jobs.schemas import JobMembers
from shared.usage.schemas import Usage

Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_SCHEMES: Final = ("http://", "https://", "data:")


class OcrImageUrl(Struct, kw_only=True):
    """An image as chats name it."""

    url: str
    detail: str | None = None


class OcrDocument(Struct, kw_only=True):
    """A document or an image, as an http(s) URL or a data URI; without `type` the member that is there decides."""

    type: Literal["document_url", "image_url"] | None = None
    document_url: str | None = None
    document_name: str | None = None
    image_url: str | OcrImageUrl | None = None

    @property
    def member(self) -> Literal["document_url", "image_url"]:
        """Return which member holds the URL."""
        is_image = self.document_url is None and self.image_url is not None
        return self.type or ("image_url" if is_image else "document_url")

    @property
    def url(self) -> str | None:
        """Return the URL."""
        if self.member == "document_url":
            return self.document_url
        return self.image_url.url if isinstance(self.image_url, OcrImageUrl) else self.image_url


class OcrJsonSchema(Struct, kw_only=True):
    """A schema of annotations."""

    name: str
    schema_definition: dict[str, Any]
    strict: bool = False
    description: str | None = None


class OcrFormat(Struct, kw_only=True):
    """The form of annotations."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: OcrJsonSchema | None = None


class OcrRequest(JobMembers, kw_only=True):
    """A document to read; members that are not listed are passed on."""

    document: OcrDocument
    model: Annotated[str, Meta(min_length=1)] | None = None
    pages: list[Size] | None = None
    image_limit: Size | None = None
    image_min_size: Size | None = None
    include_image_base64: bool | None = None
    bbox_annotation_format: OcrFormat | None = None
    document_annotation_format: OcrFormat | None = None

    def check(self) -> str:
        """Return the URL of the document; raises `InvalidFieldError` if members do not fit together."""
        for name in ("bbox_annotation_format", "document_annotation_format"):
            wanted = getattr(self, name)
            if wanted is not None and wanted.type == "json_schema" and wanted.json_schema is None:
                raise InvalidFieldError(["body", name, "json_schema"], "`json_schema` is needed for this type")
        url = self.document.url
        if not url or not url.lower().startswith(_SCHEMES):
            message = f"Expected `{self.document.member}` to be an http(s) URL or a data URI"
            raise InvalidFieldError(["body", "document", self.document.member], message)
        return url


class OcrDimensions(Struct, kw_only=True):
    """Size of a page in pixels."""

    dpi: int
    height: int
    width: int


class OcrImage(Struct, kw_only=True):
    """An image on a page; `image_annotation` is a JSON text."""

    id: str
    top_left_x: int | None
    top_left_y: int | None
    bottom_right_x: int | None
    bottom_right_y: int | None
    image_base64: str | None
    image_annotation: str | None


class OcrPage(Struct, kw_only=True):
    """A page, counted from 0; what else a provider says is kept."""

    index: int
    markdown: str | None
    dimensions: OcrDimensions | None
    images: list[OcrImage]


class OcrUsageInfo(Struct, kw_only=True):
    """What was read."""

    pages_processed: int
    doc_size_bytes: int | None


class OcrResult(Struct, kw_only=True):
    """The text of a document; `document_annotation` is a JSON text."""

    id: str | None
    model: str | None
    document_annotation: str | None
    pages: list[OcrPage]
    usage: Usage | None
    usage_info: OcrUsageInfo | None
