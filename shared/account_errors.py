"""Errors of accounts, passwords and keys; their places in the tree are drawn in `shared.errors`."""

from shared.errors import AuthenticationError, BadRequestError, NotFoundError, PermissionDeniedError


class ExpirationTooFarError(BadRequestError):
    """A key may not be valid for so long."""

    code = "expiration_too_far"

    def __init__(self, days: int) -> None:
        super().__init__(f"Token expiration timestamp cannot be greater than {days} days from now.", param="expires")


class InvalidPasswordError(AuthenticationError):
    """The password is wrong, or there is no such account; both look the same on purpose."""

    code = "invalid_password"

    def __init__(self) -> None:
        super().__init__("Invalid current password.")


class AccountExpiredError(PermissionDeniedError):
    """The account behind the key has expired."""

    code = "account_expired"

    def __init__(self) -> None:
        super().__init__("Your account has expired. Please contact support to renew your account.")


class ReservedEmailError(PermissionDeniedError):
    """The email belongs to the installation itself."""

    code = "reserved_email"

    def __init__(self) -> None:
        super().__init__("Reserved email.", param="email")


class PasswordNotSetError(NotFoundError):
    """The account has no password."""

    code = "password_not_set"

    def __init__(self) -> None:
        super().__init__("Password not set, please contact an administrator.")
