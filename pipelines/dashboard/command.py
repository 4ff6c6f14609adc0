"""The verb `realchat dashboard`."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from usersim.errors import InputError, WorldError

PORT = 8421


def dashboard(
    runs: Annotated[
        Path, typer.Argument(metavar="RUNS", help="A folder of runs, or one run.")
    ] = Path("runs"),
    host: Annotated[
        str, typer.Option(help="Where to listen; beyond 127.0.0.1 everybody there can read.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = PORT,
    also: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="HOST", help="A further host name that may be asked for."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and requests.")] = False,
) -> None:
    """Look at runs in the browser: verdicts, a live run, every conversation, marks of your own."""
    import socket

    try:
        import uvicorn

        from pipelines.dashboard.web import LOOPBACK, make_app

        names = LOOPBACK | {name.lower() for name in (also or [])} | {host.lower()}
        app = make_app(runs, frozenset(names))
    except ImportError as error:
        raise InputError(
            f"the dashboard needs {error.name}: pip install 'realchat[dashboard]'"
        ) from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except socket.gaierror as error:
            raise InputError(f"--host {host} is no address of this machine") from error
        except OSError as error:
            raise WorldError(
                f"cannot listen on {host}:{port}: {error.strerror}; name another: --port 0"
            ) from error
        listener.listen()  # before the address is shown, so that nobody is sent away from it
        shown = f"[{host}]" if ":" in host else host
        typer.echo(f"http://{shown}:{listener.getsockname()[1]}/  (Ctrl-C ends it)")
        level = "info" if debug else "warning"
        config = uvicorn.Config(app, log_level=level, access_log=debug, server_header=False)
        with suppress(KeyboardInterrupt):  # the way to end it, and no failure
            uvicorn.Server(config).run(sockets=[listener])
