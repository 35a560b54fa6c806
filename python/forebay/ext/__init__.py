"""Forebay beside other libraries, one module for each. None is loaded unless you import it.

`forebay.ext.fastapi`, `forebay.ext.starlette`, `forebay.ext.django`, `forebay.ext.flask`: a dispatcher that
lives with the application. `forebay.ext.logging`, `forebay.ext.opentelemetry`, `forebay.ext.prometheus`: what
happens in a dispatcher, where you look already.
"""
