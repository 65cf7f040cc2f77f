"""Which models a caller may use: the one rule for calls, lists of models and accounts.

| limits of the role on the router | answer of a call | listed |
|----------------------------------|------------------|--------|
| none                             | 404              | no     |
| one of them is 0                 | 403              | no     |
| else                             | allowed          | yes    |

The master may use everything; the permission `admin` by itself gives no model.
"""

from api.keys import Caller
from shared.errors import ModelNotAllowedError, ModelNotFoundError


def check_access(caller: Caller, router_id: int) -> None:
    """Raise `ModelNotFoundError` or `ModelNotAllowedError` unless the caller may use the router."""
    if caller.is_master:
        return
    limits = caller.limits.get(router_id)
    if limits is None:
        raise ModelNotFoundError
    if limits.is_closed:
        raise ModelNotAllowedError


def has_access(caller: Caller, router_id: int) -> bool:
    """Return whether the caller may use the router."""
    limits = caller.limits.get(router_id)
    return caller.is_master or (limits is not None and not limits.is_closed)
