"""Who is asking: which issuers are believed, how a token is checked, and what it makes its bearer.

    token -> issuer by `iss` -> key by `kid` -> signature -> claims -> roles by configuration -> Caller

Nothing here knows a route or an event: what a caller may do is the table of `hub.web.access`.
"""
