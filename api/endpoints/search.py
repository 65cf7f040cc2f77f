"""POST /v1/search."""

from api.call import Call
from api.http import Routes
from api.respond import ERRORS
from api.searching import SEARCH, search
from shared.chunks.schemas import RequiredQuery
from shared.collections.errors import FeatureNotEnabledError, SearchMethodError, VectorSizeError
from shared.errors import NotFoundError
from shared.search.schemas import SearchRequest, SearchResults

routes = Routes("Search")


@routes.post(SEARCH, raises=(*ERRORS, NotFoundError, FeatureNotEnabledError, SearchMethodError, VectorSizeError))
async def search_collections(call: Call, body: SearchRequest, query: RequiredQuery) -> SearchResults:
    """Find the chunks that answer a query best, in the caller's own and in public collections.

    `semantic` compares vectors, `lexical` words (BM25), `hybrid` fuses both rankings; `offset` and `limit` cut the
    ranking.  A lexical search needs no model.
    """
    del query  # accepted, without meaning
    text = body.text()
    found = await search(call, body, body.check("body"), text)
    return SearchResults(data=found.results, usage=found.usage)
