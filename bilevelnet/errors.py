"""The three errors: a wrong input, a value outside the domain, a problem that has no answer."""


class InputError(ValueError):
    """A shape, type, dtype, key or parameter that the mathematics does not allow."""


class DomainError(InputError):
    """A value outside the interior of the domain of φ."""


class SolveError(RuntimeError):
    """No minimiser exists, or the solver stopped before it found one."""
