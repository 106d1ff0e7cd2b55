"""The HTML templates of tables, galleries and reports; everything that is filled in is escaped."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("mmret", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_template(name: str, **values: object) -> str:
    """Fill in a template of this folder; texts are escaped, only `markupsafe.Markup` stays as it is."""
    return _environment().get_template(name).render(**values)
