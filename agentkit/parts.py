"""Images, audio and files: the parts of a message that are not text, and `ToolReturn`, with which a tool returns them."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import field
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any, ClassVar, Literal, Self, TypeAlias

from ._dataclass import frozen_dataclass
from .errors import SettingsError

__all__ = [
    "MAX_PART_BYTES",
    "Audio",
    "Content",
    "File",
    "Image",
    "Part",
    "PartKind",
    "ToolReturn",
    "checked_parts",
    "content_text",
    "media_type_of",
]

MAX_PART_BYTES = 20_000_000
"""Max bytes of one part. DeepSeek allows 32 MiB for an image and 64 MiB for a request; other servers allow less."""
IMAGE_TOKENS = 1_024
"""Estimated tokens of an image, whatever its size: DeepSeek's maximum. Other servers count 85 to about 2,000."""
_MAX_ADDRESS = 8_192
_MAX_NAME = 200
_ADDRESS = re.compile(r"https?://[^\s\x00-\x20\x7f/?#@]+([/?#]\S*)?", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+")
_DATA = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,(.*)", re.IGNORECASE | re.DOTALL)
_BRANDS = {b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heif", b"avif": "image/avif", b"M4A ": "audio/mp4"}

PartKind: TypeAlias = Literal["image", "audio", "file"]

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"ID3\x02", "audio/mpeg"),
    (b"ID3\x03", "audio/mpeg"),
    (b"ID3\x04", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
)
_BY_SUFFIX = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "bmp": "image/bmp", "tif": "image/tiff", "tiff": "image/tiff", "heic": "image/heic", "heif": "image/heif",
    "avif": "image/avif",
    "wav": "audio/wav", "mp3": "audio/mpeg", "ogg": "audio/ogg", "flac": "audio/flac", "m4a": "audio/mp4", "aac": "audio/aac",
    "pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown", "csv": "text/csv", "html": "text/html",
    "htm": "text/html", "json": "application/json", "xml": "application/xml",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}  # fmt: skip
_SAME = {"image/jpg": "image/jpeg", "audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav", "audio/wave": "audio/wav"}


@frozen_dataclass
class _Part:
    """Base of the parts. A part has either data, or the address from which the server fetches it.

    The data is kept as base64 text: servers and stored events want it so, and it is encoded once. `sha256` is the digest of the
    data. A store may keep `base64` apart under this digest, as a blob, and must put it back before it loads the event.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012
    kind: ClassVar[PartKind]

    media_type: str = ""
    base64: str = field(default="", repr=False)
    address: str = ""
    name: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        for name in ("media_type", "base64", "address", "name", "sha256"):
            if not isinstance(getattr(self, name), str):
                raise SettingsError(f"{self._what}: {name} is {getattr(self, name)!r:.60}; allowed: text")
        object.__setattr__(self, "name", _one_line(self.name))
        if bool(self.base64) == bool(self.address):
            raise SettingsError(f"{self._what} needs data or an address, one of them: use from_path, from_bytes or url")
        if self.address:
            self._check_address()
            return
        data = self.data
        digest = sha256(data).hexdigest()
        if self.sha256 not in ("", digest):
            raise SettingsError(f"{self._what}: the data is not that of the digest {self.sha256[:16]!r}")
        object.__setattr__(self, "sha256", digest)
        if len(data) > MAX_PART_BYTES:
            raise SettingsError(f"{self._what} has {_size(len(data))}; allowed: at most {_size(MAX_PART_BYTES)}")
        object.__setattr__(self, "media_type", self._checked_type(data))

    @classmethod
    def from_path(cls, path: str | Path) -> Self:
        """The part in a file. Raises OSError, and `SettingsError` if it is too large, or of an unknown or another kind."""
        path = Path(path)
        if not path.is_file() and path.exists():
            raise SettingsError(f"{path} is not a file")
        with path.open("rb") as file:
            data = file.read(MAX_PART_BYTES + 1)
        return cls.from_bytes(data, name=path.name)

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str = "", *, name: str = "") -> Self:
        """The part with these bytes. If their beginning tells the media type, that counts; else `media_type`, else the name."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise SettingsError(f"{cls.__name__}.from_bytes takes bytes, not {type(data).__name__}")
        if not data:
            raise SettingsError(f"{cls.__name__} {_one_line(name)!r} is empty")
        if len(data) > MAX_PART_BYTES:
            raise SettingsError(f"{cls.__name__} {_one_line(name)!r} is too large; allowed: at most {_size(MAX_PART_BYTES)}")
        return cls(media_type=media_type, base64=base64.b64encode(data).decode(), name=name)

    @classmethod
    def url(cls, address: str) -> Self:
        """The part at an http or https address, which the server fetches; agentkit does not. A `data:` URL becomes data.

        The address is stored with the run. Whoever chooses it can tell the host that is named in it whatever is written in it.
        """
        data = _DATA.fullmatch(address) if isinstance(address, str) else None
        if data is None:
            return cls(address=address)
        return cls(media_type=data[1], base64="".join(data[2].split()))

    @property
    def data(self) -> bytes:
        """The bytes; empty for a part with an address."""
        try:
            return binascii.a2b_base64(self.base64, strict_mode=True)
        except (binascii.Error, ValueError):
            raise SettingsError(f"{self._what}: its data is not base64") from None

    @property
    def size(self) -> int:
        """The number of bytes; 0 for a part with an address."""
        return len(self.base64) * 3 // 4 - self.base64[-2:].count("=")

    @property
    def tokens(self) -> int:
        """Estimated tokens. docs/parts.md has the formula."""
        return IMAGE_TOKENS

    @property
    def label(self) -> str:
        """The part in words: `[image: a.png, 12 kB]`."""
        what = [self.name or ("" if self.address else self.media_type), self.address or _size(self.size)]
        return f"[{self.kind}: {', '.join(filter(None, what))}]"

    @property
    def key(self) -> str:
        """What tells this part from another: its digest, or its address."""
        return self.sha256 or self.address

    @property
    def data_url(self) -> str:
        """The data as a `data:` URL, or the address."""
        return self.address or f"data:{self.media_type};base64,{self.base64}"

    @property
    def _what(self) -> str:
        name = self.name if isinstance(self.name, str) else ""
        return f"{type(self).__name__} {_one_line(name)!r}" if name else type(self).__name__

    def _check_address(self) -> None:
        if self.sha256 or len(self.address) > _MAX_ADDRESS or not _ADDRESS.fullmatch(self.address):
            raise SettingsError(
                f"{self._what}: the address is {self.address!r:.80}; allowed: http:// or https:// and a host (no password)"
            )

    def _checked_type(self, data: bytes) -> str:
        given = self.media_type.partition(";")[0].strip().lower()
        found = media_type_of(data) or _SAME.get(given, given) or _BY_SUFFIX.get(PurePath(self.name.lower()).suffix[1:], "")
        if not found and self.kind == "file" and _is_text(data):
            found = "text/plain"
        if not found:
            raise SettingsError(f"{self._what}: its media type is not known; give it, as in from_bytes(data, 'image/png')")
        if not _MEDIA_TYPE.fullmatch(found):
            raise SettingsError(f"{self._what}: media_type is {found!r:.60}; allowed: a type such as 'image/png'")
        if self.kind != "file" and not found.startswith(f"{self.kind}/"):
            raise SettingsError(f"{self._what} is {found}; allowed: {self.kind}/... (File takes any other type)")
        if found == "image/svg+xml" and self.kind == "image":
            raise SettingsError(f"{self._what} is {found}, which no server takes as an image; convert it to PNG")
        return found


@frozen_dataclass
class Image(_Part):
    """An image in a message: `Image.from_path("a.png")`, `Image.from_bytes(data)`, `Image.url("https://...")`."""

    kind: ClassVar[PartKind] = "image"
    type: Literal["image"] = "image"


@frozen_dataclass
class Audio(_Part):
    """Sound in a message: `Audio.from_path("a.wav")`. Most servers that take it take WAV and MP3, and no addresses."""

    kind: ClassVar[PartKind] = "audio"
    type: Literal["audio"] = "audio"

    @property
    def tokens(self) -> int:
        """Estimated tokens: one for every 1,600 bytes, about ten for each second of MP3."""
        return max(IMAGE_TOKENS if self.address else 1, self.size // 1_600)


@frozen_dataclass
class File(_Part):
    """A document in a message: `File.from_path("report.pdf")`. Servers that take files take PDF, some take other types too."""

    kind: ClassVar[PartKind] = "file"
    type: Literal["file"] = "file"

    @property
    def tokens(self) -> int:
        """Estimated tokens: one for every 4 bytes of text, or for every 40 bytes of another type, such as PDF."""
        is_text = self.media_type.startswith("text/") or self.media_type in ("application/json", "application/xml")
        return max(IMAGE_TOKENS if self.address else 1, self.size // (4 if is_text else 40))


Part: TypeAlias = Image | Audio | File
Content: TypeAlias = str | Sequence[str | Image | Audio | File]
"""What a user message holds: text, or a list of texts and parts in the order in which the model reads them."""


@frozen_dataclass
class ToolReturn:
    """What a tool may return instead of a value: text for the model, parts for the model, and a value that it does not see.

    `parts` are sent after the results of the reply's calls, since servers take only text as a result. `artifact` is on the
    `ToolFinished` event, for observers. It is stored only if it consists of plain JSON values, of at most a million characters.
    """

    text: str
    parts: Iterable[Part] = ()
    artifact: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise SettingsError(f"ToolReturn.text is {self.text!r:.60}; allowed: text")
        parts = (self.parts,) if isinstance(self.parts, Part) else self.parts
        object.__setattr__(self, "parts", checked_parts(parts, "ToolReturn.parts"))


def checked_parts(parts: object, what: str) -> tuple[Part, ...]:
    """The parts as a tuple. Raises `SettingsError`, which begins with `what`, for anything else."""
    found = tuple(parts) if isinstance(parts, Iterable) and not isinstance(parts, str | bytes) else (parts,)  # a tuple is kept
    for part in found:
        if not isinstance(part, Part):
            raise SettingsError(f"{what} has {part!r:.60}; allowed: Image, Audio and File")
    return found


def content_text(content: Content, *, labels: bool = True) -> str:
    """The text of a user message's content. A part is its label, or nothing without `labels`."""
    if isinstance(content, str):
        return content
    texts = [item if isinstance(item, str) else item.label if labels else "" for item in content]
    return "\n".join(text for text in texts if text)


def media_type_of(data: bytes) -> str:
    """The media type that the first bytes tell; empty if they do not."""
    start = bytes(data[:16])
    if start[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(start[8:12], "")
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12], "")
    return next((kind for signature, kind in _SIGNATURES if start.startswith(signature)), "")


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def _one_line(name: str) -> str:
    """A name without control characters and line breaks, and not too long: it is shown to models and people."""
    return re.sub(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]+", " ", str(name))[:_MAX_NAME]


def _size(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB" if count >= 1_000_000 else f"{max(1, round(count / 1_000))} kB"
