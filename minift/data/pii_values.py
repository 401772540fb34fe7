"""Made values for the slots of the PII templates: names, addresses, numbers, dates."""

import csv
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

from faker import Faker

from minift import assets

_PHONE_FORMATS = (
    "###-###-####", "(###) ###-####", "(###)###-####", "###.###.####", "##########",
    "+1-###-###-####", "+1 ### ### ####", "001-###-###-####", "###-###-####x###",
    "07700 ### ###", "(07700) ######", "+44 7700 ######", "+41 4# ### ## ##",
    "+49 30 ########", "+33 1 ## ## ## ##", "+91##########", "+46 (0)## ## ## ##",
)  # fmt: skip
_DATE_FORMATS = (
    "%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%B %d, %Y", "%d %B %Y", "%b %d, %Y", "%d.%m.%Y",
    "%A, %B %d", "%d-%b-%Y",
)  # fmt: skip
_TIME_FORMATS = ("%Y-%m-%d %H:%M:%S", "%B %d, %Y at %H:%M", "%d/%m/%Y %H:%M", "%A %d %B %Y")
_AGES = ("%#", "%#", "%#", "%#", "%", "10#", "1.%")


class Kind(NamedTuple):
    """How a slot is labelled and filled."""

    type: str
    make: "Callable[[Values], str]"


class Values:
    """A seeded source of values: the same seed gives the same values in the same order."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.fake = Faker("en_US")
        self.fake.seed_instance(seed)

    def draw(self, kind: str) -> str:
        """A fresh value for a slot of this kind."""
        return VALUES[kind].make(self)

    def date(self, formats: tuple[str, ...]) -> str:
        # Between fixed days: faker's own ranges end today and would change the data every day.
        minutes = self.random.randrange(86 * 365 * 24 * 60)
        moment = datetime(1940, 1, 1) + timedelta(minutes=minutes)
        return moment.strftime(self.random.choice(formats))

    def given_name(self) -> str:
        # Half from faker's American names, half from the 3,000 made identities of many countries.
        if self.random.random() < 0.5:
            return self.fake.first_name()
        return self.random.choice(_identities())[0]

    def family_name(self) -> str:
        if self.random.random() < 0.5:
            return self.fake.last_name()
        return self.random.choice(_identities())[1]

    def full_name(self) -> str:
        middle = f" {self.random.choice('ABCDEFGHJKLMNPRSTW')}." if self._one_in(8) else ""
        return f"{self.given_name()}{middle} {self.family_name()}"

    def address(self) -> str:
        fake = self.fake
        street = fake.street_address()
        forms: list[Callable[[], str]] = [
            lambda: fake.address(),
            lambda: f"{street}, {fake.city()}",
            lambda: f"{street}, {fake.city()}, {fake.state_abbr()} {fake.postcode()}",
            lambda: f"{street}\n{fake.city()}\n{fake.country()} {fake.postcode()}",
            lambda: f"{street} {fake.secondary_address()}, {fake.city()}, {fake.country()}",
            lambda: f"{street}",
        ]
        return self.random.choice(forms)()

    def card_number(self) -> str:
        digits = self.fake.credit_card_number()
        separator = self.random.choice(["", "", " ", "-"])
        return separator.join(digits[i : i + 4] for i in range(0, len(digits), 4))

    def iban(self) -> str:
        code = self.fake.iban()
        spaced = " ".join(code[i : i + 4] for i in range(0, len(code), 4))
        return self.random.choice([code, spaced])

    def licence(self) -> str:
        return self.fake.bothify(self.random.choice(("?#######", "#########", "?###-####-####")))

    def _one_in(self, n: int) -> bool:
        return self.random.randrange(n) == 0


@cache
def _column(file: str, column: int, delimiter: str = ",") -> tuple[str, ...]:
    path = assets.fetch("presidio-templates") / file
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.reader(lines, delimiter=delimiter))[1:]
    return tuple(row[column].strip() for row in rows if len(row) > column and row[column].strip())


@cache
def _identities() -> tuple[tuple[str, str], ...]:
    given, family = (_column("FakeNameGenerator.com_3000.csv", column) for column in (4, 6))
    return tuple(zip(given, family, strict=True))


def _pick(file: str, column: int, delimiter: str = ",") -> Callable[[Values], str]:
    return lambda values: values.random.choice(_column(file, column, delimiter))


def _nation(column: int) -> Callable[[Values], str]:
    pick = _pick("nationalities.csv", column)
    return lambda values: pick(values).title()


def _person(make: Callable[[Values], str]) -> Kind:
    return Kind("PERSON", make)


_first = _person(Values.given_name)
_last = _person(Values.family_name)
_full = _person(Values.full_name)

VALUES: dict[str, Kind] = {
    "person": _full, "name": _full, "name_male": _full, "name_female": _full,
    "first_name": _first, "first_name_male": _first, "first_name_female": _first,
    "first_name_nonbinary": _first,
    "last_name": _last, "last_name_male": _last, "last_name_female": _last,
    "prefix": Kind("TITLE", lambda v: v.fake.prefix()),
    "prefix_male": Kind("TITLE", lambda v: v.fake.prefix_male()),
    "prefix_female": Kind("TITLE", lambda v: v.fake.prefix_female()),
    "organization": Kind("ORGANIZATION", _pick("companies_and_organizations.csv", 0, "\t")),
    "address": Kind("ADDRESS", Values.address),
    "building_number": Kind("ADDRESS", lambda v: v.fake.building_number()),
    "street_name": Kind("ADDRESS", lambda v: v.fake.street_name()),
    "secondary_address": Kind("ADDRESS", lambda v: v.fake.secondary_address()),
    "state_abbr": Kind("ADDRESS", lambda v: v.fake.state_abbr()),
    "zipcode": Kind("ADDRESS", lambda v: v.fake.zipcode()),
    "postcode": Kind("ADDRESS", lambda v: v.fake.postcode()),
    "city": Kind("LOCATION", lambda v: v.fake.city()),
    "country": Kind("LOCATION", lambda v: v.fake.country()),
    "nationality": Kind("NATIONALITY", _nation(1)),
    "nation_woman": Kind("NATIONALITY", _nation(3)),
    "nation_plural": Kind("NATIONALITY", _nation(4)),
    "age": Kind("AGE", lambda v: v.fake.numerify(v.random.choice(_AGES))),
    "date_of_birth": Kind("DATE", lambda v: v.date(_DATE_FORMATS)),
    "date_time": Kind("DATE", lambda v: v.date(_TIME_FORMATS)),
    "day_of_week": Kind("DATE", lambda v: v.fake.day_of_week()),
    "year": Kind("DATE", lambda v: str(v.random.randint(1900, 2025))),
    "job": Kind("JOB", lambda v: v.fake.job()),
    "phone_number": Kind("PHONE", lambda v: v.fake.numerify(v.random.choice(_PHONE_FORMATS))),
    "email": Kind("EMAIL", lambda v: v.fake.email()),
    "url": Kind("URL", lambda v: v.fake.url()),
    "ip_address": Kind("IP", lambda v: v.fake.ipv4() if v.random.random() < 0.8 else v.fake.ipv6()),
    "credit_card_number": Kind("CREDIT_CARD", Values.card_number),
    "iban": Kind("IBAN", Values.iban),
    "ssn": Kind("SSN", lambda v: v.fake.ssn()),
    "us_driver_license": Kind("DRIVER_LICENSE", Values.licence),
}  # fmt: skip
