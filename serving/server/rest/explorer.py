"""The page at `/`: a person picks a user or builds a history, and sees what comes of it."""

from importlib import resources

from fastapi import APIRouter
from starlette.responses import HTMLResponse

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def routes() -> APIRouter:
    """Returns the page's route."""
    router = APIRouter()
    page = resources.files(__package__).joinpath("explorer.html").read_text(encoding="utf-8")

    @router.get("/", include_in_schema=False)
    async def explorer() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": _POLICY})

    return router
