"""An agent in a Django project, in one file: a sync view, a view that streams, and a tool that uses the ORM.

Run: AGENTKIT_API_KEY=... uvicorn --app-dir examples/embedding django_app:application
"""

import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.db import connection, models
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path

from agentkit import Agent, ModelRetry, tool

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("SHOP_DB", "shop.db")}},
    ROOT_URLCONF=__name__,
)
django.setup()


class Order(models.Model):
    number = models.CharField(max_length=20, primary_key=True)
    state = models.CharField(max_length=100)

    class Meta:
        app_label = "shop"


def make_table() -> None:
    """Make the table with one order, unless it is there. In your project, a migration does this."""
    try:
        if Order._meta.db_table not in connection.introspection.table_names():
            with connection.schema_editor() as editor:
                editor.create_model(Order)
            Order.objects.create(number="A-17", state="shipped")
    finally:
        connection.close()


with ThreadPoolExecutor() as pool:  # uvicorn imports this file in an event loop, where Django refuses the ORM
    pool.submit(make_table).result()


@tool(read_only=True)
def find_order(number: str) -> str:
    """State of an order."""
    try:  # a sync tool runs in a thread, so the ORM works in it
        return str(Order.objects.get(number=number).state)
    except Order.DoesNotExist:
        raise ModelRetry(f"there is no order {number}") from None
    finally:
        connection.close()  # the thread's own connection


agent = Agent(instructions="You help the customers of a shop.", tools=[find_order])


def ask(request: HttpRequest) -> JsonResponse:
    result = agent.run_sync(request.GET["question"])
    return JsonResponse({"answer": result.output, "stop_reason": result.stop_reason})


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> AsyncIterator[str]:
        async with agent.stream_text(request.GET["question"]) as texts:  # a client that leaves ends the run
            async for text in texts:
                yield text

    return StreamingHttpResponse(pieces(), content_type="text/plain; charset=utf-8")


urlpatterns = [path("ask", ask), path("stream", stream)]
application = get_asgi_application()
wsgi = get_wsgi_application()
