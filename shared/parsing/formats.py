"""Read one file: bytes in, pages of text out.  Runs in a parser process only, since files may be hostile."""

import re
import warnings
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

import docx
import pypdfium2
from bs4 import BeautifulSoup
from docx.table import Table
from docx.text.paragraph import Paragraph
from markdownify import MarkdownConverter
from msgspec import json
from pypdfium2 import raw as pdfium

from shared.parsing.protocol import ParsedPage, ParseRequest

MAX_PAGES: Final = 5_000
MAX_CHARACTERS: Final = 20 * 1024 * 1024
_MAX_UNPACKED_BYTES: Final = 100 * 1024 * 1024
_MAX_ENTRIES: Final = 5_000
_HIDDEN: Final = ("script", "style", "noscript", "template", "head", "svg", "iframe", "object")
_HEADING: Final = re.compile(r"(?:Heading|Title) ?(\d?)")
_BLANK_LINES: Final = re.compile(r"\n[ \t]*(?:\n[ \t]*)+\n")
_DOTS_PER_POINT: Final = 150 / 72
_MAX_PIXELS: Final = 4_000_000
_MAX_IMAGES: Final = 200


class UnreadableError(Exception):
    """The file cannot be read; the message says why."""


def read_text(data: bytes) -> str:
    """Return UTF-8, or else Latin-1; raises `UnreadableError` for what is no text."""
    if b"\x00" in data:
        raise UnreadableError("the file is not text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
        strange = sum(1 for character in text[:100_000] if not character.isprintable() and not character.isspace())
        if strange > len(text[:100_000]) // 20:
            raise UnreadableError("the file is not text") from None
    return text.replace("\r\n", "\n").strip()


def read_json(data: bytes) -> str:
    """Return the document with one member per line, so that it can be cut."""
    text = read_text(data)
    return json.format(text, indent=2) if text and json.decode(text) is not None else text


def read_html(data: bytes) -> str:
    """Return the page as markdown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what pages look like
        soup = BeautifulSoup(read_text(data), "lxml")
    for tag in soup(_HIDDEN):
        tag.decompose()
    converter = MarkdownConverter(heading_style="ATX", strip=["img"])
    return _BLANK_LINES.sub("\n\n", converter.convert_soup(soup)).strip()


def read_docx(data: bytes) -> str:
    """Return headings, paragraphs and tables as markdown; what unpacks to too much is not unpacked."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        entries = archive.infolist()
        if len(entries) > _MAX_ENTRIES or sum(entry.file_size for entry in entries) > _MAX_UNPACKED_BYTES:
            raise UnreadableError("the file unpacks to too much")
    return "\n\n".join(_docx_blocks(docx.Document(BytesIO(data)))).strip()


def _docx_blocks(document: Any) -> Iterator[str]:
    for block in document.iter_inner_content():
        if isinstance(block, Paragraph) and (text := block.text.strip()):
            found = _HEADING.match(block.style.name if block.style is not None and block.style.name else "")
            yield "#" * min(int(found[1] or 1), 6) + " " + text if found else text
        elif isinstance(block, Table):
            rows = [" | ".join(cell.text.strip().replace("\n", " ") for cell in row.cells) for row in block.rows]
            yield "\n".join(f"| {row} |" for row in rows)


def read_pdf(request: ParseRequest) -> tuple[list[ParsedPage], int]:
    """Return the pages asked for, read or drawn, and how many the file has."""
    document = pypdfium2.PdfDocument(request.data)
    try:
        count = len(document)
        if count > MAX_PAGES:
            raise UnreadableError(f"the file has more than {MAX_PAGES} pages")
        wanted = range(count) if request.pages is None else [number for number in request.pages if number < count]
        return list(_pdf_pages(document, wanted, request)), count
    finally:
        document.close()


def _pdf_pages(document: Any, wanted: Any, request: ParseRequest) -> Iterator[ParsedPage]:
    characters = images = 0
    for number in wanted:
        page = document[number]
        if request.as_pictures:
            yield ParsedPage(number, "", {f"_page_{number}.jpeg": _drawn(page)})
            continue
        text_page = page.get_textpage()
        text = text_page.get_text_bounded().replace("\r\n", "\n").replace("\x00", "").replace("\ufffe", "-").strip()
        text_page.close()
        characters += len(text)
        if characters > MAX_CHARACTERS:
            raise UnreadableError("the file has too much text")
        found: dict[str, bytes] = {}
        is_scanned = not text and _has_images(page)
        if request.with_images and images < _MAX_IMAGES:
            found = _images_of(page, number)
            images += len(found)
            text = "\n\n".join([text, *(f"![]({name})" for name in found)]).strip()
        yield ParsedPage(number, text, found, is_scanned)
        page.close()


def _drawn(page: Any) -> bytes:
    width, height = page.get_size()
    scale = min(_DOTS_PER_POINT, (_MAX_PIXELS / max(width * height, 1.0)) ** 0.5)
    return _jpeg(page.render(scale=scale).to_pil())


def _has_images(page: Any) -> bool:
    return next(iter(page.get_objects(filter=(pdfium.FPDF_PAGEOBJ_IMAGE,), max_depth=3)), None) is not None


def _images_of(page: Any, number: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for image in page.get_objects(filter=(pdfium.FPDF_PAGEOBJ_IMAGE,), max_depth=3):
        width, height = image.get_px_size()
        if 0 < width * height <= _MAX_PIXELS * 4:
            found[f"_page_{number}_image_{len(found)}.jpeg"] = _jpeg(image.get_bitmap().to_pil())
    return found


def _jpeg(picture: Any) -> bytes:
    out = BytesIO()
    picture.convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()
