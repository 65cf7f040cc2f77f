"""Files for tests, made here: PDF, DOCX, and those that mean harm."""

import io
import zipfile
import zlib
from collections.abc import Sequence

import docx


def pdf(pages: Sequence[str], *, trailer: str = "", count: int | None = None) -> bytes:
    """Return a PDF with one line of text per page; `trailer` adds entries to its trailer."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages) if count is None else count} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        words = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        stream = f"BT /F1 12 Tf 40 700 Td ({words}) Tj ET" if text else ""
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Contents {5 + 2 * number} 0 R >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    return _assembled([one.encode("latin-1") for one in objects], trailer)


def _assembled(objects: Sequence[bytes], trailer: str = "") -> bytes:
    out, places = io.BytesIO(), list[int]()
    out.write(b"%PDF-1.4\n")
    for number, body in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%b\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    head = f"trailer << /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{start}\n%%EOF\n"
    out.write(head.encode())
    return out.getvalue()


def encrypted_pdf() -> bytes:
    """Return a PDF that cannot be opened without its password."""
    entry = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{'41' * 32}> /U <{'42' * 32}> /P -1 >> /ID [<01> <01>]"
    return pdf(["Secret"], trailer=entry)


def pdf_bomb(megabytes: int) -> bytes:
    """Return a small PDF whose one page unpacks to very much."""
    compressor = zlib.compressobj(9)
    block = b"BT /F1 12 Tf 40 700 Td (aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa) Tj ET\n" * 14_000
    data = b"".join(compressor.compress(block) for _ in range(megabytes)) + compressor.flush()
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Resources << /Font << /F1 3 0 R >> >> /Contents 5 0 R >>"
    return _assembled(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            page,
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream" % (len(data), data),
        ]
    )


def word_file(*paragraphs: str, heading: str | None = None) -> bytes:
    """Return a DOCX with a heading, paragraphs, and a table."""
    document, out = docx.Document(), io.BytesIO()
    if heading is not None:
        document.add_heading(heading, 2)
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "hour", "train"
    document.save(out)
    return out.getvalue()


def word_bomb(megabytes: int, *, is_honest: bool = True) -> bytes:
    """Return a small DOCX that unpacks to very much; unless it is honest, its headers say it does not."""
    out, megabyte = io.BytesIO(), b"<w:p/>" * 174_762
    with zipfile.ZipFile(io.BytesIO(word_file())) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            if entry.filename != "word/document.xml":
                target.writestr(entry, source.read(entry))
        target.writestr("word/document.xml", megabyte * megabytes)
    data = out.getvalue()
    if is_honest:
        return data
    size = (len(megabyte) * megabytes).to_bytes(4, "little")
    return data.replace(size, (1000).to_bytes(4, "little"))


def entity_bomb() -> bytes:
    """Return a DOCX whose XML would expand without end."""
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    xml = f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e0 "laughter">{entities}]><w:document>&e9;</w:document>'
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(word_file())) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            is_text = entry.filename == "word/document.xml"
            target.writestr(entry.filename, xml if is_text else source.read(entry))
    return out.getvalue()


def scanned_pdf(*pages: str | None) -> bytes:
    """Return a PDF with a line of text on each page; None is a page that is an image."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    picture = b"q 300 0 0 300 100 300 cm BI /W 2 /H 2 /CS /G /BPC 8 ID \x00\xff\xff\x00 EI Q"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        stream = picture if text is None else b"BT /F1 12 Tf 40 700 Td (%b) Tj ET" % text.encode()
        head = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >>"
        objects += [
            f"{head} /Contents {5 + 2 * number} 0 R >>".encode(),
            b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream),
        ]
    return _assembled(objects)
