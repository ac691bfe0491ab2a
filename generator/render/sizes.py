"""Dimensions as Python: `3*H*D` is `3 * c.width` where the two are one size."""

from __future__ import annotations

from collections.abc import Iterable

from generator.ir.dims import Dim
from generator.ir.job import Model


class Sizes:
    """How the dimensions of a model are written in its source.

    A dimension with a name is a field of Config. One without is derived: the head width
    of a model whose heads share its width.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.named = {d.symbol: d.name for d in model.dims if d.name}
        self.used: set[str] = set()
        self.taken: frozenset[str] = frozenset()

    def within(self, taken: Iterable[str]) -> Sizes:
        """The same in a class whose constructor takes these sizes of its own."""
        inner = Sizes(self.model)
        inner.used = self.used  # what is used there is used
        inner.taken = frozenset(taken)
        return inner

    def python(self, d: Dim, owner: str = "c") -> str:
        """An expression of its size, of fields of `owner`."""
        terms = []
        for names, n in d.terms:
            resolved = sorted(self._resolve(names), key=_as_said)
            factors = [self._field(part, owner) for part in resolved]
            if n != 1 or not factors:
                factors.insert(0, str(n))
            terms.append(" * ".join(factors))
        return " + ".join(terms) if terms else "0"

    def _field(self, symbol: str, owner: str) -> str:
        if symbol in self.taken:
            return self.named[symbol]
        if symbol in self.named:
            self.used.add(symbol)
            return f"{owner}.{self.named[symbol]}"
        whole = self._whole(symbol)
        if whole is None:
            return str(self.model.sizes[symbol])
        product, other = whole
        self.used.update((product, other))
        return f"({owner}.{self.named[product]} // {owner}.{self.named[other]})"

    def _whole(self, symbol: str) -> tuple[str, str] | None:
        """Named dimensions of which a derived one is the quotient."""
        size = self.model.sizes[symbol]
        for product in self.named:
            for other in self.named:
                if (
                    other != product
                    and self.model.sizes[product] == size * self.model.sizes[other]
                    and (product, other) == ("C", "H")
                ):
                    return product, other
        return None

    def _resolve(self, names: Iterable[str]) -> list[str]:
        """The factors, with a derived one and its heads taken together as the width."""
        factors = list(names)
        for symbol in list(factors):
            if symbol in self.named or symbol in self.model.varying:
                continue
            whole = self._whole(symbol)
            if whole is not None and whole[1] in factors:
                factors.remove(symbol)
                factors[factors.index(whole[1])] = whole[0]
        return factors

    def shape(self, shape: Iterable[Dim]) -> str:
        """A shape as a comment says it: `(B, H, T, D)`."""
        return "(" + ", ".join(self._symbols(d) for d in shape) + ")"

    def _symbols(self, d: Dim) -> str:
        terms = []
        for names, n in d.terms:
            factors = self._resolve(names)
            factors.sort(key=_as_said)
            if n != 1 or not factors:
                factors.insert(0, str(n))
            terms.append("*".join(factors))
        return " + ".join(terms) if terms else "0"


def _as_said(symbol: str) -> int:
    """Heads stand before their width, as one says it."""
    return "HGD".index(symbol[0]) if symbol[0] in "HGD" else -1
