"""The page at `/`: a person picks a user or builds a history, and sees what comes of it."""

from importlib import resources

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def route() -> Route:
    """Returns the page's route."""
    page = resources.files(__package__).joinpath("explorer.html").read_text(encoding="utf-8")

    async def explorer(_request: Request) -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": _POLICY})

    return Route("/", explorer)
