"""Lists of the administration API: offset and limit, both spellings of order, one envelope."""

from typing import Annotated, Generic, Literal, Protocol, TypeVar

from msgspec import Meta, Struct

from shared.errors import InvalidFieldError

T = TypeVar("T")
Seconds = Annotated[int, Meta(ge=0, le=2**40, description="Unix seconds.")]
RowId = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
"""Id of a row in a path, query or body; larger ones fit no column."""
Direction = Literal["asc", "desc"]
OrderField = Literal["id", "name", "created", "updated", "model_name", "email"]


Name = Annotated[str, Meta(max_length=1024)]
"""Name of a row, in a filter."""


class PageQuery(Struct, kw_only=True):
    """Which part of a list whose order is fixed."""

    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0
    limit: Annotated[int, Meta(ge=1, le=100)] = 10


class ListQuery(PageQuery, kw_only=True):
    """`order_by` and `sort_by`, `order_direction` and `sort_order` are spellings of the same."""

    order_by: OrderField | None = None
    sort_by: OrderField | None = None
    order_direction: Direction | None = None
    sort_order: Direction | None = None

    def order(self, allowed: frozenset[str]) -> tuple[str, bool]:
        """Return the field to order by and whether it descends; raises `InvalidFieldError`."""
        field = one_of("order_by", self.order_by, "sort_by", self.sort_by) or "id"
        direction = one_of("order_direction", self.order_direction, "sort_order", self.sort_order) or "asc"
        if field not in allowed:
            raise InvalidFieldError(["query", "order_by"], f"Expected one of {', '.join(sorted(allowed))}")
        return field, direction == "desc"


class ListPage(Struct, Generic[T], kw_only=True):
    """One page; `total` counts all rows that match."""

    data: list[T]
    total: int
    offset: int
    limit: int
    object: Literal["list"] = "list"


class CursorPage(Struct, Generic[T], kw_only=True):
    """One page of a list that is read by cursor: `after` the last id of the page before."""

    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class HasId(Protocol):
    """Has a public id."""

    id: str


Identified = TypeVar("Identified", bound=HasId)


def cursor_page(data: list[Identified], *, has_more: bool) -> CursorPage[Identified]:
    """Return a page of objects that have ids."""
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return CursorPage(data=data, first_id=first, last_id=last, has_more=has_more)


V = TypeVar("V")


def one_of(name: str, value: V | None, other_name: str, other: V | None, origin: str = "query") -> V | None:
    """Return the value of a member that has two spellings; raises `InvalidFieldError` if they contradict."""
    if value is not None and other is not None and value != other:
        raise InvalidFieldError([origin, other_name], f"`{name}` and `{other_name}` differ")
    return value if value is not None else other


def check_ranges(query: Struct, *ranges: tuple[str, str]) -> None:
    """Raise `InvalidFieldError` if the second member of a pair, an upper bound, is below the first one."""
    for least_name, most_name in ranges:
        least, most = getattr(query, least_name), getattr(query, most_name)
        if least is not None and most is not None and most < least:
            raise InvalidFieldError(["query", most_name], f"`{most_name}` is before or below `{least_name}`")
