"""HTML pages from templates: one file, whole or not at all, in which no text can act as markup."""

from pathlib import Path

import jinja2

from mpgen.atomic import replacing


def write_html(path: Path, package: str, template: str, **values: object) -> None:
    """Fills a template and writes the page.

    Args:
        path: the page.
        package: where the template lies, such as "mpgen.comparison".
        template: its file name.
        values: what it names; a name that is missing is an error.

    Raises:
        UserError: the page cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(values)
    with replacing(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8", errors="backslashreplace")
